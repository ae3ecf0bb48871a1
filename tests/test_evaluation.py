"Evaluation: counts, shares and pictures of four images by hand; what may not be written."

import json
import math

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba
from torch import nn

from vit_mnist.core import UserError
from vit_mnist.data import Split
from vit_mnist.evaluation import Evaluation, evaluate, plot_confusion, plot_mistakes

IMAGES = torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 1, 28, 28)
SPLIT = Split(IMAGES, torch.tensor([0, 0, 1, 2]), ("a", "b", "c", "none"))
SHARES = torch.tensor([[0.7, 0.2, 0.1, 0], [0.1, 0.6, 0.3, 0], [0.5, 0.4, 0.1, 0], [0, 0, 1, 0]])


@pytest.fixture
def evaluation():
    return Evaluation(SPLIT, SHARES, 0.5)


def test_every_number_is_the_one_counted_by_hand(evaluation):
    assert evaluation.mistakes.tolist() == [1, 2]  # the true class got 10 %, then 40 %
    metrics = json.loads(json.dumps(evaluation.metrics))
    assert (metrics["accuracy"], metrics["right"], metrics["loss"]) == (0.5, 2, 0.5)
    assert metrics["confusion"] == [[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    rows = {name: list(row.values()) for name, row in metrics["per_class"].items()}
    assert rows == {
        "a": [0.5, 0.5, 0.5, 2],
        "b": [0, 0, 0, 1],
        "c": [1, 1, 1, 1],
        "none": [None, None, None, 0],
    }
    html = evaluation._repr_html_()
    assert "<td>0.5000</td>" in html and html.count("<td>\u2013</td>") == 3  # not "NaN"


@pytest.mark.parametrize("confidence, z", [(0.95, 1.959964), (0.99, 2.575829)])
def test_the_interval_is_wilsons(evaluation, confidence, z):
    half = z * (0.25 / 4 + z**2 / 64) ** 0.5 / (1 + z**2 / 4)  # around one half, of four images
    assert evaluation.interval(confidence) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-6)
    assert "50.00 % of 4 images right (95 % interval by Wilson: 15.00 to 85.00 %)" in repr(
        evaluation
    )


def test_mistakes_alone_are_coloured_and_all_counts_are_written(evaluation):
    axis, bar = plot_confusion(evaluation).axes
    (shown,) = axis.images
    assert shown.get_array().mask.tolist() == np.eye(4, dtype=bool).tolist()  # the right have none
    assert (shown.get_clim(), shown.cmap.name) == ((0, 1), "cividis")  # the more, the brighter
    written = {text.get_position(): (text.get_text(), text.get_color()) for text in axis.texts}
    correct, mistaken = ("1", "black"), ("1", "black")
    assert written == {(0, 0): correct, (1, 0): mistaken, (0, 1): mistaken, (2, 2): correct}
    labels = axis.get_xlabel(), axis.get_ylabel(), bar.get_ylabel()
    assert labels == ("predicted class", "true class", "mistakes")
    assert axis.get_xticklabels()[0].get_rotation() == 90  # "none" is long


def luminance(colour):
    "WCAG's relative luminance of a colour, 0 to 1"
    values = np.array(colour[:3])
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_frequent_mistakes_are_named_and_every_count_can_be_read():
    counts = np.diag([90, 90, 90, 90])
    counts[0, 1], counts[3, 2], counts[2, 0], counts[1, 3] = 9, 4, 2, 1
    labels, predicted = (
        torch.tensor(np.repeat(each.ravel(), counts.ravel())) for each in np.indices((4, 4))
    )
    split = Split(torch.zeros(len(labels), 1, 28, 28, dtype=torch.uint8), labels, tuple("abcd"))
    shares = torch.nn.functional.one_hot(predicted, 4).float()
    axis = plot_confusion(Evaluation(split, shares, 0.5)).axes[0]
    often = "Most often: a as b (9), d as c (4), c as a (2)"
    assert axis.get_title() == f"16 mistakes in 376 images\n{often}"
    (shown,) = axis.images
    for text in axis.texts:
        column, row = text.get_position()
        on_map = shown.to_rgba(shown.get_array())[row, column]
        fill = luminance(axis.get_facecolor() if row == column else on_map)
        ink = luminance({"black": (0, 0, 0), "white": (1, 1, 1)}[text.get_color()])
        assert (max(ink, fill) + 0.05) / (min(ink, fill) + 0.05) > 4.5, (row, column)
    assert len(axis.texts) == 8


def test_without_a_mistake_the_colours_still_begin_at_0():
    perfect = Evaluation(SPLIT.take(1), SHARES[:1], 0.5)
    (shown,) = plot_confusion(perfect).axes[0].images
    assert not shown.get_array().any() and shown.get_clim() == (0, 1)


@pytest.mark.parametrize("classes", [2, 20, 21])
def test_counts_are_written_for_up_to_20_classes_and_no_colour_means_right(classes):
    labels = torch.arange(classes).repeat_interleave(classes)  # each is once said to be each
    split = Split(torch.zeros(classes**2, 1, 28, 28), labels, tuple(map(str, range(classes))))
    shares = torch.eye(classes).repeat(classes, 1)
    axis = plot_confusion(Evaluation(split, shares, 0.5)).axes[0]
    assert len(axis.texts) == (classes**2 if classes <= 20 else 0)
    assert axis.images[0].get_clim() == (0, 1) and axis.get_facecolor() == to_rgba("lightgray")


def test_the_worst_mistake_comes_first_with_both_classes(evaluation):
    fig = plot_mistakes(evaluation, n=1)
    assert fig._suptitle.get_text() == "The worst 1 of 2 mistakes"
    assert fig.axes[0].get_title() == "a, predicted b\n60 %"
    assert fig.axes[0].images[0].get_array().max() == 1 and not fig.axes[1].images


@pytest.mark.parametrize("mistakes, rows", [(0, 1), (10, 1), (11, 2), (30, 2)])
def test_mistakes_stand_in_rows_of_ten(mistakes, rows):
    split = Split(torch.zeros(30, 1, 28, 28, dtype=torch.uint8), torch.zeros(30).long(), ("a", "b"))
    wrong = torch.arange(30) < mistakes
    fig = plot_mistakes(Evaluation(split, torch.stack([~wrong, wrong], 1).float(), 0.5))
    assert len(fig.axes) == 10 * rows
    assert sum(len(axis.images) for axis in fig.axes) == min(mistakes, 20)
    assert not any(axis.axison for axis in fig.axes)


def test_names_of_many_classes_are_small_and_stand_upright():
    names = tuple(map(str, range(36)))  # of one and two letters: these need not be turned
    split = Split(torch.zeros(36, 1, 28, 28, dtype=torch.uint8), torch.arange(36), names)
    axis = plot_confusion(Evaluation(split, torch.eye(36), 0.5)).axes[0]
    label = axis.get_xticklabels()[0]
    assert (label.get_rotation(), label.get_fontsize()) == (0, 5) and not axis.texts


def test_a_model_in_training_is_evaluated_and_goes_on_training():
    model = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(784, 4)).train()
    model[2].weight.data.zero_()
    model[2].bias.data = torch.tensor([3.0, 1, 1, 1]).log()
    result = evaluate(model, SPLIT, batch_size=3)
    assert torch.allclose(
        result.probabilities, torch.tensor([0.5, 1 / 6, 1 / 6, 1 / 6]).expand(4, 4)
    )
    assert result.loss == pytest.approx((2 * 0.693147 + 2 * 1.791759) / 4, abs=1e-5)
    assert model.training and model[1].training


