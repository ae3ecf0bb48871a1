"Models of other libraries and of one's own: right by an independent measurement, or one line."

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

import matplotlib.pyplot as plt
import pytest
import timm
import torch
import transformers as hf
from timm.models.swin_transformer import window_reverse
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models import maxvit, swin_transformer as tv_swin, vision_transformer as tv_vit
from vit_pytorch import SimpleViT, ViT

from conftest import real_words, run_words
from conftest import wake_zeros
from vit_mnist.core import UserError
from vit_mnist.explanation import explain, list_methods
from vit_mnist.layout import AttentionLayout, Layout, Tokens, grid_layout
from vit_mnist.maps import capture_attention
from vit_mnist.methods import METHODS
from vit_mnist.model import about, as_classifier, declare
from vit_mnist.pictures import plot_attention

SMALL = dict(img_size=64, depth=2, embed_dim=32, num_heads=2)
VIT = dict(num_classes=3, dim=32, depth=2, heads=2, dim_head=16, mlp_dim=64)
WINDOWS = dict(img_size=64, embed_dim=16, depths=(2, 2), num_heads=(2, 4), window_size=4)


class Encoder(nn.Module):
    "PyTorch's own layers, the mean of all places read"

    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(32, 2, 64, batch_first=True)
        self.embed, self.encoder = nn.Conv2d(3, 32, 16, 16), nn.TransformerEncoder(layer, 2)
        self.places, self.head = nn.Parameter(torch.randn(1, 16, 32)), nn.Linear(32, 3)

    def forward(self, x):
        return self.head(self.encoder(self.embed(x).flatten(2).mT + self.places).mean(1))


class Latents(nn.Module):
    "Four latents that read the places, as in Perceiver"

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Conv2d(3, 32, 16, 16), nn.Linear(32, 3)
        self.latents = nn.Parameter(torch.randn(1, 4, 32))
        self.cross, self.among = (nn.MultiheadAttention(32, 2, batch_first=True) for _ in "12")

    def forward(self, x):
        places, latents = self.embed(x).flatten(2).mT, self.latents.expand(len(x), -1, -1)
        latents = latents + self.cross(latents, places, places)[0]
        latents = latents + self.among(latents, latents, latents)[0]
        return self.head(latents.mean(1))


class ByHand(nn.Module):
    "Attention by einsum, the class token last; with a stem of convolutions, with any outputs"

    def __init__(self, stem=False, outputs=3):
        super().__init__()
        halves = [nn.Conv2d(3, 16, 3, 2, 1), nn.GELU(), nn.Conv2d(16, 32, 3, 2, 1), nn.GELU()]
        cut = nn.Conv2d(32, 32, 4, 4) if stem else nn.Conv2d(3, 32, 16, 16)
        self.embed = nn.Sequential(*(halves if stem else []), cut)
        self.cls, self.places = (nn.Parameter(torch.randn(1, n, 32)) for n in (1, 16))
        self.qkv = nn.ModuleList(nn.Linear(32, 96) for _ in range(2))
        self.out = nn.ModuleList(nn.Linear(32, 32) for _ in range(2))
        self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, outputs)

    def forward(self, x):
        tokens = self.embed(x).flatten(2).mT + self.places
        tokens = torch.cat([tokens, self.cls.expand(len(x), -1, -1)], 1)
        for qkv, out in zip(self.qkv, self.out):
            q, k, v = (t.unflatten(-1, (2, 16)) for t in qkv(self.norm(tokens)).chunk(3, -1))
            shares = torch.einsum("bihd,bjhd->bhij", q, k).div(4).softmax(-1)
            tokens = tokens + out(torch.einsum("bhij,bjhd->bihd", shares, v).flatten(2))
        return self.head(self.norm(tokens[:, -1]))


@dataclass
class Row:
    "What is known of a model by its configuration"

    build: Callable
    grids: list  # of each attention: (rows, columns) of its keys; None: to be refused
    before: int = 0  # tokens before the places
    after: int = 0
    windows: list = field(default_factory=list)  # of each attention: (side, shift, dilated)
    shape: tuple = (3, 64, 64)
    lacks: tuple = ()  # methods that a user might expect, and that are refused
    logits: bool = True


