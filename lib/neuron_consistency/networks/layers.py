"""The layers of any network, found by one dry forward pass."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from neuron_consistency.networks.models import Site
from neuron_consistency.networks.reading import evaluating

_ACTIVATION = re.compile("elu|swish|silu|mish|sigmoid|tanh|softplus", re.IGNORECASE)
_PLAIN = (nn.Module.forward, nn.Sequential.forward)  # the forward passes of a mere container


class Call(NamedTuple):
    """One call of a module in a forward pass: its first input and first output, with their versions at that time.

    `since` counts the calls that had ended when this one began.
    """

    name: str
    module: nn.Module
    since: int
    given: Tensor | None
    given_version: int
    output: Tensor | None
    version: int


def record_calls(network: nn.Module, images: Tensor) -> tuple[object, list[Call]]:
    """What the network gives for the images in eval mode, and the calls of its modules in the order they ended.

    Modes, hooks and gradients are as before when it returns.
    """
    calls: list[Call] = []
    begun: list[tuple[int, Tensor | None, int]] = []

    def begin(_module: nn.Module, inputs: object) -> None:
        begun.append((len(calls), *_seen(inputs)))

    def end(name: str, module: nn.Module, _inputs: object, output: object) -> None:
        calls.append(Call(name, module, *begun.pop(), *_seen(output)))

    with ExitStack() as hooks, evaluating(network), torch.no_grad():
        for name, module in network.named_modules():
            hooks.enter_context(module.register_forward_pre_hook(begin))
            hooks.enter_context(module.register_forward_hook(partial(end, name)))
        return network(images), calls


def _seen(value: object) -> tuple[Tensor | None, int]:
    """The tensor, or the first of several, and its version, which counts the changes made in place."""
    if isinstance(value, tuple | list) and value:
        value = value[0]
    return (value, value._version) if isinstance(value, Tensor) else (None, 0)


def _kind(module: nn.Module) -> str:
    """The names of a module's class and its base classes; of an exported one the class it had."""
    exported = getattr(module, "type_name", None)
    if callable(exported):
        return str(exported()).rpartition(".")[2]
    return " ".join(base.__name__ for base in type(module).__mro__[:-2])


def _is_container(module: nn.Module) -> bool:
    if isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict):
        return type(module).forward in _PLAIN
    return _kind(module).endswith(("Sequential", "ModuleList", "ModuleDict"))


def _is_leaf(module: nn.Module) -> bool:
    """Whether a module is read whole: it has no parts, or is a convolution, or a norm with its activation (timm)."""
    kind = _kind(module)
    return not _is_container(module) and (not any(module.children()) or "Norm" in kind.split()[0] or "_ConvNd" in kind)


def _place(output: Tensor, last: bool, prefix: int | None, first_of: set[torch.Size]) -> tuple[int, str, int] | None:
    """Channels, form and prefix tokens of an output; None where it is no map of two by two or more.

    Images are square, so of four dimensions the two equal ones are height and width, unless the shape is one of
    `first_of`, whose channels come first. Where all three are equal, `last` says whether channels come last.
    """
    _, first, second, *third = output.shape
    if not third:
        skipped = first - math.isqrt(first) ** 2
        if prefix is not None and (skipped > 0 or math.isqrt(max(first - prefix, 0)) ** 2 == first - prefix):
            skipped = prefix
        return (second, "tokens", skipped) if first - skipped >= 4 else None
    if first == second and (last if first == third[0] else output.shape not in first_of):
        return (third[0], "channels last", 0) if first > 1 else None
    return (first, "map", 0) if min(second, third[0]) > 1 else None


def _activation(calls: list[Call], index: int) -> Call | None:
    """The call of an activation inside call `index`, or that call itself, whose output is the call's own."""
    call = calls[index]
    for inner in {inner.name: inner for inner in calls[call.since : index + 1]}.values():  # of each its last call
        same = inner.output is call.output and inner.version == call.version
        if same and inner.given is not None and _is_leaf(inner.module) and _ACTIVATION.search(_kind(inner.module)):
            return inner
    return None


