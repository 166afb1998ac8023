"""Targeted adversarial images by optimisation, against one network or an ensemble (Eq. 4 of P1, the attack of P2)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from neuron_consistency.attacks.linf import check_answer, check_images
from neuron_consistency.attacks.predictions import class_scores
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.errors import ParameterError, require
from neuron_consistency.networks.models import Classifier
from neuron_consistency.runtime import Runtime

BETAS, TINY = (0.9, 0.999), 1e-8  # Adam's usual ones
FUSIONS = ("probability", "loss", "logits")


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


def ensemble_loss(logits: Tensor, targets: Tensor, *, fusion: str) -> Tensor:
    """How far the networks together are from the target; of one network, cross-entropy in each form.

    "probability" is -log of the networks' mean probability of the target. It hardly asks for more once one
    network is sure of the target. "loss" is the mean of the networks' cross-entropies, "logits" the cross-entropy of
    their mean logits.

    Shape:
        logits: (networks, B, K); targets: (B,) int64; result: (B,).

    Raises:
        ParameterError: an unknown fusion.

    Source: P2's ensemble attack; its form is not available to us, so all three are ours (Liu et al. 2017 and Dong et
    al. 2018 compare them).
    """
    if fusion not in FUSIONS:
        raise ParameterError(f"fusion={fusion!r}: use one of {', '.join(FUSIONS)}")
    if fusion == "logits":
        return functional.cross_entropy(logits.float().mean(0), targets, reduction="none")
    logs = functional.log_softmax(logits.float(), dim=2)
    joined = logs.mean(0) if fusion == "loss" else logs.logsumexp(dim=0) - math.log(len(logits))
    return -joined.gather(1, targets[:, None]).squeeze(1)


def say_target(models: Sequence[nn.Module], images: Tensor, targets: Tensor) -> Tensor:
    """Which networks take which images for their targets, in float32 whatever precision is set around.

    Shape:
        images: (B, 3, H, W) in [0, 1]; targets: (B,) int64; result: (B, networks) bool.
    """
    with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        return torch.stack([model(images).argmax(1) == targets for model in models], dim=1)


def optimise_targeted(
    models: Sequence[nn.Module],
    images: Tensor,
    targets: Tensor,
    *,
    trade_off: float = 10.0,
    steps: int = 60,
    learning_rate: float = 0.01,
    search_steps: int = 1,
    stop_early: bool = True,
    halvings: int = 5,
    fusion: str = "loss",
) -> TargetedImages:
    """Targeted images by P1's Eq. 4: argmin over x* of ||x* - x||_2 + lambda * loss(x*, y*).

    Adam in pixel space; the box [0, 1] is kept by projection after each step. With `search_steps` > 1, lambda is
    searched by bisection on a logarithmic scale for each image: larger where the attack failed, smaller where it
    succeeded. An iterate succeeds if every model takes it for the target, also when it is rounded to 8 bits, as a file
    would hold it. Of all that succeed the one nearest to x is kept; where there is none, the last.

    The step that succeeds also overshoots, by more than half of the way at a learning rate of .02. So the kept image
    is drawn back towards x, by bisection of the line between them, as far as it goes on succeeding.

    With `stop_early` an image leaves at its first success. It then costs nothing more, and its leaving changes the
    others only by rounding in the networks (in eval mode). Later iterates are hardly ever nearer unless lambda is
    small: the loss goes on pushing.

    Args:
        models: one network, or an ensemble.
        trade_off: lambda, or where its search begins.
        steps: Adam steps for each lambda, at most.
        learning_rate: of Adam, in units of the pixel range.
        search_steps: how many values of lambda are tried; 1 keeps it fixed.
        stop_early: leave at the first success instead of looking for a nearer one until the last step.
        halvings: how often the line back to x is halved; 0 keeps the iterate.
        fusion: of the networks' losses into one, see `ensemble_loss`.

    Shape:
        images: (B, 3, H, W) in [0, 1]; targets: (B,) int64.

    Raises:
        ParameterError: no model, a setting or the images out of range, targets that are no classes, an unknown fusion.

    Source: P1, Eq. 4; P2, its adversarial images. Optimiser, its length, the search, the rule for stopping and the way
    back are ours (the papers leave them open).
    """
    if not models:
        raise ParameterError("the optimisation attack needs a model or more, and has none")
    require(1, whole=True, steps=steps, search_steps=search_steps)
    require(0, whole=True, halvings=halvings)
    require(0, above=True, trade_off=trade_off, learning_rate=learning_rate)
    check_images(images)
    clean = images.detach()
    best, last = clean.clone(), clean.clone()
    best_norm = clean.new_full((len(clean),), torch.inf)
    weight = clean.new_full((len(clean),), trade_off)
    low, high = torch.zeros_like(weight), torch.full_like(weight, torch.inf)
    for _ in range(search_steps):
        found = torch.zeros_like(targets, dtype=torch.bool)
        rows = torch.arange(len(clean), device=clean.device)  # of the images that are still in the batch
        point, mean, square = clean.clone(), torch.zeros_like(clean), torch.zeros_like(clean)
        for step in range(steps + 1):
            aims = targets[rows]
            point.requires_grad_()
            with torch.enable_grad():
                said = [model(point) for model in models]
                if step == 0:
                    for each in said:
                        check_answer(each, aims)
                logits = torch.stack([each.float() for each in said])
                norm = (point - clean[rows]).flatten(1).square().sum(1).add(1e-12).sqrt()  # finite slope at x* = x
                objective = norm + weight[rows] * ensemble_loss(logits, aims, fusion=fusion)
            fooled = (logits.argmax(dim=2) == aims).all(dim=0)
            if bool(fooled.any()):
                fooled = fooled.masked_scatter(fooled, _stored_success(models, point.detach()[fooled], aims[fooled]))
            nearer = fooled & (norm.detach() < best_norm[rows])
            best[rows[nearer]], best_norm[rows[nearer]] = point.detach()[nearer], norm.detach()[nearer]
            found[rows[fooled]] = True
            if step == steps or (stop_early and bool(fooled.all())):
                break
            (gradient,) = torch.autograd.grad(objective.sum(), point)
            mean.lerp_(gradient, 1 - BETAS[0])
            square.lerp_(gradient.square(), 1 - BETAS[1])
            ahead, scale = (part / (1 - beta ** (step + 1)) for part, beta in zip((mean, square), BETAS, strict=True))
            point = (point.detach() - learning_rate * ahead / (scale.sqrt() + TINY)).clamp_(0, 1)
            if stop_early and bool(fooled.any()):  # Adam is written out so that its state can leave with the image
                rows, point, mean, square = (part[~fooled] for part in (rows, point, mean, square))
        last[rows] = point.detach()
        high, low = torch.where(found, weight, high), torch.where(found, low, weight)
        weight = torch.where(high.isinf(), weight * 10, torch.where(low == 0, weight / 10, (low * high).sqrt()))
    success = best_norm.isfinite()
    result = torch.where(success[:, None, None, None], best, last)
    result[success] = _drawn_back(models, clean[success], result[success], targets[success], halvings)
    return TargetedImages(result, success, (result - clean).flatten(1).square().mean(1).sqrt())


def _stored_success(models: Sequence[nn.Module], images: Tensor, targets: Tensor) -> Tensor:
    """Whether every network takes the image for its target as a file of 8 bits holds it. Shape: (B,) bool."""
    return say_target(models, (images * 255).round() / 255, targets).all(dim=1)


def _drawn_back(models: Sequence[nn.Module], clean: Tensor, images: Tensor, targets: Tensor, halvings: int) -> Tensor:
    """The nearest point found on each line from a success to its clean image that succeeds, rounded and not."""
    if not len(images):
        return images
    reached = images.new_ones(len(images), 1, 1, 1)
    failed = torch.zeros_like(reached)
    for _ in range(halvings):
        middle = (failed + reached) / 2
        point = torch.lerp(clean, images, middle)
        said = say_target(models, point, targets).all(dim=1) & _stored_success(models, point, targets)
        holds = said[:, None, None, None]
        failed, reached = torch.where(holds, failed, middle), torch.where(holds, middle, reached)
    return torch.lerp(clean, images, reached)


def random_targets(labels: Tensor, *, num_classes: int, seed: int = 0) -> Tensor:
    """For every image a class drawn evenly from those that are not its own.

    Shape:
        labels, result: (N,) int64.
    """
    require(2, whole=True, num_classes=num_classes)
    generator = torch.Generator().manual_seed(seed)
    return (labels.cpu() + torch.randint(1, num_classes, labels.shape, generator=generator)) % num_classes


def least_likely_targets(models: Sequence[Classifier], images: ImageSet, on: Runtime, *, count: int = 10) -> Tensor:
    """For every image the classes least likely by the mean probability over the models, the least likely first.

    Shape:
        result: (N, count) int64, never the true class.

    Raises:
        ParameterError: no model, or more targets asked than there are other classes.

    Source: P2 makes ten images of each; that these are the targets is ours.
    """
    if not models or not 1 <= count < images.num_classes:
        raise ParameterError(
            f"{count} targets by {len(models)} networks: {images.num_classes} classes leave 1 to "
            f"{images.num_classes - 1}, and one network is needed"
        )
    scores, labels = zip(*(class_scores(model, images, on) for model in models), strict=True)
    # In logarithms: the probabilities themselves would be zero for several classes at once.
    likely = torch.stack(scores).log_softmax(2).logsumexp(0)
    return likely.scatter(1, labels[0][:, None], torch.inf).argsort(dim=1, stable=True)[:, :count]
