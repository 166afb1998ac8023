"""What an adversarial set is made of: checked, written down, and held against what a folder holds."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neuron_consistency.artifacts import read_json, write_json
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.errors import ParameterError, StoreError
from neuron_consistency.optimisation import optimise_targeted
from neuron_consistency.versions import ATTACK

MANIFEST = "manifest.json"
OPTIONS = {
    name: parameter.default
    for name, parameter in inspect.signature(optimise_targeted).parameters.items()
    if parameter.kind is parameter.KEYWORD_ONLY
}


def describe_set(
    networks: Sequence[str], images: ImageSet, targets: Tensor, *, shard_size: int, precision: str, **options: float
) -> dict[str, Any]:
    """All that an adversarial set is made of, as JSON holds it.

    Args:
        networks: keys of the ensemble.
        images: the clean set.
        targets: the classes each image is to be taken for.
        shard_size: images a shard.
        precision: of the optimisation, "float32" or "bfloat16".
        **options: of `optimise_targeted`; the others have their defaults.

    Shape:
        targets: (N, T) int64.

    Raises:
        ParameterError: no network or image; a target is no class or the true one; an unknown option.
    """
    if not networks or not len(images) or shard_size < 1:
        raise ParameterError("an adversarial set needs a network, an image, and shard_size of at least 1")
    if unknown := ", ".join(options.keys() - OPTIONS.keys()):
        raise ParameterError(f"unknown option {unknown} of the attack: use some of {', '.join(OPTIONS)}")
    targets, labels = targets.cpu(), images.labels.cpu()
    shape = tuple(targets.shape)
    if targets.dtype != torch.int64 or len(shape) != 2 or len(targets) != len(images) or not targets.numel():
        raise ParameterError(f"targets are {shape} {targets.dtype}: ({len(images)}, T) of torch.int64 is needed")
    if not bool(((targets >= 0) & (targets < images.num_classes)).all()):
        raise ParameterError(f"a target is no class: they are 0 to {images.num_classes - 1}")
    if bool((own := (targets == labels[:, None]).any(1)).any()):
        raise ParameterError(
            f"a target of image {int(own.nonzero()[0])} is its true class: choose targets among the other classes"
        )
    return {
        "attack": ATTACK,
        "networks": list(networks),
        "name": images.name,
        "split": images.split,
        "source": images.fingerprint,
        "classes": list(images.classes),
        "synsets": list(images.synsets),
        "image_size": images.image_size,
        "targets": hashlib.sha256(targets.numpy().astype("<i8").tobytes()).hexdigest(),
        "targets_each": shape[1],
        "images": targets.numel(),
        "shard_size": shard_size,
        "precision": precision,
        "options": {**OPTIONS, **options},
    }


def claim_folder(folder: Path, manifest: dict[str, Any], *, write: bool) -> None:
    """Holds the manifest against the folder's; where it has none, writes it there if this process is to.

    Raises:
        StoreError: the folder holds another set.
    """
    path = folder / MANIFEST
    if not path.exists():
        if write:
            write_json(path, manifest)
        return
    there = read_json(path)
    if there != json.loads(json.dumps(manifest)):
        differing = [name for name in manifest if manifest[name] != there.get(name)]
        shown = [f"{name} is {_short(there.get(name))} there, {_short(manifest[name])} here" for name in differing]
        raise StoreError(f"{folder} holds another adversarial set ({'; '.join(shown)}): write into another folder")


def _short(value: object) -> str:
    return text if len(text := str(value)) <= 80 else f"{text[:77]}..."
