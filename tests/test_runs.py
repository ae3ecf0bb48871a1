"Runs: folders written by hand are filtered and sorted; settings, names, and what is broken."

import json
import os

import pytest

from vit_mnist.checkpoints import read_checkpoint
from vit_mnist.core import UserError
from vit_mnist.model import create_model, save_model
from vit_mnist.runs import is_pretrained, list_runs, list_snapshots, open_data, open_model
from vit_mnist.runs import run_settings
from vit_mnist.settings import read_settings


@pytest.fixture
def runs(tmp_path):
    "Make three run folders, one without results, and what is no run beside them"
    for name, settings, metrics in (
        (
            "a",
            {"model": "vit", "seed": 2, "model_args": {"depth": 2, "seed": 9}},
            {"valid_accuracy": 0.8},
        ),
        ("b", {"model": "cnn", "seed": 3}, {"valid_accuracy": 0.9}),
        ("c", {"model": "simple_vit", "seed": 2}, None),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"settings": settings}))
        if metrics:
            (tmp_path / name / "metrics.json").write_text(json.dumps(metrics))
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no run")
    return tmp_path


@pytest.mark.parametrize(
    "options, names",
    [
        ({}, ["b", "a", "c"]),  # the best first, those without a result last
        ({"ascending": True}, ["a", "b", "c"]),
        ({"model": "*vit"}, ["a", "c"]),
        ({"model": "vit"}, ["a"]),  # a name is the whole name
        ({"seed": 2, "valid_accuracy": 0.8}, ["a"]),
        ({"seed": "2"}, ["a", "c"]),  # as typed in a shell
        ({"sort": "seed", "ascending": True, "model": "[!c]*"}, ["a", "c"]),
    ],
)
def test_runs_are_filtered_and_sorted(runs, options, names):
    assert list(list_runs(runs, **options).index) == names


def test_a_column_of_the_question_is_shown_and_an_unknown_one_refused(runs):
    assert "depth" not in list_runs(runs) and list_runs(runs, sort="depth").depth["a"] == 2
    assert list_runs(runs, depth=2).columns[-2:].tolist() == ["test_accuracy", "depth"]
    with pytest.raises(UserError, match="unknown column 'dept'; did you mean 'depth'"):
        list_runs(runs, sort="dept")


def test_settings_are_those_of_the_run_before_those_of_its_model(runs):
    assert run_settings(runs / "a") == {"depth": 2, "seed": 2, "model": "vit"}
    assert run_settings(runs / "a" / "metrics.json") == run_settings(runs / "a")


def test_a_file_or_folder_of_ones_own_goes_before_weights_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_pretrained("fast") and run_settings("fast")["model"] == "cct"
    save_model(create_model("cnn", seed=0), tmp_path / "fast" / "model.safetensors")
    assert not is_pretrained("fast") and run_settings("fast") == {}
    model = open_model("fast")
    assert model.spec.name == "cnn" and not model.training


@pytest.mark.parametrize("given, kept", [(500, 500), (True, 10_000), ("many", 10_000)])
def test_validation_images_are_as_many_as_the_run_kept(tmp_path, given, kept):
    (tmp_path / "config.json").write_text(json.dumps({"settings": {"valid_size": given}}))
    data = open_data(tmp_path)
    assert (len(data.valid), len(data.train)) == (kept, 60_000 - kept)


def test_a_folder_that_is_no_run_says_why(runs):
    for name, why in {
        "empty": "not a run folder",
        "c": "not finished",
        "d": "no run .*fast",
    }.items():
        with pytest.raises(UserError, match=why):
            open_model(runs / name)


@pytest.mark.parametrize(
    "limit, learned", [(640, 640), (0, 50_000), (70_000, 50_000), ("x", 50_000)]
)
def test_training_images_are_those_that_the_run_saw(tmp_path, limit, learned):
    settings = {"limit": limit, "data": "MNIST"}
    (tmp_path / "config.json").write_text(json.dumps({"settings": settings}))
    assert len(open_data(tmp_path).train) == len(open_data(tmp_path, "mnist").train) == learned


@pytest.mark.parametrize("what", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_a_pipe_a_device_or_a_folder_in_a_run_folder_is_never_waited_for(tmp_path, what):
    what(tmp_path / "config.json")
    what(tmp_path / "model.safetensors")
    assert run_settings(tmp_path) == {}
    with pytest.raises(UserError, match="a device or a pipe|a directory"):
        open_model(tmp_path)
    with pytest.raises(UserError, match="a device or a pipe|a directory"):
        read_settings(tmp_path / "config.json")
    what(tmp_path / "manifest.json")
    with pytest.raises(UserError, match="is damaged: .*(a device or a pipe|a directory)"):
        read_checkpoint(tmp_path)


def test_snapshots_are_listed_by_step(tmp_path):
    folder = tmp_path / "snapshots"
    folder.mkdir()
    for step in ("000200", "000000", "1000000", "-00001", "1e3", "9" * 13, ""):
        (folder / f"step-{step}.safetensors").touch()
    (folder / "step-000300.txt").touch()
    wanted = {0: "000000", 200: "000200", 1_000_000: "1000000"}
    found = list_snapshots(str(tmp_path))
    assert list(found) == list(wanted)
    assert found == {step: folder / f"step-{name}.safetensors" for step, name in wanted.items()}


@pytest.mark.parametrize("name", [None, "step-one.safetensors"])
def test_a_run_without_snapshots_says_how_to_get_them(tmp_path, name):
    if name:
        (tmp_path / "snapshots").mkdir()
        (tmp_path / "snapshots" / name).touch()
    with pytest.raises(UserError, match="has no snapshots; train with .*--snapshots 0,100,200"):
        list_snapshots(tmp_path)
