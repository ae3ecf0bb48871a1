"""What the engine's options do to speed, and what keeping a run safe costs, about eight minutes on two cores: `make bench-engine`.

Trains the default model on 10,000 images for two epochs with each option and takes the second, when everything is warm and compiled.
Prints a table and appends it to benchmarks/results.csv. Nothing else should be running meanwhile.
"""

import csv
import os
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path
from statistics import median
from time import perf_counter

from bench import SCRIPTS, keep
from tqdm import tqdm

IMAGES = 10_000
TWO_PROCESSES = [
    sys.executable,
    "-m",
    "torch.distributed.run",
    "--standalone",
    "--nproc_per_node=2",
    "--no-python",
]
WAYS = {
    "as it is": ([], []),
    "bf16": ([], ["--precision", "bf16"]),
    "torch.compile": ([], ["--compile"]),
    "Muon": ([], ["--optimizer", "muon"]),
    "2 processes of 1 thread": (TWO_PROCESSES, []),
}


def images_per_second(before, options):
    "Training images a second of the second epoch of a run"
    with tempfile.TemporaryDirectory() as folder:
        run, threads = Path(folder) / "run", {"OMP_NUM_THREADS": "1"} if before else {}
        subprocess.run(
            [
                *before,
                SCRIPTS / "vit_mnist_train",
                "--limit",
                str(IMAGES),
                "--epochs",
                "2",
                "--valid-size",
                "0",
                "--tracking",
                "disabled",
                "--out",
                run,
                *options,
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            env={**os.environ, **threads},
        )
        first, second = (
            float(row["seconds"]) for row in csv.DictReader((run / "history.csv").open())
        )
    return IMAGES / (second - first)


def registry_to_by_hand(turns=400):
    "Speed of a training step of the zoo's `vit` to that of the same class built by hand: a step each in turn, so that whatever else the machine does meets both"
    import torch
    import torch.nn.functional as F
    from vit_mnist.model import create_model
    from vit_pytorch.vit import ViT

    ours = create_model("vit", seed=0).train()
    images, labels = torch.randn(128, 1, 28, 28), torch.randint(10, [128])

    def steps(model):
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
        while True:
            start = perf_counter()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
            optimizer.zero_grad()
            yield perf_counter() - start

    pairs = list(islice(zip(steps(ours), steps(ViT(**ours.spec.args))), turns))[turns // 10 :]
    return median(by_hand / by_name for by_name, by_hand in pairs)


def cost_of_safety():
    "What a default run with its folder, checkpoints and offline tracking takes beyond one that keeps nothing, as a share; the best of two each"
    from vit_mnist.data import load_data
    from vit_mnist.loop import fit
    from vit_mnist.model import create_model
    from vit_mnist.settings import Settings
    from vit_mnist.training import train

    def bare():
        fit(create_model("vit", seed=0), load_data())

    def safe():
        with tempfile.TemporaryDirectory() as folder:
            train(Settings(), Path(folder) / "run", callbacks=[], pictures={}, tracking="wandb")

    def seconds(call):
        start = perf_counter()
        call()
        return perf_counter() - start

    without, with_all = map(min, zip(*((seconds(bare), seconds(safe)) for _ in range(2))))
    return with_all / without - 1


if __name__ == "__main__":
    found = {name: images_per_second(*way) for name, way in tqdm(WAYS.items(), unit="way")}
    figures = [(f"engine, {name}", round(rate), "images/s", "") for name, rate in found.items()]
    figures += [
        (f"engine, {name} to as it is", round(rate / found["as it is"], 2), "times", "")
        for name, rate in found.items()
        if name != "as it is"
    ]
    keep(
        [
            *figures,
            (
                "zoo, vit by name to built by hand",
                round(registry_to_by_hand(), 3),
                "times",
                "about 1",
            ),
            (
                "engine, cost of run folder, checkpoints and tracking",
                round(100 * cost_of_safety(), 1),
                "%",
                "under 5",
            ),
        ]
    )
