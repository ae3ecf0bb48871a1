"core: files are whole or not there, mistakes are one line, and random streams keep apart."

import json
import math
import os
import sys
import warnings
from contextlib import nullcontext
from pathlib import Path

import IPython.display
import matplotlib.pyplot as plt
import pytest
import torch
from PIL import Image

from vit_mnist import core
from vit_mnist.core import UserError, as_label, check_name, derive_seed, figure, fork_rng
from vit_mnist.core import import_submodule, make_generator, moved, printable, read_file
from vit_mnist.core import (
    progress_bar,
    renamed_parameters,
    save_picture,
    to_json,
    write_atomic,
    write_json,
)


def test_a_figure_has_rows_of_axes_of_a_size_and_is_shown_only_where_it_is_a_value():
    fig, axes = figure(2, 3, size=2)
    assert axes.shape == (2, 3) and tuple(fig.get_size_inches()) == (6, 4)
    assert axes[1, 0] is fig.axes[3]  # row by row
    sizes = [tuple(each[0].get_size_inches()) for each in (figure(), figure(figsize=(5, 1)))]
    assert sizes == [(1.2, 1.2), (5, 1)] and not plt.get_fignums()


@pytest.mark.parametrize(
    "name, hint",
    [("kmnits", "did you mean 'kmnist'?"), ("kit", "did you mean 'kmnist'?"), (5, "known: mnist")],
)
def test_a_wrong_name_is_refused_with_a_suggestion_in_one_line(name, hint):
    known = (word for word in ("mnist", "kmnist"))  # any iterable will do
    with pytest.raises(UserError) as told:
        check_name("data set", name, known)
    assert str(told.value).startswith(f"unknown data set '{name}'; {hint}")
    assert "\n" not in str(told.value) and isinstance(told.value, ValueError)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "metrics.json"
    write_json(path, {"a": [1]})
    assert path.read_text() == '{\n  "a": [\n    1\n  ]\n}\n'
    with pytest.raises(TypeError):
        write_atomic(path, "not bytes")
    with pytest.raises(TypeError):
        write_json(path, {"a": {1, 2}})
    assert json.loads(path.read_text()) == {"a": [1]} and list(tmp_path.iterdir()) == [path]


def test_bytes_are_on_the_disk_before_the_file_has_its_name(tmp_path, monkeypatch):
    path, there = tmp_path / "new" / "deep" / "file", []
    monkeypatch.setattr(os, "fsync", lambda number: there.append(path.exists()))
    write_atomic(path, b"content")
    assert there == [False] and path.read_bytes() == b"content"


def test_a_png_has_150_dots_an_inch(tmp_path):
    save_picture(figure(figsize=(2, 1))[0], tmp_path / "new" / "A.PNG")
    assert Image.open(tmp_path / "new" / "A.PNG").size == (300, 150)


def test_seeds_are_those_of_earlier_runs_and_every_argument_counts():
    assert derive_seed(0, "order", 7) == 3991152635469996079  # runs of every version share it
    assert derive_seed(3, "order") == derive_seed(3, "order", 0)
    cases = [(seed, stream, step) for seed in (0, 1) for stream in "ab" for step in range(100)]
    seeds = {derive_seed(*case) for case in cases}
    assert len(seeds) == len(cases) and max(seeds) >> 62 == 1 and min(seeds) >= 0  # 63 bits
    assert make_generator(3, "order").initial_seed() == derive_seed(3, "order", 0)


def test_random_numbers_outside_go_on_even_after_an_error_inside():
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    with pytest.raises(ZeroDivisionError), fork_rng(3, torch.device("cpu")):
        torch.rand(2)
        1 / 0
    assert torch.equal(torch.rand(2), expected)


def test_the_device_asked_for_is_seeded_and_forked_too(monkeypatch):
    seen = []
    monkeypatch.setattr(torch.cuda, "manual_seed", lambda seed: seen.append(seed))
    monkeypatch.setattr(
        torch.random, "fork_rng", lambda devices: seen.append(devices) or nullcontext()
    )
    for name in ("cuda", "cpu"):
        with fork_rng(3, torch.device(name)):
            pass
    assert seen == [[torch.device("cuda")], 3, []]


def test_a_package_that_cannot_be_imported_says_so_each_time_and_its_modules_work(
    tmp_path, monkeypatch
):
    package = tmp_path / "half_there"
    package.mkdir()
    (package / "__init__.py").write_text("import nowhere_at_all")
    (package / "part.py").write_text("answer = 42")
    monkeypatch.syspath_prepend(tmp_path)
    assert import_submodule("half_there.part").answer == 42
    for _ in range(2):
        with pytest.raises(ImportError, match="nowhere_at_all"):
            sys.modules["half_there"].something


