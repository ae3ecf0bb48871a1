"settings: the ends of every range, the defaults, and files that hold no settings."

import json
from dataclasses import FrozenInstanceError, asdict

import pytest

from vit_mnist.core import UserError
from vit_mnist.settings import LIMITS, Settings, Training, read_settings

RANGES = {
    **dict(valid_size=(0, 10**6), limit=(0, 10**6), epochs=(1, 10**4), patience=(0, 10**4)),
    **dict(batch_size=(1, 60_000), accumulate=(1, 60_000), seed=(0, 9223372036854775807)),
    **dict(lr=(1e-8, 10.0), muon_lr=(1e-8, 10.0), beta1=(0.0, 0.9999), beta2=(0.0, 0.99999)),
    **dict(weight_decay=(0.0, 10.0), warmup=(0.0, 1.0), label_smoothing=(0.0, 0.9)),
    **dict(clip_norm=(0.0, 1e6), ema=(0.0, 0.99999), rotate=(0.0, 180.0), scale=(0.0, 2.0)),
    **dict(shear=(0.0, 2.0), shift=(0.0, 28.0), elastic=(0.0, 28.0)),
}
DEFAULTS = {  # a run without settings stays what it was
    **dict(limit=0, epochs=5, batch_size=128, accumulate=1, optimizer="adamw", lr=0.004),
    **dict(muon_lr=0.02, beta1=0.9, beta2=0.98, weight_decay=0.05, schedule="cosine", warmup=0.1),
    **dict(label_smoothing=0.1, clip_norm=0.0, ema=0.0, patience=0, keep_best=False, rotate=10.0),
    **dict(scale=0.1, shear=0.1, shift=1.0, elastic=0.0, precision="fp32", compile=False),
    **dict(snapshots=(), seed=0, device="auto", model="vit", model_args={}, data="mnist"),
    **dict(valid_size=10_000, start="", freeze=False),
}


@pytest.mark.parametrize("name", LIMITS)
def test_the_ends_of_a_range_are_allowed_and_what_lies_beyond_is_not(name):
    low, high = RANGES[name]
    for value in (low, high):
        assert getattr(Settings(**{name: value}), name) == value
    step = 1 if type(low) is int else high * 1e-9 + 1e-10
    for value in (low - step, high + step):
        with pytest.raises(UserError, match=f"^{name} must be from .* to .*, not .*$"):
            Settings(**{name: value})


def test_defaults_are_what_they_were():
    assert asdict(Settings()) == DEFAULTS
    assert {k: v for k, v in DEFAULTS.items() if k in asdict(Training())} == asdict(Training())


@pytest.mark.parametrize(
    "wrong, message",
    [
        (dict(epochs=True), "epochs must be a whole number, not True"),
        (dict(epochs=2.0), "epochs must be a whole number, not 2.0"),
        (dict(lr=True), "lr must be a number"),
        (dict(keep_best=1), "keep_best must be true or false"),
        (dict(device=0), "device must be a word"),
        (dict(snapshots=5), "snapshots must be a list"),
        (dict(snapshots=(1.5,)), "a step of snapshots must be a whole number"),
        (dict(snapshots=(10**9 + 1,)), "a step of snapshots must be from 0 to 1,000,000,000"),
        (dict(precision="fp23"), "did you mean 'fp32'?"),
        (dict(schedule="linaer"), "did you mean 'linear'?"),
        (dict(keep_best=True, valid_size=0), "need validation images"),
        (dict(model_args={"name": "vit"}), "name is not one of them"),
        (dict(freeze=True), "give start (--from), too"),
        (dict(freeze=True, start="fast", optimizer="muon"), "which muon does not train"),
        (dict(start=1), "start must be a word"),
    ],
)
def test_a_wrong_value_is_refused_in_one_line(wrong, message):
    with pytest.raises(UserError) as told:
        Settings(**wrong)
    assert message in str(told.value) and "\n" not in str(told.value)


def test_settings_do_not_change_and_lists_become_tuples_all_the_way():
    settings = Settings(snapshots=[0, 10**9], model_args={"dim": [[1, [2]], "x"], "depth": 3})
    assert settings.snapshots == (0, 10**9) and settings.model_args["dim"] == ((1, (2,)), "x")
    with pytest.raises(FrozenInstanceError):
        settings.epochs = 7
    assert settings.model_args is not Settings().model_args


def test_paths_are_absolute_and_names_are_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = Settings(data="folder:a/../digits", start="run")
    assert (settings.data, settings.start) == (f"folder:{tmp_path}/digits", "run")
    (tmp_path / "run").mkdir()
    settings = Settings(data="csv:~/train.csv", start="run")
    assert settings.start == str(tmp_path / "run") and settings.data.endswith("/train.csv")
    assert "~" not in settings.data
    assert (Settings(data="npz:").data, Settings(start="fast").start) == ("npz:", "fast")


def test_settings_come_back_from_json(tmp_path):
    settings = Settings(model="cct", model_args={"stem": (8, (16, 2))}, seed=2**63 - 1, lr=1)
    path = tmp_path / "settings.json"
    for content in asdict(settings), {"settings": asdict(settings), "versions": {"torch": "2"}}:
        path.write_text(json.dumps(content))
        assert read_settings(path) == settings
    path.write_text("{}")
    assert read_settings(path) == Settings()


@pytest.mark.parametrize(
    "content, message",
    [
        (b'{"settings": [1]}', 'must hold settings by name, like {"epochs": 3}'),
        (b"\xff\xfe{", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"data": "' + b"x" * 2**20 + b'"}', "is not JSON"),  # no more is read
        (b'{"patience": 1, "valid_size": 0}', "need validation images"),
    ],
)
def test_a_file_without_settings_is_told_in_one_line(tmp_path, content, message):
    path = tmp_path / "settings.json"
    path.write_bytes(content)
    with pytest.raises(UserError) as told:
        read_settings(path)
    assert message in str(told.value) and len(str(told.value).splitlines()) == 1
    with pytest.raises(UserError, match="can't read .* \\(Is a directory\\)"):
        read_settings(tmp_path)
