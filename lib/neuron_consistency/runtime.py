"""Where a computation runs, in which precision, and in how many processes."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple, Self, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from neuron_consistency.errors import NeuronConsistencyError, ParameterError, TrainingError, require

SPREAD = 2654435761  # keeps the rows of neighbouring seeds apart; a generator on the CPU reads 32 bits of its seed

T = TypeVar("T")


def resolve_device(device: str = "auto") -> torch.device:
    """The device named; "auto" is the GPU where there is one, NVIDIA's before Apple's, else the CPU.

    Raises:
        ParameterError: the device is unknown, or not to be had on this machine.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return torch.device(next(kind for kind, found in there.items() if found))
    try:
        resolved = torch.device(device)
    except (RuntimeError, TypeError):
        resolved = None
    if resolved is None or resolved.type not in there:
        raise ParameterError(f"device={device!r} is unknown: use 'auto', 'cpu', 'cuda', 'cuda:N' or 'mps'")
    if not there[resolved.type]:
        raise ParameterError(f"device={device!r}, but PyTorch sees no GPU here: use device='auto' or 'cpu'")
    if resolved.type == "cuda" and (resolved.index or 0) >= (count := torch.cuda.device_count()):
        raise ParameterError(f"device={device!r}, but there are {count} GPUs here: use 'cuda:0' to 'cuda:{count - 1}'")
    return resolved


def precise(tensor: Tensor) -> Tensor:
    """The tensor in float64, as sums over many images need it: on the CPU if its device, an Apple GPU, has none."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 pays on this device: GPUs from Ampere on, CPUs with AMX tiles."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        probe = getattr(torch.cpu, "_is_amx_tile_supported", None)  # no public name for it yet
        return bool(probe and probe())
    return False


@dataclass(frozen=True)
class Runtime:
    """Where networks run, in which precision, and on how many images at once.

    Attributes:
        device: where; networks and batches are moved there.
        precision: of forward passes, "float32" or "bfloat16"; "auto" becomes the one that pays on the device.
        batch_size: images in a forward pass; it changes no result but through rounding in the networks.

    Raises:
        ParameterError: an unknown precision, or no image in a batch.
    """

    device: torch.device
    precision: str = "auto"
    batch_size: int = 256

    def __post_init__(self) -> None:
        require(1, whole=True, batch_size=self.batch_size)
        if self.precision not in ("auto", "float32", "bfloat16"):
            raise ParameterError(f"precision={self.precision!r}: use 'auto', 'float32' or 'bfloat16'")
        if self.precision == "auto":
            pays = has_fast_bfloat16(self.device)
            object.__setattr__(self, "precision", "bfloat16" if pays else "float32")

    @classmethod
    def of(cls, device: str = "auto", precision: str = "auto", batch_size: int = 256) -> Self:
        """The runtime on a device by name; "auto" is the GPU where there is one.

        Raises:
            ParameterError: the device is unknown, or not to be had on this machine.
        """
        return cls(resolve_device(device), precision, batch_size)

    def autocast(self) -> AbstractContextManager[object]:
        """A context in which a network's forward passes run in this precision."""
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)


def describe_device(device: torch.device) -> str:
    """The device in words, for records and captions: "NVIDIA H100 80GB HBM3" or "CPU, 2 threads, x86_64, AMX"."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "mps":
        return f"Apple GPU (mps), {platform.machine()}"
    amx = ", AMX" if has_fast_bfloat16(device) else ""
    return f"CPU, {torch.get_num_threads()} threads, {platform.machine()}{amx}"


class Part(NamedTuple):
    """One process among several: its number, from 0, and how many there are."""

    rank: int
    size: int


WHOLE = Part(0, 1)


def launched() -> Part:
    """This process among those that torchrun started; without torchrun, the only one.

    Raises:
        ParameterError: RANK and WORLD_SIZE of the environment do not make sense.
    """
    texts = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    if not all(text.isdigit() for text in texts) or int(texts[0]) >= int(texts[1]):
        raise ParameterError(
            f"RANK={texts[0]!r}, WORLD_SIZE={texts[1]!r}: start the processes with torchrun, or unset both"
        )
    return Part(int(texts[0]), int(texts[1]))


def this_process() -> Part:
    """This process in the group that works together; the only one where there is no group."""
    return Part(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else WHOLE


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Within the context the processes that torchrun started work together, each on a GPU of its own where it has one.

    Without torchrun it does nothing.

    Raises:
        TrainingError: another process ended, so that the work cannot go on.
        ParameterError: as `launched`, or there are more processes than GPUs on this machine.
    """
    if launched().size == 1:
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
            f"process {launched().rank} of {launched().size} lost another one ({str(error).splitlines()[0]}). What it "
            "ended with stands in its own output. Start again, with any number of processes: work goes on from the "
            "last checkpoint"
        ) from error
    finally:
        dist.destroy_process_group()


def all_reduce(*tensors: Tensor) -> None:
    """Each tensor becomes, in place, the sum of those of all processes."""
    if this_process().size > 1:
        for tensor in tensors:
            dist.all_reduce(tensor)


def all_gather(value: T) -> list[T]:
    """What each process gives, by rank: tensors on the CPU, numbers, or lists of them."""
    if this_process().size == 1:
        return [value]
    found: list[T] = [value] * this_process().size
    dist.all_gather_object(found, value)
    return found


def gather_rows(batches: Sequence[tuple[Tensor, ...]], *, shared: bool) -> tuple[Tensor, ...]:
    """The rows of batches in the order of their places; with `shared`, the rows of all processes.

    Args:
        batches: each the places of its rows in the whole, and then columns.

    Shape:
        places: (B,) int64, rising, on the CPU like all columns; columns: (B, ...). The result is the columns, (N, ...),
        without the places.
    """
    parts = all_gather(list(batches)) if shared else [list(batches)]
    rows = sorted((batch for part in parts for batch in part), key=lambda batch: int(batch[0][0]))
    return tuple(torch.cat(column) for column in zip(*rows, strict=True))[1:]


def broadcast(value: T) -> T:
    """What the first process gives; the others wait for it."""
    if this_process().size == 1:
        return value
    said = [value]
    dist.broadcast_object_list(said, src=0)
    return said[0]


def broadcast_buffers(module: torch.nn.Module) -> None:
    """Buffers, such as the statistics of batch norm, become those of the first process."""
    if this_process().size > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, src=0)


def drawn_by_row(rows: Iterable[int], draw: Callable[..., Tensor], *, seed: int) -> Tensor:
    """What `draw(generator=...)` makes for each row, from a generator of its own: the same in whatever batch it is.

    It is drawn on the CPU, so that a table made on a GPU has the same noise.

    Args:
        rows: numbers of the rows, below 2^32.
        draw: makes a row's tensor, such as `partial(torch.rand, size)`.
        seed: of all rows.

    Shape:
        result: (rows, ...).
    """
    generator = torch.Generator()
    return torch.stack([draw(generator=generator.manual_seed((seed * SPREAD + row) % 2**32)) for row in rows])
