"What a notebook cannot test of training: two processes, and the installed commands used wrongly."
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vit_mnist.data import sha256

SCRIPTS = Path(sys.executable).parent


def train(folder, *options):
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    return subprocess.run([SCRIPTS / "vit_mnist_train", "--out", folder, "--device", "cpu", "--tracking", "disabled", *options],
                          capture_output=True, text=True, env=environment, timeout=300)


def test_same_seed_same_weights_in_two_processes(tmp_path):
    hashes = []
    for name, seed in [("a", "3"), ("b", "3"), ("other", "4")]:
        done = train(tmp_path / name, "--limit", "1000", "--epochs", "1", "--seed", seed)
        assert done.returncode == 0, done.stderr
        assert "test accuracy" in done.stdout and str(tmp_path / name) in done.stdout
        hashes.append(sha256((tmp_path / name / "model.safetensors").read_bytes()))
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize("options, message", [
    (["--model", "vti"], "did you mean 'vit'?"),
    (["--data", "mnits"], "did you mean 'mnist'?"),
    (["--epochs", "0"], "epochs must be from 1"),
    (["--lr", "fast"], "invalid float value: 'fast'"),
    (["--modle", "vit"], "unrecognized arguments"),
    (["--device", "tpu"], "no device 'tpu'"),
])
def test_a_mistake_is_one_line_and_status_2(tmp_path, options, message):
    done = train(tmp_path / "run", *options)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and message in done.stderr
    assert not (tmp_path / "run").exists()


def test_an_existing_folder_is_refused_and_kept(tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    done = train(tmp_path)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "exists already" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["note.txt"]
