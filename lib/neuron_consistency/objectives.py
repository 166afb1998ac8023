"""What a training step minimises: the standard loss and the consistent-adversarial one of Eq. 6."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from neuron_consistency.attacks import fgsm_step
from neuron_consistency.errors import ParameterError
from neuron_consistency.models import Classifier, read_layers

DISTANCES = ("normalised", "raw", "cosine")
ATTACK_LABELS = ("true", "predicted", "least-likely")
NORM_STATISTICS = ("both", "clean")


def feature_distance(features: Tensor, adversarial: Tensor, *, distance: str = "normalised") -> Tensor:
    """d(phi(x), phi(x*)) of Eq. 6, a scalar.

    "raw" is the mean squared difference. A network can lower it by shrinking the features and no more, so
    "normalised", the default, divides it by the mean of phi(x)^2. The gradient flows through that divisor too:
    held constant, it would leave each step as eager to shrink the features as the raw form is, however small they
    are already, and a network without batch norm (AlexNet) dies of it within an epoch or two. "cosine" is one
    minus the cosine between the two features of an image.

    Shape:
        features, adversarial: (B, C, h, w); result: ().

    Raises:
        ParameterError: unknown distance.

    Source: P1, Eq. 5 and 6, which leave d open; the three forms are ours.
    """
    features, adversarial = features.float(), adversarial.float()
    if distance == "cosine":
        return 1 - functional.cosine_similarity(features.flatten(1), adversarial.flatten(1)).mean()
    raw = (adversarial - features).square().mean()
    if distance == "raw":
        return raw
    if distance == "normalised":
        return raw / features.square().mean().clamp_min(1e-12)
    raise ParameterError(f"distance={distance!r}: use one of {', '.join(DISTANCES)}")


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

    `parts` holds clean_loss, clean_correct and feature_norm (root mean square of phi(x)), and where an
    adversarial image was made, adversarial_loss, adversarial_correct and distance.
    """

    loss: Tensor
    parts: dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Objective:
    """L = alpha * l(x, y) + (1 - alpha) * l(x*, y) + beta * d(phi(x), phi(x*)), with x* by FGSM (Eq. 6).

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
        second_example: maximise d with an image of its own, as Eq. 5 asks and Eq. 6 relaxes.

    Raises:
        ParameterError: a value outside its range.

    Source: P1, Eq. 5 and 6. Shared clean forward: one pass serves the attack, the loss and phi(x).
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
        if not 0 <= self.alpha <= 1 or self.beta < 0 or self.epsilon < 0:
            raise ParameterError(
                f"alpha={self.alpha} must be in [0, 1]; beta={self.beta}, epsilon={self.epsilon} not negative"
            )
        for name, known in (
            ("distance", DISTANCES),
            ("attack_label", ATTACK_LABELS),
            ("norm_statistics", NORM_STATISTICS),
        ):
            if getattr(self, name) not in known:
                raise ParameterError(f"{name}={getattr(self, name)!r}: use one of {', '.join(known)}")

    @property
    def is_standard(self) -> bool:
        """Whether no adversarial image is needed."""
        return self.alpha == 1 and self.beta == 0

    def __call__(self, model: Classifier, images: Tensor, labels: Tensor) -> StepLoss:
        """The loss of a batch.

        Shape:
            images: (B, 3, H, W) in [0, 1]; labels: (B,) int64.
        """
        layer = self.feature_layer or model.last_layer
        with read_layers(model, [layer]) as outputs:
            if self.is_standard:
                logits = model(images)
                loss = functional.cross_entropy(logits.float(), labels)
                return StepLoss(loss, _clean_parts(loss, logits, labels, outputs[layer]))
            clean = images.detach().requires_grad_()
            logits = model(clean)
            features = outputs[layer]
            clean_loss = functional.cross_entropy(logits.float(), labels)
            two_examples = self.second_example and self.beta > 0
            adversarial = self._attack(clean, logits, labels, clean_loss).requires_grad_(two_examples)
            frozen = self.norm_statistics == "clean"
            with frozen_norm_statistics(model, frozen):
                adversarial_logits = model(adversarial)
                compared = outputs[layer]
            if two_examples:
                second = self._second(clean, adversarial, features, compared)
                with frozen_norm_statistics(model, True):  # recorded: the passes of Eq. 6 alone, as without it
                    model(second)
                compared = outputs[layer]
            adversarial_loss = functional.cross_entropy(adversarial_logits.float(), labels)
            distance = feature_distance(features, compared, distance=self.distance)
        loss = self.alpha * clean_loss + (1 - self.alpha) * adversarial_loss
        if self.beta > 0:
            loss = loss + self.beta * distance
        parts = _clean_parts(clean_loss, logits, labels, features) | {
            "adversarial_loss": adversarial_loss.detach(),
            "adversarial_correct": (adversarial_logits.argmax(1) == labels).sum(),
            "distance": distance.detach(),
        }
        return StepLoss(loss, parts)

    def _attack(self, clean: Tensor, logits: Tensor, labels: Tensor, clean_loss: Tensor) -> Tensor:
        """x* by FGSM from the graph of the clean forward; only the image's gradient is computed."""
        loss, epsilon = clean_loss, self.epsilon
        if self.attack_label != "true":
            towards = self.attack_label == "least-likely"
            chosen = logits.detach().argmin(1) if towards else logits.detach().argmax(1)
            loss = functional.cross_entropy(logits.float(), chosen)
            epsilon = -epsilon if towards else epsilon
        (gradient,) = torch.autograd.grad(loss, clean, retain_graph=True)
        return fgsm_step(clean, gradient, epsilon=epsilon)

    def _second(self, clean: Tensor, adversarial: Tensor, features: Tensor, attacked: Tensor) -> Tensor:
        """x' that maximises d: the corner of the ball that d's slope at x* points to (at x itself d has none)."""
        distance = feature_distance(features.detach(), attacked, distance=self.distance)
        (gradient,) = torch.autograd.grad(distance, adversarial, retain_graph=True)
        return fgsm_step(clean, gradient, epsilon=self.epsilon)


def _clean_parts(loss: Tensor, logits: Tensor, labels: Tensor, features: Tensor) -> dict[str, Tensor]:
    return {
        "clean_loss": loss.detach(),
        "clean_correct": (logits.argmax(1) == labels).sum(),
        "feature_norm": features.detach().float().square().mean().sqrt(),
    }
