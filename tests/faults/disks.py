"""Works on a disk that is full or can only be read, and two processes at one work."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from faults.works import Work, begun, bytes_in, ended, leftovers, reference


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of its own at a folder, where one may be mounted; else the test is skipped."""
    folder.mkdir(parents=True)
    mount = shutil.which("mount")
    command = [mount or "", "-t", "tmpfs", "tmpfs", str(folder)]
    if not mount or os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    """Lets the file system of `small_disk` be another: size=64k, ro, rw."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def filled(work: Work, folder: Path, *, rounds: int) -> Counter[str]:
    """Lets a work run on disks too small for it, from 4 KiB up, and go on once there is space.

    Returns:
        How many disks it fitted, how many times it ended in an error of the library's own, in another one, and came to
        another result once there was space.
    """
    expected, _ = reference(work, folder / "whole")
    used = 2 * sum(len(content) + 4096 for content in bytes_in(folder / "whole").values())
    found = Counter[str](fitted=0, refused=0, foreign=0, others=0, leftovers=0)
    for number in range(rounds):
        with small_disk(folder / str(number)) as disk:
            remount(disk, f"size={4 * (1 + number * used // rounds // 4096)}k")
            code = ended(begun(partial(work.run, disk)))
            found[{0: "fitted", 3: "refused"}.get(code, "foreign")] += 1
            remount(disk, "size=64m")
            ended(begun(partial(work.run, disk)))
            found["others"] += work.result(disk) != expected
            found["leftovers"] += len(leftovers(disk))
    return found


def only_read(work: Work, folder: Path, *, rounds: int) -> Counter[str]:
    """Kills a work, lets it go on where it can only read, then where it can write, and then only read what it has made.

    Returns:
        How many times it was refused by an error of the library's own, had nothing left to write, ended in a foreign
        error, came to another result once it could write, and could not be read where nothing is to be written.
    """
    expected, _ = reference(work, folder / "whole")
    found = Counter[str](refused=0, done=0, foreign=0, others=0, unread=0)
    for number in range(rounds):
        with small_disk(folder / str(number)) as disk:
            ended(begun(partial(work.run, disk), die_at=2 + 5 * number, within=disk))
            remount(disk, "ro")
            found[{0: "done", 3: "refused"}.get(ended(begun(partial(work.run, disk))), "foreign")] += 1
            remount(disk, "rw")
            ended(begun(partial(work.run, disk)))
            found["others"] += work.result(disk) != expected
            remount(disk, "ro")
            found["unread"] += ended(begun(partial(work.run, disk))) != 0
    return found


def beside(work: Work, folder: Path, *, rounds: int) -> Counter[str]:
    """Lets two processes do the same work in one folder at once.

    Returns:
        How many pairs there were, processes that failed, pairs of another result, and files left over.
    """
    expected, _ = reference(work, folder / "whole")
    found = Counter[str](pairs=0, failed=0, others=0, leftovers=0)
    for number in range(rounds):
        own = folder / str(number)
        own.mkdir()
        children = [begun(partial(work.run, own)) for _ in range(2)]
        found["failed"] += sum(ended(child) != 0 for child in children)
        found["pairs"] += 1
        found["others"] += work.result(own) != expected
        found["leftovers"] += len(leftovers(own))
    return found
