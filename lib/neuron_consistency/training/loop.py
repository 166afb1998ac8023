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
    loss_of_batch: Loss,
    optimiser: torch.optim.Optimizer,
    batch: Tensor,
    labels: Tensor,
    on: Runtime,
    *,
    weights: Tensor | None = None,
    grouping: Grouping | None = None,
) -> StepLoss:
    """One step of the optimiser on a batch, the model in the mode it is in; `loss_of_batch` is from `loss_of`.

    Shape:
        batch: (B, 3, H, W) in [0, 1]; labels: (B,) int64, or (B, K) float of 0 and 1; weights: (B,).
    """
    with on.autocast():
        step = loss_of_batch(batch, labels, weights=weights, grouping=grouping)
    optimiser.zero_grad(set_to_none=True)
    trained = [p for group in optimiser.param_groups for p in group["params"]]
    step.loss.backward(inputs=trained)  # type: ignore[no-untyped-call]  # not the image's gradient
    optimiser.step()
    return step


def _epoch(
    model: Classifier,
    images: ImageSet,
    loss_of_batch: Loss,
    schedule: Schedule,
    optimiser: torch.optim.Optimizer,
    on: Runtime,
    *,
    epoch: int,
    weights: Tensor | None,
    grouping: Grouping | None,
) -> dict[str, float]:
    """One pass over the training set, each process with its part of every batch; one synchronisation, at the end."""
    share = this_process()
    generator = torch.Generator().manual_seed(schedule.seed * 100_003 + epoch)
    order = torch.randperm(len(images), generator=generator)
    per_epoch = max(1, len(images) // schedule.batch_size)
    order = order[: per_epoch * schedule.batch_size]
    own = order.view(per_epoch, share.size, -1)[:, share.rank].flatten()
    sums: dict[str, Tensor] = {}
    model.train()
    batches = images.subset(own).batches(schedule.batch_size // share.size, device=on.device)
    for number, (places, batch, labels) in enumerate(batches):
        for group in optimiser.param_groups:
            group["lr"] = schedule.rate(epoch * per_epoch + number, schedule.epochs * per_epoch)
        batch = augment(batch, generator=generator, part=share)
        step = training_step(
            loss_of_batch,
            optimiser,
            batch,
            labels,
            on,
            weights=None if weights is None else weights[own[places]].to(on.device),
            grouping=grouping,
        )
        for name, value in (step.parts | {"loss": step.loss.detach()}).items():
            sums[name] = sums.get(name, torch.zeros((), device=on.device)) + value
    broadcast_buffers(model)
    all_reduce(*sums.values())
    of = {name: len(order) if name.endswith("correct") else per_epoch * share.size for name in sums}
    means = {name: value.item() / of[name] for name, value in sums.items()}
    return {name.replace("correct", "accuracy"): value for name, value in means.items()}


def _watch(
    model: Classifier, images: ImageSet, objective: Objective, schedule: Schedule, on: Runtime
) -> dict[str, Any]:
    """FGSM and PGD accuracy on a few training images: FGSM training can collapse, and only PGD shows it."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(schedule.seed))
    batch, labels = images.batch(order[: schedule.watched_images], on.device)  # sets may lie sorted by class
    model.eval()
    with on.autocast():
        generator = torch.Generator(on.device).manual_seed(schedule.seed)
        attacked = {
            "fgsm_accuracy": fgsm(model, batch, labels, epsilon=objective.epsilon),
            "pgd_accuracy": pgd(
                model,
                batch,
                labels,
                epsilon=objective.epsilon,
                steps=schedule.watch_steps,
                generator=generator,
            ),
        }
        with torch.no_grad():
            row: dict[str, Any] = {
                name: (model(adversarial).argmax(1) == labels).float().mean().item()
                for name, adversarial in attacked.items()
            }
    chance = 1 / images.num_classes
    row["collapsed"] = row["fgsm_accuracy"] > 3 * chance and row["pgd_accuracy"] < row["fgsm_accuracy"] / 4
    return row


def train(
    model: Classifier,
    images: ImageSet,
    objective: Objective,
    schedule: Schedule,
    *,
    device: torch.device,
    weighting: Weighting | None = None,
    filter_groups: FilterGroups | None = None,
    validation: ImageSet | None = None,
    checkpoint: Path | None = None,
    checkpoint_key: str = "",
    report: Report | None = None,
) -> History:
    """Trains `model` in place and returns its history, one row an epoch.

    After every epoch the state is written to `checkpoint`; a call that finds a checkpoint of the same key goes
    on from there, and ends with the weights of an uninterrupted run (bit for bit on the CPU in float32).

    Within a `process_group` all processes call this alike and end with the same weights. Each takes its part of every
    batch, augmented as it would be in one process, and gradients are averaged. What a batch has of its own, the
    statistics of batch norm in train mode and the scale of phi in d, is of a process's part; the running statistics
    are the first process's. A network with batch norm so differs from the same one trained in one process, as one of
    smaller batches does; without, the two differ by rounding (and dropout's draws).

    Args:
        model: the network; moved to `device`.
        images: the training set.
        objective: what to minimise.
        schedule: how.
        device: where.
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
    if len(images) < schedule.batch_size:
        raise ParameterError(
            f"batch_size={schedule.batch_size} is more than the {len(images)} training images: lower it"
        )
    if weighting is not None and weighting.warm_up >= schedule.epochs:
        raise ParameterError(
            f"warm_up={weighting.warm_up} leaves none of the {schedule.epochs} epochs to weighted training: lower it"
        )
    share = this_process()
    if schedule.batch_size % share.size or (filter_groups is not None and share.size > 1):
        raise ParameterError(
            f"{share.size} processes cannot train batches of {schedule.batch_size}"
            + (": let their number divide batch_size" if filter_groups is None else " with filter groups: use one")
        )
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
    on = Runtime(device, schedule.precision, schedule.batch_size)
    for epoch in range(len(history), schedule.epochs):
        started = time.perf_counter()
        row: dict[str, Any] = {"epoch": epoch + 1}
        if weighting is not None and weighting.due(epoch):
            weighed = weigh(model, images, weighting, on, shared=True)
            weights = weighed.weights
            row |= weighed.row() | {"weighing_seconds": time.perf_counter() - started}
        if grouping is not None and grouping.due(epoch):
            grouping.form(model, images, on)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(schedule.seed * 100_003 + epoch + share.rank * 1_000_000_007)  # dropout is each one's own
            row |= _epoch(
                model,
                images,
                loss_of_batch,
                schedule,
                optimiser,
                on,
                epoch=epoch,
                weights=weights,
                grouping=grouping,
            )
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
        if checkpoint is not None and share.rank == 0:
            save_checkpoint(
                checkpoint,
                checkpoint_key,
                model,
                optimiser,
                history=history,
                weights=weights,
                grouping=None if grouping is None else grouping.state(),
            )
        if report is not None and share.rank == 0:
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
