"""The stored adversarial set: what it claims, killed and resumed, split over processes, read back, and damaged."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from neuron_consistency.attacks import stored_set
from neuron_consistency.attacks.predictions import predictions
from neuron_consistency.attacks.stored_set import AdversarialSet, obtain_adversarial_set, write_adversarial_set
from neuron_consistency.attacks.targeted import optimise_targeted
from neuron_consistency.data.pixels import FilePixels
from neuron_consistency.errors import ParameterError, StoreError
from neuron_consistency.networks.models import Classifier
from neuron_consistency.runtime import Runtime
from toys import CPU, assert_same_state, fitted, state_of, toy_images, toy_model

OPTIONS: dict[str, Any] = {"steps": 6, "learning_rate": 0.05}
RUNTIME = Runtime(CPU, "float32", 4)
SHARDS = [f"shard-{number:05d}.safetensors" for number in range(4)]
IMAGES = toy_images(10, seed=7)
TARGETS = torch.stack([(IMAGES.labels + 1) % 4, (IMAGES.labels + 3) % 4], dim=1)


@pytest.fixture(scope="session")
def _second() -> Classifier:
    return fitted(toy_model(seed=3), toy_images(64, seed=5), steps=40)


@pytest.fixture
def models(trained_toy: Classifier, _second: Classifier) -> dict[str, Classifier]:
    return {"one": trained_toy, "two": _second}


@pytest.fixture(scope="session")
def _written(_trained_toy: Classifier, _second: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    write(folder, {"one": _trained_toy, "two": _second})
    return folder


@pytest.fixture
def folder(_written: Path, tmp_path: Path) -> Path:
    """A set of 20 images in shards of 6, 6, 6 and 2."""
    return shutil.copytree(_written, tmp_path / "set")


def write(folder: Path, models: dict[str, Classifier], targets: Tensor = TARGETS, **changes: Any) -> None:
    """The set of these tests, with changed arguments."""
    images, on = changes.pop("images", IMAGES), changes.pop("on", RUNTIME)
    write_adversarial_set(folder, models, images, targets, on, **{"shard_size": 6, **OPTIONS, **changes})


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of everything but the records of the runs."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith("runs")}


# what is stored


def test_the_stored_set_is_what_its_parts_say(models: dict[str, Classifier], folder: Path) -> None:
    """Order, labels and targets; success of each network and RMSD, measured anew on the stored pixels."""
    made = AdversarialSet.open(folder, networks=["two", "one"])
    assert sorted(contents(folder)) == ["manifest.json", *SHARDS]
    assert len(made) == 20
    assert made.networks == ("one", "two")
    assert torch.equal(made.indices, torch.arange(10).repeat_interleave(2))
    assert torch.equal(made.labels, IMAGES.labels[made.indices])
    assert torch.equal(made.targets, TARGETS.flatten())
    assert (made.success.dtype, made.rmsd.dtype) == (torch.bool, torch.float32)
    stored = torch.cat([safetensors.torch.load_file(folder / name)["pixels"] for name in SHARDS])
    assert stored.dtype == torch.uint8
    shown, clean = stored.float() / 255, IMAGES.batch(made.indices, CPU)[0]
    with torch.no_grad():
        said = torch.stack([model(shown).argmax(1) for model in models.values()], dim=1)
    assert torch.equal(made.success, said == made.targets[:, None])
    assert 0.3 < made.success.float().mean() <= 1
    assert torch.allclose(made.rmsd, (shown - clean).square().mean((1, 2, 3)).sqrt(), atol=1e-6)
    assert made.rmsd.min() > 0
    found = optimise_targeted(list(models.values()), clean[:4], made.targets[:4], **OPTIONS)
    assert torch.equal(stored[:4], (found.images * 255).round().to(torch.uint8))


def test_it_streams_as_any_set_of_images(trained_toy: Classifier, folder: Path) -> None:
    """Every image once, in order, in [0, 1], never all in memory; a pass over it and a part of it agree with both."""
    made = AdversarialSet.open(folder)
    assert isinstance(made.pixels, FilePixels)
    stored = torch.cat([safetensors.torch.load_file(folder / name)["pixels"] for name in SHARDS]).float() / 255
    for size in (3, 7, 64):  # in a shard, across shards, all
        places, batches, labels = (torch.cat(part) for part in zip(*made.batches(size, device=CPU), strict=True))
        assert torch.equal(places, torch.arange(20))
        assert torch.equal(batches, stored)
        assert torch.equal(labels, made.labels)
    some = torch.tensor([19, 0, 6, 6, 5])
    batch, labels = made.batch(some, CPU)
    assert torch.equal(batch, stored[some])
    assert torch.equal(labels, made.labels[some])
    assert (made.image_size, made.num_classes, made.classes) == (16, 4, IMAGES.classes)
    assert (made.synsets, made.name, made.source) == (IMAGES.synsets, IMAGES.name, IMAGES.fingerprint)
    part = made.subset(some)
    assert torch.equal(torch.cat([images for _, images, _ in part.batches(2, device=CPU)]), stored[some])
    for name in ("labels", "targets", "indices", "success", "rmsd"):
        assert torch.equal(getattr(part, name), getattr(made, name)[some])
    assert part.fingerprint != made.fingerprint
    with torch.no_grad():
        expected = trained_toy(stored).argmax(1)
    assert torch.equal(predictions(trained_toy, made, RUNTIME), expected)


def test_writing_leaves_the_networks_as_they_were(models: dict[str, Classifier], tmp_path: Path) -> None:
    """Also one that was in train mode, which is attacked in eval mode."""
    models["two"].train()
    before = {name: state_of(model) for name, model in models.items()}
    write(tmp_path / "set", models, images=toy_images(2), targets=torch.tensor([[1], [2]]))
    for name, model in models.items():
        assert_same_state(before[name], model)
    models["two"].eval()


def test_the_fingerprint_is_of_all_that_the_set_is_made_of(models: dict[str, Classifier], tmp_path: Path) -> None:
    """Equal for two writings; another where a network, a target, an option or the layout is another."""
    images, targets = IMAGES.subset(torch.arange(2)), TARGETS[:2]
    changes: list[dict[str, Any]] = [
        {},
        {"on": Runtime(CPU, "float32", 1)},
        {"steps": 2},
        {"shard_size": 3},
        {"targets": targets[:, :1]},
        {"models": {"other": models["one"]}},
    ]
    found = []
    for number, change in enumerate(changes):
        arguments: dict[str, Any] = {"models": models, "targets": targets, "images": images, "steps": 1, **change}
        write(tmp_path / str(number), **arguments)
        found.append(AdversarialSet.open(tmp_path / str(number)).fingerprint)
    assert found[0] == found[1]
    assert len(set(found)) == len(found) - 1


# killed and resumed


def test_killed_half_way_and_resumed_it_is_the_same_set(
    models: dict[str, Classifier], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the middle of the third shard: two are whole and kept as they are, no half one is there, and what
    the second run adds makes the very bytes of an uninterrupted run."""
    made: list[int] = []  # images in each batch

    def watched(*arguments: Any, **options: Any) -> Any:
        if sum(made) == 16:
            raise KeyboardInterrupt
        made.append(len(arguments[1]))
        return optimise_targeted(*arguments, **options)

    monkeypatch.setattr(stored_set, "optimise_targeted", watched)
    again = tmp_path / "again"
    with pytest.raises(KeyboardInterrupt):
        write(again, models)
    assert sorted(contents(again)) == ["manifest.json", *SHARDS[:2]]
    with pytest.raises(StoreError, match=r"lacks 2 of 4 shards \(2, 3\): write the set again with the same arg"):
        AdversarialSet.open(again)
    kept = {name: (again / name).stat().st_mtime_ns for name in SHARDS[:2]}
    made.clear()
    write(again, models)
    assert made == [4, 2, 2]
    assert kept == {name: (again / name).stat().st_mtime_ns for name in SHARDS[:2]}
    assert contents(again) == contents(folder)
    runs = AdversarialSet.open(again).runs
    assert [run["images"] for run in runs] == [12, 8]
    write(again, models)
    assert made == [4, 2, 2], "a whole set was made again"
    assert AdversarialSet.open(again).runs == runs


