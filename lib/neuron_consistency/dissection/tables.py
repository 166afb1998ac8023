"""Tables of a chapter of dissections: Table 2, what it sums up to, and what single neurons stand for."""

import math
from collections.abc import Collection, Mapping

import pandas as pd
import torch
from torch import Tensor

from neuron_consistency.data.broden import CATEGORIES
from neuron_consistency.dissection.controls import ADVERSARIAL, REAL, SAME, Dissected, shuffled
from neuron_consistency.dissection.measure import unit_labels
from neuron_consistency.dissection.overlap import Overlap
from neuron_consistency.statistics import Estimate, mean, mean_over_seeds, share

Units = Mapping[tuple[str, str], pd.DataFrame]  # (network, set of images) -> tables of `unit_labels`, by column draw
LOW, HIGH = ("color", "texture", "material"), ("scene", "part", "object")  # levels of concepts, as P1 has them


def labelled_units(
    dissected: Mapping[str, Dissected], *, iou_threshold: float = 0.04, min_images: int = 10
) -> dict[tuple[str, str], pd.DataFrame]:
    """`unit_labels` by network and set, the draws of a set (see `Dissected`) below each other with the column draw.

    On a part of the images, `min_images` is lowered in proportion.
    """
    found = {}
    for title, one in dissected.items():
        for name, overlaps in one.overlaps.items():
            wanted = math.ceil(min_images * overlaps[0].images / one.overlaps[REAL][0].images)
            found[title, name] = pd.concat(
                (
                    unit_labels(overlap, iou_threshold=iou_threshold, min_images=wanted).assign(draw=draw)
                    for draw, overlap in enumerate(overlaps)
                ),
                ignore_index=True,
            )
    return found


def aligned_with(labels: pd.DataFrame, categories: Collection[str] = CATEGORIES) -> Tensor:
    """Which units are aligned with a concept of these categories.

    Shape:
        result: (D, U) float64 of 0 and 1, a row a draw.
    """
    hits = labels["aligned"] & labels["category"].isin(categories)
    return torch.tensor(hits.to_numpy(float)).view(labels["draw"].nunique(), -1)


def above_chance(units: Units, title: str, name: str, categories: Collection[str] = CATEGORIES) -> Tensor:
    """In per cent, whether units are aligned with a concept of these categories less whether they are by chance.

    Shape:
        result: (S, D, U) float64 of S networks, several where weights are random, and D exchanges of labels.
    """
    own, chance = (aligned_with(units[title, images], categories) for images in (name, shuffled(name)))
    return 100 * (own[:, None] - chance.view(len(own), -1, own.shape[1]))


def mean_above_chance(values: Tensor) -> Estimate:
    """The mean of `above_chance` with an interval that covers other units, other networks and other images.

    Units see the same images, so that one exchange of labels moves the alignment of many. If labels meant nothing, the
    images' own labels would be one more exchange: their distance from the mean of D exchanges has 1 + 1/D times the
    variance of one. Of a single exchange nothing is known about that, and the interval is NaN.

    Shape:
        values: (S, D, U), of the same exchanges for all networks.

    Source: ours; the exchanges are those of a permutation test.
    """
    found, drawn = mean_over_seeds(values.mean(1)), mean(values.mean((0, 2)))
    margin = math.hypot(found.high - found.value, (drawn.high - drawn.value) * math.sqrt(values.shape[1] + 1))
    return Estimate(found.value, found.value - margin, found.value + margin)


def before_attack(units: Units) -> str:
    """The set of the images that were attacked, as they were before: a part of the real ones, or all of them."""
    return SAME if any(name == SAME for _, name in units) else REAL


def offered_concepts(overlap: Overlap, label_size: tuple[int, int], *, min_images: int) -> pd.DataFrame:
    """What can be found: by category the number of concepts, and of the median one the images and the share of pixels.

    Args:
        overlap: of all images.
        label_size: of a label map.
        min_images: concepts in fewer images are left out.
    """
    pixels = label_size[0] * label_size[1] * overlap.images
    table = overlap.concepts.assign(
        images=overlap.concept_images.numpy(), pixels=(100 * overlap.concept_area.double() / pixels).numpy()
    )
    by_category = table[table["images"] >= min_images].groupby("category")
    return by_category.agg(
        concepts=("label", "size"),
        **{"images of the median": ("images", "median"), "its share of all pixels, %": ("pixels", "median")},
    ).reindex(list(CATEGORIES))


