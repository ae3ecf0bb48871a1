"lr_finder: rates grow evenly, losses are smoothed and watched by hand, the picture shows them."

from dataclasses import replace

import pytest
import torch

from vit_mnist import lr_finder
from vit_mnist.data import batches, load_data
from vit_mnist.lr_finder import find_lr, plot_lr, suggest_lr
from vit_mnist.settings import Settings

DATA = load_data()
FEW = replace(DATA, train=DATA.train.take(40))
TINY = dict(patch_size=14, dim=16, depth=1, heads=2, dim_head=8, mlp_dim=16)
SETTINGS = Settings(model_args=TINY, batch_size=16, device="cpu")


def pretend(monkeypatch, losses):
    "Let training give these losses; return what it is called with"
    calls = []

    def step(run, forward, images, labels, weight):
        rates = {group["lr"] for each in run.optimizers for group in each.param_groups}
        calls.append((rates, forward.training, images, labels, weight))
        run.loss = torch.tensor(losses[len(calls) - 1])

    monkeypatch.setattr(lr_finder, "train_step", step)
    return calls


def smoothed(losses):
    "Weigh each loss nine tenths of the next"
    weights = [0.9**age for age in reversed(range(len(losses)))]
    return sum(w * loss for w, loss in zip(weights, losses)) / sum(weights)


@pytest.mark.parametrize("end, count", [(1.0, 8), (60.0, 6), (float("nan"), 6), (float("inf"), 6)])
def test_the_search_ends_when_the_loss_is_four_times_its_best(monkeypatch, end, count):
    losses = [2.0, 1.5, 1.0, 1.2, 4.0, end, 1.0, 1.0]
    calls = pretend(monkeypatch, losses)
    rates, found, suggestion = find_lr(SETTINGS, FEW, low=1e-4, high=1e3, steps=8)
    assert rates == pytest.approx([1e-4 * 10**i for i in range(count)])
    assert found == pytest.approx([smoothed(losses[: i + 1]) for i in range(count)], nan_ok=True)
    assert suggestion == pytest.approx(0.1 / 3) and len(calls) == count  # of the fourth step
    for rate, (set_rates, training, images, labels, weight) in zip(rates, calls):
        assert list(set_rates) == pytest.approx([rate]) and training and weight == 1
        assert images.dtype == torch.uint8 and len(images) == len(labels)


def test_few_images_come_again_in_another_order_and_augmented(monkeypatch):
    calls = pretend(monkeypatch, [1.0] * 6)
    find_lr(SETTINGS, FEW, steps=6)
    assert [len(call[3]) for call in calls] == [16, 16, 8] * 2  # 40 images, twice
    epochs = [torch.cat([call[3] for call in calls[i : i + 3]]) for i in (0, 3)]
    for epoch, labels in enumerate(epochs):  # as in a run with the settings' seed
        order = [part for _, part in batches(FEW.train, 16, seed=0, epoch=epoch)]
        assert torch.equal(labels, torch.cat(order))
    assert not torch.equal(*epochs)
    originals = {image.numpy().tobytes() for image in FEW.train.images}
    assert not originals & {image.numpy().tobytes() for call in calls for image in call[2]}


def test_the_rate_of_the_settings_does_not_matter_the_seed_does_and_nothing_else_changes():
    state, before = torch.get_rng_state(), FEW.train.images.clone()
    searches = [(0.004, 0), (0.004, 0), (0.5, 0), (0.004, 1)]
    found = [find_lr(replace(SETTINGS, lr=lr, seed=s), FEW, steps=4) for lr, s in searches]
    assert found[0] == found[1] and found[0][1] == pytest.approx(found[2][1], rel=1e-4)
    assert found[0][1] != pytest.approx(found[3][1], rel=1e-4)
    assert torch.equal(torch.get_rng_state(), state) and torch.equal(FEW.train.images, before)


@pytest.mark.parametrize("suggestion", [None, 0.0123])
def test_the_picture_shows_the_loss_by_rate_and_marks_a_suggestion(suggestion):
    rates, losses = [0.01, 0.1, 1.0], [2.0, 1.5, 6.0]
    axis = plot_lr(rates, losses, suggestion).axes[0]
    curve, *marks = axis.lines
    assert (list(curve.get_xdata()), list(curve.get_ydata())) == (rates, losses)
    assert axis.get_xscale() == "log" and axis.get_yscale() == "linear"
    assert axis.get_ylim() == pytest.approx((1.4, 2.6))  # where it falls, not where it explodes
    assert (axis.get_xlabel(), axis.get_title()) == ("learning rate", "Learning rate finder")
    legend = axis.get_legend() and [text.get_text() for text in axis.get_legend().get_texts()]
    assert [list(mark.get_xdata()) for mark in marks] == ([[0.0123] * 2] if suggestion else [])
    assert legend == (["suggestion: 0.01"] if suggestion else None)


def test_the_suggestion_is_a_third_of_the_first_lowest():
    assert suggest_lr([3.0, 6.0, 9.0], [2.0, 1.0, 1.0]) == 2
