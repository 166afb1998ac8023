"""Networks by their names: of torchvision, of timm, a function in a Python file, or an exported program."""

from __future__ import annotations

import difflib
import importlib
import os
import re
import runpy
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import torch
import torchvision
from torch import nn

from neuron_consistency.errors import DatasetError, ParameterError
from neuron_consistency.networks import weights as files
from neuron_consistency.networks.models import Classifier, downloading
from neuron_consistency.networks.packaged import packaged
from neuron_consistency.networks.wrap import bare, wrap

_EXPORTED = re.compile(  # what an archive may hold; compiled code and pickled objects are not among it
    r"[^/]+/(\w+|\.data/\w+|byteorder|models/\w+\.json|data/sample_inputs/\w+\.pt|extra/.*"
    r"|data/(weights|constants)/((weight|tensor)_\w+|\w+_config\.json))"
)


@dataclass(frozen=True)
class _Origin:
    """Where a network comes from: how it is built, and what is known of the images it takes."""

    build: Callable[[int | None, files.Checkpoint | None], nn.Module]
    name: str
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    image_size: int = 224
    margin: float = 1.0
    interpolation: str = "bilinear"
    weights: str = "as the code makes it"
    file: Path | None = None


@dataclass(frozen=True)
class Loaded:
    """A network with its weights, how images are fitted to it, and how its weights were written.

    Attributes:
        margin: the short side of an image becomes `margin * image_size`, before the central square is cut.
        interpolation: "bilinear" or "bicubic".
        source: the network and its weights in words.
        suffix: of the file that the weights came in; key, prefix: what they were wrapped in, see `Checkpoint`.
    """

    model: Classifier
    image_size: int
    margin: float
    interpolation: str
    source: str
    suffix: str = ".pth"
    key: str = ""
    prefix: str = ""


def load_network(
    network: str, *, weights: Path | None = None, num_classes: int | None = None, image_size: int | None = None,
    mean: Sequence[float] | None = None, std: Sequence[float] | None = None,
    layers: Sequence[str] | None = None, before: bool = False,
) -> Loaded:  # fmt: skip
    """A network with its weights as a classifier, see `wrap`.

    Args:
        network: "torchvision:NAME", "timm:NAME" or "packaged:NAME"; "model.py:make", a Python file, which is run, and a
            function without arguments in it that gives the network; or "net.pt2" of torch.export, whose batch norm
            stays as exported.
        weights: a .safetensors file or a state dict, see `read_checkpoint`; None are those published, or those that
            the network comes with.
        num_classes: None is what the weights have.
        mean, std: None are those that torchvision or timm publish with the network; other networks need them.
        image_size: None is what is published with the network, else 224.

    Raises:
        ParameterError: the network is unknown, fails, or has no readable layers; its mean and std or number of classes
            are not known, or others than asked for.
        DatasetError: the weights cannot be had or do not fit.
    """
    origin = _origin(network, image_size)
    mean, std = mean or origin.mean, std or origin.std
    if mean is None or std is None:
        raise ParameterError(f"what mean and std {network} expects is not known: give both (--mean, --std)")
    weights = weights or origin.file
    checkpoint = None if weights is None else files.read_checkpoint(weights)
    module = origin.build(num_classes, checkpoint)
    if checkpoint is not None:
        checkpoint = files.without_prefix(checkpoint, module)
        if num_classes is None and (found := files.classes_of(checkpoint, module)):
            module = origin.build(found, checkpoint)
        files.fill(module, checkpoint, network)
    size = origin.image_size if image_size is None else image_size
    model = wrap(module, mean=mean, std=std, layers=layers, before=before, image_size=size, name=origin.name)
    if num_classes not in (None, model.num_classes):
        outputs = f"{network} has {model.num_classes} outputs, not num_classes={num_classes}"
        raise ParameterError(f"{outputs}: give weights of your own")
    fitting = size, origin.margin, origin.interpolation
    if checkpoint is None:
        return Loaded(model, *fitting, f"{network}, {origin.weights}")
    path, _, key, prefix = checkpoint
    return Loaded(model, *fitting, f"{network}, weights {path.name}", path.suffix, key, prefix)


def save_weights(loaded: Loaded, path: Path) -> None:
    """Writes the weights as they came, with the same names and wrapping, so that what read the old ones reads them.

    Raises:
        StoreError: the file cannot be written.
    """
    files.write_checkpoint(loaded.model.network, path, key=loaded.key, prefix=loaded.prefix)


def _origin(network: str, image_size: int | None) -> _Origin:
    kind, _, name = network.partition(":")
    if kind == "torchvision":
        return _torchvision(name, image_size)
    if kind == "timm":
        return _timm(name, image_size)
    if kind == "packaged":
        known, module, file = packaged(name)
        size, margin = known.image_size, known.margin
        return _Origin(lambda *_: module, known.about, known.mean, known.std, size, margin, file=file)
    if ".py:" in network:
        return _Origin(lambda *_: _made(network), network.rpartition(":")[2])
    path = Path(network).expanduser()
    if path.is_file() and path.suffix == ".pt2":
        return _Origin(lambda *_: _exported(path, image_size or 224), path.stem)
    if path.is_file():
        what = "TorchScript, inside of which no layer can be read" if files.is_script(path) else "no network"
        cure = "give the code that builds the network as model.py:make, and its state dict as weights"
        raise ParameterError(f"{path} is {what}: {cure}")
    raise ParameterError(
        f"there is no network {network!r}: use torchvision:NAME, timm:NAME, packaged:NAME, model.py:make (a function "
        "without arguments that gives the network), or a file net.pt2 of torch.export"
    )


