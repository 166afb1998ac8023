"""How right a network is under attack: predictions under PGD, also with restarts, and accuracy with its interval."""

from __future__ import annotations

import torch
from torch import Tensor

from neuron_consistency.attacks import pgd
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.networks.models import Classifier
from neuron_consistency.networks.reading import evaluating
from neuron_consistency.responses import respond
from neuron_consistency.runtime import add_up, autocast, part
from neuron_consistency.statistics import share


def pgd_predictions(
    model: Classifier,
    images: ImageSet,
    *,
    epsilon: float,
    steps: int,
    device: torch.device,
    batch_size: int = 256,
    precision: str = "auto",
) -> Tensor:
    """What the model says of its PGD images, for Table 3 (FGSM accuracy alone can be a masked gradient).

    Shape:
        result: (N,) int64.
    """
    generator = torch.Generator(device).manual_seed(0)
    return respond(
        model,
        images,
        device=device,
        top_k=1,
        attack=lambda network, batch, labels: pgd(
            network, batch, labels, epsilon=epsilon, steps=steps, generator=generator
        ),
        batch_size=batch_size,
        precision=precision,
    ).predictions


def restarted_pgd_predictions(
    model: Classifier,
    images: ImageSet,
    *,
    epsilon: float,
    steps: int,
    restarts: int,
    device: torch.device,
    batch_size: int = 256,
    precision: str = "auto",
) -> Tensor:
    """What the model says under PGD tried again and again, each image until it is fooled; several processes share it.

    An image counts as right only where it withstands all `restarts` random starts, so accuracy under this attack is
    never above that under one start. Images that are wrong when clean are not attacked.

    Args:
        model: the network.
        images: the set.
        epsilon, steps: of `attacks.pgd`.
        restarts: random starts at most.
        device: where.
        batch_size: images a forward pass.
        precision: of the forward passes.

    Shape:
        result: (N,) int64, on the CPU.

    Source: Madry et al. 2018; restarts as is customary since. Not in the papers.
    """
    generator = torch.Generator(device).manual_seed(0)
    predictions = torch.zeros(len(images), dtype=torch.int64, device=device)
    model.to(device)
    with evaluating(model), autocast(device, precision):
        for places, batch, labels in images.batches(batch_size, device=device, part=part()):
            with torch.no_grad():
                said = model(batch).argmax(1)
            for _ in range(restarts):
                right = (said == labels).nonzero().squeeze(1)
                if not len(right):
                    break
                attacked = pgd(model, batch[right], labels[right], epsilon=epsilon, steps=steps, generator=generator)
                with torch.no_grad():
                    said[right] = model(attacked).argmax(1)
            predictions[places.to(device)] = said
    add_up(predictions)
    return predictions.cpu()


def accuracy_row(predictions: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy in per cent with its Wilson interval of 95 %, over images.

    Shape:
        predictions, labels: (N,) int64.
    """
    return share(predictions == labels, whole=100).row("accuracy", bare=True)
