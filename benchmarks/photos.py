"""How well photographs of digits are read, kind by kind, and rows of several digits.

    python benchmarks/photos.py [--images 2000] [--strips 300] [--longest 3000] [--valid]

Draws so many photographs of test digits (`tests/photographs.py`), from 200 to --longest pixels, as
many of each kind, and reads them with `best` and `explain`, beside a naive resize to 28 x 28 (ink
light on dark by the shade of the border). Then rows of 3 to 8 digits with `best`. Writes
benchmarks/photos.json and benchmarks/photos.csv; --valid takes validation digits and other seeds,
and writes nothing.
"""

import argparse
import csv
import sys
from io import StringIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from tqdm import tqdm

from vit_mnist.core import UserError, write_atomic, write_json
from vit_mnist.data import load_data
from vit_mnist.digits import prepare_digit
from vit_mnist.model import model_input
from vit_mnist.prediction import predict_digits
from vit_mnist.weights import load_pretrained

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))
from photographs import KINDS, STRIPS, photograph, strip  # noqa: E402

GOALS = {"all": 0.97, "row, tight": 0.8, "row, touching": None}  # shares; of others 0.95


def naive(image):
    "Resize an image to 28 x 28, light on dark: `uint8`, `[1, 28, 28]`"
    gray = np.asarray(image.convert("L").resize((28, 28), Image.Resampling.BOX))
    border = np.concatenate([gray[0], gray[-1], gray[:, 0], gray[:, -1]])
    return torch.from_numpy(255 - gray if np.median(border) > 127 else gray.copy())[None]


def prepared(image):
    "Prepare an image as the package does; an empty picture where it finds no ink"
    try:
        return prepare_digit(ImageOps.exif_transpose(image))
    except UserError:
        return torch.zeros(1, 28, 28, dtype=torch.uint8)


def read(model, images, labels):
    "Count the images that are read right"
    with torch.no_grad():
        return int((model(model_input(model, torch.stack(images))).argmax(1) == labels).sum())


def measure_kind(kind, split, count, seed, longest, models):
    "Count how many photographs of one kind each way and each model reads right"
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    chosen = rng.integers(0, len(split), count).tolist()
    others, ours, plain = split.images[:200, 0].numpy(), [], []
    for i, at in enumerate(chosen):
        digit = split.images[at, 0].numpy()
        image = photograph(digit, kind, [seed, KINDS.index(kind), i], longest, others)
        ours.append(prepared(image))
        plain.append(naive(image))
    labels = split.labels[chosen]
    row = {name: read(model, ours, labels) for name, model in models.items()}
    return {"kind": kind, "images": count, **row, "naive": read(models["best"], plain, labels)}


def measure_strips(kind, split, count, seed, model):
    "Count the rows of digits that are read whole"
    whole = 0
    for i in range(count):
        rng = np.random.default_rng([seed, STRIPS.index(kind), i])
        chosen = rng.integers(0, len(split), int(rng.integers(3, 9))).tolist()
        digits = split.images[chosen, 0].numpy()
        image, _ = strip(digits, kind, [seed, STRIPS.index(kind), i])
        try:
            names = [digit.name for digit in predict_digits(model, image)]
        except UserError:
            names = []
        whole += names == split.labels[chosen].tolist()
    return {"kind": f"row, {kind}", "images": count, "best": whole}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--strips", type=int, default=300)
    parser.add_argument("--longest", type=int, default=3000)
    parser.add_argument("--valid", action="store_true")
    given = parser.parse_args()
    data = load_data()
    split, seed = (data.valid, 1) if given.valid else (data.test, 0)
    models = {name: load_pretrained(name).eval() for name in ("best", "explain")}
    each = -(-given.images // len(KINDS))
    rows = [measure_kind(kind, split, each, seed, given.longest, models) for kind in tqdm(KINDS)]
    total = {key: sum(row[key] for row in rows) for key in ("images", "best", "explain", "naive")}
    rows.append({"kind": "all", **total})
    for kind in tqdm(STRIPS):
        strips = measure_strips(kind, split, -(-given.strips // len(STRIPS)), seed, models["best"])
        rows.append({**strips, "explain": "", "naive": ""})
    for row in rows:
        goal = GOALS.get(row["kind"], 0.95)
        row["enough"] = (
            row["best"] >= goal * row["images"] if row["kind"] != "row, touching" else ""
        )
    text = StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    print(text.getvalue())
    if not given.valid:
        write_atomic(HERE / "photos.csv", text.getvalue().encode())
        options = {"images": given.images, "strips": given.strips, "longest": given.longest}
        write_json(HERE / "photos.json", {**options, "seed": seed, "rows": rows})


if __name__ == "__main__":
    main()
