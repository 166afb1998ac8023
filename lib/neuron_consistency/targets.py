"""The classes that adversarial images are to be taken for: how they are chosen, and how often they are reached."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from neuron_consistency.attacks.stored_set import AdversarialSet


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
