"""How far a long pass has come: kept in a file, so that a pass that was stopped goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from neuron_consistency.artifacts import SEAL, atomic_path, verify
from neuron_consistency.errors import StoreError


@dataclass
class Unfinished:
    """Where a pass keeps how far it has come, so that one that was stopped goes on.

    Attributes:
        path: its file, gone once the pass has ended.
        generator: the one that the attack draws from, whose state is kept too.
        seconds: between two writes; a large state is written less often, so that it costs a twentieth at most.
    """

    path: Path
    generator: torch.Generator | None = None
    seconds: float = 60.0
    written: float = 0.0

    def read(self, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The state, the attack's generator set to it; nothing where the pass has not begun.

        Args:
            like: a state of this pass: names, types and shapes but for the first dimension are the same.

        Raises:
            StoreError: the file is damaged, or of another pass.
        """
        self.written = time.monotonic()
        if not self.path.exists():
            return {}
        verify(self.path)
        try:
            state = safetensors.torch.load_file(self.path)
            if self.generator is not None:
                self.generator.set_state(state["generator"])
            if any(_kind(state[name]) != _kind(value) for name, value in like.items()):
                raise ValueError("it is of another pass")
        except (safetensors.SafetensorError, OSError, KeyError, ValueError, RuntimeError, TypeError) as error:
            raise StoreError(f"{self.path} cannot be read ({error}): remove it, and the pass begins again") from error
        return state

    def write(self, state: Callable[[], Mapping[str, Tensor]]) -> None:
        """Keeps the state if it is time to."""
        began = time.monotonic()
        if began - self.written < self.seconds:
            return
        kept = {name: value.cpu().contiguous() for name, value in state().items()}
        if self.generator is not None:
            kept["generator"] = self.generator.get_state()
        with atomic_path(self.path) as part:
            safetensors.torch.save_file(kept, part, SEAL)
        self.written = time.monotonic()
        self.seconds = max(self.seconds, 20 * (self.written - began))


def _kind(value: Tensor) -> tuple[torch.dtype, torch.Size]:
    return value.dtype, value.shape[1:]
