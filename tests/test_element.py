"Element: attention packed and unpacked again, images and text as a page holds them, refusals."

import base64
import json
import re

import pytest
import timm
import torch
from torch import nn

from vit_mnist import element
from vit_mnist.core import UserError
from vit_mnist.data import load_data
from vit_mnist.element import (
    element_html,
    explorer_data,
    image_facts,
    image_result,
    method_facts,
    method_map,
    model_facts,
    pack_rows,
    page_html,
    query_rows,
)
from vit_mnist.explanation import explain, list_methods
from vit_mnist.maps import capture_attention
from vit_mnist.methods import METHODS
from vit_mnist.model import about, create_model

IMAGES = load_data().test.images[:2]


@pytest.fixture(scope="module")
def model():
    return create_model("max_vit", seed=0, size="tiny").eval()  # windows, and a border of pixels


def test_packed_attention_unpacks_to_the_shares_the_model_computed(model):
    result, packed = image_result(model, IMAGES[:1], model_facts(model, IMAGES))
    maps = capture_attention(model, IMAGES[:1])
    rows = [query_rows(maps, layer)[1][0] for layer in range(len(maps))]
    sizes = [part[..., 0].numel() for part in rows]
    scales, codes = packed[: 4 * sum(sizes)], packed[4 * sum(sizes) :]
    scales = torch.frombuffer(bytearray(scales), dtype=torch.float32).split(sizes)
    codes = torch.frombuffer(bytearray(codes), dtype=torch.uint8).split([r.numel() for r in rows])
    for part, scale, code in zip(rows, scales, codes, strict=True):
        shares = code.view(part.shape) / 255 * scale.view(*part.shape[:-1], 1)
        assert ((shares - part).abs() <= part.amax(-1, keepdim=True) / 509).all()
    assert torch.allclose(torch.tensor(result["probs"]), maps.logits[0].softmax(0))


def test_the_largest_share_of_a_row_is_255_steps():
    codes, scales = pack_rows(torch.tensor([[0.5, 0.25, 0], [0.001, 0.0005, 0.001]]))
    assert codes.tolist() == [[255, 128, 0], [255, 128, 255]]
    assert scales.tolist() == pytest.approx([0.5, 0.001])


def test_maps_of_a_model_with_a_border_are_on_pixels(model):
    facts, (gradient, ink) = model_facts(model, IMAGES), method_facts(model, ["gradient", "ink"])
    assert facts["pad"] == 2 and [gradient["targets"], ink["targets"]] == [True, False]
    assert method_map(model, IMAGES[:1], facts, gradient).shape == (10, 28, 28)
    assert method_map(model, IMAGES[:1], facts, ink).shape == (1, 28, 28)
    assert method_facts(model, ["input_x_gradient"])[0]["title"] == "Input x gradient"


def test_values_have_units_and_attention_its_uniform_share(model):
    names = [name for name in METHODS if name not in ("random", "centre")]
    fit = [name for name in names if name in list_methods(model, IMAGES)]
    assert all(method["unit"][0].isupper() for method in method_facts(model, fit))
    (attention,) = method_facts(model, ["attention"])
    assert attention["share"] and not method_facts(model, ["occlusion"])[0]["share"]
    maps = capture_attention(model, IMAGES[:1])
    uniform = [1 / attention.probs.shape[-1] for attention in maps]
    assert [layer["uniform"] for layer in model_facts(model, IMAGES)["layers"]] == uniform


def test_images_are_gray_bytes_floats_stretched_from_black_to_white():
    floats = torch.tensor([[[[-1.0, 0], [1, 3]]]])
    (facts,) = image_facts(floats, labels=torch.tensor([1]), classes=("bag", "coat"))
    assert list(base64.b64decode(facts["pixels"])) == [0, 64, 128, 255]
    assert (facts["title"], facts["label"], facts["side"]) == ("coat", 1, [2, 2])
    (dim,) = image_facts((50 + floats).byte(), titles=["mine"])
    assert list(base64.b64decode(dim["pixels"])) == [49, 50, 51, 53]  # bytes stay what they are
    assert (dim["title"], dim["label"]) == ("mine", None)


def test_a_page_holds_its_data_and_asks_for_nothing_else(model):
    title = "a <b> & </script>"
    data = explorer_data(model, IMAGES, [7, 2], title=title, methods=["ink"])
    page = page_html(data)
    linked = page.replace('<a href="https://', "")  # a link asks for nothing until it is pressed
    assert not re.findall(r"""(?:src|href)=["'](?!data:)|@import|url\(""", linked)
    (held,) = re.findall(r'<script type="application/json">(.*?)</script>', page)
    assert json.loads(held) == json.loads(json.dumps(data)) and json.loads(held)["title"] == title
    assert page.count("<title>a &lt;b&gt; &amp; &lt;/script&gt;</title>") == 1
    still = element_html(data, picture=b"png", script=False)
    assert f'src="data:image/png;base64,{base64.b64encode(b"png").decode()}"' in still
    assert "module" in page and "module" not in still
    assert (
        f'<img alt="What {data["name"]} attends to over the image 7, a row for each layer' in still
    )
    assert "What is seen: on the left the image in patches" in page and ">vit_mnist</a>" in page
    with pytest.raises(ValueError, match="not JSON compliant"):
        element_html({**data, "results": float("nan")})


def test_an_answer_that_is_not_finite_is_refused():
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    model[1].bias.data[3] = torch.inf
    facts = model_facts(model, IMAGES)
    assert (facts["layers"], facts["pad"], facts["classes"]) == ([], 0, list("0123456789"))
    assert facts["note"].startswith("Sequential has no attention that can be captured")
    with pytest.raises(UserError, match="Sequential gives numbers that are not finite"):
        image_result(model, IMAGES[:1], facts)


