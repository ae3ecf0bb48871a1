"""Notebooks in a real JupyterLab, as `make lab` starts it or plainly, with kernel and browser.

Two servers and one browser serve all tests here. Every request to another host is blocked.
"""

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest
import torch
from conftest import HANGS
from test_browser import click_patch, element, pictures, text

ROOT = Path(__file__).parent.parent


class Lab:
    "A page of JupyterLab with one notebook open"

    def __init__(self, page):
        self.page = page

    def run_all(self, widget):
        "Run the notebook to its end and wait for the element"
        self.wait_for_kernel()
        self.page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
        self.page.locator(f".jp-OutputArea-output {widget}").first.wait_for()
        self.wait_for_kernel()

    def save(self):
        "Save the notebook as a person does"
        self.page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
        self.page.wait_for_function("!window.jupyterapp.shell.currentWidget.context.model.dirty")

    def wait_for_kernel(self):
        self.page.wait_for_function(
            "window.jupyterapp.shell.currentWidget?.context?.sessionContext?.session?.kernel"
        )
        self.python("pass")

    def python(self, code):
        "What `code` prints in the notebook's kernel"
        self.page.wait_for_function(
            "window.jupyterapp?.shell.currentWidget?.context?.sessionContext?.session?.kernel"
        )
        said = self.page.evaluate(
            """async (code) => {
            const { sessionContext } = window.jupyterapp.shell.currentWidget.context;
            const { kernel } = sessionContext.session;
            const future = kernel.requestExecute({ code, store_history: false });
            let said = "";
            future.onIOPub = ({ header, content }) => {
                if (header.msg_type === "stream") said += content.text;
                if (header.msg_type === "error") said += content.traceback.join("");
            };
            await future.done;
            return said;
        }""",
            code,
        )
        assert "Traceback" not in said, said
        return said.strip()


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def lab_words():
    "Return the words that `make lab` starts JupyterLab with"
    own = {name: value for name, value in os.environ.items() if name[:4] not in ("MAKE", "VENV")}
    words = ["make", "-n", "lab", f"VENV={Path(sys.executable).parent.parent}"]
    said = subprocess.run(words, cwd=ROOT, env=own, capture_output=True, text=True, check=True)
    return shlex.split(next(line for line in said.stdout.splitlines() if "jupyter" in line))


def plain_words():
    "Return the words of a JupyterLab that was not told of this project"
    return [lab_words()[0], "lab", "--notebook-dir", "nbs"]


