"""A dataset is added by one class in one file, and every list and error text that names the sets follows."""

import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from layouts import levels, photo, write
from neuron_consistency.data import find, sources
from neuron_consistency.data.load import load_images
from neuron_consistency.errors import DatasetError, ParameterError

ADDED = """
from typing import Any, ClassVar

from neuron_consistency.data.sources.base import FileSource, Layout, Listing, choose, gather


class Petals(FileSource):
    sets: ClassVar = {"petals": ("petals/ with images/", "a garden")}
    options = ("season",)
    tells: ClassVar = {"masks": "in spring"}

    def __init__(self, name: str, split: str, files: Any, *, season: str = "spring") -> None:
        super().__init__(name, split, files)

    @staticmethod
    def layout(name: str, split: str, **options: Any) -> Layout:
        return Layout("petals.*", ("",), lambda files: files.has("images/"))

    def signature(self) -> str:
        return self.files.signature("images/")

    def listing(self, classes: Any, per_class: int | None) -> Listing:
        chosen = choose({"daisy": ("daisy", "n11939491")}, classes, self.name)
        return gather(self, chosen, {"daisy": self.files.names("images/")}, per_class)
"""


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    write(tmp_path / "code", {"petals.py": ADDED.encode()})
    monkeypatch.setattr(sources, "__path__", [*sources.__path__, str(tmp_path / "code")])
    importlib.reload(find)
    yield tmp_path
    monkeypatch.undo()
    importlib.reload(find)


def test_one_class_in_one_file_adds_a_dataset(added: Path) -> None:
    with pytest.raises(DatasetError, match=r"petals are not in .*petals/ with images/.*a garden"):
        load_images("petals", "val", root=added, image_size=16)
    write(added, {f"petals/images/{n}.jpg": photo(40 * n) for n in range(3)})
    images = load_images("petals", "val", root=added, image_size=16, per_class=2, season="autumn")
    assert (images.classes, images.synsets, levels(images)) == (("daisy",), ("n11939491",), [0, 40])
    assert find.options_of("petals") == ("season",)
    with pytest.raises(DatasetError, match=r"Sets that have: scenes, .*voc2012, .*and petals in spring"):
        images.masks(images.labels)
    with pytest.raises(ParameterError, match=r"use cifar10, .*petals, scenes"):
        load_images("petal", "val", root=added, image_size=16)


def test_a_set_that_knows_something_under_a_condition_comes_last_with_it() -> None:
    always = "scenes, scenes-multilabel, voc2007, voc2012"
    assert find.sets_that_tell("masks") == f"{always}, and imagenet9 where fg_mask/ lies beside its images"
