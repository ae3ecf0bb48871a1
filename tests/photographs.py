"""Digits as telephones photograph them, drawn: one function for each kind, the same for one seed.

`photograph(digit, kind, seed)` returns what a file would hold, a PIL image; `strip(digits, kind,
seed)` a row of several digits and where each stands. They serve tests and benchmarks/photos.py.
"""

from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

SHADES = ["clean", "gradient", "shadow", "vignette", "perspective", "heavy JPEG", "inverted"]
PENS = ["thin pen", "ballpoint", "felt pen", "pencil", "equal brightness"]
PLACES = ["at the border", "small on the page", "cropped tight", "neighbour", "turned by EXIF"]
PAPERS = ["lined", "squared", "frame", "desk", "crease", "specks", "salt and pepper", "noise"]
KINDS = [*SHADES, *PENS, *PLACES, "transparent", *PAPERS, "mixed"]
DRAWN = 1000  # pixels of the longer side at most; larger photographs are enlarged from that
STRIPS = ["spaced", "tight", "touching"]


def mask(digit, side, rng, turn=15):
    "Enlarge a digit, turn it, and make its edges as sharp as a pen's: `[side, side]`, 0 to 1"
    large = Image.fromarray(np.pad(digit, 4)).resize((side, side), Image.Resampling.BICUBIC)
    large = np.asarray(large.rotate(rng.uniform(-turn, turn), Image.Resampling.BICUBIC), float)
    return np.clip((large / 255 - 0.3) / 0.35, 0, 1)


def pen(shape, width):
    "Make a stroke thinner (or, above 1, thicker), by its distance to the edge"
    inside = ndimage.distance_transform_edt(shape > 0.5)
    outside = ndimage.distance_transform_edt(shape <= 0.5)
    ridge = inside[inside == ndimage.maximum_filter(inside, 3)]
    half = np.median(ridge[ridge > 0.5]) if (ridge > 0.5).any() else 1
    if width >= 1:
        return np.clip(half * (width - 1) - outside + 1, 0, 1)
    kept = inside >= (1 - width) * np.minimum(
        ndimage.maximum_filter(inside, int(2 * half) + 1), half
    )
    return ndimage.gaussian_filter(np.where(kept & (inside > 0), shape, 0), 0.6)


