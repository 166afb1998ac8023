"""What the layers of a network respond, read by hooks, in eval mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from neuron_consistency.networks.models import Classifier


@contextmanager
def read_layers(model: Classifier, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Within the context, every forward pass of `model` leaves the outputs of the layers `names` in the dict.

    The hooks are gone when the context ends, after an exception too.

    Shape:
        each output: (B, channels, h, w).

    Raises:
        ParameterError: the model has no layer of that name.
    """
    outputs: dict[str, Tensor] = {}

    def keeper(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def keep(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            outputs[name] = output

        return keep

    modules = [(name, model.layer_module(name)) for name in names]
    handles = [module.register_forward_hook(keeper(name)) for name, module in modules]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Within the context `model` is in eval mode; then, after an exception too, in the mode it was in."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def class_sums(features: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """The sum of the features of each class, and how many there are.

    Shape:
        features: (B, D); labels: (B,) int64; result: (K, D) and (K,), float64.
    """
    sums = torch.zeros(classes, features.shape[1], dtype=torch.float64, device=features.device)
    return sums.index_add_(0, labels, features.double()), labels.bincount(minlength=classes).double()
