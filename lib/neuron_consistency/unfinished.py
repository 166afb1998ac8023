"""How far a long pass has come: kept in a file, so that a pass that was stopped goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from neuron_consistency.artifacts import atomic_path
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

    def read(self) -> dict[str, Tensor]:
        """The state, the attack's generator set to it; nothing where the pass has not begun.

        Raises:
            StoreError: the file is damaged.
        """
        self.written = time.monotonic()
        if not self.path.exists():
            return {}
        try:
            state = safetensors.torch.load_file(self.path)
        except (safetensors.SafetensorError, OSError) as error:
            raise StoreError(f"{self.path} cannot be read ({error}): remove it, and the pass begins again") from error
        if self.generator is not None:
            self.generator.set_state(state["generator"])
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
            safetensors.torch.save_file(kept, part)
        self.written = time.monotonic()
        self.seconds = max(self.seconds, 20 * (self.written - began))
