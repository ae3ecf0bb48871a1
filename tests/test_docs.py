"README, order of the notebooks, help(), names of `vit_mnist.all`, and the checker of the site."

import ast
import dataclasses
import importlib
import inspect
import re
import sys
import warnings
from pathlib import Path

import nbformat
import pytest
import vit_mnist.all
import yaml
from fastcore.docments import docments

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))
from check_site import check  # noqa: E402
from docs import with_mathml  # noqa: E402
from readme import MAP, make_readme  # noqa: E402


def test_readme_comes_from_the_index_notebook():
    text, pictures = make_readme()
    assert (ROOT / "README.md").read_bytes() == text.encode(), "run `make readme`"
    assert all((ROOT / name).read_bytes() == content for name, content in pictures.items())
    saved = {ROOT / name for name in pictures if name.endswith(".png")}
    assert saved == set((ROOT / "nbs" / "images").glob("index-*.png"))


NOTEBOOKS = [
    path
    for path in sorted((ROOT / "nbs").rglob("*.ipynb"))
    if ".ipynb_checkpoints" not in path.parts
]


def sidebar(contents=None):
    "List the pages of the sidebar from top to bottom"
    if contents is None:
        text = (ROOT / "nbs" / "sidebar.yml").read_text()
        contents = yaml.safe_load(text)["website"]["sidebar"]["contents"]
    return [
        page
        for entry in contents
        for page in (sidebar(entry["contents"]) if "section" in entry else [entry["href"]])
    ]


def test_the_home_page_lists_every_tutorial_and_module():
    text = "".join(cell.source for cell in nbformat.read(ROOT / "nbs" / "index.ipynb", 4).cells)
    for path in NOTEBOOKS:
        name = path.relative_to(ROOT / "nbs").as_posix()
        assert name == "index.ipynb" or f"]({name})" in text, name


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_notebook_defines_an_exported_name_twice(path):
    found = []
    for cell in nbformat.read(path, 4).cells:
        if cell.cell_type == "code" and re.match(r"#\| *export", cell.source):
            found += [
                node.name
                for node in ast.parse(cell.source).body
                if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.decorator_list
            ]
    assert sorted(found) == sorted(set(found))


def test_the_sidebar_lists_every_notebook_once():
    pages = sorted(path.relative_to(ROOT / "nbs").as_posix() for path in NOTEBOOKS)
    assert sorted(sidebar()) == pages


def sidebar_parts():
    text = (ROOT / "nbs" / "sidebar.yml").read_text()
    return yaml.safe_load(text)["website"]["sidebar"]


def test_the_sidebar_names_subjects_in_a_few_words_and_folds_them():
    parts = sidebar_parts()
    entries = [entry for part in parts["contents"] for entry in part.get("contents", [part])]
    names = [entry["text"] for entry in entries]
    assert all(len(name.split()) <= 3 and name[0].isupper() for name in names)
    assert len({name.lower().removeprefix("the ") for name in names}) == len(names)
    assert parts["collapse-level"] == 1 and parts["contents"][-1]["section"] == "Helpers"


def test_the_map_shows_what_the_sidebar_lists():
    words = re.findall(r"<text[^>]*>([^<]*)</text>", (ROOT / MAP).read_text())
    rooms = [part for part in sidebar_parts()["contents"] if "section" in part]
    assert words == [
        name
        for part in rooms
        for name in (part["section"], *(page["text"] for page in part["contents"]))
    ]


def test_the_home_page_has_three_ways_in_and_the_map():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    ways = text.index("## Three ways in")
    places = [text.index(f"| **{way}** |") for way in ("see", "learn", "use")]
    assert ways < places[0] < places[1] < places[2] < text.index(f"]({MAP})")
    assert "](https://vit-mnist.github.io/vit-mnist)" in text.split("## ")[0]


def test_only_html_is_offered():
    config = yaml.safe_load((ROOT / "_quarto.yml").read_text())
    assert list(config["format"]) == ["html"]


def headings(path):
    "Yield the level of each heading in a notebook's prose"
    for cell in nbformat.read(path, 4).cells:
        if cell.cell_type == "markdown":
            prose = re.sub(r"^```.*?^```", "", cell.source, flags=re.MULTILINE | re.DOTALL)
            yield from (len(marks) for marks in re.findall(r"^(#+) ", prose, re.MULTILINE))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_headings_leave_no_level_out(path):
    levels = list(headings(path))
    assert levels[0] == 1 and 1 not in levels[1:]
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:]))


NUMBERED = {path.stem[3:]: path for path in NOTEBOOKS if path.stem[:2].isdigit()}
NUMBERS = {module: int(path.stem[:2]) for module, path in NUMBERED.items()}


def test_every_numbered_notebook_has_a_number_of_its_own_and_the_sidebar_follows_them():
    assert len(set(NUMBERS.values())) == len(NUMBERS)
    order = [page for page in sidebar() if page[:2].isdigit()]
    # the one exception: 00_core stands with the helpers, because nobody needs to read it first
    assert order.index("00_core.ipynb") > order.index("90_cli.ipynb")
    order.remove("00_core.ipynb")
    order.remove("01_logs.ipynb")
    assert order == sorted(order)


