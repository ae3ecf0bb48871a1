"What a notebook cannot test of checkpoints: killed processes, a full disk, signals, old files."

import csv
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from conftest import BRIEF, HANGS
from forked import PRELOADED

from vit_mnist.callbacks import Callback
from vit_mnist.checkpoints import Checkpoints, FolderLock, Resume, Stopped, list_checkpoints
from vit_mnist.checkpoints import read_checkpoint
from vit_mnist.core import UserError, sha256
from vit_mnist.data import Split
from vit_mnist.loop import fit
from vit_mnist.model import create_model, save_model
from vit_mnist.settings import Settings, Training

resource = pytest.importorskip("resource", reason="processes are killed as Windows can't")
SMALL = Settings(
    model_args={"depth": 1, "dim": 32, "mlp_dim": 64, "dropout": 0.1},
    limit=640,
    valid_size=500,
    batch_size=64,
    epochs=3,
    keep_best=True,
    snapshots=(0, 15),
    device="cpu",
)  # 10 steps an epoch
KINDS = {
    "plain": SMALL,
    "convolutions": replace(SMALL, model="cct", model_args={"size": "tiny", "dropout_rate": 0.1}),
    "averaging": replace(SMALL, ema=0.9),
    "muon": replace(SMALL, optimizer="muon", lr=2e-3),
    "bf16": replace(SMALL, precision="bf16"),
}
PROCESSES = multiprocessing.get_context(
    "forkserver"
)  # children of one process that has imported torch, so that they start at once
PROCESSES.set_forkserver_preload(PRELOADED)
COMMAND = Path(sys.executable).parent / "vit_mnist_train"


# What a child process does


def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)


def before_call(module, name, count, action=die):
    "Run `action` in place of a function's call number `count`"
    original, calls = getattr(module, name), []

    def counted(*args, **kwargs):
        calls.append(args)
        return action(*args) if len(calls) == count else original(*args, **kwargs)

    setattr(module, name, counted)


