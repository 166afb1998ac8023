"""Files of a dataset in a folder or inside a zip, read in place; tar archives unpacked; and batches loaded ahead."""

import bisect
import csv
import gzip
import hashlib
import io
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from neuron_consistency.artifacts import atomic_folder
from neuron_consistency.errors import DatasetError

MEMBER = 30  # bytes before a member's name in a zip
END, END_64, LOCATOR_64 = b"PK\5\6", b"PK\6\6", b"PK\6\7"  # what ends a zip's directory


class _Zip:
    """The members of a zip archive: zipfile lists them; their bytes are read at their place, without a lock."""

    def __init__(self, path: Path) -> None:
        self.path, self.handle = path, os.open(path, os.O_RDONLY)
        try:
            with zipfile.ZipFile(path) as archive:
                entries, self.start = archive.infolist(), archive.start_dir
        except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError):
            entries = []
        if not entries or min(entry.header_offset for entry in entries) < 0:
            raise DatasetError(f"{path} is not a complete zip archive. Was its download cut short? Fetch it again.")
        self.members = {entry.filename: entry for entry in entries if not entry.is_dir()}
        self.names = sorted(self.members)

    def __del__(self) -> None:
        os.close(self.handle)

    def below(self, start: str) -> list[str]:
        """The members whose names begin so."""
        first = bisect.bisect_left(self.names, start)
        return self.names[first : bisect.bisect_left(self.names, start + chr(0x10FFFF), first)]

    def directory(self) -> bytes:
        """The central directory as it stands in the file: up to the records of its end, two in a large archive."""
        rest = os.pread(self.handle, os.fstat(self.handle).st_size - self.start, self.start)
        end = rest.rfind(END)
        return rest[: rest.rfind(END_64, 0, end) if rest.startswith(LOCATOR_64, max(end - 20, 0)) else end]

    def read(self, name: str) -> bytes | None:
        """The content of a member; None where it differs from its checksum."""
        member = self.members[name]
        data = os.pread(self.handle, MEMBER, member.header_offset)
        if len(data) == MEMBER:
            start = member.header_offset + MEMBER + sum(struct.unpack("<HH", data[26:]))
            data = os.pread(self.handle, member.compress_size, start)
        try:
            if member.compress_type == zipfile.ZIP_DEFLATED:
                data = zlib.decompressobj(-15).decompress(data, member.file_size)
        except zlib.error:
            return None
        return data if zlib.crc32(data) == member.CRC else None


class Files:
    """The files below `path` (a folder or a zip archive) and `base` (a folder in it), by names with slashes.

    Nothing is unpacked, a zip may be read by several threads and processes at once, and every member read from it
    is held against its checksum.

    Raises:
        DatasetError: the archive is truncated or no zip at all.
    """

    def __init__(self, path: Path, base: str = "", *, opened: _Zip | None = None) -> None:
        self.path, self.base = path, base
        self.zip = opened or (_Zip(path) if path.is_file() else None)

    def __reduce__(self) -> tuple[Any, ...]:
        return Files, (self.path, self.base)

    def within(self, folder: str) -> "Files":
        """The files of a folder in it."""
        return Files(self.path, f"{self.base}{folder}/", opened=self.zip)

    def __str__(self) -> str:
        return f"{self.path}/{self.base}".rstrip("/")

    def has(self, name: str) -> bool:
        """Whether there is such a file, or such a folder where the name ends in a slash."""
        if self.zip is None:
            found = self.path / self.base / name
            return found.is_dir() if name.endswith("/") else found.is_file()
        full = self.base + name
        return bool(self.zip.below(full)) if name.endswith("/") else full in self.zip.members

    def folders(self, under: str = "") -> list[str]:
        """Names of the folders directly below `under` ("" or "train/"), sorted."""
        if self.zip is None:
            with os.scandir(self.path / self.base / under) as entries:
                return sorted(entry.name for entry in entries if entry.is_dir())
        start = self.base + under
        inner = (name[len(start) :] for name in self.zip.below(start))
        return sorted({name.split("/", 1)[0] for name in inner if "/" in name})

    def names(self, under: str = "") -> list[str]:
        """Names of all files below `under`, sorted as strings."""
        if self.zip is not None:
            return [name[len(self.base) :] for name in self.zip.below(self.base + under)]
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
        if self.zip is not None:
            digest.update(self.zip.directory())
            return digest.hexdigest()
        for place in under:
            if place.endswith("/") or not place:
                listed = "".join(f"{name}\t{size}\n" for name, size in sorted(self._sizes(place)))
                digest.update(listed.encode(errors="surrogateescape"))
            elif self.has(place):
                digest.update(self.read(place))
        return digest.hexdigest()

    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            DatasetError: it is missing, damaged, or its name leads out of the folder.
        """
        if self.zip is not None:
            if self.base + name not in self.zip.members:
                raise DatasetError(f"{name} is missing from {self}.")
            if (data := self.zip.read(self.base + name)) is None:
                raise DatasetError(f"{name} in {self} is damaged: its checksum differs. Fetch the archive again.")
            return data
        inside = PurePosixPath(name)
        if inside.is_absolute() or ".." in inside.parts:
            raise DatasetError(f"{self}: the name {name!r} leads out of the folder.")
        try:
            return (self.path / self.base / name).read_bytes()
        except OSError as error:
            raise DatasetError(f"{name} cannot be read from {self} ({error.strerror}).") from error


def table_rows(data: bytes, name: str) -> list[list[str]]:
    """The rows of a table of text, without blank ones and without spaces around its cells.

    Tabs, semicolons or commas separate the cells: the first of these that the first line has.

    Raises:
        DatasetError: it is empty, or no table in UTF-8.
    """
    try:
        text = data.decode("utf-8-sig")
        mark = next((mark for mark in "\t;" if mark in text.partition("\n")[0]), ",")
        table = csv.reader(io.StringIO(text, newline=""), delimiter=mark, skipinitialspace=True)
        rows = [row for line in table if any(row := [cell.strip() for cell in line])]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{name} is no table of text in UTF-8 ({error}).") from error
    if not rows:
        raise DatasetError(f"{name} is empty.")
    return rows


def unpacked(archive: Path) -> Path:
    """The folder `<archive>.unpacked` beside a tar archive, filled from it once: tar, unlike zip, is not read in place.

    Raises:
        DatasetError: the archive is damaged, a member of it leads out of the folder, or the folder cannot be written.
    """
    folder = archive.with_name(f"{archive.name}.unpacked")
    if folder.is_dir():
        return folder
    try:
        with tarfile.open(archive) as content, atomic_folder(folder) as part:
            content.extractall(part, filter="data")
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
    return folder
