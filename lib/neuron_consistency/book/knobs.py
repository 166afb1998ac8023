"""Live knobs of the pages: a slider whose numbers and bars follow it. What it starts with is in the HTML already.

V and U are linear in the correlations, and these depend on the distance alone. So a value is a sum over distances d of
a weight times exp(-d^2 / (2 sigma^2)), and the weights, a few numbers a row, are all that a page needs for any sigma.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from neuron_consistency.book.stamps import CLASS
from neuron_consistency.consistency.ambiguity import FGSM, Passes, consistency_table, measure_with_controls
from neuron_consistency.consistency.measure import chance, consistency, unbiased_consistency
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.errors import ParameterError
from neuron_consistency.networks.models import Classifier
from neuron_consistency.responses import Responses
from neuron_consistency.runtime import Runtime

SIGMAS = [n / 10 for n in range(5, 41)]  # of the slider
MEASURES = ("V", "V by chance", "U", "U by chance")
NONE = "not measured"  # knobs.js says the same

Weights = dict[str, list[float]]  # by column


@dataclass(frozen=True)
class Knob:
    """A slider above a table; a notebook shows it as HTML, book/_static/knobs.js moves it.

    Attributes:
        label: what the slider changes.
        positions: what it can be set to, by what the reader sees.
        start: the one it stands at first, by the same.
        columns: of the table, with their digits.
        rows: by what they are of; of each column one number a position or, where there are distances, one weight a
            distance. NaN reads "not measured".
        bar, mark: the columns that the bar of a row shows, and the line across it.
        of: the head above the rows' names.
        distances: in edges of the tree, rising from 0.
        own: the row that the reader makes: title, classes, counts, most, between (distances of the classes) and chance
            (weights).
        sources: what made the numbers, lines of HTML from `stamps.source_lines`.
    """

    label: str
    positions: dict[str, float]
    start: str
    columns: dict[str, int]
    rows: dict[str, Weights]
    caption: str
    bar: str
    mark: str
    of: str
    distances: list[int] = field(default_factory=list)
    own: dict[str, Any] = field(default_factory=dict)
    sources: Sequence[str] = ()

    def value(self, row: str, column: str, position: str) -> float:
        """What the table shows there, before rounding."""
        numbers = self.rows[row][column]
        if not self.distances:
            return numbers[list(self.positions).index(position)]
        spread = 2 * self.positions[position] ** 2
        return sum(w * math.exp(-d * d / spread) for w, d in zip(numbers, self.distances, strict=True))

    def _full(self) -> float:
        """What the whole width of a bar stands for: 1 where the reader makes a row, else a little above the largest."""
        seen = (
            self.value(row, column, at)
            for row in self.rows
            for column in (self.bar, self.mark)
            for at in self.positions
        )
        return 1.0 if self.own else math.ceil(20 * max((value for value in seen if value > 0), default=1.0)) / 20

    def _repr_html_(self) -> str:
        full = self._full()
        data = {
            "label": self.label,
            "positions": list(self.positions),
            "values": list(self.positions.values()),
            "start": list(self.positions).index(self.start),
            "digits": list(self.columns.values()),
            "columns": list(self.columns),
            "rows": [[list(map(_or_none, row[column])) for column in self.columns] for row in self.rows.values()],
            "bar": list(self.columns).index(self.bar),
            "mark": list(self.columns).index(self.mark),
            "full": full,
            "distances": self.distances,
            "own": self.own,
        }
        told = json.dumps(data, allow_nan=False).replace("<", r"\u003c")
        heads = "".join(f'<th scope="col">{escape(column)}</th>' for column in self.columns)
        return (
            f'<div class="knob" role="group" aria-label="{escape(self.caption)}">'
            f'<output aria-live="polite">{escape(self.label)} = {escape(self.start)}</output>'
            f"<table><caption>{escape(self.caption)}</caption>"
            f'<thead><tr><th scope="col">{escape(self.of)}</th>{heads}</tr></thead>'
            f"<tbody>{''.join(self._line(row, full) for row in self.rows)}</tbody></table>"
            f'<p class="knob-legend">Bar: {escape(self.bar)}, its whole width is {full:g}. '
            f"Line: {escape(self.mark)}.</p>"
            f'<p class="{CLASS}">{"; ".join(self.sources)}</p>'
            f'<script type="application/json">{told}</script></div>'
        )

    def _line(self, row: str, full: float) -> str:
        values = {column: self.value(row, column, self.start) for column in self.columns}
        cells = "".join(
            f"<td>{NONE if math.isnan(value) else f'{value:.{self.columns[column]}f}'}</td>"
            for column, value in values.items()
        )
        bar, mark = (
            f"{max(0.0, min(1.0, 0.0 if math.isnan(values[name]) else values[name] / full)):.2%}"
            for name in (self.bar, self.mark)
        )
        return (
            f'<tr><th scope="row">{escape(row)}</th>{cells}</tr>'
            f'<tr class="knob-bar" aria-hidden="true"><td colspan="{len(values) + 1}"><svg>'
            f'<rect class="knob-all" width="100%" height="100%"/><rect class="knob-value" style="width:{bar}"'
            f' height="100%"/><rect class="knob-mark" style="x:{mark}" width="3" height="100%"/></svg></td></tr>'
        )


def _or_none(number: float) -> float | None:
    return None if math.isnan(number) else number


def neuron_weights(counts: Tensor, images: Tensor, distances: Tensor) -> Weights:
    """What each distance weighs in V, in U, and in what chance gives for both, in the mean over neurons.

    Neurons that fewer than two images activate are left out; NaN where no other is.

    Shape:
        counts: (C, K) active images by neuron and class; images: (K,) images of the set by class; distances: (K, K).

    Returns:
        By the names of MEASURES, one weight for each of `torch.unique(distances)`.
    """
    steps = torch.unique(distances)
    same = (steps == 0).to(torch.float64)

    def split(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """1/m, V and U of these counts: V and U by the distances that they are made of."""
        rows = rows[rows.sum(-1) >= 2]
        m = rows.sum(-1, keepdim=True).to(torch.float64)
        biased = torch.stack([consistency(rows, distances == step) for step in steps], -1)
        return 1 / m, biased, (m * biased - same) / (m - 1)

    inverse, biased, unbiased = (part.mean(0) for part in split(counts))
    level = split(images[None])[2].mean(0)
    found = (biased, inverse * same + (1 - inverse) * level, unbiased, level)
    return {name: weights.tolist() for name, weights in zip(MEASURES, found, strict=True)}


def counted(responses: Responses, layer: str, kind: str) -> tuple[Tensor, Tensor]:
    """The counts of a layer's neurons, (C, K), and of the images of the set by the same kind of label, (K,)."""
    named = responses.named(kind).cpu()
    counts = responses.layers[layer].counts[kind].sum(0)
    return counts, torch.bincount(named, minlength=counts.shape[-1])


