"""r1 and r2 in a feature space made by hand, and their noise."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from neuron_consistency.errors import ParameterError
from neuron_consistency.networks.models import Classifier
from neuron_consistency.networks.reading import read_layers
from neuron_consistency.representation.centroids import class_centroids, distance_ratios, noisy_images
from neuron_consistency.runtime import Runtime
from toys import CPU, ON, assert_same_state, attacked_set, bytes_of, image_set, state_of, toy_images, toy_model


def flat(greys: list[tuple[int, int, int]]) -> Tensor:
    """Images of 8x8 in one colour each."""
    return torch.tensor(greys, dtype=torch.uint8)[:, :, None, None].expand(-1, 3, 8, 8).contiguous()


def colour_space() -> Classifier:
    """phi is the image's colour; two classes, told by the third channel."""
    head = nn.Linear(3, 2)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[0.0, 0.0, -1.0], [0.0, 0.0, 1.0]]))
        head.bias.copy_(torch.tensor([0.5, -0.5]))
    model = Classifier(
        nn.Sequential(nn.Identity(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head), "plain", {"rgb": ("0", 3)}
    )
    model.mean.zero_()
    model.std.fill_(1)
    return model


def test_r1_and_r2_are_the_distances_worked_out_by_hand() -> None:
    """Were numerator and denominator, or true class and target, exchanged, the numbers would be others."""
    model = colour_space()
    train = image_set(
        flat([(0, 0, 0), (100, 0, 0), (0, 200, 200), (0, 200, 200)]), torch.tensor([0, 0, 1, 1]), num_classes=2
    )
    centroids = class_centroids(model, train, ON, pooling="mean")
    assert torch.allclose(centroids * 255, torch.tensor([[50.0, 0, 0], [0, 200, 200]]))
    clean = image_set(flat([(50, 30, 40), (0, 200, 170)]), torch.tensor([0, 1]), num_classes=2)
    made = attacked_set(
        clean, flat([(50, 60, 80), (50, 30, 140), (0, 110, 80)]), torch.tensor([0, 0, 1]), torch.tensor([1, 1, 0])
    )
    before = state_of(model)
    found = distance_ratios(model, clean, made, centroids, ON, pooling="mean")
    assert_same_state(before, model)
    assert found["r1"].tolist() == pytest.approx([100 / 50, math.hypot(30, 140) / 50, 150 / 30], rel=1e-5)
    away = math.hypot(50, 170, 160)
    second = [math.hypot(50, 140, 120) / away, math.hypot(50, 170, 60) / away]
    second.append(math.hypot(50, 110, 80) / math.hypot(50, 200, 170))
    assert found["r2"].tolist() == pytest.approx(second, rel=1e-5)
    assert found["clean"].tolist() == [0, 0, 1]
    assert found["reached everywhere"].tolist() == [True, True, False]  # as the set says
    assert found["reached"].tolist() == [False, True, True]  # the third channel on the target's side of .5


def near_by_hand(model: Classifier, images: Tensor, pooling: str) -> Tensor:
    with read_layers(model, ["last"]) as outputs, torch.no_grad():
        model(images)
    maps = outputs["last"]
    return {"mean": maps.mean((2, 3)), "max": maps.amax((2, 3)), "none": maps.flatten(1)}[pooling]


@pytest.mark.parametrize("pooling", ["mean", "max", "none"])
def test_streaming_equals_all_at_once(pooling: str) -> None:
    """Batches that split the images of one clean image, or hold none of its, must change nothing."""
    model, train, clean = toy_model().eval(), toy_images(40, seed=1), toy_images(12, seed=2)
    generator = torch.Generator().manual_seed(0)
    indices = torch.randint(12, (30,), generator=generator)
    noise = torch.randint(-20, 21, (30, 3, 16, 16), generator=generator)
    pixels = (bytes_of(clean)[indices].int() + noise).clamp(0, 255).to(torch.uint8)
    made = attacked_set(clean, pixels, indices, (clean.labels[indices] + 1) % 4)
    centroids = class_centroids(model, train, Runtime(CPU, "float32", 7), pooling=pooling)
    features = near_by_hand(model, train.batch(torch.arange(40), CPU)[0], pooling)
    expected = torch.stack([features[train.labels == label].mean(0) for label in range(4)])
    assert torch.allclose(centroids, expected, atol=1e-5)
    found = distance_ratios(model, clean, made, centroids, Runtime(CPU, "float32", 5), pooling=pooling)
    moved = near_by_hand(model, made.batch(torch.arange(30), CPU)[0], pooling)
    still = near_by_hand(model, clean.batch(indices, CPU)[0], pooling)
    for name, classes in {"r1": made.labels, "r2": made.targets}.items():
        ratio = (moved - expected[classes]).norm(dim=1) / (still - expected[classes]).norm(dim=1)
        assert found[name].to_numpy() == pytest.approx(ratio.numpy(), rel=1e-3)
    assert found["rmsd noise"].to_numpy() == pytest.approx(found["rmsd"].to_numpy(), rel=0.1)
    assert found["r1 noise"].notna().all()
    assert found["r2 noise"].notna().all()
    again = distance_ratios(model, clean, made, centroids, ON, pooling=pooling)
    pd.testing.assert_frame_equal(found, again, rtol=1e-4)  # the noise too


def test_an_adversarial_image_that_is_its_clean_image_has_ratios_of_one() -> None:
    model, clean = toy_model().eval(), toy_images(12, seed=2)
    made = attacked_set(clean, bytes_of(clean), torch.arange(12), (clean.labels + 1) % 4)
    centroids = class_centroids(model, toy_images(40), ON, pooling="mean")
    found = distance_ratios(model, clean, made, centroids, ON, pooling="mean")
    for name in ("r1", "r2", "r1 noise", "r2 noise"):  # noise of no size is none
        assert found[name].to_numpy() == pytest.approx(np.ones(12), rel=1e-5)


def test_noise_has_the_size_asked_for_and_is_a_file_s() -> None:
    """Noise that were smaller than the attack would make any attack look meaningful."""
    images, rmsd = torch.full((4, 3, 64, 64), 128 / 255), torch.tensor([0.0, 0.01, 0.03, 0.1])
    noisy = noisy_images(images, rmsd, rows=torch.arange(4))
    assert (noisy - images).flatten(1).square().mean(1).sqrt().tolist() == pytest.approx(rmsd.tolist(), rel=0.02)
    assert torch.allclose(noisy * 255, (noisy * 255).round(), atol=1e-4)
    edge = noisy_images(torch.ones(1, 3, 8, 8), torch.tensor([0.5]), rows=torch.tensor([0]))
    assert float(edge.max()) <= 1
    assert float(edge.min()) >= 0


# bad input


def test_a_class_without_training_images_has_no_centroid() -> None:
    images = toy_images(8)
    some = images.subset((images.labels != 2).nonzero().squeeze(1))
    with pytest.raises(ParameterError, match="class 2"):
        class_centroids(toy_model(), some, ON, pooling="mean")


def test_an_unknown_pooling_is_named() -> None:
    with pytest.raises(ParameterError, match=r"median.*mean, max, none"):
        class_centroids(toy_model(), toy_images(8), ON, pooling="median")
