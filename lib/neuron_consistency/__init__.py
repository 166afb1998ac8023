"""Consistent neurons: whether a neuron means one thing, and how to train networks whose neurons do.

The names most used stand here, imported when they are first asked for. The rest is imported from its room, as in
`from neuron_consistency.dissection.measure import dissect`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neuron_consistency.attacks.linf import fgsm as fgsm
    from neuron_consistency.attacks.linf import pgd as pgd
    from neuron_consistency.attacks.predictions import predictions as predictions
    from neuron_consistency.consistency.measure import chance as chance
    from neuron_consistency.consistency.measure import consistency as consistency
    from neuron_consistency.consistency.measure import unbiased_consistency as unbiased_consistency
    from neuron_consistency.data.load import load_images as load_images
    from neuron_consistency.networks.models import build_model as build_model
    from neuron_consistency.networks.wrap import wrap as wrap
    from neuron_consistency.responses import respond as respond
    from neuron_consistency.runtime import Runtime as Runtime
    from neuron_consistency.taxonomy import correlation as correlation
    from neuron_consistency.taxonomy import distance_matrix as distance_matrix
    from neuron_consistency.training.loop import train as train

_HOMES = {
    "fgsm": "attacks.linf",
    "pgd": "attacks.linf",
    "predictions": "attacks.predictions",
    "chance": "consistency.measure",
    "consistency": "consistency",  # the room of that name; called, it is P1's Eq. 3
    "unbiased_consistency": "consistency.measure",
    "load_images": "data.load",
    "build_model": "networks.models",
    "wrap": "networks.wrap",
    "respond": "responses",
    "Runtime": "runtime",
    "correlation": "taxonomy",
    "distance_matrix": "taxonomy",
    "train": "training.loop",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = import_module(f"{__name__}.{_HOMES[name]}")
    return home if name == "consistency" else getattr(home, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
