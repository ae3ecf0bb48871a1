"""A preset trained from several seeds: what it reaches, and the median run as package weights.

`python benchmarks/train.py best --ship "what this machine is"` trains `best` from seeds 0, 1 and 2
into runs/best-0, -1 and -2, resumes what was stopped, leaves alone what is finished, and writes
benchmarks/best.json: settings, epochs and metrics of each run. `--ship` also puts the median run's
weights and their card into the package.
"""

import argparse
import csv
import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import torch

from bench import machine
from vit_mnist.core import write_json
from vit_mnist.presets import PRESETS, find_preset
from vit_mnist.training import train
from vit_mnist.weights import publish_weights

ROOT = Path(__file__).parent.parent


def trained(name, seed):
    "Return the folder of the finished run of a preset; train or resume it if it is not finished"
    folder = ROOT / "runs" / f"{name}-{seed}"
    if (folder / "metrics.json").exists():
        return folder
    where = {"resume": folder} if folder.exists() else {"out": folder}
    train(replace(find_preset(name), seed=seed), **where)
    return folder


def read_run(folder):
    "Read the history, config and metrics of a run"
    rows = list(csv.DictReader((folder / "history.csv").open()))
    return {
        "history": [{key: float(value) for key, value in row.items()} for row in rows],
        "config": json.loads((folder / "config.json").read_text()),
        "metrics": json.loads((folder / "metrics.json").read_text()),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("preset", choices=PRESETS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--threads",
        type=int,
        default=torch.get_num_threads(),
        help="of each run; one for runs side by side",
    )
    parser.add_argument(
        "--ship",
        metavar="HARDWARE",
        help="put the median run's weights into the package; what they were trained on, in words",
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    folders = [trained(options.preset, seed) for seed in options.seeds]
    write_json(
        Path(__file__).with_name(f"{options.preset}.json"),
        {
            "date": str(date.today()),
            "machine": machine(),
            "runs": [read_run(folder) for folder in folders],
        },
    )
    if options.ship:
        publish_weights(options.preset, folders, options.ship)
