"Training in two processes: the same seed makes the same weights."

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import torch

from vit_mnist.core import sha256
from vit_mnist.loop import OneProcess
from vit_mnist.training import ProgressBar, new_folder

OPTIONS = [*"--limit 1000 --epochs 1 --valid-size 500 --device cpu".split(), "--tracking=disabled"]


def test_same_seed_same_weights_in_two_processes(tmp_path, brief_train):
    hashes = []
    for name, seed in [("a", "3"), ("b", "3"), ("other", "4")]:
        done = brief_train("--out", tmp_path / name, *OPTIONS, "--seed", seed)
        assert done.returncode == 0, done.stderr
        assert "test accuracy" in done.stdout and str(tmp_path / name) in done.stdout
        hashes.append(sha256((tmp_path / name / "model.safetensors").read_bytes()))
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_log_has_a_line_an_epoch_and_trained_weights_begin_a_run(tmp_path, brief_train, script):
    first = tmp_path / "first"
    assert brief_train("--out", first, *OPTIONS).returncode == 0
    done = brief_train("--out", tmp_path / "second", *OPTIONS, "--epochs", "2", "--from", first)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["epoch 1 of 2", "epoch 2 of 2"]
    assert "\r" not in done.stdout + done.stderr
    config = json.loads((tmp_path / "second" / "config.json").read_text())
    assert config["weights"]["file"] == str(first)
    measured = script("vit_mnist_evaluate", first, "--split", "train")
    assert "of 1,000 images" in measured.stdout, measured.stderr  # as many as it was trained on
    wrong = brief_train("--out", tmp_path / "third", *OPTIONS, "--from", "best", "--model", "cnn")
    assert wrong.returncode == 2 and "are of another model, cct" in wrong.stderr
    assert not (tmp_path / "third").exists()


def test_default_folders_of_one_second_differ(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: new_folder(model="cnn"), range(24)))
    assert len(set(folders)) == 24 and {path.parent.name for path in folders} == {"runs"}


def test_where_a_run_writes_is_said_in_a_line_that_can_be_printed(capsys):
    run = SimpleNamespace(main=True, accelerator=OneProcess(torch.device("cpu")), total_images=1)
    run.loss_sum, run.images, run.folder = torch.zeros(1), 0, Path("a\x1b[2J\nb")
    ProgressBar().on_start(run)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith(r"; writes a\x1b[2J\nb")
