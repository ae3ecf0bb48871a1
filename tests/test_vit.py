"vit: attention written as loops, tokens that know their place, and weights that must fit."

import math

import pytest
import torch
from vit_pytorch.vit import ViT

from vit_mnist.data import load_data, normalise
from vit_mnist.vit import SelfAttention, VisionTransformer, load_vit_weights

IMAGES = normalise(load_data().test.images[:3])

SMALL = dict(patch_size=14, dim=8, depth=2, heads=2, dim_head=3, mlp_dim=5)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return VisionTransformer(**SMALL).eval()


def test_attention_is_the_weighted_mean_that_loops_compute():
    torch.manual_seed(0)
    layer, tokens = SelfAttention(dim=4, heads=2, dim_head=3), torch.randn(1, 5, 4)
    layer.requires_grad_(False)
    rows = layer.to_qkv.weight.view(3, 2, 3, 4)  # queries, keys, values; heads; numbers
    taken = torch.zeros(5, 2, 3)
    for head in range(2):
        query, key, value = (tokens[0] @ rows[part, head].T for part in range(3))
        for i in range(5):
            shares = torch.tensor([math.exp(query[i] @ k / math.sqrt(3)) for k in key])
            taken[i, head] = (shares / shares.sum()) @ value
    torch.testing.assert_close(layer(tokens)[0], layer.to_out(taken.flatten(1)))


def test_numbers_to_learn_are_as_many_as_the_layers_need(model):
    dim, patch, inner = 8, 14 * 14, 2 * 3
    embedding = 2 * patch + (patch * dim + dim) + 2 * dim
    block = 2 * 2 * dim + dim * 3 * inner + (inner * dim + dim) + (dim * 5 + 5) + (5 * dim + dim)
    tokens = dim + (1 + 4) * dim
    total = embedding + tokens + 2 * block + 2 * dim + (dim * 10 + 10)
    assert sum(parameter.numel() for parameter in model.parameters()) == total


def test_a_digit_whose_patches_move_together_with_their_positions_is_the_same(model):
    swapped = IMAGES.roll(14, dims=-1)  # left patches on the right
    before = model(IMAGES)
    assert (model(swapped) - before).abs().max() > 1e-3
    with torch.no_grad():
        model.positions.copy_(model.positions[[0, 2, 1, 4, 3]])  # the class token stays first
    torch.testing.assert_close(model(swapped), before, atol=1e-5, rtol=1e-4)


def test_logits_of_an_image_do_not_depend_on_its_neighbours_and_all_weights_learn(model):
    torch.testing.assert_close(model(IMAGES)[1:2], model(IMAGES[1:2]), atol=1e-5, rtol=1e-4)
    model(IMAGES).square().sum().backward()
    assert all(parameter.grad.any() for parameter in model.parameters())


def test_weights_of_other_sizes_or_another_depth_are_refused(model):
    theirs = dict(SMALL, image_size=28, num_classes=10, channels=1)
    weights = ViT(**theirs).state_dict()
    assert load_vit_weights(model, weights) is model
    last = "transformer.layers.1.0.to_out.0.bias"
    assert torch.equal(model.blocks[1].attention.to_out.bias, weights[last])
    for change in {"depth": 3}, {"depth": 1}, {"mlp_dim": 6}:
        with pytest.raises(RuntimeError, match="Error"):
            load_vit_weights(model, ViT(**theirs | change).state_dict())
