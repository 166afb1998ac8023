"""Work split over processes: which of them this one is, and how their parts come together.

Every process of a group runs the same program. Images are dealt out batch by batch, so that each batch is the same one
whatever the number of processes; what they find is added up or gathered, and all of them end with the whole.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from neuron_consistency.errors import NeuronConsistencyError, ParameterError, TrainingError

T = TypeVar("T")


class Part(NamedTuple):
    """One process among several: its number, from 0, and how many there are."""

    rank: int
    size: int


WHOLE = Part(0, 1)


def ranks() -> Part:
    """This process among those that torchrun started; all of them without torchrun.

    Raises:
        ParameterError: RANK and WORLD_SIZE of the environment do not make sense.
    """
    texts = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    if not all(text.isdigit() for text in texts) or int(texts[0]) >= int(texts[1]):
        raise ParameterError(
            f"RANK={texts[0]!r}, WORLD_SIZE={texts[1]!r}: start the processes with torchrun, or unset both"
        )
    return Part(int(texts[0]), int(texts[1]))


def part() -> Part:
    """This process in the group that works together; all of it where there is no group."""
    return Part(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else WHOLE


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Within the context the processes that torchrun started work together, each on a GPU of its own where it has one.

    Without torchrun it does nothing.

    Raises:
        TrainingError: another process ended, so that the work cannot go on.
        ParameterError: as `ranks`, or there are more processes than GPUs on this machine.
    """
    if ranks().size == 1:
        yield
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if device.type == "cuda":
        if local >= torch.cuda.device_count():
            raise ParameterError(
                f"{local + 1} processes or more on a machine with {torch.cuda.device_count()} GPUs: start one a GPU "
                "(torchrun --nproc-per-node)"
            )
        torch.cuda.set_device(local)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    except NeuronConsistencyError:
        raise
    except RuntimeError as error:
        if not any(word in str(error).lower() for word in ("gloo", "nccl", "peer")):
            raise
        raise TrainingError(
            f"process {ranks().rank} of {ranks().size} lost another one ({str(error).splitlines()[0]}). What it ended "
            "with stands in its own output. Start again, with any number of processes: work goes on from the last "
            "checkpoint"
        ) from error
    finally:
        dist.destroy_process_group()


def add_up(*tensors: Tensor) -> None:
    """Each tensor becomes, in place, the sum of those of all processes."""
    if part().size > 1:
        for tensor in tensors:
            dist.all_reduce(tensor)


def gathered(value: T) -> list[T]:
    """What each process gives, by rank: tensors on the CPU, numbers, or lists of them."""
    if part().size == 1:
        return [value]
    found: list[T] = [value] * part().size
    dist.all_gather_object(found, value)
    return found


def gather_rows(batches: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """The rows of all processes, in the order of their places.

    Args:
        batches: of this process, each the places of its rows in the whole, and then columns.

    Shape:
        places: (B,) int64, rising, on the CPU like all columns; columns: (B, ...). The result is the columns, (N, ...),
        without the places.
    """
    rows = sorted((batch for part in gathered(list(batches)) for batch in part), key=lambda batch: int(batch[0][0]))
    return tuple(torch.cat(column) for column in zip(*rows, strict=True))[1:]


def agreed(value: T) -> T:
    """What the first process gives; the others wait for it."""
    if part().size == 1:
        return value
    said = [value]
    dist.broadcast_object_list(said, src=0)
    return said[0]


def share_buffers(module: torch.nn.Module) -> None:
    """Buffers, such as the statistics of batch norm, become those of the first process."""
    if part().size > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, src=0)
