"""The files of an adversarial set: what it is made of, what is in each shard, whether it is whole, one image of it."""

import hashlib
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from neuron_consistency.artifacts import SEAL, atomic_path, read_json, verify, write_json
from neuron_consistency.attacks.targeted import optimise_targeted
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.data.sources.base import Box, Listing, Source
from neuron_consistency.errors import ParameterError, StoreError
from neuron_consistency.versions import ATTACK

MANIFEST = "manifest.json"
OPTIONS: dict[str, Any] = dict(optimise_targeted.__kwdefaults__ or {})
SMALL = ("indices", "labels", "targets", "success", "rmsd")  # all but the pixels
FIELDS: dict[str, type] = dict.fromkeys(("images", "image_size", "shard_size", "targets_each"), int)  # of a manifest
FIELDS |= dict.fromkeys(("classes", "synsets", "networks"), list) | dict.fromkeys(("name", "split", "source"), str)


class Shards(Source):
    """The stored images of the set that `manifest` describes, in order, `shard_size` a file.

    Shape:
        of a shard of n images: pixels (n, 3, S, S) uint8; indices, labels, targets (n,) int64; success
        (n, networks) bool; rmsd (n,) float32.
    """

    file_backed = True

    def __init__(self, folder: Path, manifest: Mapping[str, Any]) -> None:
        self.folder, self.manifest = folder, dict(manifest)
        self.size: int = manifest["shard_size"]
        self.number = -(-manifest["images"] // self.size)
        self.verified: set[int] = set()

    def path(self, number: int) -> Path:
        return self.folder / f"shard-{number:05d}.safetensors"

    def places(self, number: int) -> range:
        """The images of a shard."""
        return range(number * self.size, min((number + 1) * self.size, self.manifest["images"]))

    def signature(self) -> str:
        """A hash of all that the set is made of."""
        return hashlib.sha256(json.dumps(self.manifest, sort_keys=True).encode()).hexdigest()[:32]

    def write(self, number: int, tensors: dict[str, Tensor], record: Callable[[], object]) -> None:
        """Writes a shard, whole or not at all.

        Args:
            record: called once the bytes are there and before they count as a shard, so that none is unrecorded.

        Raises:
            StoreError: the disk is full.
        """
        # one entry, since the order of several would differ from file to file
        said = json.dumps([SEAL, _checksum(tensors), self.signature(), number])
        with atomic_path(self.path(number)) as part:
            safetensors.torch.save_file(tensors, part, {"shard": said})
            record()

    @contextmanager
    def _opened(self, number: int) -> Iterator[Any]:
        path = self.path(number)
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                yield file
        except (safetensors.SafetensorError, OSError, KeyError, ValueError, TypeError, IndexError) as error:
            raise StoreError(
                f"{path} is cut short or damaged ({error}): remove it and write the set again; only that is made anew"
            ) from error

    def read_small(self, number: int) -> dict[str, Tensor]:
        """All of a shard but its pixels.

        Raises:
            StoreError: it is missing, cut short, damaged, or of another set.
        """
        places, side = self.places(number), self.manifest["image_size"]
        with self._opened(number) as file:
            said = json.loads(file.metadata()["shard"])
            if said[-2:] != [self.signature(), number]:
                raise StoreError(
                    f"{self.path(number)} belongs to another adversarial set: remove it and write the set again"
                )
            small = {name: file.get_tensor(name) for name in SMALL}
            if tuple(file.get_slice("pixels").get_shape()) != (len(places), 3, side, side):
                raise ValueError("its pixels have another shape")
            if small["indices"].tolist() != [place // self.manifest["targets_each"] for place in places]:
                raise ValueError("its images are others")
            if len(said) > 2 and said[-3] != _checksum(small):  # those of earlier versions have none
                raise ValueError("its checksum differs")
        return small

    def is_whole(self, number: int) -> bool:
        """Whether a shard of this set is there and need not be made."""
        try:
            self.read_small(number)
        except StoreError:
            return False
        return True

    def read_all(self) -> dict[str, Any]:
        """All of the set but its pixels.

        Raises:
            StoreError: shards are missing, or one is not whole.
        """
        missing = [str(number) for number in range(self.number) if not self.path(number).is_file()]
        if missing:
            raise StoreError(
                f"{self.folder} lacks {len(missing)} of {self.number} shards ({', '.join(missing[:10])}"
                f"{' ...' if len(missing) > 10 else ''}): write the set again with the same arguments, the others are "
                "kept"
            )
        read = [self.read_small(number) for number in range(self.number)]
        return {name: torch.cat([small[name] for small in read]) for name in SMALL}

    def listing(self, classes: int | Sequence[str] | None = None, per_class: int | None = None) -> Listing:
        """All images: which there are was chosen before they were made."""
        names, synsets = tuple(self.manifest["classes"]), tuple(self.manifest["synsets"])
        return Listing(names, synsets, self.read_all()["labels"], np.arange(self.manifest["images"]))

    def read(self, item: Any, size: int, classes: Sequence[str] = ()) -> tuple[Tensor, list[Box]]:
        """One image, as it is stored; the first of a shard has all of it held against its checksum."""
        number, row = divmod(int(item), self.size)
        if number not in self.verified:
            verify(self.path(number))
            self.verified.add(number)
        with self._opened(number) as file:
            return file.get_slice("pixels")[row : row + 1][0], []


def _checksum(tensors: Mapping[str, Tensor]) -> int:
    """Of all but the pixels, so that a set is opened without reading these."""
    return zlib.crc32(b"".join(tensors[name].numpy().tobytes() for name in SMALL))


def describe_set(
    networks: Sequence[str], images: ImageSet, targets: Tensor, *, shard_size: int, precision: str, **options: float
) -> dict[str, Any]:
    """All that an adversarial set is made of, as JSON holds it.

    Args:
        networks: keys of the ensemble.
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
    targets, shape = targets.cpu(), tuple(targets.shape)
    if targets.dtype != torch.int64 or len(shape) != 2 or len(targets) != len(images) or not targets.numel():
        raise ParameterError(f"targets are {shape} {targets.dtype}: ({len(images)}, T) of torch.int64 is needed")
    if not bool(((targets >= 0) & (targets < images.num_classes)).all()):
        raise ParameterError(f"a target is no class: they are 0 to {images.num_classes - 1}")
    if bool((own := (targets == images.labels[:, None]).any(1)).any()):
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
            write_json(path, SEAL | manifest)
        return
    there = read_json(path, **FIELDS)
    if there != json.loads(json.dumps(manifest)):
        differing = [name for name in manifest if manifest[name] != there.get(name)]
        shown = [f"{name} is {there.get(name)!s:.120} there, {manifest[name]!s:.120} here" for name in differing]
        raise StoreError(f"{folder} holds another adversarial set ({'; '.join(shown)}): write into another folder")
