"""Layers found in the networks that people use: torchvision's whole list, and timm's families.

The table takes most of a minute.
"""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from families import TIMM, TORCHVISION, WHY_NOT, timm_network, torchvision_network
from neuron_consistency import wrap
from neuron_consistency.errors import ParameterError
from neuron_consistency.networks.models import Classifier
from neuron_consistency.networks.reading import read_layers
from neuron_consistency.responses import respond
from toys import ON, image_set

FOUND = {  # looked at: first and last layer, how many, and channels of the last
    "alexnet": ("features.1", "features.11", 5, 256),
    "vgg16_bn": ("features.2", "features.42", 13, 512),
    "resnet18": ("relu", "layer4.1", 9, 512),
    "densenet121": ("features.relu0", "features.norm5", 12, 1024),
    "inception_v3": ("Conv2d_1a_3x3", "Mixed_7c", 16, 2048),
    "squeezenet1_0": ("features.1", "features.12", 9, 512),  # the convolution after it makes the logits
    "efficientnet_b0": ("features.0.2", "features.8.2", 18, 1280),
    "mobilenet_v3_small": ("features.0.2", "features.12.2", 13, 576),
    "convnext_tiny": ("features.0.1", "features.7.2", 22, 768),
    "swin_t": ("features.0.0", "features.7.1", 16, 768),
    "vit_b_32": ("conv_proj", "encoder.layers.encoder_layer_11", 13, 768),
    "maxvit_t": ("stem.0.2", "blocks.3", 6, 512),
    "timm:resnet26": ("act1", "layer4.1", 9, 2048),
    "timm:efficientnet_b0": ("bn1", "bn2", 18, 1280),
    "timm:convnext_atto": ("stem.1", "stages.3", 5, 320),
    "timm:swin_tiny_patch4_window7_224": ("patch_embed", "layers.3", 5, 768),
    "timm:deit_tiny_distilled_patch16_224": ("patch_embed", "blocks.11", 13, 192),
    "timm:mixer_s32_224": ("stem", "blocks.7", 9, 512),
    "timm:regnety_002": ("stem", "s4", 5, 368),
    "timm:mobilenetv3_small_050": ("bn1", "blocks.5.0", 13, 288),
    "timm:vit_small_patch14_reg4_dinov2": ("patch_embed", "blocks.11", 13, 384),
}
PREFIX = {  # tokens before the patches: class token, distillation token, registers
    "vit_b_32": 1, "swin_t": 0, "timm:vit_tiny_patch16_224": 1, "timm:deit_tiny_distilled_patch16_224": 2,
    "timm:vit_small_patch14_reg4_dinov2": 5, "timm:mixer_s32_224": 0, "timm:cait_xxs24_224": 0,
}  # fmt: skip