@contextmanager
def started(words, folder):
    "A JupyterLab on a copy of the notebooks; gives its address and its folder"
    copy = folder / "project" / "nbs"
    shutil.copytree(ROOT / "nbs", copy, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    shutil.copytree(ROOT / "tools", folder / "project" / "tools")
    (folder / "project" / "vit_mnist").mkdir()
    (folder / "project" / "settings.ini").touch()
    settings = {
        "JUPYTER_CONFIG_DIR": folder / ".config",
        "JUPYTER_DATA_DIR": folder / ".data",
        "JUPYTER_RUNTIME_DIR": folder / ".runtime",
        "JUPYTERLAB_SETTINGS_DIR": folder / ".settings",
        "JUPYTERLAB_WORKSPACES_DIR": folder / ".workspaces",
        "IN_TEST": "1",
        "OMP_NUM_THREADS": "1",
    }
    port = free_port()
    words = [
        *words,
        "--no-browser",
        "--allow-root",
        "--ip=127.0.0.1",
        f"--port={port}",
        "--IdentityProvider.token=",
        "--LabApp.expose_app_in_browser=True",
    ]
    log = open(folder / "log.txt", "w")
    env = {**os.environ, **{name: str(value) for name, value in settings.items()}}
    process = subprocess.Popen(words, env=env, cwd=copy.parent, stdout=log, stderr=log)
    address, stop = f"http://127.0.0.1:{port}", time.monotonic() + HANGS
    while True:
        try:
            urllib.request.urlopen(f"{address}/api", timeout=5)
            break
        except OSError:
            written = folder / "log.txt"
            assert process.poll() is None and time.monotonic() < stop, written.read_text()
            time.sleep(0.3)
    try:
        yield address, copy
    finally:
        process.terminate()
        process.wait(HANGS)
        log.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with started(lab_words(), tmp_path_factory.mktemp("lab")) as place:
        yield place


@pytest.fixture(scope="module")
def plain_server(tmp_path_factory):
    with started(plain_words(), tmp_path_factory.mktemp("plain")) as place:
        yield place


def opener(server, visit):
    "Opens a notebook in a JupyterLab, or what that opens by itself"

    def open_notebook(name=None, **kwargs):
        place = f"/lab/tree/{name}?reset" if name else "/?reset"  # none of what was open before
        page = visit(server[0] + place, **{"viewport": {"width": 1400, "height": 1300}, **kwargs})
        page.locator(".jp-Notebook").wait_for()
        return Lab(page)

    return open_notebook


@pytest.fixture
def lab(server, visit):
    return opener(server, visit)


@pytest.fixture
def plain_lab(plain_server, visit):
    return opener(plain_server, visit)


# ---- a notebook that is saved and opened again, in a JupyterLab that knows nothing of this project

PLAIN = [
    "from vit_mnist.all import *; from vit_mnist.core import progress_bar",
    "images = load_data().test.images[:2]; model = load_pretrained('explain')",
    "explorer = AttentionExplorer(model, images); explorer",
    "pad = DigitPad(model); pad",
    "from IPython.display import display; display(AttentionExplorer(model, images[1:]))",
    "list(progress_bar(range(3), delay=0))",
]


def write_notebook(path, sources):
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    kernel = {"name": "python3", "display_name": "Python 3"}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(notebook, path)


SHOWN = ".jp-NotebookPanel:not(.lm-mod-hidden) .jp-OutputArea-output"


def test_the_plain_jupyterlab_knows_nothing_of_this_project(plain_server):
    assert "--config" in lab_words() and not any("config" in word for word in plain_words())
    with urllib.request.urlopen(plain_server[0] + "/") as answer:
        assert "first_steps" not in answer.url  # it opens what any other opens


def test_a_saved_notebook_opened_without_its_kernel_shows_its_widgets(plain_lab, plain_server):
    write_notebook(plain_server[1] / "plain.ipynb", PLAIN)
    notebook = plain_lab("plain.ipynb")
    notebook.run_all("vit-pad canvas")
    assert notebook.python("print(explorer.query, pad.image)") == "cls None"
    notebook.save()
    text = (plain_server[1] / "plain.ipynb").read_text()
    assert "widget-view" not in text and "<vit-attention" in text and "image/png" in text
    assert "stderr" not in text

    # trusted, as the one who ran it sees it: without a kernel, explorers that answer
    notebook.page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    notebook.page.context.close()
    page = plain_lab("plain.ipynb").page
    third = page.locator(f"{SHOWN} vit-attention").nth(2)
    third.locator("canvas").first.wait_for()
    assert page.get_by_text("model not found").count() == 0
    assert not page.locator(f"{SHOWN} vit-pad").is_visible()  # paper that nobody reads
    before = pictures(page)
    click_patch(page, 2, 4)
    assert element(page, "e => e.state.query") == [2, 4] and pictures(page) != before

    # from someone else, not trusted: a picture that says what to do
    changed = nbformat.reads(text, 4)
    changed.cells[0].source += "  # changed"
    nbformat.write(changed, plain_server[1] / "plain.ipynb")
    page.context.close()
    page = plain_lab("plain.ipynb").page
    picture = page.locator(f"{SHOWN} img").first
    picture.wait_for()
    assert picture.bounding_box()["width"] > 200
    page.get_by_text("run this cell first").nth(2).wait_for()
    assert page.get_by_text("model not found").count() == 0


def test_a_page_that_is_loaded_again_meets_the_running_widget(plain_lab, plain_server):
    write_notebook(plain_server[1] / "again.ipynb", PLAIN[:3])
    notebook = plain_lab("again.ipynb")
    notebook.run_all("vit-attention canvas")
    notebook.save()
    notebook.page.reload()
    page = notebook.page
    page.wait_for_function("document.querySelector('vit-attention')?.state")
    notebook.wait_for_kernel()
    page.wait_for_function("vitWidgets.has(document.querySelector('vit-attention').dataset.widget)")
    click_patch(page, 1, 3)
    assert notebook.python("print(explorer.query)") == "(1, 3)"


# ---- the first hour


def test_a_student_finds_picture_explorer_and_pad_within_a_few_cells(lab):
    notebook = lab()  # what `make lab` opens
    page = notebook.page
    assert "/lab/tree/tutorials/first_steps.ipynb" in page.url
    page.locator(".jp-Notebook h1", has_text="First steps").wait_for()
    notebook.wait_for_kernel()
    cell = page.locator(".jp-Notebook .jp-Cell")

    def run(*numbers):
        cell.nth(numbers[0] - 1).click()
        for _ in numbers:
            page.keyboard.press("Shift+Enter")
        notebook.wait_for_kernel()

    def live(output):
        name = output.first.get_attribute("data-widget")
        page.wait_for_function("name => vitWidgets.has(name)", arg=name)

    run(1, 2)  # the title, and one cell: the first picture of one's own
    assert cell.nth(1).locator(".jp-OutputArea-output img").count() == 1
    run(3, 4)
    live(cell.nth(3).locator("vit-attention"))
    click_patch(page, 2, 4)
    assert "patch (2, 4) attends" in text(page)
    run(5, 6)
    live(cell.nth(5).locator("vit-pad"))
    paper = cell.nth(5).locator("[data-control=paper]")
    paper.scroll_into_view_if_needed()
    box = paper.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 0.1 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 0.9 * box["height"], steps=9)
    page.mouse.up()
    bars = cell.nth(5).locator("vit-attention .bar")
    bars.first.wait_for()
    assert bars.count() == 10


