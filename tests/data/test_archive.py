"""Files read in place or unpacked: zips as zipfile writes them, tars as anybody may; and batches loaded ahead."""

import io
import os
import pickle
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from layouts import tarred
from neuron_consistency.data.archive import Files, unpacked
from neuron_consistency.data.prefetch import stream
from neuron_consistency.errors import DatasetError

CONTENT = {"a/1.txt": b"one" * 50, "a/b/2.txt": b"two", "ü.txt": b"umlaut", "empty.txt": b""}


@pytest.mark.parametrize("large", [False, True], ids=["usual", "zip64"])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
def test_zip_is_read_as_zipfile_wrote_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: int, large: bool
) -> None:
    """Large archives keep their numbers elsewhere; ImageNet's would be one."""
    if large:
        monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 1)
        monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
    with zipfile.ZipFile(tmp_path / "x.zip", "w", method) as archive:
        archive.mkdir("a")
        for name, data in CONTENT.items():
            with archive.open(name, "w", force_zip64=large) as member:
                member.write(data)
        archive.comment = b"a comment"
    files = Files(tmp_path / "x.zip")
    assert {name: files.read(name) for name in files.names()} == CONTENT
    assert (files.folders(), files.folders("a/"), files.names("a/")) == (["a"], ["b"], ["a/1.txt", "a/b/2.txt"])
    assert [files.has(name) for name in ("a/", "b/", "ü.txt", "a/b")] == [True, False, True, False]
    inner = pickle.loads(pickle.dumps(files.within("a")))
    assert (inner.names(), inner.read("b/2.txt")) == (["1.txt", "b/2.txt"], b"two")
    with pytest.raises(DatasetError, match="nothing is missing"):
        files.read("nothing")


@pytest.mark.parametrize("cut", [1, 30, 100, 200])
def test_zip_cut_short_anywhere_is_named(tmp_path: Path, cut: int) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name, data in CONTENT.items():
            archive.writestr(name, data)
    whole = (tmp_path / "x.zip").read_bytes()
    for data in (whole[:-cut], whole[cut:], b"", b"no zip"):
        (tmp_path / "x.zip").write_bytes(data)
        with pytest.raises(DatasetError, match=r"x\.zip"):
            [Files(tmp_path / "x.zip").read(name) for name in Files(tmp_path / "x.zip").names()]


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.tgz"])
def test_tar_is_unpacked_once_into_a_folder_of_its_own(tmp_path: Path, name: str) -> None:
    folder = unpacked(tarred(tmp_path, CONTENT, name))
    assert folder == tmp_path / f"{name}.unpacked"
    assert {file: Files(folder).read(file) for file in Files(folder).names()} == CONTENT
    (folder / "a/1.txt").write_text("not unpacked again")
    assert Files(unpacked(tmp_path / name)).read("a/1.txt") == b"not unpacked again"
    assert sorted(path.name for path in tmp_path.iterdir()) == [name, f"{name}.unpacked"]


@pytest.mark.parametrize("member", ["../evil.txt", "/evil.txt", "a/../../evil.txt", "link", "hard"])
def test_tar_never_writes_outside_its_folder(tmp_path: Path, member: str) -> None:
    """Names that climb out, and links through which a later member would."""
    inside = tmp_path / "inside"
    inside.mkdir()
    with tarfile.open(inside / "x.tar", "w") as archive:
        entry = tarfile.TarInfo(member)
        if member in ("link", "hard"):
            entry.type, entry.linkname = (tarfile.SYMTYPE if member == "link" else tarfile.LNKTYPE), "../.."
        archive.addfile(entry)
        below = tarfile.TarInfo(f"{member}/evil.txt" if member in ("link", "hard") else "harmless.txt")
        archive.addfile(below, io.BytesIO())
    if member.startswith("/"):  # tarfile takes the slash away, so that the file stays inside
        assert Files(unpacked(inside / "x.tar")).names() == ["evil.txt", "harmless.txt"]
    else:
        with pytest.raises(DatasetError, match=r"x\.tar.* (outside|not unpacked|not a complete)"):
            unpacked(inside / "x.tar")
        assert sorted(path.name for path in inside.iterdir()) == ["x.tar"], "nothing half unpacked is left"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["inside"]


@pytest.mark.parametrize("name", ["x.tar", "x.tgz"])
def test_tar_cut_short_is_named_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    archive = tarred(tmp_path, {str(n): os.urandom(3000) for n in range(5)}, name)
    whole = archive.read_bytes()
    for data in (whole[:9000], b"no tar", b""):
        archive.write_bytes(data)
        with pytest.raises(DatasetError, match=rf"{name} is not a complete tar archive.*Fetch it again"):
            unpacked(archive)
        assert list(tmp_path.iterdir()) == [archive]


def test_tar_in_a_folder_that_cannot_be_written_asks_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tarred(tmp_path, CONTENT, "x.tar")

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tarfile.TarFile, "extractall", refused)
    with pytest.raises(DatasetError, match=r"x\.tar cannot be unpacked.*Permission denied.*folder of your own"):
        unpacked(archive)


@pytest.mark.parametrize("processes", [0, 2])
def test_stream_keeps_order_and_stops_at_the_first_error(processes: int) -> None:
    groups = [[n] for n in range(20)]
    assert list(stream(_double, groups, processes)) == [[2 * n] for n in range(20)]
    with pytest.raises(DatasetError, match=r"^13$"):
        list(stream(_double_until_13, groups, processes))


def _double(group: Sequence[int]) -> list[int]:
    return [2 * n for n in group]


def _double_until_13(group: Sequence[int]) -> list[int]:
    if 13 in group:
        raise DatasetError("13")
    return list(group)
