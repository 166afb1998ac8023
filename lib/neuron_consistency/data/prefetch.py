"""Groups of files read a few ahead by threads or worker processes, in the order asked for."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from torch.utils.data import DataLoader

Batch = TypeVar("Batch")


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def grouped(number: int, size: int) -> list[range]:
    """The places 0 to `number - 1` in order, `size` at a time."""
    return [range(start, min(start + size, number)) for start in range(0, number, size)]


def stream(
    load: Callable[[Sequence[int]], Batch], groups: Sequence[Sequence[int]], processes: int = 0
) -> Iterator[Batch]:
    """`load` of each group, in order, a few groups ahead, so that memory does not grow with their number.

    Args:
        load: gives what the caller wants for a group of numbers.
        groups: the groups.
        processes: worker processes; 0 is threads of this process, which decoding keeps busy.

    Raises:
        Exception: what `load` raised, as it raised it.
    """
    if processes > 0:
        attempt: Any = partial(_tried, load)
        for item in DataLoader(groups, batch_size=None, num_workers=processes, collate_fn=attempt):  # type: ignore[arg-type]
            if isinstance(item, Exception):
                raise item
            yield item
        return
    pool = ThreadPoolExecutor(cores())
    waiting: deque[Future[Batch]] = deque()
    try:
        for group in groups:
            waiting.append(pool.submit(load, group))
            if len(waiting) > cores() + 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _tried(load: Callable[[Sequence[int]], Batch], group: Sequence[int]) -> Batch | Exception:
    """`load` of a group; an error comes back as a value, since a worker process would wrap it in its traceback."""
    try:
        return load(group)
    except Exception as error:
        return error
