"""A published detector to measure others by: the Mahalanobis distance of an image's features from its class."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.errors import ParameterError
from neuron_consistency.networks.models import Classifier
from neuron_consistency.networks.reading import class_sums, evaluating, read_layers
from neuron_consistency.runtime import autocast, part, sums_in_order


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
    model: Classifier,
    images: ImageSet,
    *,
    layer: str | None = None,
    shrinkage: float = 0.01,
    device: torch.device,
    batch_size: int = 256,
    precision: str = "auto",
) -> Mahalanobis:
    """Class means and one covariance for all classes of a layer's spatial means, in one pass that processes share.

    Args:
        model: the network.
        images: training images.
        layer: None is the last one.
        shrinkage: share of the covariance that is replaced by its mean variance times the identity.
        device: where.
        batch_size: images a forward pass.
        precision: of the forward passes.

    Raises:
        ParameterError: shrinkage outside (0, 1].

    Source: Lee et al. 2018, its score at one layer. Its pre-processing of the input and its weighting of layers are
    left out, since both are fitted on attacks. The shrinkage is ours.
    """
    if not 0 < shrinkage <= 1:
        raise ParameterError(f"shrinkage={shrinkage} must be in (0, 1]")
    name = layer or model.last_layer
    channels = model.layers[name]

    model.to(device)
    with evaluating(model), read_layers(model, [name]) as outputs, autocast(device, precision):

        def sums_of(batch: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            model(batch)
            features = outputs[name].double().mean((2, 3))
            return *class_sums(features, labels, images.num_classes), features.T @ features

        batches = images.batches(batch_size, device=device, part=part())
        found = sums_in_order(sums_of(batch, labels) for _, batch, labels in batches)
    sums, counts, products = (each.to(device) for each in found)
    seen = counts > 0
    means = sums[seen] / counts[seen, None]
    within = (products - (means * counts[seen, None]).T @ means) / counts.sum()
    scale = within.diagonal().mean().clamp_min(torch.finfo(torch.float32).tiny)  # a layer that is dead has none
    identity = torch.eye(channels, dtype=torch.float64, device=device)
    lower = torch.linalg.cholesky((1 - shrinkage) * within + shrinkage * scale * identity)
    whitening = torch.linalg.solve_triangular(lower, identity, upper=False).T.contiguous()
    return Mahalanobis(whitening, means @ whitening)
