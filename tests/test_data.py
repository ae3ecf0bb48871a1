"Data across processes and modules: unpacking at once, locked folders, a data set of one's own."

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from vit_mnist.core import sha256
from vit_mnist.data import DATASETS, Split, add_data, mnist_hashes
from vit_mnist.evaluation import evaluate
from vit_mnist.runs import open_data, open_model
from vit_mnist.settings import Settings
from vit_mnist.training import train

UNPACK = "from vit_mnist.data import unpack_mnist; import sys; unpack_mnist(sys.argv[1])"


def test_two_processes_unpack_at_once(tmp_path, script):
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(script, "python", "-c", UNPACK, tmp_path) for _ in range(2)]
    assert [done.result().returncode for done in both] == [0, 0]
    unpacked = (tmp_path / "MNIST" / "raw").iterdir()
    assert {path.name: sha256(path.read_bytes()) for path in unpacked} == mnist_hashes()


def test_read_only_folder_is_one_line(tmp_path, script, unprivileged):
    tmp_path.chmod(0o555)
    try:
        done = script("python", "-c", UNPACK, tmp_path, before=unprivileged)
    finally:
        tmp_path.chmod(0o755)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode and "UserError: can't keep MNIST in" in last and "VIT_MNIST_HOME" in last
    assert list(tmp_path.iterdir()) == []


def test_read_only_folder_that_is_complete_serves(tmp_path, script, unprivileged):
    script("python", "-c", UNPACK, tmp_path, check=True)
    raw = tmp_path / "MNIST" / "raw"
    raw.chmod(0o555)
    try:
        script("python", "-c", UNPACK, tmp_path, before=unprivileged, check=True)
    finally:
        raw.chmod(0o755)


def bars(root):
    "Make 400 training and 100 test images of a bar, lying, standing, or both"
    images, labels = torch.zeros(500, 1, 28, 28, dtype=torch.uint8), torch.arange(500) % 3
    for i, (image, label) in enumerate(zip(images[:, 0], labels.tolist())):
        place = slice(3 + 5 * i % 23, 6 + 5 * i % 23)
        if label != 1:
            image[place] = 255
        if label != 0:
            image[:, place] = 255
    classes = "lying", "standing", "both"
    return Split(images[:400], labels[:400], classes), Split(images[400:], labels[400:], classes)


@pytest.fixture
def own_data():
    "Add a data set of one's own; take it away afterwards"
    add_data("bars", bars)
    yield "bars"
    del DATASETS["bars"]


def test_own_data_is_trained_on_and_opened_by_name(tmp_path, own_data):
    settings = Settings(model="cnn", data=own_data, valid_size=100, epochs=3, batch_size=20)
    run = train(settings, out=tmp_path / "run")
    assert run.metrics["test_accuracy"] > 0.9, run.metrics
    model, data = open_model(tmp_path / "run"), open_data(tmp_path / "run")
    assert (data.name, data.classes) == ("bars", ("lying", "standing", "both"))
    assert evaluate(model, data.test).accuracy == run.metrics["test_accuracy"]