def sigma_knob(
    rows: Mapping[str, tuple[Tensor, Tensor]],
    distances: Tensor,
    *,
    sigma: float,
    caption: str,
    of: str,
    digits: int = 3,
    classes: Sequence[str] = (),
    own: Sequence[int] = (),
) -> Knob:
    """V, U and their chance levels for any sigma, as exact as Python's.

    Args:
        rows: by what they are of: active images by neuron and class, and images of the set by class; see `counted`.
        sigma: where the slider starts.
        classes, own: names, and the counts of a neuron that the reader may change; its set is that of the first row.

    Shape:
        distances: (K, K), whole numbers.

    Raises:
        ParameterError: there are other numbers of names and counts than classes.
    """
    if own and not len(own) == len(classes) == len(distances):
        raise ParameterError(f"{len(distances)} classes need as many names and counts, not {len(classes)}, {len(own)}")
    images = next(iter(rows.values()))[1]
    tables = {name: neuron_weights(*row, distances) for name, row in rows.items()}
    made: dict[str, Any] = {}
    if own:
        title = "your neuron"
        mine = neuron_weights(torch.tensor([list(own)]), images, distances)
        tables = {title: mine, **tables}
        made = {"classes": list(classes), "counts": list(own), "most": images.tolist()}
        made |= {"between": distances.tolist(), "chance": mine["U by chance"]}
    positions = {f"{value:g}": value for value in sorted({*SIGMAS, sigma})}
    columns = dict.fromkeys(MEASURES, digits)
    steps = torch.unique(distances).tolist()
    return Knob("sigma", positions, f"{sigma:g}", columns, tables, caption, "U", "U by chance", of, steps, made)


