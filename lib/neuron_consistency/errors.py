"""The errors a user can meet: each names the thing that is wrong and the cure."""

import math
import numbers
from typing import Any


class NeuronConsistencyError(Exception):
    """Base of every error this library raises on purpose."""


class DatasetError(NeuronConsistencyError):
    """A dataset is missing, corrupt, laid out otherwise than expected, or holds an unknown class."""


class ParameterError(NeuronConsistencyError):
    """A parameter is unknown, has the wrong type or a value that cannot work."""


class TrainingError(NeuronConsistencyError):
    """Training cannot go on: the loss is not finite, or a checkpoint belongs to other parameters."""


class StoreError(NeuronConsistencyError):
    """A file of the artifacts folder cannot be written or read."""


def require(
    low: float, high: float = math.inf, *, whole: bool = False, above: bool = False, cure: str = "", **values: Any
) -> None:
    """Refuses each of the values, which go by their parameters' names, that is no number from `low` to `high`.

    Numbers of NumPy are numbers; NaN, an infinity, True and text are none.

    Args:
        whole: whole numbers alone.
        above: `low` itself is too little.
        cure: what the error says besides.

    Raises:
        ParameterError: one of them cannot work; it is named.
    """
    kind = numbers.Integral if whole else numbers.Real
    for name, value in values.items():
        number = isinstance(value, kind) and not isinstance(value, bool)
        fits = number and low <= value <= high and value < math.inf
        if not fits or (above and value == low):
            bounds = f"above {low:g}" if above else f"of {low:g} or more"
            most = f" and at most {high:g}" if high < math.inf else ""
            what = f"a {'whole ' * whole}number {bounds}{most} is needed"
            raise ParameterError(f"{name}={value!r}: {what}{cure and f', {cure}'}")
