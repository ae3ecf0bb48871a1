"What several test files need: the installed scripts, processes that obey permissions, trained models."
import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: bit for bit is a promise for one number of threads

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(sys.executable).parent


def run_script(*words, before=(), **kwargs):
    "Runs an installed script to its end; `before` is what starts it"
    words = [*before, SCRIPTS / words[0], *words[1:]]
    return subprocess.run(words, **{"capture_output": True, "text": True, "timeout": 600, **kwargs})


@pytest.fixture(scope="session")
def script():
    return run_script


@pytest.fixture(scope="session")
def unprivileged():
    "How to start a process that obeys file permissions, which root does not"
    if os.geteuid():
        return []
    if not shutil.which("setpriv"):
        pytest.skip("root needs setpriv (util-linux) to be refused")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    "A run folder with a model of some 95 %, after a few seconds of training"
    folder = tmp_path_factory.mktemp("trained") / "run"
    run_script("vit_mnist_train", "--out", folder, "--limit", "20000", "--epochs", "1", "--valid-size", "1000", check=True)
    return folder
