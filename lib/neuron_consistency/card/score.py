"""The card of a network: how consistent its neurons are, beside chance and controls, as tables and a page."""

from __future__ import annotations

import datetime
import math
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import torch
from tqdm import tqdm

from neuron_consistency.artifacts import SEAL, atomic_path, clear_leftovers, read_json, write_json
from neuron_consistency.card.measure import Measuring, Piece, Setting
from neuron_consistency.card.page import write_page
from neuron_consistency.card.pictures import strongest, ways
from neuron_consistency.card.tables import (
    accuracy_table,
    change_table,
    class_counts,
    layer_table,
    neuron_table,
    reading,
)  # fmt: skip
from neuron_consistency.consistency.ambiguity import REAL, WRONG
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.data.labels import class_distances
from neuron_consistency.errors import ParameterError, StoreError
from neuron_consistency.networks.models import Classifier
from neuron_consistency.runtime import Runtime, describe_device
from neuron_consistency.show import with_intervals
from neuron_consistency.taxonomy import correlation
from neuron_consistency.versions import current_versions

RECORD, PASSES = "card.json", "passes"
WRITTEN = ("neurons.csv", "layers.csv", "accuracy.csv", "summary.md", "index.html")


def score(
    model: Classifier, images: ImageSet, out: Path, on: Runtime, *, setting: Setting | None = None,
    labels: str | Path | None = None, source: str = "", keyed: bool = False,
) -> dict[str, Piece]:  # fmt: skip
    """Measures a network and writes its card: neurons.csv, layers.csv, accuracy.csv, summary.md, index.html, card.json.

    Stopped and called again with the same arguments it goes on; once finished, it only reads.

    Args:
        images: their classes in the order of the network's outputs.
        out: a new or empty folder, or one that the same call has begun.
        labels: what the distances between classes are, see `data.labels.class_distances`.
        source: what the network is, for people.
        keyed: whether the card gets a folder inside `out`, named by what is measured, beside those of other calls.

    Returns:
        What stays of every pass, by set.

    Raises:
        StoreError: the folder holds something else, or cannot be written.
        ParameterError: the network and the images do not go together.
    """
    setting = setting or Setting()
    if not isinstance(model, Classifier):
        raise ParameterError(f"a {type(model).__name__} is no classifier whose layers are known: make one with wrap")
    if model.num_classes != images.num_classes:
        raise ParameterError(
            f"{source or 'the network'} has {model.num_classes} outputs, the images {images.num_classes} classes"
        )
    a = correlation(class_distances(images, labels), sigma=setting.sigma)
    measuring = Measuring(model, images, a, on, setting)
    key = measuring.key
    out = out / key if keyed else out
    finished = claim(out, key) and all((out / name).exists() for name in WRITTEN)
    began = time.perf_counter()
    whole = sum(measuring.cost(name) for name in measuring.sets() if name != WRONG) * len(images)
    with tqdm(total=whole, unit=" passes of an image", desc="measuring", disable=finished) as bar:

        def report(work: int) -> None:
            bar.total = max(bar.total, bar.n + work)  # the images that it gets wrong come on top
            bar.update(work)

        pieces = measuring.run(out / PASSES, report)
    if finished:
        return pieces
    names = images.names if images.names is not None else [f"image {i}" for i in range(len(images))]
    shown = [str(name) for name in names]
    layers, neurons, accuracies = layer_table(pieces), neuron_table(pieces, shown), accuracy_table(pieces, images)
    for name, table in (("neurons", neurons), ("layers", layers), ("accuracy", accuracies)):
        with atomic_path(out / f"{name}.csv") as part:
            table.to_csv(part, index=False)
    facts = _facts(measuring, labels, source)
    facts += [("beware", text) for text in _doubts(measuring, accuracies)]
    said = reading(pieces, model.last_layer)
    with atomic_path(out / "summary.md") as part:
        changes = change_table(pieces, model.last_layer)
        part.write_text(_summary(facts, said, accuracies, changes, layers, model.last_layer), "utf-8")
    write_page(
        out / "index.html", title=source or model.architecture, facts=facts, accuracy=accuracies, layers=layers,
        neurons=neurons, reading=said, counts=class_counts(pieces),
        pictures=[strongest(model, images, on, pieces, epsilon=setting.epsilon)],
        classes=ways(images) if labels is None else [[name] for name in images.classes],
    )  # fmt: skip
    how = {"device": describe_device(on.device), "precision": on.precision, "torch": torch.__version__}
    what = {"source": source, "images": images.fingerprint, "setting": asdict(setting), "versions": current_versions()}
    ended = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    when = {"seconds": round(time.perf_counter() - began, 1), "at": ended}
    write_json(out / RECORD, SEAL | {"key": key, "finished": True, **what, **how, **when})
    return pieces


