"""Adversarial images: one L-infinity loop (FGSM, PGD, least-likely class), and the optimisation of Eq. 4.

All attacks work on [0, 1] images in whatever mode (train or eval) and precision the caller has set, and leave
the model's mode, `.grad` and `requires_grad` as they were.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from neuron_consistency.errors import ParameterError

Attack = Callable[[nn.Module, Tensor, Tensor], Tensor]  # (model, images, labels) -> adversarial images


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


@dataclass(frozen=True)
class TargetedImages:
    """What the optimisation attack found.

    Shape:
        images: (B, 3, H, W) in [0, 1]; success: (B,) bool, every network says the target;
        distance: (B,) root mean squared change of a pixel.
    """

    images: Tensor
    success: Tensor
    distance: Tensor


def optimise_targeted(
    models: Sequence[nn.Module],
    images: Tensor,
    targets: Tensor,
    *,
    trade_off: float = 10.0,
    steps: int = 60,
    learning_rate: float = 0.01,
    search_steps: int = 1,
) -> TargetedImages:
    """Targeted images by Eq. 4: argmin over x* of ||x* - x||_2 + lambda * loss(x*, y*).

    Adam in pixel space; the box [0, 1] is kept by projection after each step. The loss is -log of the mean
    over the models of the probability of the target (one model: cross-entropy). With `search_steps` > 1,
    lambda is searched by bisection on a logarithmic scale for each image: larger where the attack failed,
    smaller where it succeeded. Of all iterates that every model takes for the target, the one nearest to x is
    kept; where there is none, the last.

    Args:
        models: one network, or an ensemble.
        images: the clean images.
        targets: the class each image is to be taken for.
        trade_off: lambda, or where its search begins.
        steps: Adam steps for each lambda.
        learning_rate: of Adam, in units of the pixel range.
        search_steps: how many values of lambda are tried; 1 keeps it fixed.

    Shape:
        images: (B, 3, H, W) in [0, 1]; targets: (B,) int64.

    Raises:
        ParameterError: no model, or steps, trade_off or search_steps is not positive.

    Source: P1, Eq. 4; optimiser, its length and the search are ours (the paper leaves them open).
    """
    if not models or min(steps, search_steps) < 1 or trade_off <= 0:
        raise ParameterError("the optimisation attack needs a model, and positive steps, search_steps, trade_off")
    clean = images.detach()
    best = clean.clone()
    best_norm = clean.new_full((len(clean),), torch.inf)
    weight = clean.new_full((len(clean),), trade_off)
    low, high = torch.zeros_like(weight), torch.full_like(weight, torch.inf)
    last = clean
    for _ in range(search_steps):
        point = clean.clone().requires_grad_()
        optimiser = torch.optim.Adam([point], lr=learning_rate)
        found = torch.zeros_like(targets, dtype=torch.bool)
        for step in range(steps + 1):
            with torch.enable_grad():
                logits = torch.stack([model(point).float() for model in models])
                norm = (point - clean).flatten(1).square().sum(1).add(1e-12).sqrt()  # finite slope at x* = x
                mean_probability = functional.log_softmax(logits, dim=2).logsumexp(dim=0) - math.log(len(models))
                loss = -mean_probability.gather(1, targets[:, None]).squeeze(1)
            fooled = (logits.argmax(dim=2) == targets).all(dim=0)
            nearer = fooled & (norm.detach() < best_norm)
            best[nearer], best_norm[nearer] = point.detach()[nearer], norm.detach()[nearer]
            found |= fooled
            if step == steps:
                break
            (point.grad,) = torch.autograd.grad((norm + weight * loss).sum(), point)
            optimiser.step()
            point.data.clamp_(0, 1)
        last = point.detach()
        high, low = torch.where(found, weight, high), torch.where(found, low, weight)
        weight = torch.where(high.isinf(), weight * 10, torch.where(low == 0, weight / 10, (low * high).sqrt()))
    success = best_norm.isfinite()
    result = torch.where(success[:, None, None, None], best, last)
    return TargetedImages(result, success, (result - clean).flatten(1).square().mean(1).sqrt())
