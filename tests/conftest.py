"What several test files need: the installed scripts, processes that obey permissions, trained models, a browser."

import os

os.environ["OMP_NUM_THREADS"] = (
    "1"  # before torch is imported: bit for bit is a promise for one number of threads
)

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
    "Runs an installed script to its end; `before` is what starts it"
    words = [*before, SCRIPTS / words[0], *words[1:]]
    return subprocess.run(words, **{"capture_output": True, "text": True, "timeout": 600, **kwargs})


@pytest.fixture(scope="session")
def script():
    return run_script


@pytest.fixture(scope="session")
def unprivileged():
    "How to start a process that obeys file permissions, which root does not"
    if os.geteuid():
        return []
    if not shutil.which("setpriv"):
        pytest.skip("root needs setpriv (util-linux) to be refused")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    "A run folder with a model of some 95 %, after a few seconds of training"
    folder = tmp_path_factory.mktemp("trained") / "run"
    run_script(
        "vit_mnist_train",
        "--out",
        folder,
        "--limit",
        "20000",
        "--epochs",
        "1",
        "--valid-size",
        "1000",
        check=True,
    )
    return folder


def chromium(playwright):
    "The path of a browser, the system's or Playwright's own"
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None) or (
        playwright.chromium.executable_path
        if Path(playwright.chromium.executable_path).exists()
        else None
    )


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
    "Opens pages; afterwards no script may have failed and no other host may have been asked for anything"
    contexts, faults = [], []

    def visit(address, **kwargs):
        context = browser.new_context(**{"viewport": {"width": 1000, "height": 1100}, **kwargs})
        context.set_default_timeout(120_000)
        contexts.append(context)

        def only_here(route):
            if route.request.url.startswith(("file:", "data:", "blob:", "http://127.0.0.1:")):
                return route.continue_()
            faults.append(f"asked for {route.request.url}")
            route.abort()

        context.route("**/*", only_here)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on(
            "console",
            lambda message: faults.append(message.text) if message.type == "error" else None,
        )
        page.faults = faults
        page.goto(address)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert not faults, faults
