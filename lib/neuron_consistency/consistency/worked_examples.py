"""Small examples and simulations behind the page on the metric: a subtree, one sum by hand, chance, bias, coverage."""

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
        nodes by wnid (name, x, y, leaf, on_path), y being minus the longest way down from the top; edges (child,
        parent, on_path).

    Raises:
        DatasetError: an unknown wnid.
    """
    found: set[tuple[str, str]] = set()  # (child, parent)
    for other in wnids[1:]:
        for a, b in pairwise(path(wnids[0], other)):
            found.add((a, b) if b in hypernyms(a) else (b, a))
    edges = pd.DataFrame(sorted(found), columns=["child", "parent"])

    def across(wnid: str) -> float:
        if wnid in wnids:
            return float(wnids.index(wnid))
        return float(np.mean([across(child) for child in edges["child"][edges["parent"] == wnid]]))

    def depth(wnid: str) -> int:
        return max((1 + depth(parent) for parent in edges["parent"][edges["child"] == wnid]), default=0)

    way = path(*highlight)
    names = list(dict.fromkeys([*wnids, *edges.to_numpy().flat]))
    rows = ((lemma(wnid), across(wnid), -depth(wnid), wnid in wnids, wnid in way) for wnid in names)
    nodes = pd.DataFrame(rows, index=names, columns=["name", "x", "y", "leaf", "on_path"])
    return nodes, edges.assign(on_path=edges["child"].isin(way) & edges["parent"].isin(way))


def consistency_terms(shares: Sequence[float], names: Sequence[str], correlation: Tensor) -> pd.DataFrame:
    """P1's Eq. 3 written out: the terms p_i a_ij p_j, whose sum is the consistency.

    Shape:
        shares: (K,) p; correlation: (K, K) A; result: a (K, K) table.
    """
    p = torch.tensor(shares, dtype=torch.float64)
    return pd.DataFrame((p[:, None] * correlation * p).numpy(), index=list(names), columns=list(names))


def random_neurons(
    labels: Tensor, correlation: Tensor, *, sizes: Sequence[int], repeats: int = 300, seed: int = 0
) -> pd.DataFrame:
    """V and U of neurons that fire on m images drawn blindly from a set: the mean over many draws and the middle 80 %.

    Args:
        labels: of the images, which are drawn without replacement.
        sizes: the numbers m.
        repeats: neurons of each m.

    Returns:
        One row an m, rising, and measure: m, measure, value, chance, low, high.

    Shape:
        labels: (N,); correlation: (K, K).
    """
    generator = torch.Generator().manual_seed(seed)
    level, rows = chance(labels, correlation), []
    for m in sorted(sizes):
        drawn = torch.rand(repeats, len(labels), generator=generator).topk(m, dim=1).indices
        counts = torch.zeros(repeats, len(correlation)).scatter_add_(1, labels[drawn], torch.ones(repeats, m))
        for measure, values, expected in (
            ("V", consistency(counts, correlation), float(level.biased(torch.tensor(m)))),
            ("U", unbiased_consistency(counts, correlation), level.unbiased),
        ):
            low, high = values.quantile(values.new_tensor([0.1, 0.9])).tolist()
            rows.append((m, measure, float(values.mean()), expected, low, high))
    return pd.DataFrame(rows, columns=["m", "measure", "value", "chance", "low", "high"])


def interval_coverage(
    preferences: Tensor, correlation: Tensor, *, images: int, repeats: int = 200, resamples: int = 100, seed: int = 0
) -> pd.DataFrame:
    """How often an interval of 95 % holds the true mean consistency, over simulated sets of images.

    Each image has a class at random, all equally likely, and fires each neuron with the probability that the
    neuron has for that class, independently. The truth is the mean over neurons of p^T A p with p their true class
    shares. Three intervals try to hold it: the library's jackknife for U and for V, and a plain bootstrap over images
    for U, which pairs a repeated image with itself.

    Args:
        preferences: probability that a neuron fires on an image of a class.
        images: in a simulated set.
        repeats: simulated sets.
        resamples: of the bootstrap.

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
