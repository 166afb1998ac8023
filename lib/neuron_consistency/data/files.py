"""Files of a dataset in a folder or inside a zip, read in place; tar archives unpacked; and batches loaded ahead."""

import bisect
import gzip
import hashlib
import os
import shutil
import struct
import tarfile
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from torch.utils.data import DataLoader, Dataset

from neuron_consistency.errors import DatasetError

Batch = TypeVar("Batch")
ENTRY = struct.Struct("<4s4xHH4xLLLHHH8xL")  # of a zip's central directory
DEFLATED = 8  # the method of compressed members; all others must be stored


class Files:
    """The files below `path` (a folder or a zip archive) and `base` (a folder in it), by names with slashes.

    Nothing is unpacked, a zip may be read by several threads and processes at once, and every member read from it
    is held against its checksum.

    Raises:
        DatasetError: the archive is truncated or no zip at all.
    """

    def __init__(self, path: Path, base: str = "") -> None:
        self.path, self.base = path, base
        self.zipped = path.is_file()

    def __reduce__(self) -> tuple[Any, ...]:
        return Files, (self.path, self.base)

    def within(self, folder: str) -> "Files":
        """The files of a folder in it."""
        inner = Files(self.path, f"{self.base}{folder}/")
        if self.zipped:
            inner._directory, inner._members, inner._sorted = self._directory, self._members, self._sorted
        return inner

    def __str__(self) -> str:
        return f"{self.path}/{self.base}".rstrip("/")

    @cached_property
    def _members(self) -> dict[str, tuple[int, int, int, int, int]]:
        """Name to header's place, method, packed size, size, checksum: three times as fast as zipfile."""
        directory, place, members = self._directory, 0, {}
        while place < len(directory):
            sign, flags, method, crc, *numbers, names, extra, comment, start = ENTRY.unpack_from(directory, place)
            if sign != b"PK\1\2":
                raise self._incomplete()
            after = place + ENTRY.size + names
            name = directory[place + ENTRY.size : after].decode("utf8" if flags & 0x800 else "cp437")
            size, packed, start = self._large([numbers[1], numbers[0], start], directory[after : after + extra])
            if not name.endswith("/"):
                members[name] = (start, method, packed, size, crc)
            place = after + extra + comment
        return members

    @staticmethod
    def _large(numbers: list[int], extra: bytes) -> list[int]:
        """The numbers, with those that do not fit 32 bits from the extra field of a large (zip64) archive."""
        while 0xFFFFFFFF in numbers and len(extra) >= 4:
            kind, length = struct.unpack("<HH", extra[:4])
            if kind == 1:
                long = iter(struct.unpack(f"<{length // 8}Q", extra[4 : 4 + length // 8 * 8]))
                return [next(long, number) if number == 0xFFFFFFFF else number for number in numbers]
            extra = extra[4 + length :]
        return numbers

    @cached_property
    def _sorted(self) -> list[str]:
        return sorted(self._members)

    def _below(self, start: str) -> list[str]:
        """The zip's members whose full names begin so."""
        first = bisect.bisect_left(self._sorted, start)
        return self._sorted[first : bisect.bisect_left(self._sorted, start + chr(0x10FFFF), first)]

    @cached_property
    def _handle(self) -> int:
        return os.open(self.path, os.O_RDONLY)

    def __del__(self) -> None:
        if "_handle" in self.__dict__:
            os.close(self._handle)

    def has(self, name: str) -> bool:
        """Whether there is such a file, or such a folder where the name ends in a slash."""
        if not self.zipped:
            found = self.path / self.base / name
            return found.is_dir() if name.endswith("/") else found.is_file()
        full = self.base + name
        return bool(self._below(full)) if name.endswith("/") else full in self._members

    def folders(self, under: str = "") -> list[str]:
        """Names of the folders directly below `under` ("" or "train/"), sorted."""
        if not self.zipped:
            with os.scandir(self.path / self.base / under) as entries:
                return sorted(entry.name for entry in entries if entry.is_dir())
        start = self.base + under
        inner = (name[len(start) :] for name in self._below(start))
        return sorted({name.split("/", 1)[0] for name in inner if "/" in name})

    def names(self, under: str = "") -> list[str]:
        """Names of all files below `under`, sorted as strings."""
        if self.zipped:
            return [name[len(self.base) :] for name in self._below(self.base + under)]
        return sorted(name for name, _ in self._sizes(under))

    def _sizes(self, under: str) -> Iterator[tuple[str, int]]:
        with os.scandir(self.path / self.base / under) as entries:
            for entry in entries:
                if entry.is_dir():
                    yield from self._sizes(f"{under}{entry.name}/")
                else:
                    yield under + entry.name, entry.stat().st_size

    def signature(self, *under: str) -> str:
        """A hash that changes with the content, found without reading it.

        Of a zip its directory, which holds the checksums of all members; of a folder the names and sizes below the
        folders `under`, and the text of the files among them.
        """
        digest = hashlib.sha256(self.base.encode())
        if self.zipped:
            digest.update(self._directory)
            return digest.hexdigest()
        for place in under:
            if place.endswith("/") or not place:
                digest.update("".join(f"{name}\t{size}\n" for name, size in sorted(self._sizes(place))).encode())
            elif self.has(place):
                digest.update(self.read(place))
        return digest.hexdigest()

    @cached_property
    def _directory(self) -> bytes:
        """The zip's central directory, found from the end of the file."""
        length = self.path.stat().st_size
        tail = os.pread(self._handle, min(length, 65557), max(0, length - 65557))
        end = tail.rfind(b"PK\5\6")
        if end < 0 or len(tail) < end + 22:
            raise self._incomplete()
        size, start = struct.unpack("<LL", tail[end + 12 : end + 20])
        if tail[max(0, end - 20) : end].startswith(b"PK\6\7"):
            (record,) = struct.unpack("<Q", tail[end - 12 : end - 4])
            size, start = struct.unpack("<QQ", os.pread(self._handle, 56, record)[40:56])
        directory = os.pread(self._handle, size, start)
        if len(directory) < size or not directory.startswith(b"PK\1\2"):
            raise self._incomplete()
        return directory

    def _incomplete(self) -> DatasetError:
        return DatasetError(f"{self.path} is not a complete zip archive. Was its download cut short? Fetch it again.")

    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            DatasetError: it is missing, damaged, or its name leads out of the folder.
        """
        if not self.zipped:
            inside = PurePosixPath(name)
            if inside.is_absolute() or ".." in inside.parts:
                raise DatasetError(f"{self}: the name {name!r} leads out of the folder.")
            try:
                return (self.path / self.base / name).read_bytes()
            except OSError as error:
                raise DatasetError(f"{name} cannot be read from {self} ({error.strerror}).") from error
        member = self._members.get(self.base + name)
        if member is None:
            raise DatasetError(f"{name} is missing from {self}.")
        start, method, packed, size, crc = member
        data = os.pread(self._handle, 30, start)
        if len(data) == 30:
            data = os.pread(self._handle, packed, start + 30 + sum(struct.unpack("<HH", data[26:])))
        try:
            if method == DEFLATED:
                data = zlib.decompressobj(-15).decompress(data, size)
        except zlib.error:
            data = b""
        if zlib.crc32(data) != crc:
            raise DatasetError(f"{name} in {self} is damaged: its checksum differs. Fetch the archive again.")
        return data


def unpacked(archive: Path) -> Path:
    """The folder `<archive>.unpacked` beside a tar archive, filled from it once: tar, unlike zip, is not read in place.

    Raises:
        DatasetError: the archive is damaged, a member of it leads out of the folder, or the folder cannot be written.
    """
    folder = archive.with_name(f"{archive.name}.unpacked")
    if folder.is_dir():
        return folder
    # The process id keeps two who unpack at once apart; the second to end drops its own.
    part = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    try:
        with tarfile.open(archive) as content:
            content.extractall(part, filter="data")
        if not folder.exists():
            part.rename(folder)
    except tarfile.FilterError as error:
        raise DatasetError(f"{archive} is not unpacked: {error}. Fetch it from its official page.") from error
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DatasetError(
            f"{archive} is not a complete tar archive. Was its download cut short? Fetch it again."
        ) from error
    except OSError as error:
        raise DatasetError(
            f"{archive} cannot be unpacked beside itself ({error}). Unpack it into a folder of your own, and name that."
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def stream(
    load: Callable[[Sequence[int]], Batch], groups: Sequence[Sequence[int]], processes: int = 0
) -> Iterator[Batch]:
    """`load` of each group, in order, a few groups ahead, so that memory does not grow with their number.

    Args:
        load: gives what the caller wants for a group of numbers.
        groups: the groups.
        processes: worker processes; 0 is threads of this process, which decoding keeps busy.

    Raises:
        Exception: what `load` raised, as it raised it.
    """
    if processes > 0:
        loader = DataLoader(_Loads(load, groups), batch_size=None, num_workers=processes, collate_fn=_as_it_is)
        for item in loader:
            if isinstance(item, Exception):
                raise item
            yield item
        return
    pool = ThreadPoolExecutor(cores())
    waiting: deque[Future[Batch]] = deque()
    try:
        for group in groups:
            waiting.append(pool.submit(load, group))
            if len(waiting) > cores() + 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


class _Loads(Dataset[Any]):
    """What a worker process runs; errors come back as values, since a worker would wrap them in its traceback."""

    def __init__(self, load: Callable[[Sequence[int]], Any], groups: Sequence[Sequence[int]]) -> None:
        self.load, self.groups = load, groups

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, index: int) -> Any:
        try:
            return self.load(self.groups[index])
        except Exception as error:
            return error


def _as_it_is(item: Any) -> Any:
    return item