def _known(name: str, library: str, known: Sequence[str]) -> None:
    if name not in known:
        close = difflib.get_close_matches(name, known, n=5, cutoff=0.5) or known[:5]
        raise ParameterError(f"{library} has no classifier {name!r}: use one of {', '.join(close)}, ...")


def _torchvision(name: str, image_size: int | None) -> _Origin:
    _known(name, "torchvision", torchvision.models.list_models(module=torchvision.models))
    published = torchvision.models.get_model_weights(name)["DEFAULT"]
    seen = published.transforms()

    def build(num_classes: int | None, checkpoint: files.Checkpoint | None) -> nn.Module:
        options: dict[str, Any] = {"num_classes": num_classes or 1000}
        if checkpoint is None:
            options = {"weights": published}
        elif name in ("googlenet", "inception_v3"):  # pretrained, they may have lost their auxiliary heads
            options |= {"init_weights": False, "aux_logits": any("aux" in key.lower() for key in checkpoint.state)}
        elif name.startswith("vit_") and image_size:
            options["image_size"] = image_size
        with downloading(name, published.url, "give weights of your own"):
            return cast(nn.Module, torchvision.models.get_model(name, **options))

    size, margin = seen.crop_size[0], seen.resize_size[0] / seen.crop_size[0]
    said = f"torchvision's weights {published.name}"
    return _Origin(build, name, seen.mean, seen.std, size, margin, seen.interpolation.value, said)


def _timm(name: str, image_size: int | None) -> _Origin:
    try:
        timm: Any = importlib.import_module("timm")
    except ImportError as error:
        raise ParameterError(f"timm:{name} needs timm: pip install -e '.[timm]'") from error
    _known(name.partition(".")[0], "timm", timm.list_models())
    published = timm.get_pretrained_cfg(name)

    def build(num_classes: int | None, checkpoint: files.Checkpoint | None) -> nn.Module:
        options = {} if num_classes is None or checkpoint is None else {"num_classes": num_classes}
        try:
            module = timm.create_model(name, pretrained=checkpoint is None, **options)
        except Exception as error:  # of several libraries
            cure = "give weights of your own, or remove what is cached of them"
            raise DatasetError(
                f"the weights of timm:{name} cannot be had ({files.first_line(error)}): {cure}"
            ) from error
        if not module.num_classes:
            raise ParameterError(f"timm:{name} has no classes: give the weights of one with a head, and num_classes")
        if image_size and hasattr(module, "set_input_size"):
            module.set_input_size((image_size, image_size))
        return cast(nn.Module, module)

    interpolation = published.interpolation if published.interpolation == "bilinear" else "bicubic"
    size, margin = published.input_size[1], max(1.0, 1 / published.crop_pct)
    said = f"timm's weights {published.tag}"
    return _Origin(build, name, published.mean, published.std, size, margin, interpolation, said)


def _made(place: str) -> nn.Module:
    """What a function in a Python file makes; the file's folder can be imported from while it runs."""
    file, _, name = place.rpartition(":")
    path = Path(file).expanduser().resolve()
    if not path.is_file():
        raise ParameterError(f"there is no file {path}: give a Python file and a function in it, model.py:make")
    try:
        with patch.object(sys, "path", [str(path.parent), *sys.path]):
            make = runpy.run_path(str(path), run_name=path.stem).get(name)
            made = make() if callable(make) else None
    except (Exception, SystemExit) as error:
        raise ParameterError(f"{place} fails ({type(error).__name__}: {error}): run it by itself") from error
    if not callable(make):
        raise ParameterError(f"{path} has no function {name!r}: give one without arguments that returns the network")
    if not isinstance(made, nn.Module):
        raise ParameterError(f"{place} gives a {type(made).__name__}, not a torch.nn.Module: return the network itself")
    return bare(made)


def _exported(path: Path, image_size: int) -> nn.Module:
    """The network of a file of torch.export, its modules restored; what the file holds beside tensors is not run."""
    try:
        with zipfile.ZipFile(path) as archive:
            strange = [name for name in archive.namelist() if not _EXPORTED.fullmatch(name)]
        if strange:
            raise ValueError(f"it holds more than a network and its tensors, {strange[0]}")
        with patch.dict(os.environ, {"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1"}):
            module = torch.export.unflatten(torch.export.load(path))
        with torch.no_grad():
            module(torch.zeros(3, 3, image_size, image_size))
    except Exception as error:
        said = f"{path} takes no 3 images of {image_size} x {image_size} pixels ({files.first_line(error)})"
        cure = "export it with this version of torch and a batch of any size (dynamic_shapes)"
        raise ParameterError(f"{said}: give its image_size, or {cure}") from error
    return module
