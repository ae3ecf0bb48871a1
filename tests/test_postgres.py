"Searches on a PostgreSQL server: what it says, restarts, workers that are killed or fall silent."

import os
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from contextlib import ExitStack

import optuna
import pytest
from optuna.trial import TrialState

from conftest import HANGS
from postgres import BIN, HOW, NEEDED, PASSWORD, running_server
from vit_mnist.core import UserError
from vit_mnist.settings import Settings
from vit_mnist.tuning import StudyUnreachable, _open, open_study, save_search, tune

BASE = Settings(epochs=1, limit=64, valid_size=100, device="cpu", model_args={"depth": 1})
SPACE = {"lr": (1e-5, 1e-2, "log"), "shift": (0.0, 2.0)}
WORDS = "--limit 64 --epochs 1 --valid-size 100 --device cpu".split()


@pytest.fixture(scope="module")
def server():
    if not BIN or sys.platform == "win32":
        (pytest.fail if os.environ.get(NEEDED) else pytest.skip)(HOW)
    with running_server(safe=False) as server:
        yield server


@pytest.fixture
def url(server):
    "Make a database; return its address"
    name = f"studies{time.monotonic_ns()}"
    server.sql(f"create database {name} owner student")
    return server.url(name)


@pytest.fixture
def quick(monkeypatch):
    "Let a trial end at once: what it draws decides its accuracy"
    monkeypatch.setattr(
        "vit_mnist.tuning.run_trial",
        lambda trial, space, **_: trial.suggest_float("lr", *space["lr"][:2]),
    )


def named(url):
    "Return the name of a database"
    return url.split("/")[3].partition("?")[0]


def states(study):
    return Counter(trial.state.name for trial in study.trials)


def test_a_search_on_a_server_survives_a_restart_between_trials(server, url, tmp_path):
    def restart(study, trial):
        if trial.number == 0:
            server.stop()
            server.start()

    study = tune(2, url, "π 👨‍👩‍👧 'x'; --", base=BASE, space=SPACE, after_trial=[restart])
    assert states(study) == {"COMPLETE": 2}
    save_search(study, tmp_path / "search")
    kept = [path.read_bytes() for path in (tmp_path / "search").iterdir()]
    kept.append(
        server.run("pg_dump", "-h", server.folder, "-U", "admin", named(url)).stdout.encode()
    )
    assert b"study_name" in kept[-1] and not any(PASSWORD[:5].encode() in each for each in kept)


@pytest.mark.parametrize(
    "change, said",
    [
        (("student:", "nobody:"), 'password authentication failed for user "nobody"'),
        (("%7B", "%7C"), 'password authentication failed for user "student"'),
        (("/studies", "/other"), "does not exist"),
        (("host=/", "host=/nowhere/"), "No such file or directory"),
        (("?host=", "?colour=red&host="), 'invalid connection option "colour"'),
        (("postgresql+psycopg:", "mysql:"), "pip install pymysql, and write mysql+pymysql://..."),
        (("%40", "@"), "is written %40"),
    ],
)
def test_an_address_that_is_wrong_is_refused_in_one_line_without_a_password(
    url, script, tmp_path, change, said
):
    wrong = url.replace(*change, 1)
    assert wrong != url
    done = script("vit_mnist_tune", "--study", wrong, *WORDS, cwd=tmp_path)
    assert done.returncode == 2 and said in done.stderr and len(done.stderr.splitlines()) == 1
    assert PASSWORD[:5] not in done.stderr and "pa%2F" not in done.stderr


def test_a_server_that_may_not_be_written_to_is_refused(server, url, quick):
    tune(1, url, base=BASE, space=SPACE)
    name = named(url)
    server.sql(f"alter database {name} set default_transaction_read_only = on")
    with pytest.raises(UserError, match="cannot execute .* in a read-only transaction"):
        tune(2, url, base=BASE, space=SPACE)
    server.sql(f"alter database {name} reset default_transaction_read_only")
    server.sql("create role reader login password 'reader'")
    reader = server.url(name, "reader", "reader")
    with pytest.raises(UserError, match="permission denied for table"):
        tune(2, reader, base=BASE, space=SPACE)


def test_a_database_that_turns_read_only_in_a_search_ends_it_with_its_reason(server, url, quick):
    name = named(url)

    def forbid(study, trial):
        server.sql(f"alter database {name} set default_transaction_read_only = on")
        server.stop()
        server.start()

    with warnings.catch_warnings(action="ignore"):
        with pytest.raises(StudyUnreachable, match="in a read-only transaction"):
            tune(2, url, base=BASE, space=SPACE, after_trial=[forbid])


def test_a_server_that_stays_away_ends_the_search_with_one_line(server, url, monkeypatch):
    def stop(trial, **_):
        server.stop("immediate")
        return trial.suggest_float("lr", 0, 1)

    monkeypatch.setattr("vit_mnist.tuning.run_trial", stop)
    threads = []
    monkeypatch.setattr("threading.excepthook", threads.append)
    try:
        with pytest.warns(UserWarning, match="does not answer .*; waiting 1 seconds at most"):
            with pytest.raises(StudyUnreachable, match="the same command resumes the search"):
                tune(2, url, base=BASE, space=SPACE, patience=1, heartbeat=1)
    finally:
        server.start()
    assert not threads


