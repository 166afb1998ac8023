"""Where and in which precision things are computed: chosen by the caller, never at import."""

from __future__ import annotations

import platform
from contextlib import AbstractContextManager, nullcontext

import torch

from neuron_consistency.errors import ParameterError


def resolve_device(device: str = "auto") -> torch.device:
    """The device named; "auto" is the GPU where there is one, else the CPU.

    Raises:
        ParameterError: the device is unknown, or not to be had on this machine.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise ParameterError(f"device={device!r} is unknown: use 'auto', 'cpu', 'cuda' or 'cuda:N'") from error
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise ParameterError(f"device={device!r}, but PyTorch sees no GPU here: use device='auto' or 'cpu'")
    return resolved


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 pays on this device: GPUs from Ampere on, CPUs with AMX tiles."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        probe = getattr(torch.cpu, "_is_amx_tile_supported", None)  # no public name for it yet
        return bool(probe and probe())
    return False


def resolve_precision(precision: str, device: torch.device) -> str:
    """ "float32" or "bfloat16"; "auto" is bfloat16 where the hardware has fast units for it.

    Raises:
        ParameterError: the precision is not one of "auto", "float32", "bfloat16".
    """
    if precision not in ("auto", "float32", "bfloat16"):
        raise ParameterError(f"precision={precision!r}: use 'auto', 'float32' or 'bfloat16'")
    if precision == "auto":
        return "bfloat16" if has_fast_bfloat16(device) else "float32"
    return precision


def autocast(device: torch.device, precision: str = "auto") -> AbstractContextManager[object]:
    """A context in which a network's forward passes run in `precision` on `device`."""
    if resolve_precision(precision, device) == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def describe_device(device: torch.device) -> str:
    """The device in words, for records and captions: "NVIDIA H100 ..., CUDA" or "2 CPU threads, x86_64"."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    amx = ", AMX" if has_fast_bfloat16(device) else ""
    return f"CPU, {torch.get_num_threads()} threads, {platform.machine()}{amx}"
