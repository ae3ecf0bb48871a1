"Makes README.md from nbs/index.ipynb; the notebook's pictures become tracked files in nbs/images/."

import posixpath
import re
from pathlib import Path

import nbformat
from nbconvert import TemplateExporter
from nbconvert.preprocessors import ExtractOutputPreprocessor

ROOT = Path(__file__).parent.parent


def directive(source, name):
    "The value of a cell's `#| name: value` line; empty if there is none"
    found = re.search(rf"^#\|\s*{name}\s*:?\s*(.*)$", source, re.MULTILINE)
    return found[1].strip("\"' ") if found else ""


def without_directives(source):
    return "\n".join(line for line in source.splitlines() if not line.startswith("#|")).strip()


def from_root(text):
    "Relative links and pictures as seen from the repository's root instead of nbs/"

    def move(found):
        target = found[2]
        return (
            found[0]
            if re.match(r"[a-z]+:|#", target)
            else f"{found[1]}{posixpath.normpath('nbs/' + target)})"
        )

    return re.sub(r"(\]\()([^)\s]+)\)", move, text)


def make_readme():
    "The text of README.md, and the bytes of each picture by its path from the root"
    notebook = nbformat.read(ROOT / "nbs" / "index.ipynb", as_version=4)
    notebook.cells = [
        cell
        for cell in notebook.cells
        if not re.search(r"^#\|\s*hide\s*$", cell.source, re.MULTILINE)
    ]
    for output in (
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ):
        output.data.pop(
            "text/html", None
        )  # a README runs no script: the still picture stands for what is alive on the site
    exporter = TemplateExporter(
        template_name="readme",
        extra_template_basedirs=[str(ROOT / "tools")],
        file_extension=".md",
        raw_template="",
    )
    exporter.template_file = "index.md.j2"
    exporter.register_filter("without_directives", without_directives)
    exporter.register_filter("alternative_text", lambda source: directive(source, "fig-alt"))
    exporter.register_preprocessor(
        ExtractOutputPreprocessor(
            output_filename_template="images/index-{cell_index}{extension}",
            extract_output_types={"image/png"},
        ),
        enabled=True,
    )
    text, resources = exporter.from_notebook_node(notebook)
    pictures = {f"nbs/{name}": content for name, content in resources["outputs"].items()}
    return re.sub(r"\n{3,}", "\n\n", from_root(text)).strip() + "\n", pictures


if __name__ == "__main__":
    text, pictures = make_readme()
    (ROOT / "README.md").write_text(text, encoding="utf-8")
    for old in (ROOT / "nbs" / "images").glob("index-*.png"):
        old.unlink()
    for name, content in pictures.items():
        (ROOT / name).write_bytes(content)
    print("README.md", *pictures)
