"What a page shows: code that runs as it stands, folds, prose first, nothing from elsewhere."

import ast
import builtins
import importlib
import json
import os
import re
import subprocess
import sys
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

import nbformat
import pytest
import vit_mnist.all
from conftest import run_script
from execnb.nbio import read_nb
from nbdev.clean import clean_nb
from nbdev.process import NBProcessor
from nbdev.processors import FilterDefaults

from vit_mnist.element import script_html
from vit_mnist.site import _brings, _code, _imports, _names, cell_kinds

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import docs  # noqa: E402
from check_processed import check_processed  # noqa: E402
from check_site import check  # noqa: E402
from fold import fold, fold_saved  # noqa: E402

NOTEBOOKS = [
    path
    for path in sorted((ROOT / "nbs").rglob("*.ipynb"))
    if ".ipynb_checkpoints" not in path.parts
]
pages = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@cache
def page(path):
    "Process a notebook as for its page, but for the descriptions, which need its code executed"
    here = os.getcwd()
    os.chdir(ROOT)
    try:
        skipped = ("exec_show_docs", "FieldComments")
        procs = [p for p in FilterDefaults().procs() if p.__name__ not in skipped]
        nb = read_nb(path)
        NBProcessor(nb=nb, procs=procs).process()
    finally:
        os.chdir(here)
    return nb.cells


def visible(path, folded=True):
    "List the code that a page shows, but for exported source; also what is folded"
    for cell in page(path):
        options, code = cell.source.split("\n"), _code(cell.source)
        gone = {"#| echo: false", "#| include: false"}
        if cell.cell_type == "code" and not gone & set(options) and code:
            if folded or "#| code-fold: true" not in options:
                yield cell, code


def without_functions(code):
    "Leave out the bodies of functions"
    tree = ast.parse(code)
    tree.body = [node for node in tree.body if not isinstance(node, ast.FunctionDef)]
    return ast.unparse(tree)


def imports_only(code):
    return all(isinstance(node, (ast.Import, ast.ImportFrom)) for node in ast.parse(code).body)


# ---- code that can be copied


@pages
@pytest.mark.parametrize("folded", [True, False], ids=["all", "open"])
def test_visible_code_uses_no_name_that_the_page_does_not_show(path, folded):
    known, missing, later = {*dir(builtins), "display", "get_ipython"}, set(), set()
    for _, code in visible(path, folded):
        read, bound = _names(code)
        for line in _imports(code):
            known |= _brings(*line)
        inside = read - _names(without_functions(code))[0]  # what a function reads when called
        missing |= read - inside - known - bound
        known |= bound
        later |= inside
    assert not missing | (later - known)


@pages
def test_a_page_has_one_cell_of_imports_where_it_begins(path):
    places = [place for place, (_, code) in enumerate(visible(path)) if imports_only(code)]
    assert places in ([], [0]), [list(visible(path))[place][1] for place in places]


def runnable(path):
    "Write a page's code as one script, without cells that are marked slow or not to be run"
    slow = {
        cell.id
        for cell in nbformat.read(path, 4).cells
        if re.search(r"^#\| *(slow|eval: *false|notest)\b", cell.source, re.MULTILINE)
    }
    codes = [code for cell, code in visible(path) if cell.get("id") not in slow]
    return "\n\n".join(["from IPython.display import display", *codes])


SLOW = {  # more than eight seconds
    *("27_model", "30_settings", "34_loop", "35_lr_finder", "36_checkpoints", "37_tracking"),
    *("38_training", "39_weights", "41_pictures", "52_gradients", "53_perturbation", "90_cli"),
    *("55_faithfulness", "60_evaluation", "61_runs", "62_calibration", "63_trust", "65_report"),
    *("66_prediction", "71_explorer", "75_page", "80_tuning", "81_export"),
    *("faithfulness", "first_steps", "your_model"),
}


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=pytest.mark.slow if path.stem in SLOW else (), id=path.stem)
        for path in NOTEBOOKS
    ],
)
def test_visible_code_runs_in_a_fresh_process(path, tmp_path):
    file = tmp_path / "page.py"
    file.write_text(runnable(path), encoding="utf-8")
    environment = {**os.environ, "MPLBACKEND": "Agg", "IN_TEST": "1"}
    run = run_script("python", file, cwd=path.parent, env=environment)
    assert run.returncode == 0, run.stderr[-3000:]