def test_a_result_whose_receipt_was_lost_is_told_again_and_counts_once(url, quick):
    study, _ = _open(url, "receipts", BASE, 60, 9)
    storage, lost = study._storage, []
    tell = storage._backend.set_trial_state_values

    def tell_and_lose(trial_id, state, values=None):
        done = tell(trial_id, state, values)
        if state == TrialState.COMPLETE and not lost:
            lost.append(trial_id)
            raise optuna.exceptions.StorageInternalError() from AdminShutdown("", {}, Exception())
        return done

    storage._backend.set_trial_state_values = tell_and_lose
    with pytest.warns(UserWarning, match="does not answer"):
        study.optimize(lambda trial: 0.5, n_trials=2)
    assert lost and states(study) == {"COMPLETE": 2}


class AdminShutdown(optuna.storages._rdb.storage.sqlalchemy_exc.OperationalError):
    pass


def test_a_worker_that_was_silent_drops_its_trial_and_goes_on(url, monkeypatch):
    seen = []

    def sleep_through(trial, space, **_):
        seen.append(trial.number)
        if trial.number == 0:  # as another worker would after two heartbeats
            other = open_study(url, base=BASE)
            other._storage._backend.set_trial_state_values(trial._trial_id, TrialState.FAIL)
        return trial.suggest_float("lr", 0, 1)

    monkeypatch.setattr("vit_mnist.tuning.run_trial", sleep_through)
    with pytest.warns(UserWarning, match="trial 0 was silent for too long"):
        study = tune(2, url, base=BASE, space=SPACE)
    assert states(study) == {"FAIL": 1, "COMPLETE": 2} and seen == [0, 1, 2]


def test_nobody_is_declared_dead_just_after_the_server_was_away(url):
    study, patience = _open(url, "stale", BASE, 60, 9)
    storage = study._storage
    storage._backend._get_stale_trial_ids = lambda study_id: [7]
    assert storage._get_stale_trial_ids(study._study_id) == [7]
    patience.trouble = time.monotonic()
    assert storage._get_stale_trial_ids(study._study_id) == []


def test_a_study_draws_from_one_space(url, quick):
    tune(1, url, base=BASE, space=SPACE)
    for other in {**SPACE, "lr": (1e-4, 1e-2, "log")}, {"lr": SPACE["lr"]}, {**SPACE, "ema": [0.0]}:
        with pytest.raises(UserError, match="began with other choices"):
            tune(2, url, base=BASE, space=other)
    assert states(tune(2, url, base=BASE, space=SPACE)) == {"COMPLETE": 2}


WORKER = f"""
import sys
from vit_mnist.settings import Settings
from vit_mnist.tuning import ReportToTrial, tune
BASE, SPACE = {BASE!r}, {SPACE!r}
report = ReportToTrial.on_epoch
def on_epoch(self, run):
    "Say that a trial runs, and end it only when told to"
    print(self.trial.number, flush=True)
    sys.stdin.readline()
    report(self, run)
ReportToTrial.on_epoch = on_epoch
tune(6, sys.argv[1], base=BASE, space=SPACE, heartbeat=1)
"""


@pytest.mark.slow
def test_four_workers_two_databases_one_killed_the_server_restarted(forked):
    if not BIN or sys.platform == "win32":
        (pytest.fail if os.environ.get(NEEDED) else pytest.skip)(HOW)
    with running_server(safe=True) as server, ExitStack() as stack:
        for name in "one", "two":
            server.sql(f"create database {name} owner student")
        urls = [server.url(name) for name in ("one", "two")]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        workers = [
            stack.enter_context(
                subprocess.Popen(forked("python", "-c", WORKER, url), bufsize=1, **pipes)
            )
            for url in urls * 2
        ]

        def let_end(worker):
            "Let the trial of a worker end, and wait until it is in the next one"
            worker.stdin.write("\n")
            return worker.stdout.readline()

        running = [worker.stdout.readline().strip() for worker in workers]  # all in a trial
        for worker in workers:
            let_end(worker)
        before = [finished(server, url) for url in urls]
        assert all(len(each) >= 2 for each in before)
        killed, *others = workers
        killed.send_signal(signal.SIGKILL)
        server.stop("immediate")  # as if the machine had lost its power: all are in a trial
        for worker in others:
            worker.stdin.write("\n" * 20)  # and end it while the server is away
        server.start()
        for worker in others:
            assert worker.wait(HANGS) == 0, running
        for url, kept in zip(urls, before):
            study = tune(7, url, base=BASE, space=SPACE, heartbeat=1)
            over = [trial for trial in study.trials if trial.state.name in ("COMPLETE", "PRUNED")]
            assert kept.items() <= finished(server, url).items()  # nothing is lost or changed
            assert 7 <= len(over) <= 9
            assert len({str(trial.params) for trial in over}) == len(over)  # or counted twice
        dead = [
            trial for trial in open_study(urls[0], base=BASE).trials if trial.state.name == "FAIL"
        ]
        assert dead


def finished(server, url):
    "Return the accuracy of each finished trial by its number, as the database has it"
    command = (
        "select number, value from trials join trial_values using (trial_id) "
        "where state in ('COMPLETE', 'PRUNED')"
    )
    rows = server.sql(command, named(url)).splitlines()
    return dict(row.split("|") for row in rows)
