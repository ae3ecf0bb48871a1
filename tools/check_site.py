"""Find what is broken in a built site: links, anchors, scripts and images.

Anything that would be loaded from another host counts as broken.
"""

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
    "Collect a page's anchors, links and assets, and its images without a description"

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
        named_only = attrs.get("rel") in ("canonical", "next", "prev")
        for key in "src", "href":
            if (tag, key) in ASSETS and attrs.get(key) and not named_only:
                self.assets.append(attrs[key])


def fault_of(address, path, page, site, pages):
    "Say what is wrong with an address on a page at `path`; nothing if all is well"
    parts = urlsplit(address)
    if parts.scheme in ("data", "mailto", "javascript"):
        return None
    if parts.scheme or parts.netloc:
        return f"loads {address} from another host" if address in page.assets else None
    folder = site if parts.path.startswith("/") else path.parent
    target = (folder / unquote(parts.path).lstrip("/")).resolve() if parts.path else path
    target = target / "index.html" if target.is_dir() else target
    if not target.is_relative_to(site) or not target.exists():
        return f"no such file: {address}"
    if parts.fragment and target in pages:
        if unquote(parts.fragment) not in pages[target].anchors:
            return f"no such anchor: {address}"
    return None


def check(
    site,  # folder of the built site
):
    "List the faults of a site, a line each; an empty list if there are none"
    site = Path(site).resolve()
    paths = sorted(site.rglob("*.html"))
    pages = {path.resolve(): Page(path.read_text(encoding="utf-8")) for path in paths}
    faults = [] if pages else [f"{site}: no pages"]
    for path, page in pages.items():
        name = path.relative_to(site)
        lost = sorted({link for link in page.links if link.endswith("#LNone")})
        faults += [f"{name}: source without a line: {link}" for link in lost]
        faults += [f"{name}: image without alternative text: {src}" for src in page.unnamed]
        for address in page.links + page.assets:
            if fault := fault_of(address, path, page, site, pages):
                faults.append(f"{name}: {fault}")
    return faults


if __name__ == "__main__":
    faults = [fault for folder in sys.argv[1:] for fault in check(folder)]
    print("\n".join(faults))
    sys.exit(bool(faults))
