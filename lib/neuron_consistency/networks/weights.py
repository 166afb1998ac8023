"""Weights from files of any kind: read without running a pickle, fitted to a network, written as they came."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import safetensors.torch
import torch
from torch import Tensor, nn

from neuron_consistency.artifacts import atomic_path
from neuron_consistency.errors import DatasetError

WRAPPINGS = ("state_dict", "model", "model_state_dict", "net")
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.")
State = dict[str, Tensor]


class Checkpoint(NamedTuple):
    """The tensors of a file, and what they were wrapped in: the key that holds them, or "", and their names' prefix."""

    path: Path
    state: State
    key: str = ""
    prefix: str = ""


def is_script(path: Path) -> bool:
    """Whether a file is a TorchScript archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except Exception:  # no zip, or a damaged one, which is dealt with where it is read; zipfile raises many kinds
        return False


def read_checkpoint(path: Path) -> Checkpoint:
    """The weights of a .safetensors file, or of what `torch.save` wrote; wrappings and prefixes are undone.

    Raises:
        DatasetError: the file is missing or damaged, its pickle wants more than tensors, or it holds no weights.
    """
    path = path.expanduser()
    if not path.is_file():
        cure = "that is a folder, name the file in it" if path.is_dir() else "check the path"
        raise DatasetError(f"no weights at {path}: {cure}")
    if is_script(path):
        raise DatasetError(f"{path} holds TorchScript, not weights: save its state_dict() with torch.save")
    try:
        safe = path.suffix == ".safetensors"
        content = safetensors.torch.load_file(path) if safe else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of several libraries; torch's words are left out, which propose to run the pickle
        if wanted := re.search(r"GLOBAL (\S+)", str(error)):
            cure = "and code from a file of weights is never run: save the state dict alone, model.state_dict()"
            raise DatasetError(f"{path} wants more than tensors ({wanted[1]}), {cure}") from error
        raise DatasetError(f"{path} is damaged, or no file of weights: get it again") from error
    key = next((key for key in WRAPPINGS if isinstance(content, Mapping) and isinstance(content.get(key), Mapping)), "")
    state = content[key] if key else content
    pairs = state.items() if isinstance(state, Mapping) else ()
    if not pairs or not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in pairs):
        raise DatasetError(f"{path} holds no state dict, bare or under {', '.join(WRAPPINGS)}: save model.state_dict()")
    return Checkpoint(path, dict(state), key)


def without_prefix(checkpoint: Checkpoint, network: nn.Module) -> Checkpoint:
    """The checkpoint with the names of the network's own tensors."""
    own, state, prefix = network.state_dict(), checkpoint.state, ""
    while found := next((word for word in PREFIXES if all(name.startswith(word) for name in state)), ""):
        if all(name.startswith(found) for name in own):
            break
        state = {name.removeprefix(found): value for name, value in state.items()}
        prefix += found
    return checkpoint._replace(state=state, prefix=prefix)


def classes_of(checkpoint: Checkpoint, network: nn.Module) -> int | None:
    """The number of classes of the weights, where they are the network's but for the number of its outputs."""
    own, state = network.state_dict(), checkpoint.state
    pairs = [(own[name].shape, state[name].shape) for name in own if own.keys() == state.keys()]
    numbers = {theirs[0] if ours[1:] == theirs[1:] else 0 for ours, theirs in pairs if ours != theirs and theirs}
    return numbers.pop() if len(numbers) == 1 else None


def fill(network: nn.Module, checkpoint: Checkpoint, name: str) -> None:
    """Loads the weights into the network.

    Raises:
        DatasetError: some are missing or left over, or their shapes differ, or they are quantised.
    """
    own, state = network.state_dict(), checkpoint.state
    shapes = {key: (tuple(state[key].shape), tuple(own[key].shape)) for key in own if key in state}
    differing = {
        "missing": [key for key in own if key not in state and not key.endswith("num_batches_tracked")],  # of old files
        "left over": [key for key in state if key not in own],
        "of another shape": [f"{key} {theirs} for {ours}" for key, (theirs, ours) in shapes.items() if theirs != ours],
        "of another kind": [f"{key} {state[key].dtype}" for key in shapes if _is_coded(state[key], own[key])],
    }
    found = [(what, keys, ", ..." * (len(keys) > 5)) for what, keys in differing.items() if keys]
    if found:
        said = "; ".join(f"{len(keys)} {what} ({', '.join(keys[:5])}{more})" for what, keys, more in found)
        raise DatasetError(f"{checkpoint.path} does not fit {name}: {said}. Give this network's weights and classes")
    network.load_state_dict(state, strict=False)


def check_finite(network: nn.Module, name: str) -> None:
    """Refuses weights that are NaN or infinite; what is no weight may be infinite, as masks are.

    Raises:
        DatasetError: one is; it is named.
    """
    weights = {key for key, _ in network.named_parameters()}
    for key, value in network.state_dict(keep_vars=True).items():
        if isinstance(value, Tensor) and not (value.isfinite() if key in weights else ~value.isnan()).all():
            raise DatasetError(
                f"{name} holds values in {key} that are NaN or infinite: take weights of an earlier epoch"
            )


def first_line(error: BaseException) -> str:
    """What another library's error says first; its class where it says nothing."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _is_coded(value: Tensor, own: Tensor) -> bool:
    """Whether a tensor only stands for weights, as whole numbers do, so that a copy of it would be wrong or fail."""
    return (own.is_floating_point() and not value.is_floating_point()) or value.layout != own.layout


def write_checkpoint(network: nn.Module, path: Path, *, key: str = "", prefix: str = "") -> None:
    """Writes the weights of a network, atomically: .safetensors by that suffix, else as `torch.save` does.

    Args:
        key: of the dictionary that the state dict is put in, or "".
        prefix: before every name.

    Raises:
        StoreError: the file cannot be written.
    """
    state = {
        prefix + name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in network.state_dict().items()
    }
    with atomic_path(path) as part:
        if path.suffix == ".safetensors":
            safetensors.torch.save_file(state, part)
        else:
            buffer = io.BytesIO()
            torch.save({key: state} if key else state, buffer)
            part.write_bytes(buffer.getbuffer())
