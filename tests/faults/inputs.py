"""Inputs as no one meant them: what readers make of valid files that were changed at random."""

from __future__ import annotations

import io
import json
import random
import shutil
import signal
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from layouts import cub, devkit, packed, tarred, tiny, write, zipped
from neuron_consistency.data.archive import Files, unpacked
from neuron_consistency.data.broden import CATEGORIES, BrodenSet
from neuron_consistency.data.decode import decode_image
from neuron_consistency.data.find import open_source
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.data.labels import class_distances
from neuron_consistency.data.text import table_rows
from neuron_consistency.errors import NeuronConsistencyError
from neuron_consistency.networks.weights import read_checkpoint
from neuron_consistency.workflow.files import literal, parse_yaml, read_words
from neuron_consistency.workflow.parameters import notebook_parameters
from neuron_consistency.workflow.results import record_faults

WORDS = [
    *(
        b"\0",
        b"\xff\xff\xff\xff",
        b"-1",
        b"999999999999",
        b"NaN",
        b"1e999",
        b"\xef\xbb\xbf",
        b"\r",
        b'"',
        b"../",
        b"<",
        b"&a;",
    ),
    *(b"[" * 50, b"{" * 50, b"*a", b"&a ", b": ", b"9**9**9", b"\xe4", b"\\", b"'", b"\t", b",", b"0x", b"!!int "),
]
SECONDS = 10  # of a processor, that one input may take
Feed = Callable[[bytes], object]


class Hangs(BaseException):
    """An input took too long."""


def changed(data: bytes, chance: random.Random) -> bytes:
    """The bytes with one to four changes: bits flipped, spans cut, doubled or moved, odd words set in."""
    made = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(made) + 1)
        span = made[place : place + chance.choice((1, 2, 4, 16, 200))]
        match chance.randrange(6):
            case 0 if made:
                made[place - 1] ^= 1 << chance.randrange(8)
            case 1:
                del made[place : place + len(span)]
            case 2:
                made[place:place] = span * chance.choice((1, 2, 30))
            case 3:
                made[place:place] = chance.choice(WORDS)
            case 4:
                made[place : place + len(span)] = chance.choice(WORDS)
            case 5:
                del made[place:]
    return bytes(made)


@contextmanager
def in_time() -> Iterator[None]:
    def end(*_: object) -> None:
        raise Hangs

    before = signal.signal(signal.SIGPROF, end)  # counts this process's time alone: a machine may be busy or stopped
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def fed(feed: Feed, seeds: list[bytes], number: int, seed: int = 0) -> Counter[str]:
    """What became of so many inputs: "read", "refused", or a foreign exception or "hangs" with the place it is from."""
    chance, found = random.Random(seed), Counter[str]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(number):
            data = changed(chance.choice(seeds), chance)
            try:
                with in_time():
                    feed(data)
                found["read"] += 1
            except NeuronConsistencyError:
                found["refused"] += 1
            except Hangs:
                found[f"hangs at {data[:200]!r}"] += 1
            except Exception as error:
                places = [
                    line for line in traceback.extract_tb(error.__traceback__) if "neuron_consistency" in line.filename
                ]
                place = f"{Path(places[-1].filename).name}:{places[-1].lineno}" if places else "?"
                found[f"{type(error).__name__} at {place}: {str(error)[:100]}"] += 1
    return found


def readers(root: Path) -> dict[str, tuple[Feed, list[bytes]]]:
    """Each reader by what it reads: how it is fed, and valid files."""
    return {**_archives(root / "archives"), **_datasets(root / "sets"), **_images(), **_repository(root / "book")}


def _archives(root: Path) -> dict[str, tuple[Feed, list[bytes]]]:
    root.mkdir(parents=True)
    content = {"a/1.txt": b"one" * 50, "a/b/2.txt": b"two", "ü.txt": b"umlaut"}
    tars = [tarred(root, content, name).read_bytes() for name in ("x.tar", "x.tar.gz")]
    zips = [zipped(root, content, "x.zip").read_bytes()]
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with zipfile.ZipFile(made := io.BytesIO(), "w", method) as archive:
            for name, data in content.items():
                archive.writestr(name, data)
        zips.append(made.getvalue())

    def unzip(data: bytes) -> None:
        (root / "x.zip").write_bytes(data)
        files = Files(root / "x.zip")
        files.signature()
        for name in files.names():
            files.read(name)

    def untar(data: bytes) -> None:
        (root / "x.tar").write_bytes(data)
        shutil.rmtree(root / "x.tar.unpacked", ignore_errors=True)
        files = Files(unpacked(root / "x.tar"))
        for name in files.names():
            files.read(name)

    return {"zip": (unzip, zips), "tar": (untar, tars)}


