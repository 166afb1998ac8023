"""The page of one run: what differs from the book's is marked, no value becomes markup, links lead somewhere."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from neuron_consistency.workflow.run_page import banner_of, glued_values, linked, marked, render_run, run_parameters
from smoke import ROOT

RECORD = "application/papermill.record/text/plain"
EVIL = "<script>alert(1)</script>`\"'$x$"


def code(source: str, *outputs: dict[str, Any], tags: tuple[str, ...] = ()) -> dict[str, Any]:
    cell = {"cell_type": "code", "execution_count": 1, "metadata": {"tags": list(tags)}, "outputs": list(outputs)}
    return cell | {"source": source}


def said(text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": text}


def glue(name: str, value: object) -> dict[str, Any]:
    """As myst_nb's glue leaves it in an executed notebook."""
    scrapbook = {"scrapbook": {"mime_prefix": "application/papermill.record/", "name": name}}
    return {"output_type": "display_data", "data": {RECORD: repr(value)}, "metadata": scrapbook}


def table(*values: str) -> dict[str, Any]:
    cells = "".join(f"<td>{value}</td>" for value in values)
    return {"output_type": "display_data", "data": {"text/html": f"<table><tr>{cells}</tr></table>"}, "metadata": {}}


def executed(sigma: float, mean: object, *cells: str, name: str = "demo") -> dict[str, Any]:
    """A notebook as papermill leaves it."""
    return {
        "cells": [
            said("# A page\n\nIt says {glue:text}`mean`, and {glue:text}`count` times."),
            code('sigma: float = 2.0  # how fast\nprofile: str = "demo"  # whose', tags=("parameters",)),
            code(f"# Parameters\nsigma = {sigma}", tags=("injected-parameters",)),
            code("say()", glue("mean", mean), glue("count", 7), table(*cells)),
        ],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "papermill": {"parameters": {"sigma": sigma, "profile": name}},
        },
        "nbformat": 4,
        "nbformat_minor": 4,
    }


def test_what_differs_is_marked_with_the_books_number_and_nothing_else_is() -> None:
    """mean 0.42 became 0.63 and the second cell .5 became .6; count stays 7, and 1.0 is 1 in other digits."""
    run, book = executed(1.5, "0.63", "1.0", "0.6"), executed(2.0, "0.42", "1", "0.5")
    before = copy.deepcopy(run)
    page = marked(run, book, "<p>a banner</p>")
    text, shown = page["cells"][0]["source"], page["cells"][3]["outputs"][2]["data"]["text/html"]
    assert '<mark title="in the book: 0.42">{glue:text}`mean`</mark>, and {glue:text}`count` times' in text
    assert shown == '<table><tr><td>1.0</td><td><mark title="in the book: 0.5">0.6</mark></td></tr></table>'
    assert text.startswith("# A page\n\n<p>a banner</p>\n\n")
    assert run == before, "the executed copy stays as it was"


def test_without_the_books_run_nothing_is_marked() -> None:
    page = marked(executed(1.5, "0.63", "1.0"), None, "<p>no book</p>")
    assert "<mark" not in json.dumps(page)
    assert "<p>no book</p>" in page["cells"][0]["source"]


def test_tables_of_other_sizes_and_cells_of_other_code_are_not_compared() -> None:
    run = executed(1.5, "same", "1", "2")
    assert "<mark" not in json.dumps(marked(run, executed(2.0, "same", "3"), ""))
    edited = executed(2.0, "same", "3", "4")
    assert "<mark" in json.dumps(marked(run, edited, ""))
    edited["cells"][3]["source"] = "say(more)"
    shown = json.dumps(marked(run, edited, "{edited}"))
    assert "<mark" not in shown
    assert "not those of the book's run: 1." in shown
    edited["cells"].insert(1, code("", table("5", "6")))
    edited["cells"][4]["source"] = "say()"
    assert "in the book: 3" in json.dumps(marked(run, edited, "")), "a cell is found wherever it stands"


