"""Adversarial inputs told by the neurons that were decisive: the detector, its rivals, and an attacker who knows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

import torch
from torch import Tensor, nn
from torch.nn import functional

from neuron_consistency.attacks.linf import Attack
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.errors import ParameterError
from neuron_consistency.networks.models import Classifier
from neuron_consistency.networks.reading import evaluating, read_layers
from neuron_consistency.runtime import autocast, gathered, part
from neuron_consistency.tracing.influence import Rest, log_odds, rest_of_network
from neuron_consistency.tracing.mahalanobis import Mahalanobis, fit_mahalanobis
from neuron_consistency.tracing.profiles import Profiles, influence_mass, neuron_profiles

SOFTMAX, MAHALANOBIS = "1 - max softmax", "Mahalanobis"  # the rivals


@dataclass(frozen=True)
class Scores:
    """What a network and its detectors say of a set of images, clean or attacked.

    Shape:
        labels, predictions: (N,) int64, the true labels and what the network says;
        sources: (N,) int64, the clean image that each came from;
        mismatch: by k, (N,); rivals: by name, (N,); higher is more suspect;
        mass: by name (predicted, true, other), (N,), the `influence_mass` of those classes.
    """

    labels: Tensor
    predictions: Tensor
    sources: Tensor
    mismatch: dict[int, Tensor]
    rivals: dict[str, Tensor]
    mass: dict[str, Tensor]


@dataclass(frozen=True)
class Detectors:
    """The detectors of one network; all they know comes from training and selection images.

    Attributes:
        model: the network.
        rest: what it does after the profiles' layer.
        profiles: of that layer's neurons, from selection images.
        mahalanobis: fitted on training images.
        form: of the prediction difference.
    """

    model: Classifier
    rest: Rest
    profiles: Profiles
    mahalanobis: Mahalanobis
    form: str

    def mismatch(self, influence: Tensor, predicted: Tensor, k: int) -> Tensor:
        """1 - the mean, over the k most influential neurons, of how well the predicted class matches their profiles.

        Shape:
            influence: (B, C); predicted: (B,) int64; result: (B,) float64 in [0, 1].

        Raises:
            ParameterError: k is not between 1 and the number of channels.

        Source: P2, the detector.
        """
        if not 0 < k <= influence.shape[1]:
            raise ParameterError(f"k={k}: {self.profiles.layer} has {influence.shape[1]} neurons to choose from")
        matches = self.profiles.matches.to(influence.device)
        return 1 - matches[influence.topk(k, dim=1).indices, predicted[:, None]].mean(1)

    def soft_mismatch(self, features: Tensor, logits: Tensor, classes: Tensor) -> Tensor:
        """The mismatch with all neurons, weighted by their positive influence: it has a slope to descend.

        The influence is the closed form where there is one, else its first-order approximation, the map times
        the gradient of the log odds (to first order, the probability's is in proportion to it).

        Shape:
            features: (B, C, h, w), part of the graph; logits: (B, K), made from them; classes: (B,) int64;
            result: (B,) float32.

        Source: ours.
        """
        if self.rest.linear is not None:
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
        self,
        images: ImageSet,
        *,
        ks: Sequence[int],
        attack: Attack | None = None,
        sources: Tensor | None = None,
        channels_at_once: int = 128,
        batch_size: int = 256,
        precision: str = "auto",
    ) -> Scores:
        """One pass, which several processes share: every image's prediction and scores; only these are kept.

        Args:
            images: the set, clean or adversarial.
            ks: numbers of influential neurons; a score for each.
            attack: makes the images adversarial first.
            sources: the clean image that each came from; None numbers the images.
            channels_at_once: see `prediction_difference`.
            batch_size: images a forward pass.
            precision: of the forward passes up to the layer; what follows is float32.

        Shape:
            sources: (N,) int64.

        Raises:
            ParameterError: a k that is not between 1 and the number of channels, or another number of classes.
        """
        if images.num_classes != self.profiles.matches.shape[1]:
            raise ParameterError(
                f"the images have {images.num_classes} classes, the profiles {self.profiles.matches.shape[1]}: "
                "take both from one dataset"
            )
        layer, device = self.profiles.layer, next(self.model.parameters()).device
        found: list[tuple[int, dict[str, Tensor]]] = []
        with evaluating(self.model), read_layers(self.model, [layer]) as outputs, autocast(device, precision):
            for places, batch, labels in images.batches(batch_size, device=device, part=part()):
                if attack is not None:
                    batch = attack(self.model, batch, labels)
                self.model(batch)
                columns = self._batch(outputs[layer], labels, ks, channels_at_once)
                columns["sources"] = places if sources is None else sources[places]
                found.append((int(places[0]), {name: values.cpu() for name, values in columns.items()}))
        everywhere = sorted((batch for of_process in gathered(found) for batch in of_process), key=itemgetter(0))
        joined = {name: torch.cat([columns[name] for _, columns in everywhere]) for name in everywhere[0][1]}
        return Scores(
            joined["labels"],
            joined["predictions"],
            joined["sources"],
            {k: joined[f"mismatch {k}"] for k in ks},
            {name: joined[name] for name in (SOFTMAX, MAHALANOBIS)},
            {name: joined[name] for name in ("predicted", "true", "other")},
        )

    def _batch(self, features: Tensor, labels: Tensor, ks: Sequence[int], at_once: int) -> dict[str, Tensor]:
        logits = self.rest(features)
        predictions = logits.argmax(1)
        influence = self.rest.influence(features, predictions, form=self.form, channels_at_once=at_once)
        mass = influence_mass(influence, self.profiles.matches.to(influence.device))
        chosen = functional.one_hot(predictions, mass.shape[1]) + functional.one_hot(labels, mass.shape[1]) > 0
        others = torch.where(chosen, 0, mass).sum(1) / (~chosen).sum(1)
        return {
            "labels": labels,
            "predictions": predictions,
            **{f"mismatch {k}": self.mismatch(influence, predictions, k) for k in ks},
            SOFTMAX: 1 - logits.double().softmax(1).amax(1),
            MAHALANOBIS: self.mahalanobis.score(features.float().mean((2, 3))),
            "predicted": mass.gather(1, predictions[:, None]).squeeze(1),
            "true": mass.gather(1, labels[:, None]).squeeze(1),
            "other": others,
        }


def fit_detectors(
    model: Classifier,
    *,
    training: ImageSet,
    selection: ImageSet,
    correlation: Tensor,
    layer: str | None = None,
    form: str = "probability",
    top_k: int = 10,
    shrinkage: float = 0.01,
    device: torch.device,
    batch_size: int = 256,
    precision: str = "auto",
) -> Detectors:
    """The detectors of a network, fitted off the test images.

    Args:
        model: the network; it is moved to the device.
        training: what the Mahalanobis distance is fitted on.
        selection: what the neurons' profiles are made from.
        correlation: A of Eq. 2.
        layer: whose neurons are traced; None is the last one.
        form: of the prediction difference.
        top_k: see `neuron_profiles`.
        shrinkage: see `fit_mahalanobis`.
        device: where.
        batch_size: images a forward pass.
        precision: of the forward passes.

    Shape:
        correlation: (K, K).
    """
    shared = {"layer": layer, "device": device, "batch_size": batch_size, "precision": precision}
    profiles = neuron_profiles(model, selection, correlation, top_k=top_k, **shared)  # type: ignore[arg-type]
    mahalanobis = fit_mahalanobis(model, training, shrinkage=shrinkage, **shared)  # type: ignore[arg-type]
    return Detectors(model, rest_of_network(model, layer), profiles, mahalanobis, form)


@torch.no_grad()
def adaptive_pgd(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    detectors: Detectors,
    k: int,
    weight: float,
    epsilon: float,
    steps: int = 10,
    generator: torch.Generator | None = None,
) -> Tensor:
    """PGD by an attacker who knows the network and the detector: fools the one, and hides from the other.

    Each step climbs cross-entropy - weight * `Detectors.soft_mismatch`, the latter of the likeliest wrong class. Of
    all the images on the way that fool the network, the one that the detector itself suspects least is kept; where
    none does, the last.

    Args:
        model, images, labels: as for `attacks.linf.pgd`.
        detectors: of that network.
        k: the detector's number of neurons.
        weight: of hiding; 0 is PGD that only picks its least suspicious image.
        epsilon: radius of the ball, in units of the pixel range.
        steps: of length 2.5 epsilon / steps.
        generator: source of the random start.

    Shape:
        images, result: (B, 3, H, W) in [0, 1]; labels: (B,) int64.

    Raises:
        ParameterError: epsilon, steps or weight is negative, or the detectors are another network's.

    Source: ours, after Carlini and Wagner 2017 and Tramer et al. 2020: a defence counts against who knows it.
    """
    if epsilon < 0 or steps < 0 or weight < 0:
        raise ParameterError(f"epsilon={epsilon}, steps={steps}, weight={weight}: none may be negative")
    if model is not detectors.model:
        raise ParameterError("the detectors are of another network: fit_detectors for the one attacked")
    rest, layer = detectors.rest, detectors.profiles.layer
    low, high = (images - epsilon).clamp(0, 1), (images + epsilon).clamp(0, 1)
    noise = torch.empty_like(images).uniform_(-1, 1, generator=generator)
    point = (images + epsilon * noise).clamp(0, 1)
    best, least = point.clone(), torch.full((len(images),), torch.inf, dtype=torch.float64, device=images.device)
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
        better = (logits.argmax(1) != labels) & (suspicion < least)
        best[better], least[better] = point.detach()[better], suspicion[better]
        if step < steps:
            (gradient,) = torch.autograd.grad(objective, point)
            point = torch.clamp(point.detach() + 2.5 * epsilon / steps * gradient.sign(), low, high)
    return torch.where(least.isfinite()[:, None, None, None], best, point.detach())
