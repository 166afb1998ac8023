"""Trained networks: loaded by their key, trained where they are missing."""

from __future__ import annotations

import copy
import datetime
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from neuron_consistency.artifacts import SEAL, atomic_path, commit, discard, read_json, verify, write_json
from neuron_consistency.data.find import options_of
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.data.labels import imagenet_outputs
from neuron_consistency.data.load import load_images
from neuron_consistency.errors import StoreError
from neuron_consistency.networks.models import Classifier, build_model, load_weights
from neuron_consistency.runtime import Runtime, broadcast, describe_device, this_process
from neuron_consistency.training.loop import loss_of, train, training_step
from neuron_consistency.training.recipes import Recipe, data_arguments
from neuron_consistency.training.released import fetched
from neuron_consistency.training.schedule import optimiser_of
from neuron_consistency.versions import TRAINING

RECORD: dict[str, Any] = {"num_classes": int, "history": list, "seconds": float | int}  # what is read
RECORD |= dict.fromkeys(("key", "device", "torch", "precision", "commit"), str)


def training_images(recipe: Recipe) -> tuple[ImageSet, ImageSet]:
    """The recipe's training images, and those held out of them for selection."""
    images = load_images(**data_arguments(recipe.data, "train", recipe.profile))
    return images.split_off(recipe.held_out, seed=0)


def evaluation_images(recipe: Recipe, *, per_class: int = 0, **options: Any) -> ImageSet:
    """The first `per_class` (0: all) validation images of each of the recipe's classes, never trained or selected on.

    `options` are those of `load_images`, and override the recipe's: `variant="mixed-rand"` of the rendered scenes.
    """
    data = {**recipe.data, "per_class": per_class or None}
    return load_images(**data_arguments(data, "val", recipe.profile) | options)


def background_images(recipe: Recipe, *, per_class: int = 0) -> tuple[ImageSet, ImageSet] | None:
    """The objects of `evaluation_images` before backgrounds of their own class, and of another one.

    None where the dataset has no such images: only the rendered scenes (of one object) and ImageNet-9 have them.
    """
    if "variant" not in options_of(recipe.dataset):
        return None
    same = evaluation_images(recipe, per_class=per_class, variant="mixed-same")
    return same, evaluation_images(recipe, per_class=per_class, variant="mixed-rand")


@dataclass(frozen=True)
class TrainedModel:
    """A network with its recipe and the record of its training (history, device, seconds, commit ...)."""

    recipe: Recipe
    model: Classifier
    record: dict[str, Any]

    @property
    def title(self) -> str:
        return self.recipe.title


def obtain(recipe: Recipe, device: torch.device) -> TrainedModel:
    """The network of a recipe in eval mode: loaded where its file is, fetched where it is released, else trained.

    Training shows a line an epoch, and goes on from its checkpoint where a run was killed.

    Raises:
        TrainingError: see `loop.train`.
        DatasetError: the images or the weights cannot be read.
        StoreError: the disk is full; a file is damaged, or of another network.
    """
    record_path = recipe.path.with_suffix(".json")
    there = recipe.path.exists() and record_path.exists()
    if not broadcast(there or (this_process().rank == 0 and fetched(recipe))):
        with _one_thread(device):
            _train(recipe, device)
        broadcast(None)  # the first process has written what the others read
    discard(recipe.path.with_suffix(".checkpoint"))
    record = read_json(record_path, **RECORD)
    if record["key"] != recipe.key:
        raise StoreError(f"{record_path} is the record of another network ({record['key']}): remove it and run again")
    verify(recipe.path)
    model = _build(recipe, record["num_classes"], seed=recipe.seed)
    load_weights(model, recipe.path)
    return TrainedModel(recipe, model.to(device).eval(), record)


def untrained(net: TrainedModel, *, seed: int | None = None) -> Classifier:
    """The network with the random weights that training from scratch starts from; eval mode, CPU.

    Args:
        seed: of the weights; None takes the network's own.
    """
    return _build(net.recipe, net.record["num_classes"], seed=net.recipe.seed if seed is None else seed).eval()


def _build(recipe: Recipe, num_classes: int, *, seed: int, **start: Any) -> Classifier:
    size = recipe.image_size
    return build_model(recipe.architecture, num_classes=num_classes, image_size=size, seed=seed, **start)


@contextmanager
def _one_thread(device: torch.device) -> Iterator[None]:
    """On a processor, sums that more threads share come out otherwise, and a key would name several networks."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if device.type == "cpu" else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _train(recipe: Recipe, device: torch.device) -> None:
    images, held_out = training_images(recipe)
    outputs = imagenet_outputs(images) if recipe.weights == "published" else None
    model = _build(recipe, images.num_classes, seed=recipe.seed, weights=recipe.weights, outputs=outputs)

    def report(row: dict[str, Any], epochs: int) -> None:
        scores = {"validation_accuracy": "held-out accuracy", "validation_map": "held-out mAP", "pgd_accuracy": "PGD"}
        said = [f"{name} {row[column]:.2f}" for column, name in scores.items() if column in row]
        seconds = f"{row['seconds']:.0f} s, {row['seconds'] * (epochs - row['epoch']):.0f} s left"
        said = [f"loss {row['loss']:.3f}", *(said if len(held_out) else ["none held out", *said]), seconds]
        print(f"{recipe.title}, seed {recipe.seed}: epoch {row['epoch']}/{epochs}, {', '.join(said)}", flush=True)

    checkpoint = recipe.path.with_suffix(".checkpoint")
    history = train(
        model, images, recipe.loss, recipe.schedule, device=device, weighting=recipe.weighting,
        filter_groups=recipe.filter_groups, validation=held_out if len(held_out) else None, checkpoint=checkpoint,
        checkpoint_key=recipe.key, report=report,
    )  # fmt: skip
    if this_process().rank != 0:
        return
    state = {name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}
    with atomic_path(recipe.path) as unfinished:
        safetensors.torch.save_file(state, unfinished, SEAL)
    record = {
        **SEAL,
        "key": recipe.key,
        "version": TRAINING,
        "spec": recipe.spec,
        "num_classes": images.num_classes,
        "classes": images.classes,
        "history": history,
        "commit": commit(),
        "torch": torch.__version__,
        "device": describe_device(device) + (f", {this_process().size} processes" if this_process().size > 1 else ""),
        "precision": recipe.schedule.precision,
        "seconds": round(sum(row["seconds"] for row in history), 1),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    write_json(recipe.path.with_suffix(".json"), record)


def step_of(net: TrainedModel, batch: Tensor, labels: Tensor) -> Callable[[], object]:
    """A training step of the network's objective on a copy of it, to be timed; its images weigh all alike.

    Shape:
        batch: (B, 3, H, W) in [0, 1]; labels: (B,) int64.
    """
    model, schedule = copy.deepcopy(net.model).train(), net.recipe.schedule
    loss, optimiser = loss_of(model, net.recipe.loss), optimiser_of(model, schedule)
    on = Runtime(batch.device, schedule.precision, schedule.batch_size)
    return lambda: training_step(loss, optimiser, batch, labels, on)
