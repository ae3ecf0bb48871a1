"""Measure which lines of the package the notebooks and the test files run together.

A notebook defines what it exports, so that its own tests never run the exported file. Here its
cells are compiled under the file's name and line numbers, where the same statements stand.
"""

import ast
import os
import subprocess
import sys

from coverage import Coverage
from mutate import ROOT, cells, exported_source, fork
from tqdm import tqdm


def compiled(source, exported, module):
    "Compile a cell, an exported one as the lines of the module's file that it became"
    if not exported:
        return compile(source, "<cell>", "exec")
    whole, body = module.read_text(encoding="utf-8"), exported_source(source)
    line = whole[: whole.index(body)].count("\n")
    return compile(ast.increment_lineno(ast.parse(body), line), str(module), "exec")


def run_notebook(path):
    "Run a notebook's cells and save which lines ran"
    module = ROOT / "vit_mnist" / f"{path.stem[3:]}.py"
    coverage = Coverage(data_suffix=True)
    coverage.start()
    os.chdir(path.parent)
    namespace = {"__name__": "__main__", "__package__": "vit_mnist"}
    for source, exported in cells(path):
        exec(compiled(source, exported, module), namespace)
    coverage.stop()
    coverage.save()


if __name__ == "__main__":
    os.chdir(ROOT)
    os.environ.update(IN_TEST="1", OMP_NUM_THREADS="1", WANDB_MODE="disabled", MPLBACKEND="agg")
    sys.path.insert(0, str(ROOT))
    Coverage().erase()
    notebooks = sorted((ROOT / "nbs").glob("**/[!.]*.ipynb"))
    failed = []
    for path in tqdm(notebooks, unit=" notebooks", disable=None):
        if os.waitpid(fork(lambda path=path: run_notebook(path)), 0)[1]:
            failed.append(path.name)
    words = [sys.executable, "-m", "coverage", "run", "-m", "pytest", "tests", "-qm", "not slow"]
    status = subprocess.run(words).returncode
    total = Coverage()
    total.combine()
    total.report(show_missing=True, skip_covered=True)
    sys.exit(" ".join(["these fail:", *failed]) if failed else status)
