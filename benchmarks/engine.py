"""What the engine's options do to speed, and what keeping a run safe costs: `make bench-engine`.

Trains the default model on 10,000 images for two epochs with each option and takes the second,
when everything is warm and compiled; about eight minutes on two cores. Prints a table and appends
it to benchmarks/results.csv. Nothing else should be running meanwhile.
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
    "Return the training images a second of the second epoch of a run"
    threads = {"OMP_NUM_THREADS": "1"} if before else {}
    words = f"--limit {IMAGES} --epochs 2 --valid-size 0 --tracking disabled".split()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        subprocess.run(
            [*before, SCRIPTS / "vit_mnist_train", *words, "--out", run, *options],
            check=True,
            stdout=subprocess.DEVNULL,
            env={**os.environ, **threads},
        )
        rows = list(csv.DictReader((run / "history.csv").open()))
    first, second = (float(row["seconds"]) for row in rows)
    return IMAGES / (second - first)


def registry_to_by_hand(turns=400):
    """Return the speed of a training step of the zoo's `vit` to that of the class built by hand.

    A step each in turn, so that whatever else the machine does meets both.
    """
    import torch
    import torch.nn.functional as F
    from vit_mnist.model import about, create_model
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

    pairs = zip(steps(ours), steps(ViT(**about(ours).args)))
    warm = list(islice(pairs, turns))[turns // 10 :]
    return median(by_hand / by_name for by_name, by_hand in warm)


def cost_of_safety():
    "Return what a run's folder, checkpoints and offline tracking add to its time, as a share"
    from vit_mnist.data import load_data
    from vit_mnist.loop import fit
    from vit_mnist.model import create_model
    from vit_mnist.settings import Settings
    from vit_mnist.training import FinalTest, train

    def bare():
        data = load_data()
        callbacks = [FinalTest(data.test)]
        fit(create_model("vit", seed=0), data.train, data.valid, callbacks=callbacks)

    def safe():
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder) / "run"
            train(Settings(), run, progress=False, pictures={}, tracking="wandb")

    def seconds(call):
        start = perf_counter()
        call()
        return perf_counter() - start

    without, with_all = map(min, zip(*((seconds(bare), seconds(safe)) for _ in range(2))))
    return with_all / without - 1


if __name__ == "__main__":
    rates = {name: images_per_second(*way) for name, way in tqdm(WAYS.items(), unit="way")}
    usual = rates["as it is"]
    rows = [(f"engine, {name}", round(rate), "images/s", "") for name, rate in rates.items()]
    rows += [
        (f"engine, {name} to as it is", round(rate / usual, 2), "times", "")
        for name, rate in rates.items()
        if name != "as it is"
    ]
    ratio, cost = round(registry_to_by_hand(), 3), round(100 * cost_of_safety(), 1)
    rows.append(("zoo, vit by name to built by hand", ratio, "times", "about 1"))
    rows.append(("engine, cost of run folder, checkpoints and tracking", cost, "%", "under 5"))
    keep(rows)
