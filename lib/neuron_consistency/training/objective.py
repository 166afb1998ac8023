"""What a training step minimises: the standard loss and the consistent one of P1's Eq. 6, weighted or not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from neuron_consistency.attacks.linf import fgsm_step
from neuron_consistency.errors import ParameterError, require
from neuron_consistency.explanation.filter_groups import Grouping
from neuron_consistency.networks.models import Classifier
from neuron_consistency.networks.reading import read_layers

CHOICES = {
    "distance": ("normalised", "raw", "cosine"),
    "attack_label": ("true", "predicted", "least-likely"),
    "norm_statistics": ("both", "clean"),
}


def _weighted_mean(values: Tensor, weights: Tensor | None) -> Tensor:
    """The mean over everything of `values` (B, ...), those of an image times its weight (B,) if it has one."""
    if weights is None:
        return values.mean()
    return (values * weights.view(-1, *[1] * (values.ndim - 1))).mean()


def label_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """The loss of each image: cross-entropy, or where it may have several labels binary cross-entropy, over classes.

    Shape:
        logits: (B, K); labels: (B,) int64, or (B, K) float of 0 and 1; result: (B,) float32.

    Source: P3 trains on VOC with several labels an image.
    """
    if labels.is_floating_point():
        return functional.binary_cross_entropy_with_logits(logits.float(), labels, reduction="none").mean(1)
    return functional.cross_entropy(logits.float(), labels, reduction="none")


def feature_distance(
    features: Tensor, adversarial: Tensor, *, distance: str = "normalised", weights: Tensor | None = None
) -> Tensor:
    """d(phi(x), phi(x*)) of P1's Eq. 6, a scalar.

    "raw" is the mean squared difference. A network can lower it by shrinking the features and no more, so
    "normalised", the default, divides it by the mean of phi(x)^2. The gradient flows through that divisor too:
    held constant, it would leave each step as eager to shrink the features as the raw form is, however small they
    are already, and a network without batch norm (AlexNet) dies of it within an epoch or two. "cosine" is one
    minus the cosine between the two features of an image. Each form is a mean over images, which `weights` weigh.

    Shape:
        features, adversarial: (B, C, h, w); weights: (B,); result: ().

    Raises:
        ParameterError: unknown distance.

    Source: P1, Eq. 5 and 6, which leave d open; the three forms are ours.
    """
    features, adversarial = features.float(), adversarial.float()
    if distance == "cosine":
        return _weighted_mean(1 - functional.cosine_similarity(features.flatten(1), adversarial.flatten(1)), weights)
    raw = _weighted_mean((adversarial - features).square(), weights)
    if distance == "raw":
        return raw
    if distance == "normalised":
        return raw / features.square().mean().clamp_min(1e-12)
    raise ParameterError(f"distance={distance!r}: use one of {', '.join(CHOICES['distance'])}")


@contextmanager
def frozen_norm_statistics(model: nn.Module, frozen: bool) -> Iterator[None]:
    """Within the context, batch norm in train mode uses batch statistics without recording them."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)] if frozen else []
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


