"Robustness: every corruption and change does what it says; attacks stay within epsilon."

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from vit_mnist.core import UserError
from vit_mnist.data import Split, load_data
from vit_mnist.evaluation import evaluate
from vit_mnist.model import create_model, declare
from vit_mnist.robustness import corrupt, fgsm, hide_patches, list_corruptions, measure_robustness
from vit_mnist.robustness import pgd, plot_changes, plot_robustness, shifted, spread, turn_blocks
from vit_mnist.robustness import turned
from vit_mnist.weights import load_pretrained

TEST = load_data().test
DIGITS = spread(TEST, 120)
ONE = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
ONE[0, 0, 13, 12] = 200
KINDS = """shot_noise impulse_noise glass_blur motion_blur shear scale rotate brightness translate
stripe fog spatter dotted_line zigzag canny_edges""".split()
kinds = pytest.mark.parametrize("name", KINDS)
NEVER_RANDOM = {"scale", "brightness", "stripe", "canny_edges"}


def test_the_kinds_are_those_of_mnist_c():
    assert sorted(list_corruptions()) == sorted(KINDS)


@kinds
def test_severity_0_changes_nothing_and_no_severity_changes_shape_type_or_what_was_given(name):
    given = DIGITS.images.clone()
    same = corrupt(given, name, 0)
    assert torch.equal(same, given) and same.data_ptr() != given.data_ptr()
    for severity in range(1, 6):
        changed = corrupt(given, name, severity)
        assert (changed.dtype, changed.shape) == (torch.uint8, given.shape)
    assert torch.equal(given, DIGITS.images)
    assert corrupt(given[:0], name).shape == (0, 1, 28, 28)


