"Where the tokens of any model lie, found from outside: right, or refused."

import pytest
import timm
import torch
from torch import nn
from torchvision.models import SwinTransformer
from vit_pytorch import SimpleViT, ViT

from vit_mnist.core import UserError
from vit_mnist.evidence import UntrustedAttention, gradients_reach, infer_layouts
from vit_mnist.explanation import explain, list_methods
from vit_mnist.layout import Tokens, grid_layout
from vit_mnist.maps import capture_attention
from vit_mnist.model import declare

SIZES = dict(num_classes=3, dim=32, depth=2, heads=2, dim_head=16, mlp_dim=64)
CLS = ("cls",)


def vit(image_size, patch_size=8, kind=ViT):
    torch.manual_seed(0)
    return kind(image_size=image_size, patch_size=patch_size, **SIZES).eval()


def of_timm(name, side, **kwargs):
    torch.manual_seed(0)
    return timm.create_model(name, img_size=side, depth=2, num_classes=3, **kwargs).eval()


MODELS = {  # model, image, the keys of the first and of the last attention
    "48 x 64, 49 tokens": (lambda: vit((48, 64)), (48, 64), Tokens((6, 8), CLS)),
    "2 x 8 without a class token": (
        lambda: vit((16, 64), kind=SimpleViT),
        (16, 64),
        Tokens((2, 8)),
    ),
    "patches that are no squares": (lambda: vit((32, 32), (4, 16)), (32, 32), Tokens((8, 2), CLS)),
    "registers": (
        lambda: of_timm("vit_small_patch14_reg4_dinov2", 56),
        (56, 56),
        Tokens((4, 4), CLS + ("register",) * 4),
    ),
    "distilled": (
        lambda: of_timm("deit_tiny_distilled_patch16_224", 64),
        (64, 64),
        Tokens((4, 4), ("cls", "distilled")),
    ),
    "a convolutional stem": (
        lambda: timm.create_model("levit_128s").eval(),
        (224, 224),
        Tokens((14, 14)),
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_first_attention_lies_where_its_model_was_built_to_have_it(name):
    build, shape, keys = MODELS[name]
    layout = infer_layouts(build(), torch.randn(1, 3, *shape))[0]
    assert layout.queries == layout.keys == keys


def test_windows_lie_side_by_side_or_shifted_and_methods_of_whole_layers_are_refused():
    torch.manual_seed(0)
    swin = SwinTransformer([4, 4], 24, [2, 2], [2, 4], [4, 4], num_classes=3).eval()
    images = torch.randn(2, 3, 64, 64)
    plain, shifted, *last = capture_attention(swin, images).layouts
    assert plain.keys == Tokens((16, 16), window=(4, 4)) and plain.heads == 2
    assert shifted.keys == Tokens((16, 16), window=(4, 4), shift=(2, 2))
    assert [layout.keys.grid for layout in last] == [(8, 8)] * 2
    assert capture_attention(swin, images).on_grid(0).shape == (2, 2, 16, 16)
    with pytest.raises(UserError, match="relevance needs layers that all attend"):
        explain(swin, images)
    assert {"attention", "gradcam", "occlusion"} <= set(list_methods(swin, images))


class Attend(nn.Module):
    "Mix 16 patches of a digit in a way of its own, then answer from their mean"

    def __init__(self, mix):
        super().__init__()
        self.mix, self.embed, self.head = mix, nn.Conv2d(1, 32, 7, 7), nn.Linear(32, 10)
        self.qkv = nn.Linear(32, 96)

    def forward(self, images):
        x = self.embed(images).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(x).unflatten(2, (3, 4, 8)).permute(2, 0, 3, 1, 4)
        x = x + self.mix(q @ k.transpose(2, 3), v).transpose(1, 2).flatten(2)
        return self.head(x.mean(1))


def by_heads(scores, v):
    return torch.stack([scores[:, h].softmax(-1) @ v[:, h] for h in range(4)], 1)


def by_queries(scores, v):
    return torch.cat([part.softmax(-1) @ v for part in scores.split(8, 2)], 2)


@pytest.mark.parametrize("mix", [by_heads, by_queries])
def test_attention_in_pieces_is_refused_and_other_methods_still_work(mix):
    torch.manual_seed(0)
    model, digits = Attend(mix).eval(), torch.randn(2, 1, 28, 28)
    with pytest.raises(UntrustedAttention, match="in several products, in Attend"):
        capture_attention(model, digits)
    with pytest.raises(UntrustedAttention, match="in several products"):
        explain(model, digits)
    assert "relevance" not in list_methods(model, digits)
    assert explain(model, digits, "occlusion").any()


class Views(nn.Module):
    "Put mirrored images behind the batch"

    def __init__(self):
        super().__init__()
        self.inside = Attend(lambda scores, v: scores.softmax(-1) @ v)

    def forward(self, images):
        return self.inside(torch.cat([images, images.flip(-1)])).view(2, len(images), 10).sum(0)


@pytest.mark.parametrize("n", [1, 3])
def test_images_that_are_mixed_inside_a_model_are_refused(n):
    torch.manual_seed(0)
    with pytest.raises(UntrustedAttention, match="adds views of them"):
        capture_attention(Views().eval(), torch.randn(n, 1, 28, 28))


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = vit((32, 32))

    def forward(self, images):
        return self.backbone(images) + self.backbone(images.flip(2))


def test_a_backbone_that_is_called_twice_is_no_chain_of_layers():
    images = torch.randn(2, 3, 32, 32)
    maps = capture_attention(Twice().eval(), images)
    assert [layout.role for layout in maps.layouts] == ["self", "self", "branch", "self"]
    with pytest.raises(UserError, match="relevance needs layers that all attend"):
        explain(Twice().eval(), images)


def test_the_experiment_leaves_model_generators_and_the_gradients_of_others_alone():
    model, images = vit((32, 32)).train(), torch.randn(1, 3, 32, 32)
    weights = {name: p.clone() for name, p in model.named_parameters()}
    torch.manual_seed(5)
    infer_layouts(model, images)
    gradients_reach(model, images)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(3), drawn) and model.training
    assert all(torch.equal(weights[name], p) for name, p in model.named_parameters())
    assert all(p.grad is None for p in model.parameters())


def test_what_its_owner_declares_is_believed_where_it_fits_what_is_captured():
    layout = grid_layout((4, 4), heads=1, depth=4)  # each head is a layer, says the owner
    model, digits = declare(Attend(by_heads).eval(), layout=layout), torch.randn(2, 1, 28, 28)
    assert capture_attention(model, digits).on_grid(3).shape == (2, 1, 4, 4)
    with pytest.raises(UserError, match="correct its layout"):
        capture_attention(declare(model, layout=grid_layout((4, 4), heads=4)), digits)


def test_what_zeros_hid_at_first_is_found_once_there_are_weights():
    model, images = vit((32, 32)), torch.randn(1, 3, 32, 32)
    embed = model.to_patch_embedding[2]
    weight = embed.weight.data.clone()
    embed.weight.data.zero_()  # no pixel changes anything
    assert infer_layouts(model, images)[0].keys.grid is None
    with torch.no_grad():
        embed.weight.copy_(weight)
    assert infer_layouts(model, images)[0].keys == Tokens((4, 4), CLS)


HELPERS = {
    "softmax": "torch.matmul(torch.softmax(torch.matmul(q, k.transpose(-2, -1)), -1), v)",
    "fused": "torch.nn.functional.scaled_dot_product_attention(q, k, v)",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", HELPERS)
def test_attention_inside_a_compiled_helper_is_not_passed_over(name):
    unit = torch.jit.CompilationUnit(f"def f(q, k, v):\n    return {HELPERS[name]}\n")

    class Mixed(Attend):
        "A layer that can be seen, after one inside the helper"

        def forward(self, images):
            x = self.embed(images).flatten(2).transpose(1, 2)
            q, k, v = self.qkv(x).unflatten(2, (3, 4, 8)).permute(2, 0, 3, 1, 4)
            x = x + unit.f(q, k, v).transpose(1, 2).flatten(2)
            q, k, v = self.qkv(x).unflatten(2, (3, 4, 8)).permute(2, 0, 3, 1, 4)
            x = x + ((q @ k.transpose(2, 3)).softmax(-1) @ v).transpose(1, 2).flatten(2)
            return self.head(x.mean(1))

    torch.manual_seed(0)
    with pytest.raises(UntrustedAttention, match="can't be seen, inside a compiled helper"):
        capture_attention(Mixed(None).eval(), torch.randn(1, 1, 28, 28))


def test_queries_and_keys_are_those_that_the_attention_was_computed_from():
    model, images = of_timm("vit_tiny_patch16_224", 64), torch.randn(2, 3, 64, 64)
    for attention in capture_attention(model, images).take(1):
        scores = attention.queries @ attention.keys.transpose(-2, -1) / 64**0.5
        assert torch.allclose(scores.softmax(-1), attention.probs, atol=1e-5)
        assert len(attention.queries) == len(attention.keys) == 1
