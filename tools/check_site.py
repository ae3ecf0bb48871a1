"""Find what is broken in a built site: links, anchors, scripts, images, addresses, headings.

Anything that would be loaded from another host counts as broken.
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

ASSETS = ("src", "srcset", "poster", "data")  # attributes, of any tag
HREF_LOADS = {"link", "image", "use"}  # tags whose `href` is loaded and not followed
# what a stylesheet or a script loads from another host
LOADED_BY_CODE = (
    r"""(?:url\(|@import)\s*["']?(?:https?:)?//[^"'\s)]*"""
    r"""|\b(?:import\(?|from)\s*["'](?:https?:)?//[^"']*"""
)
ADDRESS = r"\b(?:https?://|www\.|(?:arxiv|doi)\.org/)\S+"
QUIET = {"a", "code", "pre", "script", "style", "title", "textarea"}  # an address may stand there
EMPTY = set("area base br col embed hr img input link meta source track wbr".split())


class Page(HTMLParser):
    "Collect a page's anchors, links and assets, and the faults that can be seen in its tags"

    def __init__(self, text):
        super().__init__()
        self.anchors, self.links, self.assets, self.faults = set(), [], [], []
        self.base, self.open, self.heading, self.in_main = "", [], 0, False
        self.feed(text)

    def handle_endtag(self, tag):
        if tag in self.open:  # what is open inside it ends, too
            while self.open.pop() != tag:
                pass
        self.in_main = self.in_main and tag != "main"

    def handle_data(self, words):
        if self.open[-1:] in (["script"], ["style"]):
            self.see_code(words)
        elif not QUIET & set(self.open):
            addresses = re.findall(ADDRESS, words)
            self.faults += [f"an address that is no link: {address}" for address in addresses]

    def see_code(self, text):
        for found in re.findall(LOADED_BY_CODE, text, re.IGNORECASE):
            self.faults.append(f"loads from another host: {found[:80]}")

    def see_heading(self, level, name):
        if self.in_main:
            if level > self.heading + 1:
                self.faults.append(f"heading jumps from h{self.heading} to h{level}: {name}")
            self.heading = level

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag not in EMPTY:
            self.open.append("named" if tag == "a" and not attrs.get("href") else tag)
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
        for key in (*ASSETS, "href") if tag in HREF_LOADS and not named_only else ASSETS:
            for part in (attrs.get(key) or "").split(",") if key == "srcset" else [attrs.get(key)]:
                self.assets += (part or "").split()[:1]
        self.see_code(attrs.get("style") or "")


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
    for path in sorted(site.rglob("*.css")):
        for found in re.findall(LOADED_BY_CODE, path.read_text(encoding="utf-8"), re.IGNORECASE):
            faults.append(f"{path.relative_to(site)}: loads from another host: {found[:80]}")
    return faults


if __name__ == "__main__":
    faults = [fault for folder in sys.argv[1:] for fault in check(folder)]
    print("\n".join(faults))
    sys.exit(bool(faults))
