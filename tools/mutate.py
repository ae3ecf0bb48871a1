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
import importlib.abc
import importlib.util
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
    "loop": ["tests/test_settings_matter.py"],
    "checkpoints": [],
    "maps": ["tests/test_attention.py"],
    "relevance": ["tests/test_explanation.py"],
    "faithfulness": ["tests/test_explanation.py"],
    "evaluation": ["tests/test_predict.py"],
    "tuning": ["tests/test_experiments.py"],
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
SECONDS = 180  # a child that takes longer counts as noticed: an endless loop
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


def cells(notebook):
    "List (source, is it exported?) of the code cells that a test run executes"
    sources = []
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        marks = {line.replace(" ", "") for line in source.splitlines() if line.startswith("#|")}
        skipped = SKIPPED & marks or "nbdev_export()" in source or not source.strip()
        if cell["cell_type"] == "code" and not skipped:
            sources.append((source, any(re.match(r"#\|exports?i?$", mark) for mark in marks)))
    return sources


def execute(source, namespace):
    "Run a cell; its lines are kept where `inspect` looks for them"
    name = f"<cell {len(linecache.cache)}>"
    linecache.cache[name] = len(source), None, source.splitlines(keepends=True), name
    exec(compile(source, name, "exec"), namespace)


def quiet():
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)


def fork(function):
    "Start a function in a child, which ends with 0 if nothing is raised; return its number"
    pid = os.fork()
    if pid:
        return pid
    try:
        quiet()
        os.setpgrp()
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(SECONDS)
        function()
    except BaseException:
        os._exit(1)
    os._exit(0)


def survive(jobs, bar):
    "Run functions in children, one after the other; list True for those that raised nothing"
    results = []
    for job in jobs:
        before = contents(tempfile.gettempdir())
        results.append(os.waitpid(fork(job), 0)[1] == 0)
        put_back(tempfile.gettempdir(), before)
        bar.update()
    return results


def contents(folder):
    "Read what is in a folder: bytes of files, None for folders, by path"
    paths = sorted(Path(folder).rglob("*"))
    return {path: path.read_bytes() if path.is_file() else None for path in paths}


def put_back(folder, before):
    "Make a folder what it was; files keep their place on the disk, since some may be open"
    for path in sorted(Path(folder).rglob("*"), reverse=True):
        if path not in before:
            path.rmdir() if path.is_dir() else path.unlink()
    for path, content in before.items():
        if content is None:
            path.mkdir(exist_ok=True)
        elif not path.exists() or path.read_bytes() != content:
            path.write_bytes(content)


def try_notebook(path, chosen, bar):
    "List the mutants that the notebook does not notice"
    os.chdir(path.parent)
    namespace, sources, survivors = {"__name__": "__main__"}, cells(path), []
    for k, (source, _) in enumerate(sources):
        here = [mutant for mutant in chosen if mutant.cell == k]

        def run_changed(mutant, k=k):
            execute(mutant.source, namespace)
            for later, _ in sources[k + 1 :]:
                execute(later, namespace)

        results = survive([lambda m=m: run_changed(m) for m in here], bar)
        survivors += [mutant for mutant, survived in zip(here, results) if survived]
        execute(source, namespace)
    return survivors


def in_its_own_process(function, *args):
    """Call a function that returns JSON in a child that has a folder for temporary files.

    This process must not import the package, nor see what a notebook leaves behind.
    """
    with tempfile.TemporaryDirectory() as folder, tempfile.NamedTemporaryFile("w+") as file:
        pid = os.fork()
        if pid == 0:
            try:
                tempfile.tempdir = os.environ["TMPDIR"] = folder
                Path(file.name).write_text(json.dumps(function(*args)))
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        if os.waitpid(pid, 0)[1]:
            raise SystemExit("the notebook fails without a change")
        return json.loads(Path(file.name).read_text())


# ---- the test files


