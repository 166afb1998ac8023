"""The weights of training images: v = 1 - E for every image, in its place, whatever the batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.errors import ParameterError
from neuron_consistency.explanation.measure import explanation_consistency
from neuron_consistency.explanation.weighting import QUANTILES, Weighed, Weighting, weigh
from neuron_consistency.networks.models import Classifier
from neuron_consistency.runtime import Runtime
from toys import CPU, ON, assert_same_state, state_of, toy_images


@pytest.mark.parametrize("size", [5, 48, 100])
def test_weights_are_one_minus_e_of_each_image_in_any_batches(trained_toy: Classifier, size: int) -> None:
    images = toy_images(48, seed=3)
    batch, labels = images.batch(torch.arange(48), CPU)
    weighting = Weighting(epsilon=0.1, threshold=0.4, distance="iou")
    expected = explanation_consistency(trained_toy, batch, labels, weighting)
    found = weigh(trained_toy, images, weighting, Runtime(CPU, "float32", size))
    assert torch.allclose(found.weights, 1 - expected.consistency, atol=1e-5)
    assert torch.equal(found.flipped, expected.flipped)
    assert torch.allclose(found.spared, expected.mask.float().mean((1, 2, 3)))
    assert float(found.weights.std()) > 0


def test_a_flip_weighs_one_exactly(trained_toy: Classifier) -> None:
    found = weigh(trained_toy, toy_images(48), Weighting(epsilon=0.5, threshold=0.9), ON)
    assert found.flipped.any()
    assert bool((found.weights[found.flipped] == 1).all())


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was_and_weighed_in_eval_mode(trained_toy: Classifier, training: bool) -> None:
    trained_toy.train(training)
    before = state_of(trained_toy)
    first = weigh(trained_toy, toy_images(24), Weighting(), ON)
    assert_same_state(before, trained_toy)
    second = weigh(trained_toy.eval(), toy_images(24), Weighting(), ON)
    assert torch.equal(first.weights, second.weights)


def test_normalised_weights_have_mean_one_and_the_same_proportions() -> None:
    consistency = torch.tensor([0.0, 0.5, 0.9, 1.0])
    plain, even = Weighting().weights(consistency), Weighting(normalise=True).weights(consistency)
    assert plain.tolist() == pytest.approx([1.0, 0.5, 0.1, 0.0])
    assert float(even.mean()) == pytest.approx(1.0)
    assert torch.allclose(even / even[0], plain / plain[0])


def test_what_has_no_e_or_no_mean_weighs_one() -> None:
    """An image that could not be read; a set where every explanation holds, which normalised would be 0 / 0."""
    assert Weighting().weights(torch.tensor([torch.nan, 0.25])).tolist() == [1.0, 0.75]
    assert Weighting(normalise=True).weights(torch.ones(3)).tolist() == [1.0, 1.0, 1.0]
    assert Weighting().weights(torch.ones(3)).tolist() == [0.0, 0.0, 0.0]


@dataclass(frozen=True)
class Masked(ImageSet):
    """Toy images whose left half is their object."""

    def masks(self, indices: Tensor) -> Tensor:
        found = torch.zeros(len(indices), 1, self.image_size, self.image_size, dtype=torch.bool)
        found[..., : self.image_size // 2] = True
        return found


def test_the_true_mask_is_the_one_the_attack_spares(trained_toy: Classifier) -> None:
    images = toy_images(20)
    masked = Masked(**{name: getattr(images, name) for name in images.__dataclass_fields__})
    batch, labels = images.batch(torch.arange(20), CPU)
    expected = explanation_consistency(trained_toy, batch, labels, mask=masked.masks(torch.arange(20)))
    found = weigh(trained_toy, masked, Weighting(mask="truth"), Runtime(CPU, "float32", 7))
    own = weigh(trained_toy, masked, Weighting(), ON)
    assert torch.allclose(found.consistency, expected.consistency, atol=1e-5)
    assert not torch.allclose(found.consistency, own.consistency, atol=1e-3)


def test_the_layer_that_explains_is_the_one_named(trained_toy: Classifier) -> None:
    images = toy_images(12)
    last, first = (weigh(trained_toy, images, Weighting(layer=layer), ON) for layer in (None, "first"))
    assert not torch.allclose(last.weights, first.weights)


def test_the_row_tells_the_distribution_of_e() -> None:
    consistency = torch.cat([torch.linspace(0, 1, 101), torch.tensor([torch.nan])])
    spared = torch.cat([torch.tensor([0.0, 1.0, 1.0]), torch.full((98,), 0.5), torch.tensor([torch.nan])])
    row = Weighed(Weighting().weights(consistency), consistency, consistency < 0.095, spared).row()
    assert row["consistency_quantiles"] == pytest.approx(list(QUANTILES))
    assert row["consistency"] == pytest.approx(0.5)
    assert row["flipped"] == pytest.approx(10 / 102)
    assert row["mean_weight"] == pytest.approx((101 * 0.5 + 1) / 102)
    assert (row["spared"], row["unmarked"], row["covered"]) == pytest.approx((51 / 101, 1 / 102, 2 / 102))


def test_images_that_no_attack_can_reach_weigh_nothing_and_are_counted(trained_toy: Classifier) -> None:
    """A threshold of 0 covers every image that is marked at all; a network of zero weights marks none."""
    found = weigh(trained_toy, toy_images(12), Weighting(threshold=0.0), ON)
    row = found.row()
    assert row["covered"] + row["unmarked"] == 1
    assert bool((found.weights[found.spared == 1] == 0).all())
    with torch.no_grad():
        for parameter in trained_toy.parameters():
            parameter.zero_()
    blind = weigh(trained_toy, toy_images(12), Weighting(), ON)
    assert blind.row()["unmarked"] == 1
    assert blind.weights.tolist() == [0.0] * 12


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({"warm_up": -1}, "warm_up=-1"),
        ({"period": 0}, "period=0"),
        ({"steps": 0}, "steps=0"),
        ({"epsilon": -0.1}, r"epsilon=-0\.1"),  # as a Probe
    ],
)
def test_values_out_of_range_are_named(bad: dict[str, Any], named: str) -> None:
    with pytest.raises(ParameterError, match=named):
        Weighting(**bad)
