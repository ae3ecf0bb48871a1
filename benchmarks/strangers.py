"""Which answers are to be trusted: digits, and strangers that are none, with the three presets.

`python benchmarks/strangers.py` trains the network that knows what digits look like, where
--out does not hold it yet, chooses score and threshold of each preset on validation digits and
strangers, writes vit_mnist/pretrained/NAME.trust, and measures on test digits and on strangers
of other fonts and seeds: benchmarks/strangers.json. `--measure` leaves the .trust files as they
are. FashionMNIST is measured where the data sets' folder holds it.
"""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file

from vit_mnist.augment import Augment
from vit_mnist.core import UserError, derive_seed, make_generator, write_atomic, write_json
from vit_mnist.data import cache_root, load_data
from vit_mnist.digits import prepare_digit
from vit_mnist.model import safetensors_bytes
from vit_mnist.presets import list_pretrained, package_folder
from vit_mnist.trust import (
    LETTERS,
    SCORES,
    STRANGERS,
    auroc,
    fit_looks,
    fit_trust,
    load_trust,
    make_strangers,
    redrawn,
    save_trust,
)
from vit_mnist.weights import load_pretrained

ROOT = Path(__file__).parent.parent
RESULT = Path(__file__).with_name("strangers.json")
COUNTS = {"letters": 5200, "scribbles": 2000}  # of the other kinds 500 each
SHAPED = "OoDQIlijJZzSsBbGgq"  # letters that have, in some font or hand, the shape of a digit

# strokes of a pen, each a line through points given as x and y in tenths of a page
PEN = {
    "A": "15 95 5 05 85 95,30 62 70 62",
    "C": "80 20 50 05 20 25 15 55 30 88 55 95 80 82",
    "E": "80 08 20 08 20 95 80 95,20 50 65 50",
    "F": "80 08 20 08 20 95,20 50 65 50",
    "H": "20 05 20 95,80 05 80 95,20 50 80 50",
    "K": "20 05 20 95,78 05 22 55 80 95",
    "L": "25 05 25 95 80 95",
    "M": "10 95 20 05 50 60 80 05 90 95",
    "N": "20 95 20 05 80 95 80 05",
    "P": "22 95 22 05 60 07 78 25 62 46 22 50",
    "R": "22 95 22 05 60 07 78 25 62 46 22 50,45 50 80 95",
    "T": "10 08 90 08,50 08 50 95",
    "U": "15 05 18 65 35 92 60 92 80 70 85 05",
    "V": "10 05 50 95 90 05",
    "W": "05 05 28 95 50 35 72 95 95 05",
    "X": "15 05 85 95,85 05 15 95",
    "Y": "12 05 50 50 88 05,50 50 50 95",
}
DIGITS = {
    "0": "50 05 25 25 20 60 38 92 60 92 78 65 75 25 50 05",
    "1": "35 25 52 08 52 95",
    "2": "22 28 40 07 65 10 74 30 60 55 20 92 80 92",
    "3": "22 15 50 05 72 20 66 40 45 48 70 56 76 76 52 95 22 85",
    "4": "60 95 62 05 18 65 82 65",
    "5": "75 08 32 08 26 45 55 40 74 60 66 86 45 95 22 86",
    "6": "66 06 40 30 25 65 38 93 62 90 72 68 55 54 28 68",
    "7": "20 10 78 10 45 95",
    "8": "70 18 48 05 28 22 40 42 64 56 72 78 50 95 28 80 38 56 62 40 70 18",
    "9": "70 28 48 06 28 28 45 48 70 28,70 28 64 95",
}


def pen(strokes, hand, rng, side=140):
    "Draw strokes as a hand does: thin, thick or slanted, no two alike"
    page = Image.new("L", (side, side))
    width = {"thin": 5, "thick": 15, "slanted": 9}[hand]
    slant = 0.3 if hand == "slanted" else 0
    for stroke in strokes.split(","):
        points = np.array(stroke.split(), float).reshape(-1, 2) / 100 + rng.normal(0, 0.015, 2)
        points += rng.normal(0, 0.012, points.shape)
        points[:, 0] += slant * (0.5 - points[:, 1])
        points = (0.15 + 0.7 * points) * side
        ImageDraw.Draw(page).line([tuple(p) for p in points], 255, width, "curve")
    return prepare_digit(page)