@pytest.mark.parametrize("damage", ["cut", "emptied", "foreign", "other shard"])
def test_the_writer_makes_a_shard_anew_that_is_not_whole(
    models: dict[str, Classifier], folder: Path, damage: str
) -> None:
    whole = contents(folder)
    DAMAGES[damage](folder / SHARDS[1])
    assert contents(folder) != whole
    write(folder, models)
    assert contents(folder) == whole


def test_the_leftover_of_a_kill_is_cleared_and_what_another_writes_is_not(
    models: dict[str, Classifier], folder: Path
) -> None:
    """Also where all shards are there; else it lies in the folder for ever, or a writer takes another's file away."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left, own = (folder / f"{SHARDS[2]}.{pid}@{platform.node()}.part" for pid in (ended.pid, os.getppid()))
    for part in (left, own):
        part.mkdir()
        (part / SHARDS[2]).write_bytes(b"half")
    write(folder, models)
    there = sorted(path.name for path in folder.iterdir() if not path.name.startswith("runs"))
    assert there == ["manifest.json", *SHARDS[:3], own.name, SHARDS[3]]


def test_a_full_disk_is_one_clear_error_and_whole_shards_stay(
    models: dict[str, Classifier], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = safetensors.torch.save_file

    def full(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
        if "00002" in str(path):
            path.write_bytes(b"half")
            raise safetensors.SafetensorError('IoError(Os { code: 28, message: "No space left on device" })')
        save(tensors, path, metadata)

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(StoreError, match=r"no space left for .*shard-00002.*free some space"):
        write(tmp_path / "full", models)
    assert sorted(contents(tmp_path / "full")) == ["manifest.json", *SHARDS[:2]]
    monkeypatch.undo()
    write(tmp_path / "full", models)
    assert contents(tmp_path / "full") == contents(folder)


# split over processes


def test_two_ranks_make_the_set_of_one(
    models: dict[str, Classifier], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each makes every second shard and no other, in either order; torchrun says which."""
    split = tmp_path / "split"
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    write(split, models)
    assert sorted(contents(split)) == [SHARDS[1], SHARDS[3]]
    monkeypatch.setenv("RANK", "0")
    write(split, models)
    assert contents(split) == contents(folder)
    made = AdversarialSet.open(split)
    assert sorted((run["rank"], run["images"]) for run in made.runs) == [(0, 12), (1, 8)]
    assert made.rate == pytest.approx(sum(run["images"] / run["seconds"] for run in made.runs))