@dataclass(frozen=True)
class StepLoss:
    """The loss of a batch and what it consists of; all scalars on the device, none synchronised.

    `parts` holds clean_loss, clean_correct and feature_norm (root mean square of phi(x)), where an adversarial
    image was made adversarial_loss, adversarial_correct and distance, and where filters are grouped group_loss: all
    without the images' weights, so that networks can be compared.
    """

    loss: Tensor
    parts: dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Objective:
    """L = alpha * l(x, y) + (1 - alpha) * l(x*, y) + beta * d(phi(x), phi(x*)), with x* by FGSM (P1's Eq. 6).

    alpha = 1 with beta = 0 is the standard objective, exactly: no adversarial image is made.

    Attributes:
        alpha: weight of the clean loss, in [0, 1].
        beta: weight of the consistent loss; 0 is plain adversarial training.
        epsilon: radius of FGSM's ball, in units of the pixel range.
        distance: d, see `feature_distance`.
        feature_layer: the layer of phi; None is the last convolutional one.
        attack_label: whose loss FGSM ascends: the "true" label's or the "predicted" one's (which does not
            leak the label into the image); "least-likely" descends that of the least likely class.
        norm_statistics: whether batch norm records "both" forward passes or the "clean" one only.
        second_example: maximise d with an image of its own, as P1's Eq. 5 asks and Eq. 6 relaxes.

    Raises:
        ParameterError: a value outside its range.

    Source: P1, Eq. 5 and 6. Shared clean forward: one pass serves the attack, the loss and phi(x). P3's weights on
        the loss of each image, and so on all of P1's Eq. 6, are given with the batch.
    """

    alpha: float = 1.0
    beta: float = 0.0
    epsilon: float = 4 / 255
    distance: str = "normalised"
    feature_layer: str | None = None
    attack_label: str = "true"
    norm_statistics: str = "both"
    second_example: bool = False

    def __post_init__(self) -> None:
        require(0, 1, alpha=self.alpha, epsilon=self.epsilon)
        require(0, beta=self.beta)
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise ParameterError(f"{name}={getattr(self, name)!r}: use one of {', '.join(known)}")

    @property
    def is_standard(self) -> bool:
        """Whether no adversarial image is needed."""
        return self.alpha == 1 and self.beta == 0

    def __call__(
        self,
        model: Classifier,
        images: Tensor,
        labels: Tensor,
        *,
        weights: Tensor | None = None,
        grouping: Grouping | None = None,
    ) -> StepLoss:
        """The loss of a batch.

        Args:
            model: the network, in the mode it is to be in.
            images, labels: the batch.
            weights: of the images, by which each one's whole loss is multiplied; None is 1 for all.
            grouping: icCNN's, whose loss on the clean images' maps is added.

        Shape:
            images: (B, 3, H, W) in [0, 1]; labels: (B,) int64, or (B, K) float of 0 and 1; weights: (B,).

        Raises:
            ParameterError: P1's Eq. 6 on images with several labels.
        """
        if labels.is_floating_point() and not self.is_standard:
            raise ParameterError("P1's Eq. 6 is for images with one label each: with several, use alpha=1 and beta=0")
        layer = self.feature_layer or model.last_layer
        with read_layers(model, [layer] if grouping is None else list({layer, grouping.layer})) as outputs:
            clean = images if self.is_standard else images.detach().requires_grad_()
            logits = model(clean)
            features = outputs[layer]
            clean_losses = label_losses(logits, labels)
            loss = self.alpha * _weighted_mean(clean_losses, weights)
            parts = _clean_parts(clean_losses.mean(), logits, labels, features)
            if grouping is not None:
                grouped = grouping.loss(outputs[grouping.layer])
                loss = loss + grouping.settings.strength * grouped
                parts["group_loss"] = grouped.detach()
            if self.is_standard:
                return StepLoss(loss, parts)
            two_examples = self.second_example and self.beta > 0
            adversarial = self._attack(clean, logits, labels, clean_losses.mean()).requires_grad_(two_examples)
            with frozen_norm_statistics(model, self.norm_statistics == "clean"):
                adversarial_logits = model(adversarial)
                compared = outputs[layer]
            if two_examples:
                second = self._second(clean, adversarial, features, compared)
                with frozen_norm_statistics(model, True):  # recorded: the passes of P1's Eq. 6 alone, as without it
                    model(second)
                compared = outputs[layer]
        adversarial_losses = label_losses(adversarial_logits, labels)
        distance = feature_distance(features, compared, distance=self.distance)
        loss = loss + (1 - self.alpha) * _weighted_mean(adversarial_losses, weights)
        if self.beta > 0:
            weighed = distance
            if weights is not None:
                weighed = feature_distance(features, compared, distance=self.distance, weights=weights)
            loss = loss + self.beta * weighed
        parts |= {
            "adversarial_loss": adversarial_losses.mean().detach(),
            "adversarial_correct": (adversarial_logits.argmax(1) == labels).sum(),
            "distance": distance.detach(),
        }
        return StepLoss(loss, parts)

    def _attack(self, clean: Tensor, logits: Tensor, labels: Tensor, clean_loss: Tensor) -> Tensor:
        """x* by FGSM from the graph of the clean forward; only the image's gradient is computed."""
        loss, epsilon = clean_loss, self.epsilon
        if self.attack_label == "predicted":
            loss = functional.cross_entropy(logits.float(), logits.detach().argmax(1))
        if self.attack_label == "least-likely":
            loss, epsilon = functional.cross_entropy(logits.float(), logits.detach().argmin(1)), -epsilon
        (gradient,) = torch.autograd.grad(loss, clean, retain_graph=True)
        return fgsm_step(clean, gradient, epsilon=epsilon)

    def _second(self, clean: Tensor, adversarial: Tensor, features: Tensor, attacked: Tensor) -> Tensor:
        """x' that maximises d: the corner of the ball that d's slope at x* points to (at x itself d has none)."""
        distance = feature_distance(features.detach(), attacked, distance=self.distance)
        (gradient,) = torch.autograd.grad(distance, adversarial, retain_graph=True)
        return fgsm_step(clean, gradient, epsilon=self.epsilon)


def _clean_parts(loss: Tensor, logits: Tensor, labels: Tensor, features: Tensor) -> dict[str, Tensor]:
    several = labels.is_floating_point()  # then the share of an image's labels that are right
    right = ((logits > 0) == (labels > 0)).float().mean(1) if several else logits.argmax(1) == labels
    return {
        "clean_loss": loss.detach(),
        "clean_correct": right.sum(),
        "feature_norm": features.detach().float().square().mean().sqrt(),
    }
