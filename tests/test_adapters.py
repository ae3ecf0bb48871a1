"adapters: pixels are copied and never mixed, and what a model was built from is found again."

import pytest
import torch
from torch import nn

from vit_mnist.adapters import Grouped, Listed, PadAndEnlarge, ToRGB, build, inner
from vit_mnist.adapters import sequential
from vit_mnist.core import UserError, import_submodule
from vit_mnist.data import load_data, normalise
from vit_mnist.model import create_model
from vit_mnist.zoo import ZOO

IMAGES = normalise(load_data().test.images[:3])


def test_the_border_is_copied_outwards_and_each_pixel_becomes_a_square():
    two = torch.tensor([[1.0, 2], [3, 4]])[None, None]
    padded = [[1.0, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    assert PadAndEnlarge(1, 1)(two)[0, 0].tolist() == padded
    assert PadAndEnlarge(0, 2)(two)[0, 0].tolist() == padded
    assert PadAndEnlarge(1, 3)(two).shape == (1, 1, 12, 12)
    assert str(PadAndEnlarge(1, 3)) == "PadAndEnlarge(pad=1, zoom=3)"


def test_channels_lists_and_groups_hold_the_same_pixels_in_the_same_order():
    assert all(torch.equal(channel, IMAGES[:, 0]) for channel in ToRGB()(IMAGES).unbind(1))
    assert torch.equal(torch.stack(Listed()(IMAGES)), IMAGES)
    assert torch.equal(torch.stack([image for (image,) in Grouped()(IMAGES)]), IMAGES)


@pytest.mark.parametrize("name, steps", [("levit", ["resize", "rgb"]), ("nest", ["resize"])])
def test_a_model_is_its_adapters_and_then_what_vit_pytorch_makes(name, steps):
    entry, model = ZOO[name], create_model(name, seed=0, size="tiny").eval()
    assert [child for child, _ in model.named_children()] == [*steps, "net"]
    seen = PadAndEnlarge(entry.pad, entry.zoom)(IMAGES)
    seen = seen.repeat(1, 3, 1, 1) if entry.rgb else seen
    assert seen.shape[-1] == entry.pixels
    assert torch.equal(model(IMAGES), inner(model)(seen))
    assert type(inner(model)).__module__ == entry.module


def test_a_model_that_needs_nothing_is_vit_pytorchs_own_object():
    model = create_model("vit", size="tiny")
    assert inner(model) is model and type(model).__module__ == "vit_pytorch.vit"
    chain = sequential(one=nn.Identity(), two=nn.Flatten())
    assert inner(chain) is chain  # a chain of one's own, without `net`


def test_a_head_and_a_stem_have_the_sizes_asked_for():
    model = create_model("simple_vit_with_qk_norm", size="tiny", dim=24, num_classes=3)
    assert (model.head.in_features, model.head.out_features) == (24, 3)
    cct = create_model("cct", size="tiny", stem=(6, 12), n_conv_layers=3)
    blocks = cct.tokenizer.conv_layers
    assert [block.shortcut.out_channels for block in blocks] == [6, 12, 64]
    sides = [block(torch.zeros(1, n, 8, 8)).shape[-1] for block, n in zip(blocks, (1, 6, 12))]
    assert sides == [4, 4, 4]
    with pytest.raises(UserError, match="for 3 layers: n_conv_layers must be 3, not 2"):
        create_model("cct", size="tiny", stem=(6, 12))


def test_norms_of_local_vit_are_over_channels_in_every_layer():
    layers = create_model("local_vit", size="tiny").transformer.layers
    places = torch.randn(2, 64, 4, 4)
    for _, feedforward in layers:
        normed = feedforward.fn.fn.net[0](places)
        expected = nn.functional.layer_norm(places.permute(0, 2, 3, 1), (64,))
        torch.testing.assert_close(normed, expected.permute(0, 3, 1, 2))


def test_plain_attention_is_for_the_cpu_alone_however_often_a_model_is_built(monkeypatch):
    masking, asked = import_submodule("vit_pytorch.vit_nd_masking"), []

    def answer(device):
        asked.append(device)
        return "as upstream says"

    monkeypatch.setattr(masking, "flex_attention_supported", answer)
    for _ in range(3):
        build(ZOO["vit_nd"], ZOO["vit_nd"].sizes["tiny"])
    assert masking.flex_attention_supported("cpu") is False and asked == []
    assert masking.flex_attention_supported("cuda:0") == "as upstream says" and len(asked) == 1
    assert masking.flex_attention_supported.where_possible is answer
