"""What no attack takes: settings, images, labels and networks that would give a wrong image in silence, or none."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from neuron_consistency.attacks.linf import fgsm, least_likely, linf_attack, pgd, sign_noise
from neuron_consistency.attacks.targeted import optimise_targeted
from neuron_consistency.errors import ParameterError
from neuron_consistency.networks.models import Classifier
from toys import toy_images

LABELS = torch.tensor([0, 1])
ATTACKS: dict[str, Callable[[nn.Module, Tensor], object]] = {
    "FGSM": lambda model, images: fgsm(model, images, LABELS, epsilon=0.1),
    "PGD": lambda model, images: pgd(model, images, LABELS, epsilon=0.1, steps=2),
    "least likely class": lambda model, images: least_likely(model, images, epsilon=0.1),
    "noise": lambda _, images: sign_noise(images, epsilon=0.1),
    "Eq. 4": lambda model, images: optimise_targeted([model], images, LABELS, steps=1),
}


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"epsilon": -0.1}, r"epsilon=-0\.1: .* share of the pixel range \(8 / 255\)"),
        ({"epsilon": 8}, "epsilon=8: .*at most 1"),
        ({"epsilon": math.nan}, "epsilon=nan"),
        ({"epsilon": "8/255"}, "epsilon='8/255'"),
        ({"step_size": -1.0}, r"step_size=-1\.0"),
        ({"steps": -1}, "steps=-1: a whole number of 0 or more"),
        ({"steps": True}, "steps=True: a whole number"),
        ({"steps": 2.0}, r"steps=2\.0: a whole number"),
    ],
)
def test_settings_out_of_range_are_refused(bad: dict[str, Any], says: str, trained_toy: Classifier) -> None:
    """An epsilon of 8 would make white and black images; a NaN none at all."""
    settings: dict[str, Any] = {"epsilon": 0.1, "step_size": 0.1, "steps": 1} | bad
    with pytest.raises(ParameterError, match=says):
        linf_attack(trained_toy, torch.rand(2, 3, 8, 8), LABELS, **settings)


def test_numbers_of_numpy_are_numbers(trained_toy: Classifier) -> None:
    batch = toy_images(2).batch(torch.arange(2), torch.device("cpu"))
    given: dict[str, Any] = {"epsilon": np.float32(0.1), "step_size": 0.1, "steps": np.int64(1)}
    assert torch.allclose(linf_attack(trained_toy, *batch, **given), fgsm(trained_toy, *batch, epsilon=0.1), atol=1e-6)


RAND = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
REFUSED_IMAGES = {
    "bytes as floats": RAND * 255,
    "normalised": (RAND - 0.45) / 0.22,
    "bytes": (RAND * 255).byte(),
    "NaN": RAND * math.nan,
    "one image without a batch": RAND[0],
}


@pytest.mark.parametrize("kind", REFUSED_IMAGES)
@pytest.mark.parametrize("name", ATTACKS)
def test_images_of_another_range_are_refused(kind: str, name: str, trained_toy: Classifier) -> None:
    """All that is outside of [0, 1] would be cut off in silence, and a white image pass for an adversarial one."""
    with pytest.raises(ParameterError, match=r"floats \(B, 3, H, W\) in \[0, 1\]"):
        ATTACKS[name](trained_toy, REFUSED_IMAGES[kind])


def test_what_is_no_tensor_is_told(trained_toy: Classifier) -> None:
    with pytest.raises(ParameterError, match="images are a ndarray"):
        fgsm(trained_toy, RAND.numpy(), LABELS, epsilon=0.1)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="labels are a list"):
        fgsm(trained_toy, RAND, [0, 1], epsilon=0.1)  # type: ignore[arg-type]


def test_rounding_of_images_is_no_other_range(trained_toy: Classifier) -> None:
    fgsm(trained_toy, torch.tensor([-1e-6, 1 + 1e-6]).view(2, 1, 1, 1).expand(2, 3, 8, 8), LABELS, epsilon=0)


@pytest.mark.parametrize(
    "labels",
    [torch.tensor([0, 4]), torch.tensor([-1, 0]), torch.tensor([0]), torch.tensor([0.0, 1.0]), torch.zeros(2, 3)],
)
def test_labels_that_are_no_classes_are_refused(labels: Tensor, trained_toy: Classifier) -> None:
    """On a GPU they end the whole process."""
    with pytest.raises(ParameterError, match="one int64 from 0 to 3 for each image"):
        fgsm(trained_toy, RAND, labels, epsilon=0.1)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda images: {"logits": images.mean((2, 3))}, r"gives a dict, not logits"),
        (lambda images: images, r"shape \(2, 3, 8, 8\), not logits"),
        (lambda images: images.detach().mean((2, 3)), "no gradient reaches the images"),
        (lambda images: torch.zeros(2, 3, requires_grad=True), "no gradient reaches the images"),
    ],
)
def test_networks_that_cannot_be_attacked_are_told(change: Any, says: str) -> None:
    class Changed(nn.Module):
        def forward(self, images: Tensor) -> Any:
            return change(images)

    with pytest.raises(ParameterError, match=says):
        fgsm(Changed(), RAND, LABELS, epsilon=0.1)
