"The built site: nothing broken, every public name in the reference, pages alive in a real browser in light and dark, narrow and wide."

import dataclasses
import importlib
import inspect
import os
import re
import subprocess
import sys
import threading
from functools import partial
from html import unescape
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from fastcore.docments import docments
from test_browser import click_patch, element, pictures, text


ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))
from check_site import Page, check  # noqa: E402


@pytest.fixture(scope="module")
def site():
    "The folder that VIT_MNIST_SITE names, for example Quarto's; else the site is built now"
    if folder := os.environ.get("VIT_MNIST_SITE"):
        return Path(folder).resolve()
    built = subprocess.run(
        [sys.executable, ROOT / "tools" / "docs.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return ROOT / "_docs"


@pytest.fixture(scope="module")
def address(site):
    "Where the site is served: scripts that are modules, as Quarto's, load from no file"

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_nothing_is_broken_and_nothing_comes_from_another_host(site):
    assert check(site) == []


def test_every_notebook_has_its_page(site):
    notebooks = [
        path.relative_to(ROOT / "nbs")
        for path in (ROOT / "nbs").rglob("*.ipynb")
        if ".ipynb_checkpoints" not in path.parts
    ]
    pages = {
        path.with_name(re.sub(r"^\d+_", "", path.stem)).with_suffix(".html").as_posix()
        for path in notebooks
    }
    assert pages <= {path.relative_to(site).as_posix() for path in site.rglob("*.html")}


# ---- the reference


def plain(words):
    "Text as a reader sees it, without marks and spaces"
    return re.sub(r"[^\w]+", "", unescape(re.sub(r"<[^>]+>", "", words)))


MODULES = [
    path.stem
    for path in sorted((ROOT / "vit_mnist").glob("*.py"))
    if not path.stem.startswith("_") and path.stem != "all"
]


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_is_in_the_reference_with_its_docments(site, name):
    module = importlib.import_module(f"vit_mnist.{name}")
    page = (site / f"{name}.html").read_text(encoding="utf-8")
    anchors, words = {anchor.lower() for anchor in Page(page).anchors}, plain(page)
    for public in module.__all__:
        value = getattr(module, public)
        if not (inspect.isfunction(value) or inspect.isclass(value)):
            assert re.search(
                rf"^[^\n=]*\b{public}\b[^\n=]*=",
                unescape(re.sub(r"<[^>]+>", "", page)),
                re.MULTILINE,
            ), f"the page does not say what {public} is"
            continue
        assert public.lower() in anchors, f"no heading for {public}"
        told = (
            docments(value) if inspect.isfunction(value) or dataclasses.is_dataclass(value) else {}
        )
        missing = [key for key, comment in told.items() if comment and plain(comment) not in words]
        assert not missing, f"{public}: not told what {missing} are"


# ---- in a browser


PAGES = ["index.html", "maps.html", "tutorials/first_steps.html"]


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_pages_fit_and_are_readable(address, visit, tmp_path, name, scheme, width):
    page = visit(f"{address}/{name}", viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.screenshot(path=tmp_path / "page.png")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ink, paper = page.evaluate(
        "() => { const s = getComputedStyle(document.body); return [s.color, s.backgroundColor] }"
    )
    brightness = [sum(map(int, re.findall(r"\d+", colour)[:3])) / 3 for colour in (ink, paper)]
    assert abs(brightness[0] - brightness[1]) > 120 and (brightness[1] > 128) == (
        scheme == "light"
    ), (ink, paper)


def test_the_home_page_opens_with_a_live_explorer(address, visit):
    page = visit(f"{address}/index.html", viewport={"width": 1280, "height": 800})
    assert page.locator("canvas[data-control=query]").first.bounding_box()["y"] < 800, (
        "not on the first screen"
    )

    def changes(act, label, canvases=(0, 1)):
        before = pictures(page)
        act()
        after = pictures(page)
        assert label in text(page) and all(before[i] != after[i] for i in canvases)

    page.locator("vit-attention").first.scroll_into_view_if_needed()
    changes(lambda: click_patch(page, 2, 4), "patch (2, 4) looks")
    changes(
        lambda: (
            page.locator("canvas[data-control=query]").focus(),
            page.keyboard.press("ArrowLeft"),
        ),
        "patch (2, 3) looks",
    )
    changes(
        lambda: (page.locator("[data-control=layer]").focus(), page.keyboard.press("Home")),
        "Layer 0",
        [1],
    )
    changes(lambda: page.get_by_role("button", name="Image 1: 2").click(), "looks")


@pytest.mark.parametrize("name", ["explorer.html", "tutorials/first_steps.html"])
def test_explorers_elsewhere_are_alive_too(address, visit, name):
    page = visit(f"{address}/{name}")
    before = pictures(page)
    page.locator("vit-attention").first.scroll_into_view_if_needed()
    click_patch(page, 3, 3)
    assert "patch (3, 3) looks" in text(page) and element(page, "e => e.state.query") == [3, 3]
    assert pictures(page) != before
