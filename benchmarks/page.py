"""How fast the page to draw on is, in Chromium: `python benchmarks/page.py`.

Prints medians: a forward pass of vit.js; from a change of a stroke to the picture; from opening the
file to the first answer. Measure on a machine that does nothing else.
"""

import platform
import shutil
import sys
import tempfile
from argparse import ArgumentParser
from pathlib import Path
from statistics import median

from playwright.sync_api import sync_playwright

from vit_mnist.data import load_data
from vit_mnist.element import base64_text, bundle, live_weights
from vit_mnist.page import draw_page
from vit_mnist.weights import load_pretrained

FORWARD = """([weights, image, rounds]) => {
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const model = new modules["vit.js"].ViT(bytes(weights)), pixels = bytes(image), times = [];
  for (let i = 0; i < rounds; i++) {
    const start = performance.now();
    model.forward(pixels);
    times.push(performance.now() - start);
  }
  return times;
}"""
# the first answer to a drawing that the link holds
FIRST = """const watch = () => {
  const page = document.querySelector("vit-page");
  if (page?.shadowRoot && page.view.result) window.first = performance.now();
  else requestAnimationFrame(watch);
};
watch();"""
STROKE = """async (rounds) => {
  const page = document.querySelector("vit-page"), pad = page.shadowRoot.querySelector("vit-pad");
  const map = page.shadowRoot.querySelector("vit-attention").shadowRoot.querySelectorAll("canvas");
  const begun = [[0.3, 0.2], [0.4, 0.2], [0.5, 0.2], [0.6, 0.2], [0.65, 0.25]];
  const way = [...begun, [0.6, 0.4], [0.5, 0.6]];
  const times = [];
  for (let i = 0; i < rounds; i++) {
    const heard = new Promise((done) => pad.addEventListener("vit-drawing", done, { once: true }));
    const start = performance.now();
    pad.strokes = [way.slice(0, 2 + (i % 6))];
    await heard;
    for (const canvas of map) canvas.getContext("2d").getImageData(0, 0, 1, 1); // until it is drawn
    times.push(performance.now() - start);
  }
  return times;
}"""


def measure(browser, folder, rounds):
    "Return the times of forward passes, strokes and first answers, in milliseconds"
    model, image = load_pretrained("explain"), load_data().test.images[0]
    page = browser.new_page()
    page.add_script_tag(content=f"(() => {{ {bundle('vit.js')} window.modules = modules; }})()")
    texts = [base64_text(each) for each in (live_weights(model), image.numpy().tobytes())]
    forward = page.evaluate(FORWARD, [*texts, rounds])
    address = draw_page(model, Path(folder) / "page.html").as_uri()
    page = browser.new_page(viewport={"width": 1366, "height": 768})
    page.goto(address)
    strokes = page.evaluate(STROKE, rounds)
    page.locator("[data-example='5']").click()
    page.locator("[data-control=link]").click()
    page.wait_for_function("location.hash")
    link, first = page.evaluate("location.href"), []
    for _ in range(max(3, rounds // 10)):
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        page.add_init_script(FIRST)
        page.goto(link)
        page.wait_for_function("window.first")
        first.append(page.evaluate("window.first"))
        page.close()
    return {"forward pass": forward, "stroke to picture": strokes, "first answer": first}


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=100)
    rounds = parser.parse_args().rounds
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        path = shutil.which("chromium") or playwright.chromium.executable_path
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu"]
        )
        print(f"Chromium {browser.version}, {platform.machine()}, Python {sys.version.split()[0]}")
        for name, times in measure(browser, folder, rounds).items():
            late = sorted(times)[int(0.95 * len(times))]
            print(f"{name}: median {median(times):.1f} ms, 95 % below {late:.1f} ms")
        browser.close()
