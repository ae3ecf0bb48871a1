"""How far to trust an explanation: every method of `explain` on three models of the preset `explain`.

`python benchmarks/trust.py` trains the three models where their run folders (runs/explain-0, -1, -2) are not there yet, then measures each method on
each model and writes vit_mnist/pretrained/faithfulness.csv. What is measured is kept under --out and not measured again, so that the command goes on
where it was stopped. `--small` measures a few methods on 50 images of the shipped model, which takes seconds, and writes benchmarks/trust-small.json.
"""

import argparse
import csv
from dataclasses import replace
from io import StringIO
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tqdm import tqdm

from train import trained
from vit_mnist.core import write_atomic, write_json
from vit_mnist.data import load_data
from vit_mnist.evaluation import split_logits
from vit_mnist.explanation import explain, list_methods
from vit_mnist.faithfulness import (
    accuracy_curve,
    area,
    bootstrap,
    class_discrimination,
    deletion_curve,
    randomisation_test,
)
from vit_mnist.methods import METHODS
from vit_mnist.model import load_model, model_input, pack
from vit_mnist.weights import load_pretrained

ROOT = Path(__file__).parent.parent
SEEDS = 0, 1, 2
FILLS = "black", "mean", "linear"
TENTHS = (
    "relevance",
    "rollout",
    "attention",
    "grad_rollout",
    "legrad",
    "random",
)  # the methods of the protocol on all test images
COLUMNS = "test", "method", "fill", "target", "seed", "images", "mean", "low", "high"


def stratified(split, count):
    "Positions of the first so many images of each class"
    return torch.cat([(split.labels == c).nonzero()[:count, 0] for c in range(10)]).sort().values


def maps(model, images, method, target, size=250):
    "Maps for a class each, batch after batch; `random` draws the same ones for each batch"
    return torch.cat(
        [
            explain(model, some, method, which)
            for some, which in zip(images.split(size), target.split(size))
        ]
    )


def curves(model, images, method, target):
    "name: probability of the class while patches go, `[n, 13]`, for each fill and either order"
    heat = maps(model, images, method, target)
    return {
        f"{fill}.{first}": deletion_curve(model, images, heat, target, fill, first)
        for fill in FILLS
        for first in ("most", "least")
    }


def tenths(model, images, labels, method, target):
    "name: who is right while tenths of the image go, `[n, 10]`"
    heat = maps(model, images, method, target)
    return {
        f"tenths.{first}": accuracy_curve(model, images, heat, labels, first)
        for first in ("most", "least")
    }


def both_targets(measure, said, true):
    "Results for the predicted class, and for the true one, which differ only where the model is wrong"
    predicted, wrong = measure(slice(None), said), (said != true).nonzero()[:, 0]
    corrected = measure(wrong, true[wrong]) if len(wrong) else {}
    found = {f"predicted.{name}": values for name, values in predicted.items()}
    for name, values in predicted.items():
        found[f"true.{name}"] = values.clone()
        if len(wrong):
            found[f"true.{name}"][wrong] = corrected[name]
    return found


def mosaics(split, count=4000, seed=0):
    "Two digits of different classes side by side on one image, each squeezed from 20 to 14 pixels of width; `[n, 1, 28, 28]` and their classes `[n, 2]`"
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))[
        : 2 * count
    ].view(2, count)
    order = order[:, split.labels[order[0]] != split.labels[order[1]]]
    halves = [
        F.interpolate(
            split.images[which][:, :, :, 4:24].float(),
            size=(28, 14),
            mode="bilinear",
            antialias=True,
        )
        for which in order
    ]
    return torch.cat(halves, 3).round().to(torch.uint8), split.labels[order].T


def localisation(model, split, method, most=300):
    "Share of what speaks for a digit that lies on its own half of a mosaic, for images whose two digits are the model's first two guesses, `[n]`"
    images, classes = mosaics(split)
    with torch.no_grad():
        guesses = model(model_input(model, images)).topk(2).indices
    seen = (guesses.sort(1).values == classes.sort(1).values).all(1).nonzero()[:most, 0]
    shares = []
    for side in range(2):
        heat = (
            maps(model, images[seen], method, classes[seen, side])
            .clamp(min=0)
            .view(-1, 28, 2, 14)
            .sum((1, 3))
        )
        total = heat.sum(1)
        shares.append(
            torch.where(total > 0, heat[:, side] / total.clamp(min=1e-12), 0.5)
        )  # a map of zeros has no opinion
    return torch.stack(shares).mean(0)