BARS = [
    "from vit_mnist.all import *; from vit_mnist.core import progress_bar",
    "few = Settings(epochs=3, limit=2000, valid_size=500, model_args={'depth': 1}, device='cpu')",
    "run = train(few)",
    "done = list(progress_bar(range(3)))",
]


def test_a_training_shows_one_bar_one_picture_and_nothing_pink(lab, server):
    write_notebook(server[1] / "tutorials" / "bars.ipynb", BARS)
    notebook = lab("tutorials/bars.ipynb")
    notebook.run_all("img")
    notebook.save()
    written = nbformat.read(server[1] / "tutorials" / "bars.ipynb", 4)
    outputs = written.cells[2].outputs
    assert not any(output.get("name") == "stderr" for output in outputs)
    said, bar, picture = outputs
    assert "writes ../../runs/vit-" in said.text and bar.data["text/plain"].startswith("100%")
    assert "image/png" in picture.data
    assert notebook.page.locator(".jp-OutputArea-output", has_text="%|").count() == 1
    folder, nbs = notebook.python("print(run.folder.resolve())"), server[1]
    assert Path(folder).parent == (nbs.parent / "runs").resolve() and not (nbs / "runs").exists()
    assert not (nbs / "tutorials" / "runs").exists()
    assert all(not output.data["text/plain"] for output in written.cells[3].outputs)


# ---- the explorer and the pad with their kernel


def test_the_explorer_in_jupyterlab(lab):
    notebook = lab("71_explorer.ipynb")
    page = notebook.page
    notebook.run_all("vit-attention")
    page.locator("vit-attention").first.scroll_into_view_if_needed()

    # the page moves, Python follows
    before = pictures(page)
    click_patch(page, 2, 4)
    assert "patch (2, 4) attends" in text(page) and pictures(page) != before
    assert notebook.python("print(explorer.query)") == "(2, 4)"
    shown = element(page, "e => [...e.map().values]")
    assert torch.allclose(
        torch.tensor(json.loads(notebook.python("print(explorer.map.flatten().tolist())"))),
        torch.tensor(shown),
        atol=2e-3,
    )

    # Python moves, the page follows
    before = pictures(page)
    notebook.python("explorer.query, explorer.layer = (5, 1), 1")
    page.wait_for_function("document.querySelector('vit-attention').state.layer === 1")
    assert (
        "Layer 1" in text(page)
        and "patch (5, 1) attends" in text(page)
        and pictures(page) != before
    )

    # heads off: what the bars say is what Python says
    before = element(page, "e => e.probs")
    page.get_by_role("button", name="Switch head 2 of layer 1 off").click()
    page.get_by_role("button", name="Switch head 2 of layer 1 on").wait_for()
    page.wait_for_function(
        """before => {
            const { probs } = document.querySelector('vit-attention');
            return JSON.stringify(probs ?? before) !== JSON.stringify(before);
        }""",
        arg=before,
    )
    true = json.loads(
        notebook.python(
            "shown = explorer.images[explorer.image:explorer.image + 1]\n"
            "ablated = AblatedHeads(explorer.model, [(1, 2)])\n"
            "print(capture_attention(ablated, shown).logits[0].softmax(0).tolist())"
        )
    )
    assert notebook.python("print(explorer.off)") == "[(1, 2)]"
    assert torch.allclose(
        torch.tensor(element(page, "e => e.probs")), torch.tensor(true), atol=1e-6
    )
    bars = page.locator(".bar").evaluate_all("bars => bars.map(bar => bar.lastChild.textContent)")
    assert [float(bar.split("\u00a0")[0]) for bar in bars] == pytest.approx(
        [100 * share for share in true], abs=0.51
    )


