"""Adversarial images by one L-infinity loop: FGSM, PGD, least-likely class (for P1's Eq. 4 see `targeted`).

All attacks work on [0, 1] images in whatever mode (train or eval) and precision the caller has set, and leave
the model's mode, `.grad` and `requires_grad` as they were.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from neuron_consistency.errors import ParameterError, require

ROUNDING = 1e-3  # so far outside of [0, 1] the arithmetic of whoever made the images may have brought them


def check_radius(epsilon: float) -> None:
    """Refuses a radius that is no share of the pixel range, as `errors.require` does."""
    require(0, 1, cure="as a share of the pixel range (8 / 255)", epsilon=epsilon)


def check_images(images: Tensor) -> None:
    """Refuses what is no batch of images in [0, 1]: attacks would cut off what is outside, in silence.

    Shape:
        images: (B, 3, H, W).

    Raises:
        ParameterError: they are bytes, or of another range, normalised, NaN, or no batch.
    """
    if not isinstance(images, Tensor):
        raise ParameterError(f"images are a {type(images).__name__}: an attack needs a tensor (B, 3, H, W) in [0, 1]")
    low, high = torch.stack(images.aminmax()).tolist() if images.numel() else (0, 1)
    if images.ndim != 4 or not images.is_floating_point() or not -ROUNDING <= low <= high <= 1 + ROUNDING:
        raise ParameterError(
            f"images of shape {tuple(images.shape)} are {images.dtype} from {low:.3g} to {high:.3g}: an attack needs "
            "floats (B, 3, H, W) in [0, 1]. Divide bytes by 255, and let the network normalise (mean, std of wrap)"
        )


def check_answer(logits: object, labels: Tensor) -> None:
    """Refuses labels that are no classes of the network, and what is no logits.

    Shape:
        logits: (B, K); labels: (B,) int64, or (B, K) of 0 and 1.

    Raises:
        ParameterError: they are of another shape, kind or range.
    """
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        said = (
            f"a tensor of shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        )
        raise ParameterError(f"the network gives {said}, not logits (B, K): let it return the logits alone")
    if not isinstance(labels, Tensor):
        raise ParameterError(f"labels are a {type(labels).__name__}: give a tensor of one int64 for each image")
    fits = labels.shape == logits.shape
    if labels.ndim == 1 and labels.dtype == torch.int64 and len(labels) == len(logits):
        fits = bool(((labels >= 0) & (labels < logits.shape[1])).all())
    if not fits:
        raise ParameterError(
            f"labels {labels.dtype} of shape {tuple(labels.shape)} do not fit {len(logits)} images and a network of "
            f"{logits.shape[1]} classes: one int64 from 0 to {logits.shape[1] - 1} for each image is needed"
        )


def fgsm_step(images: Tensor, gradient: Tensor, *, epsilon: float) -> Tensor:
    """One step of size `epsilon` along the sign of the gradient, inside the [0, 1] box.

    Shape:
        images, gradient, result: (B, 3, H, W).

    Source: Goodfellow et al. 2015; P1 uses it in training (its Eq. 6).
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

    Every other attack of this family is a case of it. The loss is cross-entropy, or, where an image may have several
    labels, the binary cross-entropy of all classes. It is summed over the batch, so that a large batch does not shrink
    the gradients.

    Args:
        labels: those to leave, or, if `targeted`, those to reach.
        epsilon: in units of the pixel range, as `step_size`.
        random_start: start from a uniform point of the ball.
        mask: 1 where a pixel may change, 0 where not.

    Shape:
        images, result: (B, 3, H, W) in [0, 1]; labels: (B,) int64, or (B, K) of 0 and 1; mask: broadcastable to images.

    Raises:
        ParameterError: epsilon, step_size or steps is out of range, images or labels are, or no gradient reaches the
            images.

    Source: Goodfellow et al. 2015, Kurakin et al. 2016, Madry et al. 2018; the loss of several labels is ours.
    """
    check_radius(epsilon)
    require(0, step_size=step_size)
    require(0, whole=True, steps=steps)
    check_images(images)
    clean = images.detach()
    allowed = epsilon if mask is None else epsilon * mask.to(clean.dtype)
    low, high = (clean - allowed).clamp_(0, 1), (clean + allowed).clamp_(0, 1)
    adversarial = clean
    if random_start:
        noise = torch.empty_like(clean).uniform_(-1, 1, generator=generator)
        adversarial = (clean + allowed * noise).clamp(0, 1)
    step = -step_size if targeted else step_size
    for done in range(steps):
        adversarial = adversarial.detach().requires_grad_()
        with torch.enable_grad():
            said = model(adversarial)
            if not done:
                check_answer(said, labels)
            logits = said.float()
            if labels.ndim == 1:
                loss = functional.cross_entropy(logits, labels, reduction="sum")
            else:
                loss = functional.binary_cross_entropy_with_logits(logits, labels.float(), reduction="sum")
        (gradient,) = torch.autograd.grad(loss, adversarial, allow_unused=True) if loss.requires_grad else (None,)
        if gradient is None:
            raise ParameterError(
                "no gradient reaches the images, so that no attack can be made: leave no_grad and detach out of the "
                "network's forward pass, or measure real images alone (epsilon=0)"
            )
        adversarial = torch.clamp(adversarial.detach() + step * gradient.sign(), low, high)
    return adversarial.detach()


def fgsm(model: nn.Module, images: Tensor, labels: Tensor, *, epsilon: float) -> Tensor:
    """The fast gradient sign method: the one-step case of `linf_attack`, with its shapes.

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
    generator: torch.Generator | None = None,
) -> Tensor:
    """Projected gradient descent: `linf_attack` from a random start, in steps of 2.5 epsilon / steps.

    Source: Madry et al. 2018. Not in the papers: here so that FGSM alone is not mistaken for robustness.
    """
    check_radius(epsilon)
    require(0, whole=True, steps=steps)
    size = 2.5 * epsilon / max(steps, 1)
    return linf_attack(
        model, images, labels, epsilon=epsilon, step_size=size, steps=steps, random_start=True, generator=generator
    )


