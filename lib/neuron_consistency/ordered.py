"""What must not depend on how a set is split: sums of floats over batches, and noise drawn for each row."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from neuron_consistency.distributed import gathered, part

SPREAD = 2654435761  # keeps the rows of neighbouring seeds apart; a generator on the CPU reads 32 bits of its seed


def sums_in_order(batches: Iterable[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """Tensors summed over the batches of all processes, always in the order in which the whole set has them.

    Sums of floats depend on their order: added up process by process, they would differ by the number of processes.
    So the processes go through their batches in step, and each adds every round's to its own total.

    Args:
        batches: of this process, as `ImageSet.batches` deals them out; the same number of tensors each.

    Shape:
        tensors of a batch: any, the same in all batches; result: theirs, on their device, or on the CPU where there
        are several processes; nothing of no batches.
    """
    own = iter(batches)
    total: tuple[Tensor, ...] = ()
    while any(given := gathered(_movable(next(own, ())))):
        for addends in filter(None, given):
            total = tuple(a + b for a, b in zip(total, addends, strict=True)) if total else addends
    return total


def _movable(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tensors if part().size == 1 else tuple(tensor.cpu() for tensor in tensors)


def drawn_by_row(rows: Iterable[int], draw: Callable[..., Tensor], *, seed: int) -> Tensor:
    """What `draw(generator=...)` makes for each row, from a generator of its own: the same in whatever batch it is.

    On the CPU, so that a GPU's table has the noise of a processor's.

    Args:
        rows: numbers of the rows, below 2^32.
        draw: makes a row's tensor, such as `partial(torch.rand, size)`.
        seed: of all rows.

    Shape:
        result: (rows, ...).
    """
    generator = torch.Generator()
    return torch.stack([draw(generator=generator.manual_seed((seed * SPREAD + row) % 2**32)) for row in rows])
