"""What classes mean to each other, from WordNet or from a table of one's own, and in which order a network has them."""

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from neuron_consistency import taxonomy
from neuron_consistency.data.archive import table_rows
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.data.sources.base import display
from neuron_consistency.errors import DatasetError, ParameterError

FLAT = "flat"
CURES = (
    f"Give labels (--labels): a table with the head class,synset, a table with the head class,parent (any tree), a "
    f"square table of distances, or {FLAT!r}, where no class is like another."
)


def class_distances(images: ImageSet, labels: str | Path | None = None) -> Tensor:
    """How far apart the classes are, for `taxonomy.correlation`.

    A table is a CSV or TSV file that calls a class by its name or its wnid:

    - with the head class,synset, or with two columns, no head and no synset twice: the synsets, as `taxonomy.resolve`
      takes them; a class that it lacks keeps its own;
    - with the head class,parent: a tree, whose inner nodes may have rows. The distance is the number of edges on the
      way over the nearest common ancestor;
    - a square one: the distances, with the classes in its first row and its first column.

    Args:
        images: their classes.
        labels: a table; "flat" sets all classes infinitely far apart; None takes the synsets of the set and,
            for a class without one, the synset that its name stands for.

    Shape:
        returns (K, K) float64, symmetric, zero on the diagonal.

    Raises:
        DatasetError: a class has no synset or is not in the table; the table is damaged, or its numbers are no
            distances, or it is no tree; flat classes have one image each, so that U is 0 whatever a neuron does.
    """
    if labels == FLAT:
        if int(images.labels.bincount().max()) < 2:
            raise DatasetError(
                f"U of flat classes is 0 for every neuron, since no class of {images.name} has two images: take more "
                "images of each class, or labels that say which classes are alike."
            )
        return torch.full((images.num_classes,) * 2, torch.inf, dtype=torch.float64).fill_diagonal_(0)
    if labels is None:
        return taxonomy.distance_matrix(_synsets(images, {})).double()
    rows, table = _read(labels), str(labels)
    head = tuple(cell.lower() for cell in rows[0][:2])
    if head == ("class", "parent"):
        return _tree(images, _pairs(rows[1:], table), table)
    if head == ("class", "synset") or len(rows[0]) == 2:
        pairs = _pairs(rows[head == ("class", "synset") :], table)
        if head != ("class", "synset") and (twice := _doubled(pairs.values())):
            raise DatasetError(f"{table} tells {twice} of several classes. Is it a synset or a parent? {CURES}")
        return taxonomy.distance_matrix(_synsets(images, pairs)).double()
    return _square(images, rows, table)


def for_outputs(images: ImageSet, outputs: int, classes: str | Path | None = None) -> ImageSet:
    """The same images under the classes of a network's outputs, in their order.

    Args:
        images: each of their classes is one of the network's.
        outputs: how many logits the network has.
        classes: a set of `taxonomy.class_synsets`, or a file with a class a line (its name or wnid), or with the
            columns class and synset. None is ImageNet's classes for 1000 outputs where the images are of these;
            otherwise the classes of the images in their own order.

    Raises:
        DatasetError: the file cannot be read, holds another number of classes or one twice, or lacks a class.
        ParameterError: no such set or file, or the classes of the outputs are not told.
    """
    if classes is None:
        known = _outputs("imagenet")
        if outputs == len(known[0]) and all(_keys(images, _places(*known))):
            classes = "imagenet"
        elif outputs == images.num_classes:
            return images
        else:
            raise ParameterError(
                f"The network has {outputs} outputs, and {images.name} has {images.num_classes} classes. Say which "
                "class each output is (--classes): a set such as imagenet, or a file with a class a line."
            )
    names, synsets = _outputs(classes)
    if len(names) != outputs:
        raise DatasetError(f"{classes} lists {len(names)} classes, and the network has {outputs} outputs.")
    places = _places(names, synsets)
    chosen = [places[key] for key in _found(images, places, str(classes))]
    if twice := _doubled(names[place] for place in chosen):
        raise DatasetError(f"Several classes of {images.name} are the same class of {classes}: {twice}.")
    own = dict(zip(chosen, images.synsets, strict=False))
    digest = hashlib.sha256(repr((images.fingerprint, names, synsets)).encode()).hexdigest()[:32]
    return replace(
        images, classes=names, synsets=tuple(wnid or own.get(place, "") for place, wnid in enumerate(synsets)),
        labels=torch.tensor(chosen)[images.labels], fingerprint=digest,
    )  # fmt: skip


def _read(place: str | Path) -> list[list[str]]:
    try:
        data = Path(place).expanduser().read_bytes()
    except OSError as error:
        raise DatasetError(f"{place} cannot be read ({error.strerror}). {CURES}") from error
    return table_rows(data, str(place))


