"""The tables of a card: every neuron, every layer, accuracy; and the sentence that reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from neuron_consistency.attacks.predictions import accuracy_row
from neuron_consistency.card.measure import AUTO_ATTACK, KINDS, Piece
from neuron_consistency.consistency.ambiguity import FGSM, NOISE, REAL, WRONG
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.statistics import Estimate

SHORT = {NOISE: "noise", WRONG: "misclassified"}  # in the heads of columns


def layer_table(pieces: Mapping[str, Piece]) -> pd.DataFrame:
    """One row a layer, set and kind of label: layer, set, labels, and `consistency.measure.consistency_row`."""
    rows = []
    for name, piece in pieces.items():
        for of, row in piece.get("rows", {}).items():
            layer, _, kind = of.rpartition("/")
            rows.append({"layer": layer, "set": name, "labels": kind} | row)
    return pd.DataFrame(rows)


def neuron_table(pieces: Mapping[str, Piece], names: Sequence[str]) -> pd.DataFrame:
    """One row a neuron of every layer.

    Returns:
        layer, neuron; of the real images m, V, U with its interval, both with chance, and U under predicted labels; of
        each further set "m <set>", "U <set>" and "U <set> predicted"; the classes that fire the neuron most; the names
        of its strongest real and FGSM images.

    Shape:
        names: (N,), of the images; (0,) where they have none.
    """
    real, tables = pieces[REAL], []
    for layer in real["thresholds"]:
        own = real["neurons"][f"{layer}/true"]
        u, margin = np.array(own["U"]), np.array(own["margin"])
        table: dict[str, object] = {"layer": layer, "neuron": np.arange(len(u))}
        table |= {"m": own["m"], "V": own["V"], "V chance": own["V chance"], "U": u, "U low": u - margin}
        table |= {"U high": u + margin, "U chance": real["rows"][f"{layer}/true"]["U chance"]}
        table["U predicted"] = real["neurons"][f"{layer}/predicted"]["U"]
        for name, piece in pieces.items():
            if name != REAL and "neurons" in piece:
                true, predicted = (piece["neurons"][f"{layer}/{kind}"] for kind in KINDS)
                short = SHORT.get(name, name)
                table |= {f"m {short}": true["m"], f"U {short}": true["U"], f"U {short} predicted": predicted["U"]}
        table["classes"] = real["classes"][layer]
        for name, head in ((REAL, "top images"), (FGSM, "top FGSM images")):
            if name in pieces and len(names):
                table[head] = ["; ".join(names[i] for i in top if i >= 0) for top in pieces[name]["top"][layer]]
        tables.append(pd.DataFrame(table))
    return pd.concat(tables, ignore_index=True)


def class_counts(pieces: Mapping[str, Piece]) -> dict[str, list[list[int]]]:
    """By "real", "FGSM" and "FGSM predicted", as far as measured, the classes of each neuron's active images.

    Returns:
        A list a neuron, in the order of `neuron_table`: classes, most images first, each followed by their number.
    """
    return {
        " ".join([name, kind][: 1 + (kind != "true")]): [
            pairs for of, rows in pieces[name]["counts"].items() if of.endswith(f"/{kind}") for pairs in rows
        ]
        for name, kind in ((REAL, "true"), (FGSM, "true"), (FGSM, "predicted"))
        if name in pieces
    }


def accuracy_table(pieces: Mapping[str, Piece], images: ImageSet) -> pd.DataFrame:
    """One row a set of all images: set, images, and accuracy in per cent with its Wilson interval."""
    rows = []
    for name, piece in pieces.items():
        if name != WRONG:
            said, labels = torch.tensor(piece["predictions"]), images.labels
            if name == AUTO_ATTACK:
                labels = labels[torch.tensor(piece["places"])]
            rows.append({"set": name, "images": len(said)} | accuracy_row(said, labels))
    return pd.DataFrame(rows)


def estimate(pieces: Mapping[str, Piece], name: str, layer: str, kind: str) -> Estimate:
    """The mean of U over the neurons of a layer less its chance level, with the replicates that pair it with another's.

    Labels that are given to few classes alone, as an attacked network does, have a chance level of their own.
    """
    row, replicates = (pieces[name][what][f"{layer}/{kind}"] for what in ("rows", "replicates"))
    level = row["U chance"]
    value, low, high = (row[column] - level for column in ("U", "U low", "U high"))
    return Estimate(value, low, high, row["excluded"], np.array(replicates) - level)


def change(pieces: Mapping[str, Piece], name: str, layer: str, kind: str) -> Estimate:
    """U above chance on a set, less the same on the real images, paired by images."""
    return estimate(pieces, name, layer, kind).minus(estimate(pieces, REAL, layer, kind))


def change_table(pieces: Mapping[str, Piece], layer: str) -> pd.DataFrame:
    """`change` of a layer, a row a set and kind of label: set, labels, difference with its interval, what it is."""
    rows = []
    for name in (name for name in pieces if name != REAL and "rows" in pieces[name]):
        for kind in KINDS:
            found = change(pieces, name, layer, kind)
            told: dict[str, object] = {
                **found.row("difference", bare=True),
                "U above chance is": found.verdict(above=0),
            }
            rows.append({"set": name, "labels": kind} | told)
    return pd.DataFrame(rows)


def reading(pieces: Mapping[str, Piece], layer: str) -> str:
    """What the numbers of a layer say, in two or three sentences, each decided by an interval alone."""
    row, real = pieces[REAL]["rows"][f"{layer}/true"], estimate(pieces, REAL, layer, "true")
    if row["excluded"] == 1:
        return f"No neuron of {layer} is activated by two images or more, so that none has a U."
    said = real.verdict(above=0, words=("above chance", "below chance", "not to be told from chance"))
    mean = _shown(Estimate.read(row, "U"))
    text = f"On real images the neurons of {layer} have a mean U of {mean}, {said} ({row['U chance']:.3f})."
    if said != "above chance":
        return text + " So they have no consistency that an attack could take."
    if FGSM not in pieces:
        return text
    changes = {kind: change(pieces, FGSM, layer, kind) for kind in KINDS}
    verbs = "falls", "rises", "does not measurably change"
    how = {kind: found.verdict(below=0, words=verbs) for kind, found in changes.items()}
    text += (
        f" Under FGSM, U above its chance level {how['true']} when the images go by their true labels (change "
        f"{_shown(changes['true'])}), and {how['predicted']} when they go by the labels that the network gives them "
        f"(change {_shown(changes['predicted'])})."
    )
    if how["predicted"] == "falls":
        part = changes["predicted"].value / min(changes["true"].value, changes["predicted"].value)
        if part < 0.5:
            return text + (
                f" So most of the change is that the neurons follow the network's decision; {part:.0%} of it is that "
                "what fires them belongs together less."
            )
        return text + " So what fires the neurons belongs together less: they have become ambiguous."
    if how["true"] == "falls":
        return text + " So the neurons follow the network's decision: what fires them belongs together as before."
    return text + " So the attack is not seen to make the neurons ambiguous."


def _shown(found: Estimate) -> str:
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"
