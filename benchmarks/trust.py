"""How far to trust an explanation: every method of `explain`, on three models of one preset.

`python benchmarks/trust.py` trains the three models where their run folders (runs/explain-0, -1,
-2) are not there yet, then measures each method on each model and writes
vit_mnist/pretrained/faithfulness.csv and benchmarks/trust-curves.csv. What is measured is kept
under --out and not measured again, so the command resumes where it was stopped. `--method NAME`
measures one method and adds its rows to what is stored; the rows of all others stay. `--small`
measures a few methods on 50 images of the pretrained model, which takes seconds, and writes
benchmarks/trust-small.json.
"""

import argparse
import csv
from io import StringIO
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tqdm import tqdm

from train import trained
from vit_mnist.core import write_atomic, write_json
from vit_mnist.data import load_data
from vit_mnist.explanation import FILLS, explain, list_methods
from vit_mnist.faithfulness import (
    accuracy_curve,
    area_under_curve,
    bootstrap,
    class_discrimination,
    deletion_curve,
    randomisation_test,
)
from vit_mnist.methods import METHODS
from vit_mnist.model import batch_logits, load_model, safetensors_bytes
from vit_mnist.weights import load_pretrained

ROOT = Path(__file__).parent.parent
SCORES = ROOT / "vit_mnist" / "pretrained" / "faithfulness.csv"
CURVES = Path(__file__).with_name("trust-curves.csv")
SEEDS = 0, 1, 2
DEFAULT = "relevance"  # the method whose lead over each other one is measured
TENTHS = DEFAULT, "rollout", "attention", "grad_rollout", "legrad", "random"  # on all test images
COLUMNS = "test", "method", "fill", "target", "seed", "images", "mean", "low", "high"


def stratified(split, count):
    "Find the positions of the first `count` images of each class"
    found = [(split.labels == c).nonzero()[:count, 0] for c in range(10)]
    return torch.cat(found).sort().values


def maps(model, images, method, target, size=250):
    "Explain a class each, batch after batch; `random` draws the same numbers for each batch"
    parts = zip(images.split(size), target.split(size))
    return torch.cat([explain(model, some, method, classes) for some, classes in parts])


def curves(model, images, method, target):
    "Compute deletion curves for each fill and either order: name, `[n, 13]`"
    found, attribution = {}, maps(model, images, method, target)
    for fill in FILLS:
        for first in ("most", "least"):
            curve = deletion_curve(model, images, attribution, target, fill, first)
            found[f"{fill}.{first}"] = curve
    return found


def tenths(model, images, labels, method, target):
    "Compute accuracy curves for either order: name, `[n, 10]`"
    attribution = maps(model, images, method, target)
    return {
        f"tenths.{first}": accuracy_curve(model, images, attribution, labels, first)
        for first in ("most", "least")
    }


def both_targets(measure, predicted, true):
    "Measure for the predicted class, and for the true one, which differ only for mistakes"
    found, wrong = {}, (predicted != true).nonzero()[:, 0]
    corrected = measure(wrong, true[wrong]) if len(wrong) else {}
    for name, values in measure(slice(None), predicted).items():
        found[f"predicted.{name}"], found[f"true.{name}"] = values, values.clone()
        if len(wrong):
            found[f"true.{name}"][wrong] = corrected[name]
    return found


def mosaics(split, count=4000, seed=0):
    "Put two digits of different classes side by side: images `[n, 1, 28, 28]`, classes `[n, 2]`"
    rng = torch.Generator().manual_seed(seed)
    pairs = torch.randperm(len(split), generator=rng)[: 2 * count].view(2, count)
    pairs = pairs[:, split.labels[pairs[0]] != split.labels[pairs[1]]]
    halves = []
    for which in pairs:  # each squeezed from 20 to 14 pixels of width
        digits = split.images[which][:, :, :, 4:24].float()
        halves.append(F.interpolate(digits, size=(28, 14), mode="bilinear", antialias=True))
    return torch.cat(halves, 3).round().to(torch.uint8), split.labels[pairs].T


def localisation(model, split, method, most=300):
    """Compute the share of what speaks for a digit that lies on its own half of a mosaic, `[n]`.

    Only mosaics whose two digits are the model's first two guesses count.
    """
    images, classes = mosaics(split)
    guesses = batch_logits(model, images).cpu().topk(2).indices
    both = (guesses.sort(1).values == classes.sort(1).values).all(1)
    chosen, shares = both.nonzero()[:most, 0], []
    for side in range(2):
        attribution = maps(model, images[chosen], method, classes[chosen, side]).clamp(min=0)
        halves = attribution.view(-1, 28, 2, 14).sum((1, 3))
        total = halves.sum(1)
        share = halves[:, side] / total.clamp(min=1e-12)
        shares.append(torch.where(total > 0, share, 0.5))  # a map of zeros has no opinion
    return torch.stack(shares).mean(0)


