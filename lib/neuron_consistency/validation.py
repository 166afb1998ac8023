"""How right a network is: accuracy where an image has one label, mean average precision where it has several."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neuron_consistency.attacks import Attack
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.networks.reading import evaluating
from neuron_consistency.runtime import add_up, autocast, gather_rows, part


def accuracy(
    model: nn.Module,
    images: ImageSet,
    *,
    device: torch.device,
    batch_size: int = 256,
    precision: str = "auto",
) -> float:
    """Share of the images that the model, in eval mode, classifies rightly; its mode is restored."""
    correct, seen = torch.zeros((), device=device), torch.zeros((), device=device)
    with evaluating(model), torch.no_grad(), autocast(device, precision):
        for _, batch, labels in images.batches(batch_size, device=device, part=part()):
            correct += (model(batch).argmax(1) == labels).sum()
            seen += len(labels)  # fewer than the set has, where corrupt files may be skipped
    add_up(correct, seen)
    return correct.item() / seen.item()


def average_precision(scores: Tensor, labels: Tensor) -> Tensor:
    """The average precision of each class: the mean, over its images, of the precision down to the image's rank.

    Images of one score share a rank, the last of them, so that no order among ties is made up. At random scores it is
    about the class's share of the images.

    Shape:
        scores: (N, K), higher is likelier; labels: (N, K) of 0 and 1; result: (K,) float64, NaN where no image has
        the class.

    Source: the area under the step-wise curve of precision over recall, as scikit-learn has it and VOC from 2010 on
        nearly does (it takes the largest precision at or after each recall).
    """
    columns = []
    for score, label in zip(scores.double().cpu().T, labels.cpu().T, strict=True):
        positive, everything = score[label > 0].sort().values, score.sort().values
        hits = len(positive) - torch.searchsorted(positive, positive)
        claims = len(everything) - torch.searchsorted(everything, positive)
        columns.append((hits / claims.double()).mean())
    return torch.stack(columns)


def average_precision_parts(scores: Tensor, labels: Tensor) -> Tensor:
    """Each image's part in the mean average precision, so that it has an interval and pairs of networks a difference.

    Their mean is the mean average precision, the spread of their mean its jackknife error: N times it less N - 1 times
    that without the image, moved by what the jackknife takes for bias.

    Shape:
        scores: (N, K); labels: (N, K) of 0 and 1; result: (N,) float64, not bounded.

    Source: the pseudo-values of Tukey 1958; moving their mean is ours.
    """
    whole, count = average_precision(scores, labels).nanmean(), len(scores)
    rest = ~torch.eye(count, dtype=torch.bool)
    without = torch.stack([average_precision(scores[kept], labels[kept]).nanmean() for kept in rest])
    return whole - (count - 1) * (without - without.mean())


def class_scores(
    model: nn.Module,
    images: ImageSet,
    *,
    device: torch.device,
    attack: Attack | None = None,
    batch_size: int = 256,
    precision: str = "auto",
) -> tuple[Tensor, Tensor]:
    """The model's logits, in eval mode, for a whole set, and the labels.

    Args:
        model: the network, on the device.
        images: the set.
        device: where.
        attack: makes the images adversarial first.
        batch_size: images a forward pass.
        precision: of the forward passes.

    Shape:
        result: (N, K) float32 and the set's labels, (N,) or (N, K), both on the CPU.
    """
    found = []
    with evaluating(model), torch.no_grad(), autocast(device, precision):
        for places, batch, truth in images.batches(batch_size, device=device, part=part()):
            batch = batch if attack is None else attack(model, batch, truth)
            found.append((places, model(batch).float().cpu(), truth.cpu()))
    logits, labels = gather_rows(found)
    return logits, labels


def validation_row(
    model: nn.Module, images: ImageSet, *, device: torch.device, precision: str = "auto"
) -> dict[str, float]:
    """What an epoch's row of the history says of the images held out: their accuracy, or with several labels their mAP.

    A class that none of the images has is left out of the mean.
    """
    if not images.labels.is_floating_point():
        return {"validation_accuracy": accuracy(model, images, device=device, precision=precision)}
    scores, labels = class_scores(model, images, device=device, precision=precision)
    return {"validation_map": average_precision(scores, labels).nanmean().item()}
