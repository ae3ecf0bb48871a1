"""Change one thing at a time in the code of a notebook and see whether a test notices.

    python tools/mutate.py loop optimizers --sample 40

A mutant is a comparison turned round, a constant changed, a keyword left out, a statement
dropped ... Each is tried first in its own notebook: the cells before it run once, then a forked
child runs the changed cell and those after it. What survives is tried on the module's test files.
Mutants that survive these too are listed with their line, those in equivalent.txt aside.
"""

import argparse
import ast
import copy
import json
import linecache
import multiprocessing
import os
import random
import re
import signal
import sys
import tempfile
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
MODULES = {  # module: the files that test it, beside its own notebook and tests/test_MODULE.py
    "data": [],
    "augment": ["tests/test_settings_matter.py"],
    "optimizers": ["tests/test_settings_matter.py"],
    "callbacks": ["tests/test_settings_matter.py"],
    "loop": ["tests/test_settings_matter.py", "tests/test_distribution.py"],
    "checkpoints": ["tests/test_distribution.py"],
    "maps": ["tests/test_attention.py"],
    "relevance": ["tests/test_explanation.py"],
    "faithfulness": ["tests/test_explanation.py"],
    "evaluation": [],
    "tuning": [],
}
# keywords that decide how a picture looks and not what it shows
COSMETIC = set(
    "figsize fontsize size color cmap lw s alpha ls style marker ms width height_ratios "
    "width_ratios wspace hspace shrink pad ha va rotation labelsize zorder ncols loc dpi edgecolor "
    "linewidth linewidths gridspec_kw layout stacklevel unit unit_scale mininterval delay leave "
    "disable".split()
)
SWAPS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.And: ast.Or, ast.Or: ast.And, ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div,
    ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Pow: ast.Mult, ast.Mod: ast.Mult,
}  # fmt: skip
NOTEBOOK_SECONDS = 900  # a child that takes longer counts as noticed: an endless loop
SKIPPED = {"#|slow", "#|eval:false", "#|notest"}  # marks of cells that a test run leaves out


@dataclass(frozen=True)
class Mutant:
    cell: int  # which of the notebook's code cells
    what: str  # the change, and the line it is made in
    source: str  # the whole cell, changed


# ---- mutants


def swap(node):
    "Yield the other operator for a comparison, a sum, an `and` ..., and where it goes"
    if isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
        new = SWAPS[type(node.ops[0])]
        yield (
            f"{type(node.ops[0]).__name__} -> {new.__name__}",
            lambda n: n.ops.__setitem__(0, new()),
        )
    if isinstance(node, (ast.BinOp, ast.BoolOp, ast.AugAssign)) and type(node.op) in SWAPS:
        new = SWAPS[type(node.op)]
        yield f"{type(node.op).__name__} -> {new.__name__}", lambda n: setattr(n, "op", new())


def another(value):
    "Return another value of the same type"
    if type(value) is bool:
        return not value
    return value + 1 if type(value) is int else value * 2 or 1.0


def changes(node):
    "Yield (what is done, a function that does it to a copy) for one node of a syntax tree"
    yield from swap(node)
    if isinstance(node, (ast.If, ast.IfExp, ast.While)):
        turned = ast.UnaryOp(ast.Not(), node.test)
        yield "condition turned round", lambda n: setattr(n, "test", turned)
    if isinstance(node, ast.Constant) and type(node.value) in (bool, int, float):
        new = another(node.value)
        yield f"{node.value} -> {new}", lambda n: setattr(n, "value", new)
    if isinstance(node, ast.Return) and node.value is not None:
        yield "returns None", lambda n: setattr(n, "value", ast.Constant(None))
    if isinstance(node, ast.Call):
        for i, keyword in enumerate(node.keywords):
            if keyword.arg and keyword.arg not in COSMETIC:
                yield f"without {keyword.arg}=", lambda n, i=i: n.keywords.pop(i)
    if not isinstance(node, ast.Module):
        for name in ("body", "orelse", "finalbody"):
            statements = getattr(node, name, None)
            for i, statement in enumerate(statements if isinstance(statements, list) else []):
                if droppable(statement):
                    yield "dropped", lambda n, name=name, i=i: drop(getattr(n, name), i)


def drop(statements, i):
    statements[i] = ast.Pass()


def droppable(statement):
    "Can the statement be left out so that the code is still code?"
    if isinstance(statement, ast.Assign):
        return not isinstance(statement.targets[0], (ast.Name, ast.Tuple))
    call = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)
    return call or isinstance(statement, ast.AugAssign)


def parts(node):
    "Yield (field, place in its list or None, node) of what may be changed below a node"
    if isinstance(node, (ast.Raise, ast.JoinedStr)):  # messages
        return
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "format_spec"):
            continue
        for i, item in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(item, ast.keyword) and item.arg in COSMETIC:
                continue
            if isinstance(item, ast.AST):
                yield name, i, item


def walk(node, path=()):
    "Yield (path, node) of all that may be changed"
    yield path, node
    for name, i, item in parts(node):
        yield from walk(item, (*path, (name, i)))