# read back in vain


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _foreign(path: Path) -> None:
    tensors = safetensors.torch.load_file(path)
    safetensors.torch.save_file(tensors, path, {"shard": '["another", 1]'})


def _other_images(path: Path) -> None:
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = safetensors.torch.load_file(path)
    safetensors.torch.save_file({**tensors, "indices": tensors["indices"] + 1}, path, metadata)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut": _cut,
    "emptied": lambda path: path.write_bytes(b""),
    "zeroed": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "other images": _other_images,
    "foreign": _foreign,
    "other shard": lambda path: shutil.copy(path.with_name(SHARDS[0]), path),
}


@pytest.mark.parametrize("damage", sorted(DAMAGES))
def test_a_shard_that_is_not_whole_is_named_with_its_cure(folder: Path, damage: str) -> None:
    DAMAGES[damage](folder / SHARDS[1])
    reason = "belongs to another" if damage in ("foreign", "other shard") else r"is cut short or damaged \("
    with pytest.raises(StoreError, match=rf"shard-00001\.safetensors {reason}.*remove it and write the set again"):
        AdversarialSet.open(folder)


def test_a_shard_damaged_after_opening_is_named(folder: Path) -> None:
    made = AdversarialSet.open(folder)
    _cut(folder / SHARDS[3])
    with pytest.raises(StoreError, match=r"shard-00003\.safetensors is damaged.*remove it and run again"):
        list(made.batches(5, device=CPU))