def of_timm(name, grids, before=0, after=0, **options):
    kept = {k: options.pop(k) for k in ("windows", "shape", "lacks") if k in options}
    options = options or SMALL
    build = lambda: timm.create_model(name, num_classes=3, **options)  # noqa: E731
    return Row(build, grids, before, after, **kept)


FLOW = "relevance", "rollout", "grad_rollout"
SWIN = [(4, 0, False), (4, 2, False)] * 2
SWIN_GRIDS = [(16, 16)] * 2 + [(8, 8)] * 2
TV_SWIN = [4, 4], 16, [2, 2], [2, 4], [4, 4]
V2 = {"block": tv_swin.SwinTransformerBlockV2, "downsample_layer": tv_swin.PatchMergingV2}
TINY = {"depths": (1, 1, 1, 1)}
DYNAMIC = {**SMALL, "dynamic_img_size": True, "shape": (3, 48, 96)}
MAXVIT_GRIDS = [(16, 16)] * 2 + [(8, 8)] * 2
MAXVIT = [(4, 0, False), (4, 0, True)] * 2
TWO = [(4, 4)] * 2

ROWS = {
    "timm ViT": of_timm("vit_tiny_patch16_224", TWO, 1),
    "timm ViT, mean": of_timm("vit_tiny_patch16_224", TWO, 1, global_pool="avg", **SMALL),
    "timm ViT, 48 x 96": of_timm("vit_tiny_patch16_224", [(3, 6)] * 2, 1, **DYNAMIC),
    "timm DeiT III": of_timm("deit3_small_patch16_224", TWO, 1),
    "timm DeiT, distilled": of_timm("deit_tiny_distilled_patch16_224", TWO, 2),
    "timm DINOv2, registers": of_timm(
        "vit_small_patch14_reg4_dinov2",
        [(5, 5)] * 2,
        5,
        **{**SMALL, "img_size": 70},
        shape=(3, 70, 70),
    ),
    "timm DINOv3": of_timm("vit_small_patch16_dinov3", TWO, 5),
    "timm SigLIP": of_timm("vit_base_patch16_siglip_224", [(4, 4)] * 3),
    "timm EVA-02": of_timm(
        "eva02_tiny_patch14_224", TWO, 1, **{**SMALL, "img_size": 56}, shape=(3, 56, 56)
    ),
    "timm BEiT": of_timm("beit_base_patch16_224", TWO, 1),
    "timm CaiT": of_timm("cait_xxs24_224", [(4, 4)] * 4, [0, 0, 1, 1], lacks=FLOW),
    "timm XCiT": of_timm(
        "xcit_nano_12_p16_224", [None, None, (4, 4), (4, 4)], [0, 0, 1, 1], lacks=FLOW
    ),
    "timm Swin": of_timm(
        "swin_tiny_patch4_window7_224", SWIN_GRIDS, windows=SWIN, lacks=FLOW, **WINDOWS
    ),
    "timm Swin V2": of_timm(
        "swinv2_tiny_window8_256", SWIN_GRIDS, windows=SWIN, lacks=FLOW, **WINDOWS
    ),
    "timm ConvNeXt": of_timm(
        "convnext_atto", [], lacks=("attention", *FLOW), **TINY, dims=(8, 16, 16, 32)
    ),
    "timm PVT v2": of_timm("pvt_v2_b0", [(2, 2)] * 3 + [None], lacks=FLOW, **TINY),
    "timm LeViT": of_timm("levit_128s", [(4, 4)] * 3 + [None] * 8, lacks=FLOW, img_size=64),
    "timm MobileViT": of_timm(
        "mobilevit_xxs",
        [(8, 8)] * 2 + [None] * 7,
        windows=[(4, 0, True)] * 2 + [None] * 7,
        lacks=FLOW,
        pretrained=False,
    ),
    "torchvision ViT": Row(
        lambda: tv_vit.VisionTransformer(64, 16, 2, 2, 32, 64, num_classes=3), TWO, 1
    ),
    "torchvision Swin": Row(
        lambda: tv_swin.SwinTransformer(*TV_SWIN, num_classes=3),
        SWIN_GRIDS,
        windows=SWIN,
        lacks=FLOW,
    ),
    "torchvision Swin V2": Row(
        lambda: tv_swin.SwinTransformer(*TV_SWIN, num_classes=3, **V2),
        SWIN_GRIDS,
        windows=SWIN,
        lacks=FLOW,
    ),
    "torchvision MaxViT": Row(
        lambda: maxvit.MaxVit((64, 64), 16, 4, [16, 32], [1, 1], 8, 0.0, num_classes=3),
        MAXVIT_GRIDS,
        windows=MAXVIT,
        lacks=FLOW,
    ),
    "vit-pytorch ViT, 224": Row(
        lambda: ViT(image_size=224, patch_size=32, **VIT), [(7, 7)] * 2, 1, shape=(3, 224, 224)
    ),
    "vit-pytorch ViT, 64 x 256": Row(
        lambda: ViT(image_size=(64, 256), patch_size=32, **VIT),
        [(2, 8)] * 2,
        1,
        shape=(3, 64, 256),
    ),
    "vit-pytorch SimpleViT": Row(lambda: SimpleViT(image_size=64, patch_size=16, **VIT), TWO),
    "nn.TransformerEncoder": Row(Encoder, TWO),
    "latents": Row(Latents, [(4, 4), None]),
    "einsum": Row(ByHand, TWO, 0, 1),
    "a stem of convolutions": Row(lambda: ByHand(stem=True), TWO, 0, 1),
    "one output": Row(lambda: ByHand(outputs=1), TWO, 0, 1),
}

