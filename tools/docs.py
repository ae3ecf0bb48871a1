"""Build the site into _docs/ and check it.

Quarto builds it where that is installed, else smalldocs, which needs no network.
"""

import base64
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
from nbdev.config import get_config
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


def without_sass(name):
    "Make a stylesheet of nbs/NAME.scss: Bootstrap's colours, ours over them, and our widths"
    vendor = Path(smalldocs.__file__).parent / "assets" / "vendor"
    bootstrap = (vendor / "bootstrap" / "bootstrap.min.css").read_text()
    theirs = re.search(rf"\[data-bs-theme={name}\]\{{([^}}]*)\}}", bootstrap)[1]
    scss = (PROC / f"{name}.scss").read_text()
    colours = dict(re.findall(r"^\$([\w-]+): ([^;]+);", scss, re.MULTILINE))
    link = ",".join(str(channel) for channel in bytes.fromhex(colours["link-color"][1:]))
    colours |= {"secondary-color": colours["text-muted"], "link-color-rgb": link}
    grid = yaml.safe_load((PROC / "_quarto.yml").read_text())["format"]["html"]["grid"]
    ours = "".join(f"--bs-{name}:{value};" for name, value in colours.items())
    widths = "".join(f"--sd-{name}:{value};" for name, value in grid.items())
    return f"{bootstrap}:root{{{theirs};{ours}}}html:root{{{widths}}}"


def with_mathml(page):
    "Turn a page's formulas into MathML, as Quarto does, and drop the scripts smalldocs loads"

    def convert(formula):
        source, display = html.unescape(formula[2]), "block" if formula[1] == "[" else "inline"
        return latex2mathml.converter.convert(source, display=display)

    page = re.sub(r"\\([(\[])(.*?)\\[)\]](?=</span>)", convert, page, flags=re.DOTALL)
    return re.sub(r"<(?:link|script)[^>]*/katex@[^>]*>(?:</script>)?", "", page)


def with_picture_files(page, path):
    "Move a page's pictures into files beside it, as Quarto does"

    def move(found):
        folder = path.with_name(f"{path.stem}_files")
        folder.mkdir(exist_ok=True)
        picture = folder / f"{len(list(folder.iterdir()))}.png"
        picture.write_bytes(base64.b64decode(found[1]))
        return f'src="{folder.name}/{picture.name}" class="img-fluid"'

    return re.sub(r'src="data:image/png;base64,([^"]*)" class="img-fluid"', move, page)


def home():
    "Say where the site begins on its host: /vit-mnist/"
    return get_config().doc_baseurl.rstrip("/") + "/"


def with_address(page, name):
    "Say a page's address in its head, as Quarto does; the 404 page is shown at any depth"
    site = get_config().doc_host + home()
    line = f'<link rel="canonical" href="{site + name.removesuffix("index.html")}">'
    line = f'<base href="{home()}">' if name == "404.html" else line
    return page.replace("<head>", f"<head>{line}", 1)


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
    for path in PROC / "sidebar.yml", PROC / "404.qmd":
        path.write_text(without_numbers(path.read_text()))


def write_config():
    "Leave out what smalldocs refuses and a reader does not see; set the styles"
    config = yaml.safe_load((PROC / "_quarto.yml").read_text())
    config.pop("keep-md", None)
    for scheme in "light", "dark":
        config["format"]["html"]["theme"][scheme] = f"{scheme}.css"
        (PROC / f"{scheme}.css").write_text(without_sass(scheme))
    (PROC / "_quarto.yml").write_text(yaml.safe_dump(config))


def render_without_quarto():
    "Render the processed notebooks with smalldocs"
    refresh_quarto_yml()
    proc_nbs(n_workers=0)
    rename_pages()
    write_config()
    subprocess.run([Path(sys.executable).with_name("smalldocs"), "render", PROC], check=True)
    for path in (PROC / "_docs").rglob("*.html"):
        page = with_mathml(path.read_text(encoding="utf-8"))
        name = path.relative_to(PROC / "_docs").as_posix()
        page = with_picture_files(with_address(page, name), path)
        path.write_text(page, encoding="utf-8")
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
    faults, pages = check_processed(PROC) + check(DOCS, home()), len(list(DOCS.rglob("*.html")))
    print("\n".join(faults) or f"{pages} pages in {DOCS.relative_to(ROOT)}/, no fault found")
    sys.exit(bool(faults))
