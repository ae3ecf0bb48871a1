"README and site: made from the notebooks, and checked by a checker that finds planted faults."

import re
import sys
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))
from check_site import check  # noqa: E402
from readme import make_readme  # noqa: E402


def test_readme_comes_from_the_index_notebook():
    text, pictures = make_readme()
    assert (ROOT / "README.md").read_bytes() == text.encode(), "run `make readme`"
    assert all((ROOT / name).read_bytes() == content for name, content in pictures.items())
    assert {ROOT / name for name in pictures} == set((ROOT / "nbs" / "images").glob("index-*.png"))


NOTEBOOKS = [
    path
    for path in sorted((ROOT / "nbs").rglob("*.ipynb"))
    if ".ipynb_checkpoints" not in path.parts
]


def test_the_sidebar_lists_every_notebook_once():
    sections = yaml.safe_load((ROOT / "nbs" / "sidebar.yml").read_text())["website"]["sidebar"][
        "contents"
    ]
    listed = [
        name
        for entry in sections
        for name in ([entry] if isinstance(entry, str) else entry["contents"])
    ]
    assert sorted(listed) == sorted(path.relative_to(ROOT / "nbs").as_posix() for path in NOTEBOOKS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_there_and_pictures_say_what_is_on_them(path):
    for cell in nbformat.read(path, 4).cells:
        if cell.cell_type == "code":
            directives = "\n".join(
                line for line in cell.source.splitlines() if line.startswith("#|")
            )
            assert not any(output.output_type == "error" for output in cell.outputs), cell.source
            assert cell.outputs or "slow" not in directives, (
                f"a slow cell that was never run:\n{cell.source}"
            )
            assert cell.outputs or cell.source.splitlines()[-1:] != ["fig"], (
                f"a picture that was never drawn:\n{cell.source}"
            )
            pictures = any(
                kind.startswith("image/")
                for output in cell.outputs
                for kind in output.get("data", {})
            )
            assert not pictures or "fig-alt:" in directives, (
                f"a picture without alternative text:\n{cell.source}"
            )
            for line in re.findall(r"^#\|\s*(fig-alt:.*)", directives, re.MULTILINE):
                yaml.safe_load(line)  # as Quarto reads it: a colon in the text would be a fault


GOOD = '<html><body id="top"><a href="other.html#there">o</a><a href="https://example.com/x">x</a><img src="p.png" alt="a picture"><script src="s.js"></script></body></html>'


@pytest.fixture
def site(tmp_path):
    for name, text in {
        "index.html": GOOD,
        "other.html": '<p id="there"><a href="./">home</a></p>',
        "p.png": "",
        "s.js": "",
    }.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_whole_site_has_no_fault(site):
    assert check(site) == []


@pytest.mark.parametrize(
    "was, planted, fault",
    [
        ("other.html#there", "gone.html", "no such file: gone.html"),
        ("#there", "#nowhere", "no such anchor: other.html#nowhere"),
        ("s.js", "gone.js", "no such file: gone.js"),
        ("p.png", "../outside.png", "no such file: ../outside.png"),
        (' alt="a picture"', "", "image without alternative text: p.png"),
        (
            "<script",
            '<link rel="stylesheet" href="https://example.com/a.css"><script',
            "loads https://example.com/a.css from another host",
        ),
        ("</body>", '<div><a href="raw.html">raw</a></div></body>', "no such file: raw.html"),
    ],
)
def test_the_checker_finds(site, was, planted, fault):
    (site / "index.html").write_text(GOOD.replace(was, planted))
    assert check(site) == [f"index.html: {fault}"]


def test_the_checker_refuses_an_empty_site(tmp_path):
    assert check(tmp_path) == [f"{tmp_path}: no pages"]
