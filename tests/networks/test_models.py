"""Networks by name: their layers, their small form, normalisation inside, weights on disk."""

from pathlib import Path

import pytest
import safetensors.torch
import torch
import torchvision
from torch import nn

from neuron_consistency.errors import DatasetError, ParameterError
from neuron_consistency.networks.models import (
    ARCHITECTURES,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Classifier,
    build_model,
    load_weights,
)
from neuron_consistency.networks.reading import read_layers
from toys import CPU, toy_model

LAST = {"alexnet": ("relu5", 256), "vgg16": ("conv5_3", 512), "resnet18": ("layer4", 512), "resnet50": ("layer4", 2048)}


@pytest.fixture(scope="module", params=sorted(ARCHITECTURES))
def small(request: pytest.FixtureRequest) -> Classifier:
    """Each architecture in its form for 64 px, ten classes."""
    return build_model(request.param, num_classes=10, image_size=64).eval()


def test_every_layer_has_the_channels_it_claims_and_no_negative_response(small: Classifier) -> None:
    """A layer is read after its ReLU; the last is the one P1 reads."""
    assert (small.last_layer, small.layers[small.last_layer]) == LAST[small.architecture]
    with read_layers(small, list(small.layers)) as outputs, torch.no_grad():
        logits = small(torch.rand(2, 3, 64, 64))
    assert logits.shape == (2, 10)
    assert {name: output.shape[1] for name, output in outputs.items()} == small.layers
    for name, output in outputs.items():
        assert output.ndim == 4, name
        assert output.min() >= 0, name
        assert output.max() > 0, name


def test_layers_are_not_overwritten_by_what_follows_them(small: Classifier) -> None:
    """In-place ReLUs and residual sums after a layer must not change the output that was kept."""
    copies: dict[str, torch.Tensor] = {}
    handles = [
        small.layer_module(name).register_forward_hook(
            lambda _module, _inputs, output, name=name: copies.update({name: output.clone()})
        )
        for name in small.layers
    ]
    with read_layers(small, list(small.layers)) as outputs, torch.no_grad():
        small(torch.rand(2, 3, 64, 64))
    for handle in handles:
        handle.remove()
    for name, output in outputs.items():
        assert torch.equal(output, copies[name]), name


def test_no_weight_is_left_unset(small: Classifier) -> None:
    """Built without its wide head, every remaining weight is drawn: no zeros, no leftovers of memory."""
    for name, parameter in small.state_dict().items():
        if "running" in name or "tracked" in name:
            assert bool((parameter == float("var" in name)).all()), name
            continue
        norm = ".bn" in name or "downsample.1" in name or parameter.ndim == 1
        assert parameter.device == CPU
        assert 0 <= float(parameter.abs().max()) < 3, name
        assert norm or float(parameter.std()) > 1e-3, name


def test_small_form_has_one_linear_map_and_batch_norm_in_vgg(small: Classifier) -> None:
    linear = [module for module in small.modules() if isinstance(module, nn.Linear)]
    assert len(linear) == 1
    assert any(isinstance(module, nn.BatchNorm2d) for module in small.modules()) == (small.architecture != "alexnet")
    assert any(isinstance(module, nn.MaxPool2d) for module in small.modules())


@pytest.mark.parametrize("architecture", ["alexnet", "resnet18", "resnet50"])
def test_large_form_is_torchvisions_network(architecture: str) -> None:
    """The same parameters as torchvision's, so that its ImageNet weights fit, and the same logits once normalised.

    In double precision: the logits of random weights are large, and rounding would show in the small ones.
    """
    model = build_model(architecture, num_classes=7, image_size=224).double().eval()
    theirs = torchvision.models.get_model(architecture, num_classes=7).double().eval()
    theirs.load_state_dict(model.network.state_dict())
    images = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    normalised = torchvision.transforms.functional.normalize(images, list(IMAGENET_MEAN), list(IMAGENET_STD))
    with torch.no_grad():
        assert torch.allclose(model(images), theirs(normalised), atol=1e-6)