def smooth_noise(size, scale, rng):
    "Make a soft pattern of deviation 1, `[height, width]`"
    few = rng.normal(size=(max(2, size[1] // scale), max(2, size[0] // scale)))
    return np.asarray(
        Image.fromarray(few.astype(np.float32)).resize(size, Image.Resampling.BICUBIC)
    )


def ruled(size, rng, squared):
    "Draw the lines of a writing pad: darkness from 0 to 1, `[height, width]`"
    side = max(size)
    wide, gap = max(1, round(side * rng.uniform(0.002, 0.007))), side * rng.uniform(0.1, 0.35)
    page = Image.new("L", (2 * side, 2 * side))
    lines = ImageDraw.Draw(page)
    for at in np.arange(rng.uniform(0, gap), 2 * side, gap):
        lines.line([(0, at), (2 * side, at)], 255, wide)
        if squared:
            lines.line([(at, 0), (at, 2 * side)], 255, wide)
    page = page.rotate(rng.normal(0, 2), Image.Resampling.BICUBIC)
    left, top = (2 * side - size[0]) // 2, (2 * side - size[1]) // 2
    return np.asarray(page.crop((left, top, left + size[0], top + size[1])), float) / 255


def framed(size, rng):
    "Draw the frame of a sudoku's or a form's cell: darkness from 0 to 1, `[height, width]`"
    side, around = min(size), Image.new("L", size)
    wide, inset = max(1, round(side * rng.uniform(0.006, 0.04))), side * rng.uniform(0, 0.08)
    box = [inset, inset, size[0] - 1 - inset, size[1] - 1 - inset]
    ImageDraw.Draw(around).rectangle(box, None, 255, wide)
    turned = around.rotate(rng.normal(0, 1.5), Image.Resampling.BICUBIC)
    return np.asarray(turned, float) / 255, 2 * (wide + inset) / side


def creased(size, rng):
    "Shade a fold that runs across the page at any angle: darkness from -0.3 to 1"
    y, x = np.mgrid[: size[1], : size[0]]
    angle, side = rng.uniform(0, np.pi), max(size)
    middle = np.array(size) * rng.uniform(0.3, 0.7, 2)
    away = ((x - middle[0]) * np.sin(angle) - (y - middle[1]) * np.cos(angle)) / side
    wide = rng.uniform(0.002, 0.012)
    return np.exp(-((away / wide) ** 2)) - 0.3 * np.exp(-(((away - 2 * wide) / wide) ** 2)), away


def put(page, shape, left, top):
    "Lay a shape on a page where it is darker, over the edge too"
    high, wide = shape.shape
    x, y = max(0, left), max(0, top)
    right, bottom = min(page.shape[1], left + wide), min(page.shape[0], top + high)
    if right > x and bottom > y:
        part = shape[y - top : bottom - top, x - left : right - left]
        page[y:bottom, x:right] = np.maximum(page[y:bottom, x:right], part)


def box_of(shape):
    rows, columns = np.flatnonzero((shape > 0.5).any(1)), np.flatnonzero((shape > 0.5).any(0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def written(digit, kind, size, rng, others, room=0.0):
    "Write a digit somewhere on an empty page: ink from 0 to 1, `[height, width]`"
    low, high = {"small on the page": (0.12, 0.25), "cropped tight": (0.9, 1)}.get(
        kind, (0.35, 0.8)
    )
    high = min(high, 0.85 - room)
    short = min(size)
    tall = int(short * rng.uniform(min(low, high - 0.1), high))
    whole = mask(digit, max(36, int(tall * 36 / 20)), rng)
    if kind in ("thin pen", "ballpoint", "pencil"):
        whole = pen(whole, rng.uniform(0.35, 0.6))
    if kind == "felt pen":
        whole = pen(whole, rng.uniform(1.3, 1.7))
    left, top, right, bottom = box_of(whole)
    shape, ink = whole[top:bottom, left:right], np.zeros(size[::-1])
    if kind == "cropped tight":
        margin = int(rng.integers(0, 4))
        return np.pad(shape, margin)
    free = size[0] - shape.shape[1], size[1] - shape.shape[0]
    spare = [max(1, int(short * (room or 0.02) / (2 if room else 1)))] * 2
    x, y = (int(rng.integers(min(s, f // 2), max(f - s, f // 2) + 1)) for f, s in zip(free, spare))
    if kind == "at the border":
        side = rng.integers(4)
        x, y = [(0, y), (free[0], y), (x, 0), (x, free[1])][side]
    put(ink, shape, x, y)
    if kind == "neighbour":
        other = mask(others[int(rng.integers(len(others)))], len(whole), rng)
        start, t, r, b = box_of(other)
        other, seen = other[t:b, start:r], int(rng.uniform(0.15, 0.4) * (r - start))
        if rng.random() < 0.5 and x > seen + 0.05 * short:
            put(ink, other, seen - (r - start), y + int(rng.normal(0, 0.05) * short))
        elif size[0] - x - shape.shape[1] > seen + 0.05 * short:
            put(ink, other, size[0] - seen, y + int(rng.normal(0, 0.05) * short))
    return ink


COLOURS = [(30, 30, 40), (25, 40, 120), (150, 30, 40), (20, 90, 60), (60, 50, 50)]


def lit(size, kind, rng):
    "Make the light on a page, around 1, `[height, width]`"
    y, x = np.mgrid[: size[1], : size[0]].astype(np.float32) / max(size)
    angle = rng.uniform(0, 2 * np.pi)
    along = x * np.cos(angle) + y * np.sin(angle)
    light = np.ones(size[::-1], np.float32)
    if kind in ("gradient", "mixed", "lined", "squared", "crease", "frame", "desk"):
        light -= rng.uniform(0.1, 0.35) * (along - along.min()) / np.ptp(along)
    if kind == "shadow" or (kind == "mixed" and rng.random() < 0.4):
        edge = along - rng.uniform(0.3, 0.7) * np.ptp(along) - along.min()
        light *= 1 - rng.uniform(0.2, 0.45) / (
            1 + np.exp(-edge / rng.uniform(0.003, 0.03)).clip(0, 1e9)
        )
    if kind == "vignette":
        away = (x - x.max() / 2) ** 2 + (y - y.max() / 2) ** 2
        light *= 1 - rng.uniform(0.3, 0.6) * away / away.max()
    return light


def on_desk(paper, rng):
    "Lay a photographed sheet, `[height, width, 3]`, on a darker or lighter table"
    high, wide = paper.shape[:2]
    around = rng.uniform(0.08, 0.3, 4)
    full = int(wide * (1 + around[0] + around[1])), int(high * (1 + around[2] + around[3]))
    wood = np.array([rng.uniform(30, 150)] * 3) * [1, rng.uniform(0.7, 1), rng.uniform(0.5, 1)]
    stripes = smooth_noise((full[0], full[1]), max(4, full[0] // 12), rng)[..., None]
    desk = wood + 6 * stripes + rng.normal(0, 3, (full[1], full[0], 1))
    sheet, cover = np.zeros_like(desk), Image.new("L", full)
    left, top = int(wide * around[0]), int(high * around[2])
    sheet[top : top + high, left : left + wide] = paper
    cover.paste(255, (left, top, left + wide, top + high))
    turn = rng.normal(0, 4)
    sheet = Image.fromarray(sheet.clip(0, 255).astype(np.uint8)).rotate(
        turn, Image.Resampling.BICUBIC
    )
    cover = np.asarray(cover.rotate(turn, Image.Resampling.BICUBIC), float)[..., None] / 255
    return desk * (1 - cover) + np.asarray(sheet, float) * cover


def tilted(image, rng):
    "See a page from the side"
    w, h = image.size
    a = rng.uniform(0, 0.14, 4) * min(w, h)
    corners = (a[0], a[1], a[2] / 2, h - a[3], w - a[1], h - a[0] / 2, w - a[3], a[2])
    return image.transform(image.size, Image.Transform.QUAD, corners, Image.Resampling.BICUBIC)


def transparent(ink, rng):
    "Make ink on nothing: dark, light or coloured"
    colour = [(0, 0, 0), (255, 255, 255), (250, 240, 120), (20, 40, 160)][int(rng.integers(4))]
    picture = Image.new("RGBA", ink.shape[::-1], (*colour, 0))
    picture.putalpha(Image.fromarray((255 * ink).astype(np.uint8)))
    return picture


def colours(kind, rng):
    "Choose paper and ink, three shades each"
    paper = rng.uniform(205, 250) * np.array([1, rng.uniform(0.97, 1), rng.uniform(0.9, 1)])
    ink = np.array(COLOURS[int(rng.integers(len(COLOURS)))], float)
    if kind == "pencil":
        ink = paper * rng.uniform(0.45, 0.65)
    if kind == "ballpoint":
        ink = np.array([40, 55, 140]) + rng.normal(0, 12, 3)
    if kind == "equal brightness":
        pairs = [(220, 60, 60), (60, 149, 60), (70, 122, 250), (166, 90, 166), (120, 120, 20)]
        paper, ink = (np.array(pairs[i], float) for i in rng.permutation(len(pairs))[:2])
    return paper, ink


def photograph(
    digit,  # `uint8`, `[28, 28]`
    kind,  # one of `KINDS`
    seed,  # decides all that is random
    longest=600,  # the most pixels of the longer side; the least are 200
    others=None,  # digits for a neighbour to be made of
):  # a PIL image as it was saved
    "Draw a digit as it is photographed"
    rng = np.random.default_rng(seed)
    side = int(np.exp(rng.uniform(np.log(200), np.log(longest))))
    scale, side = max(1, side / DRAWN), min(side, DRAWN)
    size = side, int(side * rng.uniform(0.75, 1.0))
    size = size if rng.random() < 0.5 else size[::-1]
    around, room = framed(size, rng) if kind == "frame" else (0, 0)
    ink = written(digit, kind, size, rng, [digit] if others is None else others, room)
    size = ink.shape[::-1]
    if kind == "transparent":
        picture = transparent(ink, rng)
        return picture.resize([round(scale * n) for n in size], Image.Resampling.BICUBIC)
    return photographed(ink, kind, rng, around, scale)


def photographed(ink, kind, rng, around=0, scale=1):
    "Photograph ink, `[height, width]`, on paper of some kind"
    size = ink.shape[::-1]
    paper, colour = colours(kind, rng)
    if kind in ("ballpoint", "pencil"):
        ink = ink * np.clip(0.85 + 0.12 * smooth_noise(size, 4, rng), 0.4, 1)
    page = np.broadcast_to(paper, (*ink.shape, 3)) + 2 * smooth_noise(size, 3, rng)[..., None]
    rules = {"lined": (False,), "squared": (True,), "mixed": (rng.random() < 0.5,)}
    if kind in rules and (kind != "mixed" or rng.random() < 0.6):
        strength = ruled(size, rng, *rules[kind])[..., None]
        shade = paper * rng.uniform(0.4, 0.85) * [1, 1, rng.uniform(1, 1.2)]
        page = page + strength * (shade - page)
    if kind == "frame":
        page = page + around[..., None] * (rng.uniform(20, 120) - page)
    page = page + ink[..., None] * (colour - page)
    light = lit(size, kind, rng)[..., None]
    if kind == "crease":
        fold, away = creased(size, rng)
        light = light * (1 - rng.uniform(0.2, 0.45) * fold - 0.06 * (away > 0))[..., None]
    page = page * light
    if kind == "specks":
        dots, count = np.zeros(ink.shape), int(rng.integers(10, 60))
        for _ in range(count):
            r = max(0.8, max(size) * rng.uniform(0.001, 0.006))
            y, x = np.mgrid[-int(r) - 1 : int(r) + 2, -int(r) - 1 : int(r) + 2]
            at = [int(rng.integers(0, n)) for n in size]
            put(dots, (y**2 + x**2 <= r**2).astype(float), *at)
        page = page + dots[..., None] * (rng.uniform(20, 90) - page)
    if kind == "desk":
        page = on_desk(page, rng)
    if kind != "salt and pepper":
        soft = rng.uniform(0.3, 0.002 * max(size) + 0.5)
        page = ndimage.gaussian_filter(page, (soft, soft, 0))
    if scale > 1:
        page = Image.fromarray(page.clip(0, 255).astype(np.uint8))
        size = [round(scale * n) for n in page.size]
        page = np.asarray(page.resize(size, Image.Resampling.BICUBIC), np.float32)
    grain = rng.uniform(25, 45) if kind == "noise" else rng.uniform(0, 4)
    page = page + grain * rng.standard_normal((*page.shape[:2], 1), np.float32)
    if kind == "salt and pepper":
        chance = rng.random(page.shape[:2])
        share = rng.uniform(0.005, 0.04)
        page[chance < share], page[chance > 1 - share] = 0, 255
    page = page.clip(0, 255)
    if kind == "inverted" or (kind in ("mixed", "noise", "specks") and rng.random() < 0.4):
        page = 255 - page
    image = Image.fromarray(page.astype(np.uint8))
    if kind != "equal brightness" and rng.random() < 0.3:
        image = image.convert("L")
    return saved(tilted(image, rng) if kind == "perspective" else image, kind, rng)


def saved(image, kind, rng):
    "Save a picture as JPEG and open it again; a telephone held sideways says so"
    file, exif = BytesIO(), Image.Exif()
    if kind == "turned by EXIF":
        exif[0x0112], turn = [(3, 180), (6, 90), (8, 270)][int(rng.integers(3))]
        image = image.rotate(turn, expand=True)
    quality = int(rng.integers(8, 15) if kind == "heavy JPEG" else rng.integers(60, 95))
    image.save(file, "JPEG", quality=quality, exif=exif)
    return Image.open(file)


def strip(
    digits,  # `uint8`, `[n, 28, 28]`
    kind,  # one of `STRIPS`
    seed,  # decides all that is random
    height=120,  # pixels, about
):  # a PIL image, and the box of each digit: left, top, right, bottom
    "Write digits in a row on a photographed page"
    rng = np.random.default_rng(seed)
    shapes = []
    for digit in digits:
        whole = mask(digit, int(height * rng.uniform(0.9, 1.1)), rng, turn=5)
        left, top, right, bottom = box_of(whole)
        shapes.append(whole[top:bottom, left:right])
    low, high = {"spaced": (0.12, 0.4), "tight": (0.02, 0.06), "touching": (-0.06, 0.04)}[kind]
    boxes, at = [], int(height * 0.4)
    for shape in shapes:
        top = int(height * rng.uniform(0.35, 0.45)) + (int(height * 0.6) - shape.shape[0]) // 2
        boxes.append((at, top, at + shape.shape[1], top + shape.shape[0]))
        at += shape.shape[1] + int(height * rng.uniform(low, high))
    ink = np.zeros((int(height * 1.4), at + int(height * 0.4)))
    for shape, (left, top, *_) in zip(shapes, boxes):
        put(ink, shape, left, top)
    paper = ["clean", "gradient", "inverted", "lined"][int(rng.integers(4))]
    return photographed(ink, paper, rng), boxes
