"""The built site in a browser without a network: what it loads, who can read it, how wide it is, what is found."""

from __future__ import annotations

import functools
import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from smoke import NOTEBOOKS, ROOT, smoke_site

DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
SCREENS = 1.5  # down to the first result
# What reaches beyond the screen, but for what scrolls in a box of its own or is there for screen readers alone.
WIDER = """() => {
    const boxed = (node) => {
        for (let up = node; up && up.tagName !== "MAIN"; up = up.parentElement) {
            const { overflowX, clip, clipPath } = getComputedStyle(up);
            if (["auto", "scroll"].includes(overflowX) || clip !== "auto" || clipPath !== "none") return true;
        }
        return false;
    };
    const beyond = (node) => {
        const { right, width } = node.getBoundingClientRect();
        return width && right > innerWidth + 1 && !boxed(node);
    };
    const wide = [...document.querySelectorAll("main *")].filter(beyond).map((node) => node.outerHTML.slice(0, 120));
    const page = document.documentElement.scrollWidth;
    return page > innerWidth + 1 ? [`the page is ${page} pixels wide`, ...wide] : wide;
}"""
FACTS = """() => {
    const all = (selector) => [...document.querySelectorAll(selector)];
    const meta = (selector) => document.querySelector(`meta[${selector}]`)?.content ?? "";
    const results = "figure.exhibit, .knob, .ledger, .found";
    return {
        alts: all("main article img").map((image) => image.getAttribute("alt")),
        exhibits: all("figure.exhibit").length,
        captions: all("figure.exhibit figcaption").filter((said) => said.textContent.trim()).length,
        bare: all("div.cell_output :is(img, table)").filter((shown) => !shown.closest(results))
            .map((shown) => shown.outerHTML.slice(0, 120)),
        first: Math.min(...all(results).map((shown) => shown.getBoundingClientRect().top + scrollY)),
        language: document.documentElement.lang,
        description: meta('name="description"'),
        card: meta('property="og:image"'),
        sidebar: Object.fromEntries(all('.bd-links a[href*="notebooks/"]').map(
            (link) => [link.href.split("/").pop().split("#")[0], link.textContent.trim()])),
    };
}"""


@dataclass
class Seen:
    """A page as it was opened once: what went wrong, and what stands on it."""

    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    barriers: list[str] = field(default_factory=list)
    wider: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


def pages() -> list[str]:
    """Every page of the contents, with those below others, and the two that Sphinx adds."""

    def listed(part: dict[str, Any]) -> Iterator[str]:
        yield part["file"]
        for below in part.get("sections", []):
            yield from listed(below)

    contents = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
    files = [name for part in contents["parts"] for chapter in part["chapters"] for name in listed(chapter)]
    return [contents["root"], *files, "search", "genindex"]


each = pytest.mark.parametrize("name", pages())
each_chapter = pytest.mark.parametrize("name", [name for name in pages() if name.startswith("notebooks/")])


@pytest.fixture(scope="module")
def site() -> Path:
    folder, failure = smoke_site()
    built = folder / "_build" / "html"
    assert (built / "index.html").is_file(), failure
    return built


@pytest.fixture(scope="module")
def tab(browser: Any) -> Iterator[Any]:
    """One tab for all pages, in the colours that the reader's system asks for."""
    context = browser.new_context(viewport=DESKTOP, color_scheme="light", reduced_motion="reduce", offline=True)
    yield context.new_page()
    context.close()


def axe() -> str:
    """The script of axe, https://github.com/dequelabs/axe-core."""
    found = importlib.util.find_spec("axe_playwright_python")
    if found is None or not found.submodule_search_locations:
        pytest.skip("axe looks for barriers: install the extra test")
    return (Path(found.submodule_search_locations[0]) / "axe.min.js").read_text("utf-8")


