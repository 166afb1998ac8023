"""Four works that keep what they have done, each a second long: begun, killed, gone on with, compared to the byte."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from neuron_consistency.artifacts import discard, read_json, write_json
from neuron_consistency.attacks import stored_set
from neuron_consistency.attacks.linf import sign_noise
from neuron_consistency.card import measure
from neuron_consistency.card.measure import Setting
from neuron_consistency.card.score import score
from neuron_consistency.errors import NeuronConsistencyError
from neuron_consistency.networks.models import Classifier
from neuron_consistency.networks.wrap import wrap
from neuron_consistency.responses import respond
from neuron_consistency.runtime import Runtime
from neuron_consistency.training import obtain
from neuron_consistency.training.obtain import TrainedModel
from neuron_consistency.training.recipes import Recipe
from neuron_consistency.training.schedule import Schedule
from neuron_consistency.unfinished import Unfinished
from toys import CPU, EQ6, toy_images, toy_model, toy_recipe

ON = Runtime(CPU, "float32", 8)
CLOCKS = ("seconds", "finished", "at")


@dataclass(frozen=True)
class Work:
    """Something that is begun, or gone on with, by `run`, and has made `result` when it has ended."""

    run: Callable[[Path], object]
    result: Callable[[Path], object]


def _timeless(content: Any) -> Any:
    """Without what clocks say."""
    if isinstance(content, dict):
        return {name: _timeless(value) for name, value in content.items() if name not in CLOCKS}
    return [_timeless(value) for value in content] if isinstance(content, list) else content


def bytes_in(folder: Path, *without: str) -> dict[str, bytes]:
    """The bytes of the files of a folder, but those whose names begin with these words."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(without))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def recipe(folder: Path) -> Recipe:
    """Of the network that `train_network` trains."""
    schedule = Schedule(epochs=4, batch_size=8, precision="float32", watched_images=8)
    return toy_recipe("consistent", loss=EQ6, schedule=schedule, profile=str(folder))


@contextmanager
def toy_training() -> Iterator[None]:
    """Within the context a toy network and toy images stand for those of any recipe."""
    with ExitStack() as stack:
        for name, toy in (
            ("_build", lambda _recipe, classes, *, seed, **_start: toy_model(num_classes=classes, seed=seed)),
            ("load_images", lambda split, **_arguments: toy_images(24, seed=int(split == "val"))),
            ("commit", lambda: "commit"),
        ):
            stack.enter_context(patch.object(obtain, name, toy))
        yield


def train_network(folder: Path) -> TrainedModel:
    with toy_training():
        return obtain.obtain(recipe(folder), CPU)


def _network(folder: Path) -> object:
    path = recipe(folder).path
    return path.read_bytes(), _timeless(read_json(path.with_suffix(".json")) | {"spec": None})


@cache
def _toy() -> Classifier:
    return toy_model().eval()


def make_set(folder: Path) -> None:
    images = toy_images(10, seed=7)
    targets = torch.stack([(images.labels + 1) % 4, (images.labels + 3) % 4], dim=1)
    with patch.object(stored_set, "commit", lambda: "commit"):
        stored_set.write_adversarial_set(folder, {"one": _toy()}, images, targets, ON, shard_size=4, steps=4)


def _set(folder: Path) -> object:
    runs = stored_set.AdversarialSet.open(folder).runs
    assert sum(run["images"] for run in runs) >= 20, "an image is in no record"
    return bytes_in(folder, "runs-")


def make_card(folder: Path) -> Any:
    model = wrap(toy_model().network, mean=(0.5,) * 3, std=(0.5,) * 3, image_size=16)
    setting = Setting(epsilon=8 / 255, pgd_steps=1, top_k=3)
    with patch.object(measure, "Unfinished", partial(Unfinished, seconds=0)):
        return score(model, toy_images(24), folder / "card", ON, setting=setting, labels="flat")


def _card(folder: Path) -> object:
    return bytes_in(folder / "card", "card.json"), _timeless(read_json(folder / "card" / "card.json"))


def make_pass(folder: Path) -> None:
    if (folder / "pass.json").exists():
        return discard(folder / "pass.unfinished")
    generator = torch.Generator().manual_seed(3)
    kept = Unfinished(folder / "pass.unfinished", generator, seconds=0)
    found = respond(
        _toy(), toy_images(160), replace(ON, batch_size=4), layers=["first", "last"], top_k=5, unfinished=kept,
        attack=lambda _model, batch, _labels: sign_noise(batch, epsilon=0.1, generator=generator),
    )  # fmt: skip
    told = {name: [layer.top_indices.tolist(), layer.top_values.tolist()] for name, layer in found.layers.items()}
    write_json(folder / "pass.json", told)
    discard(kept.path)


WORKS = {
    "training": Work(train_network, _network),
    "adversarial set": Work(make_set, _set),
    "card": Work(make_card, _card),
    "unfinished pass": Work(make_pass, bytes_in),
}


def leftovers(folder: Path) -> list[Path]:
    """What is of no use once a work has ended: half-written files, also hidden ones, and states to go on from."""
    ends = (".part", ".checkpoint", ".unfinished")
    return [path for path in folder.rglob("*") if path.suffix in ends or path.name.startswith(".")]


def begun(run: Callable[[], object], *, die_at: int = 0, within: Path = Path("/")) -> int:
    """The process that runs this, forked, since to import PyTorch takes longer than the work.

    Args:
        die_at: it kills itself before so manieth time that it opens, renames, removes or makes something `within` a
            folder; 0 never.

    Returns:
        Its number. It ends with 0, with 3 for an error of the library's own, or 4 for another's.
    """
    child = os.fork()
    if child:
        return child
    signal.alarm(300)  # a lock that a thread held as this process forked would be held for ever
    code, seen, place = 4, Counter[str](), str(within)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("open", "os.rename", "os.remove", "os.mkdir") and str(arguments[0]).startswith(place):
            seen["times"] += 1
            if seen["times"] == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

    if die_at:
        sys.addaudithook(hook)
    try:
        run()
        code = 0
    except NeuronConsistencyError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        code = 3
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def ended(child: int) -> int:
    """The exit code of a process, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def reference(work: Work, folder: Path) -> tuple[object, float]:
    """What an unbroken run makes, and the seconds that it takes."""
    folder.mkdir(parents=True)
    began = time.monotonic()
    assert ended(begun(partial(work.run, folder))) == 0
    return work.result(folder), time.monotonic() - began


def killed(work: Work, folder: Path, *, kills: int, seed: int = 0) -> Counter[str]:
    """Kills a work at random moments, up to thrice before it may end, until it has been killed so many times.

    Every other kill is at a random operation on files, since those take a small part of the time.

    Returns:
        How many kills, works, leftovers, works of another result, and errors on the way there were.
    """
    draw, found = random.Random(seed), Counter[str]()
    expected, seconds = reference(work, folder / "whole")
    while found["kills"] < kills:
        found["works"] += 1
        own = folder / str(found["works"])
        own.mkdir()
        for _ in range(draw.randint(1, 3)):
            timed = draw.random() < 0.5
            child = begun(partial(work.run, own), die_at=0 if timed else draw.randint(1, 60), within=own)
            if timed:
                time.sleep(draw.uniform(0, seconds))
                os.kill(child, signal.SIGKILL)
            code = ended(child)
            found["kills"] += code == -signal.SIGKILL
            found["errors"] += code > 0
        found["errors"] += ended(begun(partial(work.run, own))) != 0
        found["other results"] += work.result(own) != expected
        found["leftovers"] += len(leftovers(own))
    return found