def _outputs(classes: str | Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names and synsets of a known set or of a file, in order; "" for a class whose synset is not told."""
    path = Path(classes).expanduser()
    if not path.is_file():
        try:
            names, synsets = zip(*taxonomy.class_synsets(str(classes)).items(), strict=True)
        except DatasetError as error:
            raise ParameterError(f"classes={str(classes)!r} is no file, and no known set: {error}") from error
        return display(names, synsets), synsets
    rows = [[", ".join(row)] for row in _read(path)] if path.suffix == ".txt" else _read(path)
    rows = rows[rows[0][0].lower() == "class" :]
    wnids = [row[1] if len(row) > 1 else row[0] if re.fullmatch(r"n\d{8}", row[0]) else "" for row in rows]
    known = tuple(taxonomy.resolve(wnid) if wnid else "" for wnid in wnids)
    if twice := _doubled(row[0] for row in rows):
        raise DatasetError(f"{classes} has these classes more than once: {twice}.")
    return display([row[0] for row in rows], known), known


def _places(names: Iterable[str], synsets: Collection[str]) -> dict[str, int]:
    """What each of some classes is called, with its place."""
    return {key: place for place, keys in enumerate(_called(names, synsets)) for key in reversed(keys)}


def _called(names: Iterable[str], synsets: Collection[str]) -> list[tuple[str, ...]]:
    """What each of some classes may be called: its synset, if no other has it, its name, the name of its folder."""
    wnids = list(synsets)
    return [
        (*([wnid] if wnid and wnids.count(wnid) == 1 else []), name, name.replace(" ", "_"), name.replace("_", " "))
        for name, wnid in zip(names, wnids, strict=True)
    ]


def _keys(images: ImageSet, known: Collection[str]) -> list[str | None]:
    """By what each class of the images is known."""
    called = _called(images.classes, images.synsets)
    return [next((name for name in names if name in known), None) for names in called]


def _found(images: ImageSet, known: Collection[str], table: str) -> list[str]:
    """As `_keys`, where all must be known."""
    keys = _keys(images, known)
    if missing := [name for name, key in zip(images.classes, keys, strict=True) if key is None]:
        raise DatasetError(f"{table} lacks {len(missing)} of the classes: {', '.join(missing[:5])}.")
    return [key for key in keys if key is not None]


def _doubled(names: Iterable[str]) -> str:
    counts = pd.Series(list(names), dtype=object).value_counts()
    return ", ".join(counts.index[counts > 1][:5])


def _pairs(rows: list[list[str]], table: str) -> dict[str, str]:
    if twice := _doubled(row[0] for row in rows):
        raise DatasetError(f"{table} has these classes more than once: {twice}.")
    return {row[0]: "".join(row[1:2]) for row in rows}


def _synsets(images: ImageSet, table: Mapping[str, str]) -> list[str]:
    """The synset of each class: as the table says, or its own, or the one that its name stands for."""
    found, failures = [], {}
    for name, own, key in zip(images.classes, images.synsets, _keys(images, table), strict=True):
        try:
            found.append(taxonomy.resolve((table[key] if key else "") or own or name))
        except DatasetError as error:
            failures[name] = str(error)
    if failures:
        first = next(iter(failures.values()))
        raise DatasetError(f"No synset is known for {', '.join([*failures][:5])}. {first} {CURES}")
    return found


def _tree(images: ImageSet, parents: Mapping[str, str], table: str) -> Tensor:
    """Edges between classes. Two classes share as many nodes above them as their nearest common ancestor has."""

    def way(node: str) -> list[str]:
        nodes = {node: None}
        while node := parents.get(node, ""):
            if node in nodes:
                raise DatasetError(f"{table} is no tree: {node!r} is above itself ({' > '.join([*nodes, node])}).")
            nodes[node] = None
        return [*nodes]

    roots = dict.fromkeys(way(node)[-1] for node in parents)
    if len(roots) > 1:
        raise DatasetError(f"{table} has {len(roots)} roots: {', '.join([*roots][:5])}. Give all but one a parent.")
    ways = [way(key) for key in _found(images, {*parents, *parents.values()} - {""}, table)]
    place = {node: number for number, node in enumerate(dict.fromkeys(node for nodes in ways for node in nodes))}
    above = torch.zeros(len(ways), len(place), dtype=torch.float64)
    for row, nodes in zip(above, ways, strict=True):
        row[[place[node] for node in nodes]] = 1
    depth = above.sum(1)
    return depth[:, None] + depth - 2 * above @ above.T


def _square(images: ImageSet, rows: list[list[str]], table: str) -> Tensor:
    (_, *columns), names = rows[0], [row[0] for row in rows[1:]]
    if uneven := [row[0] for row in rows if len(row) != len(rows[0])]:
        raise DatasetError(f"{table}: the row of {uneven[0]!r} is not as long as the first one. {CURES}")
    if twice := _doubled(names) or _doubled(columns):
        raise DatasetError(f"{table} has these classes more than once: {twice}.")
    keys = _found(images, {*columns} & {*names}, table)
    cells = pd.DataFrame([row[1:] for row in rows[1:]], index=names, columns=columns).loc[keys, keys]
    values = cells.apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    for wrong, what in (
        (~np.isfinite(values) | (values < 0), "a finite number of at least 0"),
        (np.eye(len(keys), dtype=bool) & (values != 0), "0, that of a class to itself"),
        (~np.isclose(values, values.T, rtol=1e-6, atol=0), "the same in both directions"),
    ):
        if wrong.any():
            i, j = np.argwhere(wrong)[0]
            raise DatasetError(
                f"{table}: the distance {keys[i]!r} to {keys[j]!r}, {cells.to_numpy()[i, j]}, is not {what}."
            )
    return torch.from_numpy((values + values.T) / 2)
