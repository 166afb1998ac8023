"""Classification sets in their official layouts, written small, and what happens when they are damaged."""

import errno
import hashlib
import io
import pickle
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import torch
from PIL import Image
from torchvision.datasets import CIFAR10, STL10

from layouts import WNIDS, levels, photo, tiny, write, zipped
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.data.load import dataset_fingerprint, load_images
from neuron_consistency.errors import DatasetError, ParameterError, StoreError

CPU = torch.device("cpu")


@pytest.fixture(params=["folder", "zip"])
def tiny_root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "zip":
        zipped(tmp_path, tiny(), "tiny-imagenet-100.zip")
        return tmp_path
    return write(tmp_path, tiny())


def test_tiny_imagenet_official_layout(tiny_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Classes sorted by wnid whatever the order of the list; images, labels and boxes belong together."""
    monkeypatch.setenv("NEURON_CONSISTENCY_DATA", str(tiny_root))
    train = load_images("tiny-imagenet", "train", image_size=64)
    assert train.classes == ("goldfish", "tabby", "Egyptian cat", "banana")
    assert train.synsets == tuple(WNIDS)
    assert (len(train), train.image_size, train.num_classes) == (12, 64, 4)
    assert train.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert np.abs(np.array(levels(train)) - [40 * c + 10 * n for c in range(4) for n in range(3)]).max() <= 1
    assert train.boxes is not None
    assert train.boxes[:3].tolist() == [[0, 8, 32, 64], [0, 8, 32, 63], [0, 8, 32, 62]]
    val = load_images("tiny-imagenet", "val", image_size=32)
    assert val.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert [level // 40 for level in levels(val)] == val.labels.tolist()
    assert val.boxes is not None
    assert val.boxes[0].tolist() == [2, 0, 30, 28]


def test_a_folder_of_ones_own_among_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile that names an archive by its name alone works on every machine, and says the same of it on each."""
    own = zipped(tmp_path, {f"train/{wnid}/{n}.jpg": photo(9) for wnid in WNIDS for n in (1, 2)}, "own.zip")
    found = []
    for machine in ("one", "two"):
        (tmp_path / machine).mkdir()
        shutil.copy(own, tmp_path / machine)
        monkeypatch.setenv("NEURON_CONSISTENCY_DATA", str(tmp_path / machine))
        found.append(load_images("own.zip", "train", image_size=32))
    assert found[0].synsets == tuple(WNIDS)
    assert found[0].fingerprint == found[1].fingerprint
    with pytest.raises(ParameterError, match="Unknown dataset 'other"):
        load_images("other.zip", "train", image_size=32)


def test_a_part_of_the_archive_has_the_classes_that_are_there(tmp_path: Path) -> None:
    root = write(tmp_path, tiny())
    shutil.rmtree(root / "tiny-imagenet-200/train" / WNIDS[1])
    for split in ("train", "val"):
        assert load_images("tiny-imagenet", split, root=root, image_size=64).synsets == (WNIDS[0], *WNIDS[2:])


@pytest.mark.parametrize(
    ("classes", "chosen"),
    [(2, [0, 2]), (None, [0, 1, 2, 3]), (["banana", "tabby.n.01"], [3, 1]), (["n02124075"], [2])],
)
def test_choice_of_classes_and_images(tmp_path: Path, classes: Any, chosen: list[int]) -> None:
    root = write(tmp_path, tiny())
    images = load_images("tiny-imagenet", "train", root=root, image_size=64, classes=classes, per_class=2)
    assert images.synsets == tuple(WNIDS[i] for i in chosen)
    assert images.labels.tolist() == [i for i in range(len(chosen)) for _ in range(2)]
    assert [round(level / 10) for level in levels(images)] == [4 * c + n for c in chosen for n in range(2)]


def test_fingerprints_follow_content_and_choice_without_decoding(tmp_path: Path) -> None:
    root = write(tmp_path, tiny())

    def found(**options: Any) -> str:
        return dataset_fingerprint("tiny-imagenet", "train", root=root, **{"image_size": 64, **options})

    first = found(cache=tmp_path, skip_corrupt=True)
    assert first == load_images("tiny-imagenet", "train", root=root, image_size=64).fingerprint
    others = [found(classes=2), found(per_class=1), found(image_size=32), found(classes=["tabby"])]
    assert len({first, *others}) == 5
    image = root / f"tiny-imagenet-200/train/{WNIDS[0]}/images/{WNIDS[0]}_0.JPEG"
    image.write_bytes(b"no image, and of another size")
    assert found() != first


def test_zip_and_its_fingerprint_follow_content(tmp_path: Path) -> None:
    """Same names and sizes, other pixels: the archive's checksums tell."""
    files = tiny()
    zipped(tmp_path, files, "tiny-imagenet-200.zip")
    first = dataset_fingerprint("tiny-imagenet", "train", root=tmp_path, image_size=64)
    name = f"tiny-imagenet-200/train/{WNIDS[0]}/images/{WNIDS[0]}_0.JPEG"
    files[name] = files[name][:-1] + b"\0"
    zipped(tmp_path, files, "tiny-imagenet-200.zip")
    assert dataset_fingerprint("tiny-imagenet", "train", root=tmp_path, image_size=64) != first


def test_prepared_arrays_are_used_and_damage_to_them_is_repaired(tmp_path: Path) -> None:
    root, cache = write(tmp_path / "data", tiny()), tmp_path / "cache"
    first = load_images("tiny-imagenet", "train", root=root, image_size=64, cache=cache)
    (file,) = cache.iterdir()
    again = load_images("tiny-imagenet", "train", root=root, image_size=64, cache=cache)
    assert torch.equal(_pixels(first), _pixels(again))
    assert (again.classes, again.fingerprint, again.name) == (first.classes, first.fingerprint, "tiny-imagenet")
    assert torch.equal(first.boxes, again.boxes)  # type: ignore[arg-type]
    file.write_bytes(file.read_bytes()[:1000])
    third = load_images("tiny-imagenet", "train", root=root, image_size=64, cache=cache)
    assert torch.equal(_pixels(first), _pixels(third))
    assert [path.suffix for path in cache.iterdir()] == [".safetensors"]


def _pixels(images: ImageSet) -> torch.Tensor:
    assert isinstance(images.pixels, torch.Tensor)
    return images.pixels


@pytest.mark.parametrize("archive", [False, True], ids=["folder", "zip"])
def test_imagenet_stays_in_files_and_is_cut_to_the_centre(tmp_path: Path, archive: bool) -> None:
    """Short side 256/224 of the size, central square, as torchvision's evaluation transform (PIL rounds otherwise)."""
    wide = Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 120, 3), dtype=np.uint8))
    file = io.BytesIO()
    wide.save(file, "JPEG", quality=95)
    files = {f"{split}/{w}/{w}_{n}.JPEG": file.getvalue() for split in ("train", "val") for w in WNIDS for n in (1, 2)}
    if archive:
        zipped(tmp_path, files, "imagenet-small.zip")
    root = tmp_path if archive else write(tmp_path, files)
    images = load_images("imagenet", "val", root=root, image_size=56, per_class=1)
    assert not isinstance(images.pixels, torch.Tensor)
    (indices, batch, labels), (last, *_) = images.batches(3, device=CPU)
    assert (indices.tolist(), labels.tolist(), last.tolist()) == ([0, 1, 2], [0, 1, 2], [3])
    with Image.open(file) as decoded:
        resized = decoded.resize((96, 64), Image.Resampling.BILINEAR).crop((20, 4, 76, 60))
    expected = torch.from_numpy(np.array(resized)).permute(2, 0, 1).float() / 255
    assert (batch[0] - expected).abs().max() < 2.5 / 255
    assert (batch[0] - expected).abs().mean() < 0.1 / 255
    assert batch.is_contiguous(memory_format=torch.channels_last)
    again, its_labels = images.batch(torch.tensor([3, 0]), CPU)
    assert torch.equal(again[1], batch[0])
    assert its_labels.tolist() == [3, 0]
    assert images.subset(torch.tensor([3, 0])).labels.tolist() == [3, 0]