def die_half_way(path, content):
    path.write_bytes(content[: len(content) // 2])
    die()


def arm(point):
    "Make this process kill itself at the named point"
    from vit_mnist import checkpoints, loop, training

    # files in a checkpoint of SMALL: counters, model, optimizer, best weights, manifest
    files = 5  # so that the second checkpoint begins with the sixth
    {
        "while a checkpoint is written": lambda: before_call(
            checkpoints, "_write", files + 3, die_half_way
        ),
        "between its files": lambda: before_call(checkpoints, "_write", files + 4),
        "before its manifest": lambda: before_call(checkpoints, "_write", 2 * files),
        "before it is renamed": lambda: before_call(checkpoints, "_sync", 3),
        "after it is renamed": lambda: before_call(checkpoints, "_sync", 4),
        "while the oldest is removed": lambda: before_call(checkpoints.shutil, "rmtree", 1),
        "in validation": lambda: before_call(loop, "loss_and_accuracy", 2),
        "in the final test": lambda: before_call(training, "loss_and_accuracy", 1),
        "before the model is saved": lambda: before_call(training, "save_model", 1),
        "while the history is written": lambda: before_call(os, "replace", 3),
        "in a step": lambda: None,
        "at random": lambda: None,
    }[point]()


class Log(Callback):
    "Write down each step as it is done; kill the process at one of them"

    def __init__(self, path, last=None):
        self.path, self.last = path, last

    def on_step(self, run):
        with open(self.path, "a") as file:
            file.write(f"{run.step}\n")
        if run.step == self.last:
            die()


def go(folder, settings, log, point=None):
    "A run, from the beginning or from where it was"
    from vit_mnist.training import train

    if settings != SMALL:  # that is compared with a run of the command
        exec(BRIEF, {})
    if point:
        arm(point)
    begun = (folder / "config.json").exists()
    callbacks = [Log(log, 17 if point == "in a step" else None)]
    if begun:
        train(resume=folder, callbacks=callbacks, progress=False)
    else:
        train(settings, folder, callbacks, progress=False)


def start(function, *args):
    process = PROCESSES.Process(target=function, args=args)
    process.start()
    return process


def finish(process):
    process.join(HANGS)
    assert process.exitcode is not None, "the process hangs"
    return process.exitcode


# What is compared


def steps(log):
    return [int(line) for line in log.read_text().split()] if log.exists() else []


def outcome(folder):
    "Return all that two equal runs have in common: everything but times"
    history = list(csv.DictReader((folder / "history.csv").open()))
    metrics = json.loads((folder / "metrics.json").read_text())
    times, snapshots = ("seconds", "train_seconds", "images_per_second"), "snapshots/step-0000"
    names = "model", f"{snapshots}00", f"{snapshots}15"
    return {
        "history": [{k: v for k, v in row.items() if k not in times} for row in history],
        "metrics": {k: v for k, v in metrics.items() if k not in times},
        **{name: (folder / f"{name}.safetensors").read_bytes() for name in names},
    }


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    "Return the outcome of an uninterrupted run of each kind, run when first needed"
    known = {}

    def find(kind):
        if kind not in known:
            folder = tmp_path_factory.mktemp("whole")
            assert finish(start(go, folder / kind, KINDS[kind], folder / "log")) == 0
            assert steps(folder / "log") == list(range(1, 31))
            known[kind] = outcome(folder / kind)
        return known[kind]

    return find


def check_killed(tmp_path, kind, point, wait=None):
    folder, first, second = tmp_path / "run", tmp_path / "first", tmp_path / "second"
    process = start(go, folder, KINDS[kind], first, point)
    if wait is not None:
        while not first.exists() and process.is_alive():
            time.sleep(0.002)
        time.sleep(wait)
        process.kill()
    code = finish(process)
    assert code == -signal.SIGKILL or wait is not None
    if (folder / "metrics.json").exists():
        return  # it was quicker than the kill
    done = [
        int(path.name.removeprefix("step-"))
        for path in list_checkpoints(folder / "checkpoints")
        if not (path / "manifest.json").exists() or read_checkpoint(path)
    ]
    assert finish(start(go, folder, KINDS[kind], second)) == 0
    assert steps(second) == list(range(max(done, default=0) + 1, 31))
    assert not [path for path in folder.rglob("*") if path.name.endswith(".tmp")]
    assert len(list_checkpoints(folder / "checkpoints")) == (
        3 if point == "while the oldest is removed" else 2
    )  # the next one would remove it


@pytest.mark.parametrize(
    "kind, point",
    [
        ("averaging", "in a step"),
        ("muon", "while a checkpoint is written"),
        ("bf16", "between its files"),
        ("convolutions", "in validation"),
        ("averaging", "in the final test"),
    ],
)
def test_killed_and_resumed_is_as_if_nothing_had_happened(tmp_path, uninterrupted, kind, point):
    check_killed(tmp_path, kind, point)
    assert outcome(tmp_path / "run") == uninterrupted(kind)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind, point, wait",
    [
        *(
            ("plain", point, None)
            for point in (
                "before its manifest",
                "before it is renamed",
                "after it is renamed",
                "while the oldest is removed",
                "before the model is saved",
                "while the history is written",
            )
        ),
        *((kind, "in a step", None) for kind in ("muon", "bf16")),
        *((list(KINDS)[i % 5], "at random", random.Random(i).uniform(0, 1.5)) for i in range(12)),
    ],
)
def test_killed_anywhere_and_resumed_is_as_if_nothing_had_happened(
    tmp_path, uninterrupted, kind, point, wait
):
    check_killed(tmp_path, kind, point, wait)
    assert outcome(tmp_path / "run") == uninterrupted(kind)


# A full disk, weights that explode


class Limit(Callback):
    "Let no file grow beyond 20 kB after the second epoch, as on a full disk"

    def on_epoch(self, run):
        if run.epoch == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))


class Explode(Callback):
    def on_step(self, run):
        if run.step == 15:
            for parameter in run.model.parameters():
                parameter.data.mul_(1e30)


def end_badly(folder, callback, message):
    from vit_mnist.training import train

    try:
        train(replace(SMALL, keep_best=False), folder, [callback], progress=False)
    except UserError as error:
        message.write_text(str(error))


@pytest.mark.parametrize(
    "callback, message",
    [(Limit(), "File too large"), (Explode(), "at step 16: training has diverged")],
)
def test_a_run_that_must_end_says_so_in_a_line_and_keeps_what_is_good(tmp_path, callback, message):
    assert finish(start(end_badly, tmp_path / "run", callback, tmp_path / "message")) == 0
    written = (tmp_path / "message").read_text()
    assert message in written and "\n" not in written
    found = list_checkpoints(tmp_path / "run" / "checkpoints")
    assert [read_checkpoint(path)[0]["step"] for path in found] == [10]
    assert not list((tmp_path / "run").rglob("*.tmp"))


# The command


