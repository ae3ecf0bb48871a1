"""Speed, memory and start-up on this machine, about two minutes on two cores: `make bench`.

Prints a table and appends it to benchmarks/results.csv with date, machine and versions. Nothing else should be running meanwhile.
"""

import csv
import json
import os
import platform
import subprocess
import sys
import tempfile
from datetime import date
from importlib.metadata import entry_points, version
from itertools import count, islice
from pathlib import Path
from time import perf_counter

from PIL import Image, ImageDraw
from tqdm import tqdm

SCRIPTS = Path(sys.executable).parent
RESULTS = Path(__file__).with_name("results.csv")
BATCH = 128


def seconds(words, **kwargs):
    "What one call of a program takes, the best of three"

    def once():
        start = perf_counter()
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, **kwargs)
        return perf_counter() - start

    return min(once() for _ in range(3))


def rate(batches, n):
    "Images a second of the next `n` batches, after a few to warm up"
    batches = iter(batches)
    list(islice(batches, 5))
    start = perf_counter()
    images = sum(len(labels) for _, labels in islice(batches, n))
    return images / (perf_counter() - start)


def train_command(folder):
    "`make train`'s command: its run folder and its peak memory in bytes, for which no other child may have been larger"
    process = subprocess.Popen(
        [SCRIPTS / "vit_mnist_train", "--preset", "fast"], cwd=folder, stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit("training failed")
    (run,) = (folder / "runs").iterdir()
    return run, used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def start_up(run, folder):
    "Seconds until a command has answered"
    page = Image.new("L", (200, 200), "white")
    ImageDraw.Draw(page).line([(60, 50), (140, 50), (90, 160)], "black", 15)
    page.save(folder / "seven.png")
    commands = [
        e.name for e in entry_points(group="console_scripts") if e.value.startswith("vit_mnist.")
    ]
    return {
        "slowest --help": max(seconds([SCRIPTS / name, "--help"]) for name in commands),
        "import torch": seconds([sys.executable, "-c", "import torch"]),
        "vit_mnist_predict, one image": seconds(
            [SCRIPTS / "vit_mnist_predict", run, folder / "seven.png"]
        ),
    }


def data_path():
    "Images a second, augmented: whole batches of resident tensors; torchvision's one image at a time; the same with a worker for each core"
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms
    from vit_mnist.augment import Augment
    from vit_mnist.data import cache_root
    from vit_mnist.data import batches, load_data, normalise

    train = load_data().train
    ours = (
        (normalise(images), labels)
        for epoch in count()
        for images, labels in batches(train, BATCH, seed=0, epoch=epoch, augment=Augment())
    )
    steps = transforms.Compose(
        [
            transforms.RandomAffine(12, (2 / 28, 2 / 28), (1 / 1.12, 1.12), 9),
            transforms.ToTensor(),
            transforms.Normalize((0.1307,), (0.3081,)),
        ]
    )
    peer = datasets.MNIST(cache_root(), train=True, transform=steps)
    loaders = (
        DataLoader(peer, BATCH, shuffle=True, num_workers=workers)
        for workers in (0, os.cpu_count())
    )
    return rate(ours, 2000), *(rate(loader, 100) for loader in loaders)


def bare_step(model, batch_size):
    "Images a second of forward pass, loss, backward pass and AdamW alone, on one batch that is there already"
    import torch
    import torch.nn.functional as F

    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    images, labels = torch.randn(batch_size, 1, 28, 28), torch.randint(10, [batch_size])

    def steps():
        while True:
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
            optimizer.zero_grad()
            yield images, labels

    return rate(steps(), 200)


def machine():
    "The processor's name, as well as can be known"
    try:
        return next(
            line.split(":")[1].strip()
            for line in open("/proc/cpuinfo")
            if line.startswith("model name")
        )
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def keep(figures):
    "Prints figures (what, value, unit, what is wanted) and appends them to results.csv"
    import torch

    about = {
        "date": date.today(),
        "machine": machine(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "torchvision", "vit-pytorch", "vit_mnist")},
    }
    for name, value, unit, wanted in figures:
        print(f"{name:52}{value:>12,} {unit:9}{wanted}")
    new = not RESULTS.exists()
    with open(RESULTS, "a", newline="") as file:
        rows = csv.DictWriter(file, [*about, "figure", "value", "unit"], lineterminator="\n")
        if new:
            rows.writeheader()
        rows.writerows(
            {**about, "figure": name, "value": value, "unit": unit}
            for name, value, unit, _ in figures
        )


def main():
    bar = tqdm(total=4, unit="part")
    with tempfile.TemporaryDirectory() as folder:
        run, memory = train_command(
            Path(folder)
        )  # before torch is imported here: a child starts with its parent's peak
        bar.update()
        starts = start_up(run, Path(folder))
        bar.update()
        metrics = json.loads((run / "metrics.json").read_text())
    ours, peer, peer_workers = data_path()
    bar.update()
    from vit_mnist.model import create_model
    from vit_mnist.presets import find_preset

    fast = find_preset("fast")
    bare = bare_step(create_model(fast.model, seed=0, **fast.model_args), fast.batch_size)
    bar.close()

    training = metrics["images_per_second"]
    figures = [
        ("data path, batches augmented", round(ours), "images/s", ""),
        ("data path, torchvision DataLoader with RandomAffine", round(peer), "images/s", ""),
        ("data path, the same with a worker for each core", round(peer_workers), "images/s", ""),
        ("data path, ratio to one process", round(ours / peer, 1), "times", "at least 20"),
        ("data path, ratio to a worker for each core", round(ours / peer_workers, 1), "times", ""),
        ("training step, bare", round(bare), "images/s", ""),
        ("training, make train", training, "images/s", ""),
        ("training, share of the bare step", round(100 * training / bare, 1), "%", "at least 60"),
        ("make train, training", metrics["train_seconds"], "s", ""),
        ("make train, test accuracy", round(100 * metrics["test_accuracy"], 2), "%", ""),
        ("make train, peak memory", round(memory / 1e9, 3), "GB", "under 1.5"),
        *(
            (f"start-up, {name}", round(value, 2), "s", "under 1.5" if "help" in name else "")
            for name, value in starts.items()
        ),
        (
            "start-up, predict to import torch",
            round(starts["vit_mnist_predict, one image"] / starts["import torch"], 2),
            "times",
            "at most 1.5",
        ),
    ]
    keep(figures)


if __name__ == "__main__":
    main()
