"""A network fine-tuned by P1's Eq. 6, with its card before and after: what consistency and accuracy did."""

from __future__ import annotations

import hashlib
import html
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from neuron_consistency.artifacts import SEAL, atomic_path, discard, read_json, write_json
from neuron_consistency.card.measure import KINDS, Measuring, Piece, Setting
from neuron_consistency.card.score import RECORD, claim, markdown, score
from neuron_consistency.card.tables import accuracy_table, estimate
from neuron_consistency.consistency.measure import comparison
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.data.labels import class_distances
from neuron_consistency.errors import ParameterError
from neuron_consistency.networks.load import Loaded, save_weights
from neuron_consistency.runtime import Runtime
from neuron_consistency.show import with_intervals
from neuron_consistency.statistics import Estimate
from neuron_consistency.taxonomy import correlation
from neuron_consistency.training.loop import train
from neuron_consistency.training.objective import Objective
from neuron_consistency.training.schedule import Schedule
from neuron_consistency.versions import TRAINING


def fine_tune(
    loaded: Loaded,
    training: ImageSet,
    images: ImageSet,
    out: Path,
    on: Runtime,
    *,
    objective: Objective,
    schedule: Schedule,
    held_out: float = 0.1,
    setting: Setting | None = None,
    labels: str | Path | None = None,
    keyed: bool = False,
) -> pd.DataFrame:
    """Trains the network in place and writes its weights, the cards `before/` and `after/`, and both side by side.

    Stopped and called again with the same arguments it goes on from the last epoch or pass.

    Args:
        training: the images it is trained on; their classes, as those of `images`, in the order of its outputs.
        images: those of the cards, never trained on.
        out: a new or empty folder, or one that the same call has begun.
        held_out: the share of the training images that each epoch is checked on instead.
        setting, labels: of the cards, see `score`.
        keyed: whether all this gets a folder of its own inside `out`, as in `score`.

    Returns:
        The comparison that `comparison.csv` holds, see `compare`.

    Raises:
        StoreError: the folder holds something else, or cannot be written.
        TrainingError, ParameterError: see `training.loop.train`.
    """
    setting = setting or Setting()
    a = correlation(class_distances(images, labels), sigma=setting.sigma)
    what = [training.fingerprint, training.classes, Measuring(loaded.model, images, a, on, setting).key, TRAINING]
    how = {"objective": asdict(objective), "schedule": asdict(schedule), "held_out": held_out, "card": asdict(setting)}
    key = hashlib.sha256(json.dumps([how, what]).encode()).hexdigest()[:16]
    out = out / key if keyed else out
    rest, held = training.split_off(held_out, seed=0)
    if len(rest) < schedule.batch_size:
        raise ParameterError(f"{len(rest)} training images are less than a batch of {schedule.batch_size}: lower it")
    if claim(out, key):
        return pd.read_csv(out / "comparison.csv")
    cards = {"setting": setting, "labels": labels}
    before = score(loaded.model, images, out / "before", on, source=f"{loaded.source}, before", **cards)  # type: ignore[arg-type]
    checkpoint = out / "training.checkpoint"

    def report(row: dict[str, Any], epochs: int) -> None:
        said = ", ".join(
            f"{name.replace('_', ' ')} {row[name]:.3f}" for name in ("loss", "validation_accuracy") if name in row
        )
        left = row["seconds"] * (epochs - row["epoch"])
        tqdm.write(f"epoch {row['epoch']} of {epochs}: {said}, {row['seconds']:.0f} s, {left:.0f} s left")

    history = train(
        loaded.model, rest, objective, schedule, device=on.device, validation=held if len(held) else None,
        checkpoint=checkpoint, checkpoint_key=key, report=report,
    )  # fmt: skip
    save_weights(loaded, out / f"weights{loaded.suffix}")
    write_json(out / "history.json", history)
    after = score(loaded.model, images, out / "after", on, source=f"{loaded.source}, after", **cards)  # type: ignore[arg-type]
    table = compare(before, after, images, loaded.model.last_layer)
    with atomic_path(out / "comparison.csv") as part:
        table.to_csv(part, index=False)
    told = (
        f"Trained for {schedule.epochs} epochs on {len(rest)} images: alpha {objective.alpha:g}, beta "
        f"{objective.beta:g}, epsilon {objective.epsilon * 255:.3g}/255, learning rate {schedule.learning_rate:g}. The "
        f"weights are in weights{loaded.suffix}. Accuracy is in per cent; differences are after less before."
    )
    shown = with_intervals(table.rename(columns={"low": "difference low", "high": "difference high"}))
    with atomic_path(out / "summary.md") as part:
        part.write_text(f"# What the training changed\n\n{told}\n\n{markdown(shown)}\n", "utf-8")
    with atomic_path(out / "index.html") as part:
        part.write_text(_side_by_side(loaded.source, told, shown), "utf-8")
    write_json(out / RECORD, SEAL | read_json(out / RECORD) | {"finished": True, "training": how})
    discard(checkpoint)
    return table


def compare(before: Mapping[str, Piece], after: Mapping[str, Piece], images: ImageSet, layer: str) -> pd.DataFrame:
    """What changed: one row an accuracy, in per cent, and a row each set and kind of label for U.

    Returns:
        measure, set, labels, before, after, and the difference with its interval (of U paired by images, of accuracy
        as if independent, which is too wide) and what it shows.
    """
    rows = []
    then, now = (accuracy_table(pieces, images).set_index("set") for pieces in (before, after))
    for name in now.index.intersection(then.index):
        one, other = (Estimate.read(table.loc[name], "accuracy") for table in (now, then))
        rows.append({"measure": "accuracy", "set": name, "labels": "true"} | comparison(one, other))
    for name in (name for name in after if name in before and "rows" in after[name]):
        for kind in KINDS:
            found = comparison(*(estimate(pieces, name, layer, kind) for pieces in (after, before)))
            rows.append({"measure": f"U above chance, {layer}", "set": name, "labels": kind} | found)
    names = {"U": "after", "U there": "before", "U is": "after is"}
    table = pd.DataFrame(rows).rename(columns=names)
    return table[["measure", "set", "labels", "before", "after", "difference", "low", "high", "after is"]]


def _side_by_side(source: str, told: str, table: pd.DataFrame) -> str:
    """A page with the comparison and the two cards below it."""
    head = f"<title>{html.escape(source)}, before and after</title>"
    frames = "".join(
        f'<iframe src="{name}/index.html" title="the card {name}"></iframe>' for name in ("before", "after")
    )
    style = (
        "body{font:16px/1.5 system-ui;margin:1rem;color-scheme:light dark}table{border-collapse:collapse}"
        "td,th{padding:.2em .6em;border-bottom:1px solid #8884;text-align:right}.table{overflow-x:auto}"
        ".cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(22rem,1fr));gap:1rem}"
        "iframe{width:100%;height:90vh;border:1px solid #8884}"
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"{head}<style>{style}</style></head><body><h1>{html.escape(source)}, before and after</h1>"
        f'<p>{html.escape(told)}</p><div class="table">{table.to_html(index=False, border=0)}</div>'
        f'<div class="cards">{frames}</div></body></html>'
    )