def least_likely(model: nn.Module, images: Tensor, *, epsilon: float, step_size: float = 1 / 255) -> Tensor:
    """The iterative least-likely-class method: `linf_attack` towards the class that the clean image resembles least.

    It takes min(eps + 4, 1.25 eps) steps, with eps in units of 1/255.

    Source: Kurakin et al. 2016; P1 makes its adversarial Broden images so.
    """
    check_radius(epsilon)
    check_images(images)
    with torch.no_grad():
        targets = model(images).argmin(dim=1)
    radius = epsilon * 255
    steps = max(1, math.floor(min(radius + 4, 1.25 * radius) + 1e-6))
    return linf_attack(model, images, targets, epsilon=epsilon, step_size=step_size, steps=steps, targeted=True)


def background_attack(
    model: nn.Module, images: Tensor, labels: Tensor, mask: Tensor, *, epsilon: float = 8 / 255, steps: int = 1
) -> Tensor:
    """x^ = clip(x + epsilon (1 - M) sign(gradient of the loss)): `linf_attack` on the pixels outside the mask alone.

    A mask that covers an image leaves that image as it is.

    Args:
        mask: M, the pixels that stay as they are.
        steps: one of size epsilon, or several of 2.5 epsilon / steps.

    Shape:
        mask: (B, 1, H, W) bool; all else as for `linf_attack`.

    Raises:
        ParameterError: a mask of another size, or a negative epsilon or steps.

    Source: P3, the semantic-preserved adversarial sample; the iterated form is ours.
    """
    expected = (len(images), 1, *images.shape[2:])
    if mask.shape != expected:
        raise ParameterError(f"a mask of shape {tuple(mask.shape)}: these images need {expected}")
    check_radius(epsilon)
    require(0, whole=True, steps=steps)
    size = epsilon if steps <= 1 else 2.5 * epsilon / steps
    return linf_attack(model, images, labels, epsilon=epsilon, step_size=size, steps=steps, mask=mask.logical_not())


def sign_noise(images: Tensor, *, epsilon: float, generator: torch.Generator | None = None) -> Tensor:
    """Every pixel moved by +epsilon or -epsilon at random: the control of FGSM's size without its direction.

    Shape:
        images, result: (B, 3, H, W) in [0, 1].

    Raises:
        ParameterError: epsilon or the images are out of range.
    """
    check_radius(epsilon)
    check_images(images)
    signs = torch.empty_like(images).bernoulli_(0.5, generator=generator).mul_(2).sub_(1)
    return (images + epsilon * signs).clamp_(0, 1)
