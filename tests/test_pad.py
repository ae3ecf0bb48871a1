"Pad: drawings as the browser sends them, a clean sheet, what is kept, and what is told back."

import json
import re

import numpy as np
import pytest
import torch

from vit_mnist.core import UserError
from vit_mnist.digits import prepare_digit
from vit_mnist.model import create_model, declare
from vit_mnist.pad import DigitPad

STROKE = np.zeros((140, 140), np.uint8)
STROKE[20:120, 60:75] = 255


@pytest.fixture
def pad():
    "Make a pad that notes in `told` what it sends to the page"
    pad = DigitPad(create_model("vit", seed=0, size="tiny").eval(), methods=["ink"])
    pad.told = []
    pad.explorer.send = lambda content, buffers=None: pad.told.append(content)
    pad.paper.send = pad.told.append
    return pad


def held(pad):
    "Read the data of the explorer's page"
    page = pad.explorer.html(images=9, script=False)
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', page)[1])


def receive(pad, content, pixels=None):
    "Let the pad get a message from the page, as ipywidgets hands it on"
    buffers = [] if pixels is None else [memoryview(pixels.tobytes())]
    pad.paper._handle_custom_msg(content, buffers)


def test_a_drawing_is_shown_as_the_model_sees_it_and_a_clean_sheet_is_empty(pad):
    pad.draw(STROKE)
    kept = pad.keep()
    pad.explorer.image = 1
    receive(pad, {"drawing": 140, "empty": False}, STROKE.T.copy())
    assert torch.equal(pad.image, prepare_digit(STROKE.T))
    assert torch.equal(pad.explorer.images[0], pad.image) and pad.explorer.image == 0
    assert pad.told[-1] == {"seen": True}  # so that the page sends the next one
    receive(pad, {"drawing": 140, "empty": True})
    assert pad.image is None and not pad.explorer.images[0].any()
    assert torch.equal(pad.explorer.images[1], kept)


def test_kept_drawings_are_counted_and_named(pad):
    pad.draw(STROKE)
    for count in 1, 2:
        receive(pad, {"keep": True})
        assert repr(pad) == f"DigitPad: {count} drawings kept"
    assert torch.equal(pad.keep(label=7), prepare_digit(STROKE))
    images = held(pad)["images"]
    said = int(pad.explorer.probs.argmax())
    names = [f"{said} (drawing 1)", f"{said} (drawing 2)", "7 (drawing 3)"]
    assert [image["title"] for image in images] == ["drawing", *names]
    assert [image["label"] for image in images] == [None, None, None, 7]


def test_drawings_for_a_model_without_classes_are_numbered():
    one = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 1)).eval()
    pad = DigitPad(declare(one, normalise=(0.13, 0.31)), methods=["ink"])
    pad.draw(STROKE)
    pad.keep()
    with pytest.raises(UserError, match="labels must be a class from 0 to 1, not"):
        pad.keep(label=12)
    assert [image["title"] for image in held(pad)["images"]] == ["drawing", "drawing 1"]


def test_nothing_to_keep_is_told_to_the_page_which_may_go_on(pad):
    receive(pad, {"keep": True})
    assert pad.told == [{"problem": "nothing is drawn yet"}, {"seen": True}]
    assert len(pad.explorer.images) == 1


def test_options_reach_the_explorer(pad):
    data = held(pad)
    assert [method["name"] for method in data["methods"]] == ["ink"]
    assert data["title"] == "What the model makes of it"
    assert pad.children == (pad.paper, pad.explorer)


def test_an_output_names_paper_and_explorer_and_holds_no_view(pad):
    data, _ = pad._repr_mimebundle_()
    assert set(data) == {"text/plain", "text/html", "image/png"}
    for name in (pad.paper._name, pad.explorer._name):
        assert data["text/html"].count(f'data-widget="{name}"') == 1


def test_the_still_picture_says_what_is_on_the_sheet_and_what_to_do(pad):
    for image, sheet in (None, "over an empty sheet, a row"), (STROKE, "over the image drawing, a"):
        pad.draw(image)
        page = pad._repr_mimebundle_()[0]["text/html"]
        still, _ = page.split('<script type="application/json">', 1)
        assert sheet in re.search('alt="([^"]+)"', still)[1]
        assert "run this cell first</b> (Shift + Enter), then draw." in still
    page = pad.explorer._repr_mimebundle_()[0]["text/html"]
    assert "(Shift + Enter), then click." in page


def test_an_output_keeps_what_had_been_drawn_when_it_was_made(pad):
    pad.draw(STROKE)
    output = pad._repr_mimebundle_()[0]["text/html"]
    drawn = held(pad)["images"][0]["pixels"]
    pad.draw(STROKE.T)
    assert drawn in output and held(pad)["images"][0]["pixels"] not in output
