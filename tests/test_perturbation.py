"Perturbation: what an answer loses, against sums by hand; layers of unlike heads; drawn numbers."

import pytest
import torch
from torch import nn

from vit_mnist.core import UserError
from vit_mnist.explanation import explain
from vit_mnist.layout import AttentionLayout, Layout, Tokens
from vit_mnist.model import about
from vit_mnist.perturbation import AblatedHeads, ablate_heads, plot_heads

WEIGHTS = torch.randn(2, 28, 28, generator=torch.Generator().manual_seed(0))
IMAGES = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(1))
EVEN = [[0.5, 0.5], [0.5, 0.5]]
FIRST, SECOND = torch.tensor([EVEN]), torch.tensor([[[0.8, 0.2], [0.4, 0.6]], EVEN])


class Linear(nn.Module):
    "Answer with two weighted sums of the pixels"

    def __init__(self):
        super().__init__()
        self.weights = nn.Parameter(WEIGHTS.clone())

    def forward(self, images):
        return torch.einsum("nchw,khw->nk", images, self.weights)


class OneAndTwo(nn.Module):
    "Add what a layer of one head and a layer of two take from 1 and 2, and drawn numbers"

    def __init__(self):
        super().__init__()
        self.scores = nn.ParameterList([FIRST.log()[None], SECOND.log()[None]])
        layouts = [AttentionLayout(Tokens((1, 2)), heads=heads) for heads in (1, 2)]
        self.layout = Layout("grid", lambda args: tuple(layouts))

    def forward(self, images):
        values = torch.tensor([[1.0], [2]]) + 0 * images[:, :, :1, :1]
        first, second = ((scores.softmax(-1) @ values).sum((2, 3)) for scores in self.scores)
        answer = first.sum(1) + second[:, 0] + 3 * second[:, 1]
        return torch.stack([answer, -answer], 1) + torch.randn(len(images), 2)


LOST = [[3], [2.8, 9]]  # 1.5 + 1.5; 1.2 + 1.6 and 3 * (1.5 + 1.5)


@pytest.mark.parametrize(
    "options, side", [({}, 4), ({"patch_size": 14}, 14), ({"patch_size": 1}, 1)]
)
def test_of_a_linear_model_a_patch_is_worth_the_sum_of_its_pixels(options, side):
    fill = IMAGES[1].flip(1)
    _, values = explain(Linear(), IMAGES, "occlusion", [1, 0], tokens=True, fill=fill, **options)
    worth = (IMAGES[:, 0] - fill) * WEIGHTS[[1, 0]]
    expected = worth.unflatten(2, (-1, side)).unflatten(1, (-1, side)).sum((2, 4))
    assert torch.allclose(values, expected, atol=1e-3)


@pytest.mark.parametrize("size", [-4, 0, 8, 56])
def test_a_patch_that_does_not_divide_the_image_is_refused(size):
    if size:  # 0 is no size, so the model's own is taken
        with pytest.raises(UserError, match=f"28 pixels, and {size} does not"):
            explain(Linear(), IMAGES, "occlusion", patch_size=size)


@pytest.mark.parametrize("target, sign", [(None, 1), (0, 1), ([1, 0], [-1, 1])])
def test_each_head_loses_its_share_whatever_numbers_the_model_draws(target, sign):
    state, model = torch.get_rng_state(), OneAndTwo()
    losses = ablate_heads(model, IMAGES, target)
    for loss, expected in zip(losses, LOST, strict=True):
        signs = torch.tensor(sign).expand(2)[:, None]
        assert torch.allclose(loss, signs * torch.tensor(expected), atol=1e-4)
    assert torch.equal(torch.get_rng_state(), state) and model.training


def test_an_ablated_model_is_its_model_without_these_heads():
    model = OneAndTwo()
    ablated = AblatedHeads(model, [(0, 0), (1, 1)])
    answer = ablated(IMAGES).mean()
    assert (about(ablated).name, about(ablated).layouts) == ("OneAndTwo", about(model).layouts)
    assert [*map(id, ablated.parameters())] == [*map(id, model.parameters())]
    assert answer.isfinite()


def test_more_is_drawn_darker_in_both_directions_and_a_head_that_is_not_there_is_empty():
    fig = plot_heads(OneAndTwo(), IMAGES, target=[0, 1])
    for row, sign in (1, 1), (3, -1):
        (shown,) = fig.axes[row].images
        assert shown.get_array().mask.tolist() == [[False, True], [False, False]]
        assert shown.get_array().compressed().tolist() == pytest.approx(
            [sign * 3, sign * 2.8, sign * 9], abs=1e-4
        )
        assert shown.get_clim() == pytest.approx((-9, 9), abs=1e-4)
    assert (fig.axes[3].get_xlabel(), fig.axes[3].get_ylabel()) == ("head", "layer")
    assert (list(fig.axes[1].get_xticks()), list(fig.axes[1].get_yticks())) == ([0, 1], [0, 1])
