"The pipeline in a copy of the project, and searches with workers that die."

import ast
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import pytest
import yaml
from conftest import HANGS, SCRIPTS
from vit_mnist.cli import _given, _options, vit_mnist_train
from vit_mnist.settings import Settings
from vit_mnist.tuning import find_space, open_study, search_rows, tune

ROOT = Path(__file__).parent.parent
SMALL = {"limit": 1000, "epochs": 1, "valid_size": 500, "device": "cpu"}


# the pipeline


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    "A repository of its own with what git tracks here, and small numbers in params.yaml"
    folder = tmp_path_factory.mktemp("project")
    for name in (
        subprocess.check_output(
            ["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, text=True
        )
        .rstrip("\0")
        .split("\0")
    ):
        if name.startswith(("nbs/", "tests/", "benchmarks/")) or not (ROOT / name).exists():
            continue
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    set_params(folder, **SMALL, model_args='{"depth": 1}')
    for command in (
        ["init", "--quiet"],
        ["add", "."],
        [
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@b",
            "-c",
            "commit.gpgsign=false",
            "commit",
            "--quiet",
            "-m",
            "start",
        ],
    ):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


@pytest.fixture(scope="module")
def dvc(tmp_path_factory, script, forked):
    "Run dvc in a project with the commands installed here; return the text"
    commands = tmp_path_factory.mktemp("commands")
    for name in ("data", "train", "evaluate", "explain"):
        start = shlex.join(map(str, forked(f"vit_mnist_{name}")))
        (commands / f"vit_mnist_{name}").write_text(f'#!/bin/sh\nexec {start} "$@"\n')
        (commands / f"vit_mnist_{name}").chmod(0o755)
    env = {**os.environ, "PATH": f"{commands}:{SCRIPTS}:{os.environ['PATH']}"}

    def run(folder, *words, check=True):
        done = script("dvc", *words, cwd=folder, env=env)
        assert (done.returncode == 0) == check, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


@pytest.fixture(scope="module")
def project(copy, dvc):
    "The same after its first `dvc repro`"
    assert ran(dvc(copy, "repro")) == ["data", "train", "evaluate", "explain"]
    return copy


def set_params(folder, **training):
    "Change params.yaml"
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params["training"].update(training)
    (folder / "params.yaml").write_text(yaml.safe_dump(params))


def ran(text):
    "List the stages that a `dvc repro` ran"
    return [line.split("'")[1] for line in text.splitlines() if line.startswith("Running stage")]


def test_a_second_repro_does_nothing(project, dvc):
    before = {
        path: path.stat().st_mtime_ns
        for folder in ("data", "models", "reports")
        for path in (project / folder).rglob("*")
    }
    text = dvc(project, "repro")
    assert ran(text) == [] and "up to date" in text
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_git_sees_no_outputs(project):
    assert subprocess.check_output(
        ["git", "status", "--porcelain"], cwd=project, text=True
    ).split() == ["??", "dvc.lock"]


def test_metrics_and_plots_are_shown(project, dvc):
    metrics = json.loads(dvc(project, "metrics", "show", "--json"))[""]["data"][
        "models/metrics.json"
    ]["data"]
    assert 0 < metrics["valid_accuracy"] < 1
    shown = Path(dvc(project, "plots", "show").split("file://")[1].strip()).read_text()
    assert "train_loss" in shown and "confusion" in shown


def test_after_a_failure_checkout_brings_the_last_outputs_back(project, dvc):
    params, model = (
        (project / "params.yaml").read_text(),
        (project / "models" / "model.safetensors").read_bytes(),
    )
    set_params(project, model="vti")
    assert "did you mean 'vit'?" in dvc(project, "repro", check=False)
    assert not (project / "models" / "model.safetensors").exists()
    (project / "params.yaml").write_text(params)
    dvc(project, "checkout")
    assert (project / "models" / "model.safetensors").read_bytes() == model
    assert ran(dvc(project, "repro")) == []


def test_what_changes_decides_what_runs(project, dvc):
    params, module = project / "params.yaml", project / "vit_mnist" / "training.py"
    for path, text in {
        params: params.read_text().replace("lr: 0.004", "lr: 0.003", 1),
        module: module.read_text() + "# changed\n",
    }.items():
        before = path.read_text()
        path.write_text(text)
        assert ran(dvc(project, "repro", "--dry")) == ["train"], (
            path
        )  # the later ones depend on what comes of it
        path.write_text(before)


@pytest.mark.slow
def test_a_changed_module_runs_its_stages_again(project, dvc):
    with open(project / "vit_mnist" / "training.py", "a") as file:
        file.write("# changed\n")
    assert ran(dvc(project, "repro")) == [
        "train"
    ]  # and no more: the model came out the same, bit for bit


@pytest.mark.slow
def test_a_changed_learning_rate_runs_train_and_later_stages(project, dvc):
    set_params(project, lr=0.003)
    assert ran(dvc(project, "repro")) == ["train", "evaluate", "explain"]
    assert json.loads((project / "models" / "config.json").read_text())["settings"]["lr"] == 0.003


def requested():
    "Read the settings from the command line in sys.argv"
    options = _options(vit_mnist_train.__wrapped__)
    return Settings(
        **_given(
            **{
                field.name: options[field.name]
                for field in fields(Settings)
                if field.name in options
            }
        )
    )


def test_params_settings_and_options_are_the_same(copy, dvc, monkeypatch):
    params = (ROOT / "params.yaml").read_text()
    assert {*yaml.safe_load(params)["training"], "snapshots", "start", "freeze"} == {
        field.name for field in fields(Settings)
    }
    before = (copy / "params.yaml").read_text()
    for changes in (
        {},
        {
            "keep_best": True,
            "lr": 1e-5,
            "model_args": '{"depth": 2, "dim": 32}',
            "schedule": "linear",
        },
    ):
        (copy / "params.yaml").write_text(params)
        set_params(copy, **changes)
        command = next(
            line
            for line in dvc(copy, "repro", "--dry", "--force", "train").splitlines()
            if "vit_mnist_train" in line
        )
        monkeypatch.setattr(sys, "argv", shlex.split(command.partition("VIT_MNIST_HOME=data ")[2]))
        assert requested() == replace(
            Settings(), **{**changes, "model_args": json.loads(changes.get("model_args", "{}"))}
        )
    (copy / "params.yaml").write_text(before)


def test_stages_depend_on_the_modules_they_import():
    tree = ast.parse((ROOT / "vit_mnist" / "cli.py").read_text())
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    for name, stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].items():
        command = next(word for word in stage["cmd"].split() if word in functions)
        listed = {Path(dep).stem for dep in stage["deps"] if dep.endswith(".py")}
        imported = set()
        for part in called(command, functions):
            imported = needed(functions[part], imported)
        assert listed == imported, name


