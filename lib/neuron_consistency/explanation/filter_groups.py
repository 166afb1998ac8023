"""icCNN: the filters of a layer trained to fall into groups, each of filters that respond at the same places."""

import warnings
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.errors import ParameterError
from neuron_consistency.networks.models import Classifier
from neuron_consistency.networks.reading import over
from neuron_consistency.runtime import Runtime, precise

MEAN_DECAY = 0.95  # of the running mean map, as in the released code


@dataclass(frozen=True, kw_only=True)
class FilterGroups:
    """How icCNN groups the filters of a layer.

    Attributes:
        strength: lambda, the weight of the grouping loss.
        groups: how many.
        period: the groups are formed anew every so many epochs.
        layer: whose filters; None is the last convolutional layer.

    Raises:
        ParameterError: a value outside its range.

    Source: Shen et al. 2021; their released code has lambda 1 for a single class, .1 for several with a term of its
        own for the classes (left out here), and ResNet's layer3.
    """

    strength: float = 0.1
    groups: int = 16
    period: int = 2
    layer: str | None = None

    def __post_init__(self) -> None:
        if self.strength <= 0 or self.groups < 2 or self.period < 1:
            raise ParameterError(
                f"strength={self.strength} must be positive, groups={self.groups} at least 2, "
                f"period={self.period} at least 1"
            )


def group_loss(maps: Tensor, mean: Tensor, members: Tensor) -> Tensor:
    """L_group = - sum over groups A of (sum of s_ij, i and j in A) / (sum of s_ij, i in A, j any filter), a scalar.

    s_ij is one plus the correlation of the maps of filters i and j over the places of an image, both taken about the
    mean map, averaged over the batch. With unit maps u_i the sums are the squared size of A plus the squared
    norm of the sum of u_i, and likewise, so no matrix of all pairs is made. A filter without deviation correlates with
    nothing: s_ij = 1.

    Shape:
        maps: (B, C, h, w); mean: (C, h, w); members: (C, groups) of 0 and 1; result: () in [-groups, 0].

    Source: Shen et al. 2021, with the mean map and s of their released code.
    """
    unit = functional.normalize((maps.float() - mean).flatten(2), dim=2, eps=1e-6)
    sizes = members.sum(0)
    sums = torch.einsum("bcp,cg->bgp", unit, members)
    inside = sizes.square() + sums.square().sum(2).mean(0)
    outside = sizes * len(members) + (sums * unit.sum(1, keepdim=True)).sum(2).mean(0)
    return -(inside / outside.clamp_min(1e-6)).sum()


def filter_similarity(model: Classifier, images: ImageSet, layer: str, on: Runtime) -> Tensor:
    """S of all pairs of filters: one plus the correlation of their maps about the mean map, over a whole set.

    Shape:
        result: (C, C) float64 in [0, 2], on the CPU; 1 beside a filter whose map never changes.

    Source: Shen et al. 2021, the released code's similarity for the clustering.
    """
    products, sums, seen = torch.zeros(()), torch.zeros(()), 0
    for batch in over(model, images, on, layers=[layer]):
        maps = precise(batch.maps[layer]).flatten(2)
        rows = maps.transpose(0, 1).flatten(1)  # of a filter, over all images of the batch
        products = products + rows @ rows.T
        sums, seen = sums + maps.sum(0), seen + len(maps)
    covariance = (products - sums @ sums.T / seen).cpu()
    spread = covariance.diagonal().clamp_min(0).sqrt()
    spread[spread <= 1e-9 * spread.max()] = torch.inf  # a dead filter correlates with nothing
    return (covariance / spread.outer(spread)).clamp(-1, 1) + 1


def spectral_groups(similarity: Tensor, *, groups: int) -> Tensor:
    """The group of every filter by spectral clustering, the same whenever it is called; numbered by its first filter.

    Shape:
        similarity: (C, C) of all pairs, not negative; result: (C,) int64 in [0, groups).

    Raises:
        ParameterError: more groups than filters.

    Source: Shen et al. 2021 use scikit-learn's, as here: k-means on the leading eigenvectors (Shi and Malik 2000).
    """
    from sklearn.cluster import SpectralClustering  # here, as it takes a second and most trainings group nothing

    if groups > len(similarity):
        raise ParameterError(f"groups={groups}, but the layer has {len(similarity)} filters: ask for fewer groups")
    clustering = SpectralClustering(groups, affinity="precomputed", random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that as many groups as filters need all eigenvectors
        found = clustering.fit_predict(similarity.double().numpy())
    return torch.from_numpy(pd.factorize(found)[0])


class Grouping:
    """The groups of a network in training: formed anew every few epochs, applied in every step.

    Attributes:
        settings: what was asked for.
        layer: whose filters.
        groups: (C,) int64, the group of each; None before the first epoch.
        mean: (C, h, w), the running mean map; None before the first step.
    """

    def __init__(self, model: Classifier, settings: FilterGroups) -> None:
        self.settings = settings
        self.layer = settings.layer or model.last_layer
        self.groups: Tensor | None = None
        self.mean: Tensor | None = None

    def due(self, epoch: int) -> bool:
        """Whether the groups are formed anew before this epoch (counted from 0)."""
        return epoch % self.settings.period == 0

    def form(self, model: Classifier, images: ImageSet, on: Runtime) -> None:
        """Forms the groups from the whole training set.

        Raises:
            ParameterError: more groups than the layer has filters, or no such layer.
        """
        similarity = filter_similarity(model, images, self.layer, on)
        self.groups = spectral_groups(similarity, groups=self.settings.groups)

    def loss(self, maps: Tensor) -> Tensor:
        """L_group of a batch, unweighted; the running mean map moves on first, and passes no gradient.

        Shape:
            maps: (B, C, h, w); result: ().
        """
        assert self.groups is not None
        batch = maps.detach().float().mean(0)
        self.mean = batch if self.mean is None else MEAN_DECAY * self.mean + (1 - MEAN_DECAY) * batch
        members = functional.one_hot(self.groups.to(maps.device), self.settings.groups).float()
        return group_loss(maps, self.mean, members)

    def state(self) -> dict[str, Tensor | None]:
        """For a checkpoint."""
        return {"groups": self.groups, "mean": self.mean}

    def restore(self, state: dict[str, Tensor | None]) -> None:
        """What `state` kept."""
        self.groups, self.mean = state["groups"], state["mean"]
