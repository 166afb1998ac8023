"""Files read in place: archives as zipfile writes them, also the large kind; and batches loaded ahead."""

import pickle
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from neuron_consistency.data.files import Files, stream
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
