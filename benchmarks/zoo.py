"""Every model of the zoo with one short budget: size tiny, an epoch on 10,000 images, one thread.

    python benchmarks/zoo.py [--models NAME ...] [--seeds 3] [--out runs/zoo]

Each model trains at three learning rates; the one that is best on the validation images trains from
more seeds. Each training is a run folder under --out, and what is finished is not trained again, so
the command resumes where it was stopped. Then it measures what a step costs and writes
benchmarks/zoo.json: all rows, or with --models just theirs, beside those that are stored already.
`--speed` only measures the steps again, for a moment when nothing else runs.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import time
import warnings
from datetime import date
from importlib.metadata import version
from pathlib import Path

import torch
import torch.nn.functional as F
from tqdm import tqdm

from vit_mnist.core import UserError, check_name, write_json
from vit_mnist.data import load_data
from vit_mnist.model import create_model, model_input
from vit_mnist.optimizers import make_optimizers
from vit_mnist.settings import Settings
from vit_mnist.summary import list_models
from vit_mnist.training import train
from vit_mnist.zoo import known_models

RATES = (1.5e-3, 4e-3, 1e-2)
BUDGET = dict(model_args={"size": "tiny"}, limit=10_000, epochs=1, device="cpu")


def metrics(out, name, rate, seed):
    "Return the metrics of one training; train only if its folder has no result yet"
    folder = out / f"{name}-{rate:g}-{seed}"
    if not (folder / "metrics.json").exists():
        shutil.rmtree(folder, ignore_errors=True)  # of a training that was interrupted
        settings = Settings(model=name, lr=rate, seed=seed, **BUDGET)
        train(settings, folder, progress=False)
    return json.loads((folder / "metrics.json").read_text())


def best_rate(out, name):
    "Find the learning rate with the best validation accuracy, seed 0"
    return max(RATES, key=lambda rate: metrics(out, name, rate, 0)["valid_accuracy"])


def step_seconds(name, images, labels):
    "Measure the median time of a training step on 128 images"
    model, times = create_model(name, seed=0, size="tiny").train(), []
    [optimizer] = make_optimizers(model, Settings())
    for _ in range(4):
        start = time.perf_counter()
        F.cross_entropy(model(model_input(model, images)), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def measure_speed(out, names):
    "Measure the seconds of a step of each model and keep them in a file"
    images, labels = load_data().train[:128]
    speed = stored(out / "speed.json")
    for name in tqdm(names, desc="steps"):
        speed[name] = step_seconds(name, images, labels)
    write_json(out / "speed.json", speed)
    return speed


def row(out, name, seconds, seeds):
    "Collect the row of a model"
    rate, layout = best_rate(out, name), known_models()[name].layout
    found = [metrics(out, name, rate, seed) for seed in range(seeds)]
    accuracies = [each["test_accuracy"] for each in found]
    valid = {str(each): metrics(out, name, each, 0)["valid_accuracy"] for each in RATES}
    return {
        "model": name,
        "tokens": layout.kind if layout else "unknown",
        "parameters": found[0]["parameters"],
        "flops": found[0]["flops"],
        "lr": rate,
        "valid_by_lr": valid,
        "test_accuracy": statistics.mean(accuracies),
        "spread": statistics.stdev(accuracies) if seeds > 1 else None,
        "seeds": seeds,
        "seconds": 79 * seconds,
    }


def stored(path):
    "Read what a file of an earlier call holds; nothing where there is none"
    return json.loads(path.read_text()) if path.exists() else {}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", metavar="NAME", help="these alone (default: all)")
    parser.add_argument("--seeds", type=int, default=3, help="trainings at the best learning rate")
    parser.add_argument("--out", type=Path, default=Path("runs/zoo"), help="of the run folders")
    parser.add_argument("--speed", action="store_true", help="only measure the steps again")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    torch.set_num_threads(1)
    known = list(list_models(size="tiny"))
    try:
        names = [check_name("model", name, known) for name in options.models or known]
    except UserError as error:
        parser.error(str(error))
    if options.speed:
        measure_speed(options.out, names)
        raise SystemExit
    bar = tqdm(names)
    for name in bar:
        bar.set_postfix_str(name)
        rate = best_rate(options.out, name)
        for seed in range(options.seeds):
            metrics(options.out, name, rate, seed)
    speed = stored(options.out / "speed.json")
    if not set(names) <= set(speed):
        speed = measure_speed(options.out, names)
    path = Path(__file__).with_suffix(".json")
    where = {
        "date": str(date.today()),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, one thread",
        "torch": torch.__version__,
        "vit-pytorch": version("vit-pytorch"),
    }
    rows = [row(options.out, name, speed[name], options.seeds) for name in names]
    before = stored(path) if options.models else {}
    if before:  # other rows keep what they were measured on, the new ones say it themselves
        rows = [each | {"measured": where} for each in rows]
        rows = [each for each in before["rows"] if each["model"] not in names] + rows
    write_json(path, {**where, **before, "rows": rows})