SIZES = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
SIZES |= dict(image_size=64, patch_size=16, num_labels=3)
TEXT = dict(SIZES, num_hidden_layers=1, vocab_size=50, bos_token_id=1, eos_token_id=2)
HF_SWIN = dict(image_size=64, patch_size=4, embed_dim=16, depths=[2, 2], num_heads=[2, 4])
HF_SWIN |= dict(window_size=4, num_labels=3)
HUGGING_FACE = {
    "ViT": (hf.ViTForImageClassification, hf.ViTConfig, SIZES, 1),
    "DeiT": (hf.DeiTForImageClassificationWithTeacher, hf.DeiTConfig, SIZES, 2),
    "Dinov2": (hf.Dinov2ForImageClassification, hf.Dinov2Config, SIZES, 1),
    "Dinov2, registers": (
        *(hf.Dinov2WithRegistersForImageClassification, hf.Dinov2WithRegistersConfig),
        *(SIZES, 5),
    ),
    "BEiT": (
        *(hf.BeitForImageClassification, hf.BeitConfig),
        *({**SIZES, "use_relative_position_bias": True}, 1),
    ),
    "CLIP vision": (hf.CLIPVisionModel, hf.CLIPVisionConfig, SIZES, 1),
    "Swin": (hf.SwinForImageClassification, hf.SwinConfig, HF_SWIN, 0),
}


def of_hugging_face(cls, config, sizes, how):
    return lambda: cls._from_config(config(**sizes), attn_implementation=how)


for how in ("sdpa", "eager"):
    for name, (cls, config, sizes, before) in HUGGING_FACE.items():
        build = of_hugging_face(cls, config, sizes, how)
        if name == "Swin":
            row = Row(build, SWIN_GRIDS, windows=SWIN, lacks=FLOW)
        else:
            row = Row(build, TWO, before, logits=name != "CLIP vision")
        ROWS[f"Hugging Face {name}, {how}"] = row


class Softmaxes(TorchDispatchMode):
    "Keep the result of every softmax that PyTorch computes, whoever called it"

    def __init__(self):
        super().__init__()
        self.kept = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket._qualified_op_name
        if name in ("aten::_softmax", "aten::_safe_softmax") and out.ndim > 2:
            self.kept.append(out.clone())
        return out


def measured(model, images):
    "Return every softmax of a plain call, below all that the package does"
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one kernel for a whole layer
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), Softmaxes() as softmaxes:
            model(images)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return softmaxes.kept


