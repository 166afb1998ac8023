"""Fine-tuning a network of one's own: the two cards, what changed, and going on after a stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tqdm import tqdm

from neuron_consistency.card.measure import Setting
from neuron_consistency.card.train import fine_tune
from neuron_consistency.errors import ParameterError, StoreError
from neuron_consistency.networks.load import Loaded, load_network
from neuron_consistency.training.schedule import Schedule
from toys import EQ6, ON, toy_images

CODE = "from toys import toy_model\n\ndef make():\n    return toy_model().network\n"
SCHEDULE = Schedule(epochs=3, batch_size=16, learning_rate=3e-3, watched_images=8, watch_steps=1, precision="float32")


@pytest.fixture
def code(tmp_path: Path) -> str:
    (tmp_path / "model.py").write_text(CODE)
    return f"{tmp_path / 'model.py'}:make"


def loaded(code: str, weights: Path | None = None, *, before: bool = False) -> Loaded:
    return load_network(code, weights=weights, mean=(0.5,) * 3, std=(0.5,) * 3, image_size=16, before=before)


def tuned(code: str, out: Path, network: Loaded | None = None, **more: Any) -> pd.DataFrame:
    return fine_tune(
        network or loaded(code), toy_images(64), toy_images(40, seed=1), out, ON, objective=EQ6, labels="flat",
        setting=Setting(epsilon=8 / 255, pgd_steps=1, top_k=5), **({"schedule": SCHEDULE} | more),
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_stopped_training_ends_with_the_same_weights(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a training that was killed gives another network under the same name."""
    table = tuned(code, tmp_path / "whole")
    epochs: list[str] = []

    def write(text: str, **_more: object) -> None:
        epochs.append(text)
        if len(epochs) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(tqdm, "write", write)
    with pytest.raises(KeyboardInterrupt):
        tuned(code, tmp_path / "stopped")
    assert not (tmp_path / "stopped" / "weights.pth").exists()
    again = tuned(code, tmp_path / "stopped")
    assert len(epochs) == 3, "an epoch that was done was trained again"
    whole, stopped = (tmp_path / name / "weights.pth" for name in ("whole", "stopped"))
    assert whole.read_bytes() == stopped.read_bytes()
    pd.testing.assert_frame_equal(table, again)
    assert not (tmp_path / "stopped" / "training.checkpoint").exists()

    state = loaded(code, whole).model.state_dict()  # what was written is read as it is
    assert any(
        not value.equal(old)
        for value, old in zip(state.values(), loaded(code).model.state_dict().values(), strict=True)
    )
    accuracy = table[(table["measure"] == "accuracy") & (table["set"] == "real")].iloc[0]
    assert accuracy["after"] > accuracy["before"], "the toy classes are learnt in three epochs"
    assert {"before", "after", "difference", "low", "high", "after is"} <= set(table)
    page = (tmp_path / "whole" / "index.html").read_text("utf-8")
    assert page.count("<iframe") == 2
    with pytest.raises(StoreError, match="name a new folder"):
        tuned(code, tmp_path / "whole", schedule=Schedule(epochs=1, batch_size=16, precision="float32"))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_finished_training_is_not_made_again(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the second call trains for hours what is there already, or overwrites the weights with others."""
    table = tuned(code, tmp_path / "out")
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    monkeypatch.setattr("neuron_consistency.card.train.train", lambda *_a, **_k: pytest.fail("it was trained again"))
    pd.testing.assert_frame_equal(tuned(code, tmp_path / "out"), table)
    with pytest.raises(StoreError, match="name a new folder"):
        tuned(code, tmp_path / "out", network=loaded(code, before=True))  # read elsewhere, it is another training
    assert before == {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}


def test_a_batch_larger_than_the_set_is_refused_before_anything_is_measured(code: str, tmp_path: Path) -> None:
    """Else the user waits for the first card, and is refused then."""
    with pytest.raises(ParameterError, match="56 training images are less than a batch of 64: lower it"):
        tuned(code, tmp_path / "out", schedule=Schedule(epochs=1, batch_size=64, precision="float32"))
    assert not (tmp_path / "out").exists()
