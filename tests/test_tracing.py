"""Prediction difference: the rest of any network, exact by each way of computing it; and what the neurons stand for."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from neuron_consistency.consistency import unbiased_consistency
from neuron_consistency.errors import ParameterError
from neuron_consistency.models import ARCHITECTURES, Classifier, build_model, read_layers
from neuron_consistency.responses import respond
from neuron_consistency.tracing import evidence, prediction_difference, rest_of_network
from neuron_consistency.tracing_figures import explanation_panel
from neuron_consistency.tracing_tables import (
    Profiles,
    against_random_neurons,
    explain,
    influence_mass,
    mass_table,
    neuron_profiles,
)
from toys import CPU, assert_same_state, image_set, state_of, toy_images, toy_model

CLOSED = {("alexnet", 64), ("vgg16", 64), ("resnet18", 64), ("resnet18", 224)}  # pooling and one linear map


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
        assert (rest_of_network(model, layer).linear is not None) == holds, layer


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
@pytest.mark.parametrize("form", ["probability", "log_odds"])
def test_closed_form_and_rerun_agree(architecture: str, form: str) -> None:
    model = build_model(architecture, num_classes=6, image_size=64)
    images = torch.rand(2, 3, 64, 64)
    closed, rerun = (prediction_difference(model, images, form=form, method=m) for m in ("closed", "rerun"))
    assert torch.equal(prediction_difference(model, images, form=form), closed)
    assert (closed - rerun).abs().max() < 1e-5
    assert closed.abs().max() > 1e-5


@pytest.mark.parametrize("layer", ["first", "last"])
def test_every_channel_is_as_by_hand(layer: str, trained_toy: Classifier) -> None:
    """The definition itself: one channel emptied at a time, the whole network run again."""
    images = toy_images(6, seed=9).batch(torch.arange(6), CPU)[0]
    found = prediction_difference(trained_toy, images, layer, channels_at_once=5)
    assert torch.allclose(found, by_hand(trained_toy, images, layer, list(range(found.shape[1]))), atol=1e-5)


def test_a_middle_layer_of_a_residual_network_is_as_by_hand() -> None:
    model = build_model("resnet18", num_classes=6, image_size=64).eval()
    images = torch.rand(2, 3, 64, 64)
    found = prediction_difference(model, images, "layer3")
    assert torch.allclose(found[:, [0, 7, 200]], by_hand(model, images, "layer3", [0, 7, 200]), atol=1e-5)


def linear_model(weight: Tensor, *, pool: int = 1) -> Classifier:
    """Channels that are the means of an image's colours, and one linear map with these weights."""
    convolution = nn.Conv2d(3, 3, 1, bias=False)
    convolution.weight.data = torch.eye(3)[:, :, None, None]
    linear = nn.Linear(weight.shape[1], len(weight), bias=False)
    linear.weight.data = weight
    network = nn.Sequential(convolution, nn.ReLU(), nn.AdaptiveAvgPool2d(pool), nn.Flatten(), linear)
    model = Classifier(network, "linear", {"colours": ("1", 3)})
    model.mean.zero_()
    model.std.fill_(1)
    return model


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


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.floats(0, 60))
def test_log_odds_are_finite_where_the_probability_is_one(seed: int, scale: float) -> None:
    """log(p / (1 - p)) by way of p would be infinite for a sure network."""
    logits = scale * torch.randn(3, 4, generator=torch.Generator().manual_seed(seed))
    classes = logits.argmax(1)
    odds = evidence(logits, classes, form="log_odds").double()
    p = logits.double().softmax(1).gather(1, classes[:, None]).squeeze(1)
    assert bool(odds.isfinite().all())
    sure = p > 1 - 1e-9
    assert torch.allclose(odds[~sure], torch.log2(p / (1 - p))[~sure], atol=1e-3)
    assert bool((odds[sure] > 20).all())


def test_given_classes_are_traced_and_the_chunks_do_not_matter(trained_toy: Classifier) -> None:
    images = toy_images(4, seed=9).batch(torch.arange(4), CPU)[0]
    classes = torch.tensor([3, 2, 1, 0])
    one = prediction_difference(trained_toy, images, classes=classes, channels_at_once=1)
    assert torch.allclose(one, prediction_difference(trained_toy, images, classes=classes), atol=1e-6)
    assert not torch.allclose(one, prediction_difference(trained_toy, images))


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


@pytest.mark.parametrize("wrong", [{"form": "odds"}, {"method": "fast"}, {"channels_at_once": 0}, {"layer": "tenth"}])
def test_bad_options_are_named(wrong: dict[str, object]) -> None:
    with pytest.raises(ParameterError, match=str(next(iter(wrong.values())))):
        prediction_difference(toy_model(), torch.rand(1, 3, 16, 16), **wrong)  # type: ignore[arg-type]


def test_a_closed_form_that_is_none_is_refused() -> None:
    with pytest.raises(ParameterError, match="rerun"):
        prediction_difference(toy_model(), torch.rand(1, 3, 16, 16), "first", method="closed")


RELATED = torch.tensor([[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 1.0]])


