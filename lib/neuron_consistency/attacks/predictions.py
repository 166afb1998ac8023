"""What a network says of a set, attacked or not: logits, predictions under one start or many, AutoAttack."""

import copy
from functools import partial

import torch
from torch import Tensor, nn

from neuron_consistency.attacks.linf import check_radius, pgd
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.errors import ParameterError, require
from neuron_consistency.networks.models import Classifier
from neuron_consistency.networks.reading import Attack, each_batch, over
from neuron_consistency.runtime import Runtime, gather_rows
from neuron_consistency.statistics import share


def class_scores(
    model: nn.Module, images: ImageSet, on: Runtime, *, attack: Attack | None = None, shared: bool = False
) -> tuple[Tensor, Tensor]:
    """The model's logits for a whole set, in eval mode, after an attack if there is one; and the labels.

    Shape:
        result: (N, K) float32 and (N,) or (N, K), both on the CPU. Images that were skipped, because their files are
        damaged and may be, are in neither.
    """
    rows = [
        (seen.places, seen.logits.float().cpu(), seen.labels.cpu())
        for seen in over(model, images, on, attack=attack, shared=shared)
    ]
    scores, labels = gather_rows(rows, shared=shared)
    return scores, labels


def predictions(model: nn.Module, images: ImageSet, on: Runtime, *, attack: Attack | None = None) -> Tensor:
    """The class that the model takes each image for, see `class_scores`. Shape: (N,) int64, on the CPU."""
    return class_scores(model, images, on, attack=attack)[0].argmax(1)


def accuracy(
    model: nn.Module, images: ImageSet, on: Runtime, *, attack: Attack | None = None, shared: bool = False
) -> float:
    """The share of the images that the model, in eval mode, classifies rightly."""
    scores, labels = class_scores(model, images, on, attack=attack, shared=shared)
    return float((scores.argmax(1) == labels).float().mean())


def under_pgd(on: Runtime, *, epsilon: float, steps: int) -> Attack:
    """PGD as the attack of one pass, its random starts drawn anew from seed 0 (FGSM alone can be a masked gradient)."""
    return partial(pgd, epsilon=epsilon, steps=steps, generator=torch.Generator(on.device).manual_seed(0))


def restarted_predictions(model: Classifier, images: ImageSet, on: Runtime, *, attack: Attack, restarts: int) -> Tensor:
    """What the model says under an attack that is tried again and again, each image until it is fooled.

    An image counts as right only where it withstands all `restarts` starts. Images that are wrong when clean are not
    attacked.

    Args:
        attack: one with a random start, such as `under_pgd` gives.

    Shape:
        result: (N,) int64, on the CPU.

    Source: Madry et al. 2018; restarts as is customary since. Not in the papers.
    """

    require(0, whole=True, restarts=restarts)

    def withstood(_places: Tensor, batch: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            said: Tensor = model(batch).argmax(1)
        for _ in range(restarts):
            right = (said == labels).nonzero().squeeze(1)
            if not len(right):
                break
            attacked = attack(model, batch[right], labels[right])
            with torch.no_grad():
                said[right] = model(attacked).argmax(1)
        return said.cpu()

    return torch.cat([said for _, said in each_batch(model, images, on, withstood)])


def accuracy_row(predictions: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy in per cent with its Wilson interval of 95 %, over images.

    Shape:
        predictions, labels: (N,) int64.
    """
    return share(predictions == labels, whole=100).row("accuracy", bare=True)


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


def auto_attack_predictions(
    model: Classifier, images: ImageSet, on: Runtime, *, epsilon: float, n_queries: int = 5000
) -> Tensor:
    """What the model says under AutoAttack.

    Four attacks take turns, each on the images that withstood the ones before: APGD on the cross-entropy, APGD and FAB
    towards up to nine other classes, and Square, which sees logits alone and so is not misled by masked gradients.
    Images that are wrong when clean are not attacked.

    Args:
        epsilon: radius of the L-infinity ball, in units of the pixel range.
        n_queries: of Square at most; 5000 in the standard version.

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
    check_radius(epsilon)
    require(1, whole=True, n_queries=n_queries)
    if images.num_classes < 4:
        raise ParameterError(f"AutoAttack needs four classes or more, and {images.name} has {images.num_classes}")
    network = copy.deepcopy(model).requires_grad_(False).eval().to(on.device)  # no gradient is left in the caller's

    def logits(batch: Tensor) -> Tensor:
        with on.autocast():
            return network(batch).float()  # type: ignore[no-any-return]

    found = []
    with torch.random.fork_rng([on.device] if on.device.type == "cuda" else []):
        attack = AutoAttack(logits, eps=epsilon, device=on.device, seed=0)
        attack.square.n_queries = n_queries
        attack.apgd_targeted.n_target_classes = attack.fab.n_target_classes = min(9, images.num_classes - 1)
        for _, batch, labels in images.batches(on.batch_size, device=on.device):
            batch = batch.contiguous()  # the package takes views of its gradients
            found.append(attack.run_standard_evaluation(batch, labels, batch_size=on.batch_size)[1].cpu())
    return torch.cat(found)
