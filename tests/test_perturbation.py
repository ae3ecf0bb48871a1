"Perturbation: what an answer loses, against sums by hand; layers of unlike heads; drawn numbers."

import pytest
import torch
from linear import IMAGES, WEIGHTS, Linear
from torch import nn

from vit_mnist.core import UserError
from vit_mnist.explanation import explain
from vit_mnist.layout import AttentionLayout, Layout, Tokens
from vit_mnist.model import about
from vit_mnist.perturbation import AblatedHeads, ablate_heads, plot_heads

EVEN = [[0.5, 0.5], [0.5, 0.5]]
FIRST, SECOND = torch.tensor([EVEN]), torch.tensor([[[0.8, 0.2], [0.4, 0.6]], EVEN])


class OneAndTwo(nn.Module):
    "Add what a layer of one head and a layer of two take from 1 and 2, and drawn numbers"

    def __init__(self):
        super().__init__()
        self.scores = nn.ParameterList([FIRST.log()[None], SECOND.log()[None]])
        depth = AttentionLayout(Tokens(before=("layer",) * 2), role="depth")
        layouts = [AttentionLayout(Tokens((1, 2)), heads=heads) for heads in (1, 2)]
        self.layout = Layout("grid", lambda args: (depth, *layouts))

    def forward(self, images):
        values = torch.tensor([[1.0], [2]]) + 0 * images[:, :, :1, :1]
        order = self.scores[0], *self.scores  # the first as if it were among layers
        depth, first, second = ((scores.softmax(-1) @ values).sum((2, 3)) for scores in order)
        answer = depth[:, 0] + first[:, 0] + second[:, 0] + 3 * second[:, 1]
        return torch.stack([answer, -answer], 1) + torch.randn(len(images), 2)


LOST = [[3.0], [2.8, 9.0]]  # 1.5 + 1.5; 1.2 + 1.6 and 3 * (1.5 + 1.5)


@pytest.mark.parametrize(
    "options, side", [({}, 4), ({"patch_size": 14}, 14), ({"patch_size": 1}, 1)]
)
def test_of_a_linear_model_a_patch_is_worth_the_sum_of_its_pixels(options, side):
    fill = IMAGES[1].flip(1)
    _, values = explain(Linear(), IMAGES, "occlusion", [1, 0], tokens=True, fill=fill, **options)
    worth = (IMAGES[:, 0] - fill) * WEIGHTS[[1, 0]]
    expected = worth.unflatten(2, (-1, side)).unflatten(1, (-1, side)).sum((2, 4))
    assert torch.allclose(values, expected, atol=1e-3)


@pytest.mark.parametrize("size", [-4, 8, 56])
def test_a_patch_that_does_not_divide_the_image_is_refused(size):
    with pytest.raises(UserError, match=f"28 pixels, and {size} does not"):
        explain(Linear(), IMAGES, "occlusion", patch_size=size)


@pytest.mark.parametrize("target, signs", [(None, [1, 1]), (0, [1, 1]), ([1, 0], [-1, 1])])
def test_each_head_loses_its_share_whatever_numbers_the_model_draws(target, signs):
    state, model = torch.get_rng_state(), OneAndTwo()
    for loss, expected in zip(ablate_heads(model, IMAGES, target), LOST, strict=True):
        assert torch.allclose(
            loss, torch.tensor(signs)[:, None] * torch.tensor(expected), atol=1e-4
        )
    assert torch.equal(torch.get_rng_state(), state) and model.training


def test_an_ablated_model_shares_the_weights_and_lacks_these_heads():
    model = OneAndTwo()
    ablated = AblatedHeads(model, [(0, 0), (1, 1)])
    answers = []
    for each in model, ablated:
        torch.manual_seed(0)
        answers.append(each(IMAGES)[:, 0])
    assert torch.allclose(answers[0] - answers[1], torch.tensor(12.0))
    assert list(map(id, ablated.parameters())) == list(map(id, model.parameters()))
    assert (about(ablated).name, about(ablated).layouts) == ("OneAndTwo", about(model).layouts)


def test_colours_are_even_around_zero_and_a_head_that_is_not_there_is_blank():
    fig = plot_heads(OneAndTwo(), IMAGES, target=[0, 1])
    for axis, sign in (fig.axes[1], 1), (fig.axes[3], -1):
        (shown,) = axis.images
        first, second = shown.get_array()
        assert [first[0], *second] == pytest.approx([3 * sign, 2.8 * sign, 9 * sign], abs=1e-4)
        assert first.mask.tolist() == [False, True]
        assert (shown.get_clim(), shown.cmap.name) == (pytest.approx((-9, 9)), "PuOr_r")
        assert (list(axis.get_xticks()), list(axis.get_yticks())) == ([0, 1], [0, 1])
    labels = fig.axes[3].get_xlabel(), fig.axes[3].get_ylabel(), fig.axes[4].get_ylabel()
    assert labels == ("head", "layer", "logit lost")
