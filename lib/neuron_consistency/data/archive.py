"""Files of a dataset in a folder or inside a zip, read in place; tar archives unpacked; and batches loaded ahead."""

import bisect
import bz2
import gzip
import hashlib
import lzma
import os
import re
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from neuron_consistency.artifacts import atomic_folder
from neuron_consistency.errors import DatasetError

MEMBER = 30  # bytes before a member's name in a zip
END, END_64, LOCATOR_64 = b"PK\5\6", b"PK\6\6", b"PK\6\7"  # what ends a zip's directory
LARGEST = 1 << 30  # bytes of one file: no image and no table of a set has more
LZMA_MEMORY = 1 << 28  # bytes of a dictionary, which an archive declares
STRAY = re.compile(r"\..*|__MACOSX|@eaDir|\$RECYCLE\.BIN|Thumbs\.db|desktop\.ini", re.IGNORECASE)
DAMAGED = (OSError, EOFError, ValueError, NotImplementedError, OverflowError, struct.error, zlib.error, lzma.LZMAError)


def is_stray(name: str) -> bool:
    """Whether a file or folder is one that systems and programs leave beside others: .DS_Store, Thumbs.db, __MACOSX."""
    return any(STRAY.fullmatch(part) for part in name.split("/"))


class _Zip:
    """The members of a zip archive: zipfile lists them; their bytes are read at their place, without a lock."""

    def __init__(self, path: Path) -> None:
        self.path, self.handle = path, -1
        try:
            self.handle = os.open(path, os.O_RDONLY)
            self.size = os.fstat(self.handle).st_size
            with zipfile.ZipFile(path) as archive:
                entries, self.start = archive.infolist(), archive.start_dir
        except (*DAMAGED, zipfile.BadZipFile) as error:
            if isinstance(error, PermissionError):
                raise DatasetError(f"{path} cannot be read ({error.strerror}): check its permissions.") from error
            entries = []
        if not entries or min(entry.header_offset for entry in entries) < 0:
            raise DatasetError(f"{path} is not a complete zip archive. Was its download cut short? Fetch it again.")
        named = {_name(entry): entry for entry in entries}
        if not any("/" in name for name in named):  # some programs of Windows write folders so
            named = {name.replace("\\", "/"): entry for name, entry in named.items()}
        self.members = {name: entry for name, entry in named.items() if name[-1:] != "/" and not is_stray(name)}
        self.names = sorted(self.members)

    def __del__(self) -> None:
        with suppress(OSError):
            os.close(self.handle)

    def below(self, start: str) -> list[str]:
        """The members whose names begin so."""
        first = bisect.bisect_left(self.names, start)
        return self.names[first : bisect.bisect_left(self.names, start + chr(0x10FFFF), first)]

    def directory(self) -> bytes:
        """The central directory as it stands in the file: up to the records of its end, two in a large archive."""
        rest = os.pread(self.handle, self.size - self.start, self.start)
        end = rest.rfind(END)
        return rest[: rest.rfind(END_64, 0, end) if rest.startswith(LOCATOR_64, max(end - 20, 0)) else end]

    def read(self, name: str) -> bytes:
        """The content of a member.

        Raises:
            DatasetError: it differs from its checksum, is too large, or packed in a way that is not read here.
        """
        member, where = self.members[name], f"{name} in {self.path}"
        if member.flag_bits & 1:
            raise DatasetError(f"{where} is encrypted: pack the archive again without a password.")
        if member.compress_type not in UNPACK:
            method = METHODS.get(member.compress_type, f"method {member.compress_type}")
            raise DatasetError(f"{where} is packed by {method}: pack the archive again by Deflate.")
        _bounded(member.file_size, where)
        data = os.pread(self.handle, MEMBER, member.header_offset)
        if len(data) == MEMBER and member.compress_size <= self.size:
            start = member.header_offset + MEMBER + sum(struct.unpack("<HH", data[26:]))
            data = os.pread(self.handle, member.compress_size, start)
        with suppress(*DAMAGED):
            if zlib.crc32(content := UNPACK[member.compress_type](data, member.file_size)) == member.CRC:
                return content
        raise DatasetError(f"{where} is damaged: its checksum differs. Fetch the archive again.")


def _name(entry: zipfile.ZipInfo) -> str:
    """A member's name; one that is not marked as UTF-8 but could be is taken for it."""
    with suppress(UnicodeError):
        if not entry.flag_bits & 0x800:
            return entry.filename.encode("cp437").decode()
    return entry.filename


