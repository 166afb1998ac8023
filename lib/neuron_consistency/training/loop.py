"""The training loop: one for every objective, resumable after a kill, watched for collapse."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from neuron_consistency.attacks.linf import fgsm, pgd
from neuron_consistency.attacks.predictions import accuracy, average_precision, class_scores
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.errors import ParameterError, TrainingError
from neuron_consistency.explanation.filter_groups import FilterGroups, Grouping
from neuron_consistency.explanation.weighting import Weighting, weigh
from neuron_consistency.networks.models import Classifier
from neuron_consistency.runtime import Runtime, all_reduce, broadcast, broadcast_buffers, this_process
from neuron_consistency.training.augmentation import augment
from neuron_consistency.training.checkpoint import load_checkpoint, save_checkpoint
from neuron_consistency.training.objective import Objective, StepLoss
from neuron_consistency.training.schedule import Schedule, optimiser_of

History = list[dict[str, Any]]
Report = Callable[[dict[str, Any], int], None]  # (row of the history, number of epochs)
Loss = Callable[..., StepLoss]  # (images, labels, weights=, grouping=) -> the loss of a batch


class _Step(nn.Module):
    """An objective as a module around its model: all passes of a step are one forward to DistributedDataParallel."""

    def __init__(self, model: Classifier, objective: Objective) -> None:
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, *batch: Any, **more: Any) -> StepLoss:
        return self.objective(self.model, *batch, **more)


def loss_of(model: Classifier, objective: Objective) -> Loss:
    """The objective of the model; where several processes train it, its gradients are averaged over them."""
    return partial(objective, model) if this_process().size == 1 else DistributedDataParallel(_Step(model, objective))


def training_step(
    loss_of_batch: Loss, optimiser: torch.optim.Optimizer, batch: Tensor, labels: Tensor, on: Runtime, **more: Any
) -> StepLoss:
    """One step of the optimiser on a batch, the model in the mode it is in.

    Args:
        loss_of_batch: from `loss_of`.
        more: the images' weights and the grouping of filters, as in `Objective`.

    Shape:
        batch: (B, 3, H, W) in [0, 1]; labels: (B,) int64, or (B, K) float of 0 and 1.
    """
    with on.autocast():
        step = loss_of_batch(batch, labels, **more)
    optimiser.zero_grad(set_to_none=True)
    trained = [p for group in optimiser.param_groups for p in group["params"]]
    step.loss.backward(inputs=trained)  # type: ignore[no-untyped-call]  # not the image's gradient
    optimiser.step()
    return step


def _epoch(
    model: Classifier, images: ImageSet, loss_of_batch: Loss, schedule: Schedule, optimiser: torch.optim.Optimizer,
    on: Runtime, *, epoch: int, weights: Tensor | None, grouping: Grouping | None,
) -> dict[str, float]:  # fmt: skip
    """One pass over the training set, each process with its part of every batch; one synchronisation, at the end."""
    share, seed = this_process(), schedule.seed * 100_003 + epoch
    generator = torch.Generator().manual_seed(seed)
    per_epoch = max(1, len(images) // schedule.batch_size)
    order = torch.randperm(len(images), generator=generator)[: per_epoch * schedule.batch_size]
    own = order.view(per_epoch, share.size, -1)[:, share.rank].flatten()
    sums: dict[str, Tensor] = {}
    model.train()
    with torch.random.fork_rng(devices=[on.device] if on.device.type == "cuda" else []):
        torch.manual_seed(seed + share.rank * 1_000_000_007)  # each process has a dropout of its own
        batches = images.subset(own).batches(schedule.batch_size // share.size, device=on.device)
        for number, (places, batch, labels) in enumerate(batches):
            for group in optimiser.param_groups:
                group["lr"] = schedule.rate(epoch * per_epoch + number, schedule.epochs * per_epoch)
            batch = augment(batch, generator=generator, part=share)
            weighed = None if weights is None else weights[own[places]].to(on.device)
            step = training_step(loss_of_batch, optimiser, batch, labels, on, weights=weighed, grouping=grouping)
            for name, value in (step.parts | {"loss": step.loss.detach()}).items():
                sums[name] = sums.get(name, torch.zeros((), device=on.device)) + value
    broadcast_buffers(model)
    all_reduce(*sums.values())
    of = {name: len(order) if name.endswith("correct") else per_epoch * share.size for name in sums}
    return {name.replace("correct", "accuracy"): value.item() / of[name] for name, value in sums.items()}


def _watch(
    model: Classifier, images: ImageSet, objective: Objective, schedule: Schedule, on: Runtime
) -> dict[str, Any]:
    """FGSM and PGD accuracy on a few training images: FGSM training can collapse, and only PGD shows it."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(schedule.seed))
    watched = images.subset(order[: schedule.watched_images])  # sets may lie sorted by class
    generator = torch.Generator(on.device).manual_seed(schedule.seed)
    attacks = {
        "fgsm_accuracy": partial(fgsm, epsilon=objective.epsilon),
        "pgd_accuracy": partial(pgd, epsilon=objective.epsilon, steps=schedule.watch_steps, generator=generator),
    }
    row: dict[str, Any] = {name: accuracy(model, watched, on, attack=attack) for name, attack in attacks.items()}
    told = row["fgsm_accuracy"] > 3 / images.num_classes  # than by chance
    return row | {"collapsed": told and row["pgd_accuracy"] < row["fgsm_accuracy"] / 4}


