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
TOOLS = "vit_mnist_data vit_mnist_train nbdev_export nbdev_test nbdev_clean nbdev_install_hooks"
TOOLS += " dvc ruff mypy uv pre-commit python jupyter"
STUB = '#!/bin/sh\necho "ran $(basename "$0") $*"\n'


@pytest.fixture
def place(tmp_path):
    "Return a copy of the Makefile, as `make setup` leaves its folder"
    folder = tmp_path / "My Drive" / "Übung 1 (neu)" / "vit mnist"
    (folder / ".venv").mkdir(parents=True)
    for name in ("Makefile", "settings.ini", "setup.py", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, folder)
    (folder / ".venv" / ".installed").touch()
    return folder


def make(folder, *targets):
    words = ["make", *targets]
    # what the make that runs these tests hands on, its VENV for one, is not this one's
    handed_on = ("MAKE", "VENV", "NEWEST")
    own = {name: value for name, value in os.environ.items() if not name.startswith(handed_on)}
    done = subprocess.run(words, cwd=folder, env=own, capture_output=True, text=True, timeout=HANGS)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def setup_with(folder, status, *words):
    "Run make setup where Python makes a folder of programs that only say what they were asked"
    python, programs = folder / "python", folder / "new" / "bin"
    stub = STUB + f'[ "$(basename "$0")" != uv ] || exit {status}\n'
    lines = [f"mkdir -p '{programs}'"]
    for name in ("pip", "uv"):
        (folder / name).write_text(stub)
        (folder / name).chmod(0o755)
        lines.append(f"cp '{folder / name}' '{programs}'")
    python.write_text("\n".join(["#!/bin/sh", '[ "$1" = -m ] || exit 0', *lines]))
    python.chmod(0o755)
    command = ["make", "setup", "VENV=new", "PYTHON=./python", *words]
    own = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    own = {name: value for name, value in own.items() if name not in ("VENV", "NEWEST")}
    return subprocess.run(command, cwd=folder, env=own, capture_output=True, text=True, timeout=600)


def test_setup_installs_what_is_locked_or_the_newest(place):
    done = setup_with(place, 0)
    assert "--constraints requirements.lock -e .[dev]" in done.stdout, done.stderr
    assert "up to date" in setup_with(place, 0).stdout or "Nothing" in setup_with(place, 0).stdout
    done = setup_with(place, 0, "NEWEST=1")
    assert "--upgrade -e .[dev]" in done.stdout and "--constraints" not in done.stdout


def test_setup_says_in_a_line_that_a_platform_is_not_served(place):
    done = setup_with(place, 1)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert done.returncode and len(lines) == 1 and "make setup NEWEST=1" in lines[0]
    assert not (place / "new" / ".installed").exists()


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
