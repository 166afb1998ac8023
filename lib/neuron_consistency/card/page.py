"""The card as one self-contained page: the layers, U beside chance, and every neuron with its images."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid

from neuron_consistency.artifacts import atomic_path
from neuron_consistency.errors import ParameterError

HERE = Path(__file__)
SHEET, COLUMNS = 1024, 32  # thumbnails of a sheet, and of a line of it; page.js and page.css know both


def write_page(
    path: Path,
    *,
    title: str,
    facts: Sequence[tuple[str, str]],
    accuracy: pd.DataFrame,
    layers: pd.DataFrame,
    neurons: pd.DataFrame,
    tops: Mapping[str, Tensor],
    thumbnails: Mapping[str, Mapping[int, Tensor]],
    captions: Mapping[str, Mapping[int, tuple[str, str, str]]],
    reading: str = "",
) -> None:
    """Writes a page that needs no other file and no network, and in which no text from outside is markup.

    Args:
        facts: what was measured, as pairs of a term and its description.
        accuracy: set, images, and accuracy, low and high in per cent; one row a set.
        layers: layer, set, labels ("true" or "predicted") and the columns of `consistency.measure.consistency_row`.
        neurons: layer, neuron, U and any further numbers and texts; "U <set>", "U <set> predicted" and "m <set>" are
            those of a further set. NaN reads "not measured".
        tops: by set, the images of each neuron, strongest first; -1 for none.
        thumbnails, captions: by set and image; a caption is file name, true class and predicted class. Images that are
            in no top are left out.
        reading: what the numbers say, in words.

    Shape:
        tops: (rows of neurons, n) int64; thumbnails: (3, s, s) uint8, all of one size.

    Raises:
        ParameterError: a table of top images has other rows than `neurons`, or thumbnails have several sizes.
        StoreError: the page cannot be written.
    """
    if wrong := [name for name, rows in tops.items() if len(rows) != len(neurons)]:
        raise ParameterError(f"the top images of {wrong} must have one row for each of the {len(neurons)} neurons")
    tiles, pictures = _pictures(tops, thumbnails, captions)
    sheets = [_sheet(tiles[first : first + SHEET]) for first in range(0, len(tiles), SHEET)]
    data = {
        "title": title,
        "facts": [list(pair) for pair in facts],
        "reading": reading,
        "accuracy": _columns(accuracy),
        "layers": _columns(layers),
        "neurons": _columns(neurons),
        "tops": {name: rows.tolist() for name, rows in tops.items()},
        "pictures": pictures,
    }
    script = HERE.with_suffix(".js").read_text("utf-8")
    style = HERE.with_suffix(".css").read_text("utf-8") + "".join(
        f'.neuron-card .sheet{number} {{ background-image: url("data:image/jpeg;base64,{sheet}"); }}\n'
        for number, sheet in enumerate(sheets)
    )
    page = Template(HERE.with_suffix(".html").read_text("utf-8")).substitute(
        title=html.escape(title), style=style, script=script, data=_inert(data), script_hash=_hash(script),
        style_hash=_hash(style),
    )  # fmt: skip
    with atomic_path(path) as part:
        part.write_text(page, "utf-8", "replace")


def _columns(table: pd.DataFrame) -> dict[str, list[Any]]:
    """A table as JSON has it: by column, and null for what is no number."""
    known = table.replace([np.inf, -np.inf], np.nan).astype(object)
    return {str(name): column.where(column.notna(), None).tolist() for name, column in known.items()}


def _inert(data: Any) -> str:
    """JSON in which nothing ends or begins markup; other than ASCII is escaped too."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _hash(text: str) -> str:
    """By which the page's policy knows its own script and style; any other is refused."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _pictures(
    tops: Mapping[str, Tensor],
    thumbnails: Mapping[str, Mapping[int, Tensor]],
    captions: Mapping[str, Mapping[int, tuple[str, str, str]]],
) -> tuple[list[Tensor], dict[str, dict[int, list[Any]]]]:
    """The thumbnails in use, each once; and by set and image, the place of its thumbnail or null, and its caption."""
    tiles: list[Tensor] = []
    pictures: dict[str, dict[int, list[Any]]] = {}
    for name, rows in tops.items():
        pictures[name] = {}
        for index in sorted(set(rows.flatten().tolist()) - {-1}):
            tile = thumbnails.get(name, {}).get(index)
            place = None if tile is None else len(tiles)
            pictures[name][index] = [place, *captions.get(name, {}).get(index, ("", "", ""))]
            tiles += [] if tile is None else [tile]
    if len(sizes := {tuple(tile.shape) for tile in tiles}) > 1:
        raise ParameterError(f"thumbnails must have one size, these have {sorted(sizes)}")
    return tiles, pictures


def _sheet(tiles: Sequence[Tensor]) -> str:
    """Thumbnails side by side as one JPEG, in base64; a short line is filled with black."""
    blank = [tiles[0].new_zeros(tiles[0].shape)] * (-len(tiles) % COLUMNS)
    grid = make_grid([*tiles, *blank], nrow=COLUMNS, padding=0)
    buffer = io.BytesIO()
    Image.fromarray(grid.permute(1, 2, 0).numpy()).save(buffer, "JPEG", quality=80, optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()
