"Fixtures of several test files: installed scripts, permissions, a trained model, a browser."

import os

# before torch is imported: results are equal bit for bit only for one number of threads
os.environ["OMP_NUM_THREADS"] = "1"

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

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


def run_script(*words, before=(), **kwargs):
    "Run an installed script to its end; `before` are words put before it"
    words = [*before, SCRIPTS / words[0], *words[1:]]
    return subprocess.run(words, **{"capture_output": True, "text": True, "timeout": 600, **kwargs})


@pytest.fixture(scope="session")
def script():
    return run_script


@pytest.fixture(scope="session")
def unprivileged():
    "Return words that start a process which obeys file permissions, as root does not"
    if os.geteuid():
        return []
    if not shutil.which("setpriv"):
        pytest.skip("root needs setpriv (util-linux) to be refused")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    "Return a run folder with a model of some 95 %, after a few seconds of training"
    folder = tmp_path_factory.mktemp("trained") / "run"
    options = ["--limit", "20000", "--epochs", "1", "--valid-size", "1000"]
    run_script("vit_mnist_train", "--out", folder, *options, check=True)
    return folder


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
        context.set_default_timeout(120_000)
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
