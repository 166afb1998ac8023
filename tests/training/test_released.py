"""Networks that a release holds are fetched and held against their hashes; where that fails, they are trained."""

import json
import shutil
from pathlib import Path

import pytest

from neuron_consistency.artifacts import read_json
from neuron_consistency.errors import StoreError
from neuron_consistency.training import obtain as trained
from neuron_consistency.training import released
from neuron_consistency.training.obtain import obtain
from neuron_consistency.training.recipes import Recipe
from planned import planned_one
from toys import CPU, assert_same_state, state_of

pytestmark = pytest.mark.usefixtures("toy_data")


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a release, at a file's address, and an empty list of what it holds."""
    folder = tmp_path / "release"
    folder.mkdir()
    (tmp_path / "released.json").write_text("{}\n")
    monkeypatch.setattr(released, "RELEASE", folder.as_uri())
    monkeypatch.setattr(released, "listed", lambda: tmp_path / "released.json")
    return folder


@pytest.fixture
def uploaded(release: Path) -> Recipe:
    """A network that was trained, listed and uploaded, and is no longer here."""
    recipe = planned_one(epochs=1)
    obtain(recipe, CPU)
    for file in released.list_release([recipe]):
        shutil.move(file, release)
    return recipe


def test_a_released_network_is_fetched_and_is_the_very_one(
    uploaded: Recipe, release: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trained, "train", lambda *_arguments, **_options: pytest.fail("trained"))
    found = obtain(uploaded, CPU)
    assert "fetched from the release, not trained" in capsys.readouterr().out
    assert found.record == read_json(release / uploaded.path.with_suffix(".json").name)
    shutil.copy(release / uploaded.path.name, uploaded.path)
    assert_same_state(state_of(obtain(uploaded, CPU).model), found.model)
    assert not list(uploaded.path.parent.glob("*.part"))


@pytest.mark.parametrize("ending", [".safetensors", ".json"])
def test_a_damaged_file_is_refused_with_one_warning_and_the_network_is_trained(
    uploaded: Recipe, release: Path, ending: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One byte is another: were it loaded, the page would show a network that nobody trained."""
    file = release / uploaded.path.with_suffix(ending).name
    content = bytearray(file.read_bytes())
    content[-2] ^= 1
    file.write_bytes(content)
    capsys.readouterr()
    obtain(uploaded, CPU)
    said = capsys.readouterr()
    assert said.err.count("warning: ") == 1
    assert f"{file.name} is not the file that was released: the network is trained here" in said.err
    assert "epoch 1/1" in said.out
    assert uploaded.path.read_bytes() != content


def test_without_a_network_connection_it_is_trained(
    uploaded: Recipe, release: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(release)
    capsys.readouterr()
    obtain(uploaded, CPU)
    said = capsys.readouterr()
    assert "cannot be fetched" in said.err
    assert "epoch 1/1" in said.out


def test_what_the_release_does_not_list_is_not_asked_for(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(released, "_fetch", lambda *_arguments: pytest.fail("asked for"))
    assert not released.fetched(planned_one(epochs=1))
    assert list(release.iterdir()) == []


def test_a_network_that_is_not_trained_cannot_be_listed(release: Path) -> None:
    with pytest.raises(StoreError, match="cannot be read"):
        released.list_release([planned_one(epochs=1)])
    assert json.loads((release.parent / "released.json").read_text()) == {}


def test_the_committed_list_holds_whole_networks() -> None:
    """Weights without their record, or a line that is no hash, would send every reader back to training."""
    sums = read_json(released.listed())
    assert all(len(digest) == 64 and int(digest, 16) >= 0 for digest in sums.values())
    assert {Path(name).stem for name in sums if name.endswith(".json")} == {
        Path(name).stem for name in sums if name.endswith(".safetensors")
    }