def test_each_block_to_copy_from_how_do_i_runs_as_it_stands(tmp_path):
    cells = nbformat.read(ROOT / "nbs" / "how_to.ipynb", 4).cells
    text = "\n".join(cell.source for cell in cells)
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) > 1
    for block in blocks:
        run = run_script(
            "python", "-c", block, cwd=tmp_path, env={**os.environ, "MPLBACKEND": "Agg"}
        )
        assert run.returncode == 0, run.stderr[-3000:]
    assert (tmp_path / "attention.png").exists()


@pages
def test_a_page_begins_with_a_sentence_a_picture_or_a_few_lines(path):
    cells = [
        cell
        for cell in page(path)[1:]
        if not cell.source.startswith(("[Source](", "<!-- WARNING", "#| echo: false"))
    ]
    first = cells[0]
    folded = "#| code-fold: true" in first.source
    lines = len(list(filter(None, _code(first.source).splitlines())))
    assert first.cell_type == "markdown" or folded or lines <= 3, first.source


# ---- folds


def test_a_page_folds_what_jupyterlab_folds():
    labels = re.compile(r'#\| code-fold: true\n#\| code-summary: "([^"]+)"')
    cells = page(ROOT / "nbs" / "21_attention.ipynb")
    found = {match[1] for cell in cells if (match := labels.match(cell.source))}
    assert found == {"Tests"}
    source = "\n".join(cell.source for cell in cells if "<summary>Exported source<" in cell.source)
    assert "class AttentionRecorder" in source and "def _masked_softmax" in source
    opened = [code for _, code in visible(ROOT / "nbs" / "21_attention.ipynb", folded=False)]
    assert any(code.startswith("digit = normalise(") for code in opened)
    assert not any(code.startswith(("test_eq", "assert")) for code in opened)


@pages
def test_source_and_tests_are_folded_in_jupyterlab_and_lessons_are_not(path):
    cells = nbformat.read(path, 4).cells
    for cell, kind in zip(cells, cell_kinds(cells)):
        folded = cell.metadata.get("jupyter", {}).get("source_hidden", False)
        wish = re.search(r"^#\| *code-fold: *(true|false)$", cell.source, re.MULTILINE)
        wanted = wish[1] == "true" if wish else kind in ("exported", "hidden", "test")
        assert folded == wanted, f"run `make notebooks` or tools/fold.py:\n{cell.source}"


@pages
def test_a_cell_that_only_tests_is_a_test(path):
    cells = nbformat.read(path, 4).cells
    for cell, kind in zip(cells, cell_kinds(cells)):
        if cell.cell_type == "code" and not cell.outputs and (code := _code(cell.source)):
            body = ast.parse(code).body
            calls = [getattr(getattr(node, "value", None), "func", None) for node in body]
            tests = [getattr(call, "id", "").startswith("test_") for call in calls]
            if all(test or isinstance(node, ast.Assert) for node, test in zip(body, tests)):
                assert kind in ("test", "hidden", "exported"), code
        if cell.cell_type == "code" and cell.outputs:
            assert kind != "test", cell.source


def small_notebook():
    cells = [
        nbformat.v4.new_code_cell("#| export\ndef half(x):\n    return x / 2"),
        nbformat.v4.new_code_cell("assert half(2) == 1"),
        nbformat.v4.new_code_cell("half(3)", metadata={"jupyter": {"source_hidden": True}}),
        nbformat.v4.new_markdown_cell("text"),
    ]
    return nbformat.v4.new_notebook(cells=cells)


