"""Malformed images and hostile saved models: as many as wanted, the same ones for the same seed.

`images` and `models` go round their kinds; within a kind, chance decides what is wrong. Most of
them must be refused, and some may be read after all: a changed byte may not matter.
"""

import json
import os
import random
import struct
import zlib
from functools import cache
from io import BytesIO

import numpy as np
from PIL import Image

# ---- images


def chunk(kind, content, length=None):
    "Make a chunk of a PNG, with its right checksum and perhaps a wrong length"
    length = len(content) if length is None else length
    return (
        struct.pack(">I", length) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    )


def chunks(png):
    "List the chunks of a whole PNG: kind and content"
    found, at = [], 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        found.append((png[at + 4 : at + 8], png[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def joined(parts):
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def header(width, height, depth=8, colour=0, *rest):
    return b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, *(rest or (0, 0, 0)))


def stroke(side=64):
    "Draw a stroke, dark on light"
    pixels = np.full((side, side), 255, np.uint8)
    pixels[side // 5 : -side // 5, side // 2 - 3 : side // 2 + 3] = 0
    return Image.fromarray(pixels)


def encoded(image, format="PNG", **options):
    file = BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def whole_files():
    "Return good files of many kinds, for others to be made of"
    image = stroke()
    modes = [encoded(image.convert(mode)) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")]
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a digit"
    jpegs = [encoded(image, "JPEG"), encoded(image.convert("CMYK"), "JPEG")]
    jpegs += [encoded(image, "JPEG", progressive=True), encoded(image, "JPEG", exif=exif)]
    two = dict(save_all=True, append_images=[image])
    return [*modes, *jpegs, encoded(image, "MPO", **two), encoded(image, **two)]


WHOLE = whole_files()


def changed(rng):
    content = bytearray(rng.choice(WHOLE))
    for _ in range(rng.choice([1, 3, 20, 200])):
        content[rng.randrange(len(content))] = rng.randrange(256)
    return content


def cut(rng):
    content = rng.choice(WHOLE)
    return content[: rng.randrange(len(content))]


def spliced(rng):
    one, other = rng.choice(WHOLE), rng.choice(WHOLE)
    at, to = rng.randrange(len(one)), rng.randrange(len(other))
    return one[:at] + rng.randbytes(rng.choice([0, 1, 50])) + other[to:]


def noise(rng):
    start = rng.choice([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"\xff\xd8\xff\xe1\xff\xff"])
    return start + rng.randbytes(rng.choice([0, 1, 100, 100_000]))


def declared(rng):
    "A PNG whose header declares something else than its pixels"
    sizes = [0, 1, 7, 8, 64, 4999, 65_535, 2**31 - 1, 2**32 - 1]
    depth, colour = rng.choice([0, 1, 2, 4, 8, 16, 255]), rng.choice([0, 1, 2, 3, 4, 6, 255])
    rest = rng.choice([(0, 0, 0), (0, 0, 1), (1, 0, 0), (0, 5, 0), (0, 0, 255)])
    parts = [header(rng.choice(sizes), rng.choice(sizes), depth, colour, *rest)]
    return joined(parts + chunks(rng.choice(WHOLE[:7]))[1:])


def shuffled(rng):
    "A PNG whose chunks are missing, doubled, in another order or of another length"
    parts = chunks(rng.choice([WHOLE[3], WHOLE[5], WHOLE[-1]]))
    extra = [b"tRNS", b"PLTE", b"eXIf", b"acTL", b"fcTL", b"fdAT", b"gAMA", b"cHRM", b"pHYs"]
    parts += [(kind, rng.randbytes(rng.randrange(60))) for kind in rng.sample(extra, 3)]
    rng.shuffle(parts)
    parts = parts[: rng.randrange(len(parts) + 1)] + rng.sample(parts, 2)
    if rng.random() < 0.3:
        parts[-1] += (rng.choice([0, 2**31 - 1, 2**32 - 1]),)
    first = [header(64, 64, 8, rng.choice([0, 3, 6]))] if rng.random() < 0.7 else []
    return joined(first + parts)


@cache
def packed_zeros(megabytes):
    packer = zlib.compressobj()
    return b"".join(packer.compress(bytes(2**20)) for _ in range(megabytes)) + packer.flush()


def unfolding(rng):
    "A PNG of a few kilobytes that unfolds into a gigabyte"
    packed = packed_zeros(rng.choice([30, 200, 1000]))
    forms = [(b"IDAT", b""), (b"iCCP", b"a\0\0"), (b"zTXt", b"a\0\0"), (b"iTXt", b"a\0\1\0\0\0")]
    kind, start = rng.choice(forms)
    size = rng.choice([(64, 64), (4999, 4999), (25_000, 1000), (100_000, 100_000)])
    colour = rng.choice([0, 2, 6])
    return joined([header(*size, 8, colour), (kind, start + packed)] + chunks(WHOLE[1])[1:])


def many_parts(rng):
    n = rng.choice([1000, 30_000, 300_000])
    if rng.random() < 0.5:
        empty = chunk(rng.choice([b"tEXt", b"IDAT", b"abCd"]), rng.choice([b"", b"a\0b"])) * n
        return WHOLE[1][:33] + empty + WHOLE[1][33:]
    empty = rng.choice(
        [b"\xff", b"\xff\x00", b"\xff\xd0", b"\xff\xfe\x00\x02", b"\xff\xe1\x00\x08Exif\0\0"]
    )
    return WHOLE[7][:2] + empty * n + WHOLE[7][2:]


def segments(rng):
    "A JPEG with segments of chance among its own"
    content = bytearray(rng.choice(WHOLE[7:12]))
    for _ in range(rng.choice([1, 5])):
        kind = rng.choice(
            [0xC0, 0xC2, 0xC4, 0xCC, 0xDB, 0xDD, 0xDA, 0xE0, 0xE1, 0xE2, 0xED, 0xEE, 0xFE]
        )
        start = rng.choice(
            [b"", b"Exif\0\0II*\0\x08\0\0\0", b"MPF\0MM\0*\0\0\0\x08", b"ICC_PROFILE\0\1\xff"]
        )
        inside = start + rng.randbytes(rng.choice([0, 6, 40, 3000]))
        length = rng.choice([len(inside) + 2] * 4 + [0, 1, 65_535])
        content[2:2] = bytes([0xFF, kind]) + struct.pack(">H", length) + inside
    return content


def resized(rng):
    "A JPEG that declares another size"
    content = bytearray(rng.choice(WHOLE[7:12]))
    at = next(
        i for i in range(len(content)) if content[i] == 0xFF and content[i + 1] in (0xC0, 0xC2)
    )
    sizes = [0, 1, 7, 8, 500, 4999, 65_535]
    content[at + 5 : at + 9] = struct.pack(">HH", rng.choice(sizes), rng.choice(sizes))
    return content


@cache
def progressive(format, side):
    more = dict(save_all=True, append_images=[stroke()]) if format == "MPO" else {}
    return encoded(Image.new("L", (side, side), 255), format, progressive=True, **more)


def passes(rng):
    "A progressive JPEG, or the first picture of an MPO, of many passes"
    whole = progressive(rng.choice(["JPEG", "MPO"]), rng.choice([100, 2000]))
    end = whole.index(b"\xff\xd9")
    last = whole[whole.rindex(b"\xff\xda", 0, end) : end]
    return whole[:end] + last * rng.choice([5, 100, 3000]) + whole[end:]


def exif(rng):
    "A JPEG or a PNG with an EXIF of chance"
    count = rng.choice([1, 12, 65_535])
    kinds, entries = [0x0112, 0x8769, 0x8825, 0xA005, 0x927C, rng.randrange(65_536)], b""
    for _ in range(rng.randrange(1, 40)):
        counted, where = rng.choice([1, 2**31]), rng.choice([1, 6, 8, 2**32 - 1])
        entries += struct.pack("<HHII", rng.choice(kinds), rng.randrange(14), counted, where)
    tiff = b"II*\0" + struct.pack("<IH", 8, count) + entries + struct.pack("<I", rng.choice([0, 8]))
    if rng.random() < 0.5:
        inside = b"Exif\0\0" + tiff
        return (
            WHOLE[7][:2] + b"\xff\xe1" + struct.pack(">H", len(inside) + 2) + inside + WHOLE[7][2:]
        )
    return WHOLE[1][:33] + chunk(b"eXIf", tiff) + WHOLE[1][33:]


def disguised(rng):
    "Another kind of file by the name of an image"
    starts = [b"%PDF-1.7\n", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"PK\3\4", b"\x1f\x8b\x08", b"\x7fELF"]
    starts += [b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"<!doctype html>", b"8BPS\0\1"]
    starts += [b"\x80\x04\x95", b"#!/bin/sh\n", "Ünï\u202ecode\x1b[2J".encode(), b"\0\0\0\x0cjP  "]
    if rng.random() < 0.5:
        return encoded(stroke(), rng.choice(["GIF", "BMP", "TIFF", "PPM", "ICO", "WEBP", "PCX"]))
    return rng.choice(starts) + rng.randbytes(rng.choice([0, 200]))


@cache
def empty_page(mode, size):
    return encoded(Image.new(mode, size))


def blank(rng):
    "A whole file without a digit, or of a strange shape"
    size = rng.choice([(1, 1), (7, 900), (20_000, 1), (8, 8), (30, 3000), (4999, 4999)])
    return empty_page(rng.choice(["1", "L", "RGBA", "I;16"]), size)


IMAGES = [changed, cut, spliced, noise, declared, shuffled, unfolding, many_parts]
IMAGES += [segments, resized, passes, exif, disguised, blank, changed]
NAMES = [
    "line\nbreak",
    "\x1b]0;owned\x07",
    "\x1b[2J",
    "\u202etxt",
    "tab\t",
    "\x7f",
    "\x9b2J",
    "$x^$",
]


def images(n, seed):
    "Yield the name and the content of `n` malformed images"
    rng = random.Random(seed)
    for i in range(n):
        make = IMAGES[i % len(IMAGES)]
        mark = f"-{rng.choice(NAMES)}" if i % 9 == 0 else ""
        yield f"{i:04}-{make.__name__}{mark}.{rng.choice(['png', 'jpg'])}", bytes(make(rng))


# ---- saved models, as safetensors lays them out: the length of the header, the header, the numbers

ARGS = dict(image_size=28, num_classes=10, channels=1, patch_size=14, dim=8, depth=1, heads=1)
ARGS |= dict(dim_head=4, mlp_dim=8)
DIGITS = list("0123456789")
SPEC = {"name": "vit", "args": ARGS, "mean": 0.13, "std": 0.31, "classes": DIGITS, "data": "mnist"}
MARKS = ["\x1b]0;owned\x07", "\x1b[2J", "\0", "a\nfast.png: 7 (100.0 %)", "\r", "\u202e7", "\ud800"]
MARKS += ["\x9b31m", "\u2028", "\x7f", "a" * 100_000, "", "\u200f", 5, None, True, ["a"], 1e999]


def laid_out(tensors, spec, header=None):
    "Return the content of a file; `header` changes what is said of the tensors"
    said, at = (
        {"__metadata__": {"vit_mnist": spec if isinstance(spec, str) else json.dumps(spec)}},
        0,
    )
    for name, value in tensors.items():
        kind = {"float32": "F32", "float64": "F64", "int64": "I64", "float16": "F16"}[
            str(value.dtype)
        ]
        offsets = [at, at := at + value.nbytes]
        said[name] = {"dtype": kind, "shape": list(value.shape), "data_offsets": offsets}
    (header or (lambda said: None))(said)
    text = json.dumps(said).encode()
    return struct.pack("<Q", len(text)) + text + b"".join(x.tobytes() for x in tensors.values())


def flipped(rng, tensors):
    content = bytearray(laid_out(tensors, SPEC))
    for _ in range(rng.choice([1, 5, 100])):
        content[rng.randrange(len(content))] = rng.randrange(256)
    return content


def broken(rng, tensors):
    content = laid_out(tensors, SPEC)
    length = struct.pack("<Q", rng.choice([0, 1, 50, 2**22, 2**31, 2**63, 2**64 - 1]))
    forms = [
        content[: rng.randrange(len(content))],
        length + content[8:],
        content + rng.randbytes(9),
    ]
    forms += [rng.randbytes(500), b"\x80\x04\x95pickle", b"PK\3\4" + rng.randbytes(90), b""]
    forms += [struct.pack("<Q", 2 * 10**6) + b"[" * 2 * 10**6, content[:8] + b"{" * len(content)]
    return rng.choice(forms)


def misdescribed(rng, tensors):
    "What the header says of a tensor is not what it is"
    name = rng.choice(list(tensors))
    fields = {
        "dtype": ["F64", "I32", "BOOL", "F8_E4M3", "C64", "U64", "X", 5],
        "shape": [[], [-1], [2**62]],
    }
    fields |= {"data_offsets": [[0, 4], [4, 0], [0, 2**62], [-4, 0], [0]], "more": [1]}
    field = rng.choice(list(fields))

    def change(said):
        said[name] = {**said[name], field: rng.choice(fields[field])}

    return laid_out(tensors, SPEC, change)


def renamed(rng, tensors):
    "Tensors are missing, too many, or of other names"
    names = rng.sample(list(tensors), len(tensors))
    tensors = {name: tensors[name] for name in names[: rng.randrange(len(names) + 1)]}
    more = [rng.choice(["a" * 10**6, "\x1b[2J", "b\nc", *map(str, range(9))]) for _ in range(3)]
    return laid_out({**tensors, **dict.fromkeys(more, np.zeros(2, np.float32))}, SPEC)


def no_numbers(rng, tensors):
    name = rng.choice(list(tensors))
    value = tensors[name].astype(rng.choice(["float32", "float64", "float16"]))
    with np.errstate(over="ignore"):
        place = rng.randrange(value.size)
        value.flat[place] = rng.choice([np.nan, np.inf, -np.inf, 3e38, -6e4, 1e-45])
        if rng.random() < 0.3:
            value[:] = rng.choice([3e38, 1e30, np.nan, 0])
    return laid_out({**tensors, name: value}, SPEC)


def called(rng, tensors):
    "Names of classes and of the data that nobody should print"
    classes = list(DIGITS)
    classes[rng.randrange(10)] = rng.choice(MARKS + ["3", "$x^$", "日本", "🙂"])
    wrong = [
        {"classes": classes},
        {"data": rng.choice(MARKS)},
        {"classes": classes[:9]},
        {"classes": "0123456789"},
    ]
    wrong += [
        {"classes": classes * 1000},
        {"name": rng.choice(MARKS)},
        {"classes": {}},
        {"classes": [classes]},
    ]
    return laid_out(tensors, {**SPEC, **rng.choice(wrong[:1] * 8 + wrong)})


def measured(rng, tensors):
    "A mean and a standard deviation that nothing can be computed with"
    value = rng.choice(
        [1e-38, 0, -1, 1e308, 1e999, True, "0.3", None, [], {}, 1e-300, 10**400, -1e999]
    )
    return laid_out(tensors, {**SPEC, rng.choice(["mean", "std"]): value})


def asking(rng, tensors):
    "A few hundred bytes that ask for a model of gigabytes, or of minutes"
    vit = [
        dict(depth=128),
        dict(heads=128),
        dict(heads=128, dim_head=8192),
        dict(dim=8192, mlp_dim=8192),
    ]
    vit += [
        dict(depth=128, heads=128, dim=1, mlp_dim=1, dim_head=1, patch_size=1),
        dict(depth=10**9),
    ]
    vit += [
        dict(depth=[128] * 128),
        dict(mlp_dim=1e6),
        dict(depth="9" * 10**5),
        {"\x1b[2J" * 999: 1},
    ]
    vit += [
        dict(dim=[[1, [2, [3]]]] * 128),
        dict(pool="\n" * 10**6),
        dict(heads=True),
        dict(patch_size=1),
    ]
    others = [
        ("looped_vit", dict(num_looped_blocks=128, loop_depth=128)),
        ("max_vit", dict(window_size=128)),
    ]
    others += [
        ("parallel_vit", dict(depth=128, num_parallel_branches=128)),
        ("cct", dict(num_layers=128)),
    ]
    others += [
        ("crossformer", dict(global_window_size=[128] * 4)),
        ("nest", dict(block_repeats=[128] * 3)),
    ]
    others += [
        ("max_vit", dict(depth=[128] * 128)),
        ("cvt", dict(s1_depth=128, s2_depth=128, s3_depth=128)),
    ]
    if rng.random() < 0.5:
        return laid_out(tensors, {**SPEC, "args": {**ARGS, **rng.choice(vit)}})
    name, args = rng.choice(others)
    few = dict(list(tensors.items())[: rng.randrange(3)])
    return laid_out(few, {**SPEC, "name": name, "args": {"num_classes": 10, **args}})


def wide(rng, tensors):
    "True weights of two megabytes whose result, for one image, has some hundred million numbers"
    heads, inner = 64, 64 * rng.choice([1024, 2048])
    args = {
        **ARGS,
        "dim": 1,
        "heads": heads,
        "dim_head": inner // heads,
        "patch_size": 1,
        "mlp_dim": 1,
    }
    sizes = {"pos_embedding": (785, 1), "cls_token": (1, 1), "to_patch_embedding.1.weight": (1,)}
    sizes |= {"to_patch_embedding.1.bias": (1,), "to_patch_embedding.2.weight": (1, 1)}
    layer = "transformer.layers.0"
    sizes |= {f"{layer}.0.to_qkv.weight": (3 * inner, 1), f"{layer}.0.to_out.0.weight": (1, inner)}
    shapes = {
        name: sizes.get(name, tuple(min(n, 1) if n == 8 else n for n in x.shape))
        for name, x in tensors.items()
    }
    return laid_out(
        {name: np.ones(shape, np.float32) for name, shape in shapes.items()}, {**SPEC, "args": args}
    )


def nested(rng, tensors):
    "Metadata that is no metadata"
    deep = "[" * 10**5 + "]" * 10**5
    forms = [
        "",
        "{",
        "null",
        "[]",
        "5",
        '"a"',
        deep,
        '{"args": ' + deep + "}",
        "\0",
        "{}" * 9,
        "NaN",
    ]
    return laid_out(tensors, rng.choice(forms))


def special(rng, tensors):
    "No file at all: a function that makes something else of that name"

    def sparse(path):
        with open(path, "wb") as file:
            file.write(laid_out(tensors, SPEC))
            file.truncate(rng.choice([2**31, 2**40]))

    def run_folder(path):
        path.mkdir()
        rng.choice([os.mkfifo, sparse, os.mkdir])(path / "model.safetensors")

    def of_pipes(path):
        path.mkdir()
        (path / "model.safetensors").write_bytes(laid_out(tensors, SPEC))
        os.mkfifo(path / "config.json")

    links = [
        lambda path, to=to: path.symlink_to(to) for to in ("/dev/zero", "/dev/null", "nowhere")
    ]
    links.append(lambda path: path.symlink_to(path.name))
    return rng.choice([os.mkfifo, sparse, run_folder, of_pipes, os.mkdir, *links])


MODELS = [flipped, broken, misdescribed, renamed, no_numbers, called, measured, asking, nested]
MODELS += [special, called, no_numbers, asking, wide, flipped]


def models(n, seed, tensors):
    """Yield the name of `n` hostile saved models, and the content of each or a function that makes
    it; `tensors` are those of the model that `SPEC` describes, as arrays"""
    rng = random.Random(seed)
    for i in range(n):
        make = MODELS[i % len(MODELS)]
        content = make(rng, tensors)
        yield f"{i:04}-{make.__name__}", content if callable(content) else bytes(content)
