"""The artifacts folder: where results lie between notebooks, written atomically and with provenance."""

from __future__ import annotations

import errno
import json
import os
import platform
import re
import shutil
import subprocess
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from safetensors import SafetensorError

from neuron_consistency.errors import ParameterError, StoreError

# Room for a checksum, to be among the first that a file holds: `atomic_path` sets in that of the whole file, as it is
# with these digits. JSON and the metadata of safetensors can hold it; the name comes first where names are sorted.
SEAL = {"_checksum": "crc32:00000000"}
_SEALED = re.compile(rb"_checksum\W{3,6}crc32:([0-9a-f]{8})")  # with JSON's marks between, escaped or not
_PART = re.compile(r"\.(\d{1,9})@(.+)\.part")
_DAY = 86400  # seconds


def artifacts(profile: str) -> Path:
    """The folder of a profile's results: `artifacts/<profile>` of the repository, or under the folder that the
    environment variable NEURON_CONSISTENCY_ARTIFACTS names.

    Raises:
        StoreError: it cannot be made.
    """
    named = os.environ.get("NEURON_CONSISTENCY_ARTIFACTS")
    folder = (Path(named) if named else repository_root() / "artifacts") / profile
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explained(error, folder) from error
    return folder


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that becomes `path` when the context ends well, and vanishes otherwise.

    Where the first bytes have room for a checksum (`SEAL`), it is set in. Then the file is on the disk itself, whole,
    before it has its name: a loss of power leaves the old file or the new one.

    Write through Python's own files or safetensors: torch's writer does not say that a disk is full.

    Raises:
        StoreError: the disk is full, or the folder cannot be written.
    """
    try:
        with _beside(path) as part:
            yield part
            with part.open("r+b") as file:
                if (found := _checksum(file)) and found[0]:
                    file.seek(found[0])
                    file.write(found[2])
                    file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
            _sync(path.parent)
    except OSError as error:
        raise explained(error, path) from error
    except SafetensorError as error:  # holds the system's error as text alone
        raise explained(OSError(str(error)), path) from error


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """The path of a folder to fill, which becomes `folder` when the context ends well; else it vanishes.

    Two who fill the same at once keep apart, and the second to end drops its own.
    """
    with _beside(folder) as part:
        yield part
        if not folder.exists():
            os.sync()  # of many files, faster than one by one
            part.rename(folder)
            _sync(folder.parent)


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A path of the same name in a folder of this process beside it, with which all goes that writers leave there."""
    clear_leftovers(path.parent)
    part = path.with_name(f"{path.name}.{os.getpid()}@{platform.node()}.part")
    try:
        part.mkdir(parents=True, exist_ok=True)
        yield part / path.name
    finally:
        shutil.rmtree(part, ignore_errors=True)


def clear_leftovers(folder: Path) -> None:
    """Removes what killed processes have left half-written in a folder; what may still be written stays.

    Of another machine's processes nothing is known but that none writes at one file for a day.
    """
    for part in folder.glob("*.part"):
        with suppress(OSError):  # another process clears, too, or only reading is allowed
            if not (named := _PART.search(part.name)):
                continue
            dead = named[2] == platform.node() and not _runs(int(named[1]))
            if dead or time.time() - part.stat().st_mtime > _DAY:
                shutil.rmtree(part)


def discard(path: Path) -> None:
    """Removes a file that is of no use any more, where it is there and may be removed, and leftovers beside it."""
    clear_leftovers(path.parent)
    with suppress(OSError):
        path.unlink()


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)  # it may be another user's
    return True


def _sync(folder: Path) -> None:
    """Puts a folder's names onto the disk itself, where the file system can."""
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def _checksum(file: BinaryIO) -> tuple[int, bytes, bytes] | None:
    """Where a file's checksum stands (0: it is damaged), what it is, what it should be; None where there is none."""
    head = file.read(128)
    if not (found := _SEALED.search(head)):
        return (0, b"", head) if b"_checksum" in head or b"crc32:" in head else None
    start, end = found.span(1)
    value = zlib.crc32(head[:start] + b"0" * 8 + head[end:])
    while chunk := file.read(1 << 20):
        value = zlib.crc32(chunk, value)
    return start, found[1], b"%08x" % value


def verify(path: Path) -> None:
    """Holds a file against its checksum, if it has one: files of an earlier version and released ones have none.

    Raises:
        StoreError: it cannot be read, or is not what was written.
    """
    try:
        with path.open("rb") as file:
            found = _checksum(file)
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error}): remove it and run again") from error
    if found and found[1] != found[2]:
        raise StoreError(f"{path} is damaged, its checksum differs: remove it and run again")


def explained(error: OSError, path: Path) -> StoreError:
    """What keeps a path from being written, and what to do about it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
        return StoreError(f"no space left for {path}: free some space, then run again; nothing else is lost")
    return StoreError(f"{path} cannot be written ({error}): check the folder's permissions")


def write_json(path: Path, content: Any) -> None:
    """Writes `content` as JSON, atomically."""
    with atomic_path(path) as part:
        part.write_text(json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")


def read_json(path: Path, **fields: Any) -> Any:
    """Reads a JSON file, without its checksum.

    Args:
        **fields: what it must hold, by name, with the types that these may have; none lets it hold anything.

    Raises:
        StoreError: it is missing, damaged, or holds something else.
    """
    verify(path)
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{path} cannot be read ({error}): remove it and run again") from error
    held = content if isinstance(content, dict) else {}
    held.pop("_checksum", None)
    if wrong := [name for name, kind in fields.items() if not isinstance(held.get(name), kind)]:
        raise StoreError(f"{path} does not hold what it should ({', '.join(wrong)}): remove it and run again")
    return content


def commit() -> str:
    """The commit of the checkout, marked "+" where files of the library or the notebooks differ from it."""
    return _git_name("HEAD", "lib", "notebooks")


def library_tree() -> str:
    """What git calls the content of the library at this commit, marked "+" where its files differ from it."""
    return _git_name("HEAD:lib", "lib")


def _git_name(revision: str, *folders: str) -> str:
    try:
        root = repository_root()
        git = ["git", "-C", str(root)]
        own = subprocess.run([*git, "rev-parse", "--show-toplevel"], capture_output=True, text=True, check=True)
        if not root.samefile(own.stdout.strip()):  # another repository's folder that a copy without .git lies in
            return "unknown"
        name, changed = (
            subprocess.run([*git, *words], capture_output=True, text=True, check=True).stdout.strip()
            for words in (["rev-parse", "--short=12", revision], ["status", "--porcelain", "--", *folders])
        )
    except (OSError, subprocess.CalledProcessError, ParameterError):
        return "unknown"
    return name + "+" * bool(changed)


def repository_root() -> Path:
    """The folder that holds `notebooks/` and the Snakefile: above the working folder, else above this file.

    So a notebook finds its files whether it is run from the root or from its own folder.

    Raises:
        ParameterError: neither is inside a copy of the repository.
    """
    for folder in (Path.cwd(), *Path.cwd().parents, *Path(__file__).resolve().parents):
        if (folder / "Snakefile").is_file() and (folder / "notebooks").is_dir():
            return folder
    raise ParameterError(f"{Path.cwd()} is not inside the repository: change into it and call again")
