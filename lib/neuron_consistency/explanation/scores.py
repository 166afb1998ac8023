"""The measures of a network by which P3 judges it, image by image: accuracy, localisation, background, and E itself."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch

from neuron_consistency.attacks.linf import fgsm
from neuron_consistency.attacks.predictions import average_precision_parts, class_scores, predictions, under_pgd
from neuron_consistency.data.image_set import ImageSet, MultiLabelSet
from neuron_consistency.errors import ParameterError
from neuron_consistency.explanation.localisation import CENTRE, OFF_CENTRE, OWN, RANDOM, curves, localise
from neuron_consistency.explanation.weighting import Weighting, weigh
from neuron_consistency.networks.models import Classifier
from neuron_consistency.networks.reading import Attack
from neuron_consistency.runtime import Runtime
from neuron_consistency.statistics import Estimate, Numbers, mean, share

SAME, OTHER, GAP = "accuracy, same background", "accuracy, other background", "background gap"
OWN_E, RIGHT_E, NOISE_E, TRUE_E = "E", "E of right answers", "E under random signs", "E, object spared"
INSERTED, DELETED = "insertion above random", "deletion below random"
SPARED = "share of the image spared"


def score(values: Numbers) -> Estimate:
    """The mean over images of a score that some of them may not have, and the share of these as `excluded`.

    Scores that are all 0 or 1 get Wilson's interval, others Student's. The interval of scores within [0, 1] is clipped
    to it; that of a single score has no other end.

    Shape:
        values: (N,), NaN where an image has none.

    Raises:
        ParameterError: no image has a score.
    """
    given = np.asarray(values, dtype=np.float64)
    known = given[~np.isnan(given)]
    if not len(known):
        raise ParameterError("no image has a score: none of them has a box or a mask of its class")
    found = share(known) if np.isin(known, (0, 1)).all() else mean(known, lone=math.inf)
    low, high = (0.0, 1.0) if known.min() >= 0 and known.max() <= 1 else (-math.inf, math.inf)
    excluded = 1 - len(known) / len(given)
    return replace(found, low=max(low, found.low), high=min(high, found.high), excluded=excluded)


@dataclass(frozen=True)
class ImageScores:
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
            found = score(column)
            row = {"measure": name} | found.row("mean", bare=True) | {"images": int(column.count())}
            rows.append(row | {"excluded": found.excluded, "chance": self.chance.get(str(name), math.nan)})
        return pd.DataFrame(rows)


def score_images(
    model: Classifier,
    images: ImageSet,
    on: Runtime,
    *,
    weighting: Weighting,
    epsilon: float,
    pgd_steps: int = 10,
    backgrounds: tuple[ImageSet, ImageSet] | None = None,
    curve_images: int = 0,
    curve_steps: int = 28,
) -> ImageScores:
    """All measures that the set allows.

    Accuracy on clean, FGSM and PGD images (with several labels an image: mAP on clean ones), on the same objects
    before other backgrounds, and the gap between these; the scores of `localise` where the set has boxes or masks; the
    areas of `curves`, and what they are better by than those of the network's random maps. E with the network's own
    explanation as the mask, its null (random signs on the same pixels), what share of the image that mask covers, and,
    where every image has one, E with the true mask.

    E follows the class that is predicted, so a wrong answer that is kept counts as consistent, and a network that has
    learned nothing keeps its answers best. "E of right answers" is E times whether the answer is right: E of the true
    class, and 0 where the network says another one. Of several labels it is E times the share of them that it says.

    Args:
        weighting: how E is taken, and which layer explains.
        epsilon, pgd_steps: of FGSM and PGD.
        backgrounds: the same objects before backgrounds of their own class, and of another one (image by image).
        curve_images: so many images, evenly spaced, are scored by insertion and deletion; 0 is none.
        curve_steps: of these, see `insertion_deletion`.

    Raises:
        ParameterError: the two sets of backgrounds are not of the same objects.

    Source: P3's experiments; the true mask, right answers, off centre, PGD and all chance levels are ours.
    """
    if isinstance(images, MultiLabelSet):
        logits, labels = class_scores(model, images, on)
        values = {"mAP": average_precision_parts(logits, labels)}
        chance = {"mAP": float(labels.mean())}
        right = (labels * (logits > 0)).sum(1) / labels.sum(1)  # NaN without a label
    else:
        sets: dict[str, tuple[ImageSet, Attack | None]] = {
            "accuracy": (images, None),
            "accuracy, FGSM": (images, partial(fgsm, epsilon=epsilon)),
            f"accuracy, PGD-{pgd_steps}": (images, under_pgd(on, epsilon=epsilon, steps=pgd_steps)),
        }
        if backgrounds is not None:
            same, other = backgrounds
            if not torch.equal(same.labels, other.labels):
                raise ParameterError(
                    "the two sets of backgrounds are not of the same objects: take equally many images"
                )
            sets |= {SAME: (same, None), OTHER: (other, None)}
        values = {
            name: (predictions(model, subset, on, attack=attack) == subset.labels).double()
            for name, (subset, attack) in sets.items()
        }
        right, chance = values["accuracy"], dict.fromkeys(("accuracy", SAME, OTHER), 1 / images.num_classes)
        if backgrounds is not None:
            values[GAP], chance[GAP] = values[SAME] - values[OTHER], 0.0
    frame = pd.DataFrame({name: pd.Series(column.numpy()) for name, column in values.items()})
    if images.boxes is not None or bool(images.masked.any()):
        found = _by_image(localise(model, images, on, weighting))
        if curve_images:
            places = torch.linspace(0, len(images) - 1, min(curve_images, len(images))).long()
            areas = curves(model, images.subset(places), on, weighting, steps=curve_steps)
            found = found.join(_by_image(areas.assign(image=places.numpy()[areas["image"]])))
            for area, gain, sign in (("insertion", INSERTED, 1), ("deletion", DELETED, -1)):
                found[gain] = sign * found[area].sub(found.loc[RANDOM][area], level="image")
        own = found.loc[OWN]
        own = own.loc[:, [OFF_CENTRE not in name or bool(own[name].notna().any()) for name in map(str, own)]]
        frame = frame.join(own)
        means = found.groupby("map").mean()  # the centre has no curves, for which a random map is chance
        chance |= {str(name): float(level) for name, level in means.T[CENTRE].fillna(means.T[RANDOM]).items()}
    own_mask, signs = replace(weighting, mask="explanation"), torch.Generator(on.device).manual_seed(0)
    held, null = (weigh(model, images, own_mask, on, noise=noise) for noise in (None, signs))
    columns = {OWN_E: held.consistency, RIGHT_E: held.consistency * right, NOISE_E: null.consistency}
    columns |= {SPARED: held.spared}
    if bool(images.masked.all()):
        columns[TRUE_E] = weigh(model, images, replace(weighting, mask="truth"), on).consistency
    frame = frame.assign(**{name: column.numpy() for name, column in columns.items()})
    return ImageScores(frame, chance)


def score_networks(
    models: Mapping[str, tuple[Classifier, Weighting]], images: ImageSet, on: Runtime, **options: Any
) -> dict[str, ImageScores]:
    """`score_images` of networks, each with its weighting, by title; `options` are the rest of its arguments."""
    scores = {}
    for title, (model, weighting) in models.items():
        print(f"measuring {title}", flush=True)
        scores[title] = score_images(model, images, on, weighting=weighting, **options)
    return scores


def _by_image(scores: pd.DataFrame) -> pd.DataFrame:
    """By map and image, an image of several classes with the mean of its scores."""
    return scores.drop(columns="class").groupby(["map", "image"]).mean()
