"""A preset with one thing changed at a time, trained on 50,000 images, measured on validation.

`python benchmarks/changes.py fast [--seeds 3] [--out runs/changes-fast]` trains each change from
the same seeds. Each training is a run folder under --out; what is finished is not trained again,
so that the command resumes where it was stopped, and several of them may share the work. Writes
benchmarks/changes-fast.json. `best` is trained for twelve epochs. Accuracies only: runs side by
side say nothing about speed.
"""

import argparse
import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import torch
from tqdm import tqdm

from vit_mnist.core import write_json
from vit_mnist.presets import find_preset
from vit_mnist.settings import Settings
from vit_mnist.training import train

FAST = find_preset("fast", valid_size=10_000)
BEST = replace(find_preset("best", valid_size=10_000), epochs=12)


def model(settings, **changes):
    return replace(settings, model_args={**settings.model_args, **changes})


CHANGES = {
    "fast": {  # what is changed: the settings
        "nothing": FAST,
        "a plain ViT, patch 7, 6 layers": replace(FAST, model="vit", model_args={}),
        "three convolutions, 16 tokens": model(FAST, n_conv_layers=3, kernel_size=3, stride=2),
        "1 layer": model(FAST, num_layers=1),
        "3 layers": model(FAST, num_layers=3),
        "an MLP half as wide": model(FAST, mlp_ratio=1.0),
        "2 heads": model(FAST, num_heads=2),
        "batch 64": replace(FAST, batch_size=64, lr=6e-3),
        "batch 256": replace(FAST, batch_size=256, lr=1.2e-2),
        "3 epochs": replace(FAST, epochs=3),
        "5 epochs": replace(FAST, epochs=5),
        "no augmentation": replace(FAST, rotate=0.0, scale=0.0, shear=0.0, shift=0.0),
        "half the augmentation": replace(
            FAST,
            rotate=FAST.rotate / 2,
            scale=FAST.scale / 2,
            shear=FAST.shear / 2,
            shift=FAST.shift / 2,
        ),
        "label smoothing 0.1": replace(FAST, label_smoothing=0.1),
        "beta2 0.95": replace(FAST, beta2=0.95),
        "averaged weights": replace(FAST, ema=0.99),
        "Muon for the matrices": replace(FAST, optimizer="muon", lr=3e-3),
    },
    "best": {
        "nothing": BEST,
        "plain convolutions": model(BEST, stem=()),
        "1 layer": model(BEST, num_layers=1),
        "no label smoothing": replace(BEST, label_smoothing=0.0),
        "no averaging": replace(BEST, ema=0.0),
        "digits bent by 0.6 pixels": replace(BEST, elastic=0.6),
    },
}


def accuracy(settings: Settings, folder: Path):
    "Return the validation accuracy of one training; None while another process is at it"
    done = folder / "metrics.json"
    if folder.exists() and not done.exists():
        return None
    if not done.exists():
        train(settings, folder, progress=False, pictures={})
    return json.loads(done.read_text())["valid_accuracy"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("preset", choices=CHANGES)
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each change")
    parser.add_argument(
        "--out", type=Path, help="folder of the run folders, runs/changes-PRESET unless given"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    changes, out = CHANGES[options.preset], options.out or Path(f"runs/changes-{options.preset}")
    runs = [(name, seed) for seed in range(options.seeds) for name in changes]
    accuracies = {name: [] for name in changes}
    for name, seed in tqdm(runs, unit="run"):
        folder = out / f"{name.replace(' ', '-')}-{seed}"
        accuracies[name].append(accuracy(replace(changes[name], seed=seed), folder))
    if all(None not in each for each in accuracies.values()):
        write_json(
            Path(__file__).with_name(f"changes-{options.preset}.json"),
            {
                "date": str(date.today()),
                "torch": torch.__version__,
                "threads": 1,
                "valid_accuracy": accuracies,
            },
        )
