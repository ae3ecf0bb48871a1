"Calibration: the error by hand, empty bins, an empty class, uneven batches; one rule."

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from vit_mnist.calibration import (
    best_temperature,
    calibrate,
    calibration_error,
    fit_temperature,
    plot_reliability,
    reliability,
)
from vit_mnist.core import UserError
from vit_mnist.data import Split
from vit_mnist.evaluation import Evaluation, evaluate
from vit_mnist.model import create_model, load_model, save_model, temperature_of
from vit_mnist.prediction import predict

NAMES = ("a", "b", "c", "none")  # the last class has no images
LABELS = torch.tensor([0, 0, 1, 2, 0])
SHARES = torch.tensor(
    [
        [0.7, 0.2, 0.1, 0],  # right with 0.7
        [0.1, 0.55, 0.35, 0],  # wrong with 0.55
        [0.05, 0.95, 0, 0],  # right with 0.95
        [0, 0, 1, 0],  # right with 1
        [0.3, 0.7, 0, 0],  # wrong with 0.7
    ]
)


def evaluation(shares=SHARES, labels=LABELS):
    split = Split(torch.zeros(len(labels), 1, 28, 28, dtype=torch.uint8), labels, NAMES)
    return Evaluation(split, shares, 0.5)


def test_the_error_is_the_one_computed_by_hand():
    # five bins: 0.55 lies in (0.4, 0.6]; (0.6, 0.8] holds 0.7 twice; (0.8, 1] 0.95 and 1
    table = reliability(evaluation(), bins=5)
    assert table.images.tolist() == [0, 0, 1, 2, 2]
    assert table.confidence[2:].tolist() == pytest.approx([0.55, 0.7, 0.975])
    assert table.accuracy[2:].tolist() == [0, 0.5, 1]
    assert table[["confidence", "accuracy"]][:2].isna().all(axis=None)
    by_hand = (1 * 0.55 + 2 * 0.2 + 2 * 0.025) / 5
    assert calibration_error(evaluation(), bins=5) == pytest.approx(by_hand)


def test_nothing_is_counted_twice_whatever_the_bins():
    for bins in (1, 2, 7, 10, 100):
        assert reliability(evaluation(), bins).images.sum() == 5
    certain = evaluation(torch.tensor([[1.0, 0, 0, 0]]), LABELS[:1])
    assert calibration_error(certain) == 0 and reliability(certain).images.iloc[-1] == 1


def test_shares_that_are_met_are_calibrated():
    labels = torch.tensor([0] * 3 + [1])
    shares = torch.tensor([[0.75, 0.25, 0, 0]] * 4)
    assert calibration_error(evaluation(shares, labels)) == pytest.approx(0, abs=1e-7)


def test_the_picture_shows_each_full_bin_and_the_gap():
    axis = plot_reliability(evaluation(), bins=5).axes[0]
    bars = [(p.get_x(), p.get_y(), p.get_height()) for p in axis.patches]
    wanted = [(0.4, 0, 0), (0.6, 0, 0.5), (0.8, 0, 1)]
    wanted += [(0.4, 0, 0.55), (0.6, 0.5, 0.2), (0.8, 1, -0.025)]
    assert np.allclose(bars, wanted)
    assert axis.get_title() == "Calibration error 20.0 %"
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("confidence", "accuracy")


def test_the_temperature_is_the_one_found_by_algebra():
    # of logits [x, 0] three in four are right: the best softmax gives 0.75, so x / T = log 3
    logits = torch.tensor([[5.0, 0.0]] * 4)
    labels = torch.tensor([0, 0, 0, 1])
    assert best_temperature(logits, labels) == pytest.approx(5 / math.log(3), rel=1e-3)
    assert best_temperature(logits / 10, labels) == pytest.approx(0.5 / math.log(3), rel=1e-3)
    assert 0.05 < best_temperature(logits, labels * 0) < 0.2  # always right: as cold as it gets


class Pixels(nn.Module):
    "Read four logits from the first four pixels"

    def forward(self, images):
        return images.flatten(1)[:, :4]


def split_of(n, classes=NAMES, seed=0):
    rng = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (n, 1, 28, 28), dtype=torch.uint8, generator=rng)
    return Split(images, torch.randint(0, 3, (n,), generator=rng), classes)


def test_uneven_batches_and_an_empty_class_change_nothing():
    split = split_of(103)
    temperatures = {fit_temperature(Pixels(), split, batch_size) for batch_size in (103, 50, 7, 1)}
    assert len(temperatures) == 1
    errors = {round(calibration_error(evaluate(Pixels(), split, size)), 6) for size in (103, 10)}
    assert len(errors) == 1


def test_what_can_not_be_fitted_is_one_line():
    with pytest.raises(UserError, match="no validation images"):
        fit_temperature(Pixels(), split_of(0))
    with pytest.raises(UserError, match="4 classes and the data 2"):
        fit_temperature(Pixels(), split_of(5, ("a", "b")))


def test_one_rule_holds_for_evaluate_and_predict_and_in_the_file(tmp_path):
    model = create_model("vit", size="tiny", seed=0).eval()
    split = replace(split_of(20), classes=tuple("0123456789"))
    plain, one = evaluate(model, split), predict(model, split.images[0])
    save_model(calibrate(model, 3.0), tmp_path / "model.safetensors")
    again = load_model(tmp_path)
    assert temperature_of(again) == 3
    for each in (model, again):
        hot = evaluate(each, split)
        assert torch.equal(hot.predicted, plain.predicted)
        logs = plain.probabilities.log() / 3
        assert torch.allclose(hot.probabilities, logs.softmax(1), atol=1e-6)
        wanted = (one.probabilities.log() / 3).softmax(0)
        assert torch.allclose(predict(each, split.images[0]).probabilities, wanted, atol=1e-6)
    assert torch.allclose(evaluate(calibrate(again, 1), split).probabilities, plain.probabilities)
    for wrong in (0, -1, math.nan, math.inf, 1e9):
        with pytest.raises(UserError, match="temperature must be from 0.01 to 100"):
            calibrate(model, wrong)
