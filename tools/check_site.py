"Finds what is broken in a built site: links, anchors, scripts, images, and anything that would be loaded from another host."

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ASSETS = {
    ("script", "src"),
    ("img", "src"),
    ("link", "href"),
    ("source", "src"),
    ("iframe", "src"),
    ("video", "src"),
}


class Page(HTMLParser):
    "Collects a page's anchors, links and assets as (tag, address)"

    def __init__(self, text):
        super().__init__()
        self.anchors, self.links, self.assets, self.unnamed = set(), [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors |= {attrs[key] for key in ("id", "name") if attrs.get(key)}
        if tag == "a" and attrs.get("href"):
            self.links.append(attrs["href"])
        if tag == "img" and not (attrs.get("alt") or "").strip():
            self.unnamed.append((attrs.get("src") or "")[:60])
        for key in "src", "href":
            if (
                (tag, key) in ASSETS
                and attrs.get(key)
                and attrs.get("rel") not in ("canonical", "next", "prev")
            ):
                self.assets.append(attrs[key])


def check(
    site,  # folder of the built site
):
    "The faults of a site, a line each; an empty list if there are none"
    site = Path(site).resolve()
    pages = {
        path.resolve(): Page(path.read_text(encoding="utf-8"))
        for path in sorted(site.rglob("*.html"))
    }
    faults = [] if pages else [f"{site}: no pages"]
    for path, page in pages.items():
        name = path.relative_to(site)
        faults += [f"{name}: image without alternative text: {src}" for src in page.unnamed]
        for address in page.links + page.assets:
            parts = urlsplit(address)
            if parts.scheme in ("data", "mailto", "javascript"):
                continue
            if parts.scheme or parts.netloc:
                if address in page.assets:
                    faults.append(f"{name}: loads {address} from another host")
                continue
            folder = site if parts.path.startswith("/") else path.parent
            target = (folder / unquote(parts.path).lstrip("/")).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_relative_to(site) or not target.exists():
                faults.append(f"{name}: no such file: {address}")
            elif (
                parts.fragment
                and target in pages
                and unquote(parts.fragment) not in pages[target].anchors
            ):
                faults.append(f"{name}: no such anchor: {address}")
    return faults


if __name__ == "__main__":
    faults = [fault for folder in sys.argv[1:] for fault in check(folder)]
    print("\n".join(faults))
    sys.exit(bool(faults))
