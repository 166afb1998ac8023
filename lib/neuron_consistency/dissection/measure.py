"""Network Dissection: which labelled concept, if any, each neuron of a layer stands for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from neuron_consistency.data.broden import CATEGORIES, BrodenSet
from neuron_consistency.dissection.overlap import Overlap, OverlapCounter, partners, upsampling_matrix
from neuron_consistency.errors import ParameterError, require
from neuron_consistency.networks.models import Classifier
from neuron_consistency.networks.reading import evaluating, read_layers
from neuron_consistency.runtime import Runtime, drawn_by_row

SMALLEST_MAP = 7  # below this a neuron's mask is too coarse to match any concept (Bau et al. use 7x7 and more)
KEPT_BYTES = 2**30  # maps of a set are kept between passes up to this size, and computed anew beyond it
ImageAttack = Callable[[nn.Module, Tensor], Tensor]  # (model, images) -> adversarial images


def dissection_size(model: Classifier, layer: str) -> int:
    """The smallest multiple of 32 pixels, from 64, that gives the layer maps of 7x7 or more.

    Raises:
        ParameterError: even 512 pixels give smaller maps, or the model has no such layer.

    Source: design of Bau et al. 2017, whose last layers have 7x7 to 14x14 maps; the search is ours.
    """
    device = model.mean.device
    for size in range(64, 513, 32):
        maps = _read(model, layer, torch.zeros(1, 3, size, size), Runtime(device, "float32"))
        if min(maps.shape[2:]) >= SMALLEST_MAP:
            return size
    raise ParameterError(
        f"layer {layer!r} has maps below {SMALLEST_MAP}x{SMALLEST_MAP} even at 512 px: choose an earlier layer"
    )


def _read(model: Classifier, layer: str, images: Tensor, on: Runtime, attack: ImageAttack | None = None) -> Tensor:
    """The layer's maps, (B, U, h, w) float32 on the runtime's device, in eval mode."""
    images = images.to(on.device).contiguous(memory_format=torch.channels_last)
    with evaluating(model), on.autocast():
        if attack is not None:
            images = attack(model, images)
        with torch.no_grad(), read_layers(model, [layer]) as outputs:
            model(images)
    return outputs[layer].float().contiguous()


@dataclass
class LayerMaps:
    """The maps of a layer on all images of a labelled set, batch by batch, as often as they are asked for.

    The network runs once where all maps together fit into `KEPT_BYTES`, and else once for each pass over them.

    Attributes:
        model: a network, moved to the runtime's device and run in eval mode.
        broden: the set.
        on: where and how the network runs; the batch size changes no map beyond rounding.
        layer: a name among `model.layers`.
        image_size: the side of the images shown to the network, see `dissection_size`.
        attack: makes the images adversarial first.
        kept: the batches of maps, after the first pass.

    Shape:
        yields places (B,) int64 and maps (B, U, h, w) float32, on the device.

    Raises:
        ParameterError: the model has no such layer; or, in a pass, its maps are below 7x7.
    """

    model: Classifier
    broden: BrodenSet
    on: Runtime
    layer: str
    image_size: int
    attack: ImageAttack | None = None
    kept: list[tuple[Tensor, Tensor]] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        self.model.to(self.on.device).layer_module(self.layer)

    def __len__(self) -> int:
        """The number of batches."""
        return math.ceil(len(self.broden) / self.on.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        if self.kept:
            yield from self.kept
            return
        seen = []
        for places, images in self.broden.image_batches(self.on.batch_size, image_size=self.image_size):
            maps = _read(self.model, self.layer, images, self.on, self.attack)
            height, width = maps.shape[2:]
            if min(height, width) < SMALLEST_MAP:
                raise ParameterError(
                    f"layer {self.layer!r} has {height}x{width} maps at {self.image_size} px, and dissection needs "
                    f"{SMALLEST_MAP}x{SMALLEST_MAP}: use a larger image_size (dissection_size gives it)"
                )
            if maps[0].nbytes * len(self.broden) <= KEPT_BYTES:
                seen.append((places, maps))
            yield places, maps
        self.kept = seen

    def head(self, images: int) -> LayerMaps:
        """The maps of the first so many images; the network does not run again for those that are kept."""
        kept = [(at[at < images], maps[at < images]) for at, maps in self.kept if int(at[0]) < images]
        return replace(self, broden=self.broden.head(images), kept=kept)


def unit_thresholds(layer_maps: LayerMaps, *, quantile: float = 0.005, max_kept: int = 0) -> Tensor:
    """The value that a share `quantile` of a unit's map positions, over all images, reaches: exact, streaming.

    It is the k-th largest of all N h w values of the unit, k = ceil(quantile N h w). Only the k largest so far and as
    many new ones are held: 2 k U float32, which for 63,000 images at 7x7 and 512 units is 63 MB, but for 64 units at
    112x112 2 GB. `max_kept`, unless it is 0, caps k: an equal number of positions is then drawn from each image (at
    least one, the same for any batch size), and the threshold is the quantile of that sample.

    Shape:
        result: (U,) float32, on the maps' device, in the units of the layer's responses.

    Raises:
        ParameterError: quantile outside (0, 1], max_kept negative, or maps below 7x7.

    Source: Bau et al. 2017, section 2.2, P(a_k > T_k) = .005; theirs is an approximate streaming quantile.
    """
    require(0, 1, above=True, quantile=quantile)
    require(0, whole=True, max_kept=max_kept)
    wanted = quantile * len(layer_maps.broden)  # of each position
    largest, k = torch.empty(0), 0
    for places, maps in tqdm(layer_maps, "thresholds", disable=None):
        values = maps.flatten(2)
        if 0 < max_kept < wanted * values.shape[2]:
            drawn = max(1, math.floor(max_kept / wanted))
            chosen = drawn_by_row(places.tolist(), partial(torch.randperm, values.shape[2]), seed=0)[:, :drawn]
            values = values.gather(2, chosen.to(values.device)[:, None].expand(-1, values.shape[1], -1))
        k = math.ceil(wanted * values.shape[2])
        new = values.transpose(0, 1).flatten(1)
        largest = torch.cat([largest, new], dim=1) if len(largest) else new
        if largest.shape[1] >= 2 * k:
            largest = largest.topk(k, dim=1, sorted=False).values
    return largest.topk(k, dim=1).values[:, -1]


def dissect(layer_maps: LayerMaps, *, thresholds: Tensor) -> Overlap:
    """Counts how each unit's masks overlap each concept of the set, in one pass.

    Maps are upsampled bilinearly to the label maps' size; a unit's mask is where they exceed its threshold. What equals
    the threshold is outside: a silent unit, whose threshold is 0, has no mask and not the whole image. So a unit with
    many equal values has a mask of less than the quantile, perhaps an empty one; `unit_labels` says which.

    Args:
        layer_maps: of real or adversarial images.
        thresholds: of each unit, from `unit_thresholds`: those of the real images also for adversarial ones, unless
            the question is another.

    Shape:
        thresholds: (U,).

    Raises:
        ParameterError: maps below 7x7, or thresholds of another layer.

    Source: Bau et al. 2017, section 2.3; P1 applies it to least-likely-class adversarial images.
    """
    return _counted(layer_maps, thresholds, None)[0]


def dissect_beside_chance(layer_maps: LayerMaps, *, thresholds: Tensor, seeds: Sequence[int] = (0,)) -> list[Overlap]:
    """What `dissect` counts and then, for each seed, what the same masks overlap by chance, in one pass.

    For the chance level each image's labels of a category are exchanged for those of another image labelled in it, a
    random cycle through them: areas and label statistics stay, the correspondence goes.

    Source: ours.
    """
    labelled = {category: layer_maps.broden.labelled(category) for category in CATEGORIES}
    generators = (torch.Generator().manual_seed(seed) for seed in seeds)
    exchanges = [{name: partners(own, generator=drawn) for name, own in labelled.items()} for drawn in generators]
    return _counted(layer_maps, thresholds, None, *exchanges)


def _counted(layer_maps: LayerMaps, thresholds: Tensor, *exchanges: dict[str, Tensor] | None) -> list[Overlap]:
    broden, on, units = layer_maps.broden, layer_maps.on, layer_maps.model.layers[layer_maps.layer]
    if thresholds.shape != (units,):
        raise ParameterError(f"{len(thresholds)} thresholds for the {units} units of {layer_maps.layer!r}")
    labels = [broden.label_batches(on.batch_size, exchange=exchange) for exchange in exchanges]
    counters = [OverlapCounter(thresholds.to(on.device), broden.labels, broden.label_size) for _ in exchanges]
    for (places, maps), *given in zip(tqdm(layer_maps, "dissection", disable=None), *labels, strict=True):
        for counter, own in zip(counters, given, strict=True):
            counter.add(places, maps, own)
    return [counter.result() for counter in counters]


def unit_masks(
    model: Classifier, images: Tensor, on: Runtime, *,
    layer: str, unit: int, threshold: float, size: tuple[int, int],
) -> Tensor:  # fmt: skip
    """The mask of a unit on each image: where its upsampled map exceeds its threshold.

    Shape:
        images: (B, 3, S, S) in [0, 1]; result: `(B, *size)` bool, on the device.

    Source: Bau et al. 2017, section 2.3.
    """
    maps = _read(model, layer, images, on)
    rows, columns = (upsampling_matrix(s, t).to(maps.device) for s, t in zip(maps.shape[2:], size, strict=True))
    return rows @ maps[:, unit] @ columns.T > threshold


def unit_labels(overlap: Overlap, *, iou_threshold: float = 0.04, min_images: int = 10) -> pd.DataFrame:
    """The concept each unit matches best, over all categories.

    Args:
        overlap: what `dissect` counted.
        iou_threshold: a unit whose best IoU exceeds it is aligned with that concept.
        min_images: concepts shown by fewer of the images counted are left out.

    Returns:
        One row a unit: unit, label, category, iou, aligned, masked (whether any labelled pixel is above its threshold).
        A unit that overlaps nothing has label and category None and IoU 0.

    Raises:
        ParameterError: no concept is shown by that many images.

    Source: Bau et al. 2017 (IoU > .04; Broden keeps labels of 10 images or more).
    """
    kept = (overlap.concept_images >= min_images).nonzero().squeeze(1)
    if len(kept) == 0:
        raise ParameterError(
            f"min_images={min_images}: no label is in that many of the {overlap.images} images; lower it"
        )
    best, column = (found.numpy() for found in overlap.iou()[:, kept].nan_to_num(0).max(dim=1))
    concepts = overlap.concepts.iloc[kept.numpy()[column]].reset_index(drop=True)
    units = pd.DataFrame({"unit": range(len(best)), "label": concepts["label"].where(best > 0)})
    units["category"] = pd.Categorical(concepts["category"].where(best > 0), categories=CATEGORIES)
    return units.assign(iou=best, aligned=best > iou_threshold, masked=(overlap.unit_area > 0).any(1).numpy())
