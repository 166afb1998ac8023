"""Prediction difference: the rest of any network, and exact by each way of computing it."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from neuron_consistency.errors import ParameterError
from neuron_consistency.networks.models import ARCHITECTURES, Classifier, build_model
from neuron_consistency.networks.reading import read_layers
from neuron_consistency.tracing import influence
from neuron_consistency.tracing.influence import log_odds, prediction_difference, rest_of_network
from planted_linear import linear_model
from toys import CPU, assert_same_state, state_of, toy_images, toy_model

CLOSED = {  # pooling and one linear map
    *((name, 64) for name in ("alexnet", "vgg16", "resnet18", "resnet50")),
    *((name, 224) for name in ("resnet18", "resnet50")),
}


@pytest.fixture(scope="module", params=[(name, size) for name in sorted(ARCHITECTURES) for size in (64, 224)])
def network(request: pytest.FixtureRequest) -> tuple[Classifier, int]:
    """Each architecture in its small form and in torchvision's."""
    name, size = request.param
    return build_model(name, num_classes=6, image_size=size).eval(), size


def by_hand(model: Classifier, images: Tensor, layer: str, channels: list[int]) -> Tensor:
    """p(y | x) - p(y | x without the channel), the whole network run again with a hook that empties the channel."""
    with torch.no_grad():
        whole = model(images).softmax(1)
        classes = whole.argmax(1, keepdim=True)
        columns = []
        for channel in channels:

            def empty(_module: nn.Module, _inputs: object, output: Tensor, channel: int = channel) -> Tensor:
                output = output.clone()
                output[:, channel] = 0
                return output

            handle = model.layer_module(layer).register_forward_hook(empty)
            columns.append(whole.gather(1, classes) - model(images).softmax(1).gather(1, classes))
            handle.remove()
    return torch.cat(columns, 1)


def test_the_rest_after_every_layer_ends_in_the_same_logits(network: tuple[Classifier, int]) -> None:
    """Were an operation between the layer and the logits lost or doubled, no influence would be right."""
    model, _ = network
    before = state_of(model)
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        with read_layers(model, list(model.layers)) as outputs:
            logits = model(images)
        for layer in model.layers:
            assert torch.allclose(rest_of_network(model, layer)(outputs[layer]), logits, atol=1e-5), layer
    assert_same_state(before, model)


def test_the_closed_form_is_found_where_it_holds(network: tuple[Classifier, int]) -> None:
    """Taken after a layer with convolutions or several linear maps behind it, it would be wrong."""
    model, size = network
    for layer in model.layers:
        holds = layer == model.last_layer and (model.architecture, size) in CLOSED
        assert (rest_of_network(model, layer).head is not None) == holds, layer


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
@pytest.mark.parametrize("form", ["probability", "log_odds"])
def test_closed_form_and_rerun_agree(architecture: str, form: str) -> None:
    model = build_model(architecture, num_classes=6, image_size=64).eval()
    images = torch.rand(2, 3, 64, 64)
    *_, linear = (module for module in model.modules() if isinstance(module, nn.Linear))
    with torch.no_grad():
        linear.weight /= model(images).std()  # of a network too sure, no channel moves the probability
    closed, rerun = (prediction_difference(model, images, form=form, method=m) for m in ("closed", "rerun"))
    assert torch.equal(prediction_difference(model, images, form=form), closed)
    assert (closed - rerun).abs().max() < 1e-5
    assert closed.abs().max() > 1e-5


