"""What P3 claims of a network, image by image: accuracy, robustness, background, localisation, and E itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from neuron_consistency.attacks.linf import Attack, fgsm, pgd
from neuron_consistency.attacks.predictions import average_precision_parts, class_scores
from neuron_consistency.data.image_set import ImageSet, MultiLabelSet
from neuron_consistency.errors import ParameterError
from neuron_consistency.explanation.localisation import MAPS, SCORES, localise, score_row
from neuron_consistency.explanation.weighting import Weighting, weigh
from neuron_consistency.networks.models import Classifier
from neuron_consistency.show import Named, matched
from neuron_consistency.statistics import LEVEL, mean

SAME, OTHER, GAP = "accuracy, same background", "accuracy, other background", "background gap"
OWN_E, NOISE_E, TRUE_E = "E", "E under random signs", "E, object spared"
SPARED = "share of the image spared"
WORDS = {GAP: ("worse", "better"), "deletion": ("worse", "better"), SPARED: ("higher", "lower")}  # of a rise, a fall


@dataclass(frozen=True)
class Measured:
    """The measures of one network on a set of images.

    Attributes:
        values: one row an image, one column a measure; NaN where an image has none. Its mean is the measure.
        chance: what the measure is of a network, or a map, that knows nothing; NaN where there is no such number.
    """

    values: pd.DataFrame
    chance: dict[str, float]

    def table(self) -> pd.DataFrame:
        """One row a measure: measure, mean, low, high (95 % over images), images, excluded, chance."""
        rows = []
        for name, column in self.values.items():
            row = {"measure": name, **score_row(torch.tensor(column.to_numpy(float)))}
            rows.append(row | {"chance": self.chance.get(str(name), math.nan)})
        return pd.DataFrame(rows)


def measure(
    model: Classifier,
    images: ImageSet,
    *,
    weighting: Weighting,
    epsilon: float,
    pgd_steps: int = 10,
    backgrounds: tuple[ImageSet, ImageSet] | None = None,
    curve_images: int = 0,
    curve_steps: int = 28,
    device: torch.device,
    batch_size: int = 128,
    precision: str = "auto",
) -> Measured:
    """All measures that the set allows.

    Accuracy on clean, FGSM and PGD images (with several labels an image: mAP on clean ones), on the same objects
    before other backgrounds, and the gap between these; the scores of `localise` where the set has boxes or masks; E
    with the network's own explanation as the mask, its null (random signs on the same pixels), what share of the
    image that mask covers, and, where every image has one, E with the true mask.

    Args:
        model: the network; it is moved to the device.
        images: the test images.
        weighting: how E is taken, and which layer explains.
        epsilon: radius of FGSM and PGD, in units of the pixel range.
        pgd_steps: of PGD.
        backgrounds: the same objects before backgrounds of their own class, and of another one (image by image).
        curve_images: so many images, evenly spaced, are scored by insertion and deletion; 0 is none.
        curve_steps: of these, see `insertion_deletion`.
        device: where.
        batch_size: images at once.
        precision: of the forward passes.

    Raises:
        ParameterError: the two sets of backgrounds are not of the same objects.

    Source: P3's experiments; the true mask, PGD and all chance levels are ours.
    """
    model.to(device)
    shared = {"device": device, "batch_size": batch_size, "precision": precision}
    values: dict[str, Tensor] = {}
    chance: dict[str, float] = {}
    if isinstance(images, MultiLabelSet):
        scores, labels = class_scores(model, images, **shared)  # type: ignore[arg-type]
        values["mAP"], chance["mAP"] = average_precision_parts(scores, labels), float(labels.mean())
    else:
        generator = torch.Generator(device).manual_seed(0)
        attacks: dict[str, Attack | None] = {
            "accuracy": None,
            "accuracy, FGSM": lambda net, x, y: fgsm(net, x, y, epsilon=epsilon),
            f"accuracy, PGD-{pgd_steps}": lambda net, x, y: pgd(
                net, x, y, epsilon=epsilon, steps=pgd_steps, generator=generator
            ),
        }
        sets = {name: (images, attack) for name, attack in attacks.items()}
        if backgrounds is not None:
            if not torch.equal(backgrounds[0].labels, backgrounds[1].labels):
                raise ParameterError(
                    "the two sets of backgrounds are not of the same objects: take equally many images"
                )
            sets |= {SAME: (backgrounds[0], None), OTHER: (backgrounds[1], None)}
        for name, (subset, attack) in sets.items():
            logits, labels = class_scores(model, subset, attack=attack, **shared)  # type: ignore[arg-type]
            values[name] = (logits.argmax(1) == labels).double()
        chance |= dict.fromkeys(("accuracy", SAME, OTHER), 1 / images.num_classes)
        if backgrounds is not None:
            values[GAP], chance[GAP] = values[SAME] - values[OTHER], 0.0
    frame = pd.DataFrame({name: pd.Series(column.numpy()) for name, column in values.items()})
    if images.boxes is not None or bool(images.masked.any()):
        found = _localised(model, images, weighting, None, shared)
        if curve_images:
            places = torch.linspace(0, len(images) - 1, min(curve_images, len(images))).long()
            curves = _localised(model, images.subset(places), weighting, curve_steps, shared)
            curves.index = pd.MultiIndex.from_arrays(
                [curves.index.get_level_values("map"), places.numpy()[curves.index.get_level_values("image")]],
                names=["map", "image"],
            )
            found = found.join(curves[["insertion", "deletion"]])
        frame = frame.join(found.loc[MAPS[0]])
        means = found.groupby("map").mean().to_dict()  # a random map for the curves, for all else the image's centre
        chance |= {str(name): means[str(name)][MAPS[1 if name in ("insertion", "deletion") else 2]] for name in found}
    own = weigh(model, images, replace(weighting, mask="explanation"), **shared)  # type: ignore[arg-type]
    signs = torch.Generator(device).manual_seed(0)
    null = weigh(model, images, replace(weighting, mask="explanation"), noise=signs, **shared)  # type: ignore[arg-type]
    frame[OWN_E], frame[NOISE_E], frame[SPARED] = (
        each.numpy() for each in (own.consistency, null.consistency, own.spared)
    )
    if bool(images.masked.all()):
        true = weigh(model, images, replace(weighting, mask="truth"), **shared)  # type: ignore[arg-type]
        frame[TRUE_E] = true.consistency.numpy()
    return Measured(frame, chance)


def _localised(
    model: Classifier, images: ImageSet, weighting: Weighting, steps: int | None, shared: Mapping[str, object]
) -> pd.DataFrame:
    """By map and image the scores of `localise`, an image of several classes with their mean."""
    options = {"layer": weighting.layer, "threshold": weighting.threshold, "steps": steps}
    scores = localise(model, images, **options, **shared)  # type: ignore[arg-type]
    return scores.groupby(["map", "image"])[[name for name in SCORES if name in scores]].mean()


def compared(
    measured: Mapping[str, Measured], recipes: Sequence[Named], first: str, second: str, *, level: float = LEVEL
) -> pd.DataFrame:
    """Every measure of the networks of the objective `first` less those of `second`, and a verdict by one rule.

    The rule: a difference counts where its interval leaves zero out. With one seed the unit is the image, paired, and
    the verdict is of these two networks; with several the unit is the seed, and it is of the method. The intervals
    share `level` among the measures (each is of 1 - (1 - level) / measures), so that all of a table hold at once.

    Args:
        measured: by the networks' keys.
        recipes: the networks.
        first, second: objectives.
        level: of all intervals of an architecture together.

    Returns:
        One row an architecture and measure: architecture, measure, difference with low and high, unit, verdict
        ("better", "worse" or "not shown"; of the share spared, which is neither, "higher" or "lower").

    Raises:
        ParameterError: no network of the one objective has its like among those of the other.
    """
    by_architecture: dict[str, list[pd.DataFrame]] = {}
    for a, b in matched(recipes, first, second):
        difference = measured[a.key].values - measured[b.key].values
        by_architecture.setdefault(a.spec["architecture"], []).append(difference.dropna(axis=1, how="all"))
    if not by_architecture:
        raise ParameterError(f"no {first} network has its like among {second} ones: add both to objectives")
    rows = []
    for architecture, differences in by_architecture.items():
        one = len(differences) == 1
        units = differences[0] if one else pd.DataFrame([each.mean() for each in differences])
        each = 1 - (1 - level) / units.shape[1]
        for name, column in units.items():
            found = mean(column, level=each, lone=math.inf)
            words = *WORDS.get(str(name), ("better", "worse")), "not shown"
            row = {"architecture": architecture, "measure": name} | found.row("difference", bare=True)
            rows.append(row | {"unit": "image" if one else "seed", "verdict": found.verdict(above=0, words=words)})
    return pd.DataFrame(rows)


def consistency_history(
    histories: Mapping[str, Sequence[Mapping[str, object]]], quantiles: Sequence[float]
) -> pd.DataFrame:
    """E over the training set whenever it was taken: one row a network, epoch and quantile.

    Args:
        histories: by network, the rows of its training.
        quantiles: which quantiles those rows hold.

    Returns:
        Columns model, epoch, quantile, E, and of `Weighed.row` flipped, mean weight, spared, unmarked, covered.

    Raises:
        ParameterError: none of the networks weighs its images.
    """
    rows = [
        {
            "model": model,
            "epoch": row["epoch"],
            "quantile": quantile,
            "E": value,
            "flipped": row["flipped"],
            "mean weight": row["mean_weight"],
        }
        | {name: row[name] for name in ("spared", "unmarked", "covered")}
        for model, history in histories.items()
        for row in history
        if "consistency_quantiles" in row
        for quantile, value in zip(quantiles, np.asarray(row["consistency_quantiles"]), strict=True)
    ]
    if not rows:
        raise ParameterError("none of these networks weighs its images: add 'reweighted' to objectives")
    return pd.DataFrame(rows)


def localisation_table(scores: pd.DataFrame) -> pd.DataFrame:
    """The scores of `localise` as means over images, an image of several classes counting once.

    Returns:
        One row a map and score: map, score, the columns of `score_row`, and empty, the share of maps that are zero.
    """
    rows = []
    for name in MAPS:
        by_image = scores[scores["map"] == name].drop(columns=["map", "class"]).groupby("image").mean()
        for score in (column for column in SCORES if column in by_image):
            row = score_row(torch.tensor(by_image[score].tolist()))
            rows.append({"map": name, "score": score} | row | {"empty": float(by_image["empty"].mean())})
    return pd.DataFrame(rows)