def test_a_set_of_other_networks_or_none_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"made on one, two, not on one, three: write a set for these"):
        AdversarialSet.open(folder, networks=["one", "three"])
    with pytest.raises(StoreError, match="not on one:"):
        AdversarialSet.open(folder, networks=["one"])
    with pytest.raises(StoreError, match="holds no adversarial set"):
        AdversarialSet.open(tmp_path)
    (folder / "manifest.json").write_text("{")
    with pytest.raises(StoreError, match=r"manifest\.json cannot be read"):
        AdversarialSet.open(folder)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"steps": 7}, r"options is .*'steps': 6.* there, .*'steps': 7.* here"),
        ({"models": "one"}, r"networks is \['one', 'two'\] there, \['one'\] here"),
        ({"targets": TARGETS.flip(1)}, "targets is"),
        ({"images": IMAGES.subset(torch.arange(9)), "targets": TARGETS[:9]}, "source is .*images is 20 there, 18"),
        ({"shard_size": 5}, "shard_size is 6 there, 5 here"),
        ({"on": Runtime(CPU, "bfloat16", 4)}, "precision is float32 there"),
    ],
)
def test_the_folder_of_another_set_is_not_written_into(
    models: dict[str, Classifier], folder: Path, change: dict[str, Any], named: str
) -> None:
    """What differs is named; nothing in the folder changes."""
    before = contents(folder)
    chosen = {"models": {"one": models["one"]}} if "models" in change else {"models": models, **change}
    with pytest.raises(StoreError, match=rf"holds another adversarial set \(.*{named}.*write into another folder"):
        write(folder, **chosen)
    assert contents(folder) == before


# bad input


def test_targets_that_cannot_be_are_refused(models: dict[str, Classifier], tmp_path: Path) -> None:
    own = TARGETS.clone()
    own[3, 1] = IMAGES.labels[3]
    for targets, message in (
        (own, "a target of image 3 is its true class"),
        (TARGETS + 4, "no class: they are 0 to 3"),
        (TARGETS - 5, "no class"),
        (TARGETS[:, 0], r"targets are \(10,\) torch.int64: \(10, T\)"),
        (TARGETS[:4], r"\(10, T\) of torch.int64 is needed"),
        (TARGETS[:, :0], r"\(10, T\)"),
        (TARGETS.float(), "torch.float32"),
    ):
        with pytest.raises(ParameterError, match=message):
            write(tmp_path / "set", models, targets)
    assert not (tmp_path / "set").exists()


class Picky(torch.nn.Module):
    """Takes images of 32 pixels alone."""

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = torch.nn.functional.linear(images.flatten(1), torch.zeros(4, 3 * 32 * 32))
        return result


def test_networks_that_do_not_fit_the_images_are_refused(models: dict[str, Classifier], tmp_path: Path) -> None:
    """By the size they were trained at, since most networks take any; by trying, where that is not known."""
    with pytest.raises(ParameterError, match=r"two was trained on images of 32 pixels, these have 16.*one size"):
        write(tmp_path / "set", models, image_sizes={"one": 16, "two": 32})
    with pytest.raises(ParameterError, match=r"three does not take images of 16 pixels \("):
        write(tmp_path / "set", {**models, "three": Classifier(Picky(), "toy", {"none": ("", 1)})})
    with pytest.raises(ParameterError, match="three knows 5 classes, the images have 4"):
        write(tmp_path / "set", {**models, "three": toy_model(num_classes=5)})
    assert not (tmp_path / "set").exists()


def test_settings_that_cannot_work_are_refused(models: dict[str, Classifier], tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="unknown option stepps of the attack: use some of trade_off, steps"):
        write(tmp_path, models, stepps=3)
    with pytest.raises(ParameterError, match="needs a network"):
        write(tmp_path, {})
    with pytest.raises(ParameterError, match="shard_size"):
        write(tmp_path, models, shard_size=0)
    with pytest.raises(ParameterError, match="steps"):
        write(tmp_path, models, steps=0)
    assert not list(tmp_path.glob("shard*"))


# once and again


def test_obtain_makes_a_set_once_and_finds_it_again(
    trained_toy: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder of its own for every choice."""
    images, targets = IMAGES.subset(torch.arange(3)), TARGETS[:3]

    def obtain(**options: Any) -> AdversarialSet:
        return obtain_adversarial_set({"abc": trained_toy}, images, targets, RUNTIME, folder=tmp_path, **options)

    first = obtain(**OPTIONS)
    assert first.networks == ("abc",)
    assert [path.name for path in tmp_path.iterdir()] == [first.fingerprint[:12]]
    with monkeypatch.context() as patched:
        patched.setattr(stored_set, "optimise_targeted", lambda *_, **__: pytest.fail("made again"))
        assert obtain(**OPTIONS, image_sizes={"abc": 16}).fingerprint == first.fingerprint
    assert obtain(steps=2).fingerprint != first.fingerprint
    with pytest.raises(ParameterError, match="trained on images of 32 pixels"):
        obtain(image_sizes={"abc": 32}, **OPTIONS)
