"""The ledger's page: sentences, links to and fro, what a reader does in a browser, and that no text is markup."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from neuron_consistency.artifacts import repository_root
from neuron_consistency.book.kept import Kept
from neuron_consistency.book.ledger import WORDS, case_by_case, judged
from neuron_consistency.book.ledger_page import (
    badge,
    case_tables,
    example_table,
    ledger_list,
    readable,
    verdicts_in_words,
)
from neuron_consistency.workflow.claims import COLUMNS, Claim, read_claims
from neuron_consistency.workflow.results import Study

EVIL = "<img src=x onerror=alert(1)> & \"'"
THEME = ":root { --pst-color-text-base: #222; --pst-color-background: #fff; --pst-color-surface: #f3f4f5; }"
DARK = """html[data-theme="dark"] { --pst-color-text-base: #ced6dd; --pst-color-background: #121212;
  --pst-color-surface: #29313d; } body { background: var(--pst-color-background); margin: 0 16px; }"""

COLOURS = "(one) => ['color', 'backgroundColor'].map((name) => getComputedStyle(one)[name].match(/\\d+/g).map(Number))"
WIDER = """[...document.querySelectorAll(".ledger-claims *, .ledger-filters *")].filter(
    (one) => one.getBoundingClientRect().right > 390
).map((one) => one.outerHTML)"""


def claim(name: str, paper: str = "P1", unit: str = "U", **more: Any) -> Claim:
    told: dict[str, Any] = {"place": "Table 1", "says": f"{name} is so.", "number": "a number", "theirs": "0.1"}
    return Claim(name=name, paper=paper, unit=unit, chapter="04_evaluation", **{**told, "above": 0.0, **more})


def case(of: str, value: float, half: float = 0.1, name: str = "ResNet-18, normal, seed 0") -> pd.DataFrame:
    row = [of, name, value, value - half, value + half, "", math.inf, "a-study", "findings"]
    return pd.DataFrame([row], columns=[*COLUMNS, "study", "table"])


CLAIMS = {
    "one": claim("one"),
    "two": claim("two"),
    "three": claim("three", paper="P2"),
    "four": claim("four", paper="ours", theirs=""),
}
FOUND = pd.concat([case("one", 0.5), case("two", -0.5), case("three", -0.5), case("three", -0.6, name="VGG-16, FGSM")])
STUDIES = {"a-study": Study("a-study", "Photographs of cats.", "04_evaluation", "demo", {})}


def shown(claims: dict[str, Claim], found: pd.DataFrame, about: str = "Photographs of cats.") -> str:
    table = judged(claims, found)
    studies = {name: Study(name, about, "04_evaluation", "demo", {}) for name in found["study"].unique()}
    parts = ledger_list(table, table), case_tables(table, case_by_case(claims, found), studies), example_table(table)
    return "".join(str(part.data) for part in parts)


def test_every_claim_of_the_book_has_its_place_and_its_cases_lead_back() -> None:
    """Other pages link to 14_claims.html#claim-NAME; a claim without its place would leave a reader at the top."""
    kept, claims = Kept.read(), read_claims()
    found = kept.findings()
    table = judged(claims, found)
    listed = str(ledger_list(table).data)
    behind = str(case_tables(table, case_by_case(claims, found), kept.studies).data)
    assert re.findall(r'<li id="claim-([a-z0-9-]+)"', listed) == list(claims)
    measured = table["claim"][table["cases"] > 0].to_list()
    assert re.findall(r'href="#cases-([a-z0-9-]+)"', listed) == measured
    assert re.findall(r'<details class="ledger-cases" id="cases-([a-z0-9-]+)"', behind) == measured
    for part in behind.split("<details")[1:]:
        name = re.findall(r'id="cases-([a-z0-9-]+)"', part)[0]
        assert part.split("<tbody>")[1].count(f'href="#claim-{name}"') == part.split("<tbody>")[1].count("<tr>")
        assert 'class="below"' in part  # where a long table's button goes; without, the page's script stops
    assert not re.search(r"\bnan\b", listed + behind)
    linked = re.findall(r"blob/main/(book/results/[^\"]+)", behind)
    assert len(linked) == 2 * len(found)
    assert [path for path in set(linked) if not (repository_root() / path).is_file()] == []


def test_each_claim_is_a_sentence_that_says_what_its_number_counts() -> None:
    """A claim that begins with "It does so" says nothing once the claim before it is filtered out."""
    for name, one in read_claims().items():
        assert re.fullmatch(r"[A-Z].*\.", one.says), name
        assert not re.match(r"(It (does|costs|raises|is more|relies|lies)|They|Its|Their|So it)\b", one.says), name
        assert one.unit, name
        assert "above" not in one.number.split(";")[-1] or ";" not in one.number, name


def test_numbers_have_their_unit_and_what_was_not_measured_says_so() -> None:
    """By hand: a share of 0.125 is 12.5 points; a lone case without an interval gives no mean."""
    share = shown({"s": claim("s", unit="share")}, case("s", 0.125, 0.05))
    assert "12.5 points (95 %: 7.5 to 17.5)." in share
    assert "The smallest difference that a typical case could have shown is 5.0 points." in share
    assert "a number; the claim holds above 0." in share
    none = shown(CLAIMS, case("one", 0.25, math.nan))
    assert "No case has an interval." in none
    assert "0.250 U <span>(without an interval)</span>" in none
    assert "Not measured." in none
    assert not re.search(r"\bnan\b", none)
    assert "the claim holds between -1 and 2" in shown({"b": claim("b", above=-1.0, below=2.0)}, case("b", 0.0))


def test_how_cases_stand_is_said_and_a_draw_is_told_from_a_majority() -> None:
    draw = pd.concat([case("one", 0.5), case("one", -0.5)])
    most = pd.concat([case("one", 0.5)] * 5 + [case("one", -0.5)])
    assert "differs by case" in shown({"one": claim("one")}, draw)
    assert "1 of 2 cases holds, 1 fails" in shown({"one": claim("one")}, draw)
    text = shown({"one": claim("one")}, most)
    assert "mostly holds" in text
    assert "5 of 6 cases hold, 1 fails" in text
    assert verdicts_in_words(judged(CLAIMS, FOUND)) == "1 holds, 2 fail, 1 is not measured"


def test_what_only_the_run_of_the_book_measures_is_said_and_what_holds_by_construction() -> None:
    """A demo of one seed would else read as evidence, or as if nobody had measured."""
    claims = {"one": claim("one"), "built": claim("built", construction="the attack minimises it")}
    table = judged(claims, case("built", 0.5))
    text = str(ledger_list(table, judged(claims, case("one", 0.5))).data)
    assert "Not measured: only this build&#x27;s own run does, and it is not counted." in text
    assert "It would hold whatever the networks had learned: the attack minimises it." in text


def test_the_null_answers_in_a_sentence() -> None:
    found = pd.concat([case("one", 0.5), case("one", 0.01, name="ResNet-18 [null: random weights]")])
    text = shown({"one": claim("one")}, found)
    said = "asked of networks with random weights: 0.010 U (95 %: -0.090 to 0.110); it does not pass."
    assert said in text
    assert "<i>null: random weights</i>" in text
    assert "its one case holds" in text


@pytest.mark.parametrize(
    ("case_name", "words"),
    [
        ("ResNet-18, normal, seed 0", "ResNet-18, trained normally, seed 0"),
        ("A, consistent (beta 1), 3 seeds", "A, trained with the consistent loss (β = 1), 3 seeds"),
        ("made on the adversarial, B", "B, images made against the adversarially trained networks"),
        ("A, FGSM, 1 - max softmax", "A, attacked by FGSM, against the network's own sureness"),
        ("A, mean 1, cannot be told: c 0.2, d", "A, weights of mean one (no interval: c 0.2, d)"),
    ],
)
def test_cases_are_in_words(case_name: str, words: str) -> None:
    assert readable(case_name) == words


def test_no_text_is_markup() -> None:
    evil = claim("one", says=EVIL, number=EVIL, theirs=EVIL, place=EVIL, against=EVIL, construction=EVIL)
    found = pd.concat([case("one", 0.5, name=EVIL), case("one", 0.5, name=f"A [null: {EVIL}]")])
    text = shown({"one": evil}, found, about=EVIL)
    assert "<img" not in text
    assert text.count("&lt;img") > 8


# in a browser


Open = Callable[..., Any]


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Open]:
    """Opens the ledger of four claims with the book's script and style; nothing is said on the console by the end."""
    said: list[str] = []
    contexts = []
    static = repository_root() / "book" / "_static"

    def open_ledger(link: str = "", width: int = 1280, theme: str = "light", script: bool = True) -> Any:
        style = THEME + DARK + (static / "ledger.css").read_text("utf-8")
        code = f"<script>{(static / 'ledger.js').read_text('utf-8')}</script>" * script
        head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><style>{style}</style>{code}'
        badges = " ".join(map(badge, WORDS))
        path = tmp_path / "14_claims.html"
        path.write_text(
            f'<!doctype html><html data-theme="{theme}"><head>{head}</head><body class="bd-article">'
            f'{shown(CLAIMS, FOUND)}<p class="ledger" id="badges">{badges}</p></body></html>',
            "utf-8",
        )
        context = browser.new_context(viewport={"width": width, "height": 800}, offline=True)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(f"{path.as_uri()}{link}")
        return page

    yield open_ledger
    for context in contexts:
        context.close()
    assert said == []


