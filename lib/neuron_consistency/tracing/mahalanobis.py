"""A published detector to measure others by: the Mahalanobis distance of an image's features from its class."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.errors import ParameterError
from neuron_consistency.networks.models import Classifier
from neuron_consistency.networks.reading import class_sums, over
from neuron_consistency.runtime import Runtime


@dataclass(frozen=True)
class Mahalanobis:
    """Distance of an image's features from the nearest class of training images.

    Shape:
        whitening: (C, C), such that the covariance of features @ whitening is the identity;
        centres: (K', C), the whitened means of the classes that have training images.
    """

    whitening: Tensor
    centres: Tensor

    def score(self, features: Tensor) -> Tensor:
        """The squared Mahalanobis distance to the nearest class mean.

        Shape:
            features: (B, C); result: (B,) float64.
        """
        return torch.cdist(features.double() @ self.whitening, self.centres).amin(1).square()


@torch.no_grad()
def fit_mahalanobis(
    model: Classifier, images: ImageSet, on: Runtime, *, layer: str | None = None, shrinkage: float = 0.01
) -> Mahalanobis:
    """Class means and one covariance for all classes, of a layer's spatial means on training images.

    Args:
        layer: None is the last one.
        shrinkage: share of the covariance that is replaced by its mean variance times the identity.

    Raises:
        ParameterError: shrinkage outside (0, 1].

    Source: Lee et al. 2018, its score at one layer. Its pre-processing of the input and its weighting of layers are
    left out, since both are fitted on attacks. The shrinkage is ours.
    """
    if not 0 < shrinkage <= 1:
        raise ParameterError(f"shrinkage={shrinkage} must be in (0, 1]")
    name = layer or model.last_layer
    sums = counts = products = torch.zeros((), dtype=torch.float64, device=on.device)
    for seen in over(model, images, on, layers=[name]):
        features = seen.maps[name].double().mean((2, 3))
        more, number = class_sums(features, seen.labels, images.num_classes)
        sums, counts, products = sums + more, counts + number, products + features.T @ features
    known = counts > 0
    means = sums[known] / counts[known, None]
    within = (products - (means * counts[known, None]).T @ means) / counts.sum()
    scale = within.diagonal().mean().clamp_min(torch.finfo(torch.float32).tiny)  # a layer that is dead has none
    identity = torch.eye(len(within), dtype=torch.float64, device=on.device)
    lower = torch.linalg.cholesky((1 - shrinkage) * within + shrinkage * scale * identity)
    whitening = torch.linalg.solve_triangular(lower, identity, upper=False).T.contiguous()
    return Mahalanobis(whitening, means @ whitening)
