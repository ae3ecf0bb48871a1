"photos: each kind of photograph is read, rows are found in order, files of any format are bounded."

import json
import struct
from io import BytesIO

import numpy as np
import pytest
import torch
from photographs import KINDS, photograph, strip
from PIL import GifImagePlugin, Image, ImageDraw, TiffImagePlugin, WebPImagePlugin

from vit_mnist import digits, photos
from vit_mnist.core import UserError
from vit_mnist.data import load_data
from vit_mnist.digits import find_digits, prepare_digit, read_digit, read_image
from vit_mnist.model import model_input
from vit_mnist.prediction import PredictedDigit, plot_found, predict_digits
from vit_mnist.weights import load_pretrained

VALID = load_data().valid


@pytest.fixture(scope="module")
def fast():
    return load_pretrained("fast").eval()


def some(kind, count, seed=50):
    "Draw a few photographs of one kind, and say what they show"
    chosen = range(seed, seed + count)
    others = VALID.images[:50, 0].numpy()
    pictures = [
        photograph(VALID.images[i, 0].numpy(), kind, i, longest=300, others=others) for i in chosen
    ]
    return pictures, VALID.labels[list(chosen)].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_photograph_is_read(kind, fast, tmp_path):
    pictures, labels = some(kind, 3)
    seen = []
    for picture in pictures:  # through a file, as people do
        path = tmp_path / "photo.png"
        exif = picture.getexif()
        picture.save(path, exif=exif)
        seen.append(read_digit(path))
    read = fast(model_input(fast, torch.stack(seen))).argmax(1).tolist()
    assert sum(a == b for a, b in zip(read, labels)) == 3, (kind, read, labels)


