"""The weight of every training image: how little its explanation holds when its background is attacked."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.errors import ParameterError
from neuron_consistency.explanation.measure import Probe, explanation_consistency
from neuron_consistency.networks.models import Classifier
from neuron_consistency.networks.reading import each_batch
from neuron_consistency.runtime import Runtime, gather_rows

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)  # of E over the training set, kept in the history


@dataclass(frozen=True, kw_only=True)
class Weighting(Probe):
    """How P3 weighs the training images: v = 1 - E(x, x^), with x^ the image whose background was attacked.

    Attributes:
        normalise: divide the weights by their mean. The paper's form, without, also shrinks the loss as a whole.
        permuted: deal them out to other images at random. What this does too is not due to which images weigh more.
        warm_up: epochs at the start with v = 1.
        period: then the weights are taken anew every so many epochs.

    Raises:
        ParameterError: a value outside its range.

    Source: P3; warm-up, period and their defaults are ours (open in the paper), and so are normalise and the true mask.
    """

    normalise: bool = False
    permuted: bool = False
    warm_up: int = 1
    period: int = 5

    def __post_init__(self) -> None:
        if self.warm_up < 0 or min(self.period, self.steps) < 1:
            raise ParameterError(
                f"warm_up={self.warm_up} must not be negative; period={self.period}, steps={self.steps} at least 1"
            )
        super().__post_init__()

    def due(self, epoch: int) -> bool:
        """Whether the weights are taken anew before this epoch (counted from 0)."""
        return epoch >= self.warm_up and (epoch - self.warm_up) % self.period == 0

    def weights(self, consistency: Tensor) -> Tensor:
        """v of every image; 1 where its E is not known, or where all E are 1 and v is to be normalised.

        Shape:
            consistency: (N,) E in [0, 1], NaN where not known; result: (N,) float32, not negative.

        Source: P3, v = 1 - E.
        """
        weights = (1 - consistency.float()).nan_to_num(1.0)
        if self.normalise:
            return weights / weights.mean() if weights.any() else torch.ones_like(weights)
        return weights


@dataclass(frozen=True)
class Weighed:
    """The weights of a training set and what they are made from.

    Shape:
        weights: (N,) float32; consistency: (N,) E in [0, 1], NaN for an image that could not be read;
        flipped: (N,) bool, where the attack on the background changed the prediction; spared: (N,), the share of the
        image that the mask covers, NaN as in consistency; all on the CPU.
    """

    weights: Tensor
    consistency: Tensor
    flipped: Tensor
    spared: Tensor

    def row(self) -> dict[str, Any]:
        """For the history: the distribution of E, the share of changed predictions, the mean weight, the mean mask.

        Also the shares of images whose explanation is zero everywhere (unmarked), and of those whose mask leaves
        nothing to attack (covered): of both E is 1 and the weight 0 whatever the network has learned.
        """
        known = self.consistency[~self.consistency.isnan()].double()
        return {
            "consistency": known.mean().item(),
            "consistency_quantiles": known.quantile(torch.tensor(QUANTILES, dtype=known.dtype)).tolist(),
            "flipped": self.flipped.double().mean().item(),
            "mean_weight": self.weights.double().mean().item(),
            "spared": self.spared.double().nanmean().item(),
            "unmarked": (self.spared == 0).double().mean().item(),
            "covered": (self.spared == 1).double().mean().item(),
        }


def weigh(
    model: Classifier,
    images: ImageSet,
    weighting: Weighting,
    on: Runtime,
    *,
    noise: torch.Generator | None = None,
    shared: bool = False,
) -> Weighed:
    """E of every image in one pass, the model in eval mode, and the weights that follow.

    An image costs about the memory of a training step.

    Args:
        noise: for the null of E, see `explanation_consistency`.
        shared: whether processes that train together deal the images out among them.

    Raises:
        DatasetError: the true mask is asked for of a set without masks.

    Source: P3, the evaluation between two rounds of training.
    """

    def columns_of(places: Tensor, batch: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        mask = images.masks(places).to(on.device) if weighting.mask == "truth" else None
        found = explanation_consistency(model, batch, labels, weighting, mask=mask, noise=noise)
        spared = found.mask.float().mean((1, 2, 3))
        return places, found.consistency.float().cpu(), found.flipped.cpu(), spared.cpu()

    rows = [(places, *found) for places, found in each_batch(model, images, on, columns_of, shared=shared)]
    known, *columns = gather_rows(rows, shared=shared)
    consistency, spared = torch.full((2, len(images)), torch.nan)
    flipped = torch.zeros(len(images), dtype=torch.bool)
    consistency[known], flipped[known], spared[known] = columns
    return Weighed(weighting.weights(consistency), consistency, flipped, spared)
