"""Units to look at: the best of them, and their strongest images inside their masks."""

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from neuron_consistency.data.broden import BrodenSet
from neuron_consistency.dissection.controls import REAL, Dissected
from neuron_consistency.dissection.measure import unit_masks
from neuron_consistency.networks.models import Classifier
from neuron_consistency.plotting import Picture, PictureGrid
from neuron_consistency.runtime import Runtime


def best_units(units: pd.DataFrame, *, count: int) -> pd.DataFrame:
    """The rows of `unit_labels` with the highest IoU, each of another concept as far as there are such."""
    ordered = units.dropna(subset="label").sort_values("iou", ascending=False, kind="stable")
    again = ordered.duplicated(["label", "category"])
    return pd.concat([ordered[~again], ordered[again]]).head(count)


def example_masks(
    model: Classifier, broden: BrodenSet, on: Runtime, *, dissected: Dissected, units: pd.DataFrame, count: int
) -> PictureGrid:
    """For each unit its strongest real images, bright inside its mask, to be drawn by `plotting.picture_grid`.

    Below an image stands how much of the mask lies inside the concept.

    Args:
        model: the network.
        broden: the set it was dissected on.
        on: where and how it runs.
        dissected: the outcome.
        units: rows of `unit_labels`, for instance from `best_units`.
        count: images of each unit, eight at most.
    """
    rows = []
    size = dissected.image_size
    numbers = broden.labels.set_index(["name", "category"])["number"]
    for unit in units.to_dict("records"):
        number = int(numbers[unit["label"], unit["category"]])
        best = dissected.overlaps[REAL][0].best_images[unit["unit"], :count].tolist()
        indices = [index for index in best if index >= 0]
        images = torch.stack([broden.image(index, image_size=size) for index in indices])
        mask_of = {"unit": unit["unit"], "threshold": float(dissected.thresholds[unit["unit"]])}
        masks = unit_masks(model, images, on, layer=model.last_layer, size=broden.label_size, **mask_of).cpu()
        regions = functional.interpolate(masks[None].float(), size=(size, size))[0].bool()
        title = f"unit {unit['unit']}\n{unit['label']}\n({unit['category']})\nIoU {unit['iou']:.2f}"
        pictures = [
            Picture(image, _inside(broden, index, unit["category"], number, mask), bright=region)
            for image, index, mask, region in zip(images, indices, masks, regions, strict=True)
        ]
        rows.append((title, pictures))
    return PictureGrid(rows)


def _inside(broden: BrodenSet, index: int, category: str, number: int, mask: Tensor) -> str:
    """How much of a mask lies inside a concept, in words."""
    if not bool(broden.labelled(category)[index]):
        return "not labelled"
    here = (broden.image_labels(index, category) == number).any(0)  # (h, w), or a scalar for whole-image labels
    inside = float((mask & here).sum() / mask.sum().clamp_min(1))
    return f"{100 * inside:.0f} % inside"
