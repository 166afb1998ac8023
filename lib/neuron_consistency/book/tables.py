"""A table as HTML that a page can sort and fold, and that scrolls by itself where it is wide."""

import html
import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from neuron_consistency.show import MISSING, interval_columns, interval_text, number_text

IN_VIEW = 25  # rows; a page opens the others when asked
LONG = 20  # letters of a text that asks for room
NUMBER = re.compile(r"([-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?)(?: ?%)?(?: \(.*\))?")  # "0.31 (0.25 to 0.37)", "12 %"


@dataclass(frozen=True)
class Column:
    """A column as it is shown.

    Attributes:
        heads: its name, one part a level.
        texts: of its cells.
        values: what it is sorted by, to all digits; None where a cell holds no number.
        heading: whether its cells say what the rows are of.
    """

    heads: tuple[str, ...]
    texts: list[str]
    values: list[float | None]
    heading: bool = False

    @property
    def numeric(self) -> bool:
        """Whether it holds numbers, and nothing else but gaps."""
        told = [value for text, value in zip(self.texts, self.values, strict=True) if text not in ("", MISSING)]
        return bool(told) and None not in told

    @property
    def long(self) -> bool:
        """Whether it holds texts that would stand letter by letter in a narrow column."""
        return not self.numeric and max(map(len, self.texts), default=0) > LONG


def table_html(table: pd.DataFrame, *, decimals: int) -> str:
    """The table: row headers from its index, or from its first column where the index is mere numbering.

    Columns "X", "X low", "X high" become one, as in `show.with_intervals`. A cell without a number says that it was
    not measured. Rows after the 25th have the class "more"; the attribute data-value holds a number to all digits.

    Args:
        table: of numbers and texts, also of texts that begin with their number.
        decimals: at most so many digits after the point.
    """
    columns = [*_index_columns(table), *_columns(table, decimals)]
    if not any(column.heading for column in columns):
        columns[0] = Column(columns[0].heads, columns[0].texts, columns[0].values, heading=True)
    rows = zip(*(_cells(column, _repeated(columns, place)) for place, column in enumerate(columns)), strict=True)
    body = "".join(f"<tr{_more(place)}>{''.join(cells)}</tr>\n" for place, cells in enumerate(rows))
    return f"<table>\n<thead>\n{_head(columns)}</thead>\n<tbody>\n{body}</tbody>\n</table>"


def numbered_only(table: pd.DataFrame) -> bool:
    """Whether the index says nothing but the place of a row in some table."""
    index = table.index
    return index.nlevels == 1 and index.name is None and pd.api.types.is_integer_dtype(index)


def _index_columns(table: pd.DataFrame) -> Iterator[Column]:
    if numbered_only(table):
        return
    depth = table.columns.nlevels
    for level, name in enumerate(table.index.names):
        cells = [_cell(value, None) for value in table.index.get_level_values(level)]
        heads = ("",) * (depth - 1) + ("" if name is None else str(name),)
        yield Column(heads, [text for text, _ in cells], [value for _, value in cells], heading=True)


def _columns(table: pd.DataFrame, decimals: int) -> Iterator[Column]:
    bounded = interval_columns(table)
    bounds = {name for pair in bounded.values() for name in pair}
    for place, name in enumerate(table.columns):
        if name in bounds:
            continue
        heads = tuple(map(str, name)) if isinstance(name, tuple) else (str(name),)
        if name in bounded:
            rows = table[[name, *bounded[name]]].to_numpy(float).tolist()
            values = [None if math.isnan(value) else value for value, _, _ in rows]
            yield Column(heads, [interval_text(*row, decimals=decimals) for row in rows], values)
            continue
        column = table.iloc[:, place]
        cells = [_cell(value, _digits(column, decimals)) for value in column]
        yield Column(heads, [text for text, _ in cells], [value for _, value in cells])


def _digits(column: "pd.Series[Any]", most: int) -> int:
    """As many digits after the point as a column of numbers needs, at most so many."""
    if not pd.api.types.is_float_dtype(column):
        return most
    known = column.dropna()
    return next((few for few in range(most) if np.allclose(known, known.round(few), rtol=0, atol=1e-12)), most)


def _cell(value: object, decimals: int | None) -> tuple[str, float | None]:
    """The text of a cell and its number; without `decimals` a number keeps the digits that it needs."""
    if isinstance(value, bool | np.bool_):
        return ("yes" if value else "no"), None
    if isinstance(value, int | np.integer):
        return str(value), float(value)
    if isinstance(value, float | np.floating):
        number = float(value)
        few = decimals is None and math.isfinite(number)
        return (f"{number:g}" if few else number_text(number, decimals or 0)), None if math.isnan(number) else number
    text = str(value)
    if value is None or text in ("nan", "NaT", "<NA>"):
        return MISSING, None
    found = NUMBER.fullmatch(text)
    return text, float(found[1]) if found else None


def _repeated(columns: Sequence[Column], place: int) -> list[bool]:
    """For each cell of a row header, whether the row above has the same there and in all headers before it."""
    heads = [column for column in columns if column.heading]
    if place >= len(heads) - 1:  # what tells rows apart is said in each
        return [False] * len(columns[place].texts)
    labels = list(zip(*(column.texts for column in heads[: place + 1]), strict=True))
    return [False, *(above == row for above, row in itertools.pairwise(labels))][: len(labels)]


def _cells(column: Column, repeated: Sequence[bool]) -> Iterator[str]:
    tag = "th" if column.heading else "td"
    for text, value, again in zip(column.texts, column.values, repeated, strict=True):
        is_so = {"num": column.numeric, "gap": text == MISSING, "again": again, "long": column.long}
        kinds = " ".join(kind for kind, so in is_so.items() if so)
        marks = ' scope="row"' * column.heading + f' class="{kinds}"' * bool(kinds)
        marks += f' data-value="{value!r}"' if column.numeric and value is not None else ""
        shown = html.escape(text)
        yield f"<{tag}{marks}>{f'<span>{shown}</span>' if column.heading else shown}</{tag}>"


def _head(columns: Sequence[Column]) -> str:
    """The rows of column headers; neighbours under the same name share it."""
    depth = len(columns[0].heads)
    lines = []
    for level in range(depth - 1):
        cells = ""
        for heads, group in itertools.groupby(columns, key=lambda column: (column.heading, column.heads[: level + 1])):
            span = f' colspan="{len(list(group))}"'
            named = html.escape(heads[1][-1])
            cells += f'<th scope="colgroup"{span}>{named}</th>' if named else f"<td{span}></td>"
        lines.append(f"<tr>{cells}</tr>\n")
    last = [(html.escape(column.heads[-1]), ' class="num"' * column.numeric) for column in columns]
    cells = "".join(f'<th scope="col"{kind}>{name}</th>' if name else "<td></td>" for name, kind in last)
    return "".join(lines) + f"<tr>{cells}</tr>\n"


def _more(place: int) -> str:
    return ' class="more"' if place >= IN_VIEW else ""