def measure(model, test, method, images=1000):
    "All tests of one method on one model, by name, a row for each image"
    said, where = split_logits(model, test).argmax(1), stratified(test, images // 10)
    some, few = test.images[where], where[::10]
    found = both_targets(
        lambda part, target: curves(model, some[part], method, target),
        said[where],
        test.labels[where],
    )
    if method in TENTHS:
        found |= both_targets(
            lambda part, target: tenths(
                model, test.images[part], test.labels[part], method, target
            ),
            said,
            test.labels,
        )
    found["randomisation"] = randomisation_test(model, test.images[few], method)
    if METHODS[method].class_specific:
        classes = (
            split_logits(model, replace(test, images=test.images[few], labels=test.labels[few]))
            .topk(2)
            .indices.T
        )
        found["discrimination"] = class_discrimination(
            model,
            test.images[few],
            [maps(model, test.images[few], method, c) for c in classes],
            classes,
        )
    found["localisation"] = localisation(model, test, method)
    return found


def measured(out, models, methods, test):
    "(seed, method): what `measure` found; taken from its file where there is one"
    found = {}
    with tqdm(total=len(SEEDS) * len(methods)) as bar:
        for seed in SEEDS:
            for method in methods:
                bar.set_postfix_str(f"seed {seed}, {method}")
                path = out / f"{seed}-{method}.safetensors"
                if not path.exists():
                    write_atomic(path, pack(measure(models[seed], test, method)))
                found[seed, method] = load_file(path)
                bar.update()
    return found


def scores(found):
    "(test, fill, target): a number for each image"
    for name, values in found.items():
        target, _, rest = name.partition(".")
        fill, _, first = rest.partition(".")
        if not rest:
            yield (name, "", ""), values
        elif fill == "tenths":
            yield ("negative" if first == "least" else "positive", "black", target), area(values)
        elif first == "most":
            least = found[f"{target}.{fill}.least"]
            yield ("deletion", fill, target), area(values)
            yield ("insertion", fill, target), area(least.flip(1))
            yield ("between", fill, target), area(least) - area(values)


def table(found, methods):
    "Rows of the CSV: each score by seed and over all seeds, and how far the default method is ahead of each other one"
    rows, by_method = (
        [],
        {method: [dict(scores(found[seed, method])) for seed in SEEDS] for method in methods},
    )
    for method, seeds in by_method.items():
        for key in seeds[0]:
            rows += by_seed(key[0], method, *key[1:], [s[key] for s in seeds])
            if key[0] == "between" and method != "relevance":
                rows += by_seed(
                    "relevance ahead",
                    method,
                    *key[1:],
                    [
                        ours[key] - theirs[key]
                        for ours, theirs in zip(by_method["relevance"], seeds)
                    ],
                )
    return rows


def by_seed(test, method, fill, target, values):
    "A row for each seed and, where all models were asked about the same images, one for their mean"
    rows = [row(test, method, fill, target, seed, some) for seed, some in zip(SEEDS, values)]
    return (
        rows
        if test == "localisation"
        else [*rows, row(test, method, fill, target, "all", torch.stack(values).mean(0))]
    )


def row(test, method, fill, target, seed, values):
    "One row: mean and 95 % bootstrap interval over images"
    return dict(
        zip(
            COLUMNS,
            (
                test,
                method,
                fill,
                target,
                seed,
                len(values),
                *(f"{number:.4f}" for number in bootstrap(values)),
            ),
        )
    )


def mean_curves(found, methods):
    "Rows with the mean curve over images and seeds, point by point"
    return [
        {
            "method": method,
            "fill": fill,
            "first": first,
            "gone": f"{point / 12:.4f}",
            "mean": f"{value:.4f}",
        }
        for method in methods
        for fill in FILLS
        for first in ("most", "least")
        for point, value in enumerate(
            torch.stack([found[seed, method][f"predicted.{fill}.{first}"] for seed in SEEDS])
            .mean((0, 1))
            .tolist()
        )
    ]


def write_csv(path, rows):
    text = StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(path, text.getvalue().encode())


def small(model, test, methods=("relevance", "rollout", "ink", "centre", "random")):
    "The protocol on 50 images: {method: {fill: area between the curves}}"
    where = stratified(test, 5)
    images, target = (
        test.images[where],
        split_logits(
            model, replace(test, images=test.images[where], labels=test.labels[where])
        ).argmax(1),
    )
    found = {method: curves(model, images, method, target) for method in methods}
    return {
        method: {
            fill: round((area(c[f"{fill}.least"]) - area(c[f"{fill}.most"])).mean().item(), 4)
            for fill in FILLS
        }
        for method, c in found.items()
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, default=ROOT / "runs" / "trust", help="folder for what is measured"
    )
    parser.add_argument(
        "--small", action="store_true", help="only the small run that the tutorial checks"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    test = load_data().test
    if options.small:
        write_json(
            Path(__file__).with_name("trust-small.json"), small(load_pretrained("explain"), test)
        )
        raise SystemExit
    models = {seed: load_model(trained("explain", seed)) for seed in SEEDS}
    methods = list(list_methods(models[0]))
    found = measured(options.out, models, methods, test)
    write_csv(ROOT / "vit_mnist" / "pretrained" / "faithfulness.csv", table(found, methods))
    write_csv(Path(__file__).with_name("trust-curves.csv"), mean_curves(found, methods))
