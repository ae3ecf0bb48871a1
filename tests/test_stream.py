"A run written down step by step, and the stream found in it: in models of several makes."

import pytest
import torch
from torch import nn

from vit_mnist.core import UserError
from vit_mnist.inside import look_inside
from vit_mnist.stream import trace_steps


class Own(nn.Module):
    "PyTorch's own layers on 16 patches, tokens first or images first"

    def __init__(self, **kwargs):
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, **kwargs)
        self.embed, self.head = nn.Conv2d(1, 16, 7, 7), nn.Linear(16, 10)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.axes = (0, 2, 1) if kwargs.get("batch_first") else (2, 0, 1)

    def forward(self, x):
        tokens = self.encoder(self.embed(x).flatten(2).permute(self.axes))
        return self.head(self.change(tokens).mean(self.axes.index(2)))

    def change(self, tokens):
        return tokens


def pixels(n=3):
    return torch.randn(n, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def own(kind=Own, **kwargs):
    torch.manual_seed(0)
    return kind(norm_first=True, **kwargs).eval()


@pytest.mark.parametrize("n", [1, 2, 16])  # as many images as tokens, too
def test_images_are_found_wherever_they_stand(n):
    first = own(batch_first=True)
    last = own()
    last.load_state_dict(first.state_dict())
    a, b = (look_inside(model, pixels(n)) for model in (first, last))
    assert b.embedding.shape == (n, 16, 16)
    for one, other in ((a.tokens[1], b.tokens[1]), (a.heads[0], b.heads[0])):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(a.neurons[1], b.neurons[1], atol=1e-5, rtol=1e-5)
    for layer in range(2):
        place = b.layers[layer][0].added
        assert torch.equal(b.in_place(b.at(place), place), b.trace.value(place))


class Noise(Own):
    def change(self, tokens):
        return tokens + torch.randn_like(tokens)


class Numpy(Own):
    def change(self, tokens):
        return torch.from_numpy(2 * tokens.detach().numpy())


class Hidden(Own):
    def change(self, tokens):
        return tokens * float(tokens.mean())


@pytest.mark.parametrize("kind", [Noise, Numpy, Hidden])
def test_a_run_that_its_steps_do_not_tell_is_refused(kind):
    with pytest.raises(UserError, match="calls do not show|can't be traced"):
        look_inside(own(kind), pixels())


def test_norm_after_each_sum_is_refused():
    with pytest.raises(UserError, match="has no residual stream"):
        look_inside(Own(norm_first=False), pixels())


class Shifted(Own):
    "A number and a tensor of the model are added on the way"

    def change(self, tokens):
        return tokens + 3 + self.head.weight.mean(0)


def test_what_is_added_for_all_images_is_part_of_the_stream():
    inside = look_inside(own(Shifted), pixels())
    assert [write.kind for write in inside.writes[-2:]] == ["embedding", "embedding"]
    torch.testing.assert_close(inside.added(inside.writes[-2]), torch.full((3, 16, 16), 3.0))
    parts = inside.embedding + sum(inside.added(write) for write in inside.writes)
    torch.testing.assert_close(parts, inside.tokens[-1], atol=1e-5, rtol=1e-5)


def test_any_step_can_be_computed_again():
    model, x = own(), pixels()
    with torch.no_grad():
        trace = trace_steps(model, x)
        assert torch.equal(trace.value(trace.logits), trace.replay({}))
        again = trace.replay({0: lambda images: images.flip(0)})
    assert torch.equal(again, trace.value(trace.logits).flip(0))
