"""The set of targeted adversarial images of P2: made in shards by any number of processes, resumed, streamed back.

A folder holds `manifest.json`, which says what the set is made of; the shards, each written whole or not at all;
and for each run `runs-<rank>-<time>.json`, which says what it has made, where and how fast.
"""

import datetime
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from neuron_consistency.artifacts import SEAL, clear_leftovers, commit, read_json, write_json
from neuron_consistency.attacks.shards import FIELDS, MANIFEST, SMALL, Shards, claim_folder, describe_set
from neuron_consistency.attacks.targeted import optimise_targeted, say_target
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.data.pixels import FilePixels
from neuron_consistency.errors import DatasetError, ParameterError, StoreError
from neuron_consistency.networks.models import Classifier
from neuron_consistency.networks.reading import evaluating
from neuron_consistency.runtime import Runtime, describe_device, launched

SHARD_SIZE = 1000  # images: 150 MB at 224 pixels


@dataclass(frozen=True, kw_only=True)
class AdversarialSet(ImageSet):
    """The stored set, as an `ImageSet` of its 8-bit images with their true labels; pixels are read as asked for.

    Image-major: the t-th image made of the clean image i is at i * T + t.

    Attributes:
        networks: those the set was made on, by key, in the order of `success`.
        source: fingerprint of the clean set.
        runs: what each run of the writing made: rank, images, seconds, device, commit ...

    Shape:
        targets: (M,) int64; indices: (M,) int64, of the clean images; success: (M, networks) bool, of the stored
        image; rmsd: (M,) float32, root mean squared change of a pixel, in units of the pixel range.
    """

    networks: tuple[str, ...]
    source: str
    targets: Tensor
    indices: Tensor
    success: Tensor
    rmsd: Tensor
    runs: tuple[dict[str, Any], ...] = ()

    @classmethod
    def open(cls, folder: Path, *, networks: Iterable[str] | None = None) -> Self:
        """The set in `folder`, whole; `networks` are the keys of those it has to be made on.

        Raises:
            StoreError: there is none, a shard is missing or damaged, or it was made on other networks.
        """
        if not (folder / MANIFEST).is_file():
            raise StoreError(f"{folder} holds no adversarial set: write one there with write_adversarial_set")
        manifest = read_json(folder / MANIFEST, **FIELDS)
        made_on = manifest["networks"]
        if networks is not None and set(wanted := list(networks)) != set(made_on):
            raise StoreError(
                f"the adversarial set in {folder} was made on {', '.join(made_on)}, not on {', '.join(wanted)}: "
                "write a set for these networks into another folder"
            )
        shards = Shards(folder, manifest)
        told: dict[str, Any] = {name: manifest[name] for name in ("name", "split", "source")}
        told |= {name: tuple(manifest[name]) for name in ("classes", "synsets", "networks")}
        pixels = FilePixels(shards, np.arange(manifest["images"]), manifest["image_size"])
        runs = [run for path in sorted(folder.glob("runs-*.json")) for run in _recorded(path)]
        return cls(**told, **shards.read_all(), pixels=pixels, fingerprint=shards.signature(), runs=tuple(runs))

    @property
    def rate(self) -> float:
        """Images a second of the writing: the sum over the processes, which run side by side; NaN if unknown."""
        if not self.runs:
            return math.nan
        made = pd.DataFrame(self.runs).groupby("rank")[["images", "seconds"]].sum()
        return float((made["images"] / made["seconds"]).sum())

    def take(self, rows: Tensor) -> Self:
        """The images at `rows`, as in any set, with all that is known of them."""
        known = {name: getattr(self, name)[rows] for name in SMALL}
        return replace(super().take(rows), **known)


