"""`fast` against the peers, one after the other on this machine: seconds, accuracy, ratios.

`make bench-record`, or `python benchmarks/record.py [--seeds 5] [--out runs/record]`, with `--ship
"what this machine is"` if wanted: trains `fast` from that many seeds through the installed command,
then PyTorch's MNIST example for 4 epochs, then measures the throughput of a Vision Transformer of
mnistvit's published default size. All times exclude evaluation. Prints a table and writes
benchmarks/record.json; `--ship` also puts the median run of `fast` into the package as its weights.
About seven minutes on two cores, on which nothing else should run meanwhile.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader
from torchvision import datasets, transforms
from tqdm import tqdm
from vit_pytorch.vit import ViT

from bench import machine
from vit_mnist.baselines import CNN
from vit_mnist.core import write_json
from vit_mnist.data import cache_root, load_data, unpack_mnist
from vit_mnist.weights import publish_weights

HERE = Path(__file__).parent


def train_fast(seed, run):
    "Return the metrics of one run of the preset"
    command = [Path(sys.executable).with_name("vit_mnist_train"), "--preset", "fast"]
    command += ["--seed", str(seed), "--out", run, "--tracking", "disabled"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return json.loads((run / "metrics.json").read_text())


def image_loader(batch_size, *augmentation):
    "Return the usual pipeline: one image at a time, in Python"
    unpack_mnist()
    normalise = transforms.Normalize((0.1307,), (0.3081,))
    steps = transforms.Compose([*augmentation, transforms.ToTensor(), normalise])
    images = datasets.MNIST(cache_root(), train=True, transform=steps)
    return DataLoader(images, batch_size=batch_size, shuffle=True)


def test_accuracy(model, test):
    "Return the share of test images that the example predicts correctly"
    model.eval()
    correct, pixels = 0, (test.images / 255 - 0.1307) / 0.3081
    with torch.no_grad():
        for images, labels in zip(pixels.split(1000), test.labels.split(1000)):
            correct += (model(images).argmax(1) == labels).sum().item()
    model.train()
    return correct / len(test)


def train_example(epochs=4):
    """Train PyTorch's MNIST example: batch 64, Adadelta at 1.0, times 0.7 after each epoch.

    Returns seconds and test accuracy after each epoch.
    """
    torch.manual_seed(1)
    model, loader, test = CNN(), image_loader(64), load_data(valid_size=0).test
    optimizer = torch.optim.Adadelta(model.parameters(), lr=1.0)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.7)
    seconds, rows = 0.0, []
    for epoch in range(epochs):
        start = time.perf_counter()
        for images, labels in tqdm(loader, desc=f"PyTorch's example, epoch {epoch + 1}"):
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
        schedule.step()
        seconds += time.perf_counter() - start
        rows.append({"seconds": round(seconds, 1), "test_accuracy": test_accuracy(model, test)})
    return rows


def large_vit_throughput(steps=20):
    """Return the training images a second of a ViT with 11.1 M parameters.

    dim 420, 9 layers, 28 heads, patch 4; batch 32, RandomAffine on each image.
    """
    size = dict(dim=420, depth=9, heads=28, dim_head=15, mlp_dim=630)
    model = ViT(image_size=28, channels=1, patch_size=4, num_classes=10, **size)
    optimizer = torch.optim.AdamW(model.parameters())
    loader = image_loader(32, transforms.RandomAffine(10, (0.1, 0.1), (0.9, 1.1)))
    for step, (images, labels) in zip(range(-2, steps), loader):
        if step == 0:
            start = time.perf_counter()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
    return round(32 * steps / (time.perf_counter() - start), 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--seeds", type=int, default=5, help="runs of `fast`, with seeds 0, 1, 2 ..."
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/record"), help="new folder for the runs of `fast`"
    )
    parser.add_argument(
        "--ship",
        metavar="HARDWARE",
        help="put the median run's weights into the package; what they were trained on, in words",
    )
    options = parser.parse_args()
    folders = [options.out / str(seed) for seed in range(options.seeds)]
    runs = [
        train_fast(seed, folder) for seed, folder in enumerate(tqdm(folders, desc="fast, seeds"))
    ]
    example, images_per_second = train_example(), large_vit_throughput()
    accuracy, seconds = [[run[key] for run in runs] for key in ("test_accuracy", "train_seconds")]
    record = {
        "date": str(date.today()),
        "machine": machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "fast": {"accuracy": accuracy, "seconds": seconds},
        "example": example,
        "large_vit_images_per_second": images_per_second,
        "ratio": round(statistics.mean(seconds) / example[-1]["seconds"], 3),
    }
    write_json(HERE / "record.json", record)
    if options.ship:
        publish_weights("fast", folders, options.ship)
    spread = statistics.stdev(accuracy) if options.seeds > 1 else 0
    print(
        f"fast: {100 * statistics.mean(accuracy):.2f} % ± {100 * spread:.2f} "
        f"(mean and standard deviation of {options.seeds} seeds), "
        f"{statistics.mean(seconds):.1f} s"
    )
    print(
        f"PyTorch's MNIST example, 4 epochs: {100 * example[-1]['test_accuracy']:.2f} %, "
        f"{example[-1]['seconds']} s; fast takes {record['ratio']} of that"
    )
    minutes = 60_000 / images_per_second / 60
    print(
        f"ViT of 11.1 M parameters, per-image pipeline: {images_per_second} images/s, "
        f"{minutes:.0f} minutes an epoch"
    )


if __name__ == "__main__":
    main()
