"The residual stream of any model: found by use, complete, and the model left as it was."

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vit_mnist.attribution import share_logit
from vit_mnist.core import UserError
from vit_mnist.data import load_data
from vit_mnist.inside import look_inside, stream_inside, token_embeddings
from vit_mnist.model import batch_logits, create_model
from vit_mnist.zoo import known_models

SAMPLE = ["vit", "parallel_vit", "simple_flash_attn_vit", "vit_5", "pit", "cnn", "simple_uvit"]
PAGE = Path(__file__).parent.parent / "nbs" / "56_inside.ipynb"


def served():
    "Read which models have a stream from the table that the page shows"
    cells = json.loads(PAGE.read_text(encoding="utf-8"))["cells"]
    (cell,) = [cell for cell in cells if "def answer(name)" in "".join(cell["source"])]
    (text,) = ("".join(out["data"]["text/plain"]) for out in cell["outputs"] if "data" in out)
    return set(text.split(" models are served: ")[1].split(", "))


SERVED = served()


def images(n=2):
    return load_data().test.images[:n]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in SAMPLE else pytest.mark.slow)
        for name in known_models()
        if not known_models()[name].missing
    ],
)
def test_where_it_is_served(name):
    model = create_model(name, seed=0, size="tiny")
    kept = {key: value.clone() for key, value in model.state_dict().items()}
    if name not in SERVED:
        with pytest.raises(
            UserError, match="no residual stream|no attention|no stream is seen"
        ) as e:
            look_inside(model, images())
        assert "\n" not in str(e.value)
        return
    before = batch_logits(model, images())
    inside = look_inside(model, images())
    assert torch.equal(inside.logits, before)
    assert torch.equal(batch_logits(model, images()), before)
    assert all(torch.equal(value, kept[key]) for key, value in model.state_dict().items())
    for layer, heads in enumerate(inside.heads):
        whole = heads.sum(1) + inside.without_heads(layer)
        torch.testing.assert_close(whole, inside.attentions[layer], atol=1e-4, rtol=1e-4)
    parts = inside.embedding + sum(inside.added(write) for write in inside.writes)
    torch.testing.assert_close(parts, inside.tokens[-1], atol=1e-4, rtol=1e-5)
    if name in ("cait", "xcit", "na_vit"):  # attention reads the finished stream
        with pytest.raises(UserError, match="have no shares"):
            share_logit(inside, 3)
    else:
        shares = share_logit(inside, 3)
        torch.testing.assert_close(shares.total(), shares.logit, atol=1e-4, rtol=0)


class Fails(torch.nn.Module):
    "A model that breaks when it is called for the `last` time"

    def __init__(self, last):
        super().__init__()
        self.vit, self.calls, self.last = create_model("vit", seed=0, size="tiny"), 0, last
        self.vit.transformer.layers[0].eval()

    def forward(self, x):
        self.calls += 1
        if self.calls == self.last:
            raise RuntimeError("out of order")
        return self.vit(x)


def state_of(model):
    "Collect all that looking inside could change"
    parts = list(model.modules())
    hooks = [len(part._forward_hooks) + len(part._forward_pre_hooks) for part in parts]
    grads = [(p.grad is None, p.requires_grad) for p in model.parameters()]
    modes = [part.training for part in parts]
    inside = torch.is_grad_enabled(), torch.overrides._get_current_function_mode()
    return hooks, grads, modes, inside, torch.get_rng_state().tolist()


@pytest.mark.parametrize("last", [1, 2, 30, None])
def test_the_model_is_left_as_it_was(last):
    x, calls = torch.randn(2, 1, 28, 28), []
    model = Fails(None)
    model.vit.mlp_head.register_forward_hook(lambda *_: calls.append(1))
    model.vit.mlp_head.weight.grad = torch.ones_like(model.vit.mlp_head.weight)
    before, model.calls, model.last = state_of(model), 0, last
    if last is None:
        look_inside(model, x)
    else:
        while model.calls < last:
            try:
                look_inside(model, x)
            except (RuntimeError, UserError) as error:
                assert "out of order" in str(error)
    assert state_of(model) == before
    assert torch.equal(model.vit.mlp_head.weight.grad, torch.ones(10, 64))
    for parameter in model.parameters():
        assert parameter.grad is None or parameter is model.vit.mlp_head.weight


def test_a_stream_in_place_is_kept():
    class InPlace(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = torch.nn.Conv2d(1, 16, 7, 7), torch.nn.Linear(16, 10)
            self.attend = torch.nn.MultiheadAttention(16, 2, batch_first=True)
            self.mlp = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.Linear(32, 16))

        def forward(self, x):
            x = self.embed(x).flatten(2).mT.contiguous()
            x += self.attend(x, x, x)[0]
            x += self.mlp(x)
            return self.head(x.mean(1))

    torch.manual_seed(0)
    model = InPlace().eval()
    x = torch.randn(2, 1, 28, 28)
    inside = look_inside(model, x)
    start = model.embed(x).flatten(2).mT
    between = start + model.attend(start, start, start)[0]
    torch.testing.assert_close(inside.before[0], start)
    torch.testing.assert_close(inside.between[0], between)
    torch.testing.assert_close(inside.tokens[0], between + model.mlp(between))
    assert inside.neurons[0].shape == (2, 16, 32)


def test_batches_and_embeddings():
    model = create_model("vit", seed=0, size="tiny")
    whole = token_embeddings(model, images(5), batch_size=5)
    torch.testing.assert_close(token_embeddings(model, images(5), batch_size=2), whole)
    assert [len(inside.images) for inside in stream_inside(model, images(5), 2)] == [2, 2, 1]
    with pytest.raises(IndexError, match="layers 0 to 2"):
        look_inside(model, images()).tokens[7]


def test_a_model_that_keeps_much_gets_fewer_images(monkeypatch):
    model = create_model("vit", seed=0, size="tiny")
    one = look_inside(model, images(1)).count_bytes()
    assert one < look_inside(model, images(5)).count_bytes() <= 5 * one
    inside = type(look_inside(model, images(1)))
    monkeypatch.setattr(inside, "count_bytes", lambda self: 2**27)
    assert [len(batch.images) for batch in stream_inside(model, images(5))] == [2, 2, 1]


READS = """
import resource, sys, torch
from vit_mnist.data import load_data
from vit_mnist.inside import stream_inside
from vit_mnist.weights import load_pretrained
torch.set_num_threads(1)
model, seen = load_pretrained("explain"), 0
for inside in stream_inside(model, load_data().test.images):
    seen += len(inside.heads[-1])
print(seen, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="what is counted differs")
def test_ten_thousand_images_take_less_than_two_gigabytes():
    done = subprocess.run([sys.executable, "-c", READS], capture_output=True, text=True, check=True)
    seen, kilobytes = map(int, done.stdout.split())
    print(f"{kilobytes / 1e6:.2f} GB")
    assert seen == 10_000 and kilobytes < 2e6


def test_neurons_of_mlps_side_by_side():
    model = create_model("parallel_vit", seed=0, size="tiny").eval()
    seen, layer = [], model.transformer.layers[1][1]
    narrow = [part for part in layer.modules() if getattr(part, "out_features", 0) == 64]
    hooks = [p.register_forward_pre_hook(lambda m, args: seen.append(args[0])) for p in narrow]
    batch_logits(model, images())
    for hook in hooks:
        hook.remove()
    inside = look_inside(model, images())
    assert len(seen) == 2 and torch.equal(inside.neurons[1], torch.cat(seen, -1))