# Leaves three rows, items, functions and words of code of a kind: the rest are made alike, and axe is slow.
THIN = """() => {
    for (const parent of document.querySelectorAll(":has(> :is(tr, li, dl, dd, em, span))")) {
        const kinds = new Map();
        for (const child of [...parent.children].filter((each) => each.matches("tr, li, dl, dd, em, span"))) {
            const kind = `${child.tagName} ${child.className}`;
            kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
            if (kinds.get(kind) > 3) child.remove();
        }
    }
}"""


def barriers(tab: Any, scheme: str, *rules: str) -> list[str]:
    """What axe calls serious or critical, one rule a line with the first element that breaks it; no rules: all."""
    options: dict[str, Any] = {"resultTypes": ["violations"], "preload": False}
    options |= {"runOnly": {"type": "rule", "values": list(rules)}} if rules else {}
    found = tab.evaluate("(options) => axe.run(document, options)", options)
    return [
        f"{scheme}: {broken['id']}, {len(broken['nodes'])} times: {broken['nodes'][0]['html'][:200]}"
        for broken in found["violations"]
        if broken["impact"] in ("serious", "critical")
    ]


@pytest.fixture(scope="module")
def look(site: Path, tab: Any) -> Any:
    """Opens a page once, on a desk and on a phone, light and dark, and tells what was seen."""

    @functools.cache
    def looked(name: str) -> Seen:
        seen = Seen()
        tab.set_viewport_size(DESKTOP)
        tab.emulate_media(color_scheme="light")
        listeners = {
            "console": lambda message: seen.said.append(message.text) if message.type == "error" else None,
            "pageerror": lambda error: seen.said.append(str(error)),
            "request": lambda request: seen.asked.append(request.url),
        }
        for event, listener in listeners.items():
            tab.on(event, listener)
        tab.goto((site / f"{name}.html").as_uri())
        tab.evaluate("async () => { await window.MathJax?.startup?.promise; }")
        seen.facts = tab.evaluate(FACTS)
        tab.set_viewport_size(PHONE)
        seen.wider = tab.evaluate(WIDER)
        tab.set_viewport_size(DESKTOP)
        tab.add_style_tag(content="*, ::before, ::after { transition: none !important }")  # no colour on its way
        tab.evaluate(THIN)
        tab.evaluate(axe())
        seen.barriers = barriers(tab, "light")
        tab.emulate_media(color_scheme="dark")
        seen.barriers += barriers(tab, "dark", "color-contrast")  # the other rules know no colours
        for event, listener in listeners.items():
            tab.remove_listener(event, listener)
        return seen

    return looked


@each
def test_page_logs_no_error(look: Any, name: str) -> None:
    assert look(name).said == []


@each
def test_page_asks_for_nothing_but_the_sites_own_files(look: Any, site: Path, name: str) -> None:
    own = (f"{site.as_uri()}/", "data:", "blob:")
    assert [address for address in look(name).asked if not address.startswith(own)] == []


@each
def test_nobody_is_shut_out_in_light_or_dark(look: Any, name: str) -> None:
    assert look(name).barriers == []


@each
def test_nothing_is_wider_than_a_phone(look: Any, name: str) -> None:
    assert look(name).wider == []


@each
def test_page_tells_browsers_and_search_engines_what_it_is(look: Any, site: Path, name: str) -> None:
    facts = look(name).facts
    assert facts["language"] == "en"
    assert ((site / f"{name}.html").parent / facts["card"]).resolve() == site / "_static" / "social_card.png"
    if name not in ("search", "genindex"):
        assert 20 <= len(facts["description"]) <= 310, facts["description"]
        assert not re.search(r"[<>]|nan\b", facts["description"])


@each
def test_every_picture_has_words_and_no_path_for_those_who_cannot_see_it(look: Any, name: str) -> None:
    alts = look(name).facts["alts"]
    assert [
        alt for alt in alts if not (alt or "").strip() or re.search(r"\w/\S+\.\w+$|\.(png|jpe?g|svg|gif)\b", alt)
    ] == []


@each
def test_every_figure_and_table_of_a_result_has_its_caption(look: Any, name: str) -> None:
    facts = look(name).facts
    assert facts["captions"] == facts["exhibits"]
    assert facts["bare"] == []