def test_a_set_beyond_the_memory_given_stays_in_files(tmp_path: Path) -> None:
    root = write(tmp_path, tiny())
    held = load_images("tiny-imagenet", "train", root=root, image_size=64)
    filed = load_images("tiny-imagenet", "train", root=root, image_size=64, memory=1000)
    assert isinstance(held.pixels, torch.Tensor)
    assert not isinstance(filed.pixels, torch.Tensor)
    assert torch.equal(held.batch(torch.arange(12), CPU)[0], filed.batch(torch.arange(12), CPU)[0])
    assert torch.equal(held.boxes, filed.boxes)  # type: ignore[arg-type]
    assert held.fingerprint == filed.fingerprint


def test_folder_with_a_file_of_synsets(tmp_path: Path) -> None:
    files = {
        f"{split}/{c}/{n}.png": photo(n, (20, 30), "PNG") for split in ("train", "val") for c in "ab" for n in (1, 2)
    }
    files["synsets.csv"] = b"class,synset\r\na,tabby.n.01\r\nb,n07753592\r\n"
    images = load_images(str(write(tmp_path / "mine", files)), "train", image_size=16)
    assert (images.name, images.classes, images.synsets) == ("folder", ("a", "b"), ("n02123045", "n07753592"))
    assert levels(images) == [1, 2, 1, 2]
    named = load_images("folder", "train", root=tmp_path / "mine", image_size=16)
    assert named.fingerprint == images.fingerprint


