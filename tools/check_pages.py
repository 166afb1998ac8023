"""What is wrong with executed notebooks (.ipynb) and built sites (folders), one fault a line; stdlib only.

python tools/check_pages.py book/notebooks/*.ipynb book/_build/html
"""

import html.parser
import json
import re
import sys
import urllib.parse
from pathlib import Path

SOURCED = ('class="exhibit"', 'class="provenance"')  # what tells its source: from `exhibits`, and `stamps`


def notebook_faults(path: Path) -> list[str]:
    """What makes an executed notebook unfit for the book: errors, a cell that never ran, a figure without a source."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    faults = []
    if notebook["metadata"].get("papermill", {}).get("exception"):
        faults.append(f"{path.name}: its run failed")
    for place, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] != "code" or not "".join(cell["source"]).strip():
            continue
        if cell["execution_count"] is None:
            faults.append(f"{path.name}: cell {place} was never executed")
        faults += [
            f"{path.name}: cell {place} shows {output['ename']}: {output['evalue']}"
            for output in cell["outputs"]
            if output["output_type"] == "error"
        ]
        shown = [output.get("data", {}) for output in cell["outputs"] if output["output_type"] == "execute_result"]
        told = "".join("".join(output.get("data", {}).get("text/html", "")) for output in cell["outputs"])
        stamped = any(mark in told for mark in SOURCED)
        if any(data.keys() & {"text/html", "image/png"} for data in shown) and not stamped:
            faults.append(f"{path.name}: cell {place} does not say what made it: call stamp_outputs after the imports")
    return faults


class _Page(html.parser.HTMLParser):
    """The names that a page can be entered at, the links in it, and what a browser loads to show it; its own faults."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names, self.links, self.loads = set[str](), list[str](), list[str]()
        self.faults, self.ids = list[str](), set[str]()
        self.exhibit: str | None = None  # id of the one that is open and has no caption so far
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.names |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        loads = given.get("src", "")
        if tag == "link" and not {"canonical", "alternate", "author"} & set(given.get("rel", "").split()):
            loads = given.get("href", "")
        if loads and not loads.startswith("data:"):
            self.loads.append(loads)
        self._look(tag, given)

    def handle_endtag(self, tag: str) -> None:
        if tag == "figure" and self.exhibit is not None:
            self.faults.append(f"the exhibit {self.exhibit} has no caption")
            self.exhibit = None

    def _look(self, tag: str, given: dict[str, str]) -> None:
        if "id" in given:
            if given["id"] in self.ids:
                self.faults.append(f"two places are called {given['id']}: links reach only the first")
            self.ids.add(given["id"])
        if tag == "figure" and "exhibit" in given.get("class", "").split():
            self.exhibit = given.get("id", "")
        elif tag == "figcaption":
            self.exhibit = None
        elif tag == "img" and not given.get("alt", "").strip():
            self.faults.append(f"an image has no alt text: {given.get('src', '')[:60]}")


def page_faults(folder: Path) -> list[str]:
    """Broken links inside a built site, what a page would load from another host, and what it shows without words."""
    # the theme leaves templates of its own in _static
    paths = [path for path in sorted(folder.rglob("*.html")) if "_static" not in path.parts]
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in paths}
    faults = []
    for path, page in pages.items():
        name = path.relative_to(folder)
        faults += [f"{name}: {fault}" for fault in page.faults]
        for address in [*page.loads, *page.links]:
            parts = urllib.parse.urlsplit(address)
            if parts.scheme or parts.netloc:
                if address in page.loads:
                    faults.append(f"{name} loads {address} from another host")
                continue
            target = (path.parent / urllib.parse.unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                faults.append(f"{name}: {address} leads nowhere")
            elif target in pages and parts.fragment and urllib.parse.unquote(parts.fragment) not in pages[target].names:
                faults.append(f"{name}: {address} names no place on that page")
    for path in sorted(folder.rglob("*.css")):
        outside = re.findall(r"(?:url\(|@import)\s*[\"']?((?:https?:)?//[^\"')]+)", path.read_text(encoding="utf-8"))
        faults += [f"{path.relative_to(folder)} loads {address} from another host" for address in outside]
    return faults


if __name__ == "__main__":
    paths = [Path(word) for word in sys.argv[1:]]
    found = [fault for path in paths for fault in (page_faults(path) if path.is_dir() else notebook_faults(path))]
    sys.exit("\n".join(found) or 0)
