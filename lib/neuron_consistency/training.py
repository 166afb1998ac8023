"""The training loop: one for every objective, resumable after a kill, watched for collapse."""

from __future__ import annotations

import io
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from neuron_consistency.attacks import fgsm, pgd
from neuron_consistency.compute import autocast
from neuron_consistency.data.images import ImageSet
from neuron_consistency.errors import ParameterError, TrainingError
from neuron_consistency.models import Classifier, evaluating
from neuron_consistency.objectives import Objective, StepLoss
from neuron_consistency.store import atomic_path

History = list[dict[str, Any]]
Report = Callable[[dict[str, Any], int], None]  # (row of the history, number of epochs)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast to train.

    Attributes:
        epochs: passes over the training set.
        batch_size: images a step; an incomplete last batch is left out.
        learning_rate: the peak, reached linearly over the first fifth of the steps; then a cosine to 0.
        weight_decay: decoupled (AdamW), on weights of convolutions and linear maps only.
        seed: of the order of images, augmentation and dropout; each epoch draws from (seed, epoch) alone.
        precision: "auto", "float32" or "bfloat16".
        watched_images: how many training images the PGD check of each epoch uses.
        watch_steps: its PGD steps.
    """

    epochs: int
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    seed: int = 0
    precision: str = "auto"
    watched_images: int = 32
    watch_steps: int = 4

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch_size) < 1 or self.learning_rate <= 0:
            raise ParameterError(
                f"epochs={self.epochs}, batch_size={self.batch_size}, learning_rate={self.learning_rate}: "
                "all must be positive"
            )

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of a step: linear warm-up over a fifth, then a cosine to zero."""
        warm = max(1, steps // 5)
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def augment(images: Tensor, *, generator: torch.Generator, padding: int | None = None) -> Tensor:
    """Each image mirrored with probability 1/2 and shifted by up to `padding` pixels (reflected edges).

    Shape:
        images, result: (B, 3, H, W); `padding` defaults to H / 16.
    """
    batch, _, height, width = images.shape
    pad = height // 16 if padding is None else padding
    mirror = (torch.rand(batch, generator=generator) < 0.5).to(images.device)
    shift = torch.randint(0, 2 * pad + 1, (batch, 2), generator=generator).to(images.device)
    images = torch.where(mirror[:, None, None, None], images.flip(3), images)
    padded = functional.pad(images, (pad,) * 4, mode="reflect")
    rows = shift[:, 0, None] + torch.arange(height, device=images.device)
    columns = shift[:, 1, None] + torch.arange(width, device=images.device)
    index = torch.arange(batch, device=images.device)[:, None, None]
    moved = padded.permute(0, 2, 3, 1)[index, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)  # channels_last in memory


def accuracy(
    model: nn.Module,
    images: ImageSet,
    *,
    device: torch.device,
    batch_size: int = 256,
    precision: str = "auto",
) -> float:
    """Share of the images that the model, in eval mode, classifies rightly; its mode is restored."""
    correct, seen = torch.zeros((), device=device), 0
    with evaluating(model), torch.no_grad(), autocast(device, precision):
        for _, batch, labels in images.batches(batch_size, device=device):
            correct += (model(batch).argmax(1) == labels).sum()
            seen += len(labels)  # fewer than the set has, where corrupt files may be skipped
    return correct.item() / seen


def optimiser_of(model: nn.Module, schedule: Schedule) -> torch.optim.AdamW:
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    plain = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": schedule.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=schedule.learning_rate)


def training_step(
    model: Classifier,
    objective: Objective,
    optimiser: torch.optim.Optimizer,
    batch: Tensor,
    labels: Tensor,
    *,
    precision: str = "auto",
) -> StepLoss:
    """One step of the optimiser on a batch, the model in the mode it is in.

    Shape:
        batch: (B, 3, H, W) in [0, 1]; labels: (B,) int64.
    """
    with autocast(batch.device, precision):
        step = objective(model, batch, labels)
    optimiser.zero_grad(set_to_none=True)
    trained = [p for group in optimiser.param_groups for p in group["params"]]
    step.loss.backward(inputs=trained)  # type: ignore[no-untyped-call]  # not the image's gradient
    optimiser.step()
    return step


def _epoch(
    model: Classifier,
    images: ImageSet,
    objective: Objective,
    schedule: Schedule,
    optimiser: torch.optim.Optimizer,
    *,
    epoch: int,
    device: torch.device,
) -> dict[str, float]:
    """One pass over the training set; the device is synchronised once, at its end."""
    generator = torch.Generator().manual_seed(schedule.seed * 100_003 + epoch)
    order = torch.randperm(len(images), generator=generator)
    per_epoch = max(1, len(images) // schedule.batch_size)
    order = order[: per_epoch * schedule.batch_size]
    sums: dict[str, Tensor] = {}
    model.train()
    for number, (_, batch, labels) in enumerate(images.subset(order).batches(schedule.batch_size, device=device)):
        for group in optimiser.param_groups:
            group["lr"] = schedule.rate(epoch * per_epoch + number, schedule.epochs * per_epoch)
        batch = augment(batch, generator=generator)
        step = training_step(model, objective, optimiser, batch, labels, precision=schedule.precision)
        for name, value in (step.parts | {"loss": step.loss.detach()}).items():
            sums[name] = sums.get(name, torch.zeros((), device=device)) + value
    seen = len(order)
    means = {name: value.item() / (seen if name.endswith("correct") else per_epoch) for name, value in sums.items()}
    return {name.replace("correct", "accuracy"): value for name, value in means.items()}


def _watch(
    model: Classifier, images: ImageSet, objective: Objective, schedule: Schedule, device: torch.device
) -> dict[str, Any]:
    """FGSM and PGD accuracy on a few training images: FGSM training can collapse, and only PGD shows it."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(schedule.seed))
    batch, labels = images.batch(order[: schedule.watched_images], device)  # sets may lie sorted by class
    model.eval()
    with autocast(device, schedule.precision):
        generator = torch.Generator(device).manual_seed(schedule.seed)
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
    validation: ImageSet | None = None,
    checkpoint: Path | None = None,
    checkpoint_key: str = "",
    report: Report | None = None,
) -> History:
    """Trains `model` in place and returns its history, one row an epoch.

    After every epoch the state is written to `checkpoint`; a call that finds a checkpoint of the same key goes
    on from there, and ends with the weights of an uninterrupted run (bit for bit on the CPU in float32).

    Args:
        model: the network; moved to `device`.
        images: the training set.
        objective: what to minimise.
        schedule: how.
        device: where.
        validation: its accuracy is measured after every epoch; never the set that is reported.
        checkpoint: file of the resumable state, or None.
        checkpoint_key: what the run is; a checkpoint with another key is refused.
        report: called after every epoch, with its row and the number of epochs.

    Raises:
        TrainingError: the loss is not finite (the last checkpoint stands), or the checkpoint is of another run.
        ParameterError: the training set is smaller than a batch.

    Source: P1, Eq. 6; the watch for collapse follows Wong et al. 2020.
    """
    if len(images) < schedule.batch_size:
        raise ParameterError(
            f"batch_size={schedule.batch_size} is more than the {len(images)} training images: lower it"
        )
    model.to(device)
    images = images.to(device)
    optimiser = optimiser_of(model, schedule)
    history: History = []
    if checkpoint is not None and checkpoint.exists():
        history = _load_checkpoint(checkpoint, checkpoint_key, model, optimiser, device)
    for epoch in range(len(history), schedule.epochs):
        started = time.perf_counter()
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(schedule.seed * 100_003 + epoch)
            row: dict[str, Any] = {"epoch": epoch + 1}
            row |= _epoch(model, images, objective, schedule, optimiser, epoch=epoch, device=device)
        row["seconds"] = time.perf_counter() - started  # of the training alone, without the checks
        if not math.isfinite(row["loss"]):
            raise TrainingError(
                f"the loss became {row['loss']} in epoch {epoch + 1}: lower learning_rate (now "
                f"{schedule.learning_rate}) or beta (now {objective.beta})"
                + (f"; the epochs before it are in {checkpoint}" if history and checkpoint else "")
            )
        if objective.alpha < 1:
            row |= _watch(model, images, objective, schedule, device)
            if row["collapsed"]:
                warnings.warn(
                    f"FGSM training has collapsed in epoch {epoch + 1}: accuracy {row['fgsm_accuracy']:.2f} under "
                    f"FGSM but {row['pgd_accuracy']:.2f} under PGD of the same epsilon. The network hides its "
                    "gradient instead of resisting. Lower epsilon, train shorter, or raise beta.",
                    stacklevel=2,
                )
        if validation is not None:
            row["validation_accuracy"] = accuracy(model, validation, device=device, precision=schedule.precision)
        history.append(row)
        if checkpoint is not None:
            _save_checkpoint(checkpoint, checkpoint_key, model, optimiser, history)
        if report is not None:
            report(row, schedule.epochs)
    return history


def _save_checkpoint(
    path: Path, key: str, model: nn.Module, optimiser: torch.optim.Optimizer, history: History
) -> None:
    state = {"key": key, "model": model.state_dict(), "optimiser": optimiser.state_dict(), "history": history}
    content = io.BytesIO()
    torch.save(state, content)
    with atomic_path(path) as part:
        part.write_bytes(content.getbuffer())


def _load_checkpoint(
    path: Path, key: str, model: nn.Module, optimiser: torch.optim.Optimizer, device: torch.device
) -> History:
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise TrainingError(f"the checkpoint {path} cannot be read ({error}): remove it to train again") from error
    if state["key"] != key:
        raise TrainingError(
            f"the checkpoint {path} belongs to a training with other parameters (key {state['key']}, this one "
            f"has {key}): remove it, or give this training a file of its own"
        )
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    history: History = state["history"]
    return history