def category_shares(units: Units) -> pd.DataFrame:
    """The share of units that are aligned with a concept of each category: P1's Table 2 in rows.

    Each unit counts once, under its best concept, so shares add up to less than 1. The interval is Wilson's for a
    binomial share: it says how far the share of these units may lie from that of more units of the same kind;
    the spread between trainings is another question, for several seeds. Where a set has several draws that differ, the
    interval also covers other draws: other networks with random weights, other exchanges of labels.

    Returns:
        One row a network, set and category: category, aligned (number, the mean over draws), share, low, high, model,
        images.

    Source: P1, Table 2; the interval is ours.
    """
    rows = []
    for (title, images), labels in units.items():
        for name in CATEGORIES:
            hits = aligned_with(labels, [name])
            row = {"category": name, "aligned": float(hits.sum()) / len(hits)} | _share(hits).row("share", bare=True)
            rows.append(row | {"model": title, "images": images})
    return pd.DataFrame(rows)


def table_two(shares: pd.DataFrame) -> pd.DataFrame:
    """`category_shares` in per cent, a row a network and set, a column a category, the interval in brackets."""
    percent = 100 * shares[["share", "low", "high"]]
    text = [f"{value:.1f} ({low:.1f}, {high:.1f})" for value, low, high in percent.to_numpy()]
    keys = ["model", "images"]
    wide = shares.assign(text=text).pivot(index=keys, columns="category", values="text")
    return wide.reindex(pd.MultiIndex.from_frame(shares[keys].drop_duplicates()))[list(CATEGORIES)]


def summarised(units: Units, dissected: Mapping[str, Dissected]) -> pd.DataFrame:
    """By network and set: images counted, units aligned with anything, their best IoU, units that have a mask at all.

    The interval is that of `category_shares`. Where few units have a mask, most are silent or respond alike everywhere,
    and that few are aligned says nothing.
    """
    rows = {}
    for (title, name), labels in units.items():
        found = _share(aligned_with(labels))
        percent = {column: 100 * value for column, value in found.row("aligned, %").items()}
        row = {"counted": dissected[title].overlaps[name][0].images} | percent
        rows[title, name] = row | {
            "mean best IoU": labels["iou"].mean(),
            "with a mask, %": 100 * labels["masked"].mean(),
        }
    table = pd.DataFrame.from_dict(rows, orient="index").astype({"counted": int})
    return table.rename_axis(["model", "images"])


def _share(hits: Tensor) -> Estimate:
    """The share of hits with its interval, see `category_shares`.

    Shape:
        hits: (D, U) of 0 and 1.
    """
    if bool((hits == hits[0]).all()):
        return share(hits[0])
    found = mean_over_seeds(hits)
    return Estimate(found.value, max(found.low, 0.0), min(found.high, 1.0))


def changes_under_attack(units: Units) -> pd.DataFrame:
    """By network, the share of units aligned, in per cent, before and after the attack, and the change.

    Then the same above the chance level of these very images, which differs before and after.
    """
    sets, rows = (before_attack(units), ADVERSARIAL), {}
    for title in dict.fromkeys(title for title, _ in units):
        every = [100 * float(aligned_with(units[title, name]).mean()) for name in sets]
        above = [float(above_chance(units, title, name).mean()) for name in sets]
        rows[title] = [*every, every[1] - every[0], *above, above[1] - above[0]]
    columns = [*sets, "change", *(f"{name}, above chance" for name in sets), "change above chance"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("model")


def kept_concepts(units: Units) -> pd.DataFrame:
    """By network, the units aligned before the attack, and how many of these have the same concept after it."""
    before, rows, concept = before_attack(units), {}, ["label", "category"]
    for title, _ in units:
        real, adversarial = (units[title, name].astype({"category": object}) for name in (before, ADVERSARIAL))
        same = adversarial["aligned"] & (real[concept] == adversarial[concept]).all(axis=1)
        aligned = real["aligned"]
        rows[title] = {"aligned": int(aligned.sum()), "of these the same, %": 100 * float(same[aligned].mean())}
    return pd.DataFrame(rows).T.rename_axis("model").astype({"aligned": int})


def commonest_concepts(units: Units, *, count: int = 6) -> pd.DataFrame:
    """The concepts that the most units of each network are aligned with on real images, and the best IoU of one."""
    named = pd.concat(
        labels[labels["aligned"]].assign(model=title) for (title, name), labels in units.items() if name == REAL
    )
    by_concept = named.groupby(["model", "category", "label"], observed=True)["iou"]
    found = pd.DataFrame({"neurons": by_concept.size(), "best": by_concept.max()})
    return found.sort_values(["neurons", "best"], ascending=False).groupby("model").head(count).sort_index()
