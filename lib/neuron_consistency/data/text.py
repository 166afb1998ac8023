"""Text files of datasets: lists and tables, read in one way."""

import csv
import io
import re

from neuron_consistency.errors import DatasetError


def text_of(data: bytes, name: str) -> str:
    """A file of text; a mark that it is UTF-8 is no part of it.

    Raises:
        DatasetError: it is not in UTF-8.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{name} is no text in UTF-8 ({error}): save it so.") from error


def is_number(text: str) -> bool:
    """Whether a cell is a whole number that any count or place may be."""
    return bool(re.fullmatch(r"\d{1,9}", text, re.ASCII))


def table_rows(data: bytes, name: str) -> list[list[str]]:
    """The rows of a table of text, without blank ones and without spaces around its cells.

    Tabs, semicolons or commas separate the cells: the first of these that the first line has.

    Raises:
        DatasetError: it is empty, or no table in UTF-8.
    """
    text = text_of(data, name)
    try:
        mark = next((mark for mark in "\t;" if mark in text.partition("\n")[0]), ",")
        table = csv.reader(io.StringIO(text, newline=""), delimiter=mark, skipinitialspace=True)
        rows = [row for line in table if any(row := [cell.strip() for cell in line])]
    except csv.Error as error:
        raise DatasetError(f"{name} is no table of text ({error}).") from error
    if not rows:
        raise DatasetError(f"{name} is empty.")
    return rows