class Mutated(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    "Give one module of the package another source"

    def __init__(self, name, source, path):
        self.name, self.source, self.path = name, source, path

    def find_spec(self, name, path=None, target=None):
        if name == self.name:
            return importlib.util.spec_from_file_location(name, self.path, loader=self)

    def exec_module(self, module):
        exec(compile(self.source, str(self.path), "exec"), module.__dict__)


def exported_source(cell):
    "Return a cell as it stands in the module: without marks, with relative imports"
    body = "\n".join(line for line in cell.splitlines() if not line.startswith("#|")).strip("\n")
    return re.sub(r"^from vit_mnist\.", "from .", body, flags=re.MULTILINE)


def in_module(module, cell, mutant):
    "Return the module's source with one cell changed"
    body = exported_source(cell)
    whole = (ROOT / "vit_mnist" / f"{module}.py").read_text(encoding="utf-8")
    assert whole.count(body) == 1, f"export the notebook of {module} first"
    return whole.replace(body, exported_source(mutant.source))


def try_tests(module, source, tests):
    "Raise where a test fails with that source of the module"
    import pytest

    path = ROOT / "vit_mnist" / f"{module}.py"
    sys.meta_path.insert(0, Mutated(f"vit_mnist.{module}", source, path))
    os.chdir(ROOT)
    with tempfile.TemporaryDirectory() as folder:
        words = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow", f"--basetemp={folder}/t"]
        if pytest.main([*words, *tests]):
            raise AssertionError


# ---- both


def equivalent():
    "Read which mutants do what the module does: lines `module: change: line of code`"
    lines = Path(__file__).with_name("equivalent.txt").read_text(encoding="utf-8").splitlines()
    return {line for line in lines if line and not line.startswith("#")}


def mutate(module, sample, seed):
    "Return what becomes of a module's mutants"
    start = time.monotonic()
    (path,) = (ROOT / "nbs").glob(f"[0-9][0-9]_{module}.ipynb")
    sources, known = cells(path), equivalent()
    exported = [(k, source) for k, (source, exported) in enumerate(sources) if exported]
    whole = [mutant for k, source in exported for mutant in mutants(k, source)]
    mine = [mutant for mutant in whole if f"{module}: {mutant.what}" not in known]
    drawn = random.Random(seed).sample(mine, min(sample or len(mine), len(mine)))
    with tqdm(total=len(drawn), desc=module, leave=False, disable=None) as bar:

        def unnoticed():
            return [drawn.index(mutant) for mutant in try_notebook(path, drawn, bar)]

        survivors = [drawn[i] for i in in_its_own_process(unnoticed)]
    tests = {*MODULES.get(module, []), f"tests/test_{module}.py"}
    tests = sorted(test for test in tests if (ROOT / test).exists())
    if tests:
        texts = [in_module(module, sources[mutant.cell][0], mutant) for mutant in survivors]
        with tqdm(total=len(texts), desc=f"{module}, tests", leave=False, disable=None) as bar:

            def unnoticed_by_tests():
                return survive([lambda t=text: try_tests(module, t, tests) for text in texts], bar)

            results = in_its_own_process(unnoticed_by_tests)
        survivors = [mutant for mutant, survived in zip(survivors, results) if survived]
    return {
        "module": module,
        "mutants": len(whole),
        "equivalent": len(whole) - len(mine),
        "tried": len(drawn),
        "killed": len(drawn) - len(survivors),
        "survivors": [mutant.what for mutant in survivors],
        "seconds": round(time.monotonic() - start),
    }


def told(result):
    "Return a module's result as lines for people"
    share = 100 * result["killed"] / max(1, result["tried"])
    first = "{module}: {killed} of {tried} killed ({share:.0f} %), {mutants} mutants, {seconds} s"
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
    tried, killed = (sum(result[key] for result in results) for key in ("tried", "killed"))
    print(f"{killed} of {tried} killed: {100 * killed / max(1, tried):.1f} %")
