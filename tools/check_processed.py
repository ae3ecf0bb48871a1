"""Find what makes Quarto load things from another host in notebooks that nbdev has processed.

Where Quarto meets an output of the type text/html, or a widget, it has the page load jQuery and
RequireJS. smalldocs, which builds the site where Quarto is missing, would show nothing of it.
"""

import re
import sys
from pathlib import Path

import nbformat
import yaml
from check_site import LOADED_BY_CODE

SHOWN = {"text/plain", "text/markdown", "text/latex"}  # and images: what needs no script
LOADS = re.compile(
    r"""\brequire(?:js)?\s*\(|\brequire(?:js)?\.config|MathJax\s*[.=[]|\bPlotly\.|\bvegaEmbed
    |\b(?:require|jquery|mathjax|plotly|vega)[\w.@/-]*\.js\b
    |<[a-z]+\b[^>]*\b(?:src|srcset|poster|data)\s*=\s*["']?(?:https?:)?//[^"'\s>]*
    |<(?:link|image|use)\b[^>]*\bhref\s*=\s*["']?(?:https?:)?//[^"'\s>]*
    |!\[[^\]]*\]\((?:https?:)?//[^)]*"""
    + f"|{LOADED_BY_CODE}",
    re.IGNORECASE | re.VERBOSE,
)


def prose(text):
    "Leave out code, in blocks and in backticks: it is shown, not run"
    text = re.sub(r"^(`{3,}) *(?!\{=html\})[^`\n]*\n.*?^\1`*\s*$", "", text, flags=re.M | re.S)
    return re.sub(r"(?<!`)`[^`\n]+`(?!`)", "", text)


def faults_of(notebook):
    "Say what would be loaded from elsewhere for a processed notebook"
    if notebook.metadata.get("widgets"):
        yield "the state of widgets"
    for cell in notebook.cells:
        texts = [cell.source] if cell.cell_type == "markdown" else []
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            yield from (
                f"an output of the type {kind}"
                for kind in data
                if kind not in SHOWN and not kind.startswith("image/")
            )
            texts.append("".join(data.get("text/markdown", "")))
        for text in texts:
            yield from (f"loads {found[0][:60]}" for found in LOADS.finditer(prose(text)))


def check_processed(
    folder,  # with the processed notebooks and _quarto.yml, as nbdev leaves them in _proc/
):
    "List what would be loaded from elsewhere, a line each"
    folder = Path(folder)
    paths = sorted(p for p in folder.rglob("*.ipynb") if "_docs" not in p.parts)
    faults = [] if paths else [f"{folder}: no notebooks"]
    for path in paths:
        found = faults_of(nbformat.read(path, as_version=4))
        faults += [f"{path.relative_to(folder)}: {fault}" for fault in dict.fromkeys(found)]
    config = yaml.safe_load((folder / "_quarto.yml").read_text(encoding="utf-8"))
    if config["format"]["html"].get("html-math-method") != "mathml":
        faults.append("_quarto.yml: formulas as anything but mathml load a script")
    return faults


if __name__ == "__main__":
    faults = [fault for folder in sys.argv[1:] for fault in check_processed(folder)]
    print("\n".join(faults))
    sys.exit(bool(faults))
