"Tuning: a study made by hand is read, drawn, saved and measured; what a search may not begin with."

import json
import sqlite3
from contextlib import closing, nullcontext
from dataclasses import replace
from types import SimpleNamespace

import optuna
import pytest
from matplotlib.colors import to_hex
from sqlalchemy.exc import DBAPIError

from vit_mnist.core import UserError
from vit_mnist.settings import Settings, read_settings
from vit_mnist.tuning import (
    ReportToTrial,
    best_settings,
    importances,
    open_study,
    plot_importances,
    plot_parallel,
    plot_search,
    _storage,
    _wait_for_lock,
    save_search,
    search_rows,
    tune,
)

BASE = Settings(epochs=2, model_args={"heads": 2}, seed=5)
RATES = optuna.distributions.FloatDistribution(1e-4, 1e-1, log=True)
DEPTHS = optuna.distributions.IntDistribution(2, 6)


def study_of(*trials):
    "Make a study of trials: accuracy (None: stopped early), learning rate, depth, curve"
    study = open_study(base=BASE)
    for value, lr, depth, curve in trials:
        trial = optuna.trial.create_trial(
            state=optuna.trial.TrialState["PRUNED" if value is None else "COMPLETE"],
            value=value,
            params={"lr": lr, "model_args.depth": depth},
            distributions={"lr": RATES, "model_args.depth": DEPTHS},
            intermediate_values=dict(enumerate(curve)),
        )
        study.add_trial(trial)
    return study


@pytest.fixture
def study():
    return study_of(
        (0.9, 1e-2, 4, [0.7, 0.9]),
        (None, 1e-1, 2, [0.2]),
        (0.8, 1e-3, 6, [0.5, 0.8]),
        (0.95, 1e-4, 5, [0.9, 0.95]),
    )


def test_the_best_trial_is_laid_over_what_the_search_left_alone(study):
    assert best_settings(study) == replace(BASE, lr=1e-4, model_args={"heads": 2, "depth": 5})
    stopped = {"number": 1, "state": "PRUNED", "value": None, "curve": [0.2]}
    assert search_rows(study)[1] == {**stopped, "params": {"lr": 1e-1, "model_args.depth": 2}}


def test_mistakes_are_drawn_with_the_best_so_far(study):
    axis = plot_search(search_rows(study)).axes[0]
    done, stopped, best = [list(zip(*line.get_data())) for line in axis.lines]
    assert done == [(0, pytest.approx(10)), (2, pytest.approx(20)), (3, pytest.approx(5))]
    assert stopped == [(1, pytest.approx(80))]
    assert best == [(0, pytest.approx(10)), (2, pytest.approx(10)), (3, pytest.approx(5))]
    assert (axis.get_yscale(), axis.lines[2].get_drawstyle()) == ("log", "steps-post")
    shown = [text.get_text() for text in axis.get_legend().get_texts()]
    assert shown == ["finished", "stopped early", "best so far"]


def test_lines_go_through_each_settings_axis_the_best_drawn_last_and_widest(study):
    fig = plot_parallel(search_rows(study))
    lines = [line for line in fig.axes[0].lines if list(line.get_xdata()) == [0, 1]]
    heights = [list(line.get_ydata()) for line in lines]
    assert heights == [[0.5, 1], [1, 0], [0, 0.5]]  # 80, 90 and 95 %: of three rates, three depths
    assert [line.get_linewidth() for line in lines] == [1, 1, 3]
    assert (to_hex(lines[0].get_color()), to_hex(lines[2].get_color())) == ("#440154", "#fde725")
    assert [label.get_text() for label in fig.axes[0].get_xticklabels()] == ["lr", "depth"]
    assert [text.get_text() for text in fig.axes[0].texts] == ["0.0001", "0.01", "4", "6"]


def test_what_decides_has_the_larger_share_and_nothing_where_all_are_alike():
    depths = [2, 6, 3, 5, 4, 2, 6, 3]
    rates = [10.0 ** -(2 + i % 3) for i in range(8)]
    study = study_of(*((0.5 + d / 20, rate, d, [0.5]) for d, rate in zip(depths, rates)))
    shares = importances(study)
    assert list(shares) == ["model_args.depth", "lr"] and sum(shares.values()) == pytest.approx(1)
    assert shares == importances(study) and shares["model_args.depth"] > 0.8
    bars = plot_importances(shares).axes[0]
    assert [label.get_text() for label in bars.get_yticklabels()] == [
        "lr",
        "model_args.depth",
    ]  # upwards
    assert bars.get_xlabel() == "share of the variance of validation accuracy"
    alike = study_of((0.5, 1e-2, 2, [0.5]), (0.5, 1e-3, 3, [0.5]))
    assert importances(alike) == {"lr": 0, "model_args.depth": 0}


def test_choices_of_several_types_stand_side_by_side():
    rows = [
        {"state": "COMPLETE", "value": value, "params": {"model_args.pool": pool}}
        for value, pool in [(0.5, "cls"), (0.6, 3), (0.7, None)]
    ]
    (axis,) = plot_parallel(rows).axes[:1]
    lines = [line for line in axis.lines if list(line.get_xdata()) == [0]]
    heights = [line.get_ydata()[0] for line in lines]
    assert sorted(heights) == [0, 0.5, 1]


def test_a_finished_search_is_saved_with_importances(study, tmp_path):
    save_search(study, tmp_path)
    assert (tmp_path / "importances.png").exists()