@kinds
def test_the_seed_alone_decides_what_is_drawn(name):
    before, first = torch.get_rng_state(), corrupt(DIGITS.images, name, 4, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(5)
    assert torch.equal(corrupt(DIGITS.images, name, 4, seed=1), first)
    assert torch.equal(corrupt(DIGITS.images[:7], name, 4, seed=1), first[:7])
    other = corrupt(DIGITS.images, name, 4, seed=2)
    assert torch.equal(other, first) == (name in NEVER_RANDOM)


@kinds
@pytest.mark.parametrize("seed", [0, 7])
def test_the_mean_distance_to_the_clean_image_grows_with_severity(name, seed):
    clean = DIGITS.images.float()
    changes = [corrupt(DIGITS.images, name, s, seed).float() - clean for s in range(6)]
    for distances in (
        [change.abs().mean() for change in changes],
        [change.flatten(1).norm(dim=1).mean() for change in changes],
    ):
        assert distances[0] == 0 and all(a < b for a, b in zip(distances, distances[1:]))


def test_single_corruptions_do_what_they_are_called():
    assert corrupt(ONE, "brightness", 2)[0, 0, 0, 0] == 51  # a fifth of 255
    striped = corrupt(ONE, "stripe", 3)[0, 0]
    assert (striped[:, [0, 6, 21, 27]] == 255).all() and torch.equal(
        striped[:, 7:21], ONE[0, 0, :, 7:21]
    )
    row, column = divmod(corrupt(ONE, "translate", 4).argmax().item(), 28)
    assert (abs(row - 13), abs(column - 12)) == (4, 4)
    many = ONE.expand(500, 1, 28, 28)
    noisy = corrupt(many, "impulse_noise", 4)  # 17 % of the pixels, half of them white
    assert (noisy == 255).float().mean().item() == pytest.approx(0.085, abs=0.003)
    assert (noisy[:, 0, 13, 12] == 0).float().mean().item() == pytest.approx(0.085, abs=0.05)
    counted = corrupt(many, "shot_noise", 3)[:, 0, 13, 12].float()  # 12 photons are white
    assert counted.mean().item() == pytest.approx(195, abs=8)  # 200, but nothing above 255
    muddy = corrupt(many[:40], "spatter", 5) == 63
    assert muddy.float().mean().item() == pytest.approx(0.32, abs=0.01)
    lines = corrupt(torch.zeros_like(ONE), "dotted_line", 1)[0, 0] > 0
    assert lines.any(0).tolist() == [bool(column // 2 % 2) for column in range(28)]
    zigzag = corrupt(torch.zeros_like(ONE), "zigzag", 1)[0, 0]
    assert not zigzag[:, [0, 1, 26, 27]].any() and zigzag[:, 2:26].any(0).all()


def test_a_smear_and_a_fog_keep_what_they_must():
    smeared = corrupt(ONE, "motion_blur", 3)[0, 0].float()
    assert smeared.sum().item() == pytest.approx(200, rel=0.15)  # ink is spread, not lost
    assert smeared.argmax().item() == 13 * 28 + 12  # from where it was
    white = torch.full_like(ONE, 255)
    assert corrupt(white, "fog", 1).min() >= math.floor(0.7 * 255)


def test_edges_are_those_of_the_strokes():
    edges = corrupt(DIGITS.images, "canny_edges", 5)
    assert set(edges.unique().tolist()) == {0, 255}
    near = torch.nn.functional.max_pool2d(DIGITS.images.float(), 5, 1, 2) > 0
    assert near[edges > 0].all() and (edges > 0).flatten(1).any(1).all()


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: corrupt(DIGITS.images, "shot-noise"), "did you mean 'shot_noise'?"),
        (lambda: corrupt(DIGITS.images, "fog", 6), "from 0 to 5, not 6"),
        (lambda: corrupt(DIGITS.images, "fog", -1), "from 0 to 5, not -1"),
        (lambda: corrupt(DIGITS.images, "fog", 1.5), "whole number"),
        (lambda: corrupt(DIGITS.images / 255, "fog"), r"not float32 \[120, 1, 28, 28\]"),
        (lambda: corrupt(DIGITS.images[0], "fog"), r"not uint8 \[1, 28, 28\]"),
        (lambda: corrupt([1], "fog"), "give pixels"),
        (lambda: turned(DIGITS.images.float(), 5), "give pixels"),
        (lambda: hide_patches(DIGITS.images, 0.5, 0), "must divide"),
        (lambda: fgsm(Reader(), DIGITS.images, DIGITS.labels, 8), "8/255 for eight levels"),
        (lambda: pgd(Reader(), DIGITS.images, DIGITS.labels, -0.1), "from 0 to 1"),
        (lambda: pgd(Reader(), DIGITS.images, DIGITS.labels[:3]), "a label for each of 120"),
        (lambda: fgsm(Reader(), DIGITS.images.float(), DIGITS.labels), "changes pixels, uint8"),
        (lambda: fgsm(Reader(), DIGITS.images, DIGITS.labels), "passes no gradient"),
        (lambda: measure_robustness(Reader(), DIGITS, corruptions=["foggy"]), "mean 'fog'"),
        (lambda: measure_robustness(Reader(), DIGITS.take(0)), "no images"),
    ],
)
def test_a_mistake_is_one_line(call, words):
    with pytest.raises(UserError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_turns_and_moves_are_those_asked_for():
    assert divmod(turned(ONE, 180).argmax().item(), 28) == (14, 15)
    assert divmod(shifted(ONE, 5, -3).argmax().item(), 28) == (10, 17)
    both = shifted(torch.cat([ONE, ONE]), torch.tensor([0, 4]))
    assert [image.argmax().item() % 28 for image in both] == [12, 16]


def test_a_block_shares_an_angle_and_no_angle_is_above_the_largest():
    blob = shifted(ONE, 8, 0).expand(70, 1, 28, 28)
    blocks = turn_blocks(blob, block_size=10, most=50, seed=3).flatten(1)
    for block in blocks.split(10):
        assert (block == block[0]).all()
    assert len({tuple(image) for image in blocks[::10].tolist()}) == 7
    places = [divmod(image.argmax().item(), 28) for image in blocks[::10]]
    angles = [math.degrees(math.atan2(13.5 - row, column - 13.5)) for row, column in places]
    assert all(abs(angle) < 60 for angle in angles) and max(map(abs, angles)) > 15
    assert turn_blocks(blob[:13], 10).shape == (13, 1, 28, 28)  # the last block is not full


def test_as_many_patches_are_hidden_as_asked_for_and_stay_so():
    white = torch.full((30, 1, 28, 28), 255, dtype=torch.uint8)
    some, more = (hide_patches(white, share, 7) == 0 for share in (0.25, 0.5))
    assert (some.sum((1, 2, 3)) == 196).all() and (more.sum((1, 2, 3)) == 392).all()
    assert not (some & ~more).any() and len({tuple(m.flatten().tolist()) for m in some}) > 20
    corners = some[:, 0, ::7, ::7].repeat_interleave(7, 1).repeat_interleave(7, 2)
    assert torch.equal(some[:, 0], corners)  # whole patches


# ---- attacks


class Reader(nn.Module):
    "Read the class that is written into the first pixel; pass no gradient"

    def __init__(self, classes=10):
        super().__init__()
        self.classes, self.seen = classes, 0
        declare(self, normalise=(0.0, 1 / 255), classes=map(str, range(classes)))

    def forward(self, images):
        self.seen += len(images)
        with torch.no_grad():
            written = images[:, 0, 0, 0].round().long().clamp(0, self.classes - 1)
            return 9 * nn.functional.one_hot(written, self.classes).float()


def weighted():
    "Make a linear model with dropout whose pixels are normalised in a way of its own"
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(784, 10))
    return declare(model, normalise=(0.4, 0.05))