def stroke(size=240):
    "Draw a seven, dark on light, `[size, size]`"
    page = Image.new("L", (size, size), 225)
    points = [(x * size, y * size) for x, y in [(0.32, 0.3), (0.66, 0.27), (0.45, 0.75)]]
    ImageDraw.Draw(page).line(points, 40, size // 16, "curve")
    return page


def grainy(page, deviation=4):
    noise = np.random.default_rng(0).normal(0, deviation, page.size[::-1])
    return (np.asarray(page) + noise).clip(0, 255)


def differs(one, other):
    "Return how far two prepared digits are apart, a pixel"
    return float((one.float() - other.float()).abs().mean())


def scenes():
    "Yield what disturbs a seven, by name; all as dark as the ink itself"
    lined, frame, round_frame, specks, creased = (stroke() for _ in range(5))
    for y in range(-10, 240, 45):
        ImageDraw.Draw(lined).line([(0, y), (240, y + 10)], 50, 5)
    ImageDraw.Draw(frame).rectangle([3, 3, 236, 235], None, 40, 8)
    ImageDraw.Draw(round_frame).rounded_rectangle([20, 20, 220, 220], 90, None, 40, 6)
    for x, y in np.random.default_rng(0).uniform(2, 236, (30, 2)):
        ImageDraw.Draw(specks).ellipse([x, y, x + 3, y + 3], 30)
    ImageDraw.Draw(creased).line([(20, 0), (160, 240)], 120, 3)
    desk = Image.new("L", (400, 380), 80)
    desk.paste(stroke(), (80, 60))
    yield from {"lines": lined, "frame": frame, "round frame": round_frame}.items()
    yield from {"specks": specks, "crease": creased, "desk": desk}.items()
    shade = np.where(np.arange(240) < 120, 1, 0.6)
    yield "shadow", Image.fromarray((np.asarray(stroke()) * shade).astype(np.uint8))
    salted, chance = np.asarray(stroke()).copy(), np.random.default_rng(1).random((240, 240))
    salted[chance < 0.06], salted[chance > 0.94] = 0, 255
    yield "salt and pepper", Image.fromarray(salted)


SCENES = dict(scenes())
SEVEN = prepare_digit(stroke())


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("light", [False, True], ids=["dark on light", "light on dark"])
def test_what_is_no_ink_is_left_out(name, light):
    gray = grainy(SCENES[name])
    clean = prepare_digit(stroke())
    assert differs(prepare_digit(255 - gray if light else gray), clean) < 15


@pytest.mark.parametrize(
    "step, name",
    [
        ("_without_noise", "strong noise"),
        ("_on_sheet", "desk"),
        ("_erase_lines", "lines"),
        ("_inside_frame", "round frame"),
    ],
)
def test_each_step_is_needed(step, name, monkeypatch):
    without = {
        "_without_noise": lambda gray: gray,
        "_on_sheet": lambda gray: (gray, (0, 0)),
        "_erase_lines": lambda *both: both,
        "_inside_frame": lambda *both: both,
    }
    picture, clean = grainy(SCENES.get(name, stroke()), 4 if name in SCENES else 70), SEVEN
    whole = differs(prepare_digit(picture), clean)
    monkeypatch.setattr(photos, step, without[step])
    assert differs(prepare_digit(picture), clean) > 2 * whole + 2


def test_a_stroke_as_straight_as_a_line_is_ink():
    page = Image.new("L", (90, 300), 220)
    ImageDraw.Draw(page).line([(45, 2), (52, 297)], 40, 14)
    seen = prepare_digit(grainy(page))[0]
    assert (seen[4:24].sum(1) > 0).all() and (seen > 0).sum() < 100


@pytest.mark.parametrize("ink, paper", [(40, 230), (235, 20)])
def test_a_stroke_that_fills_a_picture_cropped_tight_is_read_as_on_a_page(ink, paper):
    page = Image.new("L", (800, 1000), paper)
    ImageDraw.Draw(page).line([(380, 790), (420, 510), (440, 210)], ink, width=66)
    tight, seen = (prepare_digit(one).float() for one in (page.crop((340, 200, 480, 800)), page))
    apart = [(tight.roll(rows, 1) - seen).abs().mean() for rows in (-1, 0, 1)]
    assert min(apart) < 2.5  # of 255; centring rounds to a pixel


def test_colours_as_bright_as_each_other_are_told_apart():
    ink = np.asarray(stroke())[..., None] < 128
    page = np.where(ink, (60, 132, 60), (200, 60, 60)).astype(np.uint8)
    for image in (page, np.moveaxis(page, 2, 0), Image.fromarray(page)):
        assert differs(prepare_digit(image), prepare_digit(stroke())) < 15


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (250, 240, 120), (20, 40, 160)])
@pytest.mark.parametrize("opaque", [False, True], ids=["ink alone", "a sticker with round corners"])
def test_paper_is_put_behind_transparent_ink(colour, opaque):
    mask = Image.fromarray(np.where(np.asarray(stroke()) < 128, 255, 0).astype(np.uint8))
    picture = Image.new("RGBA", mask.size, (*colour, 0))
    if opaque:
        paper = tuple(255 - shade for shade in colour)
        ImageDraw.Draw(picture).rounded_rectangle([0, 0, 239, 239], 40, (*paper, 255))
    picture.paste((*colour, 255), mask=mask)
    assert differs(prepare_digit(picture), prepare_digit(stroke())) < 15


# ---- several digits


def test_digits_come_line_by_line_and_each_box_holds_its_own():
    page, at = Image.new("L", (420, 400), 230), []
    for line, xs in enumerate([(20, 160, 290), (30, 200)]):
        for x in xs:
            y = 20 + 190 * line + x // 20  # lines are not level
            page.paste(
                stroke(160).crop((30, 20, 125, 140)).point(lambda v: min(v + 5, 230)), (x, y)
            )
            at.append((x, y))
    found = find_digits(grainy(page))
    assert len(found) == 5
    for digit, (x, y) in zip(found, at):
        left, top, right, bottom = digit.box
        assert x <= left < right <= x + 95 and y <= top < bottom <= y + 120
        assert differs(digit.image, prepare_digit(stroke())) < 20


