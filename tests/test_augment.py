"augment: single points go where geometry says, draws stay within their limits, images are kept."

import math

import pytest
import torch

from vit_mnist.augment import Augment, bending, rotation, scaling, shearing, shifting, warp
from vit_mnist.core import make_generator
from vit_mnist.data import load_data


def point(row, column):
    "Draw one white pixel; the centre of the image is at row 13.5, column 13.5"
    image = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    image[0, 0, row, column] = 255
    return image


def by(value):
    "Make a tensor of one number"
    return torch.tensor([float(value)])


@pytest.mark.parametrize(
    "matrix, place",
    [
        (rotation(by(90)), (7, 10)),  # 6.5 right and 3.5 up of the centre: then -3.5 and 6.5
        (rotation(by(180)), (17, 7)),
        (shearing(by(2 / 3.5)), (10, 22)),  # 3.5 above the centre, so 2 to the right
        (shifting(by(-4), by(5)), (15, 16)),
    ],
)
def test_a_point_goes_where_it_must(matrix, place):
    moved = warp(point(10, 20), matrix)
    assert divmod(moved.argmax().item(), 28) == place
    assert moved.max() >= 250 and moved.dtype == torch.uint8


def test_scaling_is_about_the_centre_and_what_comes_from_outside_is_background():
    large = warp(point(14, 13), scaling(by(3)))[0, 0]
    assert divmod(large.argmax().item(), 28) == (15, 12)  # half a pixel from the centre, then 1.5
    white = torch.full((1, 1, 28, 28), 255, dtype=torch.uint8)
    assert not warp(white, shifting(by(28), by(0))).any()
    half = warp(white, scaling(by(0.5)))[0, 0]
    assert (half[8:20, 8:20] == 255).all() and not half[:6].any() and not half[:, 22:].any()


def test_each_image_has_its_own_matrix():
    images = torch.cat([point(10, 20)] * 2)
    moved = warp(images, shifting(torch.tensor([0.0, 3]), torch.tensor([0.0, 0])))
    assert [image.argmax().item() % 28 for image in moved] == [20, 23]


def test_knots_move_by_what_they_are_told_and_pixels_follow_right_and_down():
    knots = torch.randn(2, 2, 7, 7, generator=make_generator(0, "augment"))
    moves = bending(knots)  # 27 pixels from the first knot to the last: every other one is a pixel
    torch.testing.assert_close(moves[..., ::9, ::9], knots[..., ::2, ::2])
    assert bending(knots, side=14).shape == (2, 2, 14, 14)
    right = torch.tensor([2.0, -1])[None, :, None, None].expand(1, 2, 28, 28)
    assert divmod(warp(point(10, 20), scaling(by(1)), right).argmax().item(), 28) == (9, 22)


def test_draws_fill_their_limits_and_stay_within():
    augment = Augment(rotate=20.0, scale=0.5, shear=0.0, shift=3.0)
    matrices = augment.matrices(4000, make_generator(0, "augment"))
    factor = matrices[:, 0, :2].norm(dim=1)
    turned = torch.rad2deg(torch.atan2(matrices[:, 0, 1], matrices[:, 0, 0]))
    pixels = 14 * matrices[:, :2, 2]
    for values, limit in (factor.log(), math.log(1.5)), (turned, 20), (pixels, 3):
        assert values.abs().max() <= limit * 1.0001 and abs(values.mean()) < 0.05 * limit
        assert values.max() > 0.99 * limit and values.min() < -0.99 * limit
    slanted = Augment(rotate=0, scale=0, shear=0.3, shift=0).matrices(4000, torch.Generator())
    assert 0.297 < slanted[:, 0, 1].abs().max() <= 0.3
    torch.testing.assert_close(torch.linalg.det(slanted), torch.ones(4000))  # areas are kept


def test_bends_have_the_deviation_asked_for_and_the_images_given_stay_as_they_are(monkeypatch):
    seen = []
    monkeypatch.setattr("vit_mnist.augment.warp", lambda *given: seen.append(given))
    black, bend = torch.zeros(500, 1, 28, 28, dtype=torch.uint8), Augment(elastic=1.5)
    bend(black, make_generator(0, "augment"))
    assert seen[0][2][..., ::9, ::9].std() == pytest.approx(1.5, rel=0.05)
    Augment()(black, make_generator(0, "augment"))
    assert seen[1][2] is None  # nothing bends unless that is asked for
    monkeypatch.undo()
    digits = load_data().test.images[:8]
    before = digits.clone()
    first, again = (bend(digits, make_generator(4, "augment")) for _ in range(2))
    assert torch.equal(first, again) and torch.equal(digits, before)
    assert not torch.equal(first, digits)
