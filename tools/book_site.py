"""A Sphinx extension: what the search finds of a page, what a link to it shows, how references are labelled."""

import html
import re
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from docutils import nodes
from pybtex.database import Entry
from pybtex.plugin import register_plugin
from pybtex.style.formatting.unsrt import Style
from pybtex.style.labels import BaseLabelStyle
from sphinx.application import Sphinx
from sphinx.builders.html import StandaloneHTMLBuilder
from sphinx.config import Config

CARD = "_static/social_card.png"  # tools/social_card.py draws it
SHORTEST, LONGEST = 50, 300  # characters of a description
SPOKEN = re.compile(r"<(figcaption|caption)\b.*?</\1>", re.DOTALL)


class Pages(StandaloneHTMLBuilder):
    """The HTML builder, whose index for the search holds prose: no code, and of outputs only the captions."""

    def index_page(self, pagename: str, doctree: nodes.document, title: str) -> None:
        super().index_page(pagename, prose_of(doctree), title)


def prose_of(doctree: nodes.document) -> nodes.document:
    """A copy of a page without its code, and with nothing of raw HTML but the captions in it."""
    prose = doctree.deepcopy()
    for block in list(prose.findall(nodes.literal_block)):
        block.parent.remove(block)
    for raw in list(prose.findall(nodes.raw)):
        captions = [found.group() for found in SPOKEN.finditer(raw.astext())]
        raw.replace_self(nodes.raw("", " ".join(captions), format="html"))
    return prose


def description_of(doctree: nodes.document) -> str:
    """The first sentences of a page outside boxes, lists and tables, as many as a description needs, cut if long."""
    paragraphs = (each for each in doctree.findall(nodes.paragraph) if isinstance(each.parent, nodes.section))
    texts = (part for each in paragraphs for part in [*each.findall(nodes.Text), nodes.Text(" ")])
    text = " ".join("".join(text for text in texts if not isinstance(text.parent, nodes.raw)).split())  # no markup
    said = re.match(rf".{{{SHORTEST},}}?[.?!](?=\s|$)", text)
    sentence = said.group() if said else text
    return sentence if len(sentence) <= LONGEST else sentence[:LONGEST].rsplit(" ", 1)[0] + " …"


def describe_page(
    app: Sphinx, pagename: str, _template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Meta elements for search engines, and for whoever shows a link to the page."""
    title = app.env.titles[pagename].astext() if doctree else str(app.config.html_title)
    card = urljoin(app.config.html_baseurl, CARD) if app.config.html_baseurl else context["pathto"](CARD, 1)
    said = {"og:title": title, "og:type": "website", "og:site_name": app.config.html_title, "og:image": card}
    said |= {"og:image:width": "1200", "og:image:height": "630", "twitter:card": "summary_large_image"}
    if doctree and (text := description_of(doctree)):
        said |= {"description": text, "og:description": text}
    metas = (
        f'<meta {"property" if name.startswith("og:") else "name"}="{name}" content="{html.escape(value)}">'
        for name, value in said.items()
    )
    context["metatags"] = "\n".join([context.get("metatags", ""), *metas])


class AuthorYear(BaseLabelStyle):  # type: ignore[misc]  # pybtex has no types
    """Labels of the list of references as the text says them: "Dong et al., 2019"."""

    def format_labels(self, entries: list[Entry]) -> list[str]:
        return [self.label(entry) for entry in entries]

    def label(self, entry: Entry) -> str:
        names = [" ".join(person.last_names).strip("{}") for person in entry.persons["author"]]
        authors = f"{names[0]} et al." if len(names) > 2 else " and ".join(names)
        return f"{authors}, {entry.fields['year']}"


class References(Style):  # type: ignore[misc]
    """References by author and year, each with the label that a citation shows."""

    default_label_style = AuthorYear
    default_sorting_style = "author_year_title"


def rank_results(_app: Sphinx, config: Config) -> None:
    config.html_search_scorer = str(Path(__file__).with_name("search_rank.js"))


def setup(app: Sphinx) -> dict[str, Any]:
    register_plugin("pybtex.style.formatting", "author_year", References)
    app.add_builder(Pages, override=True)
    app.connect("config-inited", rank_results)
    app.connect("html-page-context", describe_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