def test_a_folder_that_is_a_file_is_one_line_and_stays_as_it_is(evaluation, tmp_path):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(UserError, match="can't write to .*file.*name a folder"):
        evaluation.save(tmp_path / "file")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["kept"]


class Fixed(nn.Module):
    "Give the same logits to every image"

    def __init__(self, *logits):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, images):
        return self.logits.expand(len(images), -1)


def few(*classes):
    return Split(torch.zeros(4, 1, 28, 28, dtype=torch.uint8), torch.tensor([0, 1, 0, 1]), classes)


def test_answers_that_are_no_numbers_are_refused_and_a_class_ruled_out_is_valid_json(tmp_path):
    for value in math.nan, math.inf:
        with pytest.raises(UserError, match="the model's answers are no numbers"):
            evaluate(Fixed(0.0, value), few("a", "b"))
    evaluate(Fixed(0.0, -math.inf), few("a", "b")).save(tmp_path)  # its loss is infinite
    text = (tmp_path / "metrics.json").read_text()
    metrics = json.loads(text, parse_constant=lambda word: 1 / 0)
    assert metrics["loss"] is None and metrics["accuracy"] == 0.5


def test_names_of_classes_are_shown_as_text_in_tables_and_pictures():
    evaluation = evaluate(Fixed(0.0, 1.0), few("$x^$", "a\x1b[2J\n"))
    assert list(evaluation.per_class.index) == ["$x^$", r"a\x1b[2J\n"]
    matrix, mistakes = plot_confusion(evaluation), plot_mistakes(evaluation)
    for fig in matrix, mistakes:
        fig.canvas.draw()
    labels = [each.get_text() for each in matrix.axes[0].get_xticklabels()]
    assert labels == [r"\$x^\$", r"a\x1b[2J\n"]
    assert mistakes.axes[0].get_title().startswith(r"\$x^\$, predicted a\x1b[2J\n")
