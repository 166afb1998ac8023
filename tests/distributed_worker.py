"""What one of several processes does in test_runtime_processes.py: `python distributed_worker.py WHAT FOLDER`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from neuron_consistency.attacks.predictions import accuracy, class_scores
from neuron_consistency.errors import NeuronConsistencyError
from neuron_consistency.explanation.weighting import Weighting, weigh
from neuron_consistency.networks.models import Classifier
from neuron_consistency.runtime import Runtime, process_group, this_process
from neuron_consistency.training.objective import Objective
from toys import CPU, fitted, toy_images, toy_model, train_toy

DIE_AFTER = "DIE_AFTER"  # the epoch after whose checkpoint the first process kills itself


def passes(_folder: Path) -> dict[str, Tensor]:
    """What processes that train together share: scores, accuracy and weights, some of them without a batch."""
    model = fitted(toy_model(), toy_images(64))
    images = toy_images(37, noise=0.4, seed=5)
    found: dict[str, Tensor] = {}
    for batch_size in (3, 16):
        on = Runtime(CPU, "float32", batch_size)
        scores, labels = class_scores(model, images, on, shared=True)
        weighed = weigh(model, images, Weighting(epsilon=0.2), on, shared=True)
        right = torch.tensor(accuracy(model, images, on, shared=True))
        named = {"scores": scores, "labels": labels, "accuracy": right, "weights": weighed.weights}
        named["own scores"] = class_scores(model, images, on)[0]  # of the whole set in every process
        named |= {"E": weighed.consistency, "flipped": weighed.flipped, "mask": weighed.spared}
        found |= {f"{name} by {batch_size}": tensor for name, tensor in named.items()}
    return found


def without_batch_norm() -> Classifier:
    """The toy network whose training in several processes differs by rounding only."""
    model = toy_model()
    for name, module in list(model.network.named_children()):
        if isinstance(module, nn.BatchNorm2d):
            model.network.set_submodule(name, nn.Identity())
    return model


def training(folder: Path, *, batch_norm: bool = False) -> dict[str, Tensor]:
    """Weights after three epochs of Eq. 6 whose images are weighed; DIE_AFTER ends the first process by SIGKILL."""

    def report(row: dict[str, Any], _epochs: int) -> None:
        if os.environ.get(DIE_AFTER) == str(row["epoch"]):
            os.kill(os.getpid(), signal.SIGKILL)

    model = toy_model() if batch_norm else without_batch_norm()
    history = train_toy(
        model,
        Objective(alpha=0.5, beta=1.0, epsilon=8 / 255, distance="raw"),
        weighting=Weighting(warm_up=1, period=1),
        validation=toy_images(20, seed=4),
        checkpoint=folder / "run.checkpoint",
        checkpoint_key="k",
        report=report,
    )
    numbers = ("loss", "clean_accuracy", "distance", "validation_accuracy", "epoch")
    found = {f"history, {name}": torch.tensor([float(row[name]) for row in history]) for name in numbers}
    return found | dict(model.state_dict())


def work(what: str, folder: Path, environment: dict[str, str]) -> None:
    """One process, told by its environment which it is; what it finds, or its error, goes to a file of its own."""
    os.environ.update(environment)
    torch.set_num_threads(1)
    try:
        with process_group(CPU):
            found = passes(folder) if what == "passes" else training(folder, batch_norm=what == "batch norm")
            torch.save(found, folder / f"{what}-{this_process().size}-{this_process().rank}.pt")
    except NeuronConsistencyError as error:
        (folder / f"error-{os.environ['RANK']}").write_text(str(error))
        raise


if __name__ == "__main__":
    work(sys.argv[1], Path(sys.argv[2]), {})