MODELS = {
    "fast": lambda: load_pretrained("fast"),
    "linear": weighted,
    "vit": lambda: create_model("vit", seed=0, depth=1, dim=16, heads=2, mlp_dim=16, patch_size=7),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("epsilon", [8 / 255, 0.1])
def test_attacks_stay_within_epsilon_and_pgd_is_never_the_weaker(name, epsilon):
    model, split = MODELS[name](), DIGITS.take(50)
    losses = [evaluate(model, split).loss]
    for attack in (fgsm, pgd):
        changed = attack(model, split.images, split.labels, epsilon, batch_size=32)
        assert (changed.dtype, changed.shape) == (torch.uint8, split.images.shape)
        most = (changed.int() - split.images.int()).abs().max().item()
        assert 0 < most <= 255 * epsilon + 1e-6
        losses.append(evaluate(model, replace(split, images=changed)).loss)
    assert losses[0] < losses[1] <= losses[2] * (1 + 1e-6)
    assert name == "linear" or losses[1] < losses[2]  # of a linear model FGSM is the best there is


def test_the_step_is_along_the_gradient_whatever_the_normalisation():
    model, split = weighted(), DIGITS.take(9)
    weights = model[2].weight.detach()
    inputs = (split.images.flatten(1) / 255 - 0.4) / 0.05
    shares = (inputs @ weights.T + model[2].bias.detach()).softmax(1)
    slope = (shares - nn.functional.one_hot(split.labels, 10)) @ weights
    wanted = (split.images.flatten(1) + 10 * slope.sign()).clamp(0, 255)
    found = fgsm(model, split.images, split.labels, 10 / 255).flatten(1)
    assert (found == wanted).float().mean() > 0.999  # but where the slope is all but zero


@pytest.mark.parametrize("attack", [fgsm, pgd])
def test_an_attack_leaves_the_model_as_it_was(attack):
    model = weighted().train()
    model[1].eval()  # a mode of its own
    before, state = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    with torch.inference_mode():  # as a caller may have it
        attack(model, DIGITS.images[:4], DIGITS.labels[:4])
    assert [module.training for module in model] == [True, False, True] and model.training
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_batches_of_any_size_are_attacked_alike():
    model, split = weighted(), DIGITS.take(11)
    whole = pgd(model, split.images, split.labels, steps=3)
    parts = pgd(model, split.images, split.labels, steps=3, batch_size=4)
    assert (whole != parts).float().mean() < 0.01
    assert torch.equal(fgsm(model, split.images, split.labels, 0), split.images)


# ---- the table


@pytest.fixture(scope="module")
def written():
    "Return a split whose images say their class in the first pixel, three of ten wrongly"
    labels = torch.arange(10) % 4  # a class 4 has no images
    images = torch.zeros(10, 1, 28, 28, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.cat([labels[:7], (labels[7:] + 1) % 4])
    return Split(images, labels, tuple("01234"))


def test_every_image_is_measured_once_in_each_test(written):
    model = Reader(5)
    table = measure_robustness(model, written, 10, ["brightness"], (1, 5), attacks=False)
    assert model.seen == 10 * len(table) + 1  # one image is tried first
    assert (table.images == 10).all()
    accuracy = table.set_index(["name", "strength"]).accuracy
    assert accuracy["clean", 0] == accuracy["turned", 0] == accuracy["moved", 0] == 0.7
    assert accuracy["brightness", 5] == 0  # all of them read 4, which none is
    assert {"corruption", "turned", "moved", "blocks", "hidden", "clean"} == set(table.test)


def test_a_sample_is_spread_over_the_split_without_doubles(written):
    assert spread(written, 3).labels.tolist() == written.labels[[0, 3, 6]].tolist()
    assert spread(written, 99) is written
    model = Reader(5)
    assert (measure_robustness(model, written, 7, [], attacks=False).images == 7).all()
    assert len(spread(TEST, 9_999).images) == 9_999


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda images: corrupt(images, "fog", 2.0), "whole number from 0 to 5"),
        (lambda images: turn_blocks(images, 0), "block_size must be at least 1"),
        (lambda images: hide_patches(images, 2), "share must be from 0 to 1"),
        (lambda images: hide_patches(images, -0.1), "share must be from 0 to 1"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(change, words):
    with pytest.raises(UserError, match=words):
        change(TEST.images[:3])


def test_attacks_and_pictures_of_the_table():
    table = measure_robustness(weighted(), DIGITS, 30, ["scale", "fog"], (2, 4))
    attacks = table[table.test == "attack"].pivot(index="strength", columns="name")
    assert (attacks["loss"]["pgd"] >= attacks["loss"]["fgsm"]).all()
    shown = plot_robustness(table).axes[0]
    assert [label.get_text() for label in shown.get_yticklabels()] == ["scale", "fog"]
    assert [label.get_text() for label in shown.get_xticklabels()] == ["2", "4"]
    shares = table[table.test == "corruption"].accuracy
    assert [text.get_text() for text in shown.texts] == [f"{100 * s:.0f}" for s in shares]
    curves = plot_changes(table).axes
    assert [len(axis.lines) for axis in curves] == [1, 1, 1, 2]
    (clean,) = table[table.test == "clean"].accuracy
    for line in [*curves[2].lines, *curves[3].lines]:  # these begin with the clean images
        assert (line.get_xdata()[0], line.get_ydata()[0]) == (0, pytest.approx(100 * clean))
