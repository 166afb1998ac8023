"""Results are written whole or not at all, and a full disk is said so."""

from __future__ import annotations

import errno
import io
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import safetensors.torch
import torch

from neuron_consistency.artifacts import SEAL, artifacts, atomic_path, commit, read_json, write_json
from neuron_consistency.errors import StoreError
from toys import EQ6, toy_model, train_toy


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB, where one may be mounted; "earlier.json" lies on it already."""
    folder = tmp_path / "small-disk"
    folder.mkdir()
    mount = shutil.which("mount")
    command = [mount or "", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if not mount or os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here; the test with a planted error stands in")
    write_json(folder / "earlier.json", {"kept": True})
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def _torch(part: Path) -> None:
    content = io.BytesIO()
    torch.save({"a": torch.zeros(100_000)}, content)
    part.write_bytes(content.getbuffer())


WRITERS: dict[str, Callable[[Path], object]] = {
    "text": lambda part: part.write_text("x" * 200_000),
    "torch": _torch,
    "safetensors": lambda part: safetensors.torch.save_file({"a": torch.zeros(100_000)}, part),
}


@pytest.mark.parametrize("writer", sorted(WRITERS))
def test_a_full_disk_is_one_clear_error_and_earlier_results_stay(full_disk: Path, writer: str) -> None:
    """Whoever writes: no raw RuntimeError, no half file, what was there is there."""
    with (
        pytest.raises(StoreError, match=r"no space left for .*new.*free some space"),
        atomic_path(full_disk / "new") as part,
    ):
        WRITERS[writer](part)
    assert [path.name for path in full_disk.iterdir()] == ["earlier.json"]
    assert read_json(full_disk / "earlier.json") == {"kept": True}


def test_training_on_a_full_disk_is_one_clear_error(full_disk: Path) -> None:
    """The checkpoint does not fit: nothing half-written, and the record of another network is still there."""
    (full_disk / "filler").write_bytes(b"0" * 58_000)
    with pytest.raises(StoreError, match=r"no space left for .*run\.checkpoint"):
        train_toy(toy_model(), EQ6, checkpoint=full_disk / "run.checkpoint")
    assert sorted(path.name for path in full_disk.iterdir()) == ["earlier.json", "filler"]
    assert read_json(full_disk / "earlier.json") == {"kept": True}


def _fail(path: Path, error: BaseException) -> None:
    with atomic_path(path) as part:
        part.write_text("half")
        raise error


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_planted_error_of_a_full_disk_leaves_the_old_content(tmp_path: Path, number: int) -> None:
    """The same where nothing can be mounted: the old file is not touched."""
    path = tmp_path / "result.json"
    write_json(path, {"old": 1})
    with pytest.raises(StoreError, match="no space left"):
        _fail(path, OSError(number, os.strerror(number)))
    assert read_json(path) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_appears_only_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "result.txt"
    with atomic_path(path) as part:
        part.write_text("whole")
        assert not path.exists()
        assert part.parent.parent == path.parent  # so that the last step is a rename on one file system
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [RuntimeError("cannot write the letter"), KeyboardInterrupt()])
def test_any_other_error_passes_unchanged_and_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    """Only the system's refusals become StoreErrors: a fault of the code must not read as a full disk."""
    with pytest.raises(type(error)):
        _fail(tmp_path / "new", error)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("a file")
    with pytest.raises(StoreError, match=r"result\.json cannot be written"):
        write_json(tmp_path / "folder" / "result.json", {})


def test_json_survives_and_damage_is_named_with_its_cure(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_json(path, {"b": [1, 2.5, None], "a": "ä"})
    assert read_json(path) == {"a": "ä", "b": [1, 2.5, None]}
    path.write_text('{"a": ')
    with pytest.raises(StoreError, match=r"record\.json cannot be read.*remove it and run again"):
        read_json(path)
    with pytest.raises(StoreError, match=r"none\.json cannot be read"):
        read_json(tmp_path / "none.json")


@pytest.mark.parametrize("content", ["[]", "3", "{}", '{"seed": "0"}', '{"seed": null}'])
def test_json_of_something_else_is_refused(tmp_path: Path, content: str) -> None:
    """Else a KeyError or a TypeError far from the file says nothing of it."""
    path = tmp_path / "record.json"
    path.write_text(content)
    with pytest.raises(
        StoreError, match=r"record\.json does not hold what it should \(seed\): remove it and run again"
    ):
        read_json(path, seed=int)


def test_a_file_with_a_checksum_is_read_as_it_was_written_or_refused(tmp_path: Path) -> None:
    """The checksum is none of the content; what another bit says is never read. Files of earlier versions have none."""
    path = tmp_path / "record.json"
    for content in ({"seed": 1}, {"seed": 1} | SEAL):
        write_json(path, content)
        assert read_json(path) == {"seed": 1}
    assert "00000000" not in path.read_text()
    whole = path.read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(StoreError, match=r"record\.json (is damaged|cannot be read)"):
            read_json(path)


def test_files_are_on_the_disk_before_they_have_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a loss of power leaves an empty file under the name of a finished one."""
    done: list[str] = []
    replace = os.replace

    def named(*paths: Path) -> None:
        done.append("name")
        replace(*paths)

    monkeypatch.setattr(os, "fsync", lambda _number: done.append("sync"))
    monkeypatch.setattr(os, "replace", named)
    write_json(tmp_path / "record.json", {})
    assert done == ["sync", "name", "sync"]


def test_artifacts_lie_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEURON_CONSISTENCY_ARTIFACTS", str(tmp_path / "elsewhere"))
    assert artifacts("smoke") == tmp_path / "elsewhere" / "smoke"
    assert artifacts("smoke").is_dir()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NEURON_CONSISTENCY_ARTIFACTS", str(tmp_path / "file"))
    with pytest.raises(StoreError, match="cannot be written"):
        artifacts("smoke")


def test_the_commit_is_named_and_no_git_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    found = commit()
    assert found == "unknown" or len(found.rstrip("+")) == 12
    monkeypatch.setenv("PATH", "")
    assert commit() == "unknown"