STROKES = {  # points between 0 and 1, as a hand would draw them
    0: [
        [
            (0.5, 0.12),
            (0.33, 0.2),
            (0.26, 0.42),
            (0.28, 0.68),
            (0.4, 0.86),
            (0.56, 0.88),
            (0.7, 0.72),
            (0.74, 0.45),
            (0.68, 0.22),
            (0.52, 0.12),
        ]
    ],
    1: [[(0.56, 0.1), (0.52, 0.4), (0.48, 0.9)]],
    2: [
        [
            (0.28, 0.3),
            (0.36, 0.16),
            (0.54, 0.12),
            (0.68, 0.24),
            (0.64, 0.42),
            (0.46, 0.62),
            (0.26, 0.84),
        ],
        [(0.26, 0.84), (0.5, 0.82), (0.76, 0.86)],
    ],
    3: [
        [(0.28, 0.18), (0.48, 0.1), (0.66, 0.2), (0.62, 0.38), (0.44, 0.46)],
        [(0.44, 0.46), (0.66, 0.54), (0.7, 0.74), (0.52, 0.9), (0.28, 0.82)],
    ],
    4: [
        [(0.32, 0.12), (0.28, 0.34), (0.27, 0.52), (0.5, 0.52), (0.76, 0.48)],
        [(0.68, 0.12), (0.64, 0.5), (0.6, 0.92)],
    ],
    5: [
        [
            (0.72, 0.12),
            (0.36, 0.14),
            (0.32, 0.44),
            (0.54, 0.42),
            (0.7, 0.56),
            (0.68, 0.78),
            (0.48, 0.9),
            (0.26, 0.82),
        ]
    ],
    6: [
        [
            (0.62, 0.1),
            (0.42, 0.3),
            (0.32, 0.58),
            (0.36, 0.8),
            (0.52, 0.9),
            (0.68, 0.78),
            (0.66, 0.6),
            (0.5, 0.54),
            (0.35, 0.66),
        ]
    ],
    7: [[(0.24, 0.16), (0.5, 0.16), (0.76, 0.14), (0.62, 0.44), (0.48, 0.92)]],
    8: [
        [
            (0.64, 0.2),
            (0.5, 0.1),
            (0.36, 0.2),
            (0.4, 0.38),
            (0.6, 0.56),
            (0.66, 0.76),
            (0.5, 0.9),
            (0.34, 0.76),
            (0.42, 0.56),
            (0.6, 0.38),
            (0.64, 0.2),
        ]
    ],
    9: [
        [(0.66, 0.3), (0.54, 0.14), (0.36, 0.2), (0.34, 0.4), (0.5, 0.48), (0.66, 0.32)],
        [(0.66, 0.3), (0.64, 0.6), (0.58, 0.92)],
    ],
}


def test_drawing_every_digit_on_the_pad_in_jupyterlab(lab):
    notebook = lab("72_pad.ipynb")
    page = notebook.page
    notebook.run_all("vit-pad")
    paper = page.locator("[data-control=paper]")
    paper.scroll_into_view_if_needed()
    box, said, kept = (
        paper.bounding_box(),
        [],
        int(notebook.python("print(len(pad.explorer.images))")),
    )
    for strokes in STROKES.values():
        for stroke in strokes:
            for i, (x, y) in enumerate(stroke):
                page.mouse.move(
                    box["x"] + x * box["width"], box["y"] + y * box["height"], steps=3 if i else 1
                )
                if not i:
                    page.mouse.down()
            page.mouse.up()
        page.wait_for_timeout(200)
        notebook.wait_for_kernel()  # a drawing that waited for the one before it is sent only now
        said.append(int(notebook.python("print(pad.explorer.probs.argmax().item())")))
        page.wait_for_function(
            """said => {
                const { probs } = document.querySelector('vit-attention');
                return probs?.indexOf(Math.max(...probs)) === said;
            }""",
            arg=said[-1],
        )
        if len(said) == 4:
            page.locator("[data-control=keep]").click()
        page.locator("[data-control=clear]").click()
    print("drawn 0 to 9, read as", *said)
    page.get_by_text("Nothing is drawn yet.").first.wait_for()
    assert not page.locator(".bar").first.is_visible()
    assert sum(digit == read for digit, read in enumerate(said)) >= 9
    assert notebook.python("print(pad.image, len(pad.explorer.images))") == f"None {kept + 1}"

    # by keyboard: a vertical line, then undone
    paper.focus()
    for key in (" ", *["ArrowDown"] * 9):
        page.keyboard.press(key)
    page.wait_for_timeout(200)
    notebook.wait_for_kernel()
    assert (
        notebook.python("print(pad.image.dtype, tuple(pad.image.shape))")
        == "torch.uint8 (1, 28, 28)"
    )
    page.locator("[data-control=undo]").click()
    page.wait_for_timeout(200)
    notebook.wait_for_kernel()
    assert notebook.python("print(pad.image)") == "None"
