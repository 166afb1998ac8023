"""Where in an image a neuron looks: discrepancy maps by occlusion."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from neuron_consistency.errors import ParameterError
from neuron_consistency.networks.models import Classifier
from neuron_consistency.networks.reading import evaluating, read_layers
from neuron_consistency.runtime import Runtime


def occluder_geometry(image_size: int) -> tuple[int, int]:
    """Side and stride of the default occluder: 11 and 3 at 224 pixels, 8 and 4 at 64, in between in proportion.

    Smaller images get a relatively larger occluder: 11/224 of 64 pixels would be 3, which hides next to nothing.

    Source: Zhou et al. 2015 (11x11, stride 3); the scaling is ours.
    """
    along = min(max((image_size - 64) / (224 - 64), 0), 1)
    return round(8 + 3 * along), round(4 - along)


@torch.no_grad()
def discrepancy_maps(
    model: Classifier,
    images: Tensor,
    on: Runtime,
    *,
    layer: str,
    neurons: Sequence[Sequence[int]] | Tensor,
    occluder: int | None = None,
    stride: int | None = None,
    fill: float = 0.5,
) -> Tensor:
    """How much hiding each pixel lowers each neuron's response (its spatial maximum over the layer).

    A square occluder is slid over the image; the value of a pixel is the mean, over the occluders that cover it, of
    response(image) - response(occluded image): positive where the neuron needs the pixel. One set of occluded
    images serves all neurons of an image. Occluders that would stick out at the right or lower edge are cut off
    there, so that every pixel is covered. It is captum's `Occlusion` with `baselines=fill`.

    Args:
        on: its batches are of occluded images, fewer on a processor.
        neurons: for each image, the channels of `layer` to look at: equally many.
        occluder: side of the square in pixels; default `occluder_geometry`, as for the stride.
        fill: value of the occluder's pixels in [0, 1].

    Shape:
        images: (B, 3, H, W) in [0, 1]; neurons: (B, n); result: (B, n, H, W) float32 on the images' device.

    Raises:
        ParameterError: unequal numbers of neurons, an occluder larger than the image, or a stride that is not
            between 1 and the occluder.

    Source: Zhou et al. 2015, "Object detectors emerge in deep scene CNNs", which P1 uses in figures 3 and 4. They
        occlude with random patches and smooth the result; a constant makes it reproducible.
    """
    height, width = images.shape[2:]
    side, step = occluder_geometry(min(height, width))
    side, step = occluder or side, stride or step
    if side > min(height, width) or not 1 <= step <= side:
        raise ParameterError(
            f"occluder={side}, stride={step} on {height}x{width} images: need stride <= occluder <= image"
        )
    if len({len(of_image) for of_image in neurons}) > 1:
        raise ParameterError("discrepancy maps need equally many neurons for each image")
    model.to(on.device)

    def starts(length: int) -> Tensor:
        return torch.arange(-(-(length - side) // step) + 1, device=on.device) * step

    def bars(start: Tensor, length: int) -> Tensor:
        """What squares that start there cover of an axis. Shape: (S, length) bool."""
        offset = torch.arange(length, device=on.device) - start[:, None]
        return (offset >= 0) & (offset < side)

    top, left = starts(height), starts(width)
    corners = torch.cartesian_prod(top, left)
    at_once = on.batch_size if on.device.type == "cuda" else min(on.batch_size, 64)  # more leave a processor's caches
    drops = []
    with evaluating(model), read_layers(model, [layer]) as outputs:
        for image, wanted in zip(images.to(on.device), torch.as_tensor(neurons, device=on.device), strict=True):

            def respond(batch: Tensor, wanted: Tensor = wanted) -> Tensor:
                with on.autocast():
                    model(batch.contiguous(memory_format=torch.channels_last))
                return outputs.pop(layer)[:, wanted].amax((2, 3)).float()

            occluded = [
                respond(torch.where(bars(y, height)[:, None, :, None] & bars(x, width)[:, None, None], fill, image))
                for y, x in (chunk.unbind(1) for chunk in corners.chunk(-(-len(corners) // at_once)))
            ]
            drops.append(respond(image[None]) - torch.cat(occluded))
    per_corner = torch.stack(drops).transpose(1, 2).reshape(-1, 1, len(top), len(left))
    square = torch.ones(1, 1, side, side, device=on.device)
    total = functional.conv_transpose2d(per_corner, square, stride=step)[..., :height, :width]
    covers = functional.conv_transpose2d(torch.ones_like(per_corner[:1]), square, stride=step)
    maps = total / covers[..., :height, :width]
    return maps.view(len(images), -1, height, width).to(images.device)


def highlighted_region(maps: Tensor, *, fraction: float = 0.5) -> Tensor:
    """Where a map reaches `fraction` of its own maximum; empty where nothing is positive.

    Shape:
        maps: (..., H, W); result: (..., H, W) bool.
    """
    peak = maps.amax((-2, -1), keepdim=True)
    return (maps >= fraction * peak) & (maps > 0)
