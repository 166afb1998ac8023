"""The pages of the book: built with warnings as errors, then checked."""

import html.parser
import json
import re
import shutil
import subprocess
import sys
import urllib.parse
from collections.abc import Sequence
from pathlib import Path

from neuron_consistency.errors import NeuronConsistencyError

STAMP = 'class="provenance"'  # of the line under a table or figure, from `stamps`
BUILT = ("notebooks", "_build")  # what a build writes into its site folder


def build_site(root: Path, site: Path) -> None:
    """Build the pages from book/ and the executed notebooks of `site`, check them, put them in site/_build/html.

    The pages of an earlier build stay until the new ones are whole and have passed.

    Raises:
        NeuronConsistencyError: a warning, a notebook with an error or never executed, a broken link, a request to
            another host; the message lists all of them.
    """
    copies = sorted((root / site / "notebooks").glob("*.ipynb"))
    if faults := [fault for copy in copies for fault in notebook_faults(copy)]:
        raise _faulty(faults)
    built = root / site / "_build"
    stage = built / "stage"
    shutil.rmtree(stage, ignore_errors=True)
    shutil.copytree(root / "book", stage, ignore=lambda folder, names: BUILT if Path(folder) == root / "book" else ())
    (stage / "notebooks").mkdir()
    for copy in copies:
        shutil.copy(copy, stage / "notebooks")
    config = ["--config", str(root / "_config.yml"), "--path-output", str(stage)]
    builder = str(Path(sys.executable).with_name("jupyter-book"))
    command = [builder, "build", str(stage), *config, "-W", "-n", "--keep-going", "--all"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout).replace(f"{stage}/", "book/")
    faults = re.findall(r"^.*(?:WARNING|ERROR|CRITICAL).*$", said, flags=re.MULTILINE)
    pages = stage / "_build" / "html"
    if done.returncode and not faults:
        faults = said.strip().splitlines()[-20:]
    if pages.is_dir():
        faults += page_faults(pages)
    if faults:
        raise _faulty(faults)
    shutil.rmtree(built / "html", ignore_errors=True)
    shutil.move(pages, built / "html")
    shutil.rmtree(stage)


def _faulty(faults: Sequence[str]) -> NeuronConsistencyError:
    return NeuronConsistencyError("\n".join(["the book has faults:", *(f"  {fault}" for fault in faults)]))


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
        stamped = any(STAMP in "".join(output.get("data", {}).get("text/html", "")) for output in cell["outputs"])
        if any(data.keys() & {"text/html", "image/png"} for data in shown) and not stamped:
            faults.append(f"{path.name}: cell {place} does not say what made it: call stamp_outputs after the imports")
    return faults


class _Page(html.parser.HTMLParser):
    """The names that a page can be entered at, the links in it, and what a browser loads to show it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names, self.links, self.loads = set[str](), list[str](), list[str]()
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


def page_faults(folder: Path) -> list[str]:
    """Broken links inside a built site, and whatever a page would load from another host."""
    # the theme leaves templates of its own in _static
    paths = [path for path in sorted(folder.rglob("*.html")) if "_static" not in path.parts]
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in paths}
    faults = []
    for path, page in pages.items():
        name = path.relative_to(folder)
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
