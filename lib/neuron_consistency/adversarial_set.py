"""Sets of targeted adversarial images, stored as a file would hold them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from neuron_consistency.attacks import optimise_targeted
from neuron_consistency.compute import autocast
from neuron_consistency.data.images import ImageSet
from neuron_consistency.errors import ParameterError


@dataclass(frozen=True)
class TargetedSet:
    """A set of targeted adversarial images, stored as 8-bit pixels, and what became of each.

    Shape:
        targets: (N,) int64; success: (N,) bool, of the stored image; distance: (N,) root mean squared change.
    """

    images: ImageSet
    targets: Tensor
    success: Tensor
    distance: Tensor


def random_targets(labels: Tensor, *, num_classes: int, seed: int = 0) -> Tensor:
    """For every image a class drawn evenly from those that are not its own.

    Shape:
        labels, result: (N,) int64.
    """
    generator = torch.Generator().manual_seed(seed)
    return (labels.cpu() + torch.randint(1, num_classes, labels.shape, generator=generator)) % num_classes


def targeted_set(
    models: Sequence[nn.Module],
    images: ImageSet,
    targets: Tensor,
    *,
    device: torch.device,
    batch_size: int = 128,
    precision: str = "auto",
    **options: float,
) -> TargetedSet:
    """Eq. 4 over a whole set: the images rounded to 8 bits, as a file would hold them, and success after that.

    Args:
        models: one network, or an ensemble, in eval mode.
        images: the clean set; its labels stay those of the adversarial one.
        targets: a class for every image.
        device: where.
        batch_size: images optimised together.
        precision: of the forward passes.
        **options: of `optimise_targeted`.

    Shape:
        targets: (N,) int64.

    Raises:
        ParameterError: a target is its image's own class.
    """
    if bool((targets == images.labels.cpu()).any()):
        raise ParameterError("a target equals the true class: draw targets among the other classes")
    pixels, success, distance = [], [], []
    for model in models:
        model.to(device)
    with autocast(device, precision):
        for indices, batch, _ in images.batches(batch_size, device=device):
            aims = targets[indices.cpu()].to(device)
            found = optimise_targeted(models, batch, aims, **options)  # type: ignore[arg-type]
            stored = (found.images * 255).round().to(torch.uint8)
            shown = stored.float() / 255
            with torch.no_grad():
                agreed = torch.stack([model(shown).argmax(1) == aims for model in models]).all(0)
            pixels.append(stored.cpu())
            success.append(agreed.cpu())
            distance.append((shown - batch).flatten(1).square().mean(1).sqrt().cpu())
    adversarial = replace(
        images, pixels=torch.cat(pixels), labels=images.labels.cpu(), fingerprint=f"{images.fingerprint}-targeted"
    )
    return TargetedSet(adversarial, targets, torch.cat(success), torch.cat(distance))