def claim(folder: Path, key: str) -> bool:
    """Takes a folder for the work of this key; whether that is finished already.

    Raises:
        StoreError: the folder is not empty, and what is there is not of this work.
    """
    record = folder / RECORD
    clear_leftovers(folder)
    if record.exists():
        try:
            found = read_json(record, key=str)
        except StoreError as error:
            raise StoreError(f"{record} is damaged, or not of a card: name a new folder") from error
        if found["key"] != key:
            raise StoreError(
                f"{folder} holds the card of another network, other images or another setting: name a new folder"
            )
        return bool(found.get("finished"))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StoreError(f"{folder} is not an empty folder: name a new one; nothing in it has been changed")
    write_json(record, SEAL | {"key": key, "finished": False})
    return False


def _facts(measuring: Measuring, labels: str | Path | None, source: str) -> list[tuple[str, str]]:
    """What was measured, and how, for people."""
    model, images, setting, on = measuring.model, measuring.images, measuring.setting, measuring.on
    numbers = [", ".join(f"{value:g}" for value in colours.flatten().tolist()) for colours in (model.mean, model.std)]
    attacks = ["FGSM", f"PGD in {setting.pgd_steps} steps" * bool(setting.pgd_steps), "noise"]
    attacks += [f"AutoAttack on {setting.auto_attack} images"] * bool(setting.auto_attack)
    size = f"{', '.join(filter(None, attacks))}: {setting.epsilon * 255:.3g}/255" if setting.epsilon else "none"
    before = ", read before their activations" if any(site.before for site in model.sites.values()) else ""
    active = f"the strongest {setting.quantile:g} of the real images, at least {setting.top_k}; an attacked image where"
    return [
        ("network", source or model.architecture),
        ("layers", f"{len(model.layers)}, with {sum(model.layers.values())} neurons{before}; last: {model.last_layer}"),
        ("images", f"{len(images)} of {images.num_classes} classes ({images.name}), {images.image_size} px"),
        ("normalised by", f"mean {numbers[0]}; std {numbers[1]}"),
        ("classes compared by", f"{labels or 'WordNet'}, sigma {setting.sigma:g}"),
        ("active", f"{active} the response is as strong"),
        ("attacks", size),
        ("measured on", f"{describe_device(on.device)}, {on.precision}"),
    ]


def _doubts(measuring: Measuring, accuracies: pd.DataFrame) -> list[str]:
    """What a reader has to know before the numbers are believed; each is also a warning."""
    real, images, setting, found = accuracies.iloc[0], measuring.images, measuring.setting, []
    if real["low"] <= 100 / images.num_classes:
        found.append(
            f"the network is right on {real['accuracy']:.1f} % of the images, which chance could be "
            f"({100 / images.num_classes:.1f} %): are the classes in the order of its outputs (--classes), and mean, "
            "std and image size its own?"
        )
    active = max(math.ceil(setting.quantile * len(images)), setting.top_k)
    if active > len(images) / 4:
        found.append(
            f"{min(active, len(images))} of {len(images)} images activate each neuron, so that U can hardly differ "
            "from chance: take more images, or a smaller top_k"
        )
    for text in found:
        warnings.warn(text, stacklevel=3)
    return found


EXPLAINED = """\
U is the mean correlation of two different images that activate a neuron, by the distance between their classes: 1 where
all are of one class. Chance is what a neuron reaches that fires at random; m is the mean number of active images of a
neuron (silent ones have fewer). Rows are means over neurons with intervals of 95 % over images; neurons that fewer than
two images activate are excluded, their share is in that column. Predicted labels are those that the network gives."""


def _summary(
    facts: Sequence[tuple[str, str]], said: str, accuracies: pd.DataFrame, changes: pd.DataFrame, layers: pd.DataFrame,
    last: str,
) -> str:  # fmt: skip
    """The card as a page of Markdown."""
    columns = ["U", "U low", "U high", "U chance", "excluded"]
    own = layers[layers["layer"] == last].set_index(["set", "labels"])[["images", "m", *columns]]
    every = layers[layers["set"] == REAL].set_index(["layer", "labels"])[columns]
    listed = "\n".join(f"- {name}: {value}" for name, value in facts)
    parts = ["# How consistent the neurons are", listed, said, EXPLAINED]
    for title, table in (
        ("Accuracy, in per cent", with_intervals(accuracies.set_index("set"), decimals=1).reset_index()),
        (f"The layer {last}", with_intervals(own).reset_index()),
        ("U above chance, less that of the real images", with_intervals(changes)),
        ("Every layer, on real images", with_intervals(every).reset_index()),
    ):
        parts += [f"## {title}", markdown(table)] * bool(len(table))
    return "\n\n".join(parts) + "\n"


def markdown(table: pd.DataFrame) -> str:
    """A table in Markdown; a bar in a name would end its cell."""
    rows = [list(table.columns), ["---"] * len(table.columns), *table.to_numpy().tolist()]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows)
