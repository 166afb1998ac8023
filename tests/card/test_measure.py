"""What a card measures, against the pass and the measures that it is made of."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from neuron_consistency.attacks.linf import fgsm
from neuron_consistency.card.measure import AUTO_ATTACK, Measuring, Setting, explaining
from neuron_consistency.card.tables import accuracy_table, change, estimate, layer_table, neuron_table, reading
from neuron_consistency.consistency.ambiguity import FGSM, NOISE, PGD, REAL, WRONG
from neuron_consistency.consistency.measure import chance, consistency_row, unbiased_consistency
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.errors import ParameterError, StoreError
from neuron_consistency.networks.models import Classifier
from neuron_consistency.networks.wrap import wrap
from neuron_consistency.responses import respond
from neuron_consistency.runtime import Runtime
from toys import CPU, ON, toy_images, toy_model

SETTING = Setting(epsilon=8 / 255, pgd_steps=2, top_k=5)


def stranger() -> Classifier:
    return wrap(toy_model().network, mean=(0.5,) * 3, std=(0.5,) * 3, image_size=16)


def measuring(
    *, model: Classifier | None = None, images: ImageSet | None = None, setting: Setting = SETTING
) -> Measuring:
    shown = toy_images(40) if images is None else images
    return Measuring(model or stranger(), shown, torch.eye(4, dtype=torch.float64), ON, setting)


def test_a_card_holds_what_the_measures_find(tmp_path: Path) -> None:
    """Else a card tells other numbers than the book, of the same network and images."""
    one = measuring()
    pieces = one.run(tmp_path)
    assert list(pieces) == [REAL, FGSM, NOISE, PGD, WRONG]
    layers = list(one.model.layers)
    real = respond(one.model, one.images, ON, layers=layers, top_k=5)
    fixed = {name: layer.thresholds for name, layer in real.layers.items()}
    attacked = respond(
        one.model, one.images, ON, layers=layers, top_k=5, thresholds=fixed,
        attack=lambda model, batch, labels: fgsm(model, batch, labels, epsilon=8 / 255),
    )  # fmt: skip
    rows = layer_table(pieces).to_dict("records")
    table = {(row.pop("layer"), row.pop("set"), row.pop("labels")): row for row in rows}
    for name, responses in ((REAL, real), (FGSM, attacked)):
        for layer in layers:
            for kind in ("true", "predicted"):
                expected = consistency_row(responses, layer, one.correlation, kind=kind, equal_m=5)
                assert table[layer, name, kind] == pytest.approx(expected, nan_ok=True)
    neurons = neuron_table(pieces, [f"image {i}" for i in range(40)])
    assert len(neurons) == sum(one.model.layers.values())
    last = neurons[neurons["layer"] == one.model.last_layer]
    counts = attacked.layers[one.model.last_layer].counts["true"].sum(0)
    assert last["U FGSM"].tolist() == pytest.approx(unbiased_consistency(counts, one.correlation).tolist(), nan_ok=True)
    strongest = real.layers[one.model.last_layer].top_indices[0]
    assert [text.split(";")[0] for text in last["top images"]] == [f"image {i}" for i in strongest.tolist()]
    wrong = real.predictions != real.labels
    assert len(pieces[WRONG]["predictions"]) == int(wrong.sum())
    accuracy = accuracy_table(pieces, one.images).set_index("set")["accuracy"]
    assert accuracy[REAL] == pytest.approx(100 * float((~wrong).double().mean()))
    assert WRONG not in accuracy  # it is what its images are chosen by


def test_a_stopped_measure_ends_with_the_same_passes(tmp_path: Path) -> None:
    """Else a card that was stopped differs from one that was not, by noise or by images counted twice."""
    one = measuring()
    whole = one.run(tmp_path / "whole")
    for stop in (30, 100, 330):  # in the pass over the real images, the FGSM images, the PGD images
        done: list[int] = []

        def report(work: int, done: list[int] = done, stop: int = stop) -> None:
            done.append(work)
            if sum(done) >= stop:
                raise KeyboardInterrupt

        folder = tmp_path / str(stop)
        with pytest.raises(KeyboardInterrupt):
            one.run(folder, report)
        kept = {path.name for path in folder.iterdir()} if folder.exists() else set()
        assert one.run(folder).keys() == whole.keys()
        for name in whole:
            assert (folder / f"{name}.json").read_bytes() == (tmp_path / "whole" / f"{name}.json").read_bytes()
        assert kept <= {path.name for path in folder.iterdir()}, "a finished pass was made again"


def test_kept_passes_are_not_made_again(tmp_path: Path) -> None:
    """Else a finished card costs all its passes when it is only read."""
    one = measuring()
    found = one.run(tmp_path)
    one.model.register_forward_pre_hook(lambda *_: pytest.fail("the network was called"))
    assert one.run(tmp_path).keys() == found.keys()


@pytest.mark.parametrize("edited", ["{}", "[]", "{"])
def test_a_kept_pass_that_is_none_is_named(tmp_path: Path, edited: str) -> None:
    """Else a damaged file ends in a KeyError that names neither the file nor the cure."""
    (tmp_path / "real.json").write_text(edited)
    with pytest.raises(StoreError, match=r"real\.json .*remove it and run again"):
        measuring().run(tmp_path)


def test_the_key_follows_what_decides_the_numbers() -> None:
    """Else a card of other weights, images or settings passes for this one."""
    one, other = measuring(), stranger()
    with torch.no_grad():
        next(other.parameters()).add_(1e-3)
    keys = {
        one.key,
        measuring(model=other).key,
        measuring(images=replace(toy_images(40), fingerprint="another")).key,
        measuring(setting=Setting(epsilon=4 / 255, pgd_steps=2, top_k=5)).key,
        Measuring(one.model, one.images, torch.full((4, 4), 0.5, dtype=torch.float64), ON, SETTING).key,
        Measuring(one.model, one.images, one.correlation, Runtime(CPU, "bfloat16"), SETTING).key,
        measuring(model=wrap(toy_model().network, mean=(0.4,) * 3, std=(0.5,) * 3, image_size=16)).key,
        measuring(model=wrap(toy_model().network, mean=(0.5,) * 3, std=(0.5,) * 3, image_size=16, before=True)).key,
    }
    assert len(keys) == 8
    assert measuring().key == one.key


def test_without_an_attack_only_real_images_are_measured(tmp_path: Path) -> None:
    """Else epsilon 0 attacks, or its tables name sets that nobody made."""
    pieces = measuring(setting=Setting(epsilon=0, top_k=5)).run(tmp_path)
    assert set(pieces) <= {REAL, WRONG}
    assert "FGSM" not in reading(pieces, stranger().last_layer)


def test_auto_attack_takes_evenly_spaced_images_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it sees the first class alone, or begins again after hours."""
    asked: list[int] = []

    def said(_model: Classifier, images: ImageSet, _on: Runtime, *, epsilon: float) -> Tensor:
        asked.extend(images.labels.tolist())
        return images.labels

    monkeypatch.setattr("neuron_consistency.card.measure.auto_attack_predictions", said)
    one = measuring(setting=Setting(epsilon=8 / 255, pgd_steps=0, top_k=5, auto_attack=10))
    pieces = one.run(tmp_path)
    assert pieces[AUTO_ATTACK]["places"] == list(range(0, 40, 4))
    assert accuracy_table(pieces, one.images).set_index("set").loc[AUTO_ATTACK, "images"] == 10
    asked.clear()
    one.run(tmp_path)
    assert asked == []


