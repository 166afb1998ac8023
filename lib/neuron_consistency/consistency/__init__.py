"""How consistent neurons are: the measure (P1's Eq. 3), whether an attack makes them ambiguous, what is left open.

`from neuron_consistency import consistency` gives this room, as Python has one name for both: called, it is P1's Eq. 3.
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neuron_consistency.consistency.measure import consistency as consistency


class _Room(ModuleType):
    """A module that can be called."""

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self.consistency(*arguments, **named)

    def __getattr__(self, name: str) -> Any:
        if name != "consistency":
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        from neuron_consistency.consistency.measure import consistency

        return consistency


sys.modules[__name__].__class__ = _Room
