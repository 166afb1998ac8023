"""The rendered scenes: what they promise about labels, classes, backgrounds and the files on disk."""

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from neuron_consistency.data.broden import CATEGORIES, BrodenSet
from neuron_consistency.data.scenes import write as scenes
from neuron_consistency.data.scenes.compositions import HAZE, Put, compositions, vocabulary
from neuron_consistency.data.scenes.drawing import COLOURS, SHADES
from neuron_consistency.data.scenes.render import object_classes, render_scene
from neuron_consistency.data.scenes.write import scene_fingerprint, write_scenes
from neuron_consistency.errors import DatasetError, ParameterError, StoreError
from neuron_consistency.taxonomy import distance

IMAGES = 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes") / "set", images=IMAGES, classes=6)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def numbers(path: Path) -> np.ndarray:
    pixels = np.asarray(Image.open(path)).astype(int)
    assert pixels.ndim == 3
    assert not pixels[..., 2].any()
    coded: np.ndarray = pixels[..., 0] + 256 * pixels[..., 1]
    return coded


def names(category: str, found: np.ndarray) -> set[str]:
    return {vocabulary()[category][number - 1] for number in np.unique(found) if number}


def test_the_tables_are_consistent() -> None:
    """A misspelt shade, prop or scene would show only in the few pictures that draw it."""
    found = compositions()
    assert len(found["object"]) >= 24
    assert len(found["scene"]) >= 20
    assert len({thing.branch for thing in found["object"].values()}) >= 6
    assert sorted(thing.scene for thing in found["object"].values()) == sorted(found["scene"])
    for composition in [item for kind in found.values() for item in kind.values()]:
        slots = {slot for palette in composition.palettes for slot in palette}
        for palette in composition.palettes:
            assert set(palette) == slots, composition.name
            assert {name for choice in palette.values() for name in choice} <= set(SHADES), composition.name
        for shape in composition.shapes:
            for colour in filter(None, (shape.fill.colour, shape.fill.second)):
                assert colour in slots or set(colour.split("|")) <= set(SHADES), (composition.name, colour)
        assert all(item.prop in found["prop"] for item in composition.items if isinstance(item, Put))


def test_every_joint_turns_something() -> None:
    """A joint whose name matches no part would silently freeze a pose."""
    for composition in compositions()["object"].values():
        assert set(range(len(composition.joints))) <= set(composition.joint_of.tolist()), composition.name


def test_classes_are_wordnet_synsets_with_siblings() -> None:
    classes = object_classes().set_index("name")["wnid"]
    assert distance(classes["dalmatian"], classes["corgi"]) == 2
    assert distance(classes["tabby"], classes["Siamese cat"]) == 2
    assert distance(classes["car"], classes["truck"]) == 2
    assert distance(classes["chair"], classes["sofa"]) == 2
    assert all(distance(classes["dalmatian"], wnid) >= 2 for name, wnid in classes.items() if name != "dalmatian")


def test_a_picture_depends_on_seed_and_index_only() -> None:
    first, again = render_scene(5), render_scene(5)
    assert (first.image == again.image).all()
    assert (first.maps["object"][0] == again.maps["object"][0]).all()
    assert (first.image != render_scene(5, seed=1).image).any()
    assert (first.image != render_scene(33).image).any()