def test_sigterm_writes_a_checkpoint_and_the_command_it_names_resumes(
    tmp_path, uninterrupted, script
):
    folder, settings = tmp_path / "run", tmp_path / "settings.json"
    settings.write_text(json.dumps(asdict(SMALL)))
    process = subprocess.Popen(
        [COMMAND, "--settings", settings, "--out", folder],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (folder / "config.json").exists() and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGTERM)
    last = process.communicate(timeout=HANGS)[1].splitlines()[-1]
    assert process.returncode == 128 + signal.SIGTERM
    assert last.startswith("vit_mnist_train: stopped after step")
    assert last.endswith(f"vit_mnist_train --resume {folder}")
    wrong = script("vit_mnist_train", "--resume", folder, "--lr", "0.1")
    assert wrong.returncode == 2 and wrong.stderr.splitlines() == [
        "vit_mnist_train: a run resumes with the settings it began with: lr was 0.004, not 0.1"
    ]
    again = script("vit_mnist_train", "--resume", folder)
    assert again.returncode == 0, again.stderr
    assert outcome(folder) == uninterrupted("plain")


# Checkpoints that older versions wrote


class StopAfter(Callback):
    def __init__(self, step):
        self.step = step

    def on_step(self, run):
        if run.step == self.step:
            raise KeyboardInterrupt


def fit_in(folder, *callbacks):
    "Train on noise with an average of the weights and the best epoch kept, 10 steps an epoch"
    images = torch.randint(256, [320, 1, 28, 28], generator=torch.Generator().manual_seed(0))
    split = Split(images.to(torch.uint8), torch.arange(320) % 10, tuple("0123456789"))
    settings = Training(epochs=2, batch_size=32, ema=0.9, keep_best=True, device="cpu")
    callbacks = [Resume(), *callbacks, Checkpoints()]
    model = create_model("vit", seed=0, size="tiny")
    return fit(model, split, split.take(64), settings, callbacks, folder).model.state_dict()


def make_old(checkpoint):
    "Give a checkpoint the names of files, and the full settings, that older versions wrote"
    for new, old in {"ema": "averaging", "keepbest": "keepbest"}.items():
        (checkpoint / f"callback-{new}-1.safetensors").rename(checkpoint / f"{old}.safetensors")
    state = json.loads((checkpoint / "state.json").read_text())
    state["settings"] = asdict(Settings(**state["settings"]))
    (checkpoint / "state.json").write_text(json.dumps(state))
    (checkpoint / "manifest.json").unlink()
    manifest = {path.name: sha256(path.read_bytes()) for path in checkpoint.iterdir()}
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("old", [False, True])
def test_a_checkpoint_of_an_older_version_resumes_bit_for_bit(tmp_path, old):
    whole = fit_in(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit_in(tmp_path / "run", StopAfter(15))
    (checkpoint,) = list_checkpoints(tmp_path / "run" / "checkpoints")
    if old:
        make_old(checkpoint)
    resumed = fit_in(tmp_path / "run")
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_files_and_names_are_forced_to_the_disk(tmp_path, monkeypatch):
    forced, real = set(), os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: forced.add(os.fstat(file).st_ino) or real(file))
    fit_in(tmp_path)
    for path in list_checkpoints(tmp_path / "checkpoints"):
        for part in (*path.iterdir(), path, path.parent):
            assert part.stat().st_ino in forced, part


# One process at a time, and nothing outside the folder


def stop_in_a_step(folder, log):
    assert finish(start(go, folder, SMALL, log, "in a step")) == -signal.SIGKILL


def resume(folder, message):
    "Resume a run, or write down why that is refused"
    from vit_mnist.training import train

    try:
        train(resume=folder, progress=False)
    except UserError as error:
        message.write_text(str(error))


def test_a_folder_in_use_is_refused_with_its_owner_and_free_when_that_has_gone(
    tmp_path, uninterrupted
):
    folder, message = tmp_path / "run", tmp_path / "message"
    stop_in_a_step(folder, tmp_path / "log")
    assert (folder / ".lock").exists()  # left by the killed process: no lock any more
    owner, before = FolderLock(folder), sorted(folder.rglob("*"))
    owner.acquire()
    assert finish(start(resume, folder, message)) == 0
    said = message.read_text()
    assert f"{folder} is in use: process {os.getpid()} on " in said and "\n" not in said
    assert sorted(folder.rglob("*")) == before
    owner.release()
    assert finish(start(resume, folder, tmp_path / "none")) == 0
    assert not (tmp_path / "none").exists() and not (folder / ".lock").exists()
    assert outcome(folder) == uninterrupted("plain")
    assert finish(start(resume, folder, message)) == 0  # and then it is finished
    assert f"vit_mnist_train --from {folder}" in message.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(10))