@pytest.mark.parametrize("module", sorted(set(NUMBERED) - {"all", "cli"}))
def test_help_shows_the_comments_beside_parameters(module):
    module = importlib.import_module(f"vit_mnist.{module}")
    for name in module.__all__:
        value = getattr(module, name)
        fields = inspect.isclass(value) and dataclasses.is_dataclass(value)
        if inspect.isfunction(value) or fields:
            own = {*inspect.signature(value).parameters, "return"}
            if fields:
                own = value.__annotations__
            shown = " ".join(value.__doc__.split())
            for parameter, comment in docments(value).items():
                missing = comment and parameter in own and " ".join(comment.split()) not in shown
                assert not missing, f"{module.__name__}.{name}: {parameter}"


def test_help_says_what_shape_images_have():
    assert "[n, channels, height, width]" in vit_mnist.all.capture_attention.__doc__


def test_every_module_has_a_test_file_of_its_own():
    ours = {path.stem.removeprefix("test_") for path in (ROOT / "tests").glob("test_*.py")}
    assert set(NUMBERED) <= ours


def code_of(path):
    "Return the trees of a notebook's code cells, without magics and directives"
    for cell in nbformat.read(path, 4).cells:
        if cell.cell_type == "code":
            lines = [line for line in cell.source.splitlines() if line[:1] not in ("%", "!")]
            yield ast.parse("\n".join(lines))


def imported(tree):
    "List the modules of the package that are imported anywhere below a node"
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vit_mnist."):
            yield node.module.removeprefix("vit_mnist.")
        elif isinstance(node, ast.ImportFrom) and node.module == "vit_mnist":
            yield from (alias.name for alias in node.names if alias.name in NUMBERS)


@pytest.mark.parametrize("module", NUMBERED)
def test_a_notebook_imports_only_from_lower_numbers(module):
    lower = {name for name, number in NUMBERS.items() if number < NUMBERS[module]}
    used = {name for tree in code_of(NUMBERED[module]) for name in imported(tree)}
    assert used <= lower, f"{sorted(used - lower)} come later, or are the notebook's own"


@pytest.mark.parametrize("module", NUMBERED)
def test_lines_of_the_modules_fit(module):
    text = (ROOT / "vit_mnist" / f"{module}.py").read_text()
    text = re.sub(r"^__all__ = \[[^]]*\]", "", text, count=1, flags=re.MULTILINE)  # nbdev's
    assert not [line for line in text.splitlines() if len(line) > 100]


def public_names():
    "Find the module of every public name, but for those of the commands and the site"
    modules = [module for module in NUMBERS if module not in ("all", "cli", "site")]
    return {
        name: module
        for module in modules
        for name in importlib.import_module(f"vit_mnist.{module}").__all__
    }


def assigned(tree):
    "List the names that code defines, imports or binds"
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from (alias.asname or alias.name for alias in node.names)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_tutorial_imports_the_names_that_all_does_not_bring(path):
    trees = list(code_of(path))
    stars = [n.module for t in trees for n in ast.walk(t) if isinstance(n, ast.ImportFrom)]
    if "vit_mnist.all" not in stars:
        return
    defined = {name for tree in trees for name in assigned(tree)}
    used = {node.id for t in trees for node in ast.walk(t) if isinstance(node, ast.Name)}
    missing = (used & public_names().keys()) - defined - set(vit_mnist.all.__all__)
    assert not missing, f"import from their modules: {sorted(missing)}"


def test_all_brings_the_names_of_the_tutorials_and_little_more():
    assert len(vit_mnist.all.__all__) < 90
    assert set(vit_mnist.all.__all__) <= public_names().keys()


def test_every_public_name_is_still_in_all():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        for name, module in public_names().items():
            value = getattr(importlib.import_module(f"vit_mnist.{module}"), name)
            assert getattr(vit_mnist.all, name) is value, name
    with pytest.warns(DeprecationWarning, match="write from vit_mnist.core import write_json"):
        vit_mnist.all.write_json
    with pytest.raises(AttributeError):
        vit_mnist.all.no_such_name


def test_the_reference_names_everything():
    cells = nbformat.read(ROOT / "nbs" / "reference.ipynb", 4).cells
    text = "".join(
        output["data"]["text/markdown"]
        for cell in cells
        for output in cell.get("outputs", [])
        if "text/markdown" in output.get("data", {})
    )
    missing = [name for name in public_names() if f"`{name}`" not in text]
    assert not missing, f"run `make notebooks`; not in reference.ipynb: {missing}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_there_and_pictures_say_what_is_on_them(path):
    for cell in nbformat.read(path, 4).cells:
        if cell.cell_type != "code":
            continue
        source, outputs = cell.source, cell.outputs
        directives = "\n".join(line for line in source.splitlines() if line.startswith("#|"))
        kinds = {kind for output in outputs for kind in output.get("data", {})}
        pictures = any(kind.startswith("image/") for kind in kinds)
        last = source.splitlines()[-1:]
        assert not any(output.output_type == "error" for output in outputs), source
        said = "".join(o.text for o in outputs if o.get("name") == "stderr")
        assert "%|" not in said, f"a bar on stderr, pink in JupyterLab:\n{source}"
        assert not any("widget-view" in kind for kind in kinds), f"a view of a widget:\n{source}"
        assert outputs or "slow" not in directives, f"a slow cell never run:\n{source}"
        assert outputs or last != ["fig"], f"a picture never drawn:\n{source}"
        assert not pictures or "fig-alt:" in directives, f"no alternative text:\n{source}"
        for line in re.findall(r"^#\|\s*(fig-alt:.*)", directives, re.MULTILINE):
            yaml.safe_load(line)  # as Quarto reads it: a colon in the text would be a fault