def _bounded(size: int, where: str) -> None:
    if size > LARGEST:
        raise DatasetError(f"{where} has {size / 2**30:.1f} GiB, more than any image or table: remove it.")


def _inflated(data: bytes, size: int) -> bytes:
    return zlib.decompressobj(-15).decompress(data, size or 1)  # 0 would be without bound


def _bunzipped(data: bytes, size: int) -> bytes:
    return bz2.BZ2Decompressor().decompress(data, size)


def _lzma(data: bytes, size: int) -> bytes:
    """A zip's stream has a version and a length before its properties, and .lzma the size behind them."""
    return lzma.LZMADecompressor(lzma.FORMAT_ALONE, LZMA_MEMORY).decompress(
        data[4:9] + struct.pack("<q", size) + data[9:], size
    )


METHODS = {9: "Deflate64", 93: "Zstandard", 95: "XZ", 97: "WavPack", 98: "PPMd"}  # of those that are not unpacked
UNPACK: dict[int, Callable[[bytes, int], bytes]] = {
    zipfile.ZIP_STORED: lambda data, size: data, zipfile.ZIP_DEFLATED: _inflated,
    zipfile.ZIP_BZIP2: _bunzipped, zipfile.ZIP_LZMA: _lzma,
}  # fmt: skip


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
            return sorted(entry.name for entry in self._entries(under) if entry.is_dir())
        start = self.base + under
        inner = (name[len(start) :] for name in self.zip.below(start))
        return sorted({name.split("/", 1)[0] for name in inner if "/" in name})

    def names(self, under: str = "") -> list[str]:
        """Names of all files below `under`, sorted as strings."""
        if self.zip is not None:
            return [name[len(self.base) :] for name in self.zip.below(self.base + under)]
        return sorted(name for name, _ in self._sizes(under))

    def _entries(self, under: str) -> list[os.DirEntry[str]]:
        """What lies in a folder, but for what systems and programs leave there."""
        try:
            with os.scandir(self.path / self.base / under) as entries:
                return [entry for entry in entries if not is_stray(entry.name)]
        except OSError as error:
            raise DatasetError(f"{self}/{under} cannot be listed ({error.strerror}): check the folder.") from error

    def _sizes(self, under: str, above: tuple[str, ...] = ()) -> Iterator[tuple[str, int]]:
        """Names and sizes; a link that leads nowhere counts as a file, which cannot be read."""
        for entry in self._entries(under):
            if not entry.is_dir():
                yield under + entry.name, entry.stat(follow_symlinks=os.path.exists(entry.path)).st_size
                continue
            real = os.path.realpath(entry.path)
            if real in above:
                raise DatasetError(f"{entry.path} is a link to a folder that it lies in: remove it.")
            yield from self._sizes(f"{under}{entry.name}/", (*above, real))

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
            return self.zip.read(self.base + name)
        inside = PurePosixPath(name)
        if inside.is_absolute() or ".." in inside.parts:
            raise DatasetError(f"{self}: the name {name!r} leads out of the folder.")
        path = self.path / self.base / name
        try:
            _bounded(path.stat().st_size, str(path))
            return path.read_bytes()
        except (OSError, ValueError) as error:
            why = "it is a link that leads nowhere" if path.is_symlink() else getattr(error, "strerror", None) or error
            raise DatasetError(f"{name} cannot be read from {self} ({why}).") from error


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
            members = content.getmembers()
            content.fileobj.seek(content.offset)  # type: ignore[union-attr]
            if content.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # type: ignore[union-attr]
                raise EOFError("its end is missing")
            needed, free = sum(member.size for member in members), shutil.disk_usage(archive.parent).free
            if needed > free:
                raise DatasetError(f"{archive} unpacks to {needed} bytes, and {free} are free there: make room.")
            content.extractall(part, members, filter="data")
    except tarfile.FilterError as error:
        raise DatasetError(f"{archive} is not unpacked: {error}. Fetch it from its official page.") from error
    except (tarfile.TarError, gzip.BadGzipFile, *DAMAGED) as error:
        if isinstance(error, OSError) and error.errno:
            raise DatasetError(
                f"{archive} cannot be unpacked beside itself ({error}). Unpack it into a folder of your own, and name "
                "that."
            ) from error
        raise DatasetError(
            f"{archive} is not a complete tar archive. Was its download cut short? Fetch it again."
        ) from error
    return folder