def scored(name: str) -> None:
    """Wraps a network and makes one pass over four images: every layer has finite responses, as a square map."""
    timm = name.startswith("timm:")
    network, size = timm_network(name.removeprefix("timm:")) if timm else torchvision_network(name)
    if name in WHY_NOT:
        with pytest.raises(ParameterError, match=WHY_NOT[name]):
            wrap(network, mean=(0.5,) * 3, std=(0.5,) * 3, image_size=size)
        return
    model = wrap(network, mean=(0.5,) * 3, std=(0.5,) * 3, image_size=size)
    pixels = torch.randint(0, 256, (4, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    images = image_set(pixels, torch.arange(4), num_classes=10)
    found = respond(model, images, ON, layers=list(model.layers), top_k=2)
    assert model.num_classes == 10
    for layer, channels in model.layers.items():
        assert found.layers[layer].top_values.shape == (2, channels), layer
        assert bool(found.layers[layer].top_values.isfinite().all()), layer
    last = model.last_layer
    if name in FOUND:
        assert (next(iter(model.layers)), last, len(model.layers), model.layers[last]) == FOUND[name]
    assert model.sites[last].prefix == PREFIX.get(name, model.sites[last].prefix)


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvisions_networks_are_scored(name: str) -> None:
    scored(name)


@pytest.mark.parametrize("name", TIMM)
def test_one_network_of_each_of_timms_families_is_scored(name: str) -> None:
    scored(f"timm:{name}")


class Bottle(nn.Module):
    """Two convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = x + self.two(self.one(x).relu())
        return out


class Backbone(nn.Module):
    """Blocks inside a module of the user's own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 1)
        self.stages = nn.ModuleDict({"a": Bottle(16), "b": Bottle(16)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for stage in self.stages.values():
            x = stage(x)
        return x


def head(channels: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 4)]


def wrapped(network: nn.Module) -> Classifier:
    return wrap(network, mean=(0.5,) * 3, std=(0.5,) * 3, image_size=16)


def test_wrappers_and_containers_are_descended_into() -> None:
    """As many channels as pixels a side: a map for all that."""
    model = wrapped(nn.Sequential(Backbone(), *head(16)))
    assert list(model.layers) == ["0.stem", "0.stages.a", "0.stages.b"]
    with read_layers(model, list(model.layers)) as maps, torch.no_grad():
        model(torch.rand(2, 3, 16, 16))
    assert {tuple(each.shape) for each in maps.values()} == {(2, 16, 16, 16)}


def test_a_run_has_the_name_of_its_last_leaf() -> None:
    """Convolution, norm and activation are one layer; pooling ends it; a lone activation is one of its own."""
    body = [nn.Conv2d(3, 6, 3), nn.GroupNorm(2, 6), nn.GELU(), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(6, 8, 3)]
    assert wrapped(nn.Sequential(*body, *head(8))).layers == {"2": 6, "4": 6, "5": 8}


def test_a_lone_block_among_blocks_of_another_kind_is_one() -> None:
    class Other(Bottle):
        """A class that occurs once."""

    assert list(wrapped(nn.Sequential(nn.Conv2d(3, 8, 1), Bottle(8), Other(8), Bottle(8), *head(8))).layers) == list(
        "0123"
    )


def test_torchs_own_transformer_is_read() -> None:
    """Its fast path calls no inner module; its layers are blocks all the same."""

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 8, 4, 4)
            layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 2)
            self.head = nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.head(self.encoder(self.patches(x).flatten(2).transpose(1, 2)).mean(1))
            return logits

    assert list(wrapped(Small()).layers) == ["patches", "encoder.layers.0", "encoder.layers.1"]


def test_an_activation_that_serves_several_layers_hides_none() -> None:
    """Else a network with one `self.relu` has one layer, and its other neurons are not measured."""

    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
            self.conv2, self.conv3 = nn.Conv2d(4, 5, 3), nn.Conv2d(5, 6, 3)
            self.relu, self.head = nn.ReLU(), nn.Linear(6, 3)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            maps = self.relu(self.bn1(self.conv1(images)))
            maps = self.relu(self.conv3(self.relu(self.conv2(maps))))
            logits: torch.Tensor = self.head(maps.mean((2, 3)))
            return logits

    model = wrap(Shared(), mean=(0,) * 3, std=(1,) * 3, image_size=16)
    assert model.layers == {"bn1": 4, "conv2": 5, "relu": 6}


def test_channels_before_time_are_no_tokens() -> None:
    """Else the neurons of a Conv1d over patches are the patches' places."""
    body = [nn.Conv2d(3, 6, 4, 4), nn.Flatten(2), nn.Conv1d(6, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(84, 4)]
    assert wrapped(nn.Sequential(*body)).layers == {"0": 6}


def test_tokens_before_the_batch_are_read_as_those_after_it() -> None:
    """Else of a transformer in torch's own order, such as CLIP's, only the embedding of the patches is measured."""

    class Transformer(nn.Module):
        def __init__(self, *, first: bool) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.embed, self.head = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 4)
            layer = partial(nn.TransformerEncoderLayer, 8, 2, 16, batch_first=not first)
            self.blocks, self.place = nn.Sequential(layer(), layer()), 0 if first else 1

        def forward(self, x: Tensor) -> Tensor:
            patches = self.embed(x).flatten(2).movedim(2, self.place)
            tokens = torch.cat([torch.ones_like(patches.narrow(self.place, 0, 1)), patches], self.place)
            logits: Tensor = self.head(self.blocks(tokens).mean(self.place))
            return logits

    images, found = torch.rand(3, 3, 16, 16), []
    for first in (False, True):
        model = wrapped(Transformer(first=first))
        assert model.layers == {"embed": 8, "blocks.0": 8, "blocks.1": 8}
        with read_layers(model.eval(), list(model.layers)) as maps, torch.no_grad():
            model(images)
        found.append(maps)
    for name, expected in found[0].items():
        assert expected.shape == (3, 8, 4, 4)
        assert torch.allclose(found[1][name], expected, atol=1e-5)
