"presets: each is what its weights were trained with, and only what it leaves open may change."

import json
from dataclasses import asdict, fields
from importlib.resources import files

import pytest

from vit_mnist.core import UserError
from vit_mnist.model import about, create_model
from vit_mnist.presets import FREE, PRESETS, find_preset, runs_folder
from vit_mnist.settings import Settings

OTHER = dict(seed=5, device="cpu", limit=100, valid_size=10, snapshots=(3,), start="runs/a")


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_what_the_card_of_its_weights_says(name):
    card = json.loads((files("vit_mnist") / "pretrained" / f"{name}.json").read_text())
    assert Settings(**card["settings"]) == find_preset(name, seed=card["seed"])


@pytest.mark.parametrize("name", PRESETS)
def test_only_what_a_preset_leaves_open_may_change(name):
    before = asdict(PRESETS[name])
    changed = find_preset(name, **OTHER)
    assert {key: getattr(changed, key) for key in FREE} == OTHER
    assert asdict(changed) == {**before, **OTHER}
    for field in fields(Settings):
        value = getattr(PRESETS[name], field.name)
        assert find_preset(name, **{field.name: value}) == PRESETS[name]  # no contradiction
        if field.name not in FREE:
            message = f"^preset '{name}' has {field.name} .*, not 'other'; leave out one"
            with pytest.raises(UserError, match=message):
                find_preset(name, **{field.name: "other"}, seed=1)
    assert asdict(PRESETS[name]) == before


def test_an_unknown_preset_is_refused_with_those_that_there_are():
    with pytest.raises(UserError, match="^unknown preset 'slow'; known: fast, explain, best$"):
        find_preset("slow")


def test_snapshots_of_explain_end_with_its_last_step():
    preset = PRESETS["explain"]
    steps = preset.epochs * -(-60_000 // preset.batch_size)  # all images are trained on
    assert preset.valid_size == 0 and preset.snapshots[0] == 0 and preset.snapshots[-1] == steps
    assert list(preset.snapshots) == sorted(set(preset.snapshots))


@pytest.mark.parametrize("name, grid", [("fast", (3, 3)), ("explain", (7, 7)), ("best", (4, 4))])
def test_the_model_of_a_preset_has_the_tokens_that_the_page_shows(name, grid):
    preset = PRESETS[name]
    model = create_model(preset.model, seed=0, **preset.model_args)
    assert {layout.keys.grid for layout in about(model).layouts} == {grid}


def test_runs_of_the_project_lie_at_its_root_and_others_where_one_is(tmp_path, monkeypatch):
    project = tmp_path / "project"
    (project / "nbs" / "tutorials").mkdir(parents=True)
    for folder in (project / "nbs" / "tutorials", project, tmp_path):
        monkeypatch.chdir(folder)
        assert str(runs_folder()) == "runs"  # not all of the project is there
    (project / "vit_mnist").mkdir()
    (project / "settings.ini").touch()
    for folder in (project / "nbs" / "tutorials", project / "nbs", project):
        monkeypatch.chdir(folder)
        assert runs_folder().resolve() == project / "runs"
    assert str(runs_folder()) == "runs"  # as it was at the root
    monkeypatch.chdir(tmp_path)
    assert str(runs_folder()) == "runs"