def at(tree, path):
    for name, i in path:
        tree = getattr(tree, name) if i is None else getattr(tree, name)[i]
    return tree


def mutants(cell, source):
    "List the mutants of a cell"
    tree, lines, listed = ast.parse(source), source.splitlines(), []
    for path, node in walk(tree):
        for what, change in changes(node):
            new = copy.deepcopy(tree)
            change(at(new, path))
            line = differing(tree, new, lines) if what == "dropped" else lines[node.lineno - 1]
            changed = ast.unparse(ast.fix_missing_locations(new))
            listed.append(Mutant(cell, f"{what}: {line.strip()}", changed))
    return listed


def differing(tree, new, lines):
    "Return the line of the statement that was dropped"
    for old, other in zip(ast.walk(tree), ast.walk(new)):
        if isinstance(other, ast.Pass) and not isinstance(old, ast.Pass):
            return lines[old.lineno - 1]


# ---- the notebook


@dataclass(frozen=True)
class Cell:
    id: str
    source: str
    exported: bool


def cells(notebook):
    "List the code cells that a test run executes"
    listed = []
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        marks = {line.replace(" ", "") for line in source.splitlines() if line.startswith("#|")}
        skipped = SKIPPED & marks or "nbdev_export()" in source or not source.strip()
        if cell["cell_type"] == "code" and not skipped:
            exported = any(re.match(r"#\|exports?i?$", mark) for mark in marks)
            listed.append(Cell(cell["id"], source, exported))
    return listed


def exported_lines(module, cell):
    "Return the first and the last line, from 0, of what became of an exported cell"
    lines = (ROOT / "vit_mnist" / f"{module}.py").read_text(encoding="utf-8").splitlines()
    marks = [i for i, line in enumerate(lines) if line.startswith("# %% ")]
    (first,) = (i + 1 for i in marks if lines[i].endswith(f" #{cell.id}"))
    return first, min((i for i in marks if i > first), default=len(lines))


def execute(source, namespace):
    "Run a cell; its lines are kept where `inspect` looks for them"
    name = f"<cell {len(linecache.cache)}>"
    linecache.cache[name] = len(source), None, source.splitlines(keepends=True), name
    exec(compile(source, name, "exec"), namespace)


def quiet():
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)


def survives(function, seconds):
    "Run a function in a child: True if it raised nothing, None if it did not end in time"
    pid = os.fork()
    if pid == 0:
        try:
            quiet()
            os.setpgrp()
            function()
        except BaseException:
            os._exit(1)
        os._exit(0)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return status == 0
        time.sleep(0.02)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def survive(jobs, seconds, bar):
    "Run functions in children, one after the other; list what becomes of each"
    results = []
    for job in jobs:
        before = contents(tempfile.gettempdir())
        results.append(survives(job, seconds))
        put_back(tempfile.gettempdir(), before)
        bar.update()
    return results


def content(path):
    "Return what is at a path: a link's target, a file's bytes, None for a folder, else ..."
    if path.is_symlink():
        return os.readlink(path)
    return None if path.is_dir() else path.read_bytes() if path.is_file() else ...


def contents(folder):
    "Read what is in a folder, by path"
    return {path: content(path) for path in sorted(Path(folder).rglob("*"))}


def put_back(folder, before):
    "Make a folder what it was; files keep their place on the disk, since some may be open"
    for path, now in sorted(contents(folder).items(), reverse=True):
        if path not in before or type(now) is not type(before[path]):
            path.rmdir() if now is None else path.unlink()
    for path, was in before.items():
        there = path.is_symlink() or path.exists()
        if was is None:
            path.mkdir(exist_ok=True)
        elif isinstance(was, str) and not there:
            path.symlink_to(was)
        elif isinstance(was, bytes) and (not there or content(path) != was):
            path.write_bytes(was)


def try_notebook(path, chosen, bar):
    "Return what becomes of each mutant in its notebook, by its number"
    os.chdir(path.parent)
    namespace, whole, results = {"__name__": "__main__"}, cells(path), {}
    for k, cell in enumerate(whole):
        here = [i for i, mutant in enumerate(chosen) if mutant.cell == k]

        def run_changed(i, k=k):
            execute(chosen[i].source, namespace)
            for later in whole[k + 1 :]:
                execute(later.source, namespace)

        jobs = [lambda i=i: run_changed(i) for i in here]
        results |= dict(zip(here, survive(jobs, NOTEBOOK_SECONDS, bar)))
        execute(cell.source, namespace)
    return results


def in_its_own_process(function, *args):
    """Call a function that returns JSON in a child that has a folder for temporary files.

    This process must not import the package, nor see what a notebook leaves behind.
    """
    with tempfile.TemporaryDirectory() as folder, tempfile.NamedTemporaryFile("w+") as file:
        pid = os.fork()
        if pid == 0:
            try:
                tempfile.tempdir = os.environ["TMPDIR"] = folder
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                Path(file.name).write_text(json.dumps(function(*args)))
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        if os.waitpid(pid, 0)[1]:
            raise SystemExit("without a change it fails, too")
        return json.loads(Path(file.name).read_text())


# ---- the test files


