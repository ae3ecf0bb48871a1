"make in a folder whose name has spaces, as Google Drive and OneDrive make them."

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import HANGS

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="needs make")
TOOLS = "vit_mnist_data vit_mnist_train nbdev_export nbdev_test nbdev_clean dvc ruff python jupyter"
STUB = '#!/bin/sh\necho "ran $(basename "$0") $*"\n'


@pytest.fixture
def place(tmp_path):
    "Return a copy of the Makefile, as `make setup` leaves its folder"
    folder = tmp_path / "My Drive" / "Übung 1 (neu)" / "vit mnist"
    (folder / ".venv").mkdir(parents=True)
    for name in ("Makefile", "settings.ini", "setup.py", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    (folder / ".venv" / ".installed").touch()
    return folder


def make(folder, *targets):
    words = ["make", *targets]
    # what the make that runs these tests hands on, its VENV for one, is not this one's
    own = {name: value for name, value in os.environ.items() if name[:4] not in ("MAKE", "VENV")}
    done = subprocess.run(words, cwd=folder, env=own, capture_output=True, text=True, timeout=HANGS)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_data_is_unpacked(place):
    (place / ".venv" / "bin").symlink_to(Path(sys.executable).parent, target_is_directory=True)
    assert "50,000 training" in make(place, "data")


def test_every_target_finds_its_programs(place):
    (place / ".venv" / "bin").mkdir()
    for name in TOOLS.split():
        (place / ".venv" / "bin" / name).write_text(STUB)
        (place / ".venv" / "bin" / name).chmod(0o755)
    rules = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.M)
    for target in set(rules) - {"help", "setup", "clean"}:
        assert "ran " in make(place, target), target
    assert (place / ".dvc-storage").is_dir() and os.listdir(place.parent) == [place.name]
