"""Maps and labels for timing the count of overlaps, and the plain way to count them."""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from neuron_consistency.data.broden import CATEGORIES
from neuron_consistency.dissection.overlap import OverlapCounter

LABEL_SIZE, MAP_SIZE, EACH = 112, 7, 40  # side of the label maps and of the layer's; concepts of a category
WHOLE = ("scene", "texture")  # categories that label an image, not its pixels
Labels = list[dict[str, Tensor]]


def planted_maps(*, images: int, units: int) -> tuple[Tensor, Labels, pd.DataFrame, Tensor]:
    """Random maps, labels of six categories in blocks, the concepts, and thresholds at the .005 quantile.

    Shape:
        maps: (images, units, 7, 7); a category's labels: (1, 112, 112), or (1,) of a whole image; thresholds: (units,).
    """
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(images, units, MAP_SIZE, MAP_SIZE, generator=generator).relu()
    concepts = pd.DataFrame(
        [
            {"number": 1 + EACH * place + number, "name": f"{category} {number}", "category": category}
            for place, category in enumerate(CATEGORIES)
            for number in range(EACH)
        ]
    )
    labels: Labels = []
    for _ in range(images):
        of_image = {}
        for place, category in enumerate(CATEGORIES):
            blocks = 1 + EACH * place + torch.randint(EACH, (1, 8, 8), generator=generator)
            of_image[category] = (
                blocks[:, 0, 0]
                if category in WHOLE
                else blocks.repeat_interleave(LABEL_SIZE // 8, 1).repeat_interleave(LABEL_SIZE // 8, 2)
            )
        labels.append(of_image)
    thresholds = maps.transpose(0, 1).flatten(1).quantile(0.995, dim=1)
    return maps, labels, concepts, thresholds


def counted(maps: Tensor, labels: Labels, concepts: pd.DataFrame, thresholds: Tensor) -> Tensor:
    """IoU of every unit and concept by the library's counter."""
    counter = OverlapCounter(thresholds, concepts, (LABEL_SIZE, LABEL_SIZE))
    counter.add(torch.arange(len(maps)), maps, labels)
    return counter.result().iou().nan_to_num()


def counted_plainly(maps: Tensor, labels: Labels, concepts: pd.DataFrame, thresholds: Tensor) -> Tensor:
    """The same, unit by unit: resize its map, threshold it, count it against every label of the image."""
    units = maps.shape[1]
    both, own = torch.zeros(2, units, len(concepts), dtype=torch.float64)
    size = torch.zeros(len(concepts), dtype=torch.float64)
    first = {category: rows.index[0] for category, rows in concepts.groupby("category")}
    start = {category: int(rows["number"].iloc[0]) for category, rows in concepts.groupby("category")}
    for image, of_image in zip(maps, labels, strict=True):
        codes = {
            category: (values[0] - start[category]).expand(LABEL_SIZE, LABEL_SIZE).to(maps.device)
            for category, values in of_image.items()
        }
        for category, code in codes.items():
            at = slice(first[category], first[category] + EACH)
            size[at] += torch.bincount(code.flatten(), minlength=EACH).cpu()
        for unit in range(units):
            if image[unit].max() <= thresholds[unit]:
                continue
            resized = functional.interpolate(
                image[None, None, unit], (LABEL_SIZE, LABEL_SIZE), mode="bilinear", align_corners=False
            )[0, 0]
            mask = resized > thresholds[unit]
            for category, code in codes.items():
                at = slice(first[category], first[category] + EACH)
                both[unit, at] += torch.bincount(code[mask], minlength=EACH).cpu()
                own[unit, at] += float(mask.sum())
    iou: Tensor = both / (own + size - both)
    return iou.nan_to_num()
