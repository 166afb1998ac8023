"""Work of threads that read ahead, in the order asked for."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from torch.utils.data import DataLoader, Dataset

Batch = TypeVar("Batch")


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
        loader = DataLoader(_Loads(load, groups), batch_size=None, num_workers=processes, collate_fn=_as_it_is)
        for item in loader:
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


class _Loads(Dataset[Any]):
    """What a worker process runs; errors come back as values, since a worker would wrap them in its traceback."""

    def __init__(self, load: Callable[[Sequence[int]], Any], groups: Sequence[Sequence[int]]) -> None:
        self.load, self.groups = load, groups

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, index: int) -> Any:
        try:
            return self.load(self.groups[index])
        except Exception as error:
            return error


def _as_it_is(item: Any) -> Any:
    return item