GOOD = (
    '<html><body id="top"><a href="other.html#there">o</a><a href="https://example.com/x">x</a>'
    '<img src="p.png" alt="a picture"><script src="s.js"></script></body></html>'
)


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
        (
            "</body>",
            "<p>Paper (https://a.org/1)</p></body>",
            "an address that is no link: https://a.org/1)",
        ),
        ("/x", "/x.py#LNone", "no line of the source: https://example.com/x.py#LNone"),
        (
            "<img ",
            '<main><h1>A</h1><h3 id="b">B</h3></main><img ',
            "heading jumps from h1 to h3: b",
        ),
        ("<img ", '<main><h2 id="b">B</h2></main><img ', "heading jumps from h0 to h2: b"),
        ("</body>", '<div><a href="raw.html">raw</a></div></body>', "no such file: raw.html"),
    ],
)
def test_the_checker_finds(site, was, planted, fault):
    (site / "index.html").write_text(GOOD.replace(was, planted))
    assert check(site) == [f"index.html: {fault}"]


def faults_with(site, planted):
    "List the faults of a site with more on its first page"
    (site / "index.html").write_text(GOOD.replace("</body>", f"{planted}</body>"))
    return check(site)


@pytest.mark.parametrize(
    "planted",
    [
        '<object data="https://a.org/x.svg"></object>',
        '<video poster="//a.org/x.png"></video>',
        '<img alt="a" srcset="p.png, https://a.org/x.png 2x">',
        '<svg><image href="https://a.org/x.png"/></svg>',
        '<input type="image" src="https://a.org/x.png">',
        '<p style="background: url(//a.org/x.png)">a</p>',
        "<style>@import url(https://a.org/x.css);</style>",
        '<script type="module">import { a } from "https://a.org/x.js"</script>',
        '<script type="module">const a = await import("https://a.org/x.js")</script>',
    ],
)
def test_the_checker_finds_whatever_comes_from_another_host(site, planted):
    (fault,) = faults_with(site, planted)
    assert "another host" in fault and "a.org/x" in fault


def test_the_checker_reads_stylesheets(site):
    (site / "a.css").write_text("p { background: url('p.png') }")
    assert check(site) == []
    (site / "a.css").write_text("@import 'https://a.org/fonts.css';")
    assert check(site) == ["a.css: loads from another host: @import 'https://a.org/fonts.css"]


@pytest.mark.parametrize(
    "planted",
    [
        "<p>www.a.org/1</p>",
        "<p>arxiv.org/abs/2010.11929</p>",
        "<div><p><code>never closed</p></div><p>https://a.org</p>",
        '<a name="x"><p>https://a.org</p></a>',
    ],
)
def test_the_checker_finds_addresses_that_are_no_links(site, planted):
    (fault,) = faults_with(site, planted)
    assert "an address that is no link" in fault


def test_the_checker_knows_where_a_site_begins(site):
    home = '<base href="/mine/"><a href="other.html">o</a><a href="/mine/p.png">p</a>'
    (site / "404.html").write_text(home)
    assert check(site, "/mine/") == []
    assert check(site) == [
        f"404.html: no such file: {name}" for name in ("other.html", "/mine/p.png")
    ]


def test_an_address_in_code_is_no_fault(site):
    code = "<code>git clone https://a.org</code><pre>curl https://a.org</pre><br><p>words</p>"
    (site / "other.html").write_text(f'<p id="there"></p>{code}')
    assert check(site) == []


def test_the_checker_refuses_an_empty_site(tmp_path):
    assert check(tmp_path) == [f"{tmp_path}: no pages"]


def test_formulas_need_no_script():
    page = '<script src="https://host/npm/katex@0.16/katex.min.js" defer></script><p>'
    page = with_mathml(page + '<span class="math inline">\\(a &lt; b\\)</span></p>')
    assert page.startswith('<p><span class="math inline"><math') and "katex" not in page
    assert "<mo>&#x0003C;</mo>" in page


def test_no_test_file_needs_unix_to_be_collected():
    unix = {"fcntl", "resource", "pwd", "grp", "termios", "pty"}
    for path in (ROOT / "tests").glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = {alias.name for alias in getattr(node, "names", [])}
            assert not names & unix and getattr(node, "module", None) not in unix, path
