"""Figures and tables of the book: what their HTML says, how they are numbered, and what a reader does with them."""

from __future__ import annotations

import base64
import io
import math
import re
import shutil
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from PIL import Image

from neuron_consistency.book.exhibits import Exhibits
from neuron_consistency.book.page import Page
from neuron_consistency.book.stamps import cited
from neuron_consistency.errors import ParameterError
from neuron_consistency.plotting import grid
from neuron_consistency.runtime import Runtime
from neuron_consistency.workflow.parameters import all_parameters
from neuron_consistency.workflow.results import start_of
from smoke import ROOT

EVIL = "<img src=x onerror=alert(1)>\"'"


class Cells(HTMLParser):
    """The rows of a table: for each cell its tag, its attributes and its text; and all tags of the page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[tuple[str, dict[str, str | None], str]]] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append((tag, dict(attrs), ""))

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1] and data.strip():
            tag, attrs, text = self.rows[-1][-1]
            self.rows[-1][-1] = tag, attrs, text + data

    def texts(self) -> list[list[str]]:
        return [[text for _, _, text in row] for row in self.rows]


def shown(table: pd.DataFrame, *, decimals: int = 3, **more: Any) -> str:
    return Exhibits("04_evaluation").table(table, "one", "A caption.", decimals=decimals, sources=["here"], **more).html


def cells(table: pd.DataFrame, *, decimals: int = 3) -> Cells:
    html = shown(table, decimals=decimals)
    return Cells(html[html.index("<table>") : html.index("</table>")])


def download(html: str) -> str:
    found = re.search(r'href="data:text/csv;charset=utf-8;base64,(.*?)"', html)
    assert found
    return base64.b64decode(found[1]).decode()


def a_figure(title: str = "") -> Any:
    made, axes = grid(4, 3)
    axes[0, 0].plot([0, 1])
    axes[0, 0].set_title(title)
    return made


# tables


def test_intervals_are_joined_and_gaps_are_said() -> None:
    """Were a gap "nan", or a value without an interval hidden by it, a reader would not know what was measured."""
    nan = math.nan
    table = pd.DataFrame(
        {"m": [20.0, 20.5, nan], "U": [0.5, -0.25, nan], "U low": [0.4, nan, 0.1], "U high": [0.6, nan, 0.2]}
        | {"n": [3, 12, 1], "note": ["plain", None, "nan"], "p": [0.00012, 1.0, 0.5], "large": [math.inf, 1.0, 2.0]}
    )
    assert cells(table).texts() == [
        ["m", "U", "n", "note", "p", "large"],
        ["20.0", "0.500 (0.400 to 0.600)", "3", "plain", "0.0001", "∞"],
        ["20.5", "-0.250 (no interval)", "12", "not measured", "1.000", "1"],
        ["not measured", "not measured", "1", "not measured", "0.500", "2"],
    ]


def test_numbers_stand_to_the_right_with_their_heads_and_keep_all_digits_for_sorting() -> None:
    """Sorting by what is shown would mix 9 with 10, and take 0.1231 and 0.1229 for equal."""
    table = pd.DataFrame({"name": ["b", "a"], "x": [0.1231, 10.1229], "told": ["9.5 (9.0 to 10.0)", "12 %"]})
    table["mixed"] = ["1", "all"]
    head, first, second = cells(table, decimals=2).rows
    assert [attrs.get("class") for _, attrs, _ in head] == [None, "num", "num", None]
    assert [attrs.get("class") for _, attrs, _ in first] == [None, "num", "num", None]
    assert [attrs.get("data-value") for _, attrs, _ in first] == [None, "0.1231", "9.5", None]
    assert [attrs.get("data-value") for _, attrs, _ in second] == [None, "10.1229", "12.0", None]
    assert [attrs.get("scope") for _, attrs, _ in head] == ["col"] * 4
    assert [(tag, attrs.get("scope")) for tag, attrs, _ in first] == [("th", "row")] + [("td", None)] * 3


def test_levels_of_an_index_are_row_headers_and_say_a_name_once() -> None:
    """A label that is blank since the row above has it is still there for a screen reader, and for sorting."""
    index = pd.MultiIndex.from_tuples([("a", "x"), ("a", "x"), ("b", "x")], names=["model", "set"])
    _, *rows = cells(pd.DataFrame({"U": [1, 2, 3]}, index=index)).rows
    assert [[text for _, _, text in row] for row in rows] == [["a", "x", "1"], ["a", "x", "2"], ["b", "x", "3"]]
    assert [[attrs.get("class") for _, attrs, _ in row[:2]] for row in rows] == [
        [None, None], ["again", None], [None, None]
    ]  # fmt: skip
    assert {attrs.get("scope") for row in rows for tag, attrs, _ in row if tag == "th"} == {"row"}


def test_a_table_of_no_rows_keeps_its_heads() -> None:
    """Where a run measured nothing, such as attacks that never succeed, the page would stop at the table."""
    index = pd.MultiIndex.from_arrays([[], []], names=["model", "attack"])
    assert cells(pd.DataFrame({"U": []}, index=index)).texts() == [["model", "attack", "U"]]


def test_columns_of_two_levels_share_their_heads() -> None:
    columns = pd.MultiIndex.from_tuples([("clean", "U"), ("clean", "m"), ("FGSM", "U")])
    table = pd.DataFrame([[0.5, 2, 0.25]], columns=columns, index=pd.Index(["a"], name="model"))
    above, below, row = cells(table).rows
    assert [(tag, text, attrs.get("colspan")) for tag, attrs, text in above] == [
        ("td", "", "1"), ("th", "clean", "2"), ("th", "FGSM", "1")
    ]  # fmt: skip
    assert [text for _, _, text in below] == ["model", "U", "m", "U"]
    assert [text for _, _, text in row] == ["a", "0.5", "2", "0.25"]


def test_rows_beyond_twenty_five_are_marked_and_there() -> None:
    rows = cells(pd.DataFrame({"n": range(30)}))
    marked = [attrs.get("class") for tag, attrs in rows.tags if tag == "tr"]
    assert marked == [None] * 26 + ["more"] * 5


def test_evil_names_are_no_markup() -> None:
    """A class of a data set, or a study, may be named by anybody."""
    table = pd.DataFrame({EVIL: [EVIL]}, index=pd.Index([EVIL], name=EVIL))
    html = Exhibits("04_evaluation").table(table, "one", EVIL, decimals=3, sources=[]).html
    figure = Exhibits(f"04_{EVIL}").figure(a_figure(), "one", EVIL, alt=EVIL, sources=[]).html
    pictures = [attrs for tag, attrs in Cells(html + figure).tags if tag == "img"]
    assert [attrs["alt"] for attrs in pictures] == [EVIL]
    assert all(not name.startswith("on") for tag, attrs in Cells(html + figure).tags for name in attrs)


def test_the_download_has_every_digit_and_the_numbers_behind_texts() -> None:
    table = pd.DataFrame({"U": [0.123456789]}, index=pd.Index(["a"], name="model"))
    html = shown(table)
    assert 'download="04-one.csv"' in html
    assert download(html) == "model,U\na,0.123456789\n"
    assert download(shown(pd.DataFrame({"U": ["0.12"]}), exact=table)) == "model,U\na,0.123456789\n"
    assert download(shown(table.reset_index())) == "model,U\na,0.123456789\n"


# figures, names and numbers


def test_a_figure_says_what_it_is_and_is_closed() -> None:
    """A figure that stays open is shown a second time below, without a caption."""
    pyplot, _ = plt.subplots()
    found = Exhibits("04_evaluation").figure(pyplot, "curves", "See `U`.", alt="Two lines", sources=["<a>x</a>"])
    assert not plt.fignum_exists(pyplot.number)
    assert found._repr_html_().startswith('<figure class="exhibit" id="fig-curves">')
    assert '<a class="anchor" href="#fig-curves">Figure 4.1</a> See <code>U</code>.' in found.html
    assert "<summary>Source</summary><ul><li><a>x</a></li></ul></details>" in found.html
    assert repr(found) == "Figure 4.1. See `U`."
    (image,) = (attrs for tag, attrs in Cells(found.html).tags if tag == "img")
    assert (image["alt"], image["loading"]) == ("Two lines", "lazy")
    picture = base64.b64decode(str(image["src"]).removeprefix("data:image/webp;base64,"))
    assert Image.open(io.BytesIO(picture)).size == (int(str(image["width"])), int(str(image["height"])))


def test_numbers_follow_first_use_and_a_name_keeps_its_own() -> None:
    """A cell that is run again must not move the numbers that the text refers to."""
    own = Exhibits("10_results_p2")

    def number(kind: str, name: str) -> str:
        table = pd.DataFrame({"a": [1]})
        if kind == "tab":
            return own.table(table, name, "C.", decimals=3, sources=[]).text
        return own.figure(a_figure(), name, "C.", alt="A.", sources=[]).text

    asked = [("fig", "b"), ("tab", "b"), ("fig", "a"), ("fig", "b"), ("tab", "c-2")]
    assert [number(*one) for one in asked] == [
        "Figure 10.1. C.", "Table 10.1. C.", "Figure 10.2. C.", "Figure 10.1. C.", "Table 10.2. C."
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["", "Curves", "two words", "a--b", "-a", 'x" onclick="', "ä"])
def test_a_name_that_is_no_anchor_is_refused(name: str) -> None:
    with pytest.raises(ParameterError, match="lower-case letters and digits"):
        Exhibits("04_evaluation").table(pd.DataFrame({"a": [1]}), name, "C.", decimals=3, sources=[])


def test_an_exhibit_without_words_is_refused() -> None:
    own = Exhibits("04_evaluation")
    with pytest.raises(ParameterError, match="alt is empty"):
        own.figure(a_figure(), "a", "C.", alt=" ", sources=[])
    with pytest.raises(ParameterError, match="no caption"):
        own.figure(a_figure(), "a", "", alt="A.", sources=[])
    with pytest.raises(ParameterError, match="has no column"):
        own.table(pd.DataFrame(), "a", "C.", decimals=3, sources=[])


def test_a_page_tells_the_run_with_its_changed_parameter_or_what_is_cited() -> None:
    """At sigma = 1.5 the line must not read as at sigma = 2."""
    parameters = all_parameters("smoke", "04_evaluation", "cpu") | {"sigma": 1.5}
    page = Page(parameters, Runtime.of(device="cpu"), start_of("04_evaluation"))
    own = page.table(pd.DataFrame({"a": [1]}), "own", "C.").html
    assert "profile smoke · sigma = 1.5 (the profile has 2.0) · commit " in own
    assert " s into the run</li>" in own
    kept = page.table(cited(pd.DataFrame({"a": [1]}), {"study": "growth"}, {"study": "other"}), "kept", "C.").html
    assert kept.count("<li>") == 2
    assert "profile" not in kept
    figure = page.figure(cited(a_figure(), {"study": "growth"}), "kept", "C.", alt="A.")
    assert "growth/record.json" in figure.html


# in a browser


Open = Callable[..., Any]
COLOURS = "--pst-color-text-base: {}; --pst-color-background: {}; --pst-color-surface: {}; --pst-color-border: gray"


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Open]:
    """Opens a page of a long wide table and of a wide figure; when the test ends, its console is silent."""
    own, said, contexts = Exhibits("04_evaluation"), [], []
    table = pd.DataFrame({f"a column of some width {place}": [place / 7] * 30 for place in range(9)})
    values = [9.0, 10.0, math.nan, *range(100, 127)]
    table = table.assign(U=values, name=[f"name {30 - place}" for place in range(30)])
    table.index = pd.MultiIndex.from_product([["one", "other"], range(15)], names=["model", "row"])
    table = table[["U", "name", *table.columns[:9]]]
    figure, _ = grid(11, 3)
    parts = [
        own.table(table, "long", "A caption.", decimals=3, sources=["here"]).html,
        own.figure(figure, "wide", "What to see.", alt="Nothing", sources=["here"]).html,
    ]
    for name in ("book.css", "book.js"):
        shutil.copy(ROOT / "book" / "_static" / name, tmp_path)

    def open_page(*, width: int = 1280, scripts: bool = True, theme: str = "light") -> Any:
        colours = COLOURS.format(*(("#111", "#fff", "#eee") if theme == "light" else ("#eee", "#111", "#222")))
        (tmp_path / "page.html").write_text(
            f'<!doctype html><html lang="en" data-theme="{theme}" style="{colours}"><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width"><title>A page</title>'
            '<link rel="stylesheet" href="book.css"><script src="book.js"></script>'
            '<body style="margin:0; background: var(--pst-color-background)"><article class="bd-article">'
            f"{''.join(parts)}</article></body></html>"
        )
        context = browser.new_context(viewport={"width": width, "height": 844}, java_script_enabled=scripts)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto((tmp_path / "page.html").as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []


def column(page: Any, place: int) -> list[str]:
    texts: list[str] = page.locator(f"#tab-long tbody tr > :nth-child({place})").all_inner_texts()
    return texts


def test_a_table_sorts_by_mouse_and_keyboard_with_gaps_last(opened: Open) -> None:
    page = opened()
    head = page.locator("#tab-long thead th").nth(2)
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert column(page, 3)[:3] == ["9", "10", "100"]
    assert column(page, 3)[-1] == "not measured"
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert column(page, 3)[0] == "126"
    assert column(page, 3)[-1] == "not measured"
    assert column(page, 1)[:2] == ["other", "other"], "what every row is of stays with it"
    again = page.locator("#tab-long tbody tr > :first-child").evaluate_all("all => all.map(one => one.className)")
    assert again == ["", *["again"] * 14, "", *["again"] * 14]
    page.locator("#tab-long thead th").nth(3).get_by_role("button").press("Space")
    assert head.get_attribute("aria-sort") is None
    assert column(page, 4)[:3] == ["name 1", "name 2", "name 3"]


def test_a_long_table_opens_when_asked_and_is_whole_without_script_and_on_paper(opened: Open) -> None:
    page = opened()
    rows = page.locator("#tab-long tbody tr:visible")
    button = page.get_by_role("button", name="show all 30 rows")
    assert (rows.count(), button.get_attribute("aria-expanded")) == (25, "false")
    page.emulate_media(media="print")
    assert rows.count() == 30
    page.emulate_media(media="screen")
    button.press("Enter")
    assert rows.count() == 30
    page.get_by_role("button", name="show the first 25 rows").click()
    assert rows.count() == 25
    bare = opened(scripts=False)
    assert bare.locator("#tab-long tbody tr:visible").count() == 30
    assert bare.locator("button").count() == 0


def test_a_picture_opens_in_full_size_and_escape_closes_it(opened: Open) -> None:
    page = opened(width=700)
    button, dialog = page.get_by_role("button", name="Figure 4.1, full size"), page.get_by_role("dialog")
    page.locator("#fig-wide .picture img").click()
    assert dialog.get_by_role("img").get_attribute("alt") == "Nothing"
    assert "What to see." in dialog.inner_text()
    assert "here" not in dialog.inner_text()
    page.keyboard.press("Escape")
    assert dialog.count() == 0
    button.focus()
    page.keyboard.press("Enter")
    dialog.get_by_role("button", name="close").click()
    assert dialog.count() == 0
    assert button.evaluate("one => one === document.activeElement"), "a reader who uses keys stays where they were"


def test_a_phone_shows_the_page_in_its_width_and_pictures_large_enough(opened: Open) -> None:
    page = opened(width=390)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.locator("#fig-wide .picture img").bounding_box()["width"] >= 550
    scroll, first = page.locator("#tab-long .scroll"), page.locator("#tab-long tbody th").first
    assert page.get_by_text("scrolls sideways").is_visible()
    before = first.bounding_box()["x"]
    scroll.focus()
    scroll.evaluate("one => one.scrollBy(200, 0)")
    assert first.bounding_box()["x"] == before, "the first column stays"
    page.emulate_media(media="print")
    assert page.locator("#fig-wide .picture img").bounding_box()["width"] <= 390


def test_a_picture_lies_on_white_in_the_dark(opened: Open) -> None:
    """Black axes on a dark page cannot be read."""
    page = opened(theme="dark")
    paper = page.locator("#fig-wide .picture").evaluate("one => getComputedStyle(one).backgroundColor")
    text = page.locator("#tab-long td").first.evaluate("one => getComputedStyle(one).color")
    assert (paper, text) == ("rgb(255, 255, 255)", "rgb(238, 238, 238)")