def drawn(alphabet, each, seed):
    "Draw every character of an alphabet `each` times in three hands: {hand: images}"
    found = {}
    for hand in ("thin", "thick", "slanted"):
        rng = np.random.default_rng(derive_seed(seed, hand))
        images = [pen(strokes, hand, rng) for _ in range(each) for strokes in alphabet.values()]
        found[hand] = torch.stack(images)
    return found


def network(out):
    "Return the network's tensors, trained where `out` does not hold them"
    path = out / "looks.safetensors"
    if not path.exists():
        write_atomic(path, safetensors_bytes(fit_looks(load_data())))
    return load_file(path)


def all_digits(test):
    "Return the digits of the report, by kind"
    printed = make_strangers("printed digits", 1000)
    hands = {f"drawn, {hand}": images for hand, images in drawn(DIGITS, 20, 0).items()}
    return {
        "test digits": test.images,
        "augmented": Augment()(test.images[:2000], make_generator(0, "augment")),
        "redrawn": redrawn(test.images[:2000]),
        **hands,
        "printed": printed,
    }


def all_strangers():
    "Return the strangers of the report, by kind"
    found = {kind: make_strangers(kind, COUNTS.get(kind, 500)) for kind in STRANGERS}
    found |= {f"letters drawn, {hand}": images for hand, images in drawn(PEN, 12, 1).items()}
    if (cache_root() / "FashionMNIST" / "raw").is_dir():
        try:
            found["FashionMNIST"] = load_data("fashionmnist").test.images
        except UserError:
            pass  # a part of it only
    return found


def measure(trust, digits, strangers):
    "Measure one preset: share refused of each kind, AUROC of each score, letters that pass"
    refused = {
        name: {kind: ~trust.trusted(images) for kind, images in of.items()}
        for name, of in (("digits", digits), ("strangers", strangers))
    }
    shares = {
        name: {kind: round(which.double().mean().item(), 4) for kind, which in of.items()}
        for name, of in refused.items()
    }
    of_digits, areas = trust.parts(digits["test digits"]), {}
    for kind, images in strangers.items():
        parts = trust.parts(images)
        rows = {name: (of_digits[:, i], parts[:, i]) for i, name in enumerate(SCORES)}
        weights = trust.tensors["weights"]
        rows[trust.facts["chosen"]] = of_digits @ weights, parts @ weights
        areas[kind] = {name: round(auroc(*row), 4) for name, row in rows.items()}
    passed = Counter(LETTERS[i % 52] for i in (~refused["strangers"]["letters"]).nonzero()[:, 0])
    each = len(strangers["letters"]) / 52
    by_letter = {letter: round(n / each, 2) for letter, n in passed.most_common()}
    plain = [LETTERS[i % 52] not in SHAPED for i in range(len(strangers["letters"]))]
    caught = refused["strangers"]["letters"][torch.tensor(plain)].double().mean().item()
    return {
        "chosen": trust.facts["chosen"],
        "threshold": trust.facts["threshold"],
        "refused": shares,
        "auroc": areas,
        "letters that pass": by_letter,
        f"refused of letters other than {SHAPED}": round(caught, 4),
        "validation": trust.facts["validation"],
    }


def main():
    "Fit and measure what the command line names"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kept = ROOT / "runs" / "strangers"
    parser.add_argument("--out", type=Path, default=kept, help="folder for the network")
    parser.add_argument("--measure", action="store_true", help="leave the .trust files as they are")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = load_data()
    if not options.measure:
        looks = network(options.out)
        for name in list_pretrained():
            trust = fit_trust(load_pretrained(name), data, looks=looks)
            save_trust(trust, Path(str(package_folder() / f"{name}.trust")))
    digits, strangers = all_digits(data.test), all_strangers()
    counts = {kind: len(images) for kind, images in (digits | strangers).items()}
    found = {name: measure(load_trust(name), digits, strangers) for name in list_pretrained()}
    write_json(RESULT, {"images": counts, **found})


if __name__ == "__main__":
    main()
