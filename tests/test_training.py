"What a notebook cannot test of training: two processes."

import os
import subprocess
import sys
from pathlib import Path

from vit_mnist.core import sha256

SCRIPTS = Path(sys.executable).parent


def train(folder, *options):
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    words = [SCRIPTS / "vit_mnist_train", "--out", folder, "--device", "cpu"]
    return subprocess.run(
        [*words, "--tracking", "disabled", *options],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )


def test_same_seed_same_weights_in_two_processes(tmp_path):
    hashes = []
    for name, seed in [("a", "3"), ("b", "3"), ("other", "4")]:
        done = train(tmp_path / name, "--limit", "1000", "--epochs", "1", "--seed", seed)
        assert done.returncode == 0, done.stderr
        assert "test accuracy" in done.stdout and str(tmp_path / name) in done.stdout
        hashes.append(sha256((tmp_path / name / "model.safetensors").read_bytes()))
    assert hashes[0] == hashes[1] != hashes[2]
