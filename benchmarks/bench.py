"""Speed, memory and start-up on this machine, about two minutes on two cores: `make bench`.

Prints a table and appends it to benchmarks/results.csv with date, machine and versions.
Nothing else should be running meanwhile.
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


def seconds(words, status=0):
    "Time one call of a program that ends with that status, the best of three"

    def once():
        start = perf_counter()
        done = subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode != status:
            sys.exit(done.stderr)
        return perf_counter() - start

    return min(once() for _ in range(3))


def rate(batches, n):
    "Return images a second over the next `n` batches, after a few to warm up"
    batches = iter(batches)
    list(islice(batches, 5))
    start = perf_counter()
    images = sum(len(labels) for _, labels in islice(batches, n))
    return images / (perf_counter() - start)


def train_command(folder):
    """Run the command of `make train`; return its run folder and its peak memory in bytes.

    The memory is right as long as no earlier child process was larger.
    """
    words = [SCRIPTS / "vit_mnist_train", "--preset", "fast"]
    process = subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit("training failed")
    (run,) = (folder / "runs").iterdir()
    return run, used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def start_up(run, folder):
    "Return the seconds each command takes to answer"
    page = Image.new("L", (200, 200), "white")
    ImageDraw.Draw(page).line([(60, 50), (140, 50), (90, 160)], "black", 15)
    page.save(folder / "seven.png")
    scripts = entry_points(group="console_scripts")
    commands = [script.name for script in scripts if script.value.startswith("vit_mnist.")]
    predict = [SCRIPTS / "vit_mnist_predict", run, folder / "seven.png"]
    return {
        "slowest --help": max(seconds([SCRIPTS / name, "--help"]) for name in commands),
        "a mistyped option": seconds([SCRIPTS / "vit_mnist_train", "--modle", "vit"], 2),
        "a mistyped model": seconds([SCRIPTS / "vit_mnist_train", "--model", "vti"], 2),
        "import torch": seconds([sys.executable, "-c", "import torch"]),
        "from vit_mnist.all import *": seconds(
            [sys.executable, "-c", "from vit_mnist.all import *"]
        ),
        "vit_mnist_predict, one image": seconds(predict),
    }


def data_path():
    """Return images a second, augmented, of three ways to make batches.

    Whole batches of resident tensors; torchvision's one image at a time; the same with a worker
    for each core.
    """
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms
    from vit_mnist.augment import Augment
    from vit_mnist.data import batches, cache_root, load_data, normalise

    train = load_data().train

    def ours():
        for epoch in count():
            for images, labels in batches(train, BATCH, seed=0, epoch=epoch, augment=Augment()):
                yield normalise(images), labels

    move = transforms.RandomAffine(12, (2 / 28, 2 / 28), (1 / 1.12, 1.12), 9)
    centre = transforms.Normalize((0.1307,), (0.3081,))
    steps = transforms.Compose([move, transforms.ToTensor(), centre])
    peer = datasets.MNIST(cache_root(), train=True, transform=steps)
    rates = [rate(ours(), 2000)]
    for workers in (0, os.cpu_count()):
        rates.append(rate(DataLoader(peer, BATCH, shuffle=True, num_workers=workers), 100))
    return rates


def bare_step(model, batch_size):
    "Return images a second of a training step alone, on one batch that is there already"
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
    "Return the processor's name, or the nearest thing the system tells"
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def keep(figures):
    "Print figures (name, value, unit, goal) and append them to results.csv"
    import torch

    about = {
        "date": date.today(),
        "machine": machine(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "torchvision", "vit-pytorch", "vit_mnist")},
    }
    for name, value, unit, goal in figures:
        print(f"{name:52}{value:>12,} {unit:9}{goal}")
    new = not RESULTS.exists()
    with open(RESULTS, "a", newline="") as file:
        rows = csv.DictWriter(file, [*about, "figure", "value", "unit"], lineterminator="\n")
        if new:
            rows.writeheader()
        for name, value, unit, _ in figures:
            rows.writerow({**about, "figure": name, "value": value, "unit": unit})


def main():
    bar = tqdm(total=4, unit="part")
    with tempfile.TemporaryDirectory() as folder:
        # before torch is imported here: a child starts with its parent's peak
        run, memory = train_command(Path(folder))
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
    answer = starts["vit_mnist_predict, one image"] / starts["import torch"]
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
    ]
    for name, value in starts.items():
        goal = "under 1.5" if "help" in name else "under 0.5" if "mistyped" in name else ""
        figures.append((f"start-up, {name}", round(value, 2), "s", goal))
    name = "start-up, predict to import torch"
    figures.append((name, round(answer, 2), "times", "at most 1.5"))
    whole = starts["from vit_mnist.all import *"] / starts["import torch"]
    name = "start-up, vit_mnist.all to import torch"
    figures.append((name, round(whole, 2), "times", "at most 1.3"))
    keep(figures)


if __name__ == "__main__":
    main()