def _check(images: ImageSet, schedule: Schedule, weighting: Weighting | None, groups: FilterGroups | None) -> None:
    if len(images) < schedule.batch_size:
        raise ParameterError(
            f"batch_size={schedule.batch_size} is more than the {len(images)} training images: lower it"
        )
    if weighting is not None and weighting.warm_up >= schedule.epochs:
        raise ParameterError(
            f"warm_up={weighting.warm_up} leaves none of the {schedule.epochs} epochs to weighted training: lower it"
        )
    size = this_process().size
    if schedule.batch_size % size or (groups is not None and size > 1):
        cure = ": let their number divide batch_size" if groups is None else " with filter groups: use one"
        raise ParameterError(f"{size} processes cannot train batches of {schedule.batch_size}{cure}")


def train(
    model: Classifier, images: ImageSet, objective: Objective, schedule: Schedule, *, device: torch.device,
    weighting: Weighting | None = None, filter_groups: FilterGroups | None = None, validation: ImageSet | None = None,
    checkpoint: Path | None = None, checkpoint_key: str = "", report: Report | None = None,
) -> History:  # fmt: skip
    """Trains `model` in place and returns its history, one row an epoch.

    After every epoch the state is written to `checkpoint`; a call that finds a checkpoint of the same key goes
    on from there, and ends with the weights of an uninterrupted run (bit for bit on the CPU in float32, where it has
    as many threads).

    Within a `process_group` all processes call this alike and end with the same weights. Each takes its part of every
    batch, augmented as it would be in one process, and gradients are averaged. The statistics of batch norm and the
    scale of phi in d are those of a process's part of a batch, so a network with batch norm differs from one trained
    in one process as if its batches were smaller. A network without differs by rounding and by the draws of dropout.

    Args:
        weighting: P3's weights of the images, taken anew every few epochs; None weighs all alike.
        filter_groups: icCNN's grouping of a layer's filters, formed anew every few epochs; None groups none.
        validation: its accuracy (or mAP) is measured after every epoch; never the set that is reported.
        checkpoint: file of the resumable state, or None.
        checkpoint_key: what the run is; a checkpoint with another key is refused.
        report: called after every epoch, with its row and the number of epochs.

    Raises:
        TrainingError: the loss is not finite (the last checkpoint stands), or the checkpoint is of another run.
        ParameterError: the training set is smaller than a batch, or its weights would never be used; the processes
            do not divide a batch, or have filters to group.

    Source: P1, Eq. 6; P3's pipeline of training and weighing in turn; the watch for collapse follows Wong et al. 2020.
    """
    _check(images, schedule, weighting, filter_groups)
    on, first = Runtime(device, schedule.precision, schedule.batch_size), this_process().rank == 0
    model.to(device)
    images = images.to(device)
    optimiser = optimiser_of(model, schedule)
    grouping = None if filter_groups is None else Grouping(model, filter_groups)
    history: History = []
    weights: Tensor | None = None
    if checkpoint is not None and broadcast(checkpoint.exists()):
        state = load_checkpoint(checkpoint, checkpoint_key, model, optimiser, device)
        history, weights = state["history"], state["weights"]
        if grouping is not None:
            grouping.restore(state["grouping"])
    loss_of_batch = loss_of(model, objective)
    for epoch in range(len(history), schedule.epochs):
        started = time.perf_counter()
        row: dict[str, Any] = {"epoch": epoch + 1}
        if weighting is not None and weighting.due(epoch):
            weighed = weigh(model, images, weighting, on, shared=True)
            weights = weighed.weights
            if weighting.permuted:
                weights = weights[torch.randperm(len(images), generator=torch.Generator().manual_seed(schedule.seed))]
            row |= weighed.row() | {"weighing_seconds": time.perf_counter() - started}
        if grouping is not None and grouping.due(epoch):
            grouping.form(model, images, on)
        now: dict[str, Any] = {"epoch": epoch, "weights": weights, "grouping": grouping}
        row |= _epoch(model, images, loss_of_batch, schedule, optimiser, on, **now)
        row["seconds"] = time.perf_counter() - started  # of the training alone, without the checks
        if not math.isfinite(row["loss"]):
            raise TrainingError(
                f"the loss became {row['loss']} in epoch {epoch + 1}: lower learning_rate (now "
                f"{schedule.learning_rate}) or beta (now {objective.beta})"
                + (f"; the epochs before it are in {checkpoint}" if history and checkpoint else "")
            )
        if objective.alpha < 1:
            row |= _watch(model, images, objective, schedule, on)
            if row["collapsed"]:
                warnings.warn(
                    f"FGSM training has collapsed in epoch {epoch + 1}: accuracy {row['fgsm_accuracy']:.2f} under "
                    f"FGSM but {row['pgd_accuracy']:.2f} under PGD of the same epsilon. The network hides its "
                    "gradient instead of resisting. Lower epsilon, train shorter, or raise beta.",
                    stacklevel=2,
                )
        if validation is not None:
            row |= validation_row(model, validation, on, shared=True)
        history.append(row)
        if checkpoint is not None and first:
            kept = {"history": history, "weights": weights, "grouping": grouping and grouping.state()}
            save_checkpoint(checkpoint, checkpoint_key, model, optimiser, **kept)
        if report is not None and first:
            report(row, schedule.epochs)
    return history


def validation_row(model: nn.Module, images: ImageSet, on: Runtime, *, shared: bool = False) -> dict[str, float]:
    """What an epoch's row of the history says of the images held out: their accuracy, or with several labels their mAP.

    A class that none of the images has is left out of the mean. Processes that train together may share the images.
    """
    if not images.labels.is_floating_point():
        return {"validation_accuracy": accuracy(model, images, on, shared=shared)}
    scores, labels = class_scores(model, images, on, shared=shared)
    return {"validation_map": average_precision(scores, labels).nanmean().item()}