def hidden_cells(notebook):
    return [cell["metadata"].get("jupyter", {}).get("source_hidden") for cell in notebook["cells"]]


def test_folding_is_valid_idempotent_and_kept_by_nbdev(tmp_path):
    notebook = fold(small_notebook())
    nbformat.validate(notebook)
    assert hidden_cells(notebook) == [True, True, None, None]
    text = nbformat.writes(notebook)
    assert nbformat.writes(fold(nbformat.reads(text, 4))) == text
    here = os.getcwd()
    os.chdir(ROOT)
    try:
        cleaned = tmp_path / "small.ipynb"
        cleaned.write_text(text)
        clean = [Path(sys.executable).with_name("nbdev_clean"), "--fname", cleaned]
        subprocess.run(clean, check=True, cwd=ROOT)
    finally:
        os.chdir(here)
    assert hidden_cells(json.loads(cleaned.read_text())) == [True, True, None, None]
    without = json.loads(text)
    clean_nb(without)
    assert hidden_cells(without) == [None] * 4  # so the setting is what keeps it


def test_the_first_lesson_explains_notes_for_the_tools_where_they_are_first_met():
    cells = nbformat.read(ROOT / "nbs" / "tutorials" / "first_steps.ipynb", 4).cells
    first = next(i for i, cell in enumerate(cells) if cell.source.startswith("#|"))
    explained = next(cell.source for cell in cells[first:] if cell.cell_type == "markdown")
    assert all(f"`{note}`" in explained for note in ("#|", "fig-alt", "slow", "hide"))


def test_folding_leaves_alone_what_is_not_its_own():
    notebook = small_notebook()
    notebook.cells[2].metadata.jupyter["outputs_hidden"] = True
    notebook.cells[3].metadata.jupyter = {"outputs_hidden": False}
    fold(notebook)
    assert hidden_cells(notebook) == [True, True, None, None]
    assert notebook.cells[2].metadata == {"jupyter": {"outputs_hidden": True}}
    assert notebook.cells[3].metadata == {"jupyter": {"outputs_hidden": False}}


def test_only_a_notebook_that_has_folds_is_folded_when_it_is_saved():
    own = small_notebook()
    del own.cells[2].metadata["jupyter"]
    before = nbformat.writes(own)
    fold_saved(model={"type": "notebook", "content": own}, path="own.ipynb")
    fold_saved(model={"type": "file", "content": "text"}, path="own.txt")
    assert nbformat.writes(own) == before
    lesson = small_notebook()
    fold_saved(model={"type": "notebook", "content": lesson}, path="lesson.ipynb")
    assert hidden_cells(lesson) == [True, True, None, None]


def test_nbdev_2_and_3_have_the_same_settings_for_pages():
    import tomllib
    from configparser import ConfigParser

    two = ConfigParser(delimiters=["="])
    two.read(ROOT / "settings.ini", encoding="utf-8")
    two = two["DEFAULT"]
    three = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["nbdev"]
    assert two["procs"].split() == three["doc_procs"]
    kept = three["allowed_cell_metadata_keys"]
    assert two["allowed_cell_metadata_keys"].split() == [kept] == ["jupyter"]


# ---- names and sources


def test_nbdev_finds_the_names_of_the_package():
    (entry,) = entry_points(group="nbdev", name="vit_mnist")
    assert entry.value == "vit_mnist._modidx:d"
    assert "vit_mnist.data.load_data" in entry.load()["syms"]["vit_mnist.data"]


def test_prose_leads_to_the_pages_of_names():
    links = [
        link
        for path in NOTEBOOKS
        for cell in page(path)
        for link in re.findall(r"\[`[\w.()]+`\]\((?:\.\./)?\w+\.html#[\w.]+\)", cell.source)
        if cell.cell_type == "markdown"
    ]
    assert len(links) > 100
    text = "".join(cell.source for path in NOTEBOOKS for cell in page(path))
    assert "vit-mnist.github.io/vit-mnist/data.html#" not in text