def test_a_layer_of_nan_is_named(tmp_path: Path) -> None:
    """Else NaN is the strongest response, and the card is made of it."""

    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Identity(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4))
    model = wrap(network, mean=(0,) * 3, std=(1,) * 3, image_size=16)
    with torch.no_grad():
        next(network.parameters()).fill_(torch.nan)  # after it was wrapped: such a network would be refused
    network.register_forward_hook(lambda _module, _given, logits: logits.nan_to_num())
    with pytest.raises(ParameterError, match=r"the layer 0 gives NaN"):
        measuring(model=model).run(tmp_path)


def test_a_lack_of_memory_says_what_to_try() -> None:
    """Else the user reads an allocator's message and does not know which number to turn."""
    with (
        pytest.raises(ParameterError, match=r"try batch_size=32 \(now 64\)"),
        explaining(Runtime(CPU, "float32", 64)),
    ):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
    with pytest.raises(RuntimeError, match="another"), explaining(ON):
        raise RuntimeError("another")


class Detached(nn.Module):
    """A network through which no gradient goes; in a batch of three or more the brightest image has logits of NaN."""

    def __init__(self, *, detached: bool) -> None:
        super().__init__()
        self.network, self.detached = toy_model().network, detached

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images.detach() if self.detached else images)
        bright = images.mean((1, 2, 3)) > (2 if len(images) < 3 else images.mean())
        return logits if self.detached else logits.masked_fill(bright[:, None], torch.nan)


@pytest.mark.parametrize(
    ("detached", "says"), [(True, "no gradient reaches the images"), (False, "gives NaN as logits, first for image")]
)
def test_networks_that_fail_in_a_pass_are_explained(tmp_path: Path, detached: bool, says: str) -> None:
    """Else NaN counts as a prediction of the first class, or the user reads a traceback of autograd."""
    model = wrap(Detached(detached=detached), mean=(0,) * 3, std=(1,) * 3, image_size=16)
    with pytest.raises(ParameterError, match=says):
        measuring(model=model).run(tmp_path)


