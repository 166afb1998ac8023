"""Small examples and simulations behind the page on the metric: a subtree, one sum by hand, chance, bias, coverage."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from neuron_consistency.consistency.measure import chance, consistency, mean_consistency, unbiased_consistency
from neuron_consistency.responses import JACKKNIFE_GROUPS, deal
from neuron_consistency.statistics import middle
from neuron_consistency.taxonomy import hypernyms, lemma, path


def subtree(wnids: Sequence[str], *, highlight: tuple[str, str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The part of WordNet that holds the shortest ways from the first class to every other, laid out to be drawn.

    Args:
        wnids: the classes, from left to right.
        highlight: two of them, whose way is marked.

    Returns:
        nodes (name, x, y, leaf, on_path), y being minus the longest way down from the top; edges (x, y, x_parent,
        y_parent, on_path).

    Raises:
        DatasetError: an unknown wnid.
    """
    edges: set[tuple[str, str]] = set()  # (child, parent)
    for other in wnids[1:]:
        for a, b in pairwise(path(wnids[0], other)):
            edges.add((a, b) if b in hypernyms(a) else (b, a))
    ordered = sorted(edges)

    def across(wnid: str) -> float:
        if wnid in wnids:
            return float(wnids.index(wnid))
        return float(np.mean([across(child) for child, parent in ordered if parent == wnid]))

    def depth(wnid: str) -> int:
        return max((1 + depth(parent) for child, parent in ordered if child == wnid), default=0)

    way = path(*highlight)
    steps = {frozenset(step) for step in pairwise(way)}
    nodes = pd.DataFrame(
        {
            "wnid": wnid,
            "name": lemma(wnid),
            "x": across(wnid),
            "y": -depth(wnid),
            "leaf": wnid in wnids,
            "on_path": wnid in way,
        }
        for wnid in dict.fromkeys([*wnids, *(end for edge in ordered for end in edge)])
    ).set_index("wnid")
    lines = pd.DataFrame(
        {
            "x": nodes["x"][child],
            "y": nodes["y"][child],
            "x_parent": nodes["x"][parent],
            "y_parent": nodes["y"][parent],
            "on_path": frozenset((child, parent)) in steps,
        }
        for child, parent in ordered
    )
    return nodes.reset_index(drop=True), lines


def consistency_terms(shares: Sequence[float], names: Sequence[str], correlation: Tensor) -> pd.DataFrame:
    """Eq. 3 written out: the terms p_i a_ij p_j, whose sum is the consistency.

    Shape:
        shares: (K,) p; correlation: (K, K) A; result: a (K, K) table.
    """
    p = torch.tensor(shares, dtype=torch.float64)
    return pd.DataFrame((p[:, None] * correlation * p).numpy(), index=list(names), columns=list(names))


def random_neurons(
    labels: Tensor, correlation: Tensor, *, sizes: Sequence[int], repeats: int = 300, seed: int = 0
) -> pd.DataFrame:
    """Neurons that fire on m images drawn blindly from a set: V and U over many draws, and their chance levels.

    Args:
        labels: of the images they are drawn from, without replacement.
        correlation: A of Eq. 2.
        sizes: the numbers m.
        repeats: neurons of each m.
        seed: of the draws.

    Returns:
        One row a draw: m, measure ("V" or "U"), value, chance.

    Shape:
        labels: (N,); correlation: (K, K).
    """
    generator = torch.Generator().manual_seed(seed)
    level = chance(labels, correlation)
    tables = []
    for m in sizes:
        drawn = torch.rand(repeats, len(labels), generator=generator).topk(m, dim=1).indices
        counts = torch.zeros(repeats, len(correlation)).scatter_add_(1, labels[drawn], torch.ones(repeats, m))
        for measure, values, expected in (
            ("V", consistency(counts, correlation), float(level.biased(torch.tensor(m)))),
            ("U", unbiased_consistency(counts, correlation), level.unbiased),
        ):
            tables.append(pd.DataFrame({"m": m, "measure": measure, "value": values.numpy(), "chance": expected}))
    return pd.concat(tables, ignore_index=True)


def random_neuron_bands(draws: pd.DataFrame) -> pd.DataFrame:
    """The mean over the draws of `random_neurons`, with their middle 80 %.

    Returns:
        One row a measure and m, m rising: measure, m, value, chance, low, high.
    """
    grouped = draws.sort_values("m", kind="stable").groupby(["measure", "m"], sort=False)
    ends = {"low": grouped["value"].quantile(0.1), "high": grouped["value"].quantile(0.9)}
    return grouped[["value", "chance"]].mean().assign(**ends).reset_index()


def interval_coverage(
    preferences: Tensor,
    correlation: Tensor,
    *,
    images: int,
    repeats: int = 200,
    resamples: int = 100,
    seed: int = 0,
) -> pd.DataFrame:
    """How often an interval of 95 % holds the true mean consistency, over simulated sets of images.

    Each image has a class at random, all equally likely, and fires each neuron with the probability that the
    neuron has for that class, independently. The truth is the mean over neurons of p^T A p with p their true class
    shares. Three intervals try to hold it: the library's jackknife for U and for V, and a plain bootstrap over images
    for U, which pairs a repeated image with itself.

    Args:
        preferences: probability that a neuron fires on an image of a class.
        correlation: A of Eq. 2.
        images: in a simulated set.
        repeats: simulated sets.
        resamples: of the bootstrap.
        seed: of everything.

    Returns:
        One row an interval: interval, truth, estimate (mean), coverage (share of the sets), width (mean).

    Shape:
        preferences: (C, K) in [0, 1]; correlation: (K, K).
    """
    generator = torch.Generator().manual_seed(seed)
    neurons, classes = preferences.shape
    truth = float(consistency(1e9 * preferences, correlation).mean())  # the counts of an endless set
    rows = []
    for _ in range(repeats):
        labels = torch.randint(0, classes, (images,), generator=generator)
        fired = torch.rand(images, neurons, generator=generator) < preferences[:, labels].T
        one_hot = torch.nn.functional.one_hot(labels, classes).float()
        per_image = (fired.float()[:, :, None] * one_hot[:, None]).flatten(1)  # (images, neurons x classes)
        counts = torch.zeros(JACKKNIFE_GROUPS, neurons * classes).index_add_(0, deal(labels), per_image)
        counts = counts.view(JACKKNIFE_GROUPS, neurons, classes)
        for name, unbiased in (("U, jackknife", True), ("V, jackknife", False)):
            found = mean_consistency(counts, correlation, unbiased=unbiased)
            rows.append((name, found.value, found.low, found.high))
        drawn = torch.randint(0, images, (resamples, images), generator=generator)
        weights = torch.zeros(resamples, images).scatter_add_(1, drawn, torch.ones(resamples, images))
        resampled = unbiased_consistency((weights @ per_image).view(resamples, neurons, classes), correlation)
        again = middle(resampled.nanmean(1))
        rows.append(("U, plain bootstrap over images", rows[-2][1], again.low, again.high))
    table = pd.DataFrame(rows, columns=["interval", "estimate", "low", "high"]).assign(truth=truth)
    table["coverage"] = table["low"].le(truth) & table["high"].ge(truth)
    table["width"] = table["high"] - table["low"]
    return table.groupby("interval", sort=False)[["truth", "estimate", "coverage", "width"]].mean().reset_index()