def write_adversarial_set(
    folder: Path, models: Mapping[str, Classifier], images: ImageSet, targets: Tensor, on: Runtime, *,
    shard_size: int = SHARD_SIZE, image_sizes: Mapping[str, int] | None = None, **options: Any,
) -> None:  # fmt: skip
    """Makes a set of targeted adversarial images in `folder`, or what is missing of it.

    Whole shards that are there already are kept, so a run that was killed is resumed by calling it again, with any
    number of processes that torchrun starts: each makes its share of the shards, always in the same batches.

    Args:
        folder: of this set alone.
        models: the ensemble, by key.
        targets: T classes for each image.
        on: where and how images are optimised, so many together; success is measured in float32.
        image_sizes: by key, the side of the images a network was trained on, to be held against that of `images`.
        **options: of `optimise_targeted`.

    Shape:
        targets: (N, T) int64.

    Raises:
        ParameterError: no network; a target is no class or the true one; the networks do not fit the images; an
            unknown option.
        DatasetError: a clean image cannot be read.
        StoreError: the folder holds another set; the disk is full.

    Source: P2, its 500,000 images; the objective is P1's Eq. 4 with `targeted.ensemble_loss`.
    """
    rank, processes = launched()
    manifest = describe_set(list(models), images, targets, shard_size=shard_size, precision=on.precision, **options)
    _check_networks(models, images, image_sizes or {}, on.device)
    claim_folder(folder, manifest, write=rank == 0)
    clear_leftovers(folder)
    shards, record = Shards(folder, manifest), folder / f"runs-{rank}-{time.time_ns()}.json"
    run: dict[str, Any] = {"rank": rank, "images": 0, "seconds": 0.0}
    run |= {"device": describe_device(on.device), "commit": commit(), "torch": torch.__version__}
    with evaluating(nn.ModuleList(models.values()).to(on.device)):
        for number in range(rank, shards.number, processes):
            if shards.is_whole(number):
                continue
            began, parts = time.perf_counter(), []
            for places in torch.tensor(shards.places(number)).split(on.batch_size):  # type: ignore[no-untyped-call]
                parts.append(_make(list(models.values()), images, targets, places, on, **manifest["options"]))
            run["images"] += len(shards.places(number))
            run["seconds"] += time.perf_counter() - began
            run["finished"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            tensors = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
            shards.write(number, tensors, partial(write_json, record, [SEAL | run]))


def obtain_adversarial_set(
    models: Mapping[str, Classifier], images: ImageSet, targets: Tensor, on: Runtime, *, folder: Path, **options: Any
) -> AdversarialSet:
    """The set made on these networks: read where it is whole, else made or finished first by `write_adversarial_set`.

    Args:
        folder: where the set gets a folder of its own, named by all that it is made of.
        **options: the others of `write_adversarial_set`.
    """
    described = {"shard_size": SHARD_SIZE} | {name: value for name, value in options.items() if name != "image_sizes"}
    manifest = describe_set(list(models), images, targets, precision=on.precision, **described)
    own = folder / Shards(folder, manifest).signature()[:12]
    write_adversarial_set(own, models, images, targets, on, **options)
    return AdversarialSet.open(own, networks=models)


def _recorded(path: Path) -> list[dict[str, Any]]:
    found = read_json(path)
    if not isinstance(found, list) or not all(
        isinstance(r, dict) and {"rank", "images", "seconds"} <= r.keys() for r in found
    ):
        raise StoreError(f"{path} does not tell of runs: remove it; the images stay")
    return found


def _check_networks(
    models: Mapping[str, Classifier], images: ImageSet, sizes: Mapping[str, int], device: torch.device
) -> None:
    """Sizes are compared, since most networks take any; then each has to take one of the images."""
    example, _ = images.batch(torch.tensor([0]), device)
    for name, model in models.items():
        if sizes.get(name, images.image_size) != images.image_size:
            raise ParameterError(
                f"network {name} was trained on images of {sizes[name]} pixels, these have {images.image_size}: all "
                "networks of an adversarial set must share one size"
            )
        with evaluating(model.to(device)), torch.no_grad():
            try:
                classes = model(example).shape[1]
            except RuntimeError as error:
                raise ParameterError(
                    f"network {name} does not take images of {images.image_size} pixels ({error})"
                ) from error
        if classes != images.num_classes:
            raise ParameterError(f"network {name} knows {classes} classes, the images have {images.num_classes}")


def _make(
    models: Sequence[nn.Module], images: ImageSet, targets: Tensor, places: Tensor, on: Runtime, **options: Any
) -> dict[str, Tensor]:
    """The tensors of a shard for the images at `places` (B,)."""
    indices, aims = places // targets.shape[1], targets.flatten()[places]
    wanted, back = torch.unique(indices, return_inverse=True)
    clean, _ = images.batch(wanted, on.device)
    if len(clean) != len(wanted):
        raise DatasetError("clean images were skipped: an adversarial set needs them all, choose them with subset()")
    clean, aims = clean[back.to(on.device)], aims.to(on.device)
    with on.autocast():
        found = optimise_targeted(models, clean, aims, **options)
    stored = (found.images * 255).round().to(torch.uint8)
    shown = stored.float() / 255
    tensors = {
        "pixels": stored,
        "indices": indices,
        "labels": images.labels[indices],
        "targets": aims,
        "success": say_target(models, shown, aims),
        "rmsd": (shown - clean).flatten(1).square().mean(1).sqrt(),
    }
    return {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