@pytest.mark.parametrize("size", [32, 64, 97, 128])
def test_shapes_and_types(size: int) -> None:
    scene = render_scene(3, image_size=size)
    assert scene.image.shape == (size, size, 3)
    assert scene.image.dtype == np.uint8
    assert all(m.shape == (size // 2, size // 2) for maps in scene.maps.values() for m in maps)


@pytest.mark.parametrize("index", range(12))
def test_labels_agree_with_the_flat_picture(index: int) -> None:
    """Where a label pixel and its neighbours show one element, the picture has a colour of the name the label gives."""
    scene = render_scene(index, flat=True)
    named = scene.maps["color"][0]
    corner = scene.image[1::2, 1::2].astype(int)
    plain = (np.ptp([scene.image[i::2, j::2] for i in (0, 1) for j in (0, 1)], axis=0) == 0).all(axis=2)
    assert plain.mean() > 0.3
    right = 0
    for number, colour in enumerate(COLOURS, 1):
        shades = np.array([shade[:3] for shade in SHADES.values() if COLOURS[shade[3]] == colour])
        pixels = corner[plain & (named == number)]
        # A tone of 0.6 to 1.2 times a shade that was itself shifted by up to 12.
        tones = np.concatenate([shades * tone for tone in np.linspace(0.6, 1.2, 31)])
        tones = np.concatenate([tones, tones * (1 - HAZE) + 150 * HAZE])
        near = np.abs(pixels[:, None] - tones.clip(0, 255)).max(axis=2).min(axis=1) if len(pixels) else np.zeros(1)
        right += int((near <= 22).sum()) if len(pixels) else 0
    # Fine stripes can blend alike in neighbouring pixels, hence not all of them.
    assert right / plain.sum() > 0.97


@pytest.mark.parametrize("index", range(0, 28, 3))
def test_parts_lie_within_their_object(index: int) -> None:
    scene = render_scene(index)
    thing = list(compositions()["object"].values())[index]
    mask = scene.maps["object"][0] == vocabulary()["object"].index(thing.name) + 1
    assert mask.any()
    assert names("part", scene.maps["part"][0][mask]) <= {shape.part for shape in thing.shapes}
    assert scene.maps["part"][0][mask].all()
    assert names("material", scene.maps["material"][0][mask]) <= {shape.material for shape in thing.shapes}
    whole, inner = (scene.maps["part"] + [np.zeros_like(mask)])[:2]
    assert not (inner.astype(bool) & (whole == 0)).any(), "a part of a part lies within a part"


def test_the_box_encloses_the_object_and_the_object_is_substantial() -> None:
    shares = []
    for index, name in enumerate(compositions()["object"]):
        scene = render_scene(index)
        mask = scene.maps["object"][0] == vocabulary()["object"].index(name) + 1
        x0, y0, x1, y1 = scene.box
        inside = np.zeros_like(mask)
        inside[y0 // 2 : -(-y1 // 2), x0 // 2 : -(-x1 // 2)] = True
        assert not (mask & ~inside).any(), name
        assert 0 <= x0 < x1 <= 64
        assert 0 <= y0 < y1 <= 64
        shares.append(mask.mean())
    assert 0.2 < np.mean(shares) < 0.4
    assert min(shares) > 0.05


def test_the_correlation_of_class_and_background_is_as_asked() -> None:
    def paired(correlation: float, variant: str) -> float:
        table, places = list(compositions()["object"].values())[:4], list(compositions()["scene"])
        options: dict[str, Any] = {"image_size": 16, "classes": 4, "variant": variant}
        drawn = [render_scene(index, background_correlation=correlation, **options).scene for index in range(80)]
        return float(np.mean([places[place - 1] == table[index % 4].scene for index, place in enumerate(drawn)]))

    assert paired(0.0, "original") < 0.16  # 1 of 28 scenes by chance
    assert 0.4 < paired(0.6, "original") < 0.8
    assert paired(1.0, "original") == 1
    assert paired(1.0, "mixed-same") == 1
    assert paired(1.0, "mixed-rand") == 0


@pytest.mark.parametrize("variant", ["mixed-same", "mixed-rand"])
def test_mixed_variants_keep_the_object_and_change_what_is_behind(variant: str) -> None:
    changed = 0
    for index in range(8):
        one, other = render_scene(index), render_scene(index, variant=variant)
        assert one.name == other.name
        assert one.box == other.box
        number = list(compositions()["object"]).index(one.name.replace(" ", "_")) + 1
        mask, same = one.maps["object"][0] == number, other.maps["object"][0] == number
        assert (mask == same).all()
        inner = mask.copy()
        for axis in (0, 1):
            for step in (-1, 1):
                inner &= np.roll(mask, step, axis)
        where = inner.repeat(2, 0).repeat(2, 1)
        assert (one.image[where] == other.image[where]).mean() > 0.98
        changed += (one.image[~where] != other.image[~where]).mean() > 0.5
    assert changed >= 7


def test_files_are_broden_s_and_give_back_the_labels(folder: Path) -> None:
    label = {int(row["number"]): row for row in rows(folder / "label.csv")}
    assert sorted(label) == list(range(1, len(label) + 1)), "numbers are dense, from 1"
    index = rows(folder / "index.csv")
    assert ",".join(index[0]) == "image,split,ih,iw,sh,sw,color,object,part,material,scene,texture"
    frequency: Counter[tuple[str, int]] = Counter()
    for place, row in enumerate(index):
        scene = render_scene(place, classes=6)
        assert (np.asarray(Image.open(folder / "images" / row["image"])) == scene.image).all()
        assert (row["ih"], row["sw"]) == ("64", "32")
        for category in ("color", "object", "part", "material"):
            found: set[int] = set()
            for file, expected in zip(row[category].split(";"), scene.maps[category], strict=True):
                read = numbers(folder / "images" / file)
                assert read.shape == (32, 32)
                assert ((read == 0) == (expected == 0)).all()
                found |= set(np.unique(read).tolist()) - {0}
            suffix = "-c" if category == "color" else ""
            drawn = {name for m in scene.maps[category] for name in names(category, m)}
            assert {label[number]["name"] for number in found} == {name.replace("_", " ") + suffix for name in drawn}
            frequency.update((category, number) for number in found)
        assert label[int(row["scene"])]["name"].endswith("-s")
        whole = [int(number) for number in row["texture"].split(";") if number]
        assert len(whole) == len(scene.textures)
        frequency.update([("scene", int(row["scene"])), *(("texture", number) for number in whole)])
    for category in CATEGORIES:
        listed = rows(folder / f"c_{category}.csv")
        assert listed, category
        assert {(category, int(row["number"])): int(row["frequency"]) for row in listed if row["frequency"] != "0"} == {
            key: count for key, count in frequency.items() if key[0] == category
        }
    assert any(";" in row["part"] for row in index)
    assert any(";" in row["texture"] for row in index)
    assert [row["name"] for row in rows(folder / "category.csv")] == list(CATEGORIES)


def test_the_reader_opens_them(folder: Path) -> None:
    labelled = BrodenSet.open(folder)
    assert len(labelled) == IMAGES
    _, images = next(labelled.image_batches(4, image_size=64))
    assert images.shape == (4, 3, 64, 64)
    assert all({"color", "object", "scene"} <= set(one) for one in next(labelled.label_batches(4)))


def test_classes_and_splits_are_balanced(folder: Path) -> None:
    classes, index = rows(folder / "classes.csv"), rows(folder / "index.csv")
    assert [row["image"] for row in classes] == [row["image"] for row in index]
    assert set(Counter(row["class"] for row in classes).values()) == {IMAGES // 6}
    held = Counter(one["class"] for one, two in zip(classes, index, strict=True) if two["split"] == "val")
    assert set(held.values()) == {IMAGES // 6 // 5}


def test_labels_above_255_use_the_green_channel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = scenes.Labels.__init__

    def shifted(self: scenes.Labels, chosen: list[str]) -> None:
        drawn(self, chosen)
        self.tables = {category: np.where(table, table + 300, 0) for category, table in self.tables.items()}
        self.numbers = {name: number + 300 for name, number in self.numbers.items()}
        self.frequency = {category: np.zeros(1000, dtype=int) for category in CATEGORIES}
        self.coverage = {category: np.zeros(1000) for category in CATEGORIES}

    monkeypatch.setattr(scenes.Labels, "__init__", shifted)
    monkeypatch.setattr(scenes.Labels, "count", lambda *arguments: None)
    folder = write_scenes(tmp_path / "set", images=1)
    read = numbers(folder / "images" / "000" / "000000_color.png")
    assert (read == render_scene(0).maps["color"][0] + 300).all()


def test_errors_name_the_thing_and_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DatasetError, match=r"'dalmation'.*dalmatian"):
        write_scenes(tmp_path / "set", images=2, classes=["dalmation"])
    with pytest.raises(ParameterError, match="background_correlation"):
        render_scene(0, background_correlation=1.5)
    with pytest.raises(ParameterError, match=r"variant='mixed'.*mixed-same"):
        render_scene(0, variant="mixed")
    with pytest.raises(ParameterError, match="classes=99"):
        render_scene(0, classes=99)
    with pytest.raises(ParameterError, match="each once"):
        render_scene(0, classes=["car", "car"])

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(scenes, "_write_png", full)
    with pytest.raises(StoreError, match="No space left"):
        write_scenes(tmp_path / "set", images=2)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "set").mkdir()
    with pytest.raises(StoreError, match="exists already"):
        write_scenes(tmp_path / "set", images=2)


def test_fingerprints_tell_parameters_apart() -> None:
    assert scene_fingerprint(images=3, seed=0) == scene_fingerprint(seed=0, images=3)
    assert scene_fingerprint(images=3, seed=0) != scene_fingerprint(images=3, seed=1)
