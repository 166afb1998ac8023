"""What the full papers would cost: counted work, a measured rate, and nothing else."""

from __future__ import annotations

import pytest

from neuron_consistency.errors import ParameterError
from neuron_consistency.workflow.costs import (
    BRODEN_IMAGES,
    IMAGENET_IMAGES,
    dissection_costs,
    forward_work,
    full_size_table,
    training_costs,
)

STEP = {"batch_size": 10, "num_classes": 1000, "image_size": 224, "price": 2.0}


def test_the_work_of_a_network_is_what_is_known_of_it() -> None:
    """ResNet-18 at 224 pixels: 1.814 G multiply-adds, as published with its weights."""
    assert forward_work("resnet18", num_classes=1000, image_size=224) == pytest.approx(2 * 1.814e9, rel=1e-3)
    with pytest.raises(ParameterError, match="resnet19"):
        forward_work("resnet19", num_classes=10, image_size=64)


def test_a_step_at_full_size_gives_the_full_trainings_time_without_a_model_of_it() -> None:
    """Measured at the full size itself, work cancels out: hours are images times epochs over images a second."""
    steps = {("resnet18", "normal"): 5.0, ("resnet18", "consistent"): 12.5}
    rows = training_costs(steps, epochs=90, devices=[1, 8], networks=["resnet18"], **STEP)  # type: ignore[arg-type]
    assert rows["images a second"].to_list() == pytest.approx([2, 16, 0.8, 6.4])
    hours = IMAGENET_IMAGES * 90 / 2 / 3600
    assert rows["hours"].to_list()[:2] == pytest.approx([hours, hours / 8])
    assert rows["cost"].to_list()[:2] == pytest.approx([2 * hours] * 2)


def test_a_network_without_a_step_takes_the_rate_of_one_that_has() -> None:
    rows = training_costs({("resnet18", "normal"): 5.0}, epochs=1, devices=[1], **STEP)  # type: ignore[arg-type]
    rows = rows.set_index("network")
    assert set(rows["rate of"]) == {"resnet18"}
    assert set(rows["objective"]) == {"normal"}
    assert rows["rate"].nunique() == 1
    more = [forward_work(name, num_classes=1000, image_size=224) for name in ("vgg16", "resnet18")]
    assert rows["hours"]["vgg16"] / rows["hours"]["resnet18"] == pytest.approx(more[0] / more[1])


def test_brodens_time_follows_from_images_and_pixels() -> None:
    """Each network by the pixels that it was shown: as long for a quarter of them is four times as slow."""
    timed = {"small": (10.0, 112), "full": (10.0, 224)}
    rows = dissection_costs(timed, images=100, devices=[1, 4], price=3.0)
    assert rows["images a second"].to_list() == [2.5, 10, 10, 40]
    hours = [BRODEN_IMAGES / rate / 3600 for rate in (2.5, 10, 10, 40)]
    assert rows["hours"].to_list() == pytest.approx(hours)
    assert rows["cost"].to_list() == pytest.approx([3 * hours[0]] * 2 + [3 * hours[2]] * 2)


def test_full_size_by_hand() -> None:
    """Ten images a second of 112 px are 2.5 of 224 px: half a million take 55.6 hours, on eight devices an eighth."""

    class Written:
        rate, image_size, networks = 10.0, 112, ("a", "b")

        def __len__(self) -> int:
            return 40

    table = full_size_table(Written(), devices=[1, 8], price=2.0)  # type: ignore[arg-type]
    assert table["images a second"].tolist() == [2.5, 20.0]
    assert table["hours"].tolist() == pytest.approx([55.5556, 6.9444], abs=1e-4)
    assert table["cost"].tolist() == pytest.approx([111.111, 111.111], abs=1e-3)
    assert table["GB"].tolist() == pytest.approx([500_000 * (3 * 224**2 + 30) / 1e9] * 2)
