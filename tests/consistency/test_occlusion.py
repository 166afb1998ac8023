"""Discrepancy maps: the region a neuron needs, equal to captum's, one set of occlusions for all neurons."""

from typing import Any

import pytest
import torch
from captum.attr import Occlusion
from torch import Tensor, nn

from neuron_consistency.consistency.occlusion import discrepancy_maps, highlighted_region, occluder_geometry
from neuron_consistency.errors import ParameterError
from neuron_consistency.networks.models import Classifier, build_model
from neuron_consistency.networks.reading import read_layers
from neuron_consistency.runtime import Runtime
from toys import CPU

ON = Runtime(CPU, "float32")


class Identity(nn.Module):
    """Leaves the channels of the image, moved by the normalisation, as "neurons"."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1, bias=False)
        self.layer.weight.data = torch.eye(3).view(3, 3, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.layer(images)
        return result.amax((2, 3))


@pytest.fixture
def colours() -> Classifier:
    return Classifier(Identity(), "identity", {"last": ("layer", 3)})


def test_a_neuron_that_sees_one_spot_is_located_there(colours: Classifier) -> None:
    """The red neuron's map is highest on the red spot, zero away from it, and never highlights the green one."""
    image = torch.full((1, 3, 64, 64), 0.2)
    image[0, 0, 10:14, 20:24] = 1.0
    image[0, 1, 40:44, 50:54] = 1.0
    maps = discrepancy_maps(colours, image, ON, layer="last", neurons=[[0, 1, 2]])
    assert maps.shape == (1, 3, 64, 64)
    red, green, _ = highlighted_region(maps, fraction=0.9)[0]
    assert red[10:14, 20:24].all()
    assert not red[30:].any()
    assert green[40:44, 50:54].all()
    assert not green[:30].any()
    assert maps[0, 0, 30:].abs().max() == 0
    # grey (.5) is brighter than this background, so that hiding anything raises the blue response: never lit
    assert not highlighted_region(maps)[0, 2].any()


def test_equals_captums_occlusion() -> None:
    """Same occluder, stride and value: the same map, for sides that the stride divides and those it does not."""
    model = build_model("resnet18", num_classes=5, image_size=64, seed=1).eval()
    images = torch.rand(2, 3, 29, 35, generator=torch.Generator().manual_seed(0))
    neurons = torch.tensor([[3, 400], [7, 7]])
    on = Runtime(CPU, "float32", 7)
    maps = discrepancy_maps(model, images, on, layer="layer4", neurons=neurons, occluder=11, stride=4, fill=0.25)

    def respond(batch: Tensor, neuron: int) -> Tensor:
        with read_layers(model, ["layer4"]) as outputs:
            model(batch)
        return outputs["layer4"][:, neuron].amax((1, 2))

    for image in range(2):
        for place in range(2):
            theirs = Occlusion(respond).attribute(
                images[image : image + 1],
                sliding_window_shapes=(3, 11, 11),
                strides=(3, 4, 4),
                baselines=0.25,
                perturbations_per_eval=64,
                additional_forward_args=(int(neurons[image, place]),),
            )
            torch.testing.assert_close(maps[image, place], theirs[0, 0].detach(), atol=1e-5, rtol=1e-4)


def test_batch_size_of_the_occlusions_changes_nothing(colours: Classifier) -> None:
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    first, second = (
        discrepancy_maps(colours, images, Runtime(CPU, "float32", size), layer="last", neurons=[[0, 1], [2, 0]])
        for size in (5, 1000)
    )
    torch.testing.assert_close(first, second)


def test_hooks_are_removed_and_the_mode_kept_after_an_exception(colours: Classifier) -> None:
    colours.train()
    with pytest.raises(IndexError):
        discrepancy_maps(colours, torch.rand(1, 3, 16, 16), ON, layer="last", neurons=[[9]])
    assert colours.training
    assert not colours.layer_module("last")._forward_hooks


def test_default_occluder_is_the_papers_at_224_and_scaled_below() -> None:
    assert occluder_geometry(224) == (11, 3)
    assert occluder_geometry(64) == (8, 4)
    assert occluder_geometry(32) == (8, 4)
    assert occluder_geometry(500) == (11, 3)


@pytest.mark.parametrize(
    ("neurons", "options"),
    [([[0], [0, 1]], {}), ([[0], [0]], {"occluder": 99}), ([[0], [0]], {"occluder": 4, "stride": 5})],
)
def test_impossible_requests_name_what_is_wrong(
    colours: Classifier, neurons: list[list[int]], options: dict[str, Any]
) -> None:
    with pytest.raises(ParameterError, match=r"occluder|equally many"):
        discrepancy_maps(colours, torch.rand(2, 3, 32, 32), ON, layer="last", neurons=neurons, **options)
