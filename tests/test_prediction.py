"Prediction: any image to a class: words and numbers by hand, both kinds of paper, pictures."

import io
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from vit_mnist import prediction
from vit_mnist.core import UserError
from vit_mnist.prediction import Prediction, plot_answers, predict
from vit_mnist.weights import load_pretrained

SEEN = torch.zeros(1, 28, 28, dtype=torch.uint8)
SEEN[0, 5:20, 12:14] = 255
STROKE = np.zeros((60, 40), dtype=np.uint8)
STROKE[10:50, 18:24] = 200


class Constant(nn.Module):
    "Answer one of three classes, with the same shares for all images"

    def __init__(self, shares):
        super().__init__()
        self.logits, self.drop = nn.Parameter(torch.tensor(shares).log()), nn.Dropout()

    def forward(self, images):
        return self.drop(self.logits).expand(len(images), -1)


def test_shares_below_one_per_cent_are_left_out_and_the_best_comes_first():
    shown = Prediction("", SEEN, torch.tensor([0.009, 0.01, 0.981]), ("bag", "shirt", "7"))
    assert repr(shown) == "7 (98.1 %), shirt (1.0 %)" and shown.name == 7
    unsure = torch.full((200,), 0.005)
    unsure[150] = 0.006
    assert repr(Prediction("", SEEN, unsure, tuple(map(str, range(200))))) == "150 (0.6 %)"


def test_json_is_rounded_to_six_digits_and_names_the_file():
    shares = torch.tensor([1 / 3, 2 / 3])
    answer = json.loads(json.dumps(Prediction("a.png", SEEN, shares, ("bag", "coat")).json))
    assert answer == {"file": "a.png", "digit": "coat", "probabilities": [0.333333, 0.666667]}


def test_a_file_standard_input_and_an_array_are_the_same_image(tmp_path, monkeypatch):
    path, model = tmp_path / "stroke.png", Constant([0.2, 0.5, 0.3]).train()
    Image.fromarray(255 - STROKE).save(path)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(path.read_bytes())))
    answers = [predict(model, source) for source in (path, "-", STROKE, 255 - STROKE)]
    assert [answer.file for answer in answers] == [str(path), "-", "", ""]
    for answer in answers:  # dark on light or light on dark
        assert torch.equal(answer.image, answers[0].image)
        assert torch.allclose(answer.probabilities, torch.tensor([0.2, 0.5, 0.3]))
        assert (answer.name, answer.classes) == (1, ("0", "1", "2"))
    assert model.training and model.drop.training


@pytest.mark.parametrize(
    "image, message", [(np.zeros((40, 40)), "no ink"), ("no.png", "no such file")]
)
def test_what_holds_no_digit_is_one_line(image, message):
    with pytest.raises(UserError, match=message):
        predict(Constant([0.5, 0.5]), image)


def test_the_image_is_above_its_bars_in_per_cent():
    shares = torch.tensor([0.2, 0.5, 0.3])
    fig = plot_answers(
        [
            Prediction("", SEEN, shares, tuple("abc")),
            Prediction("", SEEN, shares.flip(0), tuple("abc")),
        ]
    )
    above, below = fig.axes[:2], fig.axes[2:]
    assert [axis.get_title() for axis in above] == ["b (50 %)"] * 2
    assert torch.equal(torch.tensor(above[0].images[0].get_array().data), SEEN[0])
    assert above[0].images[0].cmap.name == "gray_r"  # dark ink on light paper
    heights = [[bar.get_height() for bar in axis.patches] for axis in below]
    assert heights[0] == pytest.approx([20, 50, 30]) and heights[1] == pytest.approx([30, 50, 20])
    assert [(axis.get_ylim(), axis.get_ylabel()) for axis in below] == [
        ((0, 100), "%"),
        ((0, 100), ""),
    ]


@pytest.mark.parametrize("share", [float("nan"), float("inf")])
def test_answers_that_are_no_numbers_are_no_answers(share):
    model = Constant([0.5, 0.5])
    model.logits.data[0] = share
    with pytest.raises(UserError, match="the model's answers are no numbers"):
        predict(model, STROKE)
    never = Constant([0.5, 0.0])  # a class that is ruled out is an answer
    assert predict(never, STROKE).probabilities.tolist() == [1, 0]


def test_names_of_classes_are_shown_as_text_in_words_and_pictures():
    shown = Prediction("", SEEN, torch.tensor([0.6, 0.4]), ("a\x1b[2J\n", "$x^$"))
    assert repr(shown) == r"a\x1b[2J\n (60.0 %), $x^$ (40.0 %)"
    fig = plot_answers([shown, Prediction("", SEEN, torch.tensor([0.4, 0.6]), shown.classes)])
    fig.canvas.draw()
    assert fig.axes[1].get_title() == r"\$x^\$ (60 %)"


def test_trust_is_read_once_for_all_that_is_found(monkeypatch):
    model, count = load_pretrained("fast"), []
    load_trust = prediction.load_trust
    monkeypatch.setattr(prediction, "load_trust", lambda m: count.append(1) or load_trust(m))
    page = np.full((200, 420), 230.0)
    for x in 40, 180, 320:
        page[40:160, x : x + 14] = 30
    page += np.random.default_rng(0).normal(0, 3, page.shape)
    read = prediction.predict_digits(model, page)
    assert len(read) == 3 and {each.trusted for each in read} <= {True, False} and count == [1]
    given = prediction.predict(model, page[:, :150], load_trust(model))
    assert given.trusted is not None and count == [1]
