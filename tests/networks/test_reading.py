"""A network read through hooks, and the one pass over a set: what it yields, and that it leaves nothing behind."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neuron_consistency.attacks.linf import fgsm
from neuron_consistency.attacks.predictions import predictions
from neuron_consistency.consistency.measure import chance, consistency
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.errors import ParameterError
from neuron_consistency.networks.models import Classifier
from neuron_consistency.networks.reading import class_sums, each_batch, evaluating, over, read_layers
from neuron_consistency.responses import respond
from neuron_consistency.runtime import Runtime
from toys import CPU, assert_same_state, image_set, state_of, toy_images, toy_model

ON = Runtime(CPU, "float32", 9)


def test_outputs_are_those_of_the_latest_forward_and_hooks_end() -> None:
    model = toy_model().eval()
    before = state_of(model)
    with read_layers(model, ["first", "last"]) as outputs:
        model(torch.rand(1, 3, 8, 8))
        model(torch.rand(3, 3, 8, 8))
    assert outputs["last"].shape == (3, 12, 4, 4)
    assert_same_state(before, model)


def test_hooks_end_after_an_exception() -> None:
    model = toy_model().eval()
    before = state_of(model)
    with pytest.raises(RuntimeError, match="expanded size"), read_layers(model, ["last"]):
        model(torch.rand(1, 3, 8, 8)).expand(2, 9)
    assert_same_state(before, model)


def test_an_unknown_layer_leaves_no_hook_on_the_known_ones() -> None:
    model = toy_model()
    before = state_of(model)
    with pytest.raises(ParameterError, match="no layer 'nowhere'"), read_layers(model, ["last", "nowhere"]):
        pass
    assert_same_state(before, model)


@pytest.mark.parametrize("training", [True, False])
def test_evaluating_gives_the_mode_back_after_an_exception_too(training: bool) -> None:
    model = toy_model().train(training)

    def measure() -> None:
        with evaluating(model):
            assert not any(module.training for module in model.modules())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        measure()
    assert all(module.training == training for module in model.modules())


def test_a_pass_yields_every_image_once_as_the_network_saw_it(trained_toy: Classifier) -> None:
    """Places, labels, logits and maps belong together, whatever the batches; the last one is not full."""
    images = toy_images(20, seed=3)
    seen = list(over(trained_toy, images, ON, layers=["first", "last"]))
    assert [len(batch.places) for batch in seen] == [9, 9, 2]
    assert torch.equal(torch.cat([batch.places for batch in seen]), torch.arange(20))
    batch, labels = images.batch(torch.arange(20), CPU)
    with read_layers(trained_toy, ["first", "last"]) as maps, torch.no_grad():
        logits = trained_toy(batch)
    assert torch.equal(torch.cat([part.labels for part in seen]), labels)
    assert torch.equal(torch.cat([part.images for part in seen]), batch)
    assert torch.allclose(torch.cat([part.logits for part in seen]), logits, atol=1e-5)
    for name, expected in maps.items():
        assert torch.allclose(torch.cat([part.maps[name] for part in seen]), expected, atol=1e-5), name
    assert not any(part.logits.requires_grad for part in seen)


def test_an_attacked_pass_shows_the_attacked_images(trained_toy: Classifier) -> None:
    """The attack sees eval mode too: batch statistics of the attacked images would leak into the network."""
    modes: list[bool] = []

    def attack(model: nn.Module, batch: Tensor, labels: Tensor) -> Tensor:
        modes.append(model.training)
        return fgsm(model, batch, labels, epsilon=0.1)

    images, model = toy_images(20, seed=3), trained_toy.train()
    for seen in over(model, images, ON, attack=attack):
        clean, labels = images.batch(seen.places, CPU)
        model.eval()
        assert torch.equal(seen.images, fgsm(model, clean, labels, epsilon=0.1))
        model.train()
    assert modes == [False] * 3


@pytest.mark.parametrize("training", [True, False])
def test_nothing_stays_open_between_batches(training: bool, fresh_images: ImageSet) -> None:
    """A caller that stops after a batch, or fails in one, has the model as it was, without hooks or autocast."""
    model = toy_model().train(training)
    before = state_of(model)
    on = Runtime(CPU, "bfloat16", 9)
    for seen in over(model, fresh_images, on, layers=["last"]):
        assert seen.maps["last"].dtype == torch.bfloat16
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
        assert_same_state(before, model)
        break

    def broken(_places: Tensor, _batch: Tensor, _labels: Tensor) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(each_batch(model, fresh_images, on, broken))
    with pytest.raises(ParameterError, match="no layer 'nowhere'"):
        list(over(model, fresh_images, on, layers=["nowhere"]))
    assert_same_state(before, model)


def test_class_sums_by_hand() -> None:
    """Classes without an image have a sum and a number of zero."""
    sums, numbers = class_sums(torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), torch.tensor([2, 0, 2]), 4)
    assert sums.tolist() == [[3, 4], [0, 0], [6, 8], [0, 0]]
    assert numbers.tolist() == [1, 0, 2, 0]


def test_a_frozen_norm_stays_frozen() -> None:
    """A measure in the middle of a training would else thaw the batch norm that the training holds still."""
    model = toy_model().train()
    frozen = next(module for module in model.modules() if isinstance(module, nn.BatchNorm2d)).eval()
    with evaluating(model):
        assert not any(module.training for module in model.modules())
    assert model.training
    assert not frozen.training


def test_a_layer_that_is_not_called_is_named() -> None:
    """Else a network of several ways, or a compiled one, ends in a KeyError."""
    model = toy_model()
    model.network.add_module("aside", nn.Identity())
    model.network.forward = lambda images: nn.Sequential(*[*model.network][:-1])(images)  # type: ignore
    model.sites["last"] = model.sites["last"]._replace(path="aside")
    with pytest.raises(ParameterError, match="the layer last is not called for every image"):
        next(over(model, toy_images(8), Runtime(CPU, "float32"), layers=["last"]))


BYTES = torch.zeros(4, 3, 16, 16, dtype=torch.uint8)
LABELS = torch.arange(4)


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (image_set(BYTES[:0], LABELS[:0], num_classes=4), "holds no images"),
        (image_set(torch.rand(4, 3, 16, 16), LABELS, num_classes=4), r"pixels of toy \(train\) are torch.float32"),
        (image_set(BYTES, LABELS, num_classes=3), "labels .* from 0 to 3: int64 from 0 to 2"),
        (image_set(BYTES, LABELS - 1, num_classes=4), "labels .* from -1 to 2"),
        (image_set(BYTES, LABELS.float(), num_classes=4), "labels .* are torch.float32"),
    ],
)
def test_sets_in_which_nothing_can_be_measured_are_refused(images: ImageSet, says: str) -> None:
    """Pixels of 0 to 1 would be black images, and a label too many another neuron's count."""
    for measure in (respond, predictions):
        with pytest.raises(ParameterError, match=says):
            measure(toy_model(), images, ON)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("model", "options", "says"),
    [
        (toy_model(num_classes=9), {}, "9 outputs, more than the 4 classes"),
        (toy_model(), {"thresholds": {}}, "thresholds of the 12 neurons of last"),
        (toy_model().network, {}, "neurons are read of a Classifier"),
    ],
)
def test_networks_that_do_not_go_with_the_images_are_refused(model: Any, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        respond(model, image_set(BYTES, LABELS, num_classes=4), ON, **options)


@pytest.mark.parametrize(
    ("counts", "correlation"),
    [(3, torch.eye(4)), (4, torch.full((4, 4), 7.0)), (4, torch.full((4, 4), torch.nan)), (4, torch.ones(4))],
)
def test_a_correlation_of_other_classes_or_of_distances_is_refused(counts: int, correlation: Tensor) -> None:
    with pytest.raises(ParameterError, match=r"must be \(K, K\) and in \[0, 1\]"):
        consistency(torch.ones(5, counts), correlation)


@pytest.mark.parametrize("labels", [torch.tensor([0, 9]), torch.tensor([0, -1]), torch.tensor([0.0, 1.0])])
def test_chance_of_labels_that_are_no_classes_is_refused(labels: Tensor) -> None:
    with pytest.raises(ParameterError, match="0 to 3 are needed"):
        chance(labels, torch.eye(4))
