"digits: a foreign digit becomes MNIST's whatever its paper, its shade and its file are."

import zlib
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from vit_mnist import digits
from vit_mnist.core import UserError
from vit_mnist.data import load_data
from vit_mnist.digits import MIN_SIDE, image_files, prepare_digit, read_digit

DIGITS = load_data().test.images[:8, 0].numpy().astype(float)


def page(height, width, top, left, rows, columns):
    "Draw a full rectangle, 255 on 0"
    picture = np.zeros((height, width))
    picture[top : top + rows, left : left + columns] = 255
    return picture


@pytest.mark.parametrize("rows, columns, box", [(40, 20, (20, 10)), (12, 60, (4, 20))])
def test_a_rectangle_fits_twenty_pixels_and_its_centre_is_in_the_middle(rows, columns, box):
    ink = prepare_digit(page(150, 170, 9, 70, rows, columns))[0]
    ys, xs = ink.nonzero().T
    assert (ys.max() - ys.min() + 1, xs.max() - xs.min() + 1) == box
    assert ink.unique().tolist() == [0, 255] and (ink > 0).sum() == box[0] * box[1]
    assert abs(ys.double().mean() - 14) <= 0.5 and abs(xs.double().mean() - 14) <= 0.5


def test_the_centre_of_mass_counts_and_not_the_middle_of_the_box():
    heavy = page(100, 100, 10, 10, 40, 4) + page(100, 100, 46, 14, 4, 30)  # an L
    ink = prepare_digit(heavy)[0].double()
    for axis in (0, 1):
        centre = (torch.arange(28.0).double() @ ink.sum(1 - axis)) / ink.sum()
        assert abs(centre - 14) <= 0.5


@pytest.mark.parametrize(
    "change",
    [
        lambda x: 255 - x,  # dark on light
        lambda x: 40 + 0.5 * x,  # pale
        lambda x: x / 255,  # on another scale
        lambda x: 1000 + x + np.linspace(0, 300, 28),  # uneven light
        lambda x: np.pad(x, ((30, 5), (0, 60))),  # a larger page
    ],
)
def test_paper_light_and_place_do_not_matter(change):
    for digit in DIGITS:
        plain, other = prepare_digit(digit), prepare_digit(change(digit))
        assert (plain.int() - other.int()).abs().max() <= 1


def test_colour_first_colour_last_and_transparent_paper_are_the_same_picture():
    dark = (255 - DIGITS[0]).astype(np.uint8)
    expected = prepare_digit(dark)
    ink = Image.new("RGBA", (28, 28), (0, 0, 0, 0))  # transparent black, as tablets save it
    ink.putalpha(Image.fromarray(255 - dark))
    forms = dark[None], np.stack([dark] * 3), np.stack([dark] * 3, 2), torch.from_numpy(dark), ink
    for form in forms:
        assert (prepare_digit(form).int() - expected.int()).abs().max() <= 1
    blue = np.stack([dark, dark, np.full_like(dark, 255)], 2)  # ink of one colour
    assert (prepare_digit(blue).int() - expected.int()).abs().max() <= 2


@pytest.mark.parametrize("wrong", [np.full((9, 9), np.nan), np.zeros((0, 9)), np.zeros(9)])
def test_what_is_no_picture_is_refused_in_one_line(wrong):
    with pytest.raises(UserError, match="an image must be finite pixels") as told:
        prepare_digit(wrong)
    assert "\n" not in str(told.value) and str(list(wrong.shape)) in str(told.value)


def test_a_file_of_the_least_size_is_read_and_a_smaller_one_is_refused_by_name(tmp_path):
    for side in (MIN_SIDE, MIN_SIDE - 1):
        small = page(side, side, 2, 3, 4, 2).astype(np.uint8)
        Image.fromarray(small).save(tmp_path / f"{side}.png")
    assert read_digit(tmp_path / "8.png").sum() == 20 * 10 * 255
    with pytest.raises(UserError, match="7.png: 7 x 7 pixels, and a digit needs at least 8 each"):
        read_digit(tmp_path / "7.png")


