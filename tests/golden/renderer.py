"""Pictures of the rendered scenes: twelve of each kind, and a set of them in Broden's format."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from neuron_consistency.data.broden import CATEGORIES, BrodenSet
from neuron_consistency.data.load import load_images
from neuron_consistency.data.scenes.groups import group_classes, render_group
from neuron_consistency.data.scenes.render import object_classes, render_scene
from neuron_consistency.data.scenes.write import write_scenes

COUNT, SIZE = 12, 48


def colours(image: np.ndarray) -> dict[str, float]:
    """The mean of each channel, and how much its pixels differ."""
    means, spreads = image.reshape(-1, 3).mean(0).tolist(), image.reshape(-1, 3).std(0).tolist()
    return dict(zip(("red", "green", "blue"), means, strict=True)) | dict(
        zip(("red spread", "green spread", "blue spread"), spreads, strict=True)
    )


def scene_rows(**options: Any) -> pd.DataFrame:
    """Twelve scenes of one object: colours, box, mask and how many pixels have each kind of label."""
    rows = []
    for index in range(COUNT):
        scene = render_scene(index, seed=3, image_size=SIZE, **options)
        counts = {
            kind: [int((numbers > 0).sum()) for numbers in maps] + [int(numbers.sum()) for numbers in maps]
            for kind, maps in scene.maps.items()
        }
        known = {"class": scene.name, "scene": scene.scene, "textures": list(scene.textures), "box": list(scene.box)}
        rows.append(colours(scene.image) | known | {"mask": int(scene.mask.sum())} | counts)
    return pd.DataFrame(rows)


def group_rows() -> pd.DataFrame:
    """Twelve scenes of several objects."""
    rows = []
    for index in range(COUNT):
        group = render_group(index, seed=3, image_size=SIZE, classes=8, background_correlation=0.5)
        known = {"classes": list(group.classes), "planned": list(group_classes(index, 8, seed=3))}
        seen = np.bincount(group.labels.ravel(), minlength=9).tolist()
        boxes = [list(box) for box in group.boxes]
        rows.append(colours(group.image) | known | {"scene": group.scene, "boxes": boxes, "pixels of classes": seen})
    return pd.DataFrame(rows)


def broden_rows(folder: Path) -> dict[str, object]:
    """Twelve scenes as files: what a reader of Broden's format sees, and its tables."""
    write_scenes(folder, images=COUNT, image_size=SIZE, seed=1, classes=6, background_correlation=0.5)
    written = BrodenSet.open(folder)
    rows = []
    for index in range(COUNT):
        image = written.image(index, image_size=SIZE).permute(1, 2, 0).numpy()
        row: dict[str, object] = dict(colours(255 * image))
        for category in CATEGORIES:
            numbers = written.image_labels(index, category) if bool(written.labelled(category)[index]) else np.zeros(0)
            row[category] = np.unique(np.asarray(numbers), return_counts=True)[1].tolist()
            row[f"{category} sum"] = int(np.asarray(numbers).sum())
        rows.append(row)
    files = ("index", "classes", "category", "label", "c_color")
    tables = {name: pd.read_csv(folder / f"{name}.csv", dtype=str, keep_default_na=False) for name in files}
    found: dict[str, object] = {"as a set in Broden's format": pd.DataFrame(rows)}
    return found | {f"its {name}.csv": table for name, table in tables.items()}


def set_rows(name: str, **options: Any) -> pd.DataFrame:
    """The scenes as a set of images: what `load_images` gives networks."""
    found = load_images(name, "val", image_size=24, classes=6, per_class=2, **options)
    pixels = np.asarray(found.pixels, dtype=float)
    means = dict(zip(("red", "green", "blue"), pixels.mean((2, 3)).T.tolist(), strict=True))
    boxes = [] if found.boxes is None else found.boxes.tolist()
    masks = found.masks(torch.arange(len(found))).float().mean((1, 2, 3)).tolist()
    frame = pd.DataFrame(means | {"labels": found.labels.tolist(), "mask": masks})
    return frame.assign(box=boxes) if len(boxes) == len(frame) else frame


def numbers() -> dict[str, object]:
    """All kinds of scenes."""
    with tempfile.TemporaryDirectory() as folder:
        written = broden_rows(Path(folder) / "scenes")
    return {
        "classes": object_classes(),
        "of one object": scene_rows(),
        "background with its class": scene_rows(background_correlation=1.0),
        "background of the class, mixed": scene_rows(background_correlation=0.8, variant="mixed-same"),
        "background of another class, mixed": scene_rows(background_correlation=0.8, variant="mixed-rand"),
        "flat": scene_rows(flat=True),
        "of several objects": group_rows(),
        **written,
        "as a set of images": set_rows("scenes", background_correlation=0.8),
        "as a set of images of several objects": set_rows("scenes-multilabel"),
    }
