"""A network dissected beside its chance levels, on real and on adversarial images."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from neuron_consistency.data.broden import CATEGORIES, BrodenSet
from neuron_consistency.dissection.measure import (
    ImageAttack,
    dissect,
    dissection_size,
    unit_labels,
    unit_thresholds,
)
from neuron_consistency.dissection.overlap import Tally
from neuron_consistency.networks.models import Classifier
from neuron_consistency.statistics import share

REAL, SHUFFLED, RANDOM, SAME, ADVERSARIAL = (
    "real",
    "real, shuffled labels",
    "real, random weights",
    "real, those attacked",
    "adversarial",
)


@dataclass(frozen=True)
class Dissected:
    """One layer of a network, dissected on several sets of images.

    Attributes:
        tallies: by name of the set, REAL first.

    Shape:
        thresholds: (U,), those of the real images.
    """

    layer: str
    image_size: int
    thresholds: Tensor
    tallies: dict[str, Tally]

    def units(self, name: str, *, iou_threshold: float = 0.04, min_images: int = 10) -> pd.DataFrame:
        """`unit_labels` of one set; on a part of the images, `min_images` is lowered in proportion."""
        tally = self.tallies[name]
        wanted = math.ceil(min_images * tally.images / self.tallies[REAL].images)
        return unit_labels(tally, iou_threshold=iou_threshold, min_images=wanted)


def with_random_weights(model: Classifier, *, seed: int = 0) -> Classifier:
    """A copy of the network with all its modules initialised anew (PyTorch's defaults)."""
    copied = copy.deepcopy(model)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for module in copied.modules():
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
    return copied


def dissect_with_controls(
    model: Classifier,
    broden: BrodenSet,
    *,
    attack: ImageAttack,
    device: torch.device,
    attacked: int = 0,
    own_thresholds: bool = False,
    random_weights: Tally | None = None,
    layer: str | None = None,
    image_size: int = 0,
    quantile: float = 0.005,
    max_kept: int | None = None,
    batch_size: int = 32,
    precision: str = "auto",
    processes: int = 0,
    progress: bool = False,
) -> Dissected:
    """The rows of Table 2 for one network: real and adversarial images, and what chance gives.

    Args:
        model: the network.
        broden: the densely labelled set.
        attack: makes images adversarial, as `attacks.linf.least_likely`.
        device: where.
        attacked: so many of the images are attacked, and measured also as they are; 0 attacks all.
        own_thresholds: the adversarial images' thresholds from themselves, so that as many pixels are above them.
        random_weights: the tally of random weights, where another network of this architecture has given it.
        layer: None is the last one.
        image_size: side shown to the network; 0 is `dissection_size`.
        quantile, max_kept, batch_size, precision, processes, progress: see `measure.unit_thresholds`.

    Raises:
        ParameterError: see `measure.unit_thresholds`.

    Source: P1, Table 2; the chance levels are ours.
    """
    name = layer or model.last_layer
    size = image_size or dissection_size(model.to(device), name)
    common: dict[str, Any] = {
        "image_size": size,
        "device": device,
        "batch_size": batch_size,
        "precision": precision,
        "processes": processes,
        "progress": progress,
    }
    share: dict[str, Any] = {"quantile": quantile, "max_kept": max_kept}
    part = broden.head(attacked) if attacked else broden
    thresholds = unit_thresholds(model, name, broden, **common, **share)
    real = dissect(model, name, broden, thresholds=thresholds, chance=True, **common)
    if random_weights is None:
        blank = with_random_weights(model)
        blank_thresholds = unit_thresholds(blank, name, broden, **common, **share)
        random_weights = dissect(blank, name, broden, thresholds=blank_thresholds, **common)
    tallies = {REAL: real, SHUFFLED: real.shuffled(), RANDOM: random_weights}
    if len(part) < len(broden):
        tallies[SAME] = dissect(model, name, part, thresholds=thresholds, **common)
    levels = thresholds
    if own_thresholds:
        levels = unit_thresholds(model, name, part, attack=attack, **common, **share)
    tallies[ADVERSARIAL] = dissect(model, name, part, thresholds=levels, attack=attack, **common)
    return Dissected(name, size, thresholds, tallies)


def offered_concepts(tally: Tally, *, pixels: int, min_images: int) -> pd.DataFrame:
    """What can be found: by category the number of concepts, and of the median one the images and the share of pixels.

    Args:
        tally: of all images.
        pixels: of a label map.
        min_images: concepts in fewer images are left out.
    """
    table = tally.concepts.assign(
        images=tally.concept_images.numpy(),
        pixels=(100 * tally.concept_area.double() / (pixels * tally.images)).numpy(),
    )
    by_category = table[table["images"] >= min_images].groupby("category")
    return by_category.agg(
        concepts=("label", "size"),
        **{"images of the median": ("images", "median"), "its share of all pixels, %": ("pixels", "median")},
    ).reindex(list(CATEGORIES))


def kept_concepts(real: pd.DataFrame, adversarial: pd.DataFrame) -> dict[str, float]:
    """Of the units aligned on real images, how many are aligned with the same concept on adversarial ones, in per cent.

    Args:
        real, adversarial: from `unit_labels`, of one network.
    """
    aligned = real["aligned"]
    same = adversarial["aligned"] & (real["label"] == adversarial["label"])
    same &= real["category"].astype(object) == adversarial["category"].astype(object)
    return {"aligned": int(aligned.sum()), "of these the same, %": 100 * float(same[aligned].mean())}


def table_two(shares: pd.DataFrame, categories: Sequence[str]) -> pd.DataFrame:
    """Shares in per cent, a row a network and set, a column a category, with the interval in brackets.

    Args:
        shares: rows of `category_shares` with the columns model and images.
        categories: order of the columns.
    """
    percent = 100 * shares[["share", "low", "high"]]
    text = [f"{share:.1f} ({low:.1f}, {high:.1f})" for share, low, high in percent.to_numpy()]
    keys = ["model", "images"]
    wide = shares.assign(text=text).pivot(index=keys, columns="category", values="text")
    order = pd.MultiIndex.from_frame(shares[keys].drop_duplicates())
    return wide.reindex(order)[list(categories)]


def category_shares(units: pd.DataFrame) -> pd.DataFrame:
    """The share of a layer's units that are aligned with a concept of each category: a row of P1's Table 2.

    Each unit counts once, under its best concept, so shares add up to less than 1. The interval is Wilson's for a
    binomial share: it says how far the share of these units may lie from that of more units of the same kind;
    the spread between trainings is another question, for several seeds.

    Args:
        units: from `unit_labels`.

    Returns:
        One row a category: category, aligned (number), share, low, high.

    Source: P1, Table 2; the interval is ours.
    """
    aligned = {name: (units["aligned"] & (units["category"] == name)).to_numpy() for name in CATEGORIES}
    return pd.DataFrame(
        {"category": name, "aligned": int(hits.sum())} | share(hits).row("share", bare=True)
        for name, hits in aligned.items()
    )