def state(model):
    return (
        [
            (m.training, set(vars(m)), len(m._forward_hooks), len(m._forward_pre_hooks))
            for m in model.modules()
        ],
        [(p.grad, p.requires_grad) for p in model.parameters()],
        {name: value.clone() for name, value in model.state_dict().items()},
        torch.get_rng_state(),
    )


def same(a, b):
    tensors = all(torch.equal(a[2][name], b[2][name]) for name in a[2])
    return a[:2] == b[:2] and a[2].keys() == b[2].keys() and tensors and torch.equal(a[3], b[3])


def numbers(value, layers):
    return value if isinstance(value, list) else [value] * layers


def by_hand(probs, grid, before, after, window):
    "Lay the mean of a layer's queries, or its class token's row, on the image without the package"
    if window is None:
        row = probs[:, :, 0] if before else probs[:, :, -1] if after else probs.mean(2)
        return row[..., before : before + grid[0] * grid[1]].unflatten(-1, grid)
    side, shift, dilated = window
    received = probs.mean(-2)  # [n * windows, heads, keys]
    rows, columns = grid
    if dilated:
        tiles = received.view(-1, rows // side, columns // side, received.shape[1], side, side)
        laid = tiles.permute(0, 3, 4, 1, 5, 2).flatten(4, 5).flatten(2, 3)
    else:
        cells = received.permute(0, 2, 1).reshape(-1, side, side, received.shape[1])
        laid = window_reverse(cells, (side, side), rows, columns).permute(0, 3, 1, 2)
    laid = laid.roll((shift, shift), (2, 3))
    return laid / (rows * columns / side**2)  # the mean over the queries of all windows


def check_maps(row, model, images):
    "Compare every attention and its map with what was measured and laid out by hand"
    expected = measured(model, images)
    maps = capture_attention(model, images)
    assert len(maps) == len(expected) == len(row.grids)
    layers = len(row.grids)
    windows = row.windows or [None] * layers
    sides = zip(numbers(row.before, layers), numbers(row.after, layers), windows)
    for layer, (probs, grid, (before, after, window)) in enumerate(zip(expected, row.grids, sides)):
        ours, layout = maps[layer].probs, maps.layouts[layer]
        assert torch.allclose(ours, probs.reshape(ours.shape), atol=1e-6)
        assert layout.keys.grid == grid
        if grid is None:
            with pytest.raises(UserError, match="declare") as refused:
                maps.on_grid(layer)
            assert "\n" not in str(refused.value)
            continue
        assert (len(layout.keys.before), len(layout.keys.after)) == (before, after)
        if window:  # images and windows, heads, queries, keys
            probs = ours.unflatten(1, (layout.windows, layout.heads)).flatten(0, 1)
        else:
            probs = ours
        right = by_hand(probs, grid, before, after, window)
        assert torch.allclose(maps.on_grid(layer), right, atol=1e-6), layer
    return maps


@pytest.mark.parametrize("name", ROWS)
def test_right_or_one_line(name):
    torch.manual_seed(0)
    row = ROWS[name]
    model, images = wake_zeros(row.build()).eval(), torch.randn(2, *row.shape)
    before = state(model)
    if row.grids:
        maps = check_maps(row, model, images)
        drawn = plot_attention(maps, heads=0)
        assert len(drawn.axes) == sum(grid is not None for grid in row.grids)
        plt.close(drawn)
    works = list_methods(model, images)
    assert not set(works) & set(row.lacks) and "ink" in works
    for method in METHODS:
        options = {"steps": 4} if method == "integrated_gradients" else {}
        try:
            explained = explain(model, images, method, **options)
        except UserError as error:
            assert method not in works and "\n" not in str(error)
            continue
        assert method in works
        assert explained.shape == (2, *row.shape[1:]) and explained.isfinite().all()
    assert ("occlusion" in works) == row.logits
    assert same(state(model), before)


def chefer(maps):
    "Multiply through Chefer's rule (https://arxiv.org/abs/2103.15679), `[n, tokens, tokens]`"
    whole = torch.eye(maps[0].weights.shape[-1])
    for a in maps:
        whole = whole + (a.grad * a.weights).clamp(min=0).mean(1) @ whole
    return whole


def abnar(maps):
    "Roll attention out (https://arxiv.org/abs/2005.00928), `[n, tokens, tokens]`"
    whole = torch.eye(maps[0].weights.shape[-1])
    for a in maps:
        mixed = a.weights.mean(1) + torch.eye(whole.shape[-1])
        whole = mixed / mixed.sum(-1, keepdim=True) @ whole
    return whole


@pytest.mark.parametrize(
    "name, answers, places",
    [
        ("timm ViT", slice(0, 1), slice(1, 17)),
        ("timm ViT, mean", slice(1, 17), slice(1, 17)),
        ("timm DINOv2, registers", slice(0, 1), slice(5, 30)),
        ("Hugging Face Dinov2, registers, sdpa", [0, *range(5, 21)], slice(5, 21)),
        ("Hugging Face ViT, eager", slice(0, 1), slice(1, 17)),
        ("Hugging Face BEiT, sdpa", slice(1, 17), slice(1, 17)),
        ("torchvision ViT", slice(0, 1), slice(1, 17)),
        ("nn.TransformerEncoder", slice(0, 16), slice(0, 16)),
        ("einsum", slice(16, 17), slice(0, 16)),
    ],
)
def test_relevance_and_rollout_start_where_the_answer_is_read(name, answers, places):
    torch.manual_seed(0)
    row = ROWS[name]
    model, images = wake_zeros(row.build()).eval(), torch.randn(2, *row.shape)
    maps = capture_attention(model, images, gradients=True).backward()
    for method, rule in (("relevance", chefer), ("rollout", abnar)):
        whole = rule(maps).detach()
        rows = whole[:, answers].mean(1)
        ours = explain(model, images, method, tokens=True)[1].flatten(1)
        assert torch.allclose(ours, rows[:, places], atol=1e-5), method


@pytest.mark.parametrize("method", ["relevance", "rollout", "gradient", "occlusion", "gradcam"])
def test_a_target_by_a_function_of_any_output(method):
    torch.manual_seed(0)
    model, images = wake_zeros(ByHand()).eval(), torch.randn(2, 3, 64, 64)
    right = explain(model, images, method, 1)
    assert torch.allclose(explain(model, images, method, lambda out: out[:, 1]), right, atol=1e-6)
    name = "Hugging Face CLIP vision, sdpa"
    features = wake_zeros(ROWS[name].build()).eval()
    found = explain(features, images, method, lambda out: out.pooler_output[:, 0])
    assert found.shape == (2, 64, 64) and found.any() and found.isfinite().all()
    with pytest.raises(UserError, match="a number for each image"):
        explain(model, images, method, lambda out: out.sum())


def test_the_attentions_hugging_face_returns_itself():
    torch.manual_seed(0)
    model = ROWS["Hugging Face ViT, eager"].build().eval()
    images = torch.randn(2, 3, 64, 64)
    theirs = model(images, output_attentions=True).attentions
    maps = capture_attention(model, images)
    assert all(torch.allclose(a.probs, right, atol=1e-6) for a, right in zip(maps, theirs))


def test_hooks_on_timm_and_the_weights_torchvision_needs():
    torch.manual_seed(0)
    images = torch.randn(2, 3, 64, 64)
    model, seen = ROWS["timm ViT"].build().eval(), []
    for block in model.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(lambda m, i, out: seen.append(out))
    maps = capture_attention(model, images)
    assert torch.equal(maps[1].probs, seen[-1]) and model.blocks[0].attn.fused_attn is False
    model, seen = ROWS["torchvision ViT"].build().eval(), []
    layers = model.encoder.layers
    for layer in layers:
        layer.self_attention.register_forward_hook(lambda m, inputs, out: seen.append((m, inputs)))
    maps = capture_attention(model, images)
    for a, (attention, inputs) in zip(maps, seen[-2:]):
        right = attention(*inputs, need_weights=True, average_attn_weights=False)[1]
        assert torch.allclose(a.probs, right, atol=1e-6)


class Twice(nn.Module):
    "Look at an image and at its mirror image with one backbone"

    def __init__(self, backbone):
        super().__init__()
        self.backbone, self.head = backbone, nn.Linear(6, 3)

    def forward(self, x):
        return self.head(torch.cat([self.backbone(x), self.backbone(x.flip(-1))], 1))


def test_a_backbone_called_twice():
    torch.manual_seed(0)
    model, images = Twice(ByHand()).eval(), torch.randn(2, 3, 64, 64)
    maps = capture_attention(model, images)
    alone = [capture_attention(model.backbone, x) for x in (images, images.flip(-1))]
    for ours, right in zip(maps, [*alone[0], *alone[1]]):
        assert torch.equal(ours.probs, right.probs)
    grids = [layout.keys.grid for layout in maps.layouts]
    assert grids[:2] == [(4, 4)] * 2 and "relevance" not in list_methods(model, images)
    with pytest.raises(UserError, match="layers that all attend"):
        explain(model, images)


class Aged(nn.Module):
    "Take a number for each image by keyword"

    def __init__(self):
        super().__init__()
        self.inside, self.by_age = ByHand(), nn.Linear(1, 3)

    def forward(self, x, age):
        return self.inside(x) + self.by_age(age)


def test_a_second_input_by_keyword():
    model, images = Aged().eval(), torch.randn(2, 3, 64, 64)
    with pytest.raises(UserError, match=r"declare\(model, inputs=") as refused:
        capture_attention(model, images)
    assert "\n" not in str(refused.value)
    declare(model, inputs=lambda images: {"age": torch.full((len(images), 1), 40.0)})
    maps = capture_attention(model, images)
    assert torch.equal(maps[0].probs, capture_attention(model.inside, images)[0].probs)
    assert explain(model, images, "relevance").shape == (2, 64, 64)


class Frozen(nn.Module):
    "Compute features without gradients"

    def __init__(self):
        super().__init__()
        self.backbone, self.head = ByHand(), nn.Linear(3, 2)

    def forward(self, x):
        with torch.no_grad():
            features = self.backbone(x)
        return self.head(features)


def test_frozen_and_without_gradients():
    images = torch.randn(1, 3, 64, 64)
    frozen = ByHand().requires_grad_(False)
    assert explain(frozen, images).any() and not any(p.requires_grad for p in frozen.parameters())
    with pytest.raises(UserError, match="gradients that reach the attention"):
        explain(Frozen(), images)
    assert "rollout" in list_methods(Frozen(), images)


@pytest.mark.parametrize("how", ["DataParallel", "compiled", "half", "bfloat16"])
def test_wrapped_and_in_half_precision(how):
    torch.manual_seed(0)
    plain, images = ByHand().eval(), torch.randn(2, 3, 64, 64)
    right, model = capture_attention(plain, images), copy.deepcopy(plain)
    if how == "DataParallel":
        model = nn.DataParallel(model)
    elif how == "compiled":
        model = torch.compile(model, backend="eager")
    else:
        model = model.half() if how == "half" else model.bfloat16()
    maps = capture_attention(model, images)
    exact = how in ("DataParallel", "compiled")
    for ours, theirs in zip(maps, right):
        assert torch.allclose(ours.probs, theirs.probs, atol=0 if exact else 0.02)
    assert maps.layouts == right.layouts and explain(model, images).isfinite().all()
    if how == "compiled":
        assert torch.allclose(model(images), plain(images), atol=1e-5)


def test_hooks_and_attributes_of_your_own():
    model, seen = ByHand(), []
    model.mine = "kept"
    model.norm.register_forward_hook(lambda m, i, out: seen.append(out.shape))
    capture_attention(model, torch.randn(2, 3, 64, 64))
    assert model.mine == "kept" and model.training and seen[-1] == (2, 32)
    assert len(model.norm._forward_hooks) == 1


class Grouped(nn.Module):
    "Attention to places spread over the image, in groups of which every fourth is one"

    def __init__(self, heads=2):
        super().__init__()
        self.num_heads, self.qkv = heads, nn.Linear(32, 96)

    def forward(self, x):  # [n, 32, 8, 8]
        groups = x.unflatten(3, (4, 2)).unflatten(2, (4, 2)).permute(0, 3, 5, 2, 4, 1)
        q, k, v = (
            self.qkv(groups.reshape(-1, 16, 32)).unflatten(-1, (3, self.num_heads, -1)).unbind(2)
        )
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        mixed = ((q @ k.mT / 4).softmax(-1) @ v).transpose(1, 2).flatten(2)
        mixed = mixed.view(len(x), 2, 2, 4, 4, 32).permute(0, 5, 3, 1, 4, 2)
        return mixed.reshape(len(x), 32, 8, 8)


def test_windows_are_not_heads_where_the_layer_says_how_many_it_has():
    torch.manual_seed(0)
    wide = nn.Conv2d(32, 32, 5, padding=2)  # so that a touched pixel changes every group
    model = nn.Sequential(nn.Conv2d(3, 32, 8, 8), wide, Grouped(), nn.Flatten(), nn.LazyLinear(3))
    images = torch.randn(1, 3, 64, 64)
    model(images)
    (layout,) = capture_attention(model, images).layouts
    assert layout.heads * layout.windows == 8 and layout.role == "windows"
    if layout.keys.grid:
        assert layout.heads == 2 and layout.keys == Tokens((8, 8), window=(4, 4), dilated=True)


def test_a_layout_of_several_kinds_of_layers_can_be_declared():
    torch.manual_seed(0)
    model, images = wake_zeros(ROWS["timm PVT v2"].build()).eval(), torch.randn(1, 3, 64, 64)
    maps = capture_attention(model, images)
    with pytest.raises(UserError, match=r"declare\(model, layout=Layout\(...\), of all layers\)"):
        maps.on_grid(3)
    small = AttentionLayout(Tokens((2, 2)), heads=8)
    third = AttentionLayout(Tokens((4, 4)), Tokens((2, 2)), heads=5, role="pool")
    declared = (*maps.layouts[:2], third, small)
    declare(model, layout=Layout("pyramid", lambda args: declared))
    assert capture_attention(model, images).on_grid(3).shape == (1, 8, 2, 2)
    assert not about(model).args
    declare(model, layout=grid_layout((3, 3)))
    with pytest.raises(UserError, match="correct its layout"):
        capture_attention(model, images)


def test_bytes_are_normalised_as_the_model_says_or_refused():
    photo = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    model = ROWS["timm ViT"].build()
    known = model.pretrained_cfg
    mean, std = (torch.tensor(known[name])[:, None, None] for name in ("mean", "std"))
    assert torch.allclose(about(model).takes(photo), (photo / 255 - mean) / std, atol=1e-5)
    own = ByHand()
    with pytest.raises(UserError, match=r"declare\(model, normalise=\(mean, std\)\)"):
        capture_attention(own, photo)
    declare(own, normalise=((0.5, 0.4, 0.3), (0.2, 0.2, 0.3)))
    right = (photo / 255 - torch.tensor([0.5, 0.4, 0.3])[:, None, None]) / torch.tensor(
        [0.2, 0.2, 0.3]
    )[:, None, None]
    assert torch.allclose(about(own).takes(photo), right, atol=1e-5)
    assert as_classifier(own)(right).shape == (1, 3)


LIGHT = """
import sys, torch
from torch import nn
from vit_mnist.maps import capture_attention
class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.mix = nn.Conv2d(3, 8, 8, 8), nn.MultiheadAttention(8, 2, batch_first=True)
    def forward(self, x):
        tokens = self.embed(x).flatten(2).mT
        return self.mix(tokens, tokens, tokens)[0].mean(1)
print(capture_attention(Own(), torch.randn(1, 3, 32, 32)))
heavy = "wandb sklearn scipy pandas accelerate vit_pytorch timm matplotlib transformers"
print([name for name in heavy.split() if name in sys.modules])
"""


def test_looking_needs_nothing_that_training_needs():
    done = run_words(real_words("python", "-c", LIGHT))
    assert done.returncode == 0, done.stderr
    assert "2 heads, 16 tokens (4 x 4)" in done.stdout and done.stdout.endswith("[]\n")
