"Element: attention packed and unpacked again, images and text as a page holds them, refusals."

import base64
import json
import re

import pytest
import torch
from torch import nn

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
from vit_mnist.maps import capture_attention
from vit_mnist.model import create_model

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
    assert not re.findall(r"""(?:src|href)=["'](?!data:)|@import|url\(""", page)
    (held,) = re.findall(r'<script type="application/json">(.*?)</script>', page)
    assert json.loads(held) == json.loads(json.dumps(data)) and json.loads(held)["title"] == title
    assert page.count("<title>a &lt;b&gt; &amp; &lt;/script&gt;</title>") == 1
    still = element_html(data, picture=b"png", script=False)
    assert f'src="data:image/png;base64,{base64.b64encode(b"png").decode()}"' in still
    assert "module" in page and "module" not in still
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