@pytest.mark.parametrize("gray, kept", [(23, False), (28, True)])  # of 255: a tenth is the border
def test_what_is_too_faint_to_be_ink_is_paper(gray, kept):
    clean = page(100, 100, 30, 30, 40, 20)
    smudged = np.maximum(clean, gray / 255 * page(100, 100, 30, 60, 40, 10))
    assert torch.equal(prepare_digit(smudged), prepare_digit(clean)) != kept


def test_limits_of_size_are_the_last_that_is_allowed(tmp_path, monkeypatch):
    path = tmp_path / "digit.png"
    Image.fromarray(page(20, 10, 2, 3, 9, 4).astype(np.uint8)).save(path)
    limits = {"MAX_BYTES": path.stat().st_size, "MAX_PIXELS": 200}
    for name, limit in limits.items():
        monkeypatch.setattr(digits, name, limit)
        assert read_digit(path).any()
        monkeypatch.setattr(digits, name, limit - 1)
        with pytest.raises(UserError, match="digit.png: .*more than"):
            read_digit(path)
        monkeypatch.undo()


def test_a_file_whose_name_looks_like_a_pattern_stands_for_itself(tmp_path):
    for name in ("a[1].png", "a1.png", "b.jpeg", "no.gif"):
        (tmp_path / name).touch()
    assert image_files(f"{tmp_path}/a[1].png") == [f"{tmp_path}/a[1].png"]
    assert image_files(str(tmp_path)) == [
        f"{tmp_path}/{n}" for n in ("a1.png", "a[1].png", "b.jpeg")
    ]


def png_chunk(kind, content=b""):
    return len(content).to_bytes(4) + kind + content + zlib.crc32(kind + content).to_bytes(4)


def test_a_file_of_too_many_parts_is_refused_before_they_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(digits, "MAX_PARTS", 50)
    stroke, file = Image.fromarray(255 - page(60, 60, 10, 27, 40, 6).astype(np.uint8)), BytesIO()
    stroke.save(file, "PNG")
    png, file = file.getvalue(), BytesIO()
    stroke.save(file, "JPEG")
    jpeg, path, own = file.getvalue(), tmp_path / "digit", png.count(b"IDAT") + 2
    own_segments = jpeg[: jpeg.index(b"\xff\xda")].count(b"\xff") - 1
    cases = [(png[:33], png_chunk(b"abCd"), png[33:], own)]
    for part in b"\xff\xfe\x00\x02", b"\xff\xe1\x00\x08Exif\0\0", b"\xff", b"\xff\x00":
        cases.append((jpeg[:2], part, jpeg[2:], own_segments + 1))
    for start, part, end, own in cases:
        path.write_bytes(start + part * (50 - own - 1) + end)
        assert read_digit(path).any()
        path.write_bytes(start + part * 51 + end)
        with pytest.raises(UserError, match="a file of suspiciously many parts"):
            read_digit(path)


def test_the_passes_of_several_pictures_in_one_file_are_counted_too(tmp_path):
    file, two = BytesIO(), dict(save_all=True, append_images=[Image.new("L", (9, 9))])
    Image.new("L", (300, 300)).save(file, "MPO", progressive=True, **two)
    whole = file.getvalue()
    end = whole.index(b"\xff\xd9")
    last = whole[whole.rindex(b"\xff\xda", 0, end) : end]
    (tmp_path / "many.jpg").write_bytes(whole[:end] + last * 1000 + whole[end:])
    with pytest.raises(UserError, match="many.jpg: a JPEG of suspiciously many passes"):
        read_digit(tmp_path / "many.jpg")


def test_the_name_of_a_file_moves_no_cursor(tmp_path):
    for name in "a\x1b[2J.png", "a\u202e.png", "a\n.png":
        (tmp_path / name).write_bytes(b"no image")
        with pytest.raises(UserError) as told:
            read_digit(tmp_path / name)
        assert str(told.value).isprintable()
    with pytest.raises(UserError) as told:
        read_digit("a" * 10**6)
    assert len(str(told.value)) <= 1000
