"""Tables of a chapter of dissections: Table 2, what it sums up to, and what single neurons stand for."""

import math
from collections.abc import Mapping

import pandas as pd

from neuron_consistency.data.broden import CATEGORIES
from neuron_consistency.dissection.controls import ADVERSARIAL, REAL, SAME, Dissected
from neuron_consistency.dissection.measure import unit_labels
from neuron_consistency.dissection.overlap import Overlap
from neuron_consistency.statistics import share

Units = Mapping[tuple[str, str], pd.DataFrame]  # (network, set of images) -> a table of `unit_labels`


def labelled_units(
    dissected: Mapping[str, Dissected], *, iou_threshold: float = 0.04, min_images: int = 10
) -> dict[tuple[str, str], pd.DataFrame]:
    """`unit_labels` by network and set; on a part of the images, `min_images` is lowered in proportion."""
    found = {}
    for title, one in dissected.items():
        for name, overlap in one.overlaps.items():
            wanted = math.ceil(min_images * overlap.images / one.overlaps[REAL].images)
            found[title, name] = unit_labels(overlap, iou_threshold=iou_threshold, min_images=wanted)
    return found


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
    the spread between trainings is another question, for several seeds.

    Returns:
        One row a network, set and category: category, aligned (number), share, low, high, model, images.

    Source: P1, Table 2; the interval is ours.
    """
    rows = []
    for (title, images), labels in units.items():
        for name in CATEGORIES:
            hits = (labels["aligned"] & (labels["category"] == name)).to_numpy()
            row = {"category": name, "aligned": int(hits.sum())} | share(hits).row("share", bare=True)
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
    """By network and set: the images counted, the share of units aligned with anything, the mean of their best IoU."""
    every = pd.concat(units, names=["model", "images"]).groupby(level=["model", "images"], sort=False)
    counted = [dissected[title].overlaps[name].images for title, name in units]
    return pd.DataFrame(
        {"counted": counted, "aligned, %": 100 * every["aligned"].mean(), "mean best IoU": every["iou"].mean()}
    )


def changes_under_attack(units: Units) -> pd.DataFrame:
    """By network, the share of units aligned, in per cent, before and after the attack, and the change."""
    before = before_attack(units)
    aligned = 100 * pd.concat(units, names=["model", "images"])["aligned"].groupby(level=[0, 1], sort=False).mean()
    table = aligned.unstack(sort=False)[[before, ADVERSARIAL]]
    return table.assign(change=table[ADVERSARIAL] - table[before])


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