def test_the_checker_finds_sources_without_a_line(tmp_path):
    link = "https://github.com/a/b/blob/main/vit_mnist/attention.py#L"
    for line, faults in ("15", []), ("None", [f"no line of the source: {link}None"]):
        (tmp_path / "index.html").write_text(f'<a href="{link}{line}">source</a>')
        assert check(tmp_path) == [f"index.html: {fault}" for fault in faults]


# ---- nothing from elsewhere


@pytest.fixture
def processed(tmp_path):
    "Write a processed notebook without fault, and return how to plant one"
    (tmp_path / "_quarto.yml").write_text("format: {html: {html-math-method: mathml}}")

    def plant(source="text", metadata=None, **data):
        output = nbformat.v4.new_output("display_data", data)
        raw = "```{=html}\n<vit-attention></vit-attention><script>let a = 1</script>\n```\n"
        good = nbformat.v4.new_output("display_data", {"text/markdown": raw, "image/png": "iVBO"})
        code = nbformat.v4.new_code_cell("require([1])", outputs=[good] + [output] * bool(data))
        cells = [nbformat.v4.new_markdown_cell(source), code]
        notebook = nbformat.v4.new_notebook(cells=cells, metadata=metadata or {})
        nbformat.write(notebook, tmp_path / "page.ipynb")
        return check_processed(tmp_path)

    return plant


def test_a_processed_notebook_that_loads_nothing_has_no_fault(processed):
    assert processed() == []
    assert processed("`<script src='https://host/a.js'>` and RequireJS are words") == []
    assert processed('```html\n<script src="https://host/a.js"></script>\n```') == []


@pytest.mark.parametrize(
    "kind",
    [
        *("text/html", "application/javascript", "application/vnd.jupyter.widget-view+json"),
        *("application/vnd.plotly.v1+json", "application/vnd.vegalite.v5+json"),
    ],
)
def test_outputs_that_need_a_script_are_found(processed, kind):
    value = {} if kind.endswith("json") else "<table></table>"
    assert processed(**{kind: value}) == [f"page.ipynb: an output of the type {kind}"]


@pytest.mark.parametrize(
    "html",
    [
        "<script>require(['base/js/events'], go)</script>",
        "<script>require.config({})</script>",
        "<script>requirejs(['a'])</script>",
        "<script>MathJax.Hub.Config({})</script>",
        "<script>window.MathJax = {}</script>",
        "<script>Plotly.newPlot('a')</script>",
        '<script src="https://cdn.example.com/a.js"></script>',
        "<script src=//cdn.example.com/a.js></script>",
        '<script src="../lib/require.min.js"></script>',
        '<script src="jquery-3.5.1.min.js"></script>',
        '<link rel="stylesheet" href="https://example.com/a.css">',
        '<img alt="x" src="http://example.com/a.png">',
        '<iframe src="https://example.com/"></iframe>',
        '<object data="https://example.com/a.svg"></object>',
        '<video poster="//example.com/a.png"></video>',
        '<img alt="x" srcset="https://example.com/a.png 2x">',
        '<svg><image href="https://example.com/a.png"></image></svg>',
        '<script type="module">import { a } from "https://example.com/a.js"</script>',
        "<style>@import url(https://example.com/a.css)</style>",
        '<p style="background: url(//example.com/a.png)">x</p>',
    ],
)
def test_scripts_and_pictures_from_elsewhere_are_found(processed, html):
    (fault,) = processed(f"text\n\n{html}\n")
    assert fault.startswith("page.ipynb: loads ")
    (fault,) = processed(**{"text/markdown": f"```{{=html}}\n{html}\n```\n"})
    assert fault.startswith("page.ipynb: loads ")