def own(**kwargs):
    "Make a small model of timm for images of 48 x 64"
    torch.manual_seed(0)
    args = {"img_size": (48, 64), "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3}
    return timm.create_model("vit_tiny_patch16_224", **{**args, "num_classes": 5, **kwargs}).eval()


def test_photographs_keep_their_colours_and_proportions_in_few_bytes():
    pixels = torch.randint(256, (1, 3, 48, 64), dtype=torch.uint8)
    (facts,) = image_facts(pixels)
    assert base64.b64decode(facts["pixels"]) == pixels[0].movedim(0, 2).numpy().tobytes()
    assert (facts["side"], facts["shape"], facts["drawing"]) == ([48, 64], [48, 64, 3], False)
    model = own()
    normalised = about(model).takes(pixels)
    assert image_facts(normalised, known=about(model))[0]["pixels"] == facts["pixels"]
    (large,) = image_facts(torch.zeros(1, 3, 400, 1200, dtype=torch.uint8))
    assert (large["side"], large["shape"]) == ([400, 1200], [128, 384, 3])
    (gray,) = image_facts(torch.zeros(1, 1, 40, 80, dtype=torch.uint8))  # too large for a digit
    assert (gray["shape"], gray["drawing"]) == ([40, 80, 1], False)


def test_what_a_large_model_leaves_out_is_means_of_what_it_computed(monkeypatch):
    model, image = own(), torch.randn(1, 3, 48, 64)
    assert [layer["block"] for layer in model_facts(model, image)["layers"]] == [None, None]
    monkeypatch.setattr(element, "_patch_bytes", 1600)
    facts, maps = model_facts(model, image), capture_attention(model, image)
    assert [layer["block"] for layer in facts["layers"]] == [2, 2]
    assert (
        "over blocks of 2 x 2 patches in layers 0 to 1" in explorer_data(model, image)["left_out"]
    )
    _, packed = image_result(model, image, facts)
    sizes = [3 * 2, 3 * 4] * 2  # by head the class token and the mean; blocks of patches
    cells = [48, 12] * 2
    scales = torch.frombuffer(bytearray(packed[: 4 * sum(sizes)]), dtype=torch.float32)
    codes = torch.frombuffer(bytearray(packed[4 * sum(sizes) :]), dtype=torch.uint8)
    parts = zip(scales.split(sizes), codes.split([n * m for n, m in zip(sizes, cells)]), cells)
    rows = [scale[:, None] * code.view(-1, n) / 255 for scale, code, n in parts]
    for layer, (named, patches) in enumerate([rows[:2], rows[2:]]):
        named = named.view(3, 2, 6, 8)
        assert torch.allclose(named[:, 0], maps.on_grid(layer, "cls")[0], atol=1e-4)
        assert torch.allclose(named[:, 1], maps.on_grid(layer, "mean")[0], atol=1e-4)
        both = [maps.on_grid(layer, (row, column))[0] for row in (2, 3) for column in (6, 7)]
        block = torch.stack(both).mean((0, 1))[:2, 4:6].mean()
        assert torch.allclose(patches[1 * 4 + 3, 0 * 4 + 2], block, atol=1e-4)


def test_of_many_classes_the_likely_ones_and_the_true_one_are_explained():
    model, image = own(num_classes=40), torch.randn(1, 3, 48, 64)
    facts = model_facts(model, image)
    logits = model(image)[0].detach()
    unlikely = int(logits.argmin())
    methods = method_facts(model, ["relevance"], image)
    result, _ = image_result(model, image, facts, methods=methods, label=unlikely)
    assert result["shown"] == [*logits.topk(5).indices.tolist(), unlikely]
    assert result["maps"]["relevance"]["classes"] == result["shown"]
    alone = explain(model, image, "relevance", unlikely, tokens=True)[1][0].flatten()
    assert torch.allclose(torch.tensor(result["maps"]["relevance"]["values"][5]), alone, rtol=1e-2)


def test_a_model_without_logits_shows_its_attention_and_one_output_its_sigmoid():
    silent, image = own(num_classes=0), torch.randn(1, 3, 48, 64)
    silent.forward = silent.forward_features
    data = explorer_data(silent, image)
    assert "returns no logits" in data["note"] and data["classes"] == []
    assert [method["name"] for method in data["methods"]] == ["attention", "rollout"]
    result, attention = image_result(silent, image, data, methods=data["methods"])
    assert result["probs"] is None and attention and result["maps"]["rollout"]["grid"] == [6, 8]
    one = own(num_classes=1)
    data = explorer_data(one, image, [1])
    result, _ = image_result(one, image, data, methods=data["methods"])
    assert result["probs"] == pytest.approx(one(image).sigmoid()[0].tolist())
    assert (data["classes"], data["images"][0]["title"]) == (["output"], "1")
    with pytest.raises(UserError, match=r"labels must be a class from 0 to 1, not \[2\]"):
        explorer_data(one, image, [2])
    with pytest.raises(UserError, match="returns no logits"):
        explorer_data(nn.Conv2d(3, 3, 1), image)


def test_registers_are_queries_each_by_itself():
    model, image = own(reg_tokens=3), torch.randn(1, 3, 48, 64)
    names, rows = query_rows(capture_attention(model, image), 1)
    assert names == ["cls", "register", "register 1", "register 2", "register 3"]
    assert torch.allclose(rows[:, :, 2:5].mean(2), rows[:, :, 1], atol=1e-6)


def test_labels_and_titles_are_as_many_as_images():
    for wrong in {"labels": [1]}, {"titles": ["a"]}:
        with pytest.raises(UserError, match="one for each of the 2 images"):
            image_facts(IMAGES, **wrong)