def steps_knob(
    label: str, tables: Mapping[str, pd.DataFrame], *, start: str, columns: Mapping[str, int], bar: str, mark: str,
    caption: str, of: str,
) -> Knob:  # fmt: skip
    """What a notebook measured at a few values of a parameter; the page switches between them.

    Args:
        tables: by the value as the reader sees it, in order; the same rows in each, indexed by what they are of.
        columns: those shown, with their digits.
        bar, mark: two of them.

    Raises:
        ParameterError: the tables have other rows than the first.
    """
    (first, *others) = tables.values()
    if any(list(table.index) != list(first.index) for table in others):
        raise ParameterError("the tables of a knob must have the same rows in the same order")
    rows = {
        str(name): {column: [float(table[column].iloc[at]) for table in tables.values()] for column in columns}
        for at, name in enumerate(first.index)
    }
    positions = {name: float(at) for at, name in enumerate(tables)}
    return Knob(label, positions, start, dict(columns), rows, caption, bar, mark, of)


def top_k_tables(
    one: Passes, sets: Sequence[tuple[str, str]], correlation: Tensor, top_k: int
) -> dict[str, pd.DataFrame]:
    """V, U and their chance levels, means over neurons, of the k strongest images of each, by k up to `top_k`.

    Args:
        sets: names of the passes' sets, each with a kind of label.

    Shape:
        correlation: (K, K).
    """
    tables = {}
    for k in sorted({*(k for k in (2, 3, 5, 10, 20, 50) if k < top_k), top_k}):
        rows = {}
        for name, kind in sets:
            counts = one.sets[name].top_counts(one.layer, kind, k).sum(0)
            level = chance(one.sets[name].named(kind), correlation)
            values = (consistency(counts, correlation), level.biased(counts.sum(-1)))
            found = [*(float(value.nanmean()) for value in values)]
            found += [float(unbiased_consistency(counts, correlation).nanmean()), level.unbiased]
            rows[f"{name}, {kind} labels"] = dict(zip(MEASURES, found, strict=True))
        tables[str(k)] = pd.DataFrame.from_dict(rows, orient="index")
    return tables


def epsilon_tables(
    model: Classifier, images: ImageSet, on: Runtime, epsilons: Sequence[float], correlation: Tensor, **how: Any
) -> dict[str, pd.DataFrame]:
    """U under both kinds of label with its chance level, and accuracy in per cent, of FGSM images, by their epsilon.

    Args:
        how: quantile and top_k, see `responses.respond`.

    Shape:
        correlation: (K, K).
    """
    tables = {}
    for epsilon in epsilons:
        one = measure_with_controls(model, images, on, epsilon=epsilon, controls=False, **how)
        rows = consistency_table({"": one}, correlation, equal_m=how["top_k"]).rename(
            columns={"U chance": "U by chance"}
        )
        rows = rows[rows["set"] == FGSM].assign(**{"accuracy, %": float(one.right(FGSM).mean())})
        tables[f"{255 * epsilon:g}/255"] = rows.set_index(rows["labels"] + " labels")
    return tables
