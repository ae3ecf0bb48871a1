"""Measure which lines of the package the notebooks and the test files run together.

A notebook defines what it exports, so that its own tests never run the exported file. Here its
cells are compiled under the file's name and line numbers, where the same statements stand.

The share of lines goes into a badge, nbs/images/coverage.svg, and on GitHub into the job's summary.
"""

import ast
import os
import subprocess
import sys
import traceback

from coverage import Coverage
from mutate import ROOT, cells, exported_lines
from tqdm import tqdm

BADGE = ROOT / "nbs" / "images" / "coverage.svg"


def compiled(cell, module):
    "Compile a cell, an exported one as the lines of the module's file that it became"
    if not cell.exported:
        return compile(cell.source, "<cell>", "exec")
    lines = [line for line in cell.source.splitlines() if not line.startswith("#|")]
    tree = ast.parse("\n".join(lines).strip("\n"))
    first, _ = exported_lines(module.stem, cell)
    return compile(ast.increment_lineno(tree, first), str(module), "exec")


def run_notebook(path):
    "Run a notebook's cells and save which lines ran"
    module = ROOT / "vit_mnist" / f"{path.stem[3:]}.py"
    # by folder: in a notebook the code is that of the module `__main__`
    coverage = Coverage(data_suffix=True, source=[str(module.parent)])
    coverage.start()
    os.chdir(path.parent)
    namespace = {"__name__": "__main__"}
    for cell in cells(path):
        exec(compiled(cell, module), namespace)
    coverage.stop()
    coverage.save()


def succeeds(function, *args):
    "Run a function in a child that prints nothing but errors"
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        try:
            function(*args)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1] == 0


def badge(words):
    "Draw a badge that says how many lines run"
    left, right = 70, 14 + 7 * len(words)
    texts = f'<text x="8" y="14">coverage</text><text x="{left + 7}" y="14">{words}</text>'
    size = f'width="{left + right}" height="20"'
    return f"""<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">
<title>coverage: {words}</title>
<rect width="{left}" height="20" fill="#444d56"/>
<rect x="{left}" width="{right}" height="20" fill="#0a4fb5"/>
<g fill="#ffffff" font-family="system-ui, sans-serif" font-size="12">{texts}</g>
</svg>
"""


def publish(share):
    "Write the share of lines that run, in per cent, into the badge and the summary of GitHub's job"
    words = f"{share:.1f} %"
    BADGE.write_text(badge(words), encoding="utf-8")
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with open(summary, "a", encoding="utf-8") as file:
            file.write(f"Notebooks and tests together run **{words}** of the package's lines.\n")


if __name__ == "__main__":
    os.chdir(ROOT)
    os.environ.update(IN_TEST="1", OMP_NUM_THREADS="1", MPLBACKEND="agg")
    sys.path.insert(0, str(ROOT))
    Coverage().erase()
    notebooks = sorted((ROOT / "nbs").glob("**/[!.]*.ipynb"))
    bar = tqdm(notebooks, unit=" notebooks", disable=None)
    failed = [path.name for path in bar if not succeeds(run_notebook, path)]
    words = [sys.executable, "-m", "coverage", "run", "-m", "pytest", "tests", "-qm", "not slow"]
    status = subprocess.run(words).returncode
    total = Coverage()
    total.combine()
    share = total.report(show_missing=True, skip_covered=True)
    if failed or status:  # what stopped early says nothing of the whole
        sys.exit(" ".join(["these fail:", *failed]) if failed else status)
    publish(share)
