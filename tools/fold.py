"""Fold exported source, tests and hidden cells in JupyterLab, so that lessons are what one sees.

`vit_mnist.site` says which cells these are; on the site they are folded by the same rule.
"""

import sys
from pathlib import Path

import nbformat

from vit_mnist.site import cell_kinds, is_folded

NBS = Path(__file__).parent.parent / "nbs"


def fold(
    notebook,  # as read from JSON; changed in place
):
    "Mark the cells that JupyterLab folds, and no others"
    for cell, kind in zip(notebook["cells"], cell_kinds(notebook["cells"])):
        own = cell["metadata"].get("jupyter", {})  # what else is noted there is not ours
        own.pop("source_hidden", None)
        if is_folded(cell, kind):
            own["source_hidden"] = True
        cell["metadata"] |= {"jupyter": own}
        if not own:
            del cell["metadata"]["jupyter"]
    return notebook


def fold_saved(model, **kwargs):
    "Fold a notebook of the project as JupyterLab saves it; one without folds is left alone"
    if model["type"] == "notebook":
        cells = model["content"]["cells"]
        if any(cell["metadata"].get("jupyter", {}).get("source_hidden") for cell in cells):
            fold(model["content"])


if __name__ == "__main__":
    every = sorted(p for p in NBS.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
    for path in map(Path, sys.argv[1:] or every):
        before = path.read_text(encoding="utf-8")
        after = nbformat.writes(fold(nbformat.reads(before, as_version=4))) + "\n"  # as nbdev_clean
        if after != before:
            path.write_text(after, encoding="utf-8")
