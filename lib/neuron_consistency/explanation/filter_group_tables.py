"""Whether the filters of a layer fall into groups: how alike they are within groups and between them."""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch
from torch import Tensor

from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.explanation.filter_groups import filter_similarity, spectral_groups
from neuron_consistency.networks.models import Classifier
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
