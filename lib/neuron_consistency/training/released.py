"""Networks of the book that a release holds: fetched by name and held against their hashes, so that none is trained."""

import hashlib
import sys
import urllib.request
from collections.abc import Iterable, Iterator
from http.client import HTTPException
from pathlib import Path

from neuron_consistency.artifacts import atomic_path, read_json, repository_root, verify, write_json
from neuron_consistency.training.recipes import Recipe

# One release for all: a network's file is named by a key of all that made it, so that a new one never replaces another.
RELEASE = "https://github.com/consistent-neurons/consistent-neurons/releases/download/networks"


def listed() -> Path:
    """The file of SHA-256 sums, by file name, of all that the release holds."""
    return repository_root() / "notebooks" / "released.json"


def _files(recipe: Recipe) -> list[Path]:
    return [recipe.path, recipe.path.with_suffix(".json")]  # the record last: with it the network is whole


def fetched(recipe: Recipe) -> bool:
    """Whether the release had the network's weights and record, which then lie where a training would put them.

    Where it lists them but they cannot be had, or are not what was listed, a line says so and nothing is kept.

    Raises:
        StoreError: the disk is full, or the list is damaged.
    """
    sums = read_json(listed()) if listed().is_file() else {}
    if not all(file.name in sums for file in _files(recipe)):
        return False
    for file in _files(recipe):
        try:
            _fetch(file, sums[file.name])
        except _NotReleasedError as error:
            print(f"warning: {RELEASE}/{file.name} {error}: the network is trained here", file=sys.stderr, flush=True)
            recipe.path.unlink(missing_ok=True)
            return False
    print(f"{recipe.title}, seed {recipe.seed}: fetched from the release, not trained", flush=True)
    return True


class _NotReleasedError(Exception):
    """Why a file of the release cannot be used, in words."""


def _fetch(file: Path, wanted: str) -> None:
    """Writes a file of the release to its place, once its hash is the one that is wanted."""
    digest = hashlib.sha256()
    with atomic_path(file) as part:
        with part.open("wb") as written:
            for chunk in _chunks(f"{RELEASE}/{file.name}"):
                digest.update(chunk)
                written.write(chunk)
        if digest.hexdigest() != wanted:
            raise _NotReleasedError("is not the file that was released")


def _chunks(address: str) -> Iterator[bytes]:
    try:
        with urllib.request.urlopen(address, timeout=30) as answer:
            while chunk := answer.read(1 << 20):
                yield chunk
    except (OSError, HTTPException) as error:
        raise _NotReleasedError(f"cannot be fetched ({error})") from error


def list_release(recipes: Iterable[Recipe]) -> list[Path]:
    """Adds trained networks to the list of the release; returns their files, which are to be uploaded.

    Raises:
        StoreError: a network is not trained, or the list is damaged.
    """
    files = [file for recipe in recipes for file in _files(recipe)]
    for file in files:
        verify(file)
    sums = read_json(listed()) if listed().is_file() else {}
    write_json(listed(), sums | {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files})
    return files