def called(name, functions, above=()):
    "List a function, and those of the module that it uses, and theirs"
    names = {node.id for node in ast.walk(functions[name]) if isinstance(node, ast.Name)}
    below = (names & functions.keys()) - {name, *above}
    return {name}.union(*(called(other, functions, (*above, name)) for other in below))


def needed(tree, known=()):
    "List the package's modules that are imported below a node, and by them in turn"
    modules = set(known)
    for node in ast.walk(tree):
        for name in package_modules(node):
            if name not in modules:
                text = (ROOT / "vit_mnist" / f"{name}.py").read_text()
                modules = needed(ast.parse(text), modules | {name})
    return modules


def package_modules(node):
    "List the modules of the package that one statement imports"
    if not isinstance(node, ast.ImportFrom):
        return []
    if node.module in (None, "vit_mnist"):
        return [alias.name for alias in node.names]
    inside = node.level or node.module.startswith("vit_mnist.")
    return [node.module.removeprefix("vit_mnist.")] if inside else []


def test_the_sweep_stays_within_the_space(monkeypatch):
    parameters = yaml.safe_load((ROOT / "sweep.yaml").read_text())["parameters"]
    space = find_space(parameters["model"]["value"])
    assert set(parameters) - {"model", "epochs", "model_args"} == {
        name for name in space if "." not in name
    }
    drawn = [
        *parameters.items(),
        *(
            (f"model_args.{key}", {"value": value})
            for args in parameters["model_args"]["values"]
            for key, value in json.loads(args).items()
        ),
    ]
    for name, parameter in drawn:
        values = space.get(name, [])
        if type(values) is tuple and "min" in parameter:
            assert (parameter["min"], parameter["max"]) == values[:2] and ("log" in values) == (
                "log" in parameter.get("distribution", "")
            ), name
        elif type(values) is tuple:
            assert values[0] <= parameter["value"] <= values[1], name
        elif values:
            assert {*parameter.get("values", [parameter.get("value")])} <= {*values}, name
    first = {
        name: parameter.get("value", parameter.get("min", (parameter.get("values") or [0])[0]))
        for name, parameter in parameters.items()
    }
    monkeypatch.setattr(
        sys, "argv", ["vit_mnist_train", *(f"--{name}={value}" for name, value in first.items())]
    )  # as W&B's agent calls it
    assert requested() == Settings(**{**first, "model_args": json.loads(first["model_args"])})