def test_warnings_about_old_names_point_at_the_line_that_uses_them():
    old = renamed_parameters(size="side")(lambda side: 2 * side)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert old(size=3) == 6 and moved("here", old="json.dumps")("old") is json.dumps
    assert [Path(warning.filename).name for warning in caught] == ["test_core.py"] * 2
    assert {warning.category for warning in caught} == {DeprecationWarning}


@pytest.mark.parametrize(
    "text, shown",
    [
        ("\x1b]0;owned\x07", r"\x1b]0;owned\x07"),
        ("7\r\nfast.png: 3", r"7\r\nfast.png: 3"),
        ("\u202e\u200f\ud800\0\x9b\u2028", r"\u202e\u200f\ud800\x00\x9b\u2028"),
        ("Übung ☃ 数字", "Übung ☃ 数字"),
        (7, "7"),
    ],
)
def test_text_from_elsewhere_is_one_line_that_moves_no_cursor(text, shown):
    assert printable(text) == shown == printable(shown)
    assert str(UserError(f"no {text}")).isprintable()


def test_long_text_loses_its_middle_and_a_message_is_a_line_of_a_thousand_characters():
    long = "start" + "\n" * 10**6 + "end"
    for shown, most in (printable(long), 5000), (printable(long, 100), 100):
        assert shown.startswith("start") and shown.endswith("end") and len(shown) <= most
    with pytest.raises(UserError) as told:
        check_name("model", "a" * 10**6, ["vit"])
    assert len(str(told.value)) < 200 and str(told.value).endswith("known: vit")
    assert len(str(UserError("a" * 10**6 + "; the cure"))) <= 1000
    assert str(UserError("a" * 10**6 + "; the cure")).endswith("; the cure")
    assert str(UserError("of a library:\n\n  in lines")) == "of a library: in lines"


@pytest.mark.parametrize("name", ["$x^$", r"$\frac$", "a$b", "\x1b$", "$" * 200])
def test_a_label_is_never_a_formula(name):
    fig, axes = figure()
    axes[0, 0].set_title(as_label(name))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of characters that the font lacks
        fig.canvas.draw()


def test_json_is_json_whatever_the_numbers_are(tmp_path):
    value = {"a": [math.nan, (math.inf, 1.5)], "b": {"c": -math.inf}, "d": True}
    write_json(tmp_path / "file.json", value)
    for text in (tmp_path / "file.json").read_text(), to_json(value):
        read = json.loads(text, parse_constant=lambda word: 1 / 0)
        assert read == {"a": [None, [None, 1.5]], "b": {"c": None}, "d": True}


def test_only_regular_files_of_bounded_size_are_read(tmp_path):
    (tmp_path / "small").write_bytes(b"1234")
    os.mkfifo(tmp_path / "pipe")
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(2**40)
    (tmp_path / "link").symlink_to("pipe")
    assert read_file(tmp_path / "small", 4) == b"1234"
    for name, why in {
        "pipe": "device or a pipe",
        "link": "device or a pipe",
        "sparse": "has more than 1 MB",
        "/dev/zero": "device or a pipe",
    }.items():
        with pytest.raises(UserError, match=why):
            read_file(tmp_path / name)
    for name, error in {"missing": FileNotFoundError, "": IsADirectoryError}.items():
        with pytest.raises(error):
            read_file(tmp_path / name)


class Shown(list):
    "The texts that one output of a notebook has shown"

    def update(self, bundle, raw):
        self.append(bundle["text/plain"])


@pytest.mark.parametrize("leave, last", [(True, "100%"), (False, "")])
def test_a_bar_in_a_notebook_is_one_output_that_is_full_or_empty_at_the_end(
    monkeypatch, capfd, leave, last
):
    outputs = []

    def display(bundle, raw, display_id):
        outputs.append(Shown([bundle["text/plain"]]))
        return outputs[-1]

    monkeypatch.setattr(core, "in_notebook", lambda: True)
    monkeypatch.setattr(IPython.display, "display", display)
    for _ in progress_bar(range(2), leave=leave, mininterval=0):
        assert list(progress_bar("ab", hidden=True)) == ["a", "b"]
    (shown,) = outputs
    assert shown[0].startswith("0%") and shown[-1][:4] == last
    assert list(progress_bar("ab", delay=60)) == ["a", "b"] and len(outputs) == 1
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_elsewhere_is_on_stderr_of_a_terminal(monkeypatch, capsys, terminal):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    assert list(progress_bar("ab", leave=True)) == ["a", "b"]
    said = capsys.readouterr()
    assert ("100%" in said.err) == terminal and not said.out
