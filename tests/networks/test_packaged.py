"""Networks of packages as an architecture: as they came, trained on for other classes, or with random weights."""

from pathlib import Path

import pytest
import torch
from torch import nn

from neuron_consistency.errors import DatasetError, ParameterError
from neuron_consistency.networks import models
from neuron_consistency.networks.models import Classifier, build_model
from neuron_consistency.networks.packaged import PACKAGED, Packaged, packaged
from neuron_consistency.networks.reading import read_layers


def toy() -> nn.Sequential:
    """Its activations are scaled so that ReLU6 saturates."""
    layers = nn.Conv2d(3, 5, 3), nn.ReLU6(), nn.Conv2d(5, 7, 3), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(7, 10))


@pytest.fixture(autouse=True)
def of_ten_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy stands for a network of ImageNet."""
    monkeypatch.setattr(models, "IMAGENET_CLASSES", 10)


@pytest.fixture
def came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """The weights of a packaged network "toy"."""
    network = toy()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(10.0)
    torch.save(network.state_dict(), tmp_path / "toy.pth")
    layers = {"one": ("1", 5), "two": ("3", 7)}
    facts = Packaged("none", "none", {}, "none", "toy.pth", (0.5,) * 3, (0.25,) * 3, 16, 1.0, "a toy", layers)
    monkeypatch.setattr(models, "packaged", lambda _name: (facts, toy(), tmp_path / "toy.pth"))
    return network.state_dict()


def built(**options: object) -> Classifier:
    return build_model("packaged:toy", **{"num_classes": 3, "image_size": 16, **options}).eval()  # type: ignore[arg-type]


def test_outputs_choose_the_rows_of_the_head_and_nothing_else_changes(came: dict[str, torch.Tensor]) -> None:
    """A network that starts from the wrong rows would have to unlearn first, and look like a worse training."""
    state = built(weights="published", outputs=[7, 0, 4]).network.state_dict()
    assert torch.equal(state["6.weight"], came["6.weight"][[7, 0, 4]])
    assert torch.equal(state["6.bias"], came["6.bias"][[7, 0, 4]])
    assert all(torch.equal(state[name], came[name]) for name in came if not name.startswith("6."))


def test_other_classes_get_a_random_head_by_the_seed_and_the_own_ones_the_published(
    came: dict[str, torch.Tensor],
) -> None:
    heads = [built(weights="published", seed=seed).network.state_dict()["6.weight"] for seed in (0, 0, 1)]
    assert heads[0].shape == (3, 7)
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
    own = built(weights="published", num_classes=10)
    assert torch.equal(own.network.state_dict()["6.weight"], came["6.weight"])
    assert own.num_classes == 10


def test_rows_are_taken_only_of_a_head_that_has_imagenets_classes(
    came: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network of other classes, on images that are ImageNet's, would end in an index that its head does not have."""
    monkeypatch.setattr(models, "IMAGENET_CLASSES", 1000)
    state = built(weights="published", outputs=[7, 0, 999]).network.state_dict()
    assert state["6.weight"].shape == (3, 7)
    assert torch.equal(state["0.weight"], came["0.weight"])


@pytest.mark.usefixtures("came")
@pytest.mark.parametrize(("architecture", "weights"), [("packaged:toy", "imagenet"), ("resnet18", "published")])
def test_weights_of_the_other_kind_are_not_taken_for_a_file(architecture: str, weights: str) -> None:
    with pytest.raises(ParameterError, match=f"{architecture} has no weights '{weights}'"):
        build_model(architecture, num_classes=3, image_size=64, weights=weights)


def test_without_weights_it_is_random_the_null_of_what_training_gave(came: dict[str, torch.Tensor]) -> None:
    """Were the untrained network the published one, every null of a network trained on would pass."""
    before = torch.get_rng_state()
    one, two, other = (built(seed=seed).network.state_dict()["0.weight"] for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert not torch.equal(one, came["0.weight"])


@pytest.mark.usefixtures("came")
def test_the_last_layer_is_read_before_it_saturates() -> None:
    """At 6 the strongest images of a neuron tie, and which of them fire it would be the order of the set."""
    model = built(weights="published")
    assert model.last_layer == "two"
    with read_layers(model, ["one", "two"]) as maps, torch.no_grad():
        model(torch.rand(4, 3, 16, 16))
    assert maps["one"].max() <= 6
    assert maps["two"].max() > 6


@pytest.mark.usefixtures("came")
def test_it_normalises_as_the_package_says_and_weights_of_elsewhere_have_to_fit(tmp_path: Path) -> None:
    model = built(weights="published")
    assert (model.mean.flatten().tolist(), model.std.flatten().tolist()) == ([0.5] * 3, [0.25] * 3)
    with pytest.raises(DatasetError, match="no weights at"):
        built(weights=str(tmp_path / "none.safetensors"))


def test_an_unknown_one_is_named_with_those_there_are() -> None:
    with pytest.raises(ParameterError, match=r"'none': use one of efficientnet-lite0, cifar10-resnet18"):
        build_model("packaged:none", num_classes=3, image_size=16)


@pytest.mark.parametrize("name", sorted(PACKAGED))
def test_the_layers_of_every_packaged_network_are_there(name: str) -> None:
    """A layer with other channels than it claims would be read as another."""
    try:
        packaged(name)
    except ParameterError as missing:
        pytest.skip(str(missing))
    side = PACKAGED[name].image_size
    model = build_model(f"packaged:{name}", num_classes=4, image_size=side).eval()
    with read_layers(model, list(model.layers)) as maps, torch.no_grad():
        assert model(torch.rand(2, 3, side, side)).shape == (2, 4)
    assert {layer: found.shape[1] for layer, found in maps.items()} == model.layers
