"""Sums in the order of batches and noise by row; that processes agree on them is in test_distributed.py."""

from __future__ import annotations

from functools import partial

import torch

from neuron_consistency.runtime import drawn_by_row, sums_in_order


def test_sums_are_added_batch_by_batch() -> None:
    """In another order, or all at once, the large number would swallow the small ones."""
    numbers = torch.tensor([1e16, 1.0, 1.0], dtype=torch.float64)
    assert sums_in_order((number,) for number in numbers)[0].item() == 1e16
    assert sums_in_order((number,) for number in numbers.flip(0))[0].item() == 1e16 + 2
    assert sums_in_order([]) == ()


def test_noise_belongs_to_its_row_and_seed() -> None:
    """Noise that depended on its batch would change a table with the batch size; equal noise would be no noise."""
    draw = partial(torch.randn, (2, 3))
    whole = drawn_by_row(range(100), draw, seed=1)
    assert torch.equal(drawn_by_row([7, 3], draw, seed=1), whole[[7, 3]])
    everything = torch.cat([whole, drawn_by_row(range(100), draw, seed=0), drawn_by_row(range(100), draw, seed=2)])
    assert len({row.numpy().tobytes() for row in everything}) == 300
