"""Makes README.md from nbs/index.ipynb; the pictures become tracked files in nbs/images/.

The map of the notebooks is drawn from nbs/sidebar.yml.
"""

import html
import posixpath
import re
from configparser import ConfigParser
from pathlib import Path

import nbformat
import yaml
from nbconvert import TemplateExporter
from nbconvert.preprocessors import ExtractOutputPreprocessor

from vit_mnist.site import _code, _directives

ROOT = Path(__file__).parent.parent
MAP = "nbs/images/map.svg"
COLUMNS, WIDTH, LINE, GAP = 4, 210, 20, 26  # of the map, in pixels


def alternative_text(source):
    return _directives(source).get("fig-alt", "").strip("\"' ")


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


def map_rooms():
    "The rooms of the map in reading order: a title and the names of its pages"
    contents = yaml.safe_load((ROOT / "nbs" / "sidebar.yml").read_text(encoding="utf-8"))
    entries = contents["website"]["sidebar"]["contents"]
    return [
        (entry["section"], [page["text"] for page in entry["contents"]])
        for entry in entries
        if "section" in entry
    ]


def draw_room(x, y, height, title, pages):
    "One box of the map"
    lines = [f'<text x="{x + 14}" y="{y + 24}" class="title">{html.escape(title)}</text>']
    for i, page in enumerate(pages):
        height_of = y + 24 + LINE * (i + 1)
        lines.append(f'<text x="{x + 14}" y="{height_of}">{html.escape(page)}</text>')
    box = f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{height}" rx="8"/>'
    return "\n".join([box, *lines])


def draw_map():
    "The map of the notebooks as SVG: rooms in rows, an arrow from each to the next"
    rooms, parts, y = map_rooms(), [], GAP
    for start in range(0, len(rooms), COLUMNS):
        row = rooms[start : start + COLUMNS]
        height = 24 + LINE * max(len(pages) for _, pages in row) + 14
        for column, (title, pages) in enumerate(row):
            x = GAP + column * (WIDTH + GAP)
            parts.append(draw_room(x, y, height, title, pages))
            if column:
                parts.append(f'<path d="M{x - GAP + 4} {y + 19}h{GAP - 12}m-5 -5l5 5l-5 5"/>')
        y += height + GAP
    width = GAP + COLUMNS * (WIDTH + GAP)
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y}" role="img">
<title>The notebooks in reading order</title>
<style>
  .paper {{ fill: #ffffff; stroke: none }}
  rect {{ fill: #f3f6fa; stroke: #aab4c0 }}
  path {{ fill: none; stroke: #565e66; stroke-width: 1.5 }}
  text {{ font: 14px system-ui, sans-serif; fill: #2b3138 }}
  .title {{ font-weight: 600; fill: #0a4fb5 }}
</style>
<rect class="paper" width="{width}" height="{y}"/>
{chr(10).join(parts)}
</svg>
"""


def site_address():
    "Where the site is, from settings.ini"
    parser = ConfigParser(delimiters=["="])
    parser.read(ROOT / "settings.ini", encoding="utf-8")
    return parser["DEFAULT"]["doc_host"] + parser["DEFAULT"]["doc_baseurl"]


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
    exporter.register_filter("without_directives", _code)
    exporter.register_filter("alternative_text", alternative_text)
    exporter.register_preprocessor(
        ExtractOutputPreprocessor(
            output_filename_template="images/index-{cell_index}{extension}",
            extract_output_types={"image/png"},
        ),
        enabled=True,
    )
    text, resources = exporter.from_notebook_node(notebook)
    pictures = {f"nbs/{name}": content for name, content in resources["outputs"].items()}
    pictures[MAP] = draw_map().encode()
    text = re.sub(r"\n{3,}", "\n\n", from_root(text)).strip() + "\n"
    link = f"**[The site, with live pictures]({site_address()})**"  # the site has none to itself
    return re.sub(r"(?<=\n)(> .*\n)", rf"\1\n{link}\n", text, count=1), pictures


if __name__ == "__main__":
    text, pictures = make_readme()
    (ROOT / "README.md").write_text(text, encoding="utf-8")
    for old in (ROOT / "nbs" / "images").glob("index-*.png"):
        old.unlink()
    for name, content in pictures.items():
        (ROOT / name).write_bytes(content)
    print("README.md", *pictures)
