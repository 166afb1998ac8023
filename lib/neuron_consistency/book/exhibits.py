"""Figures and tables as the book shows them: numbered, captioned, described for those who cannot see, with a source."""

import base64
import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from neuron_consistency.book.tables import numbered_only, table_html
from neuron_consistency.errors import ParameterError
from neuron_consistency.plotting import png


@dataclass(frozen=True, repr=False)
class Exhibit:
    """What a cell ends with: HTML for a page, a line of text for a terminal."""

    html: str
    text: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


@dataclass
class Exhibits:
    """The exhibits of one notebook, numbered by its chapter in the order in which their names are first used.

    Attributes:
        notebook: its stem, which begins with the number of the chapter.
        numbers: given so far, by "fig" or "tab" and name.
    """

    notebook: str
    numbers: dict[str, dict[str, int]] = field(default_factory=lambda: {"fig": {}, "tab": {}})

    def figure(self, shown: Figure, name: str, caption: str, *, alt: str, sources: Sequence[str]) -> Exhibit:
        """A figure, which is closed.

        Args:
            name: of lower-case letters, digits and hyphens; the place of the figure on the page is "fig-<name>".
            caption: what to see in it, with units; `code` may be marked so.
            alt: what the picture shows, in words.
            sources: lines of HTML, from `stamps.source_lines`.

        Raises:
            ParameterError: the name is none, or caption or alt is empty.
        """
        if not alt.strip():
            raise ParameterError(f"figure {name!r}: alt is empty; say what the picture shows")
        title, link = self._title("fig", name, caption)
        picture = _webp(png(shown))
        plt.close(shown)
        width, height = Image.open(io.BytesIO(picture)).size
        image = (
            f'<img alt="{html.escape(alt)}" loading="lazy" width="{width}" height="{height}" '
            f'src="data:image/webp;base64,{base64.b64encode(picture).decode()}">'
        )
        below = f'<div class="below">{_folded(sources)}</div>'
        said = f"<figcaption>{link} {_prose(caption)}\n{below}</figcaption>"
        return Exhibit(
            f'<figure class="exhibit" id="fig-{name}">\n<div class="picture">{image}</div>\n{said}\n</figure>',
            f"{title}. {caption}",
        )

    def table(
        self,
        shown: pd.DataFrame,
        name: str,
        caption: str,
        *,
        decimals: int,
        sources: Sequence[str],
        exact: pd.DataFrame | None = None,
    ) -> Exhibit:
        """A table; see `tables.table_html`.

        Args:
            shown: numbers, or texts that are shown as they are.
            name: as of a figure; the place of the table is "tab-<name>".
            caption: what to see in it, with units.
            decimals: at most so many digits after the point.
            sources: lines of HTML, from `stamps.source_lines`.
            exact: the numbers behind a table of texts, for those who download it.

        Raises:
            ParameterError: the name is none, or the caption is empty, or the table has no column.
        """
        if not len(shown.columns):
            raise ParameterError(f"table {name!r} has no column")
        title, link = self._title("tab", name, caption)
        behind = shown if exact is None else exact
        text = behind.to_csv(index=not numbered_only(behind), lineterminator="\n")
        download = (
            f'<a class="csv" download="{self.notebook[:2]}-{name}.csv" aria-label="{title} as CSV" '
            f'href="data:text/csv;charset=utf-8;base64,{base64.b64encode(text.encode()).decode()}">CSV</a>'
        )
        return Exhibit(
            f'<figure class="exhibit" id="tab-{name}">\n<figcaption>{link} {_prose(caption)}</figcaption>\n'
            f'<div class="scroll" tabindex="0" role="region" aria-label="{title}">\n'
            f"{table_html(shown, decimals=decimals)}\n</div>\n"
            f'<div class="below">{download}{_folded(sources)}</div>\n</figure>',
            f"{title}. {caption}",
        )

    def _title(self, kind: str, name: str, caption: str) -> tuple[str, str]:
        """ "Figure 4.2", and the link with this text to the exhibit itself."""
        word = {"fig": "Figure", "tab": "Table"}[kind]
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
            raise ParameterError(f"{word} {name!r}: name it by lower-case letters and digits, joined by hyphens")
        if not caption.strip():
            raise ParameterError(f"{word} {name!r} has no caption: say what to see in it, with units")
        given = self.numbers[kind]
        chapter = self.notebook.partition("_")[0].lstrip("0") or "0"
        title = f"{word} {chapter}.{given.setdefault(name, len(given) + 1)}"
        return title, f'<a class="anchor" href="#{kind}-{name}">{html.escape(title)}</a>'


def _webp(picture: bytes) -> bytes:
    """A picture as WebP: with every pixel, or as photographs are kept, whichever has fewer bytes."""
    kinds: list[dict[str, object]] = [{"lossless": True}, {"quality": 90}]
    found = []
    for kind in kinds:
        buffer = io.BytesIO()
        Image.open(io.BytesIO(picture)).convert("RGB").save(buffer, "webp", **kind)
        found.append(buffer.getvalue())
    return min(found, key=len)


def _prose(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def _folded(sources: Sequence[str]) -> str:
    lines = "".join(f"<li>{line}</li>" for line in sources)
    return f'<details class="source"><summary>Source</summary><ul>{lines}</ul></details>'