def test_widget_states_and_formulas_by_script_are_found(processed, tmp_path):
    assert processed(metadata={"widgets": {"a": 1}}) == ["page.ipynb: the state of widgets"]
    assert processed("![x](https://example.com/a.png)")[0].startswith("page.ipynb: loads ")
    (tmp_path / "_quarto.yml").write_text("format: {html: {theme: default}}")
    assert len(processed()) == 1
    (tmp_path / "page.ipynb").unlink()
    assert check_processed(tmp_path)[0].endswith("no notebooks")


SCRIPTS = [script_html(f"{name}.js") for name in ("attention", "draw", "live", "page", "panel")]


@pages
def test_an_output_holds_the_scripts_of_today(path):
    for cell in json.loads(path.read_text())["cells"]:
        for output in cell.get("outputs", []):
            html = "".join(output.get("data", {}).get("text/html", ""))
            for script in SCRIPTS:
                html = html.replace(script, "")
            assert "modules[" not in html, f"run again: {cell['id']}"


@pages
def test_no_page_has_an_output_that_needs_a_script(path):
    for cell in page(path):
        for output in cell.get("outputs", []):
            kinds = set(output.get("data", {}))
            assert not {k for k in kinds if k != "text/plain" and k[:4] == "text"} - {
                "text/markdown",
                "text/latex",
            }
            assert not {kind for kind in kinds if kind.startswith("application/")}


def test_pages_are_made_anew_after_a_change_of_a_processor(tmp_path, monkeypatch):
    old = tmp_path / "_proc" / "old.ipynb"
    old.parent.mkdir()
    old.write_text("as the processor of yesterday left it")
    monkeypatch.setattr(docs, "PROC", old.parent)
    seen = []
    for quarto in "/usr/bin/quarto", None:
        monkeypatch.setattr(docs.shutil, "which", lambda name: quarto)
        monkeypatch.setattr(docs.nbdev_docs, "__wrapped__", lambda: seen.append(old.exists()))
        monkeypatch.setattr(docs, "render_without_quarto", lambda: seen.append(old.exists()))
        docs.build()
    assert seen == [False, False]


# ---- finding


@pytest.mark.parametrize(
    "search",
    [
        *("own model", "save figure", "install", "timm", "own images", "Colab", "GPU"),
        *("own data set", "resume", "load model", "compare runs", "train", "transformers"),
    ],
)
def test_what_people_search_for_has_a_heading(search):
    headings = [
        heading.lower()
        for path in NOTEBOOKS
        for cell in nbformat.read(path, 4).cells
        if cell.cell_type == "markdown"
        for heading in re.findall(r"^#+ (.*)$", cell.source, re.MULTILINE)
    ]
    words = search.lower().split()
    assert any(all(word in heading for word in words) for heading in headings)


def test_what_is_copied_from_how_to_uses_names_that_are_there():
    text = "".join(cell.source for cell in nbformat.read(ROOT / "nbs/how_to.ipynb", 4).cells)
    calls = set(re.findall(r"\b([a-z_]+)\(", re.sub(r"\]\([^)]*\)", "]", text)))
    known = set(vit_mnist.all.__all__)
    # what stands in modules that it imports from, or whose pages it names
    for module in set(re.findall(r"(?<=\d\d_)\w+(?=\.ipynb)|(?<=vit_mnist\.)\w+(?= import)", text)):
        known |= set(getattr(importlib.import_module(f"vit_mnist.{module}"), "__all__", ()))
    assert calls - {"save", "savefig", "total"} <= known


def test_every_public_name_in_the_reference_is_a_link():
    path = ROOT / "nbs" / "reference.ipynb"
    rows = [
        row
        for cell in page(path)
        for output in cell.get("outputs", [])
        for row in "".join(output.get("data", {}).get("text/markdown", "")).splitlines()[2:]
    ]
    assert len(rows) > 200
    assert not [row for row in rows if not re.match(r"\| \w+ \| \[`\w+`\]\(\w+\.html#", row)]
