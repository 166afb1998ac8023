"""A small set in Broden's format, and a network with a channel wired to one concept of each category in it."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from neuron_consistency.data.broden import CATEGORIES
from neuron_consistency.networks.models import Classifier

SIZE, LABELS, MAPS = 56, 28, 14  # sides of the images, the label maps and the layer's maps
COLOURS = {
    "color": (255, 255, 0),
    "texture": (255, 0, 255),
    "material": (0, 0, 255),
    "scene": (0, 255, 255),
    "part": (0, 255, 0),
    "object": (255, 0, 0),
}
CORNERS = {"color": (1, 1), "material": (1, 7), "part": (7, 1), "object": (7, 7)}  # of patches, in map positions
PATCH = 6
# A patch of 6x6 ones, twice as large: at half a step outside its edge the bilinear value is .25, inside .75, in its
# corners .75^2; above .6 lies all of its 12x12 but the 4 corners. The texture covers half of its images, all of
# which is labelled; the scene all of its.
WIRED_IOU = dict.fromkeys(CORNERS, 140 / 144) | {"scene": 1.0, "texture": 0.5}


def write_set(folder: Path) -> Path:
    """24 images with coloured patches, 8 scenes and 8 textures, in Broden's format; part and texture use ';'."""
    (folder / "images").mkdir(parents=True)
    names = [f"{category}-target" for category in CATEGORIES] + [f"{category}-other" for category in CATEGORIES]
    numbers = {name: 250 + 3 * i for i, name in enumerate(names)}  # beyond 255: red + 256 green
    rows: list[dict[str, object]] = []
    frequency = dict.fromkeys(names, 0)
    for index in range(40):
        image = np.zeros((SIZE, SIZE, 3), dtype=np.uint8)
        row: dict[str, object] = {"image": f"{index:02d}.png", "split": "val" if index % 4 == 3 else "train"}
        row |= {"ih": SIZE, "iw": SIZE, "sh": LABELS, "sw": LABELS}
        if index < 24:
            for bit, (category, (top, left)) in enumerate(CORNERS.items()):
                shown = bool((index >> bit) & 1) or index >= 16
                label = np.zeros((LABELS, LABELS), dtype=np.int64)
                label[12:16, 12:16] = numbers[f"{category}-other"]
                frequency[f"{category}-other"] += 1
                if shown:
                    image[4 * top : 4 * (top + PATCH), 4 * left : 4 * (left + PATCH)] = COLOURS[category]
                    label[2 * top : 2 * (top + PATCH), 2 * left : 2 * (left + PATCH)] = numbers[f"{category}-target"]
                    frequency[f"{category}-target"] += 1
                files = [f"{index:02d}_{category}.png"]
                channels = np.stack([label % 256, label // 256, 0 * label], axis=2).astype(np.uint8)
                Image.fromarray(channels).save(folder / "images" / files[0])
                if category == "part":  # a second map, with the same label: it may not count twice
                    files.append(files[0])
                row[category] = ";".join(files)
        else:
            category = "scene" if index < 32 else "texture"
            shown = index % 2 == 0
            if shown:
                image[: SIZE if category == "scene" else SIZE // 2] = COLOURS[category]
            named = [f"{category}-target" if shown else f"{category}-other"]
            if category == "texture" and shown:
                named.append("texture-other")
            for name in named:
                frequency[name] += 1
            row[category] = ";".join(str(numbers[name]) for name in named)
        Image.fromarray(image).save(folder / "images" / str(row["image"]))
        rows.append(row)
    columns = ["image", "split", "ih", "iw", "sh", "sw", "color", "object", "part", "material", "scene", "texture"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "index.csv", index=False)
    table = pd.DataFrame({"number": numbers.values(), "name": names, "frequency": frequency.values()})
    table["owner"] = table["name"].str.split("-").str[0]
    table["category"] = [f"{owner}({n})" for owner, n in zip(table["owner"], table["frequency"], strict=True)]
    table = table.assign(coverage=table["frequency"].astype(float), syns="")
    table[["number", "name", "category", "frequency", "coverage", "syns"]].to_csv(folder / "label.csv", index=False)
    extents = [
        {"name": c, "first": own["number"].min(), "last": own["number"].max(), "count": 2, "frequency": 40}
        for c, own in table.groupby("owner")
    ]
    pd.DataFrame(extents).to_csv(folder / "category.csv", index=False)
    for owner, own in table.groupby("owner"):
        coded = own[["number", "name", "frequency", "coverage"]]
        coded.insert(0, "code", range(1, len(own) + 1))
        coded.to_csv(folder / f"c_{owner}.csv", index=False)
    return folder


class Detectors(nn.Module):
    """Maps (14x14): one channel a category, 1 on its colour; one of noise that changes with the image; a dead one."""

    def forward(self, images: Tensor) -> Tensor:
        wanted = torch.tensor(list(COLOURS.values()), device=images.device) / 255
        wired = (1 - (images[:, None] - wanted[None, :, :, None, None]).abs().sum(2)).relu()
        wired = functional.avg_pool2d(wired, SIZE // MAPS)
        place = torch.arange(MAPS * MAPS, device=images.device).view(1, MAPS, MAPS)
        noise = (torch.sin(place * 12.9898 + images.sum((1, 2, 3))[:, None, None] * 78.233) * 43758.5453).frac().abs()
        return torch.cat([wired, noise[:, None], torch.zeros_like(noise)[:, None]], dim=1)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.detectors = Detectors()

    def forward(self, images: Tensor) -> Tensor:
        maps: Tensor = self.detectors(images)
        return maps.mean((2, 3))


NOISE, DEAD = 6, 7
THRESHOLDS = torch.tensor([0.6] * 6 + [0.9, 0.0])


def planted_classifier() -> Classifier:
    """The network, without normalisation, so that colours arrive as they are."""
    model = Classifier(Network(), "planted", {"maps": ("detectors", 8)})
    model.mean.zero_()
    model.std.fill_(1)
    return model
