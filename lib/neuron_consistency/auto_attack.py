"""Accuracy under AutoAttack in its published composition: a judge that is not of our making."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.errors import ParameterError
from neuron_consistency.networks.models import Classifier
from neuron_consistency.runtime import add_up, autocast, part


def auto_attack_predictions(
    model: Classifier,
    images: ImageSet,
    *,
    epsilon: float,
    device: torch.device,
    n_queries: int = 5000,
    batch_size: int = 256,
    precision: str = "auto",
) -> Tensor:
    """What the model says under AutoAttack; several processes share the images.

    Four attacks take turns, each on the images that withstood the ones before: APGD on the cross-entropy, APGD and FAB
    towards up to nine other classes, and Square, which sees logits alone and so is not misled by masked gradients.
    Images that are wrong when clean are not attacked.

    Args:
        model: the network.
        images: the set.
        epsilon: radius of the L-infinity ball, in units of the pixel range.
        device: where.
        n_queries: of Square at most; 5000 in the standard version.
        batch_size: images a forward pass.
        precision: of the forward passes.

    Shape:
        result: (N,) int64, on the CPU.

    Raises:
        ParameterError: pyautoattack is not installed, or there are fewer than four classes.

    Source: Croce and Hein 2020, their own implementation, version "standard". Not in the papers.
    """
    try:
        from pyautoattack import AutoAttack
    except ImportError as error:
        raise ParameterError(
            "AutoAttack needs the package pyautoattack: install the extra autoattack (pip install -e '.[autoattack]'), "
            "or leave auto_attack off"
        ) from error
    if images.num_classes < 4:
        raise ParameterError(f"AutoAttack needs four classes or more, and {images.name} has {images.num_classes}")
    network = copy.deepcopy(model).requires_grad_(False).eval().to(device)  # no gradient is left in the caller's

    def logits(batch: Tensor) -> Tensor:
        with autocast(device, precision):
            return network(batch).float()  # type: ignore[no-any-return]

    predictions = torch.zeros(len(images), dtype=torch.int64, device=device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        attack = AutoAttack(logits, eps=epsilon, device=device, seed=0)
        attack.square.n_queries = n_queries
        attack.apgd_targeted.n_target_classes = attack.fab.n_target_classes = min(9, images.num_classes - 1)
        for places, batch, labels in images.batches(batch_size, device=device, part=part()):
            batch = batch.contiguous()  # the package takes views of its gradients
            _, said = attack.run_standard_evaluation(batch, labels, batch_size=batch_size)
            predictions[places.to(device)] = said
    add_up(predictions)
    return predictions.cpu()
