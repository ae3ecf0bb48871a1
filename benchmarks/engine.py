"""What the engine's options do to speed, and what keeping a run safe costs, about five minutes on two cores: `make bench-engine`.

Trains the default model on 10,000 images for two epochs with each option and takes the second, when everything is warm and compiled.
Prints a table and appends it to benchmarks/results.csv. Nothing else should be running meanwhile.
"""
import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from bench import SCRIPTS, bare_step, keep
from tqdm import tqdm

IMAGES = 10_000
TWO_PROCESSES = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "--no-python"]
WAYS = {"as it is": ([], []), "bf16": ([], ["--precision", "bf16"]), "torch.compile": ([], ["--compile"]), "Muon": ([], ["--optimizer", "muon"]),
        "2 processes of 1 thread": (TWO_PROCESSES, [])}


def images_per_second(before, options):
    "Training images a second of the second epoch of a run"
    with tempfile.TemporaryDirectory() as folder:
        run, threads = Path(folder) / "run", {"OMP_NUM_THREADS": "1"} if before else {}
        subprocess.run([*before, SCRIPTS / "vit_mnist_train", "--limit", str(IMAGES), "--epochs", "2", "--valid-size", "0", "--tracking", "disabled", "--out", run, *options],
                       check=True, stdout=subprocess.DEVNULL, env={**os.environ, **threads})
        first, second = (float(row["seconds"]) for row in csv.DictReader((run / "history.csv").open()))
    return IMAGES / (second - first)


def registry_to_by_hand():
    "Speed of a training step of the zoo's `vit` to that of the same model built by hand, the best of several turns each"
    from vit_mnist.model import create_model
    from vit_pytorch.vit import ViT
    model = create_model("vit", seed=0)
    rates = [(bare_step(model, 128), bare_step(ViT(**model.spec.args), 128)) for _ in range(4)]
    ours, by_hand = map(max, zip(*rates))
    return ours / by_hand


def share_of_safety():
    "The share of a default run's seconds that its steps and epochs spend in checkpoints and tracking"
    from vit_mnist.checkpoints import Checkpoints, Signals
    from vit_mnist.settings import Settings
    from vit_mnist.tracking import Tracker
    from vit_mnist.training import train
    spent = []

    def timed(method):
        def run(*args):
            start = perf_counter()
            try:
                return method(*args)
            finally:
                spent.append(perf_counter() - start)
        return run

    for callback in (Checkpoints, Signals, Tracker):
        for event in ("on_start", "on_step", "on_epoch", "on_trained", "on_end", "on_exit"):
            if event in vars(callback):
                setattr(callback, event, timed(getattr(callback, event)))
    with tempfile.TemporaryDirectory() as folder:
        start = perf_counter()
        train(Settings(), Path(folder) / "run", callbacks=[], tracking="wandb")
        return sum(spent) / (perf_counter() - start)


if __name__ == "__main__":
    found = {name: images_per_second(*way) for name, way in tqdm(WAYS.items(), unit="way")}
    figures = [(f"engine, {name}", round(rate), "images/s", "") for name, rate in found.items()]
    figures += [(f"engine, {name} to as it is", round(rate / found["as it is"], 2), "times", "") for name, rate in found.items() if name != "as it is"]
    keep([*figures, ("zoo, vit by name to built by hand", round(registry_to_by_hand(), 2), "times", "about 1"),
          ("engine, checkpoints and tracking", round(100 * share_of_safety(), 2), "%", "under 5")])