@pytest.mark.parametrize("kind, least", [("spaced", 4), ("tight", 4)])
def test_rows_are_read_whole(kind, least, fast):
    whole = 0
    for seed in range(5):
        chosen = [10 * seed + i for i in range(3 + seed)]
        image, boxes = strip(VALID.images[chosen, 0].numpy(), kind, seed, height=90)
        read = predict_digits(fast, image)
        whole += [digit.name for digit in read] == VALID.labels[chosen].tolist()
        if len(read) == len(boxes):
            off = np.abs(np.array([digit.box for digit in read]) - np.array(boxes))
            assert off.max() < 9
    assert whole >= least


def test_touching_digits_are_cut():
    page = Image.new("L", (240, 160), 230)
    pen = ImageDraw.Draw(page)
    for x in 40, 125:
        pen.ellipse([x, 30, x + 75, 130], None, 40, 12)
    pen.line([(110, 80), (130, 80)], 40, 5)  # a bridge
    found = find_digits(grainy(page))
    assert len(found) == 2 and abs(found[0].box[2] - 120) < 8 and abs(found[1].box[0] - 120) < 8


def test_a_line_is_not_cut_and_a_page_of_dots_is_refused():
    page = Image.new("L", (1200, 400), 230)
    ImageDraw.Draw(page).line([(200, 200), (1000, 200)], 40, 4)
    (way,) = photos.find_ways(np.asarray(grainy(page), np.float32))[0]
    assert len(way) == 1
    dots = Image.new("L", (800, 800), 230)
    for i in range(400):
        x, y = 40 * (i % 20) + 10, 40 * (i // 20) + 10
        ImageDraw.Draw(dots).ellipse([x, y, x + 18, y + 18], 40)
    with pytest.raises(UserError, match="more than 200 pieces of ink"):
        find_digits(dots)


@pytest.mark.parametrize("shape", [(8, 1000), (1, 500), (500, 1)])
def test_a_picture_may_be_thin(shape):
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    assert prepare_digit(noise).shape == (1, 28, 28)


@pytest.mark.parametrize("mode", ["LA", "CMYK", "P"])
def test_what_was_found_is_drawn_on_any_picture(mode, fast):
    page = stroke()
    plot_found(page.convert(mode), predict_digits(fast, page))


def test_a_picture_shows_each_box_and_what_was_read():
    shares = torch.eye(10)
    read = [
        PredictedDigit(
            "", torch.zeros(1, 28, 28), shares[i], tuple("0123456789"), box=(i, 2, i + 8, 9)
        )
        for i in (3, 5)
    ]
    assert read[0].json["box"] == [3, 2, 11, 9] and json.dumps(read[0].json)
    axis = plot_found(np.zeros((20, 30)), read).axes[0]
    assert [text.get_text() for text in axis.texts] == ["3", "5"]
    assert [box.get_bbox().bounds for box in axis.patches] == [(3, 2, 8, 7), (5, 2, 8, 7)]


# ---- formats


def saved(image, format, **options):
    file = BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


TWO = {"save_all": True, "append_images": [Image.new("L", (240, 240), 90)]}
FORMATS = {
    "webp": saved(stroke(), "WEBP", lossless=True),
    "animated webp": saved(stroke().convert("RGB"), "WEBP", **TWO),
    "tiff": saved(stroke(), "TIFF", compression="tiff_lzw"),
    "pages": saved(stroke(), "TIFF", **TWO),
    "16 bits": saved(Image.fromarray(np.asarray(stroke()).astype(np.uint16) * 257), "TIFF"),
    "gif": saved(stroke(), "GIF", **TWO),
    "cmyk": saved(stroke().convert("CMYK"), "JPEG", quality=95),
    "cmyk tiff": saved(stroke().convert("CMYK"), "TIFF"),
    "palette": saved(stroke().convert("P"), "PNG"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_any_format_is_the_same_seven(name, tmp_path):
    path = tmp_path / "digit"
    path.write_bytes(FORMATS[name])
    assert differs(read_digit(path), prepare_digit(stroke())) < 5


def test_a_large_file_is_read_at_a_part_of_its_size_and_boxes_are_its_own(tmp_path):
    stroke(2400).save(tmp_path / "large.webp")
    image, scale = read_image(tmp_path / "large.webp")
    assert max(image.size) == 1200 and scale == 2
    left, top, right, bottom = find_digits(tmp_path / "large.webp")[0].box
    for side, share in (left, 0.29), (top, 0.24), (right, 0.69), (bottom, 0.77):
        assert abs(side / 2400 - share) < 0.03


def test_heic_says_what_is_missing(tmp_path, monkeypatch):
    path = tmp_path / "photo.heic"
    path.write_bytes(struct.pack(">I", 24) + b"ftypheic" + bytes(400))
    monkeypatch.setattr(digits, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="photo.heic: a HEIC file; pip install pillow-heif"):
        read_digit(path)


def gif_blocks(content, count):
    "Put empty comments before a GIF's first picture"
    at = 13 + (3 << (content[10] & 7) + 1)
    return content[:at] + b"!\xfe\x01a\x00" * count + content[at:]


def tiff_entries(entries):
    "Make a TIFF of a list of tags alone: number, kind, count, place"
    packed = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + packed + bytes(5000)


HOSTILE = {
    "blocks": (gif_blocks(FORMATS["gif"], 10_000), "suspiciously many parts"),
    "claims": (tiff_entries([(n, 1, 5000, 8) for n in range(1000, 1100)]), "claims more"),
    "strips": (tiff_entries([(273, 4, 30_000, 8)]), "suspiciously many parts"),
    "large": (saved(Image.new("1", (6000, 5000)), "TIFF", compression="group4"), "25,000,000"),
    "wide webp": (saved(Image.new("L", (9, 5)), "WEBP"), "at least 8 each way"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_new_formats_have_bounds(name, tmp_path):
    content, words = HOSTILE[name]
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(UserError, match=words):
        read_digit(tmp_path / "file")


def test_only_the_first_picture_of_several_is_decoded(tmp_path, monkeypatch):
    seen = []
    plugins = GifImagePlugin, TiffImagePlugin, WebPImagePlugin
    for plugin, name in zip(plugins, ("Gif", "Tiff", "WebP")):
        plugin = getattr(plugin, f"{name}ImageFile")
        monkeypatch.setattr(plugin, "seek", lambda self, frame: seen.append(frame))
    for name in "gif", "pages", "animated webp":
        (tmp_path / "file").write_bytes(FORMATS[name])
        read_digit(tmp_path / "file")
    assert set(seen) <= {0}


# ---- the command


def test_split_prints_the_row_its_boxes_and_a_picture(tmp_path, script):
    image, boxes = strip(VALID.images[:4, 0].numpy(), "spaced", 3)
    image.save(tmp_path / "row.png")
    words = ["vit_mnist_predict", "fast", "row.png", "--split"]
    done = script(*words, "--json", "--out", "found.png", cwd=tmp_path, check=True)
    answer = json.loads(done.stdout)
    assert answer["text"] == " ".join(map(str, VALID.labels[:4].tolist()))
    assert [set(d) >= {"digit", "probabilities", "box"} for d in answer["digits"]] == [True] * 4
    assert np.abs(np.array([d["box"] for d in answer["digits"]]) - np.array(boxes)).max() < 9
    Image.open(tmp_path / "found.png").verify()
    done = script(*words, cwd=tmp_path, check=True)
    assert done.stdout.startswith(f"row.png: {answer['text']} (each ")
    for wrong in (
        words[:3] + ["--out", "a.png"],
        ["vit_mnist_predict", "fast", "row.png", *words[2:], "--out", "a.png"],
    ):
        done = script(*wrong, cwd=tmp_path)
        assert done.returncode == 2 and "one image" in done.stderr
