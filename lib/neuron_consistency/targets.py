"""The classes that adversarial images are to be taken for: how they are chosen, and how often they are reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor

from neuron_consistency.attacks.stored_set import AdversarialSet
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.errors import ParameterError
from neuron_consistency.networks.models import Classifier
from neuron_consistency.responses import respond
from neuron_consistency.statistics import share


def success_table(
    adversarial: AdversarialSet,
    models: Mapping[str, Classifier],
    clean: ImageSet,
    *,
    device: torch.device,
    batch_size: int = 256,
    precision: str = "auto",
) -> pd.DataFrame:
    """How often the networks that the set was made on say the target: one row each, and one for all of them at once.

    Columns: network, images; `reached`, `reached low`, `reached high`, in per cent (see `share`); `reached clean`,
    its chance level, how often the clean image is taken for the target already; `RMSD` and `RMSD of 255`, means over
    the images that reached their target.

    Args:
        adversarial: the set, whose stored success is read.
        models: its networks, by key.
        clean: the images it was made from.
        device: where.
        batch_size: images a forward pass.
        precision: of the forward passes over the clean images.

    Raises:
        ParameterError: `clean` is another set, or a network is missing.

    Source: P2 reports RMSD; chance levels and intervals are ours.
    """
    _check_clean(adversarial, clean)
    if missing := [name for name in adversarial.networks if name not in models]:
        raise ParameterError(f"the set was made on {', '.join(missing)} too: hand in all of its networks")
    names, before = adversarial.networks, []
    for name in names:
        said = _said(models[name], clean, device=device, batch_size=batch_size, precision=precision)
        before.append(said[adversarial.indices] == adversarial.targets)
    reached = [*adversarial.success.unbind(1), adversarial.success.all(1)]
    rows = []
    for name, after, unattacked in zip([*names, "all"], reached, [*before, torch.stack(before).all(0)], strict=True):
        rmsd = float(adversarial.rmsd[after].mean())
        row = {"network": name, "images": len(after), **_shares("reached", after, unattacked, adversarial.indices)}
        rows.append(row | {"RMSD": rmsd, "RMSD of 255": 255 * rmsd})
    return pd.DataFrame(rows)


def transfer_table(
    adversarial: AdversarialSet,
    models: Mapping[str, Classifier],
    clean: ImageSet,
    *,
    device: torch.device,
    batch_size: int = 256,
    precision: str = "auto",
) -> pd.DataFrame:
    """What networks say of a set that was made without them: one row each.

    Columns: network, images; `reached` (they say the target), `wrong` (any class but the true one), each in per
    cent with its interval, as `reached low` and `reached high` (see `share`), and with its chance level `reached
    clean`, the share of the clean images.

    Args:
        adversarial: the set.
        models: the networks left out of its ensemble, by key.
        clean: the images it was made from.
        device: where.
        batch_size: images a forward pass.
        precision: of the forward passes.

    Raises:
        ParameterError: `clean` is another set, or a network is one of the ensemble.
    """
    _check_clean(adversarial, clean)
    if own := [name for name in models if name in adversarial.networks]:
        raise ParameterError(f"the set was made on {', '.join(own)}: transfer is to other networks, see success_table")
    rows = []
    for name, model in models.items():
        after, before = (
            _said(model, images, device=device, batch_size=batch_size, precision=precision)
            for images in (adversarial, clean)
        )
        before, aims, labels = before[adversarial.indices], adversarial.targets, adversarial.labels
        reached = _shares("reached", after == aims, before == aims, adversarial.indices)
        wrong = _shares("wrong", after != labels, before != labels, adversarial.indices)
        rows.append({"network": name, "images": len(after), **reached, **wrong})
    return pd.DataFrame(rows)


def full_size_table(
    adversarial: AdversarialSet, *, images: int = 500_000, image_size: int = 224, devices: Sequence[int], price: float
) -> pd.DataFrame:
    """What a larger set would take, from the rate at which this one was written.

    On P equal devices, hours = images / (rate x P) / 3600 and cost = hours x P x price. The rate is taken to fall with
    the number of pixels, as the work of a convolution does. An image holds 3 S^2 bytes of pixels, 28 of
    numbers and one for every network.

    Args:
        adversarial: a set whose writing was timed.
        images, image_size: of the larger set; the paper's by default.
        devices: numbers P of devices like the one that wrote this set.
        price: of one device for an hour.

    Returns:
        One row a P: devices, measured on (images), images a second (of all devices, at the larger
        size), hours, GB, cost.

    Source: ours.
    """
    rate = adversarial.rate * (adversarial.image_size / image_size) ** 2
    size = 3 * image_size**2 + 28 + len(adversarial.networks)
    return pd.DataFrame(
        {
            "devices": count,
            "measured on": len(adversarial),
            "images a second": rate * count,
            "hours": images / (rate * count) / 3600,
            "GB": images * size / 1e9,
            "cost": images / rate / 3600 * price,
        }
        for count in devices
    )


def _shares(title: str, after: Tensor, before: Tensor, clusters: Tensor) -> dict[str, float]:
    found = share(after, clusters, whole=100).row(title)
    return found | {f"{title} clean": 100 * float(before.float().mean())}


def _said(model: Classifier, images: ImageSet, *, device: torch.device, batch_size: int, precision: str) -> Tensor:
    """What the model says of every image, on the CPU (N,)."""
    passed = respond(model, images, device=device, layers=[], top_k=1, batch_size=batch_size, precision=precision)
    return passed.predictions


def _check_clean(adversarial: AdversarialSet, clean: ImageSet) -> None:
    if clean.fingerprint != adversarial.source:
        raise ParameterError(f"{clean.name} ({clean.split}) is not the set that the adversarial images were made from")