def test_impossible_settings_are_refused() -> None:
    """Else epsilon=4, meant as 4/255, measures white noise."""
    wrongs: list[dict[str, Any]] = [{"epsilon": 4}, {"epsilon": -0.1}, {"pgd_steps": -1}, {"auto_attack": -1}]
    wrongs += [
        {"top_k": 0},
        {"top_k": 2.5},
        {"quantile": 0},
        {"sigma": math.inf},
        {"sigma": True},
        {"epsilon": "4/255"},
    ]
    for wrong in wrongs:
        with pytest.raises(ParameterError, match=f"{next(iter(wrong))}=.* is needed"):
            Setting(**wrong)
    of_numpy: dict[str, Any] = {"top_k": np.int64(7), "sigma": np.float32(2)}
    assert Setting(**of_numpy) == Setting(top_k=7, sigma=2.0)
    json.dumps(asdict(Setting(**of_numpy)))  # as the record of a card


def test_the_change_is_that_of_u_above_its_own_chance_level(tmp_path: Path) -> None:
    """Else an attack that makes the network say one class for all looks as if neurons had become consistent."""
    one = measuring()
    pieces = one.run(tmp_path)
    layer = one.model.last_layer
    for kind in ("true", "predicted"):
        found = change(pieces, FGSM, layer, kind)
        rows = [pieces[name]["rows"][f"{layer}/{kind}"] for name in (FGSM, REAL)]
        assert found.value == pytest.approx(rows[0]["U"] - rows[0]["U chance"] - rows[1]["U"] + rows[1]["U chance"])
    level = chance(one.images.labels, one.correlation).unbiased
    assert pieces[REAL]["rows"][f"{layer}/true"]["U chance"] == level
    assert estimate(pieces, REAL, layer, "true").value == pieces[REAL]["rows"][f"{layer}/true"]["U"] - level


def moved(true: float, predicted: float) -> dict[str, Any]:
    """Passes of one layer whose U changes so much under FGSM, with replicates that leave an interval of about .02."""
    spread = [0.001 * (-1) ** group for group in range(20)]

    def piece(u: dict[str, float]) -> dict[str, Any]:
        rows = {
            f"last/{kind}": {
                "U": value,
                "U low": value - 0.01,
                "U high": value + 0.01,
                "U chance": 0.1,
                "excluded": 0.0,
            }
            for kind, value in u.items()
        }
        return {
            "rows": rows,
            "replicates": {f"last/{kind}": [value + each for each in spread] for kind, value in u.items()},
        }

    attacked = piece({"true": 0.3 + true, "predicted": 0.3 + predicted})
    attacked["replicates"] = {
        name: [v - 2 * s for v, s in zip(values, spread, strict=True)]
        for name, values in attacked["replicates"].items()
    }
    return {REAL: piece({"true": 0.3, "predicted": 0.3}), FGSM: attacked}


@pytest.mark.parametrize(
    ("true", "predicted", "said"),
    [
        (-0.1, 0.0, "follow the network's decision"),
        (-0.1, -0.1, "have become ambiguous"),
        (0.0, -0.1, "have become ambiguous"),
        (-0.2, -0.05, "most of the change is that the neurons follow the network's decision; 25% of it"),
        (0.0, 0.0, "not seen to make the neurons ambiguous"),
        (-0.1, 0.1, "follow the network's decision"),
    ],
)
def test_the_reading_follows_the_intervals(true: float, predicted: float, said: str) -> None:
    """Else the sentence on the first line of a card says what its numbers do not."""
    text = reading(moved(true, predicted), "last")
    assert "above chance (0.100)" in text
    assert said in text
    assert ("falls when the images go by their true labels" in text) == (true < 0)


def test_neurons_at_chance_are_not_said_to_keep_anything() -> None:
    """Else a random network is told that its neurons follow its decision."""
    pieces = moved(-0.1, 0.0)
    for piece in pieces.values():
        piece["rows"] = {name: row | {"U chance": 0.3} for name, row in piece["rows"].items()}
    text = reading(pieces, "last")
    assert "not to be told from chance (0.300). So they have no consistency that an attack could take" in text
    assert "decision" not in text


def test_neurons_without_a_value_are_not_said_to_be_at_chance(tmp_path: Path) -> None:
    """Else a dead layer, or one strongest image a neuron, reads as a finding."""
    pieces = measuring(setting=Setting(epsilon=0, top_k=1)).run(tmp_path)
    assert reading(pieces, stranger().last_layer).startswith("No neuron of 5 is activated by two images")
