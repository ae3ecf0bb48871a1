"Gradients: maps of models so simple that the derivatives are known, and models without any."

import pytest
import torch
from linear import IMAGES, WEIGHTS, Linear
from torch import nn

from vit_mnist.core import UserError
from vit_mnist.explanation import explain
from vit_mnist.layout import AttentionLayout, Layout, Tokens


class Windows(nn.Module):
    "Mix two places in each of two windows evenly; the second window counts twice as much"

    layout = Layout("windows", lambda args: (AttentionLayout(Tokens((1, 4), window=(1, 2))),))

    def __init__(self):
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(1, 2, 2, 2))

    def forward(self, images):
        values = torch.tensor([[1.0, 2], [3, -4]])[:, :, None] + images[:, :, :1, :1]
        mixed = (self.scores.softmax(-1) @ values).sum((2, 3))
        return torch.stack([2 * mixed[:, 0] + 4 * mixed[:, 1], -mixed[:, 0]], 1)


@pytest.mark.parametrize(
    "method, options, formula",
    [
        ("gradient", {}, lambda images, weights: weights.abs()),
        ("input_x_gradient", {}, lambda images, weights: images * weights),
        # of a linear model one step is exact
        ("integrated_gradients", {"steps": 1, "fill": IMAGES[1]}, lambda x, w: (x - x[1]) * w),
        ("integrated_gradients", {"steps": 1000}, lambda x, w: (x - x[1]) * w),
    ],
)
def test_of_a_linear_model_the_map_is_the_weights_of_each_images_class(method, options, formula):
    options = {"fill": IMAGES[1], **options} if method == "integrated_gradients" else options
    model = Linear()
    for target in [1, 0], None:
        classes = model(IMAGES).argmax(1) if target is None else target
        expected = formula(IMAGES[:, 0], WEIGHTS[classes])
        values = explain(model, IMAGES, method, target, **options)
        assert torch.allclose(values, expected, atol=1e-4)
    assert model.weights.grad is None


def test_grad_cam_weighs_channels_and_leaves_out_what_is_negative():
    halves = torch.ones(1, 1, 28, 28)
    halves[..., 14:] = -1
    model = nn.Sequential(
        nn.Conv2d(1, 2, 1, bias=False),
        nn.ReLU(inplace=True),  # must not change what the map is made of
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2, 2),
    )
    model[0].weight.data = torch.tensor([1.0, -1]).view(2, 1, 1, 1)
    model[4].weight.data = 784 * torch.tensor([[2.0, 0], [0, -3]])
    for target, value in (0, 1), (1, 1.5):  # half of the pixels pass the gradient on
        values = explain(model, halves, "gradcam", target)[0]
        assert torch.allclose(values, value * halves[0, 0].clamp(min=0))


def test_grad_cam_of_tokens_weighs_channels_by_the_mean_over_all_windows():
    _, values = explain(Windows(), torch.zeros(1, 1, 28, 28), "gradcam", 0, tokens=True)
    assert values.flatten().tolist() == [3, 6, 9, 0]


@pytest.mark.parametrize("steps", [0, 1001])
def test_steps_out_of_bounds_are_refused(steps):
    with pytest.raises(UserError, match=f"steps must be from 1 to 1000, not {steps}"):
        explain(Linear(), IMAGES, "integrated_gradients", steps=steps)


def test_a_model_that_gradients_do_not_cross_is_told_what_works():
    class Rounds(Linear):
        "Round the pixels to whole numbers, through which no gradient passes"

        def forward(self, images):
            return super().forward(images.long().float())

    with pytest.raises(UserError, match="gradients that reach the pixels.* there is: .*occlusion"):
        explain(Rounds(), IMAGES, "gradient")
