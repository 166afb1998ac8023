"""One run of a notebook as a page beside the book's, in which all that differs from the book's own run is marked."""

import ast
import copy
import html
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from neuron_consistency.artifacts import repository_root
from neuron_consistency.errors import NeuronConsistencyError
from neuron_consistency.workflow.build import BUILT
from neuron_consistency.workflow.parameters import notebook_parameters

Notebook = dict[str, Any]
EDITED = (
    " Cells of code that are not those of the book's run: {}. Their tables are not compared; make book runs them, too."
)
GLUED = re.compile(r"\{glue:(?:text|md)\}`([^`:]+)[^`]*`")
REFERENCE = re.compile(r"\{(doc|ref|eq|numref)\}`(?:([^`<]*)<)?([^`<>]+)>?`")
NUMBERS = re.compile(r"(<td[^>]*>)([^<]*)(</td>)")
RECORD = "application/papermill.record/text/plain"
LINK = re.compile(r'(href=")(?![a-z]+:|#|/)([^"#?]+)([^"]*")')


def glued_values(notebook: Notebook) -> dict[str, str]:
    """What an executed notebook gave for its prose, by name, as prose shows it."""
    values = {}
    for cell in notebook["cells"]:
        for output in cell.get("outputs", ()):
            name = output.get("metadata", {}).get("scrapbook", {}).get("name")
            if name and RECORD in output["data"]:
                text = "".join(output["data"][RECORD])
                values[name] = str(ast.literal_eval(text)) if text[:1] in "'\"" else text
    return values


def run_parameters(path: Path) -> dict[str, object]:
    """The parameters that an executed notebook ran with: those that stand in it, and those that papermill gave it."""
    standing = {name: known.default for name, known in notebook_parameters(path).items()}
    given: dict[str, object] = (
        json.loads(path.read_text("utf-8"))["metadata"].get("papermill", {}).get("parameters", {})
    )
    return standing | given


