"""The atlas: every neuron of the last layers of several networks, on the page that a network's card is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from torch import Tensor

from neuron_consistency.card.measure import piece_of
from neuron_consistency.card.page import write_page
from neuron_consistency.card.pictures import PICTURES, strongest, ways
from neuron_consistency.card.tables import accuracy_table, class_counts, layer_table, neuron_table
from neuron_consistency.consistency.ambiguity import FGSM, REAL, Passes
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.networks.models import Classifier
from neuron_consistency.runtime import Runtime


def write_atlas(
    path: Path,
    models: Mapping[str, Classifier],
    passes: Mapping[str, Passes],
    images: ImageSet,
    on: Runtime,
    correlation: Tensor,
    *,
    epsilon: float,
    top_k: int,
    shown: int = 6,
    concepts: Mapping[str, pd.DataFrame] | None = None,
    facts: Sequence[tuple[str, str]] = (),
    reading: str = "",
    opened: Sequence[str] = (),
    back: tuple[str, str] | None = None,
) -> pd.DataFrame:
    """Writes the page of all neurons of the networks' last layers.

    Args:
        models, passes: by title; the passes of `ambiguity.measure_networks`.
        images: those of the passes, whose classes have synsets.
        epsilon, top_k: of the passes.
        shown: real images of a neuron, and as many adversarial ones.
        concepts: by title, `dissection.measure.unit_labels`.
        facts, reading, opened, back: see `write_page`; `opened` are titles.

    Shape:
        correlation: (K, K).

    Returns:
        The table that the page holds: `card.tables.neuron_table` with the network's title as its layer, and concept
        ("label (category)" or "none") and IoU.
    """
    most = 2 * PICTURES // len(models)  # so that the page stays of a size
    neurons, layers, accuracies, pictures = [], [], [], []
    counts: dict[str, list[list[int]]] = {}
    for title, one in passes.items():
        pieces = {name: piece_of(one.sets[name], images, correlation, top_k, shown) for name in (REAL, FGSM)}
        table = neuron_table(pieces, [] if images.names is None else [str(name) for name in images.names])
        if concepts is not None:
            units = concepts[title]
            named = units["label"].astype(str) + " (" + units["category"].astype(str) + ")"
            table["concept"] = named.where(units["aligned"].to_numpy(), "none").to_numpy()
            table["IoU"] = units["iou"].to_numpy()
        neurons.append(table.assign(layer=title))
        layers.append(layer_table(pieces).assign(layer=title))
        accuracy = accuracy_table(pieces, images)
        accuracies.append(accuracy.assign(set=title + ": " + accuracy["set"]))
        pictures.append(strongest(models[title], images, on, pieces, epsilon=epsilon, most=most))
        for name, rows in class_counts(pieces).items():
            counts.setdefault(name, []).extend(rows)
    whole = pd.concat(neurons, ignore_index=True)
    write_page(
        path, title="The atlas of neurons", facts=facts, accuracy=pd.concat(accuracies), layers=pd.concat(layers),
        neurons=whole, pictures=pictures, counts=counts, classes=ways(images), reading=reading, group="network",
        opened=opened, back=back,
    )  # fmt: skip
    return whole
