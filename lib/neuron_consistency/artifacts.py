"""The artifacts folder: where results lie between notebooks, written atomically and with provenance."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from neuron_consistency.errors import ParameterError, StoreError


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

    Write through Python's own files or safetensors: torch's writer does not say that a disk is full.

    Raises:
        StoreError: the disk is full, or the folder cannot be written.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        os.replace(part, path)
    except OSError as error:
        raise explained(error, path) from error
    except SafetensorError as error:  # holds the system's error as text alone
        raise explained(OSError(str(error)), path) from error
    finally:
        with suppress(OSError):  # most often it has become `path`
            part.unlink()


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """The path of a folder to fill beside `folder`, which it becomes when the context ends well; else it vanishes.

    Two who fill the same at once keep apart, and the second to end drops its own.
    """
    part = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        yield part
        if not folder.exists():
            part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def explained(error: OSError, path: Path) -> StoreError:
    """What keeps a path from being written, and what to do about it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
        return StoreError(f"no space left for {path}: free some space, then run again; nothing else is lost")
    return StoreError(f"{path} cannot be written ({error}): check the folder's permissions")


def write_json(path: Path, content: Any) -> None:
    """Writes `content` as JSON, atomically."""
    with atomic_path(path) as part:
        part.write_text(json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        StoreError: it is missing or damaged.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read ({error}): remove it and run again") from error


def commit() -> str:
    """The commit of the checkout, marked "+" where files of the library or the notebooks differ from it."""
    return _git_name("HEAD", "lib", "notebooks")


def library_tree() -> str:
    """What git calls the content of the library at this commit, marked "+" where its files differ from it."""
    return _git_name("HEAD:lib", "lib")


def _git_name(revision: str, *folders: str) -> str:
    try:
        git = ["git", "-C", str(repository_root())]
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