def test_large_vgg_is_plain_as_torchvisions() -> None:
    """VGG-16 at 224 px has no batch norm; its 13 convolutions are named conv1_1 to conv5_3."""
    with torch.device("meta"):  # its wide head takes seconds to fill
        model = build_model("vgg16", num_classes=10, image_size=224)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert len(model.layers) == 13
    assert model.layer_module("conv5_3") is model.network.get_submodule("features.29")


def test_same_seed_same_weights_and_the_global_state_untouched() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, two, other = (build_model("resnet18", num_classes=4, image_size=32, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    weights = [model.state_dict()["network.fc.weight"] for model in (one, two, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_weights_survive_the_disk(tmp_path: Path) -> None:
    """A file holds the weights alone: the normalisation is part of the code."""
    model = build_model("resnet18", num_classes=4, image_size=32, seed=1).eval()
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path)
    again = build_model("resnet18", num_classes=4, image_size=32, seed=2, weights=str(path)).eval()
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(model(images), again(images))
    assert "mean" not in model.state_dict()


# errors


def test_unknown_architecture_is_named_with_those_there_are() -> None:
    with pytest.raises(ParameterError, match=r"'lenet'.*alexnet, vgg16, resnet18, resnet50"):
        build_model("lenet", num_classes=4, image_size=64)


def test_imagenet_weights_need_a_thousand_classes() -> None:
    with pytest.raises(ParameterError, match="1000 classes, not 4"):
        build_model("resnet18", num_classes=4, image_size=224, weights="imagenet")


def test_no_network_for_imagenet_weights_tells_where_to_put_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_args: object, **_options: object) -> None:
        raise OSError("unreachable")

    monkeypatch.setattr(torchvision.models._api.WeightsEnum, "get_state_dict", unreachable)
    with pytest.raises(DatasetError, match=r"ImageNet weights of resnet18.*checkpoints"):
        build_model("resnet18", num_classes=1000, image_size=224, weights="imagenet")


def test_torchs_own_copy_of_weights_that_is_damaged_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """torch looks for the file, and no more at what is in it: a traceback at every call until it is removed."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    file = tmp_path / "checkpoints" / torchvision.models.ResNet18_Weights.IMAGENET1K_V1.url.rpartition("/")[2]
    file.parent.mkdir()
    file.write_text("<html>please log in</html>")
    with pytest.raises(DatasetError, match=f"{file}.* is damaged .*remove this file"):
        build_model("resnet18", num_classes=1000, image_size=224, weights="imagenet")


def test_weights_missing_damaged_or_of_another_network_are_told_apart(tmp_path: Path) -> None:
    model = toy_model()
    with pytest.raises(DatasetError, match="no weights at"):
        load_weights(model, tmp_path / "none.safetensors")
    with pytest.raises(DatasetError, match="that is a folder"):
        load_weights(model, tmp_path)
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"not a safetensors file")
    with pytest.raises(DatasetError, match="is damaged, or no file of weights") as refused:
        load_weights(model, damaged)
    assert "remove" not in str(refused.value)  # the file is its owner's
    other = tmp_path / "other.safetensors"
    safetensors.torch.save_file({"w": torch.zeros(2)}, other)
    with pytest.raises(DatasetError, match="does not fit toy: 14 missing"):
        load_weights(model, other)


def test_importing_touches_no_device() -> None:
    assert next(toy_model().parameters()).device == CPU


def test_images_too_small_for_a_network_are_named() -> None:
    """AlexNet pools 32 pixels away, which torch says without naming the network or the cure."""
    with pytest.raises(ParameterError, match="alexnet needs more than images of 32 x 32 px: take a larger"):
        build_model("alexnet", num_classes=3, image_size=64)(torch.zeros(2, 3, 32, 32))