def colour_profiles() -> tuple[Classifier, Profiles]:
    """Red images are of class 0 and 1 in turn, green ones of class 2; nothing is blue."""
    pixels = torch.zeros(8, 3, 4, 4, dtype=torch.uint8)
    for place in range(8):
        pixels[place, place // 4] = 200 + place
    images = image_set(pixels, torch.tensor([0, 1, 0, 1, 2, 2, 2, 2]), num_classes=3)
    model = linear_model(torch.tensor([[5.0, 0.0, 0.0], [4.0, 0.0, 0.0], [0.0, 5.0, 0.0]]))
    return model, neuron_profiles(model, images, RELATED, top_k=2, device=CPU, precision="float32")


def test_profiles_are_the_classes_of_the_strongest_images() -> None:
    """By hand: red fires for classes 0 and 1, green for 2; a neuron nothing fires has the set's own shares."""
    _, profiles = colour_profiles()
    assert torch.allclose(profiles.shares, torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0], [0.25, 0.25, 0.5]]).double())
    assert torch.allclose(profiles.matches[0], torch.tensor([0.75, 0.75, 0.0]).double())
    assert torch.allclose(profiles.consistency[:2], torch.tensor([0.5, 1.0]).double())
    assert bool(profiles.consistency[2].isnan())
    assert profiles.words(0) == "class 0 .50, class 1 .50"
    counts = torch.tensor([2, 2, 4])
    assert profiles.chance == pytest.approx(float(unbiased_consistency(counts, RELATED)))


def test_the_mass_goes_to_the_classes_of_the_positive_neurons() -> None:
    """A neuron that speaks against the prediction may not lend its class any mass."""
    _, profiles = colour_profiles()
    influence = torch.tensor([[3.0, 1.0, 0.0], [-1.0, 2.0, 0.0], [-1.0, 0.0, 0.0]])
    mass = influence_mass(influence, profiles.matches)
    assert torch.allclose(mass[0], 0.75 * profiles.matches[0] + 0.25 * profiles.matches[1])
    assert torch.allclose(mass[1], profiles.matches[1])
    assert bool(mass[2].isnan().all())


def test_an_explanation_names_the_neurons_and_what_chance_gives() -> None:
    model, profiles = colour_profiles()
    images = torch.tensor([0.9, 0.5, 0.0])[None, :, None, None].expand(1, 3, 4, 4)
    (influence,) = prediction_difference(model, images)
    table = explain(influence, profiles, 0, true=2, count=2)
    assert table["side"].tolist() == ["for", "against"]
    assert table["neuron"].tolist() == [0, 1]
    assert table["contribution"].tolist() == pytest.approx(influence[[0, 1]].tolist())
    assert table["contribution chance"].tolist() == pytest.approx([float(influence.mean())] * 2)
    assert table["match"].tolist() == pytest.approx([0.75, 0.0])
    assert table["match of true"].tolist() == pytest.approx([0.0, 1.0])
    assert table["match chance"].iloc[0] == pytest.approx((0.75 + 0.0 + 0.375) / 3)
    figure = explanation_panel(images[0], "red", table, {0: [images[0]] * 2, 1: []})
    assert len(figure.axes) == 4


def test_random_neurons_give_the_mean_of_all() -> None:
    """The draws must be of different neurons: all of them together always give the same sum."""
    _, profiles = colour_profiles()
    influence = torch.tensor([0.6, -0.1, 0.0])
    summed, match = against_random_neurons(influence, profiles, 0, count=1).to_dict("records")
    assert (summed["value"], match["value"]) == pytest.approx((0.6, 0.75))
    assert summed["random"] == pytest.approx(float(influence.mean()), abs=0.02)
    assert summed["random low"] == pytest.approx(-0.1)
    everything = against_random_neurons(influence, profiles, 0, count=3).iloc[0]
    assert everything[["value", "random", "random low", "random high"]].tolist() == pytest.approx([0.5] * 4)
    for count in (0, 4):
        with pytest.raises(ParameterError, match=f"count={count}"):
            against_random_neurons(influence, profiles, 0, count=count)
    with pytest.raises(ParameterError, match="influence of"):
        explain(torch.zeros(5), profiles, 0)


def test_the_verdict_on_errors_is_over_source_images() -> None:
    """Ten images made from one count once: else copies would make an interval as narrow as one likes."""
    spread = [0.0, 0.1, 0.2, 0.3]
    errors = pd.DataFrame({"source": range(4), "predicted": [0.8 + s for s in spread], "true": 0.2, "other": 0.1})
    right = errors.assign(true=errors["predicted"])
    copied = pd.concat([errors] * 10)
    table = mass_table({"right": right, "errors": errors, "copied": copied, "none": errors[:0]})
    rows = {str(row["group"]): row for row in table.to_dict("records")}
    assert rows["errors"]["predicted - true"] == pytest.approx(0.75)
    assert [row["neurons speak for"] for row in rows.values()] == [
        "both: they are one",
        "the predicted class",
        "the predicted class",
        "cannot be told",
    ]
    assert math.isnan(rows["none"]["predicted"])
    for column in ("predicted", "predicted low", "predicted high"):
        assert rows["copied"][column] == pytest.approx(rows["errors"][column])
    margin = 3.182446 * float(np.std(spread, ddof=1)) / 2  # Student's t, three degrees of freedom
    assert rows["errors"]["predicted high"] == pytest.approx(0.95 + margin, abs=1e-5)


def test_profiles_come_from_the_images_given(trained_toy: Classifier) -> None:
    """The profile is of the k strongest images of the set, not of the images over a threshold."""
    images = toy_images(40, seed=3)
    profiles = neuron_profiles(trained_toy, images, torch.eye(4), top_k=5, device=CPU, precision="float32")
    responses = respond(trained_toy, images, device=CPU, top_k=5, precision="float32")
    top = images.labels[responses.layers["last"].top_indices]
    for neuron in (responses.layers["last"].top_values[-1] > 0).nonzero().flatten().tolist():
        expected = torch.bincount(top[:, neuron], minlength=4).double() / 5
        assert torch.equal(profiles.shares[neuron], expected)
