"""Adversarial images by one L-infinity loop: FGSM, PGD, least-likely class (for Eq. 4 see `targeted`).

All attacks work on [0, 1] images in whatever mode (train or eval) and precision the caller has set, and leave
the model's mode, `.grad` and `requires_grad` as they were.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from neuron_consistency.errors import ParameterError


def fgsm_step(images: Tensor, gradient: Tensor, *, epsilon: float) -> Tensor:
    """One step of size `epsilon` along the sign of the gradient, inside the [0, 1] box.

    Shape:
        images, gradient, result: (B, 3, H, W).

    Source: Goodfellow et al. 2015; P1 uses it in training (Eq. 6).
    """
    return (images.detach() + epsilon * gradient.sign()).clamp_(0, 1)


def linf_attack(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    step_size: float,
    steps: int,
    targeted: bool = False,
    random_start: bool = False,
    mask: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Signed-gradient steps inside the L-infinity ball of radius `epsilon` and the [0, 1] box.

    Every other attack of this family is a case of it. The loss is summed over the batch, so that a large
    batch does not shrink the gradients.

    Args:
        model: any classifier of [0, 1] images.
        images: the clean images.
        labels: the labels to leave, or, if `targeted`, those to reach.
        epsilon: radius of the ball, in units of the pixel range.
        step_size: length of a step.
        steps: number of steps.
        targeted: descend the loss of `labels` instead of ascending it.
        random_start: start from a uniform point of the ball.
        mask: 1 where a pixel may change, 0 where not.
        generator: source of the random start.

    Shape:
        images: (B, 3, H, W) in [0, 1]; labels: (B,) int64; mask: broadcastable to images; result: as images.

    Raises:
        ParameterError: epsilon, step_size or steps is negative.

    Source: Goodfellow et al. 2015, Kurakin et al. 2016, Madry et al. 2018.
    """
    if epsilon < 0 or step_size < 0 or steps < 0:
        raise ParameterError(f"epsilon={epsilon}, step_size={step_size}, steps={steps}: none may be negative")
    clean = images.detach()
    allowed = epsilon if mask is None else epsilon * mask.to(clean.dtype)
    low, high = (clean - allowed).clamp_(0, 1), (clean + allowed).clamp_(0, 1)
    adversarial = clean
    if random_start:
        noise = torch.empty_like(clean).uniform_(-1, 1, generator=generator)
        adversarial = (clean + allowed * noise).clamp(0, 1)
    step = -step_size if targeted else step_size
    for _ in range(steps):
        adversarial = adversarial.detach().requires_grad_()
        with torch.enable_grad():
            loss = functional.cross_entropy(model(adversarial).float(), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, adversarial)
        adversarial = torch.clamp(adversarial.detach() + step * gradient.sign(), low, high)
    return adversarial.detach()


def fgsm(model: nn.Module, images: Tensor, labels: Tensor, *, epsilon: float) -> Tensor:
    """The fast gradient sign method: the one-step case of `linf_attack`.

    Shape:
        images, result: (B, 3, H, W) in [0, 1]; labels: (B,) int64.

    Source: Goodfellow et al. 2015; P1, "Dataset".
    """
    return linf_attack(model, images, labels, epsilon=epsilon, step_size=epsilon, steps=1)


def pgd(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    steps: int = 10,
    step_size: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Projected gradient descent from a random start; `step_size` defaults to 2.5 epsilon / steps.

    Shape:
        images, result: (B, 3, H, W) in [0, 1]; labels: (B,) int64.

    Source: Madry et al. 2018. Not in the papers: here so that FGSM alone is not mistaken for robustness.
    """
    size = 2.5 * epsilon / max(steps, 1) if step_size is None else step_size
    return linf_attack(
        model,
        images,
        labels,
        epsilon=epsilon,
        step_size=size,
        steps=steps,
        random_start=True,
        generator=generator,
    )


def least_likely(model: nn.Module, images: Tensor, *, epsilon: float, step_size: float = 1 / 255) -> Tensor:
    """The iterative least-likely-class method, with min(eps + 4, 1.25 eps) steps (eps in 0..255 units).

    Shape:
        images, result: (B, 3, H, W) in [0, 1].

    Source: Kurakin et al. 2016; P1 makes its adversarial Broden images so.
    """
    with torch.no_grad():
        targets = model(images).argmin(dim=1)
    radius = epsilon * 255
    steps = max(1, math.floor(min(radius + 4, 1.25 * radius) + 1e-6))
    return linf_attack(model, images, targets, epsilon=epsilon, step_size=step_size, steps=steps, targeted=True)


def sign_noise(images: Tensor, *, epsilon: float, generator: torch.Generator | None = None) -> Tensor:
    """Every pixel moved by +epsilon or -epsilon at random: the control of FGSM's size without its direction.

    Shape:
        images, result: (B, 3, H, W) in [0, 1].
    """
    signs = torch.empty_like(images).bernoulli_(0.5, generator=generator).mul_(2).sub_(1)
    return (images + epsilon * signs).clamp_(0, 1)


class _Binary(nn.Module):
    """A multi-label network as K classifiers of two classes: their cross-entropies sum to the binary one."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits = self.model(images)
        return torch.stack([torch.zeros_like(logits), logits], dim=1)


def background_attack(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    mask: Tensor,
    *,
    epsilon: float = 8 / 255,
    steps: int = 1,
    step_size: float | None = None,
) -> Tensor:
    """x^ = clip(x + epsilon (1 - M) sign(gradient of the loss)): `linf_attack` on the pixels outside the mask alone.

    A mask that covers an image leaves that image as it is. The model's mode is the caller's.

    Args:
        model: any classifier of [0, 1] images.
        images: the clean images.
        labels: the labels to leave; those of a multi-label network by the binary cross-entropy of all classes.
        mask: M, the pixels that stay as they are.
        epsilon: radius of the ball, in units of the pixel range.
        steps: more than one iterates the attack.
        step_size: None is epsilon for one step, 2.5 epsilon / steps for more.

    Shape:
        images, result: (B, 3, H, W) in [0, 1]; labels: (B,) int64, or (B, K) in {0, 1}; mask: (B, 1, H, W) bool.

    Raises:
        ParameterError: a mask of another size, or a negative epsilon, steps or step_size.

    Source: P3, the semantic-preserved adversarial sample; the iterated form and the multi-label loss are ours.
    """
    expected = (len(images), 1, *images.shape[2:])
    if mask.shape != expected:
        raise ParameterError(f"a mask of shape {tuple(mask.shape)}: these images need {expected}")
    size = step_size if step_size is not None else epsilon if steps <= 1 else 2.5 * epsilon / steps
    attacked = model if labels.ndim == 1 else _Binary(model)
    return linf_attack(
        attacked, images, labels.long(), epsilon=epsilon, step_size=size, steps=steps, mask=mask.logical_not()
    )
