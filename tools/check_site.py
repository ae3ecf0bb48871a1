"""Find what is broken in a built site: links, anchors, scripts, images, addresses, headings.

Anything that would be loaded from another host counts as broken.
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

ASSETS = {
    ("script", "src"),
    ("img", "src"),
    ("link", "href"),
    ("source", "src"),
    ("iframe", "src"),
    ("video", "src"),
}


QUIET = {"a", "code", "pre", "script", "style", "title", "textarea"}  # an address may stand there


class Page(HTMLParser):
    "Collect a page's anchors, links and assets, and the faults that can be seen in its tags"

    def __init__(self, text):
        super().__init__()
        self.anchors, self.links, self.assets, self.faults = set(), [], [], []
        self.base, self.quiet, self.heading, self.in_main = "", 0, 0, False
        self.feed(text)

    def handle_endtag(self, tag):
        self.quiet -= tag in QUIET and self.quiet > 0
        self.in_main = self.in_main and tag != "main"

    def handle_data(self, words):
        if not self.quiet:
            addresses = re.findall(r"\bhttps?://\S+", words)
            self.faults += [f"an address that is no link: {address}" for address in addresses]

    def see_heading(self, level, name):
        if self.in_main:
            if level > self.heading + 1:
                self.faults.append(f"heading jumps from h{self.heading} to h{level}: {name}")
            self.heading = level

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.quiet += tag in QUIET
        self.in_main = self.in_main or tag == "main"
        if re.fullmatch("h[1-6]", tag):
            self.see_heading(int(tag[1]), attrs.get("id") or attrs.get("data-anchor-id") or "")
        if tag == "base":
            self.base = attrs.get("href") or ""
        self.anchors |= {attrs[key] for key in ("id", "name") if attrs.get(key)}
        if tag == "a" and attrs.get("href"):
            self.links.append(attrs["href"])
        if tag == "img" and not (attrs.get("alt") or "").strip():
            src = (attrs.get("src") or "")[:60]
            self.faults.append(f"image without alternative text: {src}")
        named_only = attrs.get("rel") in ("canonical", "next", "prev")
        for key in "src", "href":
            if (tag, key) in ASSETS and attrs.get(key) and not named_only:
                self.assets.append(attrs[key])


def fault_of(address, path, page, site, pages, home):
    "Say what is wrong with an address on a page at `path`; nothing if all is well"
    parts = urlsplit(address)
    if parts.scheme in ("data", "mailto", "javascript"):
        return None
    if parts.fragment == "LNone":
        return f"no line of the source: {address}"
    if parts.scheme or parts.netloc:
        return f"loads {address} from another host" if address in page.assets else None
    where = urljoin(page.base, parts.path)
    folder = site if where.startswith("/") else path.parent
    where = where.removeprefix(home) if where.startswith("/") else where
    target = (folder / unquote(where).lstrip("/")).resolve() if where else path
    target = target / "index.html" if target.is_dir() else target
    if not target.is_relative_to(site) or not target.exists():
        return f"no such file: {address}"
    if parts.fragment and target in pages:
        if unquote(parts.fragment) not in pages[target].anchors:
            return f"no such anchor: {address}"
    return None


def check(
    site,  # folder of the built site
    home="/",  # where the site begins on its host, for example `/vit-mnist/`
):
    "List the faults of a site, a line each; an empty list if there are none"
    site = Path(site).resolve()
    paths = sorted(site.rglob("*.html"))
    pages = {path.resolve(): Page(path.read_text(encoding="utf-8")) for path in paths}
    faults = [] if pages else [f"{site}: no pages"]
    for path, page in pages.items():
        name = path.relative_to(site)
        faults += [f"{name}: {fault}" for fault in page.faults]
        for address in page.links + page.assets:
            if fault := fault_of(address, path, page, site, pages, home):
                faults.append(f"{name}: {fault}")
    return faults


if __name__ == "__main__":
    faults = [fault for folder in sys.argv[1:] for fault in check(folder)]
    print("\n".join(faults))
    sys.exit(bool(faults))
