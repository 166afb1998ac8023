"""What one of several processes does in test_distributed.py: `python distributed_worker.py WHAT FOLDER`."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from neuron_consistency.attacks.linf import fgsm
from neuron_consistency.attacks.predictions import accuracy, class_scores
from neuron_consistency.attacks.targeted import least_likely_targets
from neuron_consistency.data.broden import BrodenSet
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.dissection.measure import dissect, unit_thresholds
from neuron_consistency.errors import NeuronConsistencyError
from neuron_consistency.explanation.localisation import localise
from neuron_consistency.explanation.weighting import Weighting, weigh
from neuron_consistency.networks.models import Classifier
from neuron_consistency.representation.centroids import class_centroids, distance_ratios
from neuron_consistency.responses import Responses, respond
from neuron_consistency.runtime import part, process_group
from neuron_consistency.tracing.detection import MAHALANOBIS, fit_detectors
from neuron_consistency.training.objective import Objective
from planted import SIZE, THRESHOLDS, planted_classifier
from toys import CPU, attacked_set, bytes_of, fitted, toy_images, toy_model, train_toy

DIE_AFTER = "DIE_AFTER"  # the epoch after whose checkpoint the first process kills itself


def _flat(found: Responses) -> dict[str, Tensor]:
    """Everything that a pass gives, by name."""
    tensors = {"labels": found.labels, "predictions": found.predictions}
    for name, layer in found.layers.items():
        tensors |= {f"{name} thresholds": layer.thresholds, f"{name} top values": layer.top_values}
        tensors |= {f"{name} top images": layer.top_indices}
        tensors |= {f"{name} counts, {kind}": counts for kind, counts in layer.counts.items()}
    return tensors


def _responses(model: Classifier, images: ImageSet, batch_size: int) -> dict[str, Tensor]:
    options: dict[str, Any] = {"device": CPU, "layers": ["first", "last"], "precision": "float32", "top_k": 3}
    own = respond(model, images, quantile=0.1, batch_size=batch_size, **options)
    given = {name: layer.thresholds for name, layer in own.layers.items()}
    attacked = respond(
        model, images, thresholds=given, attack=partial(fgsm, epsilon=0.1), batch_size=batch_size, **options
    )
    return {f"own, {n}": t for n, t in _flat(own).items()} | {f"attacked, {n}": t for n, t in _flat(attacked).items()}


def measures(folder: Path) -> dict[str, Tensor]:
    """Every measure that processes share: on a set with ties, and on one of fewer batches than processes."""
    model, images = fitted(toy_model(), toy_images(64, seed=5)), toy_images(70, noise=0.0)
    noisy = toy_images(70, noise=0.4, seed=2)
    shared: dict[str, Any] = {"device": CPU, "batch_size": 9, "precision": "float32"}
    found = {f"ties, {name}": tensor for name, tensor in _responses(model, images, 9).items()}
    found |= {f"noisy, {name}": tensor for name, tensor in _responses(model, noisy, 9).items()}
    found |= {f"few, {name}": tensor for name, tensor in _responses(model, noisy, 50).items()}
    found["accuracy"] = torch.tensor(accuracy(model, noisy, **shared))
    found["scores"], found["score labels"] = class_scores(model, noisy, **shared)
    weighed = weigh(model, noisy, Weighting(epsilon=0.2), **shared)
    found |= {"weights": weighed.weights, "E": weighed.consistency, "flipped": weighed.flipped, "mask": weighed.spared}
    broden, planted = BrodenSet.open(folder / "broden", min_frequency=1), planted_classifier()
    sizes: dict[str, Any] = {"image_size": SIZE, "device": CPU, "batch_size": 5}
    found["unit thresholds"] = unit_thresholds(planted, "maps", broden, quantile=0.05, **sizes)
    found["capped thresholds"] = unit_thresholds(planted, "maps", broden, quantile=0.05, max_kept=40, **sizes)
    tally = dissect(planted, "maps", broden, thresholds=THRESHOLDS, chance=True, **sizes)
    assert tally.chance_intersection is not None
    found |= {"intersection": tally.intersection, "by chance": tally.chance_intersection, "units": tally.unit_area}
    found |= {"concepts": tally.concept_area, "showing": tally.concept_images, "images": torch.tensor(tally.images)}
    found |= {"best images": tally.best_images, "best values": tally.best_values}
    return found | _second_paper(model, noisy, shared)


def _second_paper(model: Classifier, images: ImageSet, shared: dict[str, Any]) -> dict[str, Tensor]:
    """P2's targets, ratios and detectors, and P3's localisation."""
    boxed = replace(images, boxes=torch.tensor([2, 3, 9, 12]).repeat(len(images), 1))
    table = localise(model, boxed, steps=2, **shared)
    found = {f"localised, {name}": torch.from_numpy(table[name].to_numpy(float)) for name in table if name != "map"}
    targets = least_likely_targets([model], images, count=2, **shared)
    order = torch.arange(len(images)).flip(0)  # the adversarial images do not lie as the clean ones do
    changed = bytes_of(images)[order] ^ 16
    attacked = attacked_set(images, changed, order, targets[order, 0])
    centroids = class_centroids(model, images, **shared)
    ratios = distance_ratios(model, images, attacked, centroids, **shared)
    found |= {f"ratios, {name}": torch.from_numpy(ratios[name].to_numpy(float)) for name in ratios}
    options: dict[str, Any] = {"correlation": torch.eye(4), "top_k": 3, **shared}
    detectors = fit_detectors(model, training=images, selection=images, **options)
    scores = detectors.scores(images, ks=[2], attack=partial(fgsm, epsilon=0.1), batch_size=9, precision="float32")
    found |= {"targets": targets, "centroids": centroids, "centres": detectors.mahalanobis.centres}
    found |= {"mismatch": scores.mismatch[2], "suspicion": scores.rivals[MAHALANOBIS], "mass": scores.mass["other"]}
    return found | {"said": scores.predictions, "sources": scores.sources}


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
            found = measures(folder) if what == "measures" else training(folder, batch_norm=what == "batch norm")
            torch.save(found, folder / f"{what}-{part().size}-{part().rank}.pt")
    except NeuronConsistencyError as error:
        (folder / f"error-{os.environ['RANK']}").write_text(str(error))
        raise


if __name__ == "__main__":
    work(sys.argv[1], Path(sys.argv[2]), {})