def _datasets(root: Path) -> dict[str, tuple[Feed, list[bytes]]]:
    made: dict[str, tuple[Feed, list[bytes]]] = {}

    def add(name: str, split: str, files: dict[str, bytes], *changing: str) -> None:
        place = packed(root / name, files, "")
        for file in changing:

            def feed(data: bytes, path: Path = place / file, whole: bytes = files[file]) -> None:
                path.write_bytes(data)
                try:
                    open_source(name, split, place).listing(None, None)
                finally:
                    path.write_bytes(whole)

            made[f"{name}, {Path(file).name}"] = feed, [files[file]]

    base = "tiny-imagenet-200"
    add("tiny-imagenet", "val", tiny(), f"{base}/wnids.txt", f"{base}/val/val_annotations.txt")
    base = "CUB_200_2011"
    add(
        "cub200",
        "train",
        cub(),
        *(f"{base}/{name}.txt" for name in ("images", "image_class_labels", "bounding_boxes", "classes")),
    )
    base = "VOCdevkit/VOC2007"
    add(
        "voc2007",
        "train",
        devkit("VOC2007", "trainval"),
        f"{base}/Annotations/000005.xml",
        f"{base}/ImageSets/Main/trainval.txt",
    )

    colours = np.zeros((8, 8, 3), dtype=np.uint8)
    colours[..., 0] = 1
    Image.fromarray(colours).save(png := io.BytesIO(), "PNG")
    broden = {
        "index.csv": b"image,split,sh,sw,color,object,scene\na.png,train,8,8,,m.png,1\nb.png,train,8,8,1;2,1,\n",
        "label.csv": b"number,name,category\n1,cat,object(3);scene(2)\n2,dog,object(1);color(1)\n",
        "images/m.png": png.getvalue(),
    }
    place = write(root / "broden", broden | {"images/a.png": png.getvalue(), "images/b.png": png.getvalue()})
    for file, whole in broden.items():

        def look(data: bytes, path: Path = place / file, whole: bytes = whole) -> None:
            path.write_bytes(data)
            try:
                scenes = BrodenSet.open(place)
                for category in CATEGORIES:
                    for index in scenes.labelled(category).nonzero()[:, 0].tolist():
                        scenes.image_labels(index, category)
            finally:
                path.write_bytes(whole)

        made[f"Broden, {file}"] = look, [whole]

    labels, pixels = torch.tensor([0, 0, 1, 1]), torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
    images = ImageSet("own", "all", ("a", "b"), ("", ""), labels, pixels, "print")
    table = root / "table.csv"

    def distances(data: bytes) -> None:
        table.write_bytes(data)
        class_distances(images, table)

    tables = [
        b"class,synset\na,tabby.n.01\nb,bus.n.01\n",
        b"class,parent\na,c\nb,c\nc,\n",
        b",a,b\na,0,1.5\nb,1.5,0\n",
        b"a\ttabby\nb\tbus.n.01\n",
    ]
    made["tables of labels"] = distances, tables
    made["tables"] = (lambda data: table_rows(data, "x.csv")), tables
    return made


def _images() -> dict[str, tuple[Feed, list[bytes]]]:
    seeds = []
    for kind, mode in (
        ("JPEG", "RGB"),
        ("PNG", "P"),
        ("PNG", "I;16"),
        ("GIF", "P"),
        ("BMP", "RGB"),
        ("WEBP", "RGBA"),
        ("TIFF", "L"),
        ("PPM", "RGB"),
    ):
        Image.new(mode, (16, 12)).save(made := io.BytesIO(), kind)
        seeds.append(made.getvalue())
    return {"images": ((lambda data: decode_image(data, "x")), seeds)}


def _repository(root: Path) -> dict[str, tuple[Feed, list[bytes]]]:
    root.mkdir(parents=True)
    notebook, weights = root / "04.ipynb", root / "weights.pth"
    source = 'sigma: float = 8 / 255\\nnames: list[str] = [\\"a\\"]\\n'
    cell = f'{{"cell_type": "code", "metadata": {{"tags": ["parameters"]}}, "source": ["{source}"]}}'

    def parameters(data: bytes) -> None:
        notebook.write_bytes(data)
        notebook_parameters(notebook)

    def record(data: bytes) -> None:
        (root / "record.json").write_bytes(data)
        record_faults(root)

    def state(data: bytes) -> None:
        weights.write_bytes(data)
        read_checkpoint(weights)

    def text(reader: Callable[[str], Any]) -> Feed:
        def feed(data: bytes) -> None:
            try:
                reader(data.decode("utf-8", "replace"))
            except ValueError as error:
                if type(error) is not ValueError:  # what `literal` raises
                    raise

        return feed

    torch.save({"a": torch.ones(3), "b": torch.zeros(2, 2)}, whole := io.BytesIO())
    kept = {"study": "a", "commit": "0123456789ab", "finished": "x", "tables": {"a.csv": "0"}, "notebook": "04"}
    kept |= {"versions": {"training": 1}, "parameters": {}}
    return {
        "notebooks": (parameters, [f'{{"cells": [{cell}], "metadata": {{}}, "nbformat": 4}}'.encode()]),
        "records": (record, [json.dumps(kept).encode()]),
        "weights": (state, [whole.getvalue()]),
        "YAML": (
            text(lambda said: parse_yaml(said, "x.yaml")),
            [b"common: &a {x: 1}\n04:\n  y: [1.0e-3, 2001-01-01]\n  z: *a\n", b"{a: {b: [c, !!int 1]}}"],
        ),
        "values": (text(literal), [b"[1, 8 / 255, -2.5e3, 'a']", b"{'a': (1, 2)}", b"2 * (3 + 4)"]),
        "words": (text(read_words), [b"sigma=1.5 sigmas=[1.0, 2.0] name='a b'", b'x="1 2" y=']),
    }
