"""Every classification model of torchvision and one of each of timm's families, small, with random weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

TORCHVISION = tuple(torchvision.models.list_models(module=torchvision.models))
TIMM = (
    "beit_base_patch16_224",
    "cait_xxs24_224",
    "coat_lite_tiny",
    "convnext_atto",
    "crossvit_9_240",
    "deit_tiny_distilled_patch16_224",
    "densenet121",
    "edgenext_xx_small",
    "efficientformer_l1",
    "efficientnet_b0",
    "eva02_tiny_patch14_224",
    "ghostnet_100",
    "hrnet_w18_small",
    "levit_128s",
    "maxvit_rmlp_pico_rw_256",
    "mixer_s32_224",
    "mobilenetv3_small_050",
    "mobilenetv4_conv_small",
    "mobilevit_xxs",
    "poolformer_s12",
    "pvt_v2_b0",
    "regnety_002",
    "repvgg_a0",
    "resnet26",
    "resnetv2_50",
    "swin_tiny_patch4_window7_224",
    "tresnet_m",
    "twins_svt_small",
    "vit_small_patch14_reg4_dinov2",
    "vit_tiny_patch16_224",
    "xcit_nano_12_p16_224",
)
SIZES = {"inception_v3": 107, "maxvit_t": 224}  # those that 64 px do not do for
WHY_NOT: dict[str, str] = {}  # networks that cannot be read, and what the error says


@contextmanager
def quick_weights() -> Iterator[None]:
    """Within the context random weights are drawn in one plain way: the large networks would take minutes otherwise."""

    pattern = (torch.rand(9973, generator=torch.Generator().manual_seed(0)) - 0.5) / 10

    def draw(tensor: Tensor, *_: Any, **__: Any) -> Tensor:
        with torch.no_grad():
            flat, whole = tensor.view(-1), tensor.numel() // len(pattern) * len(pattern)
            flat[:whole].view(-1, len(pattern)).copy_(pattern)
            flat[whole:].copy_(pattern[: len(flat) - whole])
        return tensor

    with pytest.MonkeyPatch.context() as patch:
        for name in ("trunc_normal_", "normal_", "kaiming_normal_", "kaiming_uniform_", "xavier_uniform_", "uniform_"):
            patch.setattr(nn.init, name, draw)
        yield


def torchvision_network(name: str) -> tuple[nn.Module, int]:
    """A network for ten classes, and the side of its images."""
    size = 56 if name == "vit_h_14" else SIZES.get(name, 64)
    options: dict[str, Any] = {"image_size": size} if name.startswith("vit_") else {}
    with quick_weights():
        return torchvision.models.get_model(name, weights=None, num_classes=10, **options), size


def timm_network(name: str) -> tuple[nn.Module, int]:
    """As `torchvision_network`, at the size that timm says."""
    timm = pytest.importorskip("timm")
    options = {"img_size": 112} if "dinov2" in name else {}  # 518 px take a while
    with quick_weights():
        network = timm.create_model(name, num_classes=10, **options)
    return network, options.get("img_size", network.pretrained_cfg["input_size"][1])
