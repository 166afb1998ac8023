"""What the neurons of a layer stand for, and which classes the influential ones speak for."""

from dataclasses import dataclass

import torch
from torch import Tensor

from neuron_consistency.consistency.measure import chance, unbiased_consistency
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.networks.models import Classifier
from neuron_consistency.responses import respond
from neuron_consistency.runtime import Runtime, precise


@dataclass(frozen=True)
class Profiles:
    """What the neurons of a layer fire for, on images that no result is reported on.

    Attributes:
        layer: whose neurons.
        classes: the names of the classes.
        chance: chance level of `consistency`.

    Shape:
        strongest: (k, C) int64, the images that fire each neuron most, strongest first; -1 beyond those that do;
        shares: (C, K) float64, the classes' shares p_n of each neuron's strongest images;
        matches: (C, K) float64, A p_n: the mean correlation of a class with those images;
        consistency: (C,) float64, U of the same images, NaN for fewer than two.
    """

    layer: str
    classes: tuple[str, ...]
    strongest: Tensor
    shares: Tensor
    matches: Tensor
    consistency: Tensor
    chance: float

    def words(self, neuron: int) -> str:
        """A neuron's three main classes with their shares, such as "cat .60, dog .25"."""
        shares, places = self.shares[neuron].topk(min(3, len(self.classes)))
        named = zip(shares.tolist(), places.tolist(), strict=True)
        return ", ".join(f"{self.classes[place]} {share:.2f}".replace(" 0.", " .") for share, place in named if share)


def neuron_profiles(
    model: Classifier, images: ImageSet, on: Runtime, correlation: Tensor, *, layer: str | None = None, top_k: int = 10
) -> Profiles:
    """The class profile of every neuron of a layer (None: the last one), from its `top_k` strongest images.

    The images are held out for selection; no result is reported on them. A neuron that none of them fires has the
    profile of the whole set, which tells nothing.

    Shape:
        correlation: (K, K), A of P1's Eq. 2.

    Raises:
        ParameterError: see `responses.respond`.

    Source: P2, the neurons' meaning; the weighting by A (Eq. 2 of P1) is that of the detector there.
    """
    name = layer or model.last_layer
    responses = respond(model, images, on, layers=[name], top_k=top_k)
    found, counts = responses.layers[name], responses.top_counts(name, "true", top_k).sum(0)
    everywhere = torch.bincount(responses.labels, minlength=images.num_classes)
    used = torch.where(counts.sum(1, keepdim=True) > 0, counts, everywhere).double()
    shares = used / used.sum(1, keepdim=True)
    return Profiles(
        name,
        images.classes,
        torch.where(found.top_values > 0, found.top_indices, -1),
        shares,
        shares @ correlation.double(),
        unbiased_consistency(counts, correlation),
        chance(responses.labels, correlation).unbiased,
    )


def influence_mass(influence: Tensor, matches: Tensor) -> Tensor:
    """For every class, the share of the positive influence that is carried by neurons whose profile matches it.

    Each neuron counts by how well the class matches its profile, so that the mass of a class is the mean of
    (A p_n)[c] over the neurons, weighted by their positive prediction difference. NaN where none is positive.

    Shape:
        influence: (B, C); matches: (C, K); result: (B, K) float64.

    Source: ours, for P2's question when and why a network errs.
    """
    weights = precise(influence).clamp_min(0)
    return weights @ matches.to(weights) / weights.sum(1, keepdim=True)
