"""Device and precision: chosen by the caller, with errors that name the cure."""

import platform
from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from fake_mps import fake_mps
from neuron_consistency import runtime
from neuron_consistency.attacks.predictions import predictions
from neuron_consistency.consistency.ambiguity import measure_with_controls
from neuron_consistency.errors import ParameterError
from neuron_consistency.explanation.filter_groups import filter_similarity
from neuron_consistency.networks.models import Classifier
from neuron_consistency.runtime import (
    Runtime,
    describe_device,
    drawn_by_row,
    has_fast_bfloat16,
    precise,
    resolve_device,
)
from neuron_consistency.tracing.detection import adaptive_pgd, fit_detectors
from neuron_consistency.training.loop import train
from neuron_consistency.training.schedule import Schedule
from toys import CPU, EQ6, fitted, toy_images, toy_model


def test_auto_is_the_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto").type == "cuda"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_device("auto").type == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == resolve_device("mps") == torch.device("mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert resolve_device("auto") == resolve_device("cpu") == CPU


@pytest.mark.parametrize("device", ["abacus", "meta", "xla", "", "cuda:x"])
def test_a_device_that_nothing_runs_on_is_named(device: str) -> None:
    with pytest.raises(ParameterError, match=f"device='{device}' is unknown: use 'auto'"):
        resolve_device(device)


@pytest.mark.parametrize("device", ["cuda:0", "mps"])
def test_a_gpu_that_is_not_there_is_an_error_not_a_crash_later(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ParameterError, match=f"device='{device}', but PyTorch sees no GPU here"):
        resolve_device(device)


@pytest.mark.parametrize("fast", [True, False])
def test_auto_precision_is_bfloat16_only_where_it_is_fast(fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "has_fast_bfloat16", lambda _device: fast)
    asked = ("auto", "float32", "bfloat16")
    found = [Runtime(CPU, precision).precision for precision in asked]
    assert found == ["bfloat16" if fast else "float32", "float32", "bfloat16"]


def test_unknown_precision_is_named() -> None:
    with pytest.raises(ParameterError, match="precision='half'"):
        Runtime(CPU, "half")


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_autocast_sets_the_precision_of_a_product_and_ends(precision: str, dtype: torch.dtype) -> None:
    a = torch.ones(4, 4)
    with Runtime(CPU, precision).autocast():
        assert (a @ a).dtype == dtype
    assert (a @ a).dtype == torch.float32


def test_a_torch_without_the_amx_probe_falls_back_to_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe has no public name and may vanish."""
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported", raising=False)
    assert not has_fast_bfloat16(CPU)
    assert Runtime(CPU).precision == "float32"


def test_the_device_in_words_names_threads() -> None:
    assert f"{torch.get_num_threads()} threads" in describe_device(CPU)


@pytest.mark.parametrize("size", [0, -1, 2.5, "8", None])
def test_batches_of_no_images_are_refused(size: Any) -> None:
    with pytest.raises(ParameterError, match=f"batch_size={size!r}: a whole number"):
        Runtime(CPU, batch_size=size)


def test_apples_gpu_in_words_and_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert describe_device(torch.device("mps")) == "Apple GPU (mps), arm64"
    assert Runtime(torch.device("mps")).precision == "float32"


def numbers_of(on: Runtime, model: Classifier) -> list[Tensor]:
    """Predictions, U and its thresholds, and what is summed in float64, of a toy network on toy images."""
    images = toy_images(24, seed=1, noise=0.3)
    passes = measure_with_controls(model, images, on, epsilon=0.05, pgd_steps=2, top_k=5)
    a = torch.eye(4, dtype=torch.float64)
    layers = [found.layers["last"] for found in passes.sets.values() if found.layers]
    detectors = fit_detectors(model, on, training=images, selection=images, correlation=a)
    batch, labels = images.batch(torch.arange(8), on.device)
    model.eval()
    drawn = torch.Generator(on.device).manual_seed(0)
    hidden = adaptive_pgd(
        model, batch, labels, detectors=detectors, k=3, weight=1, epsilon=0.05, steps=2, generator=drawn
    )
    return [
        predictions(model, images, on),
        *(value for found in layers for value in (found.thresholds, found.counts["predicted"])),
        filter_similarity(model, images, "last", on),
        torch.from_numpy(detectors.scores(images, on, ks=[3]).to_numpy(float)),
        torch.from_numpy(detectors.scores(images.to(on.device), on, ks=[1]).to_numpy(float)),
        hidden.cpu(),
        trained_on(on),
    ]


def trained_on(on: Runtime) -> Tensor:
    model = toy_model()
    schedule = Schedule(epochs=1, batch_size=16, learning_rate=0.01, precision="float32", watched_images=16)
    train(model, toy_images(32), EQ6, schedule, device=on.device)
    return torch.cat([weights.detach().cpu().flatten() for weights in model.parameters()])


def test_a_device_without_float64_gives_the_cpus_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a measure ends in a TypeError on an Apple GPU: it sums in float64 there, or joins tensors of two devices."""
    model = fitted(toy_model(), toy_images(32))
    expected = numbers_of(Runtime(CPU, "float32", 16), deepcopy(model))
    with fake_mps(monkeypatch) as device:
        found = numbers_of(Runtime(device, batch_size=16), model)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.isnan(), other.isnan())  # where no class is as far as the true one
        assert torch.equal(one.nan_to_num(-1), other.nan_to_num(-1))


def test_the_device_that_is_not_there_keeps_its_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the test above would pass whatever the library does."""
    host = torch.rand(3)
    with fake_mps(monkeypatch) as device:
        held = host.to(device)
        assert (held.device, (held * 2).device, held.cpu().device) == (device, device, CPU)
        assert precise(held).dtype == torch.float64
        assert precise(held).device == CPU
        for wrong in (
            lambda: held.double(),
            lambda: held + host,
            lambda: torch.zeros(2, dtype=torch.float64, device=device),
            lambda: held.numpy(),
            lambda: host[held.long()],
        ):
            with pytest.raises(AssertionError, match="device"):
                wrong()


def test_noise_belongs_to_its_row_and_seed() -> None:
    """Noise that depended on its batch would change a table with the batch size; equal noise would be no noise."""
    draw = partial(torch.randn, (2, 3))
    whole = drawn_by_row(range(100), draw, seed=1)
    assert torch.equal(drawn_by_row([7, 3], draw, seed=1), whole[[7, 3]])
    everything = torch.cat([whole, drawn_by_row(range(100), draw, seed=0), drawn_by_row(range(100), draw, seed=2)])
    assert len({row.numpy().tobytes() for row in everything}) == 300
