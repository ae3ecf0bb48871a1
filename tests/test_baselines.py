"baselines: how large they are, what they may not depend on, and what a residual block adds."

import pytest
import torch
import torch.nn.functional as F

from vit_mnist.baselines import CNN, MLP, Residual, StrongCNN
from vit_mnist.data import load_data, normalise

IMAGES = normalise(load_data().test.images[:8])


def mlp(width, classes):
    return 784 * width + width + width * width + width + width * classes + classes


def cnn(channels, classes):
    convolutions = 9 * channels + channels + 9 * channels * 2 * channels + 2 * channels
    flat, hidden = 12 * 12 * 2 * channels, 4 * channels  # 28 - 2 - 2 pixels, then halved
    return convolutions + flat * hidden + hidden + hidden * classes + classes


def strong(width, classes):
    stages = [(1, width), (width, 2 * width), (2 * width, 4 * width)]
    blocks = sum(9 * i * o + 2 * o + 9 * o * o + 2 * o + i * o for i, o in stages)
    return blocks + 4 * width * classes + classes


@pytest.mark.parametrize(
    "cls, formula, kwargs, default",
    [
        (MLP, mlp, dict(width=7, num_classes=3), mlp(256, 10)),
        (CNN, cnn, dict(channels=3, num_classes=4), cnn(32, 10)),
        (StrongCNN, strong, dict(width=2, num_classes=5), strong(24, 10)),
    ],
)
def test_parameters_and_logits_are_as_many_as_the_layers_say(cls, formula, kwargs, default):
    counts = [sum(p.numel() for p in each.parameters()) for each in (cls(**kwargs), cls())]
    assert counts == [formula(*kwargs.values()), default]
    assert cls(**kwargs)(IMAGES).shape == (8, kwargs["num_classes"])


@pytest.mark.parametrize("cls", [MLP, CNN, StrongCNN])
def test_in_evaluation_an_image_does_not_depend_on_its_neighbours(cls):
    torch.manual_seed(0)
    model = cls().eval()
    together, alone = model(IMAGES), torch.cat([model(image[None]) for image in IMAGES])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
    model(IMAGES).square().sum().backward()
    assert all(parameter.grad.any() for parameter in model.parameters())


def test_only_the_cnn_drops_numbers_in_training_and_only_the_strong_one_sees_its_batch():
    torch.manual_seed(0)
    models = [cls().train() for cls in (MLP, CNN, StrongCNN)]
    repeats = [torch.equal(model(IMAGES), model(IMAGES)) for model in models]
    alone = [torch.allclose(model(IMAGES)[:2], model(IMAGES[:2]), atol=1e-5) for model in models]
    assert (repeats, alone) == ([True, False, True], [True, False, False])
    rates = [layer.p for layer in CNN().modules() if isinstance(layer, torch.nn.Dropout)]
    assert rates == [0.25, 0.5]  # of PyTorch's example


@pytest.mark.parametrize("stride", [1, 2])
def test_a_residual_block_whose_body_is_silent_is_its_shortcut(stride):
    block = Residual(1, 3, stride).eval()
    torch.nn.init.zeros_(block.body[-1].weight)  # of the last norm
    expected = F.gelu(block.shortcut.weight.view(1, 3, 1, 1) * IMAGES[..., ::stride, ::stride])
    torch.testing.assert_close(block(IMAGES), expected)


def test_a_residual_block_sees_two_pixels_each_way():
    torch.manual_seed(0)
    block, point = Residual(1, 2).eval(), torch.zeros(1, 1, 11, 11)
    still = block(point)
    point[0, 0, 5, 5] = 1.0
    changed = (block(point) != still).any(1)[0].nonzero()
    assert (changed.min(0).values.tolist(), changed.max(0).values.tolist()) == ([3, 3], [7, 7])
