"What commands say: levels, the file of a run, several processes, and what a profile writes."

import csv
import gzip
import json
import logging
import os
import re

import pytest

from vit_mnist.logs import ALL_VARIABLE, hide_logs, shows_logs, show_logs, write_log

LINE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (DEBUG|INFO|WARNING|ERROR) 0 vit_mnist\S*: "
)
BRIEF = "--limit 64 --epochs 1 --valid-size 100 --device cpu --tracking disabled".split()


@pytest.fixture(autouse=True)
def quiet():
    yield
    hide_logs()


def say(name="data", text="a word"):
    for level in "debug", "info", "warning", "error":
        getattr(logging.getLogger(f"vit_mnist.{name}"), level)(text)


@pytest.mark.parametrize("level, lines", [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_a_level_lets_graver_messages_through_and_the_file_has_all_from_info(
    tmp_path, capsys, level, lines
):
    show_logs(level, "train")
    say()
    write_log(tmp_path)
    said, text = capsys.readouterr(), (tmp_path / "log.txt").read_text()
    assert not said.out and len(said.err.splitlines()) == lines
    assert said.err.endswith("train: a word\n")
    assert len(text.splitlines()) == max(lines, 3) and all(map(LINE.match, text.splitlines()))


def test_a_library_says_nothing_unless_asked(capsys):
    say()
    assert capsys.readouterr() == ("", "") and not shows_logs()


@pytest.mark.parametrize(
    "text", ["two\nlines", "\x1b[31mred", "\u202eright to left", "\udcff", "\0"]
)
def test_the_file_is_printable_whatever_is_said(tmp_path, text):
    show_logs("error")
    write_log(tmp_path)
    try:
        raise ValueError(text)
    except ValueError:
        logging.getLogger("vit_mnist").info(text, exc_info=True)
    (line,) = (tmp_path / "log.txt").read_text(encoding="utf-8").splitlines()
    assert line.isprintable() and "ValueError" in line


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="links and pipes as on Unix")
@pytest.mark.parametrize(
    "make", [lambda path, other: path.symlink_to(other), lambda path, _: os.mkfifo(path)]
)
def test_no_link_is_followed_and_no_pipe_waited_for(tmp_path, capsys, make):
    other = tmp_path / "precious"
    other.write_text("mine")
    make(tmp_path / "log.txt", other)
    show_logs("warning")
    write_log(tmp_path)
    say()
    assert other.read_text() == "mine" and "no log is kept" in capsys.readouterr().err


def test_of_several_processes_the_first_writes_unless_all_are_asked_to(tmp_path, monkeypatch):
    for rank, everyone in ("0", ""), ("1", ""), ("2", "1"):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv(ALL_VARIABLE, everyone)
        show_logs("error")
        write_log(tmp_path)
        say()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log-2.txt", "log.txt"]


def test_a_run_that_is_profiled_has_a_log_and_a_profile(tmp_path, script):
    run = tmp_path / "run"
    words = [*BRIEF, "--batch-size", "4", "--model", "vit", "--out", run]
    env = {**os.environ, "VIT_MNIST_LOG_LEVEL": "warning"}
    done = script(
        "vit_mnist_train", *words, "--profile", "--ema", "0.9", "--clip-norm", "1", env=env
    )
    assert done.returncode == 0 and "epoch" not in done.stderr, done.stderr
    log = (run / "log.txt").read_text()
    assert "epoch 1 of 1" in log and all(map(LINE.match, log.splitlines()))
    rows = {row["name"]: row for row in csv.DictReader((run / "profile.csv").open())}
    parts = {"data", "augment", "forward", "backward", "gradient norm", "optimizer", "EMA"}
    assert parts < rows.keys() and all(float(rows[part]["calls"]) == 1 for part in parts)
    trace = json.loads(gzip.decompress((run / "trace.json.gz").read_bytes()))
    steps = [
        each for each in trace["traceEvents"] if each.get("name", "").startswith("ProfilerStep")
    ]
    assert len({each["name"] for each in steps}) == 5
    wrong = script("vit_mnist_train", "--log-level", "loud")
    assert wrong.returncode == 2 and "unknown log level 'loud'" in wrong.stderr
    assert len(wrong.stderr.splitlines()) == 1


def test_a_run_too_short_for_a_profile_says_so(tmp_path, script):
    done = script(
        "vit_mnist_train", *BRIEF, "--model", "mlp", "--out", tmp_path / "run", "--profile"
    )
    assert done.returncode == 0 and "there is no profile" in done.stderr