def test_folder_without_splits_holds_out_every_fifth_image(tmp_path: Path) -> None:
    root = write(tmp_path, {f"{c}/{n}.jpg": photo(n) for c in ("Persian cat", "wolfhound") for n in range(10)})
    train, val = (load_images(str(root), split, image_size=16) for split in ("train", "val"))
    assert (levels(train), levels(val)) == ([0, 1, 2, 3, 5, 6, 7, 8] * 2, [4, 9] * 2)
    assert train.synsets == val.synsets == ("n02123394", "n02090475")


def test_cifar10_through_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def batch(labels: list[int]) -> bytes:
        data = np.repeat(np.array(labels, dtype=np.uint8)[:, None], 3072, axis=1)
        return pickle.dumps({"data": data, "labels": labels})

    files = {f"data_batch_{n}": batch([9, n, n]) for n in range(1, 6)}
    files |= {"test_batch": batch([0, 1]), "batches.meta": pickle.dumps({"label_names": CIFAR_CLASSES})}
    write(tmp_path / "cifar-10-batches-py", files)
    sums = {name: hashlib.md5(data).hexdigest() for name, data in files.items()}
    monkeypatch.setattr(CIFAR10, "train_list", [[name, sums[name]] for name in files if name.startswith("data")])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    meta = {"filename": "batches.meta", "key": "label_names", "md5": sums["batches.meta"]}
    monkeypatch.setattr(CIFAR10, "meta", meta)
    train = load_images("cifar10", "train", root=tmp_path, image_size=32, classes=["truck", "automobile"])
    assert (train.classes, train.labels.tolist(), levels(train)) == (
        ("truck", "automobile"), [0] * 5 + [1] * 2, [9] * 5 + [1] * 2,
    )  # fmt: skip
    assert train.synsets[1] == "n02958343"
    (tmp_path / "cifar-10-batches-py/data_batch_2").write_bytes(b"damaged")
    with pytest.raises(DatasetError, match="cifar-10-batches-py is incomplete or damaged"):
        load_images("cifar10", "train", root=tmp_path, image_size=32)


CIFAR_CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def test_stl10_through_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.arange(1, 11, dtype=np.uint8)
    pixels = np.broadcast_to(labels[:, None, None, None], (10, 3, 96, 96)).tobytes()
    files = {
        "class_names.txt": b"airplane\nbird\ncar\ncat\ndeer\ndog\nhorse\nmonkey\nship\ntruck\n",
        "train_X.bin": pixels,
        "train_y.bin": labels.tobytes(),
        "test_X.bin": pixels,
        "test_y.bin": labels.tobytes(),
    }
    write(tmp_path / "stl10_binary", files)
    sums = {name: hashlib.md5(data).hexdigest() for name, data in files.items()}
    monkeypatch.setattr(STL10, "train_list", [[n, sums[n]] for n in ("train_X.bin", "train_y.bin")])
    monkeypatch.setattr(STL10, "test_list", [[n, sums[n]] for n in ("test_X.bin", "test_y.bin")])
    val = load_images("stl10", "val", root=tmp_path, image_size=48)
    assert (val.image_size, val.labels.tolist(), levels(val)) == (48, list(range(10)), list(range(1, 11)))
    assert val.classes[7] == "monkey"


def test_scenes_of_both_splits_are_disjoint_and_balanced() -> None:
    train, val = (
        load_images("scenes", split, image_size=32, classes=3, per_class=n) for split, n in (("train", 8), ("val", 2))
    )
    assert (train.labels.bincount().tolist(), val.labels.bincount().tolist()) == ([8, 8, 8], [2, 2, 2])
    assert not (_pixels(train)[:, None] == _pixels(val)[None]).flatten(2).all(2).any()
    assert train.boxes is not None
    assert (train.boxes[:, 2:] > train.boxes[:, :2]).all()
    assert train.fingerprint == dataset_fingerprint("scenes", "train", image_size=32, classes=3, per_class=8)
    other = load_images("scenes", "val", image_size=32, classes=3, per_class=2, background_correlation=1.0)
    assert other.fingerprint != val.fingerprint
    with pytest.raises(ParameterError, match="colour"):
        load_images("scenes", "val", image_size=32, colour="red")