def measure(model, test, method, images=1000):
    "Run all tests of one method on one model: name, a row for each image"
    predicted = batch_logits(model, test.images).cpu().argmax(1)
    where = stratified(test, images // 10)
    some, few = test.images[where], test.images[where[::10]]

    def curves_of(part, target):
        return curves(model, some[part], method, target)

    def tenths_of(part, target):
        return tenths(model, test.images[part], test.labels[part], method, target)

    found = both_targets(curves_of, predicted[where], test.labels[where])
    if method in TENTHS:
        found |= both_targets(tenths_of, predicted, test.labels)
    found["randomisation"] = randomisation_test(model, few, method)
    if METHODS[method].class_specific:
        classes = batch_logits(model, few).cpu().topk(2).indices.T
        two = [maps(model, few, method, numbers) for numbers in classes]
        found["discrimination"] = class_discrimination(model, few, two, classes)
    found["localisation"] = localisation(model, test, method)
    return found


def measured(out, models, methods, test):
    "Collect what `measure` found, by (seed, method); taken from its file where there is one"
    found = {}
    with tqdm(total=len(SEEDS) * len(methods)) as bar:
        for seed in SEEDS:
            for method in methods:
                bar.set_postfix_str(f"seed {seed}, {method}")
                path = out / f"{seed}-{method}.safetensors"
                if not path.exists():
                    write_atomic(path, safetensors_bytes(measure(models[seed], test, method)))
                found[seed, method] = load_file(path)
                bar.update()
    return found


def scores(found):
    "Yield (test, fill, target) and a number for each image"
    for name, values in found.items():
        target, _, rest = name.partition(".")
        fill, _, first = rest.partition(".")
        if not rest:
            yield (name, "", ""), values
        elif fill == "tenths":
            test = "negative" if first == "least" else "positive"
            yield (test, "black", target), area_under_curve(values)
        elif first == "most":
            least, most = (
                area_under_curve(found[f"{target}.{fill}.least"]),
                area_under_curve(values),
            )
            inserted = found[f"{target}.{fill}.least"].flip(1)
            yield ("deletion", fill, target), most
            yield ("insertion", fill, target), area_under_curve(inserted)
            yield ("between", fill, target), least - most


def table(found, methods):
    "List the rows of `SCORES`: each score, and the lead of the default method over each other one"
    rows, by_method = [], {}
    for method in methods:
        by_method[method] = [dict(scores(found[seed, method])) for seed in SEEDS]
    for method, seeds in by_method.items():
        for key in seeds[0]:
            test, fill, target = key
            rows += by_seed(test, method, fill, target, [values[key] for values in seeds])
            if test == "between" and method != DEFAULT:
                pairs = zip(by_method[DEFAULT], seeds)
                leads = [ours[key] - theirs[key] for ours, theirs in pairs]
                rows += by_seed(f"{DEFAULT} ahead", method, fill, target, leads)
    return rows


def by_seed(test, method, fill, target, values):
    "List a row for each seed and, where all models saw the same images, one for their mean"
    rows = [row(test, method, fill, target, seed, some) for seed, some in zip(SEEDS, values)]
    if test != "localisation":
        rows.append(row(test, method, fill, target, "all", torch.stack(values).mean(0)))
    return rows


def row(test, method, fill, target, seed, values):
    "Write one row: mean and 95 % bootstrap interval over images"
    numbers = [f"{number:.4f}" for number in bootstrap(values)]
    return dict(zip(COLUMNS, (test, method, fill, target, seed, len(values), *numbers)))


def mean_curves(found, methods):
    "List rows with the mean curve over images and seeds, point by point"
    rows = []
    for method in methods:
        for fill in FILLS:
            for first in ("most", "least"):
                name = f"predicted.{fill}.{first}"
                curve = torch.stack([found[seed, method][name] for seed in SEEDS]).mean((0, 1))
                start = {"method": method, "fill": fill, "first": first}
                for point, value in enumerate(curve.tolist()):
                    rows.append({**start, "gone": f"{point / 12:.4f}", "mean": f"{value:.4f}"})
    return rows


def merged(path, rows, methods):
    "List stored rows with those of `methods` replaced by new ones, in the order of `METHODS`"
    by_method = {}
    with path.open(encoding="utf-8", newline="") as file:
        for old in csv.DictReader(file):
            by_method.setdefault(old["method"], []).append(old)
    for method in methods:
        by_method[method] = [new for new in rows if new["method"] == method]
    order = dict.fromkeys([*METHODS, *by_method])
    return [row for method in order for row in by_method.get(method, [])]


def write_csv(path, rows):
    "Write rows under the names of their columns"
    text = StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(path, text.getvalue().encode())


def small(model, test, methods=(DEFAULT, "rollout", "ink", "centre", "random")):
    "Measure 50 images: {method: {fill: area between the curves}}"
    images, found = test.images[stratified(test, 5)], {}
    target = batch_logits(model, images).cpu().argmax(1)
    for method in methods:
        areas = {
            name: area_under_curve(curve).mean().item()
            for name, curve in curves(model, images, method, target).items()
        }
        found[method] = {
            fill: round(areas[f"{fill}.least"] - areas[f"{fill}.most"], 4) for fill in FILLS
        }
    return found


def main():
    "Measure what the command line names"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kept = ROOT / "runs" / "trust"
    parser.add_argument("--out", type=Path, default=kept, help="folder for what is measured")
    parser.add_argument(
        "--method",
        choices=[name for name in METHODS if name != DEFAULT],
        metavar="NAME",
        help=f"measure one method (and {DEFAULT} if it is not measured yet); keep all other rows",
    )
    parser.add_argument(
        "--small", action="store_true", help="only the small run that the tutorial checks"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    test = load_data().test
    if options.small:
        path = Path(__file__).with_name("trust-small.json")
        return write_json(path, small(load_pretrained("explain"), test))
    models = {seed: load_model(trained("explain", seed)) for seed in SEEDS}
    methods = [DEFAULT, options.method] if options.method else list(list_methods(models[0]))
    found = measured(options.out, models, methods, test)
    rows, points = table(found, methods), mean_curves(found, methods)
    if options.method:
        rows = merged(SCORES, rows, [options.method])
        points = merged(CURVES, points, [options.method])
    write_csv(SCORES, rows)
    write_csv(CURVES, points)


if __name__ == "__main__":
    main()
