"""What the filters of a layer show in groups: how alike they are within and between groups, and where each looks."""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch
from torch import Tensor

from neuron_consistency.compute import autocast
from neuron_consistency.data.images import ImageSet
from neuron_consistency.explanation_gallery import under_maps
from neuron_consistency.filter_groups import filter_similarity, spectral_groups
from neuron_consistency.models import Classifier, evaluating, read_layers
from neuron_consistency.plotting import Picture, PictureGrid
from neuron_consistency.statistics import middle


def group_contrast(similarity: Tensor, groups: Tensor) -> float:
    """The mean similarity of two filters of one group, less that of two filters of different groups.

    NaN where there are no two filters of one group, or none of different groups.

    Shape:
        similarity: (C, C); groups: (C,) int64.
    """
    alike = groups[:, None] == groups
    others = ~torch.eye(len(groups), dtype=torch.bool)
    return float(similarity[alike & others].mean() - similarity[~alike].mean())


def contrast_table(
    models: dict[str, Classifier], formed_on: ImageSet, measured_on: ImageSet, layer: str, *, groups: int,
    draws: int = 400, **shared: Any,
) -> tuple[pd.DataFrame, dict[str, Tensor]]:  # fmt: skip
    """Whether a layer's filters fall into groups: formed on some images, held against others.

    Args:
        models: by title.
        formed_on: the images whose similarity groups the filters, by `spectral_groups`.
        measured_on: the images on which the groups are held against each other.
        layer: whose filters.
        groups: how many.
        draws: of random groups of the same sizes, the chance level.
        shared: device, batch_size and precision of `filter_similarity`.

    Returns:
        One row a network: network, filters, within, between (mean similarity of two filters, from 0 to 2), contrast
        (their difference), chance with low and high (95 % of the random groups); and by title the groups (C,).

    Raises:
        ParameterError: more groups than filters, or no such layer.

    Source: similarity and groups as in Shen et al. 2021; the table is ours.
    """
    rows, found = [], {}
    generator = torch.Generator().manual_seed(0)
    for title, model in models.items():
        members = spectral_groups(filter_similarity(model, formed_on, layer, **shared), groups=groups)
        similarity = filter_similarity(model, measured_on, layer, **shared)
        count = len(members)
        alike = (members[:, None] == members) & ~torch.eye(count, dtype=torch.bool)
        chance = torch.tensor(
            [group_contrast(similarity, members[torch.randperm(count, generator=generator)]) for _ in range(draws)]
        )
        rows.append(
            {
                "network": title,
                "filters": count,
                "within": float(similarity[alike].mean()),
                "between": float(similarity[members[:, None] != members].mean()),
                "contrast": group_contrast(similarity, members),
                **middle(chance).row("chance"),
            }
        )
        found[title] = members
    return pd.DataFrame(rows), found


@torch.no_grad()
def group_rows(
    model: Classifier,
    images: ImageSet,
    groups: Tensor,
    layer: str,
    *,
    count: int,
    device: torch.device,
    batch_size: int = 128,
    precision: str = "auto",
) -> PictureGrid:
    """The `count` largest groups of filters, to be drawn by `explanation_figures.maps_of_networks`.

    A column is the image that fires a group most (each group another one), a row a group's mean map over those
    images. Every filter counts alike, by its mean over all images. Below a map stands how many times its own mean the
    group fires.

    Shape:
        groups: (C,) int64.
    """
    parts = []
    with evaluating(model), read_layers(model, [layer]) as outputs, autocast(device, precision):
        for _, batch, _ in images.batches(batch_size, device=device):
            model(batch)
            parts.append(outputs[layer].float().mean((2, 3)).cpu())
        filters = torch.cat(parts)
        mean = filters.mean(0)
        scale = torch.where(mean > 0, 1 / mean, 0)
        sizes = torch.bincount(groups)
        largest = sizes.argsort(descending=True, stable=True)[:count].tolist()
        places: list[int] = []
        for group in largest:
            strength = (filters * scale)[:, groups == group].mean(1)
            strength[places] = -1
            places.append(int(strength.argmax()))
        batch, labels = images.batch(torch.tensor(places), device)
        model(batch)
        maps = outputs[layer].float().cpu() * scale[:, None, None]
    names = labels.argmax(1) if labels.ndim == 2 else labels
    shown = batch.cpu()
    rows = [("image", [Picture(image) for image in shown])]
    for number, group in enumerate(largest, 1):
        own = maps[:, groups == group].mean(1)
        texts = [f"{value:.1f} x its mean" for value in own.mean((1, 2)).tolist()]
        rows.append((f"group {number}\n{int(sizes[group])} filters", under_maps(shown, own, texts)))
    return PictureGrid(rows, [images.classes[int(label)] for label in names])
