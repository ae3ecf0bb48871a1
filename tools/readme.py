"""Makes README.md from nbs/index.ipynb; the pictures become tracked files in nbs/images/.

The map of the notebooks is drawn from nbs/sidebar.yml, the plan of the house from the imports of
the modules: as a picture for the site, which loads no script for it, as Mermaid for the README.
"""

import ast
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
PLAN = "nbs/images/plan.svg"
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


def rooms():
    "The rooms of the house in order: a title and the modules in it"
    text = (ROOT / "nbs" / "sidebar.yml").read_text(encoding="utf-8")
    entries = yaml.safe_load(text)["website"]["sidebar"]["contents"]
    found = {
        entry["section"]: re.findall(r"\d\d_(\w+)\.ipynb", str(entry["contents"]))
        for entry in entries
        if "section" in entry
    }
    return {title: modules for title, modules in found.items() if modules}


def imports_of(module):
    "The modules of the package that a module imports anywhere"
    text = (ROOT / "vit_mnist" / f"{module}.py").read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            name = node.module or ""
            if node.level == 1 and name:
                yield name.split(".")[0]
            elif name.startswith("vit_mnist."):
                yield name.split(".")[1]


def room_imports():
    "Which rooms each room imports from; helpers, which all import from, are left out"
    all_rooms = {title: modules for title, modules in rooms().items() if title != "Helpers"}
    home = {module: title for title, modules in all_rooms.items() for module in modules}
    return {
        title: {home[name] for m in modules for name in imports_of(m) if name in home} - {title}
        for title, modules in all_rooms.items()
    }


def without_detours(graph):
    "The imports that do not follow from others: of A from B, B from C and A from C not the last"

    def reach(title):
        return set().union(*({found} | reach(found) for found in graph[title]))

    return {
        title: [to for to in graph if to in found and not any(to in reach(o) for o in found - {to})]
        for title, found in graph.items()
    }


STAGES = [  # from what is written to what is used
    ("notebooks", "nbs/*.ipynb: the source"),
    ("modules", "vit_mnist/*.py: the package"),
    ("commands", "vit_mnist_train ...: the commands"),
    ("site", "_docs/: the site"),
    ("readme", "README.md"),
]
ARROWS = [  # what makes one of the other
    ("notebooks", "modules", "nbdev_export"),
    ("modules", "commands", "settings.ini"),
    ("notebooks", "site", "make docs"),
    ("notebooks", "readme", "make readme"),
]


def mermaid_plan():
    "The plan of the house as Mermaid, which GitHub draws"
    graph = without_detours(room_imports())
    name = {title: f"room{i}" for i, title in enumerate(graph)}
    lines = [f'  {key}["{words}"]' for key, words in STAGES]
    lines += [f"  {start} -->|{how}| {end}" for start, end, how in ARROWS]
    lines += ['  subgraph house ["in the package, a room imports from those below it"]']
    lines += [f'    {name[title]}["{title}"]' for title in graph]
    lines += [f"    {name[title]} --> {name[to]}" for title, found in graph.items() for to in found]
    return "\n".join(["flowchart TB", *lines, "  end", "  modules --- house"])


def draw_plan():
    "The plan of the house as SVG: how things are made above, the rooms and their imports below"
    graph = without_detours(room_imports())
    width, height, gap, between = 250, 34, 60, 110
    places = {"notebooks": (0, 0), "modules": (1, 0), "commands": (2, 0)}
    places |= {"readme": (1, 1), "site": (2, 1)}
    level = {}
    for title, found in graph.items():  # the order of the sidebar: what is imported comes before
        level[title] = 1 + max((level[to] for to in found), default=-1)
    rows = {row: [t for t in graph if level[t] == row] for row in sorted(set(level.values()))}
    for row, titles in rows.items():
        for column, title in enumerate(titles):
            places[title] = (column + (0.5 if len(titles) < 3 else 0), 2.6 + max(rows) - row)
    at = {
        key: (20 + x * (width + between), 20 + y * (height + gap)) for key, (x, y) in places.items()
    }
    parts = []
    arrows = ARROWS + [(title, to, "") for title, found in graph.items() for to in found]
    for start, end, how in arrows:
        (x1, y1), (x2, y2) = at[start], at[end]
        down = y2 > y1
        begin = (x1 + width / 2, y1 + height) if down else (x1 + width, y1 + height / 2)
        aim = (x2 + width / 2, y2 - 3) if down else (x2 - 3, y2 + height / 2)
        aside = 1.4 * width if down and not how and y2 - y1 > height + gap else 0  # past a room
        middle = ((begin[0] + aim[0]) / 2 - aside, (begin[1] + aim[1]) / 2)
        curve = " ".join(f"{x} {y}" for x, y in (begin, middle, aim)).split()
        parts.append('<path class="arrow" d="M{} {}Q{} {} {} {}"/>'.format(*curve))
        if how:
            where = f'x="{middle[0]}" y="{middle[1] + (16 if down else -6)}"'
            parts.append(f'<text class="how" {where}>{how}</text>')
    words = dict(STAGES) | {title: title for title in graph}
    for key, (x, y) in at.items():
        kind = "stage" if key in dict(STAGES) else "room"
        box = f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="8"/>'
        label = f'<text x="{x + width / 2}" y="{y + 22}">{html.escape(words[key])}</text>'
        parts += [box, label]
    note = "In the package, a room imports from those that its arrows lead to, and theirs"
    low = 20 + 2.3 * (height + gap)
    parts.append(f'<text x="{20 + 1.5 * width + between}" y="{low}">{note}</text>')
    right, bottom = 40 + 3 * width + 2 * between, 40 + max(y for _, y in at.values()) + height
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {right} {bottom}" role="img">
<title>How the notebooks become package, commands and site</title>
<style>
  .paper {{ fill: #ffffff }}
  .stage {{ fill: #eaf2ff; stroke: #0a4fb5 }}
  .room {{ fill: #f3f6fa; stroke: #aab4c0 }}
  .arrow {{ fill: none; stroke: #565e66; stroke-width: 1.5; marker-end: url(#tip) }}
  text {{ font: 14px system-ui, sans-serif; fill: #2b3138; text-anchor: middle }}
  .how {{ font-size: 12px; fill: #565e66 }}
</style>
<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">
<path d="M0 0L8 4L0 8z" fill="#565e66"/></marker>
<rect class="paper" width="{right}" height="{bottom}"/>
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
    pictures |= {MAP: draw_map().encode(), PLAN: draw_plan().encode()}
    text = re.sub(r"\n{3,}", "\n\n", from_root(text)).strip() + "\n"
    plan = re.compile(rf"!\[[^]]*\]\({re.escape(PLAN)}\)")
    text = plan.sub(lambda _: f"```mermaid\n{mermaid_plan()}\n```", text)
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
