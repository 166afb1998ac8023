"""The resumable state of a training: written after every epoch, read back after a kill."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from neuron_consistency.artifacts import atomic_path
from neuron_consistency.errors import TrainingError


def save_checkpoint(path: Path, key: str, model: nn.Module, optimiser: torch.optim.Optimizer, **state: Any) -> None:
    """Writes the state atomically.

    Args:
        key: what the run is.
        **state: whatever else the run must know to go on: numbers, texts, tensors, lists and dictionaries of them.
    """
    content = io.BytesIO()
    torch.save({"key": key, "model": model.state_dict(), "optimiser": optimiser.state_dict(), **state}, content)
    with atomic_path(path) as part:
        part.write_bytes(content.getbuffer())


def load_checkpoint(
    path: Path, key: str, model: nn.Module, optimiser: torch.optim.Optimizer, device: torch.device
) -> dict[str, Any]:
    """Loads model and optimiser, and returns the whole state.

    Raises:
        TrainingError: the file is damaged, or of a run with another key.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # what torch writes has checksums of its own, which torch does not read
            if damaged := archive.testzip():
                raise ValueError(f"the checksum of {damaged} differs")
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        found = state["key"]
    except Exception as error:  # torch raises many kinds for a damaged file
        raise TrainingError(f"the checkpoint {path} cannot be read ({error}): remove it to train again") from error
    if found != key:
        raise TrainingError(
            f"the checkpoint {path} belongs to a training with other parameters (key {found}, this one "
            f"has {key}): remove it, or give this training a file of its own"
        )
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    return state
