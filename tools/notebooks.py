"""Run notebooks again in place; run `nbdev_export` before, because they import the modules.

Cells marked `#| slow` are skipped and keep their outputs, unless `--slow` is given.
Exported source and tests are folded (tools/fold.py).
"""

import argparse
import logging
import os
import re
from pathlib import Path

import nbformat
from fold import fold
from nbclient import NotebookClient

NBS = Path(__file__).parent.parent / "nbs"


class KeepSlow(NotebookClient):
    "Execute notebooks, but leave cells with some directives as they are"

    skipped = {"#|eval:false", "#|slow"}

    async def async_execute_cell(self, cell, cell_index, **kwargs):
        lines = cell.source.splitlines()
        if self.skipped & {line.replace(" ", "") for line in lines if line.startswith("#|")}:
            return cell
        return await super().async_execute_cell(cell, cell_index, **kwargs)


def drop_chance(notebook):
    "Drop what differs from run to run: names of widgets, which are random, and bars that are over"
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "text/html" in data:
                data["text/html"] = re.sub(r' data-widget="\w+"', "", data["text/html"])
        if "outputs" in cell:
            cell.outputs = [o for o in cell.outputs if o.get("data") != {"text/plain": ""}]


def run(path: Path):
    "Execute a notebook and store its outputs"
    notebook = nbformat.read(path, as_version=4)
    place = {"metadata": {"path": path.parent}}
    options = {"timeout": 3600, "coalesce_streams": True, "store_widget_state": False}
    KeepSlow(notebook, resources=place, **options).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for counted in (cell, *cell.get("outputs", [])):  # counts would differ from run to run
            if "execution_count" in counted:
                counted.execution_count = None
    drop_chance(notebook)
    text = nbformat.writes(fold(notebook))
    if path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    os.environ["IN_TEST"] = "1"  # nbdev's own mark: the last cell of a notebook does not export
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all of them")
    parser.add_argument("--slow", action="store_true", help="run slow cells, too")
    options = parser.parse_args()
    if options.slow:
        KeepSlow.skipped = KeepSlow.skipped - {"#|slow"}
    every = sorted(p for p in NBS.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
    for path in options.notebooks or every:
        print(path.resolve().relative_to(NBS.parent), flush=True)
        run(path.resolve())
