"""Device and precision: chosen by the caller, with errors that name the cure."""

from functools import partial

import pytest
import torch

from neuron_consistency import runtime
from neuron_consistency.errors import ParameterError
from neuron_consistency.runtime import (
    Runtime,
    describe_device,
    drawn_by_row,
    has_fast_bfloat16,
    resolve_device,
)
from toys import CPU


def test_auto_is_the_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto").type == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == resolve_device("cpu") == CPU


def test_unknown_device_is_named() -> None:
    with pytest.raises(ParameterError, match=r"'abacus'.*'auto'"):
        resolve_device("abacus")


def test_a_gpu_that_is_not_there_is_an_error_not_a_crash_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ParameterError, match="no GPU here"):
        resolve_device("cuda:0")


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


def test_batches_of_nothing_are_refused() -> None:
    with pytest.raises(ParameterError, match="batch_size=0"):
        Runtime(CPU, batch_size=0)


def test_noise_belongs_to_its_row_and_seed() -> None:
    """Noise that depended on its batch would change a table with the batch size; equal noise would be no noise."""
    draw = partial(torch.randn, (2, 3))
    whole = drawn_by_row(range(100), draw, seed=1)
    assert torch.equal(drawn_by_row([7, 3], draw, seed=1), whole[[7, 3]])
    everything = torch.cat([whole, drawn_by_row(range(100), draw, seed=0), drawn_by_row(range(100), draw, seed=2)])
    assert len({row.numpy().tobytes() for row in everything}) == 300
