"""Keep only the static form of widgets in saved notebooks.

Without a kernel JupyterLab would say "model not found" in place of a widget.
"""

import sys
from pathlib import Path

import nbformat

from vit_mnist.site import WIDGET_VIEW


def clean_views(
    notebook,  # as read from JSON; changed in place
):
    "Drop views and state of widgets, and outputs that hold nothing else"
    notebook["metadata"].pop("widgets", None)
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if data.pop(WIDGET_VIEW, None) is not None and set(data) <= {"text/plain"}:
                output["data"] = {}
        if "outputs" in cell:
            cell["outputs"] = [output for output in cell["outputs"] if output.get("data") != {}]
    return notebook


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        before = path.read_text(encoding="utf-8")
        after = nbformat.writes(clean_views(nbformat.reads(before, as_version=4)))
        if after != before:
            path.write_text(after, encoding="utf-8")
