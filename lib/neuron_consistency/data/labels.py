"""What classes mean to each other, from WordNet or from a table of one's own, and in which order a network has them."""

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from neuron_consistency import taxonomy
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.data.sources.base import display
from neuron_consistency.data.text import table_rows
from neuron_consistency.errors import DatasetError, ParameterError

FLAT, SYNSETS, PARENTS = "flat", ("class", "synset"), ("class", "parent")
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
    if head not in (SYNSETS, PARENTS) and len(rows[0]) != 2:
        return _square(images, rows, table)
    rows = rows[head in (SYNSETS, PARENTS) :]
    pairs = dict(zip(_once([row[0] for row in rows], table), ["".join(row[1:2]) for row in rows], strict=True))
    if head == PARENTS:
        return _tree(images, pairs, table)
    if head != SYNSETS and len({*pairs.values()}) < len(pairs):
        raise DatasetError(f"{table} gives several classes one synset. Or are these parents? {CURES}")
    return taxonomy.distance_matrix(_synsets(images, pairs)).double()


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
    if classes is None and outputs == 1000 and all(_keys(images, _outputs("imagenet")[2])):
        classes = "imagenet"
    if classes is None and outputs == images.num_classes:
        return images
    if classes is None:
        raise ParameterError(
            f"The network has {outputs} outputs, and {images.name} has {images.num_classes} classes. Say which class "
            "each output is (--classes): a set such as imagenet, or a file with a class a line."
        )
    names, synsets, places = _outputs(classes)
    if len(names) != outputs:
        raise DatasetError(f"{classes} lists {len(names)} classes, and the network has {outputs} outputs.")
    chosen = [places[key] for key in _keys(images, places, str(classes))]
    _once([names[place] for place in chosen], f"By the names of {classes}, {images.name}")
    own = dict(zip(chosen, images.synsets, strict=True))
    digest = hashlib.sha256(repr((images.fingerprint, names, synsets)).encode()).hexdigest()[:32]
    return replace(
        images, classes=names, synsets=tuple(wnid or own.get(place, "") for place, wnid in enumerate(synsets)),
        labels=torch.tensor(chosen)[images.labels], fingerprint=digest,
    )  # fmt: skip


def imagenet_outputs(images: ImageSet) -> list[int] | None:
    """Which of the thousand outputs of a network of ImageNet stand for the classes; None if some class has none.

    Shape:
        result: K, in 0..999.
    """
    places = _outputs("imagenet")[2]
    keys = _keys(images, places)
    return [places[key] for key in keys] if all(keys) else None


def _read(place: str | Path) -> list[list[str]]:
    try:
        return table_rows(Path(place).expanduser().read_bytes(), str(place))
    except OSError as error:
        raise DatasetError(f"{place} cannot be read ({error.strerror}). {CURES}") from error


def _once(names: Sequence[str], table: str) -> list[str]:
    """The names, where no two are the same."""
    counts = Counter(names)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise DatasetError(f"{table} has these classes more than once: {', '.join(twice[:5])}.")
    return [*counts]


def _outputs(classes: str | Path) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, int]]:
    """Names and synsets ("": not told) of a known set or of a file, in order, and the places of all they are called."""
    path = Path(classes).expanduser()
    if path.is_file():
        rows = [[", ".join(row)] for row in _read(path)] if path.suffix == ".txt" else _read(path)
        rows = rows[rows[0][0].lower() == "class" :]
        names = tuple(_once([row[0] for row in rows], str(classes)))
        wnids = [row[1] if len(row) > 1 else row[0] if re.fullmatch(r"n\d{8}", row[0]) else "" for row in rows]
        synsets = tuple(taxonomy.resolve(wnid) if wnid else "" for wnid in wnids)
    else:
        names, synsets = zip(*taxonomy.class_synsets(str(classes)).items(), strict=True)
    shown = display(names, synsets)
    return shown, synsets, {key: place for place, keys in enumerate(_called(shown, synsets)) for key in keys}


def _called(names: Sequence[str], synsets: Sequence[str]) -> list[tuple[str, ...]]:
    """What each of some classes may be called: its synset, if no other has it, its name, the name of its folder."""
    alone = [wnid if synsets.count(wnid) == 1 else "" for wnid in synsets]
    forms = [(name, name.replace(" ", "_"), name.replace("_", " ")) for name in names]
    return [(wnid or form[0], *form) for wnid, form in zip(alone, forms, strict=True)]


def _keys(images: ImageSet, known: Collection[str], table: str = "") -> list[str]:
    """By what each class of the images is known; "" for one that is not, unless a table must know all."""
    called = _called(images.classes, images.synsets)
    keys = [next((name for name in names if name in known), "") for names in called]
    if table and (missing := [name for name, key in zip(images.classes, keys, strict=True) if not key]):
        raise DatasetError(f"{table} lacks {len(missing)} of the classes: {', '.join(missing[:5])}.")
    return keys


def _synsets(images: ImageSet, table: Mapping[str, str]) -> list[str]:
    """The synset of each class: as the table says, or its own, or the one that its name stands for."""
    found = []
    for name, own, key in zip(images.classes, images.synsets, _keys(images, table), strict=True):
        try:
            found.append(taxonomy.resolve(table.get(key) or own or name))
        except DatasetError as error:
            raise DatasetError(f"No synset is known for {name!r}. {error} {CURES}") from error
    return found


def _tree(images: ImageSet, parents: Mapping[str, str], table: str) -> Tensor:
    """Edges between classes: as many as there are nodes above one of two, itself included, but not above the other."""

    def above(node: str) -> dict[str, None]:
        nodes = {node: None}
        while node := parents.get(node, ""):
            if node in nodes:
                raise DatasetError(f"{table} is no tree: {node!r} is above itself ({' > '.join([*nodes, node])}).")
            nodes[node] = None
        return nodes

    roots = {next(reversed(above(node))): None for node in parents}
    if len(roots) > 1:
        raise DatasetError(f"{table} has {len(roots)} roots: {', '.join([*roots][:5])}. Give all but one a parent.")
    ways = [above(key).keys() for key in _keys(images, {*parents, *parents.values()} - {""}, table)]
    return torch.tensor([[len(a ^ b) for b in ways] for a in ways], dtype=torch.float64)


def _square(images: ImageSet, rows: list[list[str]], table: str) -> Tensor:
    if uneven := [row[0] for row in rows if len(row) != len(rows[0])]:
        raise DatasetError(f"{table}: the row of {uneven[0]!r} is not as long as the first one. {CURES}")
    columns, names = _once(rows[0][1:], table), _once([row[0] for row in rows[1:]], table)
    keys = _keys(images, {*columns} & {*names}, table)
    cells = pd.DataFrame([row[1:] for row in rows[1:]], index=names, columns=columns).loc[keys, keys]
    values = cells.apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    for wrong, what in (
        (~np.isfinite(values) | (values < 0), "a finite number of at least 0"),
        (np.eye(len(keys), dtype=bool) & (values != 0), "0, that of a class to itself"),
        (~np.isclose(values, values.T, rtol=1e-6, atol=0), "the same in both directions"),
    ):
        for i, j in np.argwhere(wrong)[:1]:
            said = cells.to_numpy()[i, j]
            raise DatasetError(f"{table}: the distance {keys[i]!r} to {keys[j]!r}, {said}, is not {what}.")
    return torch.from_numpy((values + values.T) / 2)