def changed_package(folder, module, cell, mutant):
    "Make a package that is ours but for one cell, and have all processes import that one"
    package = Path(folder) / "vit_mnist"
    package.mkdir()
    for path in (ROOT / "vit_mnist").iterdir():
        if path.name not in ("__pycache__", f"{module}.py"):
            (package / path.name).symlink_to(path)
    lines = (ROOT / "vit_mnist" / f"{module}.py").read_text(encoding="utf-8").splitlines()
    if mutant:
        first, last = exported_lines(module, cell)
        lines[first:last] = [mutant.source]
    (package / f"{module}.py").write_text("\n".join([*lines, ""]), encoding="utf-8")
    sys.path.insert(0, str(folder))
    os.environ["PYTHONPATH"] = str(folder)


def try_tests(module, tests, cell=None, mutant=None):
    "Raise where a test fails with a mutant, or with the module as it is"
    import pytest

    os.chdir(ROOT)
    with tempfile.TemporaryDirectory() as folder:
        changed_package(folder, module, cell, mutant)
        words = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow", f"--basetemp={folder}/t"]
        if pytest.main([*words, *tests]):
            raise AssertionError


def try_all_tests(module, tests, survivors, bar):
    "List what becomes of each mutant (cell, mutant) in the test files"
    start = time.monotonic()
    if not survives(lambda: try_tests(module, tests), 3600):
        raise AssertionError(f"{' '.join(tests)} fail without a change")
    seconds = 60 + 10 * (time.monotonic() - start)
    jobs = [lambda pair=pair: try_tests(module, tests, *pair) for pair in survivors]
    return survive(jobs, seconds, bar)


# ---- both


def equivalent():
    "Read which mutants do what the module does: lines `module: change: line of code`"
    lines = Path(__file__).with_name("equivalent.txt").read_text(encoding="utf-8").splitlines()
    return {line for line in lines if line and not line.startswith("#")}


def mutate(module, sample, seed):
    "Return what becomes of a module's mutants"
    start = time.monotonic()
    (path,) = (ROOT / "nbs").glob(f"[0-9][0-9]_{module}.ipynb")
    whole, known = cells(path), equivalent()
    listed = [m for k, cell in enumerate(whole) if cell.exported for m in mutants(k, cell.source)]
    mine = [mutant for mutant in listed if f"{module}: {mutant.what}" not in known]
    drawn = random.Random(seed).sample(mine, min(sample or len(mine), len(mine)))
    with tqdm(total=len(drawn), desc=module, leave=False, disable=None) as bar:
        results = in_its_own_process(try_notebook, path, drawn, bar)
    results = [results[str(i)] for i in range(len(drawn))]
    tests = {*MODULES.get(module, []), f"tests/test_{module}.py", "tests/test_deprecated.py"}
    tests = sorted(test for test in tests if (ROOT / test).exists())
    left = [i for i, survived in enumerate(results) if survived]
    if tests and left:
        pairs = [(whole[drawn[i].cell], drawn[i]) for i in left]
        with tqdm(total=len(left), desc=f"{module}, tests", leave=False, disable=None) as bar:
            again = in_its_own_process(try_all_tests, module, tests, pairs, bar)
        for i, survived in zip(left, again):
            results[i] = survived
    return {
        "module": module,
        "mutants": len(listed),
        "equivalent": len(listed) - len(mine),
        "tried": len(drawn),
        "killed": results.count(False),
        "endless": results.count(None),
        "survivors": [mutant.what for mutant, left in zip(drawn, results) if left],
        "seconds": round(time.monotonic() - start),
    }


def told(result):
    "Return a module's result as lines for people"
    share = 100 * (result["killed"] + result["endless"]) / max(1, result["tried"])
    first = (
        "{module}: {share:.0f} % of {tried} noticed ({endless} ran without an end), "
        "{mutants} mutants, {seconds} s"
    )
    lines = [first.format(**result, share=share)]
    return "\n".join([*lines, *(f"    survived  {what}" for what in result["survivors"])])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("modules", nargs="*", default=list(MODULES), help="default: all of MODULES")
    parser.add_argument("--sample", type=int, default=0, help="mutants a module, drawn; 0: all")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--workers", type=int, default=2, help="modules at a time")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    options = parser.parse_args()
    os.environ.update(IN_TEST="1", OMP_NUM_THREADS="1", WANDB_MODE="disabled", MPLBACKEND="agg")
    import accelerate  # noqa: F401  imported once, for all children
    import matplotlib.pyplot  # noqa: F401
    import torch

    torch.set_num_threads(1)
    sys.path.insert(0, str(ROOT))
    results = []
    fork_context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(options.workers, fork_context) as pool:
        ask = partial(mutate, sample=options.sample, seed=options.seed)
        for result in pool.map(ask, options.modules):
            results.append(result)
            print(told(result), flush=True)
            if options.out:
                options.out.write_text(json.dumps(results, indent=1) + "\n")
    tried = sum(result["tried"] for result in results)
    noticed = tried - sum(len(result["survivors"]) for result in results)
    print(f"{noticed} of {tried} noticed: {100 * noticed / max(1, tried):.1f} %")
