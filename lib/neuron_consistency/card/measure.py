"""What is measured for a card: every layer on real, attacked, noisy and misclassified images, a pass at a time."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neuron_consistency.artifacts import SEAL, atomic_path, discard, read_json
from neuron_consistency.attacks.linf import check_radius
from neuron_consistency.attacks.predictions import auto_attack_predictions
from neuron_consistency.consistency.ambiguity import FGSM, NOISE, PGD, REAL, WRONG, attacks_of
from neuron_consistency.consistency.measure import Neurons, chance, consistency_row
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.errors import ParameterError, require
from neuron_consistency.networks.models import Classifier
from neuron_consistency.networks.reading import Attack
from neuron_consistency.responses import Responses, respond
from neuron_consistency.runtime import Runtime
from neuron_consistency.unfinished import Unfinished
from neuron_consistency.versions import ATTACK, MEASURES

AUTO_ATTACK = "AutoAttack"
KINDS = ("true", "predicted")
Piece = dict[str, Any]  # what stays of a pass, for JSON: see `piece_of`
PARTS = ("predictions", "thresholds", "top", "rows", "replicates", "neurons", "classes", "counts")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How a network is measured.

    Attributes:
        epsilon: size of FGSM, PGD, AutoAttack and the noise, in units of the pixel range; 0 measures real images alone.
        pgd_steps: 0 leaves PGD out.
        quantile, top_k: see `responses.respond`.
        sigma: of P1's Eq. 2.
        auto_attack: so many images, evenly spaced, are also attacked by AutoAttack.
    """

    epsilon: float = 4 / 255
    pgd_steps: int = 10
    quantile: float = 0.005
    top_k: int = 20
    sigma: float = 2.0
    auto_attack: int = 0

    def __post_init__(self) -> None:
        check_radius(self.epsilon)
        require(0, whole=True, pgd_steps=self.pgd_steps, auto_attack=self.auto_attack)
        require(1, whole=True, top_k=self.top_k)
        require(0, 1, above=True, quantile=self.quantile)
        require(0, above=True, sigma=self.sigma)
        for name, value in vars(self).items():
            if isinstance(value, np.generic):  # which no record in JSON can hold
                object.__setattr__(self, name, value.item())


@dataclass(frozen=True)
class Measuring:
    """One network, the images and the setting.

    Shape:
        correlation: (K, K) of the network's classes.
    """

    model: Classifier
    images: ImageSet
    correlation: Tensor
    on: Runtime
    setting: Setting

    @property
    def key(self) -> str:
        """A hash of all that decides the numbers."""
        weights = hashlib.sha256()
        for name, value in self.model.state_dict().items():
            weights.update(
                name.encode() + value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
            )
        tree = hashlib.sha256(self.correlation.numpy().tobytes()).hexdigest()
        read: list[object] = [list(self.model.sites.items()), self.model.mean.tolist(), self.model.std.tolist()]
        read.append(re.sub(r" at 0x\w+", "", repr(self.model)))  # without addresses, which change from run to run
        how = [self.on.precision, self.on.batch_size, MEASURES["consistency"], ATTACK, PARTS]
        shown = [self.images.fingerprint, self.images.classes, tree, asdict(self.setting)]
        return hashlib.sha256(json.dumps([weights.hexdigest(), *shown, read, how]).encode()).hexdigest()[:16]

    def sets(self) -> list[str]:
        """The sets that are measured, those of all images first."""
        attacked = [FGSM, NOISE, *[PGD] * bool(self.setting.pgd_steps)] if self.setting.epsilon else []
        return [REAL, *attacked, WRONG]

    def cost(self, name: str) -> int:
        """The work of a pass in forward passes of each image; a backward pass is counted as two."""
        return {FGSM: 4, PGD: 3 * self.setting.pgd_steps + 1}.get(name, 1)

    def run(self, folder: Path, report: Callable[[int], object] = lambda work: None) -> dict[str, Piece]:
        """What stays of every pass, by set; those that a folder holds are not made again.

        Args:
            folder: where each pass is kept once it has ended, and how far an unfinished one has come.
            report: called with the work just done, in forward passes of one image.

        Raises:
            ParameterError: a layer gives NaN; memory is short; fewer than four classes for AutoAttack.
            StoreError: the folder cannot be written, or a kept pass is damaged.
        """
        found: dict[str, Piece] = {}
        attacks = attacks_of(self.on, epsilon=self.setting.epsilon, pgd_steps=self.setting.pgd_steps)
        for name in self.sets():
            images = self.images if name != WRONG else self._wrong(found[REAL])
            if len(images) < 2:
                continue  # they say nothing of consistency
            kept = folder / f"{name}.json"
            each = self.cost(name)
            attack, generator = attacks.get(name, (None, None))
            unfinished = Unfinished(folder / f"{name}.unfinished", generator)
            if kept.exists():
                found[name] = read_json(kept, predictions=list, **dict.fromkeys(PARTS[1:], dict))
                report(each * len(images))
            else:
                found[name] = self._pass(images, attack, unfinished, found.get(REAL), lambda done: report(each * done))  # noqa: B023
                _keep(kept, found[name])
            discard(unfinished.path)
        if self.setting.auto_attack:
            found[AUTO_ATTACK] = self._auto_attack(folder / f"{AUTO_ATTACK}.json")
        return found

    def _wrong(self, real: Piece) -> ImageSet:
        """The real images that the network takes for another class."""
        wrong = torch.tensor(real["predictions"]) != self.images.labels
        return self.images.subset(wrong.nonzero().squeeze(1))

    def _pass(
        self,
        images: ImageSet,
        attack: Attack | None,
        unfinished: Unfinished,
        real: Piece | None,
        report: Callable[[int], object],
    ) -> Piece:
        fixed = {name: torch.tensor(values) for name, values in real["thresholds"].items()} if real else None
        with explaining(self.on):
            responses = respond(
                self.model, images, self.on, layers=list(self.model.layers), quantile=self.setting.quantile,
                top_k=self.setting.top_k, thresholds=fixed, attack=attack, unfinished=unfinished, report=report,
            )  # fmt: skip
        return piece_of(responses, images, self.correlation, self.setting.top_k)

    def _auto_attack(self, path: Path) -> Piece:
        """AutoAttack on evenly spaced images, a batch at a time, each kept."""
        count = min(self.setting.auto_attack, len(self.images))
        places = torch.arange(count) * len(self.images) // count
        found: Piece = read_json(path, predictions=list) if path.exists() else {"predictions": []}
        while (done := len(found["predictions"])) < count:
            chosen = self.images.take(places[done : done + self.on.batch_size])
            said = auto_attack_predictions(self.model, chosen, self.on, epsilon=self.setting.epsilon)
            found["predictions"] += said.tolist()
            _keep(path, found)
        return found | {"places": places.tolist()}