def names(page: Any) -> list[str]:
    """The claims in view, in order."""
    found: list[str] = page.locator(".ledger-claims > li:visible").evaluate_all(
        "all => all.map((li) => li.id.slice(6))"
    )
    return found


def button(page: Any, kind: str, value: str) -> Any:
    return page.locator(f'.ledger-filters [data-filter="{kind}"][data-value="{value}"]')


def test_filters_by_mouse_leave_what_fits_and_count_it(opened: Open) -> None:
    page = opened()
    assert names(page) == list(CLAIMS)
    button(page, "verdict", "fails").click()
    assert names(page) == ["two", "three"]
    assert [button(page, "paper", value).inner_text() for value in ("", "P1", "P2", "P3", "ours")] == [
        "all 2", "P1 1", "P2 1", "P3 0", "our own questions 0",
    ]  # fmt: skip
    button(page, "paper", "P1").click()
    assert names(page) == ["two"]
    assert page.locator(".ledger-filters output").inner_text() == "1 of 4 claims shown"
    assert page.evaluate("location.hash") == "#paper=P1&verdict=fails"
    assert page.locator(".ledger-cases:visible").count() == 1
    page.reload()
    assert names(page) == ["two"]


def test_filters_and_order_by_keyboard(opened: Open) -> None:
    page = opened()
    button(page, "paper", "ours").focus()
    page.keyboard.press("Enter")
    assert names(page) == ["four"]
    assert button(page, "paper", "ours").get_attribute("aria-pressed") == "true"
    button(page, "paper", "").focus()
    page.keyboard.press("Space")
    assert page.evaluate("location.hash") == ""
    page.locator(".ledger-filters select").select_option("cases")
    assert names(page) == ["three", "one", "two", "four"]
    page.locator(".ledger-filters select").select_option("")
    assert names(page) == list(CLAIMS)
    assert page.locator("output[aria-live=polite]").count() == 1