@pytest.mark.parametrize("layer", ["first", "last"])
def test_every_channel_is_as_by_hand(layer: str, trained_toy: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    """The definition itself: one channel emptied at a time, the whole network run again."""
    monkeypatch.setattr(influence, "CHANNELS_AT_ONCE", 5)  # in several passes
    images = toy_images(6, seed=9).batch(torch.arange(6), CPU)[0]
    found = prediction_difference(trained_toy, images, layer)
    assert torch.allclose(found, by_hand(trained_toy, images, layer, list(range(found.shape[1]))), atol=1e-5)


def test_a_middle_layer_of_a_residual_network_is_as_by_hand() -> None:
    model = build_model("resnet18", num_classes=6, image_size=64).eval()
    images = torch.rand(2, 3, 64, 64)
    found = prediction_difference(model, images, "layer3")
    assert torch.allclose(found[:, [0, 7, 200]], by_hand(model, images, "layer3", [0, 7, 200]), atol=1e-5)


def test_the_planted_channel_is_the_influential_one() -> None:
    """Class 0 is said because of red alone; green speaks against it; blue is worth nothing."""
    model = linear_model(torch.tensor([[4.0, -1.0, 0.0], [0.0, 1.0, 0.0]]))
    images = torch.tensor([0.9, 0.3, 0.8])[None, :, None, None].expand(1, 3, 4, 4)
    (found,) = prediction_difference(model, images, form="log_odds")
    expected = torch.tensor([4 * 0.9, -2 * 0.3, 0.0]) / math.log(2)
    assert torch.allclose(found, expected, atol=1e-5)
    (probability,) = prediction_difference(model, images)
    margin = 3.6 - 0.6
    assert probability[0] == pytest.approx(1 / (1 + math.exp(-margin)) - 1 / (1 + math.exp(0.6)), abs=1e-5)


def test_a_channel_with_several_places_before_the_linear_map() -> None:
    """Flattened maps of 2x2 give a channel four weights; were they dealt out wrongly, channels would be mixed."""
    generator = torch.Generator().manual_seed(0)
    model = linear_model(torch.randn(5, 12, generator=generator), pool=2)
    images = torch.rand(3, 3, 8, 8, generator=generator)
    closed, rerun = (prediction_difference(model, images, method=m) for m in ("closed", "rerun"))
    assert torch.allclose(closed, rerun, atol=1e-6)
    assert torch.allclose(closed, by_hand(model, images, "colours", [0, 1, 2]), atol=1e-6)


@pytest.mark.parametrize("method", ["closed", "rerun"])
@pytest.mark.parametrize("form", ["probability", "log_odds"])
def test_a_silent_channel_has_no_influence_at_all(method: str, form: str) -> None:
    """Rounding may not give a dead neuron an influence: it would enter the most influential of a sure image."""
    model = toy_model()
    norm = model.network.get_submodule("4")  # before the last ReLU
    assert isinstance(norm, nn.BatchNorm2d)
    norm.weight.data[3], norm.bias.data[3] = 0, -1
    found = prediction_difference(model, torch.rand(5, 3, 16, 16), form=form, method=method)
    assert bool((found[:, 3] == 0).all())
    assert bool((found != 0).any())


@settings(max_examples=30)
@given(st.integers(0, 1000), st.floats(0, 60))
def test_log_odds_are_finite_where_the_probability_is_one(seed: int, scale: float) -> None:
    """log(p / (1 - p)) by way of p would be infinite for a sure network."""
    logits = scale * torch.randn(3, 4, generator=torch.Generator().manual_seed(seed))
    classes = logits.argmax(1)
    odds = log_odds(logits, classes).double()
    p = logits.double().softmax(1).gather(1, classes[:, None]).squeeze(1)
    assert bool(odds.isfinite().all())
    sure = p > 1 - 1e-9
    assert torch.allclose(odds[~sure], torch.log(p / (1 - p))[~sure], atol=1e-3)
    assert bool((odds[sure] > 14).all())


@pytest.mark.parametrize("method", ["closed", "rerun"])
def test_a_sure_network_still_tells_its_neurons_apart(method: str) -> None:
    """At p = 1 - 1e-11 both probabilities round to 1, and the most influential neurons would be drawn by lot."""
    model = linear_model(torch.tensor([[20.0, 8.0, 0.0], [0.0, 0.0, 1.0]]))
    images = torch.tensor([0.9, 0.9, 0.1])[None, :, None, None].expand(1, 3, 4, 4)
    (found,) = prediction_difference(model, images, method=method)
    wrong = [1 / (1 + math.exp(margin)) for margin in (25.1, 7.1, 17.9, 25.2)]
    assert found.double().tolist() == pytest.approx([one - wrong[0] for one in wrong[1:]], rel=1e-4)


def test_given_classes_are_traced_and_the_chunks_do_not_matter(
    trained_toy: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = toy_images(4, seed=9).batch(torch.arange(4), CPU)[0]
    classes = torch.tensor([3, 2, 1, 0])
    found = prediction_difference(trained_toy, images, classes=classes)
    assert not torch.allclose(found, prediction_difference(trained_toy, images))
    monkeypatch.setattr(influence, "CHANNELS_AT_ONCE", 1)
    assert torch.allclose(found, prediction_difference(trained_toy, images, classes=classes), atol=1e-6)


def test_the_model_is_left_as_it_was() -> None:
    """A model in train mode is traced in eval mode (its dropout off), and is in train mode again after it."""
    model = toy_model(dropout=0.5).train()
    before = state_of(model)
    images = torch.rand(2, 3, 16, 16)
    first = prediction_difference(model, images)
    assert torch.equal(first, prediction_difference(model, images))
    assert_same_state(before, model)


class _Around(nn.Module):
    """A network whose input also goes around its layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.linear = nn.Conv2d(3, 3, 1), nn.Linear(3, 2)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.linear((self.layer(images) + images).mean((2, 3)))
        return logits


class _Branching(_Around):
    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.layer(images).mean((2, 3)))
        return logits if images.sum() > 0 else -logits


@pytest.mark.parametrize(("network", "message"), [(_Around(), "alone"), (_Branching(), "recorded")])
def test_networks_that_cannot_be_cut_say_so(network: nn.Module, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        rest_of_network(Classifier(network, "odd", {"layer": ("layer", 3)}))


@pytest.mark.parametrize("wrong", [{"form": "odds"}, {"method": "fast"}, {"layer": "tenth"}])
def test_bad_options_are_named(wrong: dict[str, object]) -> None:
    with pytest.raises(ParameterError, match=str(next(iter(wrong.values())))):
        prediction_difference(toy_model(), torch.rand(1, 3, 16, 16), **wrong)  # type: ignore[arg-type]


def test_a_closed_form_that_is_none_is_refused() -> None:
    with pytest.raises(ParameterError, match="rerun"):
        prediction_difference(toy_model(), torch.rand(1, 3, 16, 16), "first", method="closed")
