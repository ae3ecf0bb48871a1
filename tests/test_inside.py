"The residual stream of any model: found by use, complete, and the model left as it was."

import pytest
import torch

from vit_mnist.core import UserError
from vit_mnist.data import load_data
from vit_mnist.inside import look_inside, stream_inside, token_embeddings
from vit_mnist.model import batch_logits, create_model
from vit_mnist.zoo import known_models

SERVED = """vit deepvit distill efficient learnable_memory_vit looped_vit parallel_vit rvt
simple_vit_with_specialized_cls vat vit_detpool vit_for_small_dataset vit_nd vit_with_decorr
vit_with_patch_dropout simple_vit simple_flash_attn_vit simple_vit_with_patch_dropout
simple_vit_with_qk_norm simple_vit_with_relative_proj_pos_bias simple_vit_with_value_residual
mp3 jet_vit vit_nd_pope vit_nd_rotary simple_vit_with_register_tokens
simple_vit_with_sparse_gating vit_5 cait simple_vit_with_fft xcit na_vit""".split()
SAMPLE = ["vit", "parallel_vit", "simple_flash_attn_vit", "vit_5", "pit", "cnn", "simple_uvit"]


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
    modes = [part.training for part in model.modules()]
    if name not in SERVED:
        with pytest.raises(UserError):
            list(look_inside(model, images()).heads)
        return
    before = batch_logits(model, images())
    inside = look_inside(model, images())
    assert torch.equal(inside.logits, before)
    assert torch.equal(batch_logits(model, images()), before)
    assert modes == [part.training for part in model.modules()]
    assert all(torch.equal(value, kept[key]) for key, value in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    for layer, heads in enumerate(inside.heads):
        whole = heads.sum(1) + inside.without_heads(layer)
        torch.testing.assert_close(whole, inside.attentions[layer], atol=1e-4, rtol=1e-4)
        whole = inside.before[layer] + inside.attentions[layer]
        torch.testing.assert_close(whole, inside.between[layer], atol=1e-5, rtol=1e-5)


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