def test_links_lead_to_the_cases_and_back_also_to_what_is_filtered_out(opened: Open) -> None:
    page = opened("#paper=P2")
    assert names(page) == ["three"]
    page.locator('#claim-three a[href="#cases-three"]').click()
    table = page.locator("#cases-three table")
    assert table.is_visible()
    assert "attacked by FGSM" in table.inner_text()
    assert "Photographs of cats." in table.inner_text()
    table.locator('a[href="#claim-three"]').first.click()
    assert page.locator("#claim-three").evaluate("(li) => li.matches(':target')")
    page.evaluate("location.hash = '#paper=P2'")
    page.evaluate("location.hash = '#claim-one'")
    page.wait_for_function("!document.getElementById('claim-one').hidden")
    assert page.locator("#claim-one").is_visible()


@pytest.mark.parametrize("link", ["#paper=P9&verdict=%3Cb%3E", "#nowhere", "#%E0%A4%A", "#claim-"])
def test_an_address_that_means_nothing_shows_all(opened: Open, link: str) -> None:
    assert names(opened(link)) == list(CLAIMS)


def test_without_scripts_and_on_paper_everything_is_there(opened: Open) -> None:
    page = opened(script=False)
    assert names(page) == list(CLAIMS)
    assert page.locator("#cases-three table").is_visible()
    assert not page.locator(".ledger-filters").is_visible()
    page = opened("#paper=P1")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert names(page) == list(CLAIMS)
    assert page.locator("#cases-three table").is_visible()


def luminance(colour: list[int]) -> float:
    """The relative luminance of WCAG 2."""
    parts = np.array(colour[:3]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_badges_can_be_read_and_nothing_is_wider_than_a_phone(opened: Open, theme: str) -> None:
    page = opened(width=390, theme=theme)
    for found in page.locator("#badges .verdict").all():
        text, ground = found.evaluate(COLOURS)
        assert len(ground) == 3, found.inner_text()  # a ground of its own, whatever the theme's
        light, dark = sorted((luminance(text), luminance(ground)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, found.inner_text()
    page.locator('#claim-three a[href="#cases-three"]').click()
    assert page.evaluate(WIDER) == []
