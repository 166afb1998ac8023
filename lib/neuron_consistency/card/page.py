"""A card or an atlas as one self-contained page: layers or networks, U beside chance, every neuron with its images."""

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
from neuron_consistency.card.pictures import Strongest
from neuron_consistency.errors import ParameterError

HERE = Path(__file__)
QUALITY = 75  # of WebP
SHEET, COLUMNS = 1024, 32  # thumbnails of a sheet, and of a line of it; page.js and page.css know both


def write_page(
    path: Path,
    *,
    title: str,
    facts: Sequence[tuple[str, str]],
    accuracy: pd.DataFrame,
    layers: pd.DataFrame,
    neurons: pd.DataFrame,
    pictures: Sequence[Mapping[str, Strongest]],
    counts: Mapping[str, Sequence[Sequence[int]]] | None = None,
    classes: Sequence[Sequence[str]] = (),
    reading: str = "",
    group: str = "layer",
    opened: Sequence[str] = (),
    back: tuple[str, str] | None = None,
) -> None:
    """Writes a page that needs no other file and no network, and in which no text from outside is markup.

    Args:
        facts: what was measured, as pairs of a term and its description.
        accuracy: set, images, and accuracy, low and high in per cent; one row a set.
        layers: layer, set, labels ("true" or "predicted") and the columns of `consistency.measure.consistency_row`.
        neurons: layer, neuron, U and any further numbers and texts; "U <set>", "U <set> predicted" and "m <set>" are
            those of a further set; "concept" is "none" where a neuron has none. NaN reads "not measured".
        pictures: by set; one after the other they have the rows of `neurons`. Images in no top are left out.
        counts: by set ("real", "FGSM", "FGSM predicted") for each neuron the classes of its active images, most first,
            each followed by how many they are.
        classes: for each class the way to it from the root of a tree, its name at the end.
        reading: what the numbers say, in words.
        group: what a layer is called, such as "network" where the layers are those of several.
        opened: the layer that is open at first, and the one beside it; none is the last alone.
        back: address and words of a link away from the page.

    Raises:
        ParameterError: the top images of a set or `counts` have other rows than `neurons`, or thumbnails have several
            sizes.
        StoreError: the page cannot be written.
    """
    sets = list(dict.fromkeys(name for part in pictures for name in part))
    counts = counts or {}
    rows = {name: sum(len(part[name].tops) for part in pictures if name in part) for name in sets}
    rows |= {f"the counts of {name}": len(pairs) for name, pairs in counts.items()}
    if wrong := [name for name, found in rows.items() if found != len(neurons)]:
        raise ParameterError(f"the top images of {wrong} must have one row for each of the {len(neurons)} neurons")
    tiles, told, tops = _pictures(pictures, sets)
    sheets = [_sheet(tiles[first : first + SHEET]) for first in range(0, len(tiles), SHEET)]
    data = {
        "title": title,
        "group": group,
        "opened": list(opened),
        "facts": [list(pair) for pair in facts],
        "reading": reading,
        "accuracy": _columns(accuracy),
        "layers": _columns(layers),
        "neurons": _columns(neurons),
        "tops": tops,
        "regions": {name: [text for part in pictures for text in part[name].regions] for name in sets},
        "pictures": told,
        "counts": {name: list(pairs) for name, pairs in counts.items()},
        "classes": [list(way) for way in classes],
    }
    script = HERE.with_suffix(".js").read_text("utf-8")
    style = HERE.with_suffix(".css").read_text("utf-8") + "".join(
        f'.neuron-card .sheet{number} {{ background-image: url("data:image/webp;base64,{sheet}"); }}\n'
        for number, sheet in enumerate(sheets)
    )
    leave = "" if back is None else f'<p><a href="{html.escape(back[0])}">{html.escape(back[1])}</a></p>'
    page = Template(HERE.with_suffix(".html").read_text("utf-8")).substitute(
        title=html.escape(title), style=style, script=script, data=_inert(data), script_hash=_hash(script),
        style_hash=_hash(style), back=leave, group=html.escape(group), Group=html.escape(group.capitalize()),
        fold="open" if group == "layer" else "",
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
    parts: Sequence[Mapping[str, Strongest]], sets: Sequence[str]
) -> tuple[list[Tensor], list[list[Any]], dict[str, list[list[int]]]]:
    """The thumbnails in use, those that are the same once; of each picture the place of its thumbnail or null, and its
    caption; by set, for each neuron its pictures, -1 for none."""
    places: dict[bytes, int] = {}
    tiles: list[Tensor] = []
    pictures: list[list[Any]] = []
    tops: dict[str, list[list[int]]] = {name: [] for name in sets}
    for part in parts:
        for name, own in part.items():
            numbers = {-1: -1}
            for index in sorted(set(own.tops.flatten().tolist()) - {-1}):
                numbers[index] = len(pictures)
                place = None
                if (tile := own.thumbnails.get(index)) is not None:
                    place = places.setdefault(tile.numpy().tobytes(), len(tiles))
                    tiles += [tile] if place == len(tiles) else []
                pictures.append([place, *own.captions.get(index, ("", "", ""))])
            tops[name] += [[numbers[index] for index in row] for row in own.tops.tolist()]
    if len(sizes := {tuple(tile.shape) for tile in tiles}) > 1:
        raise ParameterError(f"thumbnails must have one size, these have {sorted(sizes)}")
    return tiles, pictures, tops


def _sheet(tiles: Sequence[Tensor]) -> str:
    """Thumbnails side by side as one WebP, in base64; a short line is filled with black."""
    blank = [tiles[0].new_zeros(tiles[0].shape)] * (-len(tiles) % COLUMNS)
    grid = make_grid([*tiles, *blank], nrow=COLUMNS, padding=0)
    buffer = io.BytesIO()
    Image.fromarray(grid.permute(1, 2, 0).numpy()).save(buffer, "WEBP", quality=QUALITY, method=4)
    return base64.b64encode(buffer.getvalue()).decode()
