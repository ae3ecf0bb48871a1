"The built packages: what is in them, and a short training run where nothing else is."

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest
from conftest import HANGS

ROOT = Path(__file__).parent.parent
UV = Path(sys.executable).with_name("uv")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    "The folder with wheel and source archive, built from a copy of what git tracks"
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in (
        subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True)
        .rstrip("\0")
        .split("\0")
    ):
        if name.startswith(("nbs/", "tests/", "tools/")):
            continue  # so nothing that is packed can come from there
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, source / name)
    subprocess.run(
        [sys.executable, "-m", "build", "--installer", "uv", "--outdir", out, source],
        check=True,
        env={**os.environ, "PATH": f"{UV.parent}:{os.environ['PATH']}"},
    )
    return out


def test_both_versions_of_nbdev_read_the_same_settings():
    parser = ConfigParser(delimiters=["="])
    parser.read(ROOT / "settings.ini", encoding="utf-8")
    other_name = {"doc_procs": "procs", "repository": "git_url"}
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for name, value in pyproject["tool"]["nbdev"].items():
        text = " ".join(value) if isinstance(value, list) else str(value)
        assert parser["DEFAULT"][other_name.get(name, name)] == text, name


def test_wheel_holds_data_licences_and_static_files(built):
    names = set(zipfile.ZipFile(next(built.glob("*.whl"))).namelist())
    tracked = subprocess.check_output(["git", "ls-files", "vit_mnist"], cwd=ROOT, text=True).split()
    assert set(tracked) <= names
    assert {"LICENSE", "vit_mnist/mnist/LICENSE"} <= {
        name.split("licenses/")[-1] for name in names if "licenses/" in name
    }


def test_wheel_says_that_its_types_can_be_relied_on(built):
    assert "vit_mnist/py.typed" in zipfile.ZipFile(next(built.glob("*.whl"))).namelist()


def test_wheel_names_its_extras(built):
    wheel = zipfile.ZipFile(next(built.glob("*.whl")))
    metadata = wheel.read(
        next(name for name in wheel.namelist() if name.endswith("METADATA"))
    ).decode()
    extras = {"explain": "captum", "tune": "optuna", "export": "onnxruntime", "pipeline": "dvc"}
    extras |= {"drift": "sqlalchemy", "postgres": "psycopg"}
    for extra, package in extras.items():
        assert re.search(
            rf"^Requires-Dist: {package}\b.*extra == .{extra}.$", metadata, re.MULTILINE
        ), extra


def test_what_is_read_on_pypi_has_whole_addresses(built):
    wheel = zipfile.ZipFile(next(built.glob("*.whl")))
    (name,) = (name for name in wheel.namelist() if name.endswith("METADATA"))
    text = wheel.read(name).decode()
    targets = re.findall(r"\]\(([^)\s]+)", text) + re.findall(r'src="([^"]+)"', text)
    assert len(targets) > 50
    assert not [target for target in targets if not re.match(r"https://|#", target)]
    assert "/raw/main/nbs/images/" in text and "/blob/main/nbs/10_data.ipynb" in text


def test_source_archive_builds_the_same_wheel(built, tmp_path):
    tarfile.open(next(built.glob("*.tar.gz"))).extractall(tmp_path, filter="data")
    subprocess.run(
        [
            UV,
            "build",
            "--wheel",
            "--quiet",
            "--out-dir",
            tmp_path,
            next(tmp_path.glob("vit_mnist-*")),
        ],
        check=True,
    )
    again, first = (
        set(zipfile.ZipFile(next(folder.glob("*.whl"))).namelist()) for folder in (tmp_path, built)
    )
    assert again == first


def share_compiled(venv):
    "Give an environment what Python has compiled of the same packages here, to save compiling"
    here, there = (
        Path(sysconfig.get_path("purelib", vars={"base": each})) for each in (sys.prefix, venv)
    )
    for compiled in here.rglob("__pycache__"):
        package = there / compiled.parent.relative_to(here)
        if package.is_dir() and not (package / "__pycache__").exists():
            shutil.copytree(compiled, package / "__pycache__", copy_function=shutil.copyfile)


def test_wheel_trains_where_nothing_else_is(built, tmp_path):
    subprocess.run(
        [UV, "venv", "--quiet", "--python", sys.executable, tmp_path / "venv"], check=True
    )
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run(
        [UV, "pip", "install", "--quiet", "--python", python, next(built.glob("*.whl"))], check=True
    )
    share_compiled(tmp_path / "venv")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {
        "VIT_MNIST_HOME": str(tmp_path / "data")
    }
    where = subprocess.run(
        [python, "-c", "import vit_mnist; print(vit_mnist.__file__)"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert where.startswith(str(tmp_path))
    done = subprocess.run(
        [python.with_name("vit_mnist_train"), *"--limit 512 --epochs 1 --valid-size 1000".split()]
        + ["--out", "run"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=HANGS,
    )
    assert done.returncode == 0 and "test accuracy" in done.stdout, done.stderr
    assert (tmp_path / "run" / "model.safetensors").stat().st_size > 100_000