def test_of_two_resumes_at_once_one_goes_on_and_one_is_refused(tmp_path, uninterrupted, attempt):
    folder = tmp_path / "run"
    stop_in_a_step(folder, tmp_path / "log")
    both = [start(resume, folder, tmp_path / name) for name in ("one", "two")]
    assert [finish(process) for process in both] == [0, 0]
    (refused,) = (path for name in ("one", "two") if (path := tmp_path / name).exists())
    assert "is in use: process" in refused.read_text() or "is finished" in refused.read_text()
    assert outcome(folder) == uninterrupted("plain")


@pytest.mark.parametrize("name", ["checkpoints", "checkpoints/step-00000005"])
def test_no_link_is_followed_out_of_the_folder(tmp_path, name):
    outside, link = tmp_path / "outside", tmp_path / "run" / name
    (outside / "step-00000001").mkdir(parents=True)
    link.parent.mkdir(parents=True)
    link.symlink_to(outside, target_is_directory=True)
    with pytest.raises(UserError, match=f"{link} is a symbolic link"):
        fit_in(tmp_path / "run")
    assert [path.name for path in outside.iterdir()] == ["step-00000001"] and link.is_symlink()
    link.unlink()
    half = tmp_path / "run" / ".half.tmp"
    half.symlink_to(outside, target_is_directory=True)
    fit_in(tmp_path / "run")
    assert not half.is_symlink() and (outside / "step-00000001").is_dir()


class Counted(Callback):
    "Count steps, from 0 whenever a run starts"

    def on_start(self, run):
        self.steps = 0

    def on_step(self, run):
        self.steps += 1

    def state_dict(self):
        return {"steps": torch.tensor(self.steps)}

    def load_state_dict(self, tensors):
        self.steps = tensors["steps"].item()


def test_a_callback_has_its_state_after_it_has_started_and_a_lost_one_is_named(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit_in(tmp_path, Counted(), StopAfter(15))
    counted = Counted()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no state is lost
        fit_in(tmp_path, counted)  # from the end of the first epoch
    assert counted.steps == 20
    for path in list_checkpoints(tmp_path / "checkpoints")[1:]:
        path.rename(tmp_path / path.name)
    with pytest.warns(UserWarning, match="the state of callbacks that this run lacks: counted"):
        fit_in(tmp_path)


# Signals


class Raise(Callback):
    def __init__(self, *numbers):
        self.numbers = numbers

    def on_step(self, run):
        if run.step == 15:
            for number in self.numbers:
                signal.raise_signal(number)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU"])
def test_every_signal_that_announces_an_end_writes_a_checkpoint(tmp_path, name):
    number, checkpoints = getattr(signal, name), Checkpoints()
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip(f"{name} is ignored here, as under nohup")
    handlers = {each: signal.getsignal(each) for each in signal.valid_signals()}
    twice = [number] * (1 if name in ("SIGINT", "SIGTERM") else 2)  # as terminals send SIGHUP
    with pytest.raises(Stopped, match=f"--resume {tmp_path}$") as stopped:
        fit_in(tmp_path, checkpoints.signals, Raise(*twice), checkpoints)
    assert stopped.value.status == 128 + number
    assert [path.name for path in list_checkpoints(tmp_path / "checkpoints")][-1:] == [
        "step-00000015"
    ]
    assert handlers == {each: signal.getsignal(each) for each in signal.valid_signals()}


def test_signals_that_are_ignored_or_ones_own_stay_so(tmp_path):
    own, checkpoints = [], Checkpoints()
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    mine = signal.signal(signal.SIGUSR1, lambda number, frame: own.append(number))
    try:
        fit_in(tmp_path, checkpoints.signals, Raise(signal.SIGHUP, signal.SIGUSR1), checkpoints)
    finally:
        signal.signal(signal.SIGHUP, before)
        signal.signal(signal.SIGUSR1, mine)
    assert own == [signal.SIGUSR1]


# Weights to begin with


def test_a_run_that_begins_with_weights_resumes_from_its_start_without_them(tmp_path):
    from vit_mnist.training import train

    source, first = tmp_path / "source.safetensors", dict(progress=False, pictures={})
    save_model(create_model("vit", seed=9, **SMALL.model_args), source)
    plain = replace(SMALL, keep_best=False, snapshots=(), start=str(source))
    with pytest.raises(KeyboardInterrupt):
        train(plain, tmp_path / "run", [StopAfter(3)], **first)
    whole = train(plain, tmp_path / "whole", **first)
    source.unlink()
    resumed = train(resume=tmp_path / "run", progress=False, pictures={})
    for a, b in zip(*(run.model.state_dict().values() for run in (whole, resumed))):
        assert torch.equal(a, b)
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    (tmp_path / "run" / "metrics.json").unlink()
    with pytest.raises(UserError, match="stopped before its first step; begin a new one"):
        train(resume=tmp_path / "run", progress=False)
