"""Every model of the zoo with the same short budget: size tiny, one epoch on 10,000 images, one thread.

`python benchmarks/zoo.py [--models 'simple*'] [--seeds 3] [--out runs/zoo]` trains each model at three learning rates and takes the one
that is best on the validation images, then trains it from two more seeds. Each training is a run folder under --out; what is finished is
not trained again, so that the command goes on where it was stopped. Then it measures what a step costs and writes benchmarks/zoo.json.
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

from vit_mnist.core import write_json
from vit_mnist.data import load_data
from vit_mnist.model import create_model, model_input
from vit_mnist.optimizers import make_optimizers
from vit_mnist.settings import Settings
from vit_mnist.summary import list_models
from vit_mnist.training import train
from vit_mnist.zoo import ZOO

RATES = (1.5e-3, 4e-3, 1e-2)
BUDGET = dict(model_args={"size": "tiny"}, limit=10_000, epochs=1, device="cpu")


def metrics(out, name, rate, seed):
    "What one training came to; trained only if its folder has no result yet"
    folder = out / f"{name}-{rate:g}-{seed}"
    if not (folder / "metrics.json").exists():
        shutil.rmtree(folder, ignore_errors=True)  # of a training that was interrupted
        train(Settings(model=name, lr=rate, seed=seed, **BUDGET), folder, callbacks=[])
    return json.loads((folder / "metrics.json").read_text())


def best_rate(out, name):
    "The learning rate with the best validation accuracy, seed 0"
    return max(RATES, key=lambda rate: metrics(out, name, rate, 0)["valid_accuracy"])


def step_seconds(name, images, labels):
    "Median time of a training step on 128 images"
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
    "Seconds of a step for each model, kept in a file"
    images, labels = load_data().train[:128]
    speed = {name: step_seconds(name, images, labels) for name in tqdm(names, desc="steps")}
    write_json(out / "speed.json", speed)
    return speed


def row(out, name, seconds, seeds):
    "A model's line of the table"
    rate = best_rate(out, name)
    found = [metrics(out, name, rate, seed) for seed in range(seeds)]
    accuracies = [each["test_accuracy"] for each in found]
    valid = {str(each): metrics(out, name, each, 0)["valid_accuracy"] for each in RATES}
    return {
        "model": name,
        "tokens": ZOO[name].layout.kind,
        "parameters": found[0]["parameters"],
        "flops": found[0]["flops"],
        "lr": rate,
        "valid_by_lr": valid,
        "test_accuracy": statistics.mean(accuracies),
        "spread": statistics.stdev(accuracies) if seeds > 1 else None,
        "seeds": seeds,
        "seconds": 79 * seconds,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="*", help="shell-style pattern of names")
    parser.add_argument(
        "--seeds", type=int, default=3, help="trainings at the chosen learning rate"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/zoo"), help="folder of the run folders"
    )
    parser.add_argument(
        "--speed", action="store_true", help="only measure the time of a step, again"
    )
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    torch.set_num_threads(1)
    names = list(list_models(options.models))
    if options.speed:
        measure_speed(options.out, names)
        raise SystemExit
    bar = tqdm(names)
    for name in bar:
        bar.set_postfix_str(name)
        rate = best_rate(options.out, name)
        for seed in range(options.seeds):
            metrics(options.out, name, rate, seed)
    kept = options.out / "speed.json"
    speed = json.loads(kept.read_text()) if kept.exists() else {}
    if not set(names) <= set(speed):
        speed = measure_speed(options.out, names)
    result = {
        "date": str(date.today()),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, one thread",
        "torch": torch.__version__,
        "vit-pytorch": version("vit-pytorch"),
        "rows": [row(options.out, name, speed[name], options.seeds) for name in names],
    }
    write_json(Path(__file__).with_suffix(".json"), result)