def test_a_single_finished_trial_is_saved_without_importances(tmp_path):
    single = study_of((0.9, 1e-2, 4, [0.9]), (None, 1e-1, 2, [0.2]))
    save_search(single, tmp_path / "search")
    names = sorted(path.name for path in (tmp_path / "search").iterdir())
    assert names == ["best.json", "history.png", "parallel.png", "trials.json"]
    assert read_settings(tmp_path / "search" / "best.json") == best_settings(single)
    assert json.loads((tmp_path / "search" / "trials.json").read_text()) == search_rows(single)
    with pytest.raises(UserError, match="two finished trials"):
        importances(single)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"trials": 0}, "trials must be 1 or more, not 0"),
        ({"base": Settings(valid_size=0)}, "valid_size is 0"),
        ({"base": Settings(snapshots=(1,))}, "leave out snapshots"),
        ({"base": Settings(model="vti")}, "did you mean 'vit'"),
        ({"space": {"model_arg.depth": (2, 6)}}, "did you mean 'model_args'"),
    ],
)
def test_a_search_that_cannot_begin_makes_no_database(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        tune(url=f"sqlite:///{tmp_path / 'study.db'}", **options)
    assert list(tmp_path.iterdir()) == []


# what a search survives, and what a database says


class AlwaysStop:
    "Stand in for a trial whose sampler wants it to end after every epoch"

    def __init__(self):
        self.told = []

    def report(self, value, epoch):
        self.told.append((value, epoch))

    def should_prune(self):
        return True


def test_a_trial_may_be_stopped_after_each_epoch_but_the_last():
    run = SimpleNamespace(history=[{"valid_accuracy": 0.5}], settings=Settings(epochs=2), epoch=1)
    report = ReportToTrial(AlwaysStop())
    with pytest.raises(optuna.TrialPruned):
        report.on_epoch(run)
    run.epoch = 2
    report.on_epoch(run)
    assert report.trial.told == [(0.5, 1), (0.5, 2)]


@pytest.mark.parametrize("message, calls", [("no such host", 1), ("table already exists", 3)])
def test_only_a_database_that_another_worker_is_making_is_asked_again(monkeypatch, message, calls):
    asked = []

    def connect(url, heartbeat):
        asked.append(url)
        if len(asked) < 3:
            raise DBAPIError("select", {}, Exception(message))

    monkeypatch.setattr("vit_mnist.tuning._connect", connect)
    monkeypatch.setattr("vit_mnist.tuning.random.random", lambda: 0)
    with nullcontext() if calls == 3 else pytest.raises(DBAPIError):
        _storage("postgresql://nowhere/study", heartbeat=None)
    assert len(asked) == calls


QUICK = Settings(epochs=1, limit=64, valid_size=100, device="cpu", model_args={"depth": 1})


def test_a_choice_that_no_model_can_be_built_with_is_a_stopped_trial_with_its_reason(tmp_path):
    said = []
    after = [lambda study, trial: said.append(trial.user_attrs.get("reason"))]
    space = {"model_args.patch_size": [5, 7], "batch_size": [0, 64]}
    study = tune(6, base=QUICK, space=space, after_trial=after)
    states = {trial.state.name for trial in study.trials}
    assert states == {"COMPLETE", "PRUNED"} and len(study.trials) == 6
    reasons = [reason for reason in said if reason]
    assert all("patch size" in why or "batch_size" in why for why in reasons) and reasons
    save_search(study, tmp_path / "search")
    with pytest.raises(UserError, match="no trial has finished .*patch size.*search on"):
        best_settings(tune(2, base=QUICK, space={"model_args.patch_size": [5]}))


def test_a_list_among_choices_is_kept_without_a_warning_and_comes_back(tmp_path, recwarn):
    url, base = f"sqlite:///{tmp_path / 'study.db'}", replace(QUICK, model="cct", model_args={})
    space = {"model_args.stem": [(8, 16), (16, 16)], "model_args.n_conv_layers": [3]}
    for trials in (1, 2):  # the second from the database
        study = tune(trials, url, base=base, space=space)
    assert best_settings(study).model_args["stem"] in ((8, 16), (16, 16))
    assert not [each for each in recwarn if "persistent" in str(each.message)]


def test_a_database_that_is_locked_is_told_and_then_refused(tmp_path):
    path = tmp_path / "study.db"
    open_study(f"sqlite:///{path}", base=QUICK)
    with closing(sqlite3.connect(path)) as other:
        other.execute("begin exclusive")
        with pytest.warns(UserWarning, match="locked by another program; waiting 4 seconds"):
            with pytest.raises(UserError, match="locked by another program"):
                _wait_for_lock(path, patience=4)
    _wait_for_lock(path)


def test_the_reason_of_a_database_is_its_own(tmp_path, script, unprivileged):
    (tmp_path / "study.db").touch()
    open_study(f"sqlite:///{tmp_path / 'study.db'}", base=QUICK)
    (tmp_path / "study.db").chmod(0o444)
    words = "--trials 2 --limit 64 --epochs 1 --valid-size 100 --device cpu".split()
    done = script("vit_mnist_tune", *words, before=unprivileged, cwd=tmp_path)
    assert done.returncode == 2 and "readonly database" in done.stderr
    assert len(done.stderr.splitlines()) == 1
