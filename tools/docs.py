"""Build the site into _docs/ and check it.

Quarto builds it where that is installed, else smalldocs, which needs no network.
"""

import html
import re
import shutil
import subprocess
import sys
from pathlib import Path

import latex2mathml.converter
import nbformat
import smalldocs
import yaml
from check_processed import check_processed
from check_site import check
from nbdev.quarto import nbdev_docs, refresh_quarto_yml
from nbdev.serve import proc_nbs

ROOT = Path(__file__).parent.parent
PROC, DOCS = ROOT / "_proc", ROOT / "_docs"


def page_name(notebook):
    "Return Quarto's name for a notebook's page: `output-file` in its front matter"
    front = re.match(r"---\n(.*?)\n---", notebook.cells[0].source, re.DOTALL)
    return (yaml.safe_load(front[1]) if front else {}).get("output-file")


def without_numbers(text):
    "Replace names of notebooks by those of their pages: 10_data.ipynb is data.ipynb"
    return re.sub(r"\b\d+[a-z]?_(\w+\.ipynb)", r"\1", text)


def dark_without_sass():
    "Make a stylesheet of nbs/dark.scss: Bootstrap's dark mode, with our colours over it"
    vendor = Path(smalldocs.__file__).parent / "assets" / "vendor"
    bootstrap = (vendor / "bootstrap" / "bootstrap.min.css").read_text()
    dark = re.search(r"\[data-bs-theme=dark\]\{([^}]*)\}", bootstrap)[1]
    scss = (PROC / "dark.scss").read_text()
    colours = re.findall(r"^\$([\w-]+): ([^;]+);", scss, re.MULTILINE)
    ours = "".join(f"--bs-{name}:{value};" for name, value in colours)
    return f"{bootstrap}:root{{{dark};{ours}}}"


def with_mathml(page):
    "Turn a page's formulas into MathML, as Quarto does, and drop the scripts smalldocs loads"

    def convert(formula):
        source, display = html.unescape(formula[2]), "block" if formula[1] == "[" else "inline"
        return latex2mathml.converter.convert(source, display=display)

    page = re.sub(r"\\([(\[])(.*?)\\[)\]](?=</span>)", convert, page, flags=re.DOTALL)
    return re.sub(r"<(?:link|script)[^>]*/katex@[^>]*>(?:</script>)?", "", page)


def rename_pages():
    "Name the processed notebooks as Quarto names their pages, and their links too"
    for path in sorted(PROC.rglob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = re.sub(
                    r"(\]\([^)\s]*)", lambda link: without_numbers(link[1]), cell.source
                )
        nbformat.write(notebook, path)
        if name := page_name(notebook):
            path.rename(path.with_name(name).with_suffix(".ipynb"))
    sidebar = PROC / "sidebar.yml"
    sidebar.write_text(without_numbers(sidebar.read_text()))


def write_config():
    "Leave out two keys that smalldocs refuses and a reader does not see; set the dark style"
    config = yaml.safe_load((PROC / "_quarto.yml").read_text())
    config["format"].pop("commonmark", None)
    config.pop("keep-md", None)
    config["format"]["html"]["theme"]["dark"] = "dark.css"
    (PROC / "dark.css").write_text(dark_without_sass())
    (PROC / "_quarto.yml").write_text(yaml.safe_dump(config))


def render_without_quarto():
    "Render the processed notebooks with smalldocs"
    refresh_quarto_yml()
    proc_nbs(n_workers=0)
    rename_pages()
    write_config()
    subprocess.run([Path(sys.executable).with_name("smalldocs"), "render", PROC], check=True)
    for path in (PROC / "_docs").rglob("*.html"):
        page = path.read_text(encoding="utf-8")
        path.write_text(with_mathml(page), encoding="utf-8")
    shutil.rmtree(DOCS, ignore_errors=True)
    shutil.move(PROC / "_docs", DOCS)


def build():
    "Process all notebooks anew, since nbdev does not see a changed processor, and render them"
    shutil.rmtree(PROC, ignore_errors=True)
    if shutil.which("quarto"):
        nbdev_docs.__wrapped__()
    else:
        render_without_quarto()


if __name__ == "__main__":
    if hidden := [part for part in ROOT.parts if part.startswith(".")]:
        sys.exit(f"nbdev finds no notebooks in {ROOT}: {hidden[0]} begins with a dot")
    build()
    faults, pages = check_processed(PROC) + check(DOCS), len(list(DOCS.rglob("*.html")))
    print("\n".join(faults) or f"{pages} pages in {DOCS.relative_to(ROOT)}/, no fault found")
    sys.exit(bool(faults))