def test_banner_lists_the_parameters_that_differ() -> None:
    shown = banner_of({"sigma": 1.5, "top_k": 20}, {"sigma": 2.0, "top_k": 20}, compared=True)
    assert "<code>sigma</code>: 2.0 &rarr; <mark>1.5</mark>" in shown
    assert "top" not in shown
    assert "was not built here" in banner_of({"sigma": 1.5}, {"sigma": 2.0}, compared=False)
    assert "Its parameters are those of the book's run" in banner_of({"sigma": 2.0}, {"sigma": 2.0}, compared=True)


def test_no_value_becomes_markup() -> None:
    shown = banner_of({"name": EVIL}, {"name": "plain\n\nx"}, compared=True)
    assert "<script" not in shown
    assert not re.search(r"[`$\n]", shown)
    page = marked(executed(1.5, "0.63"), executed(2.0, EVIL), "")
    (title,) = re.findall(r'title="([^"]*)"', page["cells"][0]["source"])
    assert "<" not in title
    assert not re.search(r"[`$]", title)


def test_references_lead_to_the_book_where_it_is_and_are_text_where_it_is_not(tmp_path: Path) -> None:
    pages, page = tmp_path / "html", tmp_path / "runs" / "04" / "notebooks" / "04.html"
    text = "{doc}`03_consistent_loss_training`, {doc}`the data <../data>`, {eq}`eq-far`, {eq}`eq-own`, {ref}`cure`"
    own = "$$ x $$ (eq-own)"
    assert linked(text, own=own, page=page, pages=pages) == (
        "Training with a consistent loss, the data, eq-far, {eq}`eq-own`, cure"
    )
    (pages / "notebooks").mkdir(parents=True)
    (pages / "data.html").touch()
    (pages / "notebooks" / "03_consistent_loss_training.html").write_text(
        '<p id="equation-eq-far"><span class="eqno">(8)<a></a></span></p><section id="cure"><h2>The cure<a></a></h2>'
    )
    shown = linked(text, own=own, page=page, pages=pages)
    chapter = "../../../html/notebooks/03_consistent_loss_training.html"
    assert shown == (
        f'<a href="{chapter}">Training with a consistent loss</a>, <a href="../../../html/data.html">the data</a>, '
        f'<a href="{chapter}#equation-eq-far">(8)</a>, {{eq}}`eq-own`, <a href="{chapter}#cure">The cure</a>'
    )


def test_values_and_parameters_are_read_from_an_executed_notebook(tmp_path: Path) -> None:
    path = tmp_path / "01_small.ipynb"
    path.write_text(json.dumps(executed(1.5, "it's 1", name="smoke")))
    assert glued_values(json.loads(path.read_text())) == {"mean": "it's 1", "count": "7"}
    assert run_parameters(path) == {"sigma": 1.5, "profile": "smoke"}


def test_the_page_is_built_with_the_numbers_filled_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By Sphinx, from the book's own settings; a markup in a value would be an element of the page."""
    monkeypatch.chdir(ROOT)
    path = tmp_path / "01_small.ipynb"
    path.write_text(json.dumps(executed(1.5, EVIL, "0.6")))
    site = tmp_path / "site"
    (site / "notebooks").mkdir(parents=True)
    (site / "notebooks" / path.name).write_text(json.dumps(executed(2.0, "0.42", "0.5")))
    page = render_run(path, tmp_path / "01_small", site=site)
    text = page.read_text()
    assert page.is_relative_to(tmp_path / "01_small")
    assert (page.parents[1] / "_static").is_dir()
    assert '<mark title="in the book: 0.5">0.6</mark>' in text
    assert re.search(r'<mark title="in the book: 0\.42">.*?&lt;script&gt;alert', text, flags=re.DOTALL)
    assert "<script>alert" not in text
    assert "7 times" in re.sub(r"<[^>]*>", "", text)
    assert re.search(r"<code>sigma</code>: 2\.0 (→|&rarr;) <mark>1\.5</mark>", text)
    assert not list(tmp_path.glob("*.stage"))