@each_chapter
def test_first_result_stands_near_the_top(look: Any, name: str) -> None:
    assert look(name).facts["first"] <= SCREENS * DESKTOP["height"]  # infinite where there is none


def test_chapters_have_the_numbers_of_their_files(look: Any) -> None:
    shown = look(pages()[0]).facts["sidebar"]
    for notebook in NOTEBOOKS:
        number = int(notebook.stem[:2])
        text = shown[f"{notebook.stem}.html"]
        assert text.startswith(f"{number}. ") if number else not text[0].isdigit(), text


# what a reader does


@pytest.mark.parametrize("asked", ["ambiguity", "chance level", "consistent loss", "explanation"])
def test_search_finds_chapters_first(site: Path, tab: Any, asked: str) -> None:
    tab.set_viewport_size(DESKTOP)
    tab.goto(f"{(site / 'search.html').as_uri()}?q={asked.replace(' ', '+')}")
    tab.wait_for_selector("#search-results li a")
    tab.wait_for_function("document.querySelector('.search-summary').innerText.includes('found')")
    found = tab.locator("#search-results li a").evaluate_all("links => links.map((link) => link.getAttribute('href'))")
    assert all(link.startswith("notebooks/") for link in found[:3]), found[:5]
    code = [link.startswith("api") for link in found]
    assert code == sorted(code), "prose stands before code"


def test_search_still_finds_a_function_by_its_name(site: Path, tab: Any) -> None:
    tab.goto(f"{(site / 'search.html').as_uri()}?q=unbiased_consistency")
    tab.wait_for_function("document.querySelector('.search-summary').innerText.includes('found')")
    assert tab.locator('#search-results li a[href^="api/consistency.html"]').count() > 0


def test_citation_shows_its_reference_by_mouse_and_by_keyboard(site: Path, tab: Any) -> None:
    tab.set_viewport_size(PHONE)
    tab.goto((site / "intro.html").as_uri())
    box, link = tab.locator("#reference-box"), tab.locator("main a[data-reference]").first
    assert not box.is_visible()
    link.focus()
    assert "Towards interpretable deep neural networks" in box.inner_text()
    assert link.get_attribute("aria-describedby") == "reference-box"
    assert tab.evaluate(WIDER) == []
    tab.keyboard.press("Escape")
    assert not box.is_visible()
    link.blur()
    link.hover()
    assert box.is_visible()
    tab.mouse.move(0, 0)
    box.wait_for(state="hidden")


def test_a_citation_and_the_list_of_references_have_one_label(site: Path, tab: Any) -> None:
    tab.goto((site / "bibliography.html").as_uri())
    labels = tab.locator("div.citation .label").all_inner_texts()
    assert "[Dong et al., 2019]" in labels
    assert [label for label in labels if not re.fullmatch(r"\[.+, \d{4}\]", label)] == []
    entries = tab.locator("div.citation").count()
    assert tab.locator('div.citation:has(a[href^="http"])').count() == entries > 20


def test_paper_shows_what_is_folded_in_black_on_white_and_cuts_nothing(site: Path, tab: Any) -> None:
    tab.goto((site / "notebooks" / f"{NOTEBOOKS[1].stem}.html").as_uri())
    tab.emulate_media(media="print", color_scheme="dark")
    tab.set_viewport_size({"width": 700, "height": 990})
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tab.locator("main details:not([open])").count() == 0
    assert tab.evaluate("document.documentElement.dataset.theme") == "light"
    assert not tab.locator(".bd-sidebar-primary").is_visible()
    beyond = "[...document.querySelectorAll('main :is(pre, table, figure)')].filter((node) => node.scrollWidth > 701)"
    assert tab.evaluate(f"{beyond}.map((node) => node.outerHTML.slice(0, 120))") == []
    tab.evaluate("dispatchEvent(new Event('afterprint'))")
    assert tab.evaluate("document.documentElement.dataset.theme") == "dark"
    tab.emulate_media(media="screen")
