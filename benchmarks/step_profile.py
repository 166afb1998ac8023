"""Where the time of a training step goes: by kind of operation, as PyTorch's profiler sees it."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import torch
from torch.profiler import ProfilerActivity, profile

from pairs import Work

KINDS = {  # by what an operation's name holds, the first that fits
    "convolution": ("convolution", "conv2d"),
    "matrix product": ("addmm", "aten::mm", "gemm"),
    "batch norm": ("batch_norm",),
    "optimiser": ("_foreach", "_fused"),
    "pooling": ("pool",),
    "change of format or type": ("copy_", "to_copy", "contiguous", "clone"),
    "sums and gradients added up": ("aten::add", "aten::sum", "aten::mean"),
}
REST = "element by element, and all else"


def kind_of(name: str) -> str:
    """What an operation is counted as."""
    return next((kind for kind, parts in KINDS.items() if any(part in name for part in parts)), REST)


def step_profile(steps: Mapping[str, Work], *, device: torch.device, repeats: int = 3) -> pd.DataFrame:
    """Per cent of the time of each step, by kind of operation.

    Args:
        steps: the work, by name; each is done once before it is watched.
        device: whose time.
        repeats: how often each is done.

    Returns:
        One row a kind, one column a step; each column sums to 100. An operation's own time, without what it calls.
    """
    cuda = device.type == "cuda"
    activities = [ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]
    shares = {}
    for name, step in steps.items():
        step()
        with profile(activities=activities) as found:
            for _ in range(repeats):
                step()
        own = {kind: 0.0 for kind in [*KINDS, REST]}
        for event in found.key_averages():
            own[kind_of(event.key)] += event.self_device_time_total if cuda else event.self_cpu_time_total
        shares[name] = pd.Series(own)
    table = pd.DataFrame(shares)
    return (100 * table / table.sum()).rename_axis("operation").reset_index()
