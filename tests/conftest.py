"Fixtures of several test files: installed scripts, permissions, a trained model, a browser."

import json
import os

# before torch is imported: results are equal bit for bit only for one number of threads
os.environ["OMP_NUM_THREADS"] = "1"

import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from forked import REFUSED

try:
    import fcntl
except ImportError:  # on Windows, where tests run in one process
    fcntl = None

SHARED = "VIT_MNIST_TEST_SHARED"  # a folder for all processes of this session
LONGEST = [
    *("test_site", "test_lab", "test_zoo", "test_pages", "test_browser", "test_checkpoints"),
    *("test_predict", "test_tracking", "test_experiments", "test_live", "test_package"),
    *("test_own_models", "test_explanation", "test_export", "test_cli", "test_distribution"),
]
HANGS = 1800  # seconds after which a process counts as hanging, however slow the machine
PARENT = "VIT_MNIST_TEST_PARENT"  # the process number of pytest itself
FORKED = Path(__file__).with_name("forked.py")
SCRIPTS = Path(sys.executable).parent
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
HOW = "no Chromium found: apt-get install chromium, or playwright install chromium"


def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        # not in TMPDIR: the path of a socket has at most some hundred characters
        os.environ[SHARED] = tempfile.mkdtemp(
            prefix="vit-mnist-", dir="/tmp" if os.path.isdir("/tmp") else None
        )
        os.environ[PARENT] = str(os.getpid())


def pytest_unconfigure(config):
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ[SHARED], ignore_errors=True)


def pytest_collection_modifyitems(items):
    "Begin with the files that take longest, then the largest, so that two processes end together"
    sizes = {path: path.stat().st_size for path in {item.path for item in items}}

    def turn(item):
        return (LONGEST + [item.path.stem]).index(item.path.stem), -sizes[item.path]

    items.sort(key=turn)


@contextmanager
def shared(name):
    "Enter a folder that one process of the session at a time may fill"
    folder = Path(os.environ[SHARED], name)
    folder.mkdir(exist_ok=True)
    with open(f"{folder}.lock", "w") as lock:
        if fcntl:
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


def forked_words(*words, before=()):
    """Return words that run an installed script, or `python -c`, without importing torch again:
    as a child of a server that is started at the first call; `before` is what `unprivileged` is"""
    if not hasattr(os, "fork"):
        return real_words(*words, before=before)
    with shared("server") as folder:
        socket = folder / "socket"
        if not socket.exists():
            serve = [sys.executable, FORKED, "--serve", folder, os.environ[PARENT]]
            streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
            process = subprocess.Popen(serve, start_new_session=True, **streams)
            while not socket.exists():
                assert process.poll() is None, "the server of scripts does not start"
                time.sleep(0.05)
    refused = [REFUSED] if before else []
    return [sys.executable, "-IS", FORKED, socket, *refused, *map(str, words)]


def real_words(*words, before=()):
    "Return words that start an installed script, or `python -c`, as a process of its own"
    name = sys.executable if words[0] == "python" else SCRIPTS / words[0]
    return [*before, name, *map(str, words[1:])]


def run_words(words, **kwargs):
    "Run a process to its end and keep what it prints"
    return subprocess.run(
        words, **{"capture_output": True, "text": True, "timeout": HANGS, **kwargs}
    )


def run_script(*words, before=(), **kwargs):
    "Run an installed script, or `python -c`, in a fork of a process that has imported the package"
    return run_words(forked_words(*words, before=before), **kwargs)


# vit_mnist_train with fewer images in the final test: it says no less of how the command works
BRIEF = """
from dataclasses import replace
from vit_mnist import cli, training
load_data = training.load_data
def load_less(*args, **kwargs):
    data = load_data(*args, **kwargs)
    return replace(data, test=data.test.take(500))
training.load_data = load_less
"""


def run_brief(*options, **kwargs):
    "Run vit_mnist_train with 500 test images"
    return run_script("python", "-c", f"{BRIEF}cli.vit_mnist_train()", *options, **kwargs)


def start_script(*words, before=(), **kwargs):
    "Run an installed script, or `python -c`, as a person does: as a process of its own"
    return run_words(real_words(*words, before=before), **kwargs)


@pytest.fixture(scope="session")
def forked():
    return forked_words


@pytest.fixture(scope="session")
def script():
    return run_script


@pytest.fixture(scope="session")
def brief_train():
    return run_brief


@pytest.fixture(scope="session")
def real_script():
    return start_script


@pytest.fixture(scope="session")
def unprivileged():
    "Return words that start a process which obeys file permissions, as root does not"
    if not hasattr(os, "geteuid") or os.geteuid():
        return []
    if not shutil.which("setpriv"):
        pytest.skip("root needs setpriv (util-linux) to be refused")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


@pytest.fixture(scope="session")
def trained():
    "Return a run folder with a model of some 90 %, after a few seconds of training"
    with shared("trained") as folder:
        if not (folder / "run" / "metrics.json").exists():
            small = {"patch_size": 7, "depth": 2, "dim": 64, "heads": 4, "mlp_dim": 128}
            options = ["--limit", "20000", "--epochs", "1", "--valid-size", "1000"]
            options += ["--model-args", json.dumps(small | {"dim_head": 16})]
            run_script("vit_mnist_train", "--out", folder / "run", *options, check=True)
    return folder / "run"


def chromium(playwright):
    "Return the path of a browser, the system's or Playwright's own"
    names = ("chromium", "chromium-browser", "google-chrome")
    own = playwright.chromium.executable_path
    return next(filter(None, map(shutil.which, names)), own if Path(own).exists() else None)


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        path = chromium(playwright)
        if not path:
            if os.environ.get("CI") == "true" and sys.platform == "linux":
                pytest.fail(HOW)
            pytest.skip(HOW)
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser):
    "Open pages; fail afterwards if a script failed or another host was contacted"
    contexts, faults = [], []

    def visit(address, **kwargs):
        context = browser.new_context(**{"viewport": {"width": 1000, "height": 1100}, **kwargs})
        context.set_default_timeout(600_000)
        contexts.append(context)

        def note_error(message):
            if message.type == "error":
                faults.append(message.text)

        def only_here(route):
            if route.request.url.startswith(("file:", "data:", "blob:", "http://127.0.0.1:")):
                return route.continue_()
            faults.append(f"asked for {route.request.url}")
            route.abort()

        context.route("**/*", only_here)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", note_error)
        page.faults = faults
        page.goto(address)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert not faults, faults


def wake_zeros(model):
    "Layers that begin at zero would hide a gradient that is there"
    import torch  # for those tests alone

    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1)
    return model


@pytest.fixture(scope="session")
def rgb():
    "A model of timm for images of 48 x 64, a grid of 6 x 8 patches"
    import timm  # for two test files alone
    import torch

    torch.manual_seed(0)
    args = {"img_size": (48, 64), "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3}
    return timm.create_model("vit_tiny_patch16_224", num_classes=40, **args).eval()