def marked(notebook: Notebook, book: Notebook | None, banner: str) -> Notebook:
    """A copy of an executed notebook under a banner, with a mark around each number that is another one in the book's.

    Numbers are those that the prose has by glue, and the cells of tables that have as many in both runs.

    Args:
        book: the book's own run; None where there is none, and then nothing is marked.
        banner: HTML without a blank line; {edited} in it is replaced by what is to be said of cells whose code is not
            in the book's run.
    """
    page, edited = copy.deepcopy(notebook), 0
    before, now = glued_values(book) if book else {}, glued_values(notebook)

    def around(value: str, old: str) -> str:
        return f'<mark title="in the book: {_attribute(old)}">{value}</mark>'

    def prose(found: re.Match[str]) -> str:
        name = found[1]
        if not book or name not in now or now[name] == before.get(name):
            return found[0]
        return around(found[0], before.get(name, "nothing"))

    others = {"".join(cell["source"]): cell for cell in book["cells"] if _runs(cell)} if book else {}
    for cell in page["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            cell["source"] = GLUED.sub(prose, source)
        elif _runs(cell) and source in others:
            _mark_tables(cell["outputs"], others[source]["outputs"], around)
        elif _runs(cell):
            edited += 1
    first = next(cell for cell in page["cells"] if cell["cell_type"] == "markdown")
    title, _, rest = first["source"].partition("\n")
    told = banner.replace("{edited}", EDITED.format(edited) if book and edited else "")
    first["source"] = f"{title}\n\n{told}\n\n{rest}"
    return page


def _runs(cell: Mapping[str, Any]) -> bool:
    """Whether it is a code cell of the notebook's own, and not the one that papermill puts in."""
    return cell["cell_type"] == "code" and "injected-parameters" not in cell["metadata"].get("tags", ())


def _mark_tables(outputs: list[Any], others: list[Any], around: Callable[[str, str], str]) -> None:
    ours, theirs = ([one["data"] for one in some if "text/html" in one.get("data", {})] for some in (outputs, others))
    for new, old in zip(ours, theirs, strict=False):
        text = "".join(new["text/html"])
        before = [found[1] for found in NUMBERS.findall("".join(old["text/html"]))]
        if len(NUMBERS.findall(text)) == len(before):
            values = iter(before)

            def change(found: re.Match[str], values: Any = values) -> str:
                old = html.unescape(next(values))
                same = _number(html.unescape(found[2])) == _number(old)
                return found[0] if same else found[1] + around(found[2], old) + found[3]

            new["text/html"] = NUMBERS.sub(change, text)


def _number(text: str) -> float | str:
    """A cell's number, however many digits it shows; its text where it is none."""
    try:
        return float(text)
    except ValueError:
        return text


def _attribute(value: object) -> str:
    """A value inside an attribute's quotes, or inside an element: no markup of HTML or MyST is left in it."""
    text = html.escape(" ".join(str(value).split()))
    return re.sub(r"[`$*_\[\]{}\\|:~^@]", lambda found: f"&#{ord(found[0])};", text)


def banner_of(now: Mapping[str, object], before: Mapping[str, object], *, compared: bool) -> str:
    """HTML that says which parameters a run has changed, from what to what; compared: with the book's run."""
    changed = [name for name, value in now.items() if before.get(name) != value]
    rows = "".join(
        f"<li><code>{_attribute(name)}</code>: {_attribute(repr(before.get(name)))} &rarr; "
        f"<mark>{_attribute(repr(now[name]))}</mark></li>"
        for name in changed
    )
    where = "the book's run" if compared else "the values that stand in the notebook"
    said = (
        "Numbers that differ from the book's, in the text and in tables, are marked: point at one to see the "
        "book's.{edited}"
        if compared
        else "The book was not built here, so there is nothing to compare the numbers with: make book."
    )
    listed = f"<p>Parameters that differ from {where}, and what they are here:</p><ul>{rows}</ul>"
    listed = listed if changed else f"<p>Its parameters are those of {where}.</p>"
    return f'<div class="admonition note"><p class="admonition-title">A run of your own</p>{listed}<p>{said}</p></div>'


def linked(text: str, *, own: str, page: Path, pages: Path) -> str:
    """Markdown of one page in which references to other pages lead to the built book, or are text where there is none.

    Args:
        own: all text of this page, whose labels stay references.
        page: where the page will lie, for relative links.
        pages: the folder of the built book.
    """

    def link(found: re.Match[str]) -> str:
        kind, said, target = found.groups()
        if kind != "doc" and re.search(rf"\({re.escape(target)}\)|(?:name|label): {re.escape(target)}\b", own):
            return found[0]
        file, anchor, title = _place(kind, target, pages)
        title = html.escape((said or "").strip() or title)
        if not file:
            return title
        return f'<a href="{quote(os.path.relpath(file, page.parent))}{quote(anchor, safe="#")}">{title}</a>'

    return REFERENCE.sub(link, text)


def _place(kind: str, target: str, pages: Path) -> tuple[Path | None, str, str]:
    """(file, anchor, title) of what a reference in a chapter is to; no file where the book has none."""
    if kind == "doc":
        name = os.path.normpath(f"notebooks/{target}").removeprefix("notebooks/../")
        name = target[1:] if target.startswith("/") else name
        path = pages / f"{name}.html"
        return (path if path.is_file() else None), "", _title(name)
    anchor = f"equation-{target}" if kind == "eq" else target.lower()
    for path in sorted(pages.rglob("*.html")):
        if found := re.search(rf'id="{re.escape(anchor)}"(.{{0,300}})', path.read_text("utf-8"), flags=re.DOTALL):
            number = re.search(r'class="eqno">(\([\d.]+\))', found[1])
            heading = re.search(r"<h\d>(?:<span.*?</span>)*([^<]+)", found[1])
            title = number[1] if number else html.unescape(heading[1]) if heading else target
            return path, f"#{anchor}", title
    return None, "", target


def _title(name: str) -> str:
    """The heading of a page of the book, from its source; its name where it has none."""
    source = repository_root() / "book" / f"{name}.md"
    source = source if source.is_file() else (repository_root() / name).with_suffix(".py")
    text = source.read_text("utf-8") if source.is_file() else ""
    found = re.search(r"^(?:# )?# (?!%)(.+)$", text, flags=re.MULTILINE)
    return found[1] if found else name


def render_run(executed: Path, folder: Path, *, site: Path = Path("book")) -> Path:
    """Builds the page of one executed notebook, with all that it loads, by Sphinx.

    Args:
        executed: the run.
        folder: gets the page and its `_static/`; what it held is replaced.
        site: of the book, whose executed copy and pages are compared with and linked to, where there are any.

    Returns:
        The page.

    Raises:
        NeuronConsistencyError: Sphinx made no page; the message ends with what it said last.
    """
    root = repository_root()
    notebook = json.loads(executed.read_text("utf-8"))
    theirs = root / site / "notebooks" / executed.name
    book = json.loads(theirs.read_text("utf-8")) if theirs.is_file() else None
    standing = {name: known.default for name, known in notebook_parameters(executed).items()}
    before = run_parameters(theirs) if book else standing
    page = marked(notebook, book, banner_of(run_parameters(executed), before, compared=bool(book)))
    result = folder / "notebooks" / f"{executed.stem}.html"
    markdown = [cell for cell in page["cells"] if cell["cell_type"] == "markdown"]
    own = "\n".join(cell["source"] for cell in markdown)
    for cell in markdown:
        cell["source"] = linked(cell["source"], own=own, page=result, pages=root / site / "_build" / "html")
    stage = folder.with_name(f"{folder.name}.stage")
    shutil.rmtree(stage, ignore_errors=True)
    dropped = {root / "book": (*BUILT, "results")}
    shutil.copytree(root / "book", stage, ignore=lambda folder, _names: dropped.get(Path(folder), ()))
    (stage / "notebooks").mkdir()
    (stage / "notebooks" / executed.name).write_text(json.dumps(page), "utf-8")
    chapters = [{"file": name} for name in ("bibliography",) if (stage / f"{name}.md").is_file()]
    contents = {"format": "jb-book", "root": f"notebooks/{executed.stem}", "chapters": chapters}
    (stage / "_toc.yml").write_text(yaml.safe_dump(contents), "utf-8")
    builder = str(Path(sys.executable).with_name("jupyter-book"))
    command = [builder, "build", str(stage), "--config", str(root / "_config.yml"), "--path-output", str(stage)]
    done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    built = stage / "_build" / "html"
    if not (built / "notebooks" / result.name).is_file():
        raise NeuronConsistencyError("the page was not built:\n" + "\n".join(done.stdout.splitlines()[-20:]))
    shutil.rmtree(folder, ignore_errors=True)
    shutil.move(built, folder)
    shutil.rmtree(stage)
    if (files := executed.with_name(f"{executed.stem}_files")).is_dir():  # its own, see `run.files_of`
        shutil.copytree(files, result.parent / files.name)
    _lead_to_the_book(result, root / site / "_build" / "html" / "notebooks")
    return result


def _lead_to_the_book(page: Path, other: Path) -> None:
    """Relative links that lead nowhere from a page lead to where they would from `other`, the book's folder."""

    def lead(found: re.Match[str]) -> str:
        if (page.parent / found[2]).exists() or not (other / found[2]).exists():
            return found[0]
        return found[1] + quote(os.path.relpath(other / found[2], page.parent)) + found[3]

    page.write_text(LINK.sub(lead, page.read_text("utf-8")), "utf-8")