def test_split_off_is_stratified_and_repeatable(tmp_path: Path) -> None:
    images = load_images("tiny-imagenet", "train", root=write(tmp_path, tiny(per_class=5)), image_size=16)
    rest, held = images.split_off(0.2, seed=1)
    assert (rest.labels.bincount().tolist(), held.labels.bincount().tolist()) == ([4] * 4, [1] * 4)
    assert sorted(levels(rest) + levels(held)) == sorted(levels(images))
    assert (rest.fingerprint, held.fingerprint) == tuple(s.fingerprint for s in images.split_off(0.2, seed=1))
    assert held.fingerprint != images.split_off(0.2, seed=2)[1].fingerprint != rest.fingerprint
    with pytest.raises(ParameterError, match="fraction"):
        images.split_off(1.5, seed=0)
    assert images.to(CPU) is images


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("tiny-imagenet", "cs231n.stanford.edu"),
        ("imagenet", "image-net.org"),
        ("imagenette", "fastai/imagenette"),
        ("cifar10", "cifar-10-batches-py"),
        ("stl10", "stl10_binary"),
    ],
)
def test_missing_set_says_where_it_looked_what_it_accepts_and_where_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, layout: str
) -> None:
    monkeypatch.delenv("NEURON_CONSISTENCY_DATA", raising=False)
    for root in (tmp_path, None):
        with pytest.raises(DatasetError, match="NEURON_CONSISTENCY_DATA") as error:
            load_images(name, "val", root=root, image_size=64)
        assert layout in str(error.value)
        assert root is None or str(root) in str(error.value)


def test_truncated_zip_is_named(tmp_path: Path) -> None:
    archive = zipped(tmp_path, tiny(), "tiny-imagenet-200.zip")
    archive.write_bytes(archive.read_bytes()[:-500])
    for ask in (load_images, dataset_fingerprint):
        with pytest.raises(DatasetError, match=r"tiny-imagenet-200.zip is not a complete zip"):
            ask("tiny-imagenet", "train", root=tmp_path, image_size=64)


@pytest.mark.parametrize("memory", [1 << 30, 0], ids=["memory", "files"])
def test_corrupt_image_is_named_and_skipped_only_where_asked(tmp_path: Path, memory: int) -> None:
    root, cache = write(tmp_path / "data", tiny()), tmp_path / "cache"
    name = f"train/{WNIDS[1]}/images/{WNIDS[1]}_2.JPEG"
    (root / "tiny-imagenet-200" / name).write_bytes(photo(90)[:300])

    def load(skip: bool) -> ImageSet:
        images = load_images(
            "tiny-imagenet", "train", root=root, image_size=64, memory=memory, skip_corrupt=skip, cache=cache
        )
        list(images.batches(5, device=CPU))
        return images

    with pytest.raises(DatasetError, match=f"{name} is not a readable image.*skip_corrupt"):
        load(False)
    for _ in range(2):  # the second time from the prepared array
        with pytest.warns(UserWarning, match=f"Left out: .*{name}"):
            images = load(True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            labels = torch.cat([labels for *_, labels in images.batches(4, device=CPU)])
        assert labels.tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 3]
    with pytest.raises(DatasetError, match=name):
        load(False)


def test_no_space_for_the_prepared_array_is_a_store_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise safetensors.SafetensorError(
            f"Error while serializing: I/O error: No space left on device (os error {errno.ENOSPC})"
        )

    monkeypatch.setattr("safetensors.torch.save_file", full)
    root = write(tmp_path / "data", tiny())
    with pytest.raises(StoreError, match="no space left"):
        load_images("tiny-imagenet", "train", root=root, image_size=64, cache=tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_images_never_leave_the_folder(tmp_path: Path) -> None:
    """A name that climbs out of the folder, as only a hand-made list could hold, is refused."""
    images = load_images("tiny-imagenet", "train", root=write(tmp_path, tiny()), image_size=64, memory=0)
    assert not isinstance(images.pixels, torch.Tensor)
    crafted = replace(images, pixels=replace(images.pixels, items=np.array([b"../../secret.jpg"] * len(images))))
    with pytest.raises(DatasetError, match="leads out of the folder"):
        crafted.batch(torch.tensor([0]), CPU)