def readable(network: nn.Module, calls: list[Call], batch: int, *, before: bool) -> dict[str, Site]:
    """Every module whose output is a map of channels, in the order of the calls, and how it is read."""
    said = (getattr(module, "num_prefix_tokens", None) for module in network.modules())  # by timm's networks
    prefix = next((number for number in said if isinstance(number, int)), None)
    rows = [call.output for call in calls if "1d" in _kind(call.module)]  # (B, C, T), which are no tokens
    outputs = [
        (index, call, out)
        for index, call in enumerate(calls)
        if (out := call.output) is not None and out.ndim in (3, 4) and out.is_floating_point()
        if len(out) == batch or (out.ndim == 3 and out.shape[1] == batch)
        if out.ndim == 4 or not any(each is out or each is call.given for each in rows)
    ]
    planes = {call.output.shape for call in calls if call.output is not None and "2d" in _kind(call.module)}
    blocks = [o.shape for _, call, o in outputs if o.ndim == 4 and min(o.shape) > 1 and any(call.module.children())]
    last = next((shape[1] == shape[2] for shape in reversed(blocks) if shape[1] != shape[3]), False)
    found: dict[str, Site] = {}
    for index, call, output in outputs:
        place = _place(output if len(output) == batch else output.transpose(0, 1), last, prefix, planes)
        if place is None:
            continue
        if len(output) != batch:
            place = place[0], "tokens first", place[2]
        activation = _activation(calls, index) if before else None
        read, version = (output, call.version) if activation is None else (activation.given, activation.given_version)
        found.pop(call.name, None)  # called again, it is read at its last call
        overwritten = read is not None and read._version != version
        if activation is None:
            signed = overwritten or bool((output < 0).any())
        else:  # before a ReLU, 0 is silence still; other activations let pass what is below
            signed = not overwritten and bool((output[cast(Tensor, read) < 0] != 0).any())
        found[call.name] = Site(call.name, *place, activation and activation.name, overwritten, signed)
    return found


def _members(path: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The children of a module, seen through containers."""
    for name, child in module.named_children():
        inner = f"{path}.{name}" if path else name
        if _is_container(child):
            yield from _members(inner, child)
        else:
            yield inner, child


def _places(network: nn.Module, maps: Iterable[str]) -> tuple[set[str], set[str]]:
    """The names of the blocks of a network, and of the leaves that stand beside or above them."""
    kinds = {name: _kind(network.get_submodule(name)) for name in maps if not _is_leaf(network.get_submodule(name))}
    total = Counter(kinds.values())
    blocks, leaves = set[str](), set[str]()

    def walk(path: str, module: nn.Module) -> None:
        members = list(_members(path, module))
        repeated = any(total[kinds.get(name, "")] > 1 for name, _ in members)
        for name, member in members:
            inside = Counter(kind for inner, kind in kinds.items() if inner.startswith(f"{name}."))
            whole = any(1 < count == total[kind] for kind, count in inside.items())  # holds all blocks of a class
            if _is_leaf(member):
                leaves.add(name)
            elif name in kinds and (total[kinds[name]] > 1 or (repeated and not whole)):
                blocks.add(name)
            else:
                walk(name, member)

    walk("", network)
    return blocks, leaves


def find_layers(network: nn.Module, calls: Sequence[Call], maps: Iterable[str]) -> set[str]:
    """The layers of a network among the modules that give `maps`.

    Containers are descended into, `Sequential`, `ModuleList` and wrappers alike. A layer is a block, the outermost
    module whose class occurs twice or more, or a module beside such ones. Outside of blocks, a convolution with the
    norm and the activation that follow it is one layer and has the name of the last of them; so is a batch norm, or
    an activation, that follows something else. A module that is called several times is read at its last call alone,
    so a layer that ends in an earlier one, as where one activation serves all, has the name of what comes before it.
    """
    blocks, leaves = _places(network, maps)
    found: list[list[Call]] = []
    for call in calls:
        if call.name not in maps or call.name not in blocks | leaves:
            continue
        kind = _kind(call.module)
        follows = bool(found) and found[-1][-1].name in leaves and call.given is found[-1][-1].output
        activation = bool(_ACTIVATION.search(kind))
        if call.name in leaves and follows and (activation or "Norm" in kind):
            found[-1].append(call)
        elif call.name in blocks or activation or "BatchNorm" in kind or "Conv" in kind:
            found.append([call])
    last = {call.name: call for call in calls}
    ends = (next((call for call in reversed(run) if last[call.name] is call), None) for run in found)
    return {call.name for call in ends if call is not None}
