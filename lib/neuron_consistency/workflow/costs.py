"""What the papers' own sizes would cost, from rates measured on the device at hand."""

import functools
import itertools
import time
from collections.abc import Callable, Mapping, Sequence

import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from neuron_consistency.attacks.stored_set import AdversarialSet
from neuron_consistency.networks.models import build_model

IMAGENET_IMAGES, BRODEN_IMAGES = 1_281_167, 63_305
UNITS = {"normal": 3, "consistent": 7}  # of a forward pass, in a step that shares the clean forward


@functools.cache
def forward_work(architecture: str, *, num_classes: int, image_size: int) -> int:
    """Floating-point operations of the forward pass of one image, a multiplication and an addition each counted.

    Raises:
        ParameterError: unknown architecture.

    Source: counted by PyTorch as the network runs, convolutions and linear maps alone.
    """
    model = build_model(architecture, num_classes=num_classes, image_size=image_size).to("meta").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.empty(1, 3, image_size, image_size, device="meta"))
    return int(counter.get_total_flops())


def _on_devices(images: float, rate: float, *, devices: Sequence[int], price: float) -> list[dict[str, float]]:
    """By number of devices, of `rate` images a second each: images a second of all, hours, cost."""
    alone = images / rate / 3600  # hours of one device, which several share
    return [
        {"devices": count, "images a second": rate * count, "hours": alone / count, "cost": alone * price}
        for count in devices
    ]


def training_costs(
    steps: Mapping[tuple[str, str], float],
    *,
    batch_size: int,
    num_classes: int,
    image_size: int,
    epochs: int,
    devices: Sequence[int],
    price: float,
    networks: Sequence[str] = ("alexnet", "vgg16", "resnet18"),
) -> pd.DataFrame:
    """What it would take to train networks on ImageNet, normally and with P1's Eq. 6, from the time of a step here.

    A step of B images is 3 B forward passes' work in normal training and 7 B with P1's Eq. 6; divided by its time, that
    is the device's rate, which is taken to be the same at full size. On P equal devices then
    hours = images x epochs x work of an image / (rate x P) / 3600 and cost = hours x P x price of an hour.

    Args:
        steps: seconds of a step by architecture and objective ("normal", "consistent").
        batch_size, num_classes, image_size: of the steps measured.
        epochs: of the full training; P1 does not tell its own.
        devices: numbers P of devices like this one.
        price: of one device for an hour.
        networks: architectures; P1's by default. One without a measured step gets the rate of the first that has.

    Returns:
        One row a network and P: network, objective, rate of (the architecture measured), rate (10^9 operations a
        second of one device), devices, images a second (of all), hours, cost.

    Raises:
        ParameterError: unknown architecture.

    Source: ours.
    """
    rows = []
    for network, objective in itertools.product(networks, UNITS):
        known = [architecture for architecture, kind in steps if kind == objective]
        if not known:
            continue
        measured = network if network in known else known[0]
        work = forward_work(measured, num_classes=num_classes, image_size=image_size)
        rate = UNITS[objective] * work * batch_size / steps[measured, objective]
        full = UNITS[objective] * forward_work(network, num_classes=1000, image_size=224)
        row = {"network": network, "objective": objective, "rate of": measured, "rate": rate / 1e9}
        taken = _on_devices(IMAGENET_IMAGES * epochs, rate / full, devices=devices, price=price)
        rows += [row | on_devices for on_devices in taken]
    return pd.DataFrame(rows)


def dissection_costs(
    timed: Mapping[str, tuple[float, int]], *, images: int, devices: Sequence[int], price: float
) -> pd.DataFrame:
    """What it would take to dissect networks on the whole of Broden at 224 pixels, from a dissection on this device.

    The time is taken to grow with the number of images and of pixels; that maps of many images are not kept between
    passes is left out. Hours and cost are as in `training_costs`.

    Args:
        timed: by network, the seconds of its dissection with all controls, and the side of the images shown to it.
        images: of the set dissected.
        devices, price: as in `training_costs`.

    Returns:
        One row a network and P: network, devices, images a second (of all, at 224 pixels), hours, cost.

    Source: ours.
    """
    rows = []
    for network, (seconds, image_size) in timed.items():
        rate = images / seconds * (image_size / 224) ** 2
        taken = _on_devices(BRODEN_IMAGES, rate, devices=devices, price=price)
        rows += [{"network": network} | row for row in taken]
    return pd.DataFrame(rows)


def paired_seconds(work: Mapping[str, Callable[[], object]], *, repeats: int, device: torch.device) -> pd.DataFrame:
    """Seconds of each piece of work, run in turns (A B A B ...), so that a slow moment hits all alike.

    Args:
        work: what is timed, by name; the first is what the others are compared with.
        repeats: rounds, after one that is not counted.
        device: synchronised before each reading of the clock.

    Returns:
        One row a piece of work: median seconds, and the median over the rounds of its ratio to the first, with
        the ratios' quartiles.
    """

    def seconds(call: Callable[[], object]) -> float:
        started = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - started

    rounds = [{name: seconds(call) for name, call in work.items()} for _ in range(1 + repeats)][1:]
    table = pd.DataFrame(rounds)
    ratios = table.div(table.iloc[:, 0], axis=0)
    quartiles = {"ratio": 0.5, "ratio, lower quartile": 0.25, "ratio, upper quartile": 0.75}
    found = {"seconds": table.median()} | {name: ratios.quantile(share) for name, share in quartiles.items()}
    return pd.DataFrame(found).rename_axis("work")


def full_size_table(
    adversarial: AdversarialSet, *, images: int = 500_000, image_size: int = 224, devices: Sequence[int], price: float
) -> pd.DataFrame:
    """What a larger set would take, from the rate at which this one was written.

    The rate is taken to fall with the number of pixels, as the work of a convolution does. An image holds 3 S^2 bytes
    of pixels, 28 of numbers and one for every network. Hours and cost are as in `training_costs`.

    Args:
        adversarial: a set whose writing was timed.
        images, image_size: of the larger set; the paper's by default.
        devices, price: as in `training_costs`, of devices like the one that wrote this set.

    Returns:
        One row a P: devices, measured on (images), images a second (of all devices, at the larger size), hours, GB,
        cost.

    Source: ours.
    """
    rate = adversarial.rate * (adversarial.image_size / image_size) ** 2
    table = pd.DataFrame(_on_devices(images, rate, devices=devices, price=price))
    table.insert(1, "measured on", len(adversarial))
    table.insert(4, "GB", images * (3 * image_size**2 + 28 + len(adversarial.networks)) / 1e9)
    return table
