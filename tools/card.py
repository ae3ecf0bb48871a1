"Makes nbs/images/card.png, which a link to the site shows elsewhere: the explorer in a browser."

import io
import shutil
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from vit_mnist.all import AttentionExplorer, load_data, load_pretrained

CARD = Path(__file__).parent.parent / "nbs" / "images" / "card.png"
SIZE = {"width": 1200, "height": 630}  # in pixels, as Open Graph recommends


def take_picture(path):
    "Return the first screen of a page as PNG"
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium") or own, args=["--no-sandbox"]
        )
        page = browser.new_page(viewport=SIZE)
        page.goto(path.as_uri())
        page.locator("canvas").first.wait_for()
        return page.screenshot()


if __name__ == "__main__":
    images, labels = load_data().test[:4]
    explorer = AttentionExplorer(load_pretrained("explain"), images, labels)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "page.html")
        explorer.save(page)
        picture = Image.open(io.BytesIO(take_picture(page)))
    picture.convert("RGB").quantize(256).save(CARD, optimize=True)
    print(CARD)