# searches


BASE = Settings(**SMALL, model_args={"depth": 1})
SPACE = {"lr": (1e-5, 1e-2, "log"), "shift": (0.0, 2.0)}
WORKER = """
import sys, time
from vit_mnist.tuning import ReportToTrial, tune
from tests_space import BASE, SPACE
if "dies" in sys.argv:
    report = ReportToTrial.on_epoch
    def on_epoch(self, run):
        if self.trial.study.get_trials(deepcopy=False)[0].state.is_finished():
            print("in a trial", flush=True)
            time.sleep(600)  # until it is killed
        report(self, run)
    ReportToTrial.on_epoch = on_epoch
tune(6, sys.argv[1], base=BASE, space=SPACE, heartbeat=1)
"""


def test_a_killed_worker_loses_only_its_own_trial(tmp_path, forked):
    url = f"sqlite:///{tmp_path / 'study.db'}"
    (tmp_path / "tests_space.py").write_text(
        f"from vit_mnist.settings import Settings\nBASE = {BASE!r}\nSPACE = {SPACE!r}\n"
    )
    start = forked("python", "-c", WORKER, url)
    with subprocess.Popen(
        [*start, "dies"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as dying:
        assert dying.stdout.readline() == "in a trial\n"
        with subprocess.Popen(start, cwd=tmp_path) as other:
            while other.poll() is None and len(open_study(url, base=BASE).trials) < 3:
                time.sleep(0.1)  # until both are at work
            finished = {
                trial.number: trial.value
                for trial in open_study(url, base=BASE).trials
                if trial.state.is_finished()
            }
            dying.send_signal(signal.SIGKILL)
            assert other.wait(HANGS) == 0
    time.sleep(3)  # longer than the two heartbeats after which a worker counts as dead
    study = tune(7, url, base=BASE, space=SPACE, heartbeat=1)
    over = [trial for trial in study.trials if trial.state.name in ("COMPLETE", "PRUNED")]
    (dead,) = (trial for trial in study.trials if trial.state.name == "FAIL")
    assert 7 <= len(over) <= 8 and len(study.trials) == len(over) + 1
    assert finished and {number: study.trials[number].value for number in finished} == finished
    assert len({str(trial.params) for trial in over}) == len(over)
    (retried,) = (trial for trial in over if trial.params == dead.params)
    assert retried.system_attrs["failed_trial"] == dead.number


def test_a_search_saves_epochs_and_comes_out_the_same_again():
    base, space = (
        replace(BASE, limit=1000, epochs=3),
        {"lr": (5e-4, 2e-2, "log"), "model_args.dim": [32, 64]},
    )
    first, again = (search_rows(tune(7, base=base, space=space)) for _ in range(2))
    assert first == again
    stopped = [trial for trial in first if trial["state"] == "PRUNED"]
    assert stopped and all(len(trial["curve"]) < 3 for trial in stopped)


# without the extras


def test_without_optuna_the_command_says_what_to_install(tmp_path, script):
    (tmp_path / "optuna.py").write_text("raise ImportError")
    done = script("vit_mnist_tune", cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert (done.returncode, done.stderr) == (
        2,
        'vit_mnist_tune: a search needs optuna: pip install "vit_mnist[tune]"\n',
    )
    assert [path.name for path in tmp_path.iterdir() if path.name != "__pycache__"] == ["optuna.py"]


def test_the_package_imports_without_the_extras(real_script):
    code = "import sys; sys.modules.update(optuna=None, dvc=None); import vit_mnist.all"
    real_script("python", "-c", f"{code}, vit_mnist.cli", check=True)
