"""The strongest images of every neuron, as a page shows them: small, captioned, and where in them the response is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from neuron_consistency import taxonomy
from neuron_consistency.card.measure import Piece
from neuron_consistency.consistency.ambiguity import FGSM, REAL, attacks_of
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.networks.models import Classifier
from neuron_consistency.networks.reading import over
from neuron_consistency.runtime import Runtime

PICTURES, SIDE = 2000, 64  # images that a page shows of each set at most, and the pixels of their sides
GRID = 8  # a region is told in so many lines of so many fields; page.js knows it
ROOT = "n00001740"  # entity, which is above all


@dataclass(frozen=True)
class Strongest:
    """The strongest images of a network's neurons on one set.

    Attributes:
        thumbnails: by image; images of no neuron are left out, and so are those beyond what a page shows.
        captions: by image, file name, true class and predicted class.
        regions: for each neuron, of each of its images the `region`, one after the other; "" where none is known.

    Shape:
        tops: (neurons, n) int64, the images of each neuron, strongest first, -1 for none; thumbnails: (3, s, s) uint8,
        all of one size.
    """

    tops: Tensor
    thumbnails: Mapping[int, Tensor]
    captions: Mapping[int, tuple[str, str, str]]
    regions: list[str]


def region(maps: Tensor, *, signed: bool = False) -> list[str]:
    """Where in an image a neuron responds: its map, enlarged bilinearly to 8 by 8 fields, is over half of its greatest
    value there.

    A larger map is made smaller by maxima. Of a map with negative values it is half of the way up from its least one.

    Shape:
        maps: (P, h, w).

    Returns:
        For each map 16 hexadecimal digits, two a line of fields, the leftmost field in the highest bit.

    Source: ours; P1 shows discrepancy maps, which take a forward pass a patch.
    """
    maps, size = maps.float()[:, None], (GRID, GRID)
    large = max(maps.shape[2:]) > GRID
    fields = (
        functional.adaptive_max_pool2d(maps, size) if large else functional.interpolate(maps, size, mode="bilinear")
    )
    fields = fields.flatten(1)
    least = fields.amin(1, keepdim=True) if signed else torch.zeros_like(fields[:, :1])
    inside = fields >= (least + fields.amax(1, keepdim=True)) / 2
    weights = 2 ** torch.arange(GRID - 1, -1, -1, device=maps.device)
    return [bytes(row).hex() for row in (inside.view(-1, GRID, GRID) * weights).sum(2).tolist()]


def strongest(
    model: Classifier,
    images: ImageSet,
    on: Runtime,
    pieces: Mapping[str, Piece],
    *,
    epsilon: float,
    most: int = PICTURES,
) -> dict[str, Strongest]:
    """The strongest real and FGSM images of every neuron of the layers measured, by set; one more pass over them.

    Args:
        images: those that were measured.
        pieces: what stays of the passes, by set.
        epsilon: of FGSM.
        most: so many images of a set have a thumbnail, the strongest of each neuron first, from the last layer on.
    """
    names = images.names if images.names is not None else [f"image {i}" for i in range(len(images))]
    found = {}
    for name in (name for name in (REAL, FGSM) if name in pieces):
        layers = pieces[name]["top"]
        tops = torch.tensor([top for rows in layers.values() for top in rows])
        owner = [layer for layer, rows in layers.items() for _ in rows]
        first = {layer: owner.index(layer) for layer in layers}
        wanted = torch.tensor([*dict.fromkeys(i for i in tops.flip(0).T.flatten().tolist() if i >= 0)][:most])
        attack = attacks_of(on, epsilon=epsilon, pgd_steps=0).get(name, (None, None))[0]
        thumbnails: dict[int, Tensor] = {}
        regions = [[""] * tops.shape[1] for _ in owner]
        for seen in over(model, images.take(wanted), on, layers=list(layers), attack=attack) if len(wanted) else ():
            here = wanted[seen.places]
            small = functional.interpolate(seen.images.float(), size=(SIDE, SIDE), mode="bilinear", antialias=True)
            thumbnails |= dict(zip(here.tolist(), (small * 255).round().byte().cpu(), strict=True))
            for layer, maps in seen.maps.items():
                if maps.shape[3] == 1 < maps.shape[2]:
                    continue  # tokens in no square, whose places are not known
                own = tops[first[layer] : first[layer] + len(layers[layer])]
                neurons, ranks, at = (own[:, :, None] == here).nonzero(as_tuple=True)
                told = region(maps[at.to(maps.device), neurons.to(maps.device)], signed=model.sites[layer].signed)
                for neuron, rank, text in zip(neurons.tolist(), ranks.tolist(), told, strict=True):
                    regions[first[layer] + neuron][rank] = text
        predicted, classes = pieces[name]["predictions"], images.classes
        captions = {
            i: (str(names[i]), classes[int(images.labels[i])], classes[predicted[i]])
            for i in sorted(set(tops.flatten().tolist()) - {-1})
        }
        joined = ["".join(text or "." * 2 * GRID for text in row) for row in regions]
        found[name] = Strongest(tops, thumbnails, captions, joined)
    return found


def ways(images: ImageSet) -> list[list[str]]:
    """For each class what is above it in WordNet, from the top down, and its name at the end.

    Raises:
        DatasetError: a class has no synset.
    """
    synsets = (taxonomy.resolve(synset or name) for synset, name in zip(images.synsets, images.classes, strict=True))
    return [
        [*(taxonomy.lemma(wnid) for wnid in reversed(taxonomy.path(synset, ROOT)[1:])), name]
        for synset, name in zip(synsets, images.classes, strict=True)
    ]
