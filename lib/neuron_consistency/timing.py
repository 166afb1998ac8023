"""Durations measured side by side: on a busy machine only ratios within one run mean anything."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import pandas as pd
import torch


def paired_seconds(
    work: Mapping[str, Callable[[], object]], *, repeats: int, device: torch.device, warm_up: int = 1
) -> pd.DataFrame:
    """Seconds of each piece of work, run in turns (A B A B ...), so that a slow moment hits all alike.

    Args:
        work: what is timed, by name; the first is what the others are compared with.
        repeats: rounds.
        device: synchronised before each reading of the clock.
        warm_up: rounds that are not counted.

    Returns:
        One row a piece of work: median seconds, and the median over the rounds of its ratio to the first, with
        the ratios' quartiles.
    """

    def seconds(call: Callable[[], object]) -> float:
        started = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - started

    rounds = [{name: seconds(call) for name, call in work.items()} for _ in range(warm_up + repeats)][warm_up:]
    table = pd.DataFrame(rounds)
    ratios = table.div(table.iloc[:, 0], axis=0)
    return pd.DataFrame(
        {
            "seconds": table.median(),
            "ratio": ratios.median(),
            "ratio, lower quartile": ratios.quantile(0.25),
            "ratio, upper quartile": ratios.quantile(0.75),
        }
    ).rename_axis("work")