def piece_of(responses: Responses, images: ImageSet, correlation: Tensor, top_k: int, shown: int = 5) -> Piece:
    """What stays of a pass: its predictions, and for every layer thresholds, tables and the `shown` top images.

    Shape:
        correlation: (K, K).

    """
    piece: Piece = {"predictions": responses.predictions.tolist()}
    piece |= {name: {} for name in PARTS[1:]}
    for layer, found in responses.layers.items():
        firing = found.top_values >= found.floor
        piece["thresholds"][layer] = found.thresholds.tolist()
        piece["top"][layer] = torch.where(firing, found.top_indices, -1)[:shown].T.tolist()
        for kind in KINDS:
            piece["counts"][f"{layer}/{kind}"] = _pairs(found.counts[kind].sum(0))
            neurons = Neurons(found.counts[kind], correlation)
            row = consistency_row(
                responses, layer, correlation, kind=kind, equal_m=min(top_k, len(images)), neurons=neurons
            )
            piece["rows"][f"{layer}/{kind}"] = row
            piece["replicates"][f"{layer}/{kind}"] = neurons.mean("U").replicates.tolist()
            level = chance(responses.named(kind), correlation)
            values = {name: neurons.values[name].tolist() for name in ("V", "U")}
            values |= {"m": neurons.m.tolist(), "V chance": level.biased(neurons.m).tolist()}
            piece["neurons"][f"{layer}/{kind}"] = values | {"margin": neurons.margins().tolist()}
        most = (
            [pairs[at : at + 2] for at in range(0, len(pairs), 2)][:3] for pairs in piece["counts"][f"{layer}/true"]
        )
        piece["classes"][layer] = ["; ".join(f"{images.classes[k]} {times}" for k, times in row) for row in most]
    return piece


def _pairs(counts: Tensor) -> list[list[int]]:
    """For each neuron the classes of its active images, most first, each followed by their number. Shape: (C, K)."""
    numbers, places = counts.sort(descending=True, stable=True)
    pairs = torch.stack([places, numbers], 2).flatten(1)
    return [row[: 2 * fired].tolist() for row, fired in zip(pairs, (counts > 0).sum(1).tolist(), strict=True)]


def _keep(path: Path, piece: Piece) -> None:
    """Without line breaks, since the encoder is many times faster so."""
    with atomic_path(path) as part:
        part.write_text(json.dumps(SEAL | piece), "utf-8")


@contextmanager
def explaining(on: Runtime) -> Iterator[None]:
    """Within the context, a lack of memory is one error that says which batch size to try."""
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one
        if not any(words in str(error) for words in ("out of memory", "not enough memory", "can't allocate memory")):
            raise
        raise ParameterError(
            f"no memory is left on {on.device}: try batch_size={max(1, on.batch_size // 2)} (now {on.batch_size}), "
            "or fewer layers"
        ) from error
