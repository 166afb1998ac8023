"""Adversarial inputs told by the neurons that were decisive: the detector, its rivals, and an attacker who knows it."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional

from neuron_consistency.attacks.linf import check_images, check_radius
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.errors import ParameterError, require
from neuron_consistency.networks.models import Classifier
from neuron_consistency.networks.reading import Attack, class_sums, evaluating, over, read_layers
from neuron_consistency.runtime import Runtime, precise
from neuron_consistency.tracing.influence import Rest, log_odds, rest_of_network
from neuron_consistency.tracing.profiles import Profiles, influence_mass, neuron_profiles

MISMATCH, SOFTMAX, MAHALANOBIS = "mismatch", "1 - max softmax", "Mahalanobis"  # P2's detector and its rivals
SHRINKAGE = 0.01  # share of the covariance that is replaced by its mean variance times the identity


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
        return torch.cdist(precise(features) @ self.whitening, self.centres).amin(1).square()


@torch.no_grad()
def fit_mahalanobis(model: Classifier, images: ImageSet, on: Runtime, *, layer: str | None = None) -> Mahalanobis:
    """Class means and one covariance for all classes, of a layer's spatial means on training images.

    Args:
        layer: None is the last one.

    Source: Lee et al. 2018, its score at one layer. Its pre-processing of the input and its weighting of layers are
    left out, since both are fitted on attacks. The shrinkage is ours.
    """
    name = layer or model.last_layer
    sums = counts = products = torch.zeros((), dtype=torch.float64)
    for seen in over(model, images, on, layers=[name]):
        features = precise(seen.maps[name]).mean((2, 3))
        more, number = class_sums(features, seen.labels, images.num_classes)
        sums, counts, products = sums + more, counts + number, products + features.T @ features
    known = counts > 0
    means = sums[known] / counts[known, None]
    within = (products - (means * counts[known, None]).T @ means) / counts.sum()
    scale = within.diagonal().mean().clamp_min(torch.finfo(torch.float32).tiny)  # a layer that is dead has none
    identity = torch.eye(len(within)).to(within)
    lower = torch.linalg.cholesky((1 - SHRINKAGE) * within + SHRINKAGE * scale * identity)
    whitening = torch.linalg.solve_triangular(lower, identity, upper=False).T.contiguous()
    return Mahalanobis(whitening, means @ whitening)


@dataclass(frozen=True)
class Detectors:
    """The detectors of one network. All they know comes from training and selection images.

    Attributes:
        rest: what the network does after the profiles' layer.
        profiles: of that layer's neurons, from selection images.
        mahalanobis: fitted on training images.
        form: of the prediction difference.

    Shape:
        correlation: A of P1's Eq. 2, (K, K).
    """

    model: Classifier
    rest: Rest
    profiles: Profiles
    mahalanobis: Mahalanobis
    form: str
    correlation: Tensor

    def mismatch(self, influence: Tensor, predicted: Tensor, k: int) -> Tensor:
        """1 - the mean, over the k most influential neurons, of how well the predicted class matches their profiles.

        Shape:
            influence: (B, C); predicted: (B,) int64; result: (B,) float64 in [0, 1].

        Raises:
            ParameterError: k is not between 1 and the number of channels.

        Source: P2, the detector.
        """
        require(1, influence.shape[1], whole=True, cure=f"neurons of {self.profiles.layer}", k=k)
        influence = precise(influence)
        matches = self.profiles.matches.to(influence.device)
        return 1 - matches[influence.topk(k, dim=1).indices, predicted.to(influence.device)[:, None]].mean(1)

    def soft_mismatch(self, features: Tensor, logits: Tensor, classes: Tensor) -> Tensor:
        """The mismatch with all neurons, weighted by their positive influence: it has a slope to descend.

        The influence is the closed form where there is one, else its first-order approximation, the map times
        the gradient of the log odds (to first order, the probability's is in proportion to it).

        Shape:
            features: (B, C, h, w), part of the graph; logits: (B, K), made from them; classes: (B,) int64;
            result: (B,) float32.

        Source: ours.
        """
        if self.rest.head is not None:
            influence = self.rest.influence(features, classes, form=self.form)
        else:
            odds = log_odds(logits, classes).sum()
            (slope,) = torch.autograd.grad(odds, features, create_graph=True)
            influence = (features * slope).sum((2, 3))
        weights = influence.clamp_min(0)
        matches = self.profiles.matches.to(weights)[:, classes].T
        return 1 - (weights * matches).sum(1) / weights.sum(1).clamp_min(torch.finfo(weights.dtype).tiny)

    @torch.no_grad()
    def scores(
        self, images: ImageSet, on: Runtime, *,
        ks: Sequence[int], attack: Attack | None = None, sources: Tensor | None = None,
    ) -> pd.DataFrame:  # fmt: skip
        """One pass over a set, clean or adversarial: what the network and its detectors say of every image.

        Args:
            ks: numbers of influential neurons.
            attack: makes the images adversarial first.
            sources: the clean image that each came from, (N,) int64; None numbers the images.

        Returns:
            One row an image, indexed by its source: label, prediction, right; how suspect it is, higher for more, by
            "mismatch k" for each k, SOFTMAX and MAHALANOBIS; and its `influence_mass` of the class predicted, of the
            true one, of all others in the mean, and of those that lie as far from the predicted class as the true one
            does (NaN where there is none), as predicted, true, other, alike. What follows the layer is in float32.

        Raises:
            ParameterError: a k that is not between 1 and the number of channels, or another number of classes.
        """
        if images.num_classes != self.profiles.matches.shape[1]:
            raise ParameterError(
                f"the images have {images.num_classes} classes, the profiles {self.profiles.matches.shape[1]}: "
                "take both from one dataset"
            )
        found = []
        with evaluating(self.model):  # the rest of the network too
            for seen in over(self.model, images, on, layers=[self.profiles.layer], attack=attack):
                columns = self._columns(seen.maps[self.profiles.layer], seen.labels, ks)
                columns["source"] = seen.places if sources is None else sources[seen.places]
                found.append(pd.DataFrame({name: values.cpu().numpy() for name, values in columns.items()}))
        return pd.concat(found).set_index("source")

    def _columns(self, features: Tensor, labels: Tensor, ks: Sequence[int]) -> dict[str, Tensor]:
        logits = self.rest(features)
        predictions = logits.argmax(1)
        influence = self.rest.influence(features, predictions, form=self.form)
        mass = influence_mass(influence, self.profiles.matches)
        predicted, true = (functional.one_hot(c.to(mass.device), mass.shape[1]) > 0 for c in (predictions, labels))
        others = ~(predicted | true)
        near = self.correlation.to(mass)[predictions.to(mass.device)]  # falls with distance, equal where that is
        alike = others & (near == near[true][:, None])
        return {
            "label": labels,
            "prediction": predictions,
            "right": predictions == labels,
            **{f"{MISMATCH} {k}": self.mismatch(influence, predictions, k) for k in ks},
            SOFTMAX: 1 - precise(logits).softmax(1).amax(1),
            MAHALANOBIS: self.mahalanobis.score(features.float().mean((2, 3))),
            "predicted": mass[predicted],
            "true": mass[true],
            "other": torch.where(others, mass, 0).sum(1) / others.sum(1),
            "alike": torch.where(alike, mass, 0).sum(1) / alike.sum(1),
        }


def fit_detectors(
    model: Classifier, on: Runtime, *, training: ImageSet, selection: ImageSet,
    correlation: Tensor, layer: str | None = None, form: str = "probability", top_k: int = 10,
) -> Detectors:  # fmt: skip
    """The detectors of a network, fitted off the test images.

    Args:
        training: what the Mahalanobis distance is fitted on.
        selection: what the neurons' profiles are made from.
        correlation: A of P1's Eq. 2, (K, K).
        layer: whose neurons are traced; None is the last one.
        form: of the prediction difference.
        top_k: how many of its strongest images make a neuron's profile.
    """
    profiles = neuron_profiles(model, selection, on, correlation, layer=layer, top_k=top_k)
    mahalanobis = fit_mahalanobis(model, training, on, layer=layer)
    return Detectors(model, rest_of_network(model, layer), profiles, mahalanobis, form, correlation)


@torch.no_grad()
def adaptive_pgd(
    model: nn.Module, images: Tensor, labels: Tensor, *, detectors: Detectors, k: int, weight: float,
    epsilon: float, steps: int = 10, generator: torch.Generator | None = None,
) -> Tensor:  # fmt: skip
    """PGD by an attacker who knows the network and the detector: fools the one, and hides from the other.

    Each step, of length 2.5 epsilon / steps, climbs cross-entropy - weight * `Detectors.soft_mismatch`, the latter of
    the likeliest wrong class. Of all the images on the way that fool the network, the one that the detector itself
    suspects least is kept; where none does, the last.

    Args:
        model, images, labels, epsilon, steps, generator: as for `attacks.linf.pgd`.
        detectors: of that network.
        k: the detector's number of neurons.
        weight: of hiding; 0 is PGD that only picks its least suspicious image.

    Shape:
        images, result: (B, 3, H, W) in [0, 1]; labels: (B,) int64.

    Raises:
        ParameterError: epsilon, steps or weight is negative, or the detectors are another network's.

    Source: ours, after Carlini and Wagner 2017 and Tramer et al. 2020: a defence counts against who knows it.
    """
    check_radius(epsilon)
    require(0, whole=True, steps=steps)
    require(0, weight=weight)
    check_images(images)
    if model is not detectors.model:
        raise ParameterError("the detectors are of another network: fit_detectors for the one attacked")
    rest, layer = detectors.rest, detectors.profiles.layer
    low, high = (images - epsilon).clamp(0, 1), (images + epsilon).clamp(0, 1)
    noise = torch.empty_like(images).uniform_(-1, 1, generator=generator)
    point = (images + epsilon * noise).clamp(0, 1)
    best, least = point.clone(), precise(images.new_full((len(images),), torch.inf))
    for step in range(steps + 1):
        point.requires_grad_()
        with torch.enable_grad(), read_layers(detectors.model, [layer]) as outputs:
            model(point)
            features = outputs[layer].float()
            logits = rest(features)
            aims = logits.detach().scatter(1, labels[:, None], -torch.inf).argmax(1)
            objective = functional.cross_entropy(logits, labels, reduction="sum")
            if weight:
                objective = objective - weight * detectors.soft_mismatch(features, logits, aims).sum()
        suspicion = detectors.mismatch(rest.influence(features.detach(), aims, form=detectors.form), aims, k)
        better = (logits.argmax(1) != labels).to(least.device) & (suspicion < least)
        best[better], least[better] = point.detach()[better], suspicion[better]
        if step < steps:
            (gradient,) = torch.autograd.grad(objective, point)
            point = torch.clamp(point.detach() + 2.5 * epsilon / steps * gradient.sign(), low, high)
    return torch.where(least.isfinite().to(best.device)[:, None, None, None], best, point.detach())
