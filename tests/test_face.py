"""The names that the package itself hands out: quick to import, and each what its room has."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest
import torch

import neuron_consistency
from neuron_consistency.consistency.measure import consistency


def test_importing_the_package_loads_no_torch() -> None:
    """Whoever asks for help or a version would otherwise wait for seconds."""
    code = "import sys, neuron_consistency; dir(neuron_consistency); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", [name for name in neuron_consistency.__all__ if name != "consistency"])
def test_each_name_is_its_rooms(name: str) -> None:
    home = import_module(f"neuron_consistency.{neuron_consistency._HOMES[name]}")
    assert getattr(neuron_consistency, name) is getattr(home, name)
    assert name in dir(neuron_consistency)


def test_consistency_is_a_room_and_equation_3() -> None:
    """In whatever order rooms were imported: two cats and a dog, 1/3 of the pairs within a class, the rest apart."""
    counts, apart = torch.tensor([2, 1]), torch.eye(2)
    assert float(neuron_consistency.consistency(counts, apart)) == pytest.approx(5 / 9)
    from neuron_consistency.consistency import consistency as of_the_room

    assert of_the_room is consistency


def test_an_unknown_name_is_refused_as_python_does() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'consistensy'"):
        _ = neuron_consistency.consistensy
