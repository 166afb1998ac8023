"""Each kind of file that is kept, damaged in every way that disks and hands know, and read back."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from faults.works import make_card, make_set, recipe, toy_training, train_network
from neuron_consistency.attacks.stored_set import AdversarialSet
from neuron_consistency.data import load
from neuron_consistency.data.pixels import Loaded
from neuron_consistency.errors import NeuronConsistencyError, StoreError
from neuron_consistency.training import obtain
from neuron_consistency.training.checkpoint import load_checkpoint
from neuron_consistency.training.recipes import Recipe
from neuron_consistency.training.schedule import Schedule, optimiser_of
from neuron_consistency.unfinished import Unfinished
from neuron_consistency.workflow.networks import book_models, write_current
from toys import CPU, bytes_of, toy_images, toy_model, train_toy


@dataclass(frozen=True)
class Kept:
    """A kind of file: `make` fills a folder, `file` is the one to damage, and `read` gives what a reader gets of it."""

    make: Callable[[Path], object]
    file: str
    read: Callable[[Path], object]


def plain(value: Any) -> Any:
    """A value without tensors, which may lie in the file itself."""
    if isinstance(value, Tensor):
        return value.dtype, value.shape, value.contiguous().flatten().view(torch.uint8).numpy().tobytes()
    if isinstance(value, Mapping):
        return {name: plain(one) for name, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, Sequence) and not isinstance(value, str) else value


def _network(folder: Path) -> object:
    with (
        toy_training(),
        patch.object(obtain, "_train", lambda *_: (_ for _ in ()).throw(StoreError("it is made again"))),
    ):
        found = obtain.obtain(recipe(folder), CPU)
    return found.model.state_dict(), found.record


def _checkpoint(folder: Path) -> object:
    model = toy_model()
    optimiser = optimiser_of(model, Schedule(epochs=1))
    return load_checkpoint(folder / "run.checkpoint", "k", model, optimiser, CPU)


def _set(folder: Path) -> object:
    found = AdversarialSet.open(folder)
    told = {
        name: getattr(found, name) for name in ("labels", "targets", "indices", "success", "rmsd", "classes", "runs")
    }
    return told | {"pixels": found.batch(torch.arange(len(found)), CPU)[0], "fingerprint": found.fingerprint}


def _prepare(folder: Path) -> None:
    pixels = bytes_of(toy_images(8)).contiguous(memory_format=torch.channels_last)
    load._prepare(folder / "set.safetensors", Loaded(list(range(8)), pixels, [(0, 0, 1, 1)] * 8, []))


def _prepared(folder: Path) -> object:
    found = load._prepared(folder / "set.safetensors", False)
    if found is None:
        raise StoreError("it is made again")
    return vars(found)


def _unfinished(folder: Path) -> object:
    like = {name: torch.zeros(1, *shape, dtype=kind) for name, kind, shape in SHAPES}
    generator = torch.Generator()
    return Unfinished(folder / "pass.unfinished", generator).read(like), generator.get_state()


SHAPES = (("done", torch.int64, ()), ("predicted", torch.int64, ()), ("last/values", torch.float32, (12,)))


def _begin(folder: Path) -> None:
    state = {name: torch.ones(40, *shape, dtype=kind) for name, kind, shape in SHAPES}
    Unfinished(folder / "pass.unfinished", torch.Generator(), seconds=0).write(lambda: state)


def _write_current(folder: Path) -> None:
    write_current(str(folder), [Recipe.read(str(folder), recipe(folder).spec)], chosen=False)


def _current(folder: Path) -> object:
    return [found.spec for found in book_models(str(folder))]


KEPT = {
    "weights": Kept(train_network, "models/*.safetensors", _network),
    "record of a network": Kept(train_network, "models/*.json", _network),
    "checkpoint": Kept(
        lambda folder: train_toy(toy_model(), epochs=1, checkpoint=folder / "run.checkpoint", checkpoint_key="k"),
        "run.checkpoint",
        _checkpoint,
    ),
    "shard": Kept(make_set, "shard-00001.safetensors", _set),
    "manifest of a set": Kept(make_set, "manifest.json", _set),
    "record of a run": Kept(make_set, "runs-*.json", _set),
    "prepared images": Kept(_prepare, "set.safetensors", _prepared),
    "unfinished pass": Kept(_begin, "pass.unfinished", _unfinished),
    "pass of a card": Kept(make_card, "card/passes/FGSM.json", make_card),
    "record of a card": Kept(make_card, "card/card.json", make_card),
    "chosen networks": Kept(_write_current, "models/current.json", _current),
}


def damaged_content(content: bytes, draw: random.Random) -> bytes:
    """A bit flipped anywhere, or near the beginning, where the checksum is; a cut; a block of zeros, or of another."""
    damaged, place = bytearray(content), draw.randrange(len(content))
    how = draw.choice(("flip", "flip early", "cut", "zeros", "moved"))
    if how == "cut":
        return content[: draw.choice((0, place, len(content) - 1))]
    if how in ("flip", "flip early"):
        damaged[place if how == "flip" else place % 256 % len(content)] ^= 1 << draw.randrange(8)
    else:
        block = content[:512] if how == "moved" else bytes(512)
        damaged[place : place + 512] = block[: len(content) - place]
    return bytes(damaged)


def damaged(kept: Kept, folder: Path, *, rounds: int, seed: int = 0) -> Counter[str]:
    """Damages a file so many times and reads it.

    Returns:
        How often it was refused by an error of the library's own that names it, read right since what is damaged does
        not matter, refused by another error, or read otherwise in silence.
    """
    draw, found = random.Random(seed), Counter[str](refused=0, right=0, unnamed=0, foreign=0, silent=0)
    folder.mkdir(parents=True)
    kept.make(folder)
    (path,) = folder.glob(kept.file)
    content, expected, part = path.read_bytes(), plain(kept.read(folder)), folder / "damaged"
    while sum(found.values()) < rounds:
        other = damaged_content(content, draw)
        if other == content:
            continue
        part.write_bytes(other)
        os.replace(part, path)  # what an earlier reader has mapped stays as it is
        try:
            found["right" if plain(kept.read(folder)) == expected else "silent"] += 1
        except NeuronConsistencyError as error:
            found["refused" if str(folder) in str(error) or "made again" in str(error) else "unnamed"] += 1
        except Exception as error:
            print(f"{type(error).__name__}: {error}")
            found["foreign"] += 1
    part.write_bytes(content)
    os.replace(part, path)
    assert plain(kept.read(folder)) == expected
    return found
