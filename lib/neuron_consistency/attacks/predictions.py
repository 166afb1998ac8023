"""How right a network is under attack: predictions under PGD, also with restarts, and accuracy with its interval."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from neuron_consistency.attacks.linf import Attack, pgd
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.errors import ParameterError
from neuron_consistency.networks.models import Classifier
from neuron_consistency.networks.reading import evaluating
from neuron_consistency.responses import respond
from neuron_consistency.runtime import add_up, autocast, gather_rows, part
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
        epsilon, steps: of `linf.pgd`.
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
