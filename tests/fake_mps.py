"""A device that is not there: tensors say they are on an Apple GPU and obey its rules, while the CPU holds them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

MPS = torch.device("mps")
TO_HOST = {"cpu", "tolist", "item", "__bool__", "__int__", "__float__", "__len__", "__repr__"}
CROSSING = {
    "to",
    "copy_",
    "cpu",
    "__getitem__",
    "__setitem__",
    "__set__",
    "_has_compatible_shallow_copy_type",
}  # may join tensors of two devices


class OnDevice(Tensor):
    """A tensor that pretends."""


class FakeMps(TorchFunctionMode):
    """Fails where real code would on that device: float64, two devices in one operation, numpy without `.cpu()`."""

    def __torch_function__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = dict(kwargs or {}), getattr(func, "__name__", "")
        if func == Tensor.device.__get__:  # type: ignore[attr-defined]
            return MPS if isinstance(args[0], OnDevice) else self._run(func, args, kwargs)
        if name == "_parse_to":  # what `Module.to` is told
            return self._run(func, args, kwargs)
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        held = any(isinstance(tensor, OnDevice | nn.Parameter) for tensor in tensors)
        devices = [*(arg for arg in args if isinstance(arg, torch.device)), kwargs.get("device")]
        named = next((device for device in devices if device is not None), None)
        if name == "to" and len(args) > 1 and isinstance(args[1], str):
            named = torch.device(args[1])
        if name == "to" and len(args) > 1 and isinstance(args[1], Tensor):
            named = MPS if isinstance(args[1], OnDevice) else torch.device("cpu")
        if name in ("numpy", "__array__"):
            assert not held, "numpy reads no memory of another device"
        if held and name not in CROSSING and named is None:
            strange = [t for t in tensors if not isinstance(t, OnDevice | nn.Parameter) and t.ndim > 0]
            assert not strange, f"{name} has tensors on two devices"
        if name == "__getitem__" and not isinstance(args[0], OnDevice):
            assert not held, "indices of another device"
        if named is not None:
            held = torch.device(named).type == "mps"
            args, kwargs = tree_map(_host, args), tree_map(_host, kwargs)
        found = self._run(func, args, kwargs)
        if not held or name in TO_HOST:
            return tree_map(_plain, found) if name in TO_HOST or named is not None else found
        return tree_map(_wrapped, found)

    @staticmethod
    def _run(func: Any, args: Any, kwargs: Any) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **kwargs)


def _host(value: Any) -> Any:
    return torch.device("cpu") if isinstance(value, torch.device) and value.type == "mps" else value


def _plain(value: Any) -> Any:
    with torch._C.DisableTorchFunction():
        return value.as_subclass(Tensor) if isinstance(value, OnDevice) else value


def _wrapped(value: Any) -> Any:
    with torch._C.DisableTorchFunction():
        if not isinstance(value, Tensor) or isinstance(value, nn.Parameter):
            return value
        assert value.dtype != torch.float64, "there is no float64 on this device"
        return value if isinstance(value, OnDevice) else value.as_subclass(OnDevice)


@contextmanager
def fake_mps(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """Within the context the device seems to be there; generators for it draw on the CPU."""
    real = torch.Generator
    with monkeypatch.context() as patch:
        patch.setattr(torch.backends.mps, "is_available", lambda: True)
        patch.setattr(torch, "Generator", lambda device=None: real())
        with FakeMps():
            yield MPS
