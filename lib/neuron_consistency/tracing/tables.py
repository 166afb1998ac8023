"""What influential neurons stand for: the explanation of one prediction, statistics over many."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.errors import ParameterError, require
from neuron_consistency.networks.models import Classifier
from neuron_consistency.networks.reading import Attack, evaluating, over
from neuron_consistency.runtime import Runtime
from neuron_consistency.statistics import LEVEL, OPEN, holm, mean, middle
from neuron_consistency.tracing.detection import SOFTMAX
from neuron_consistency.tracing.influence import prediction_difference, rest_of_network
from neuron_consistency.tracing.profiles import Profiles
from neuron_consistency.tracing.trials import Trial, fooled

RIGHT, ERROR, ATTACKED = "a right answer", "an error", "an adversarial image"
DRAWS = 2000  # random sets of neurons, for the middle 95 % of what they give


def top_neurons(
    influence: Tensor, profiles: Profiles, predicted: int, *, true: int | None = None, count: int = 4
) -> pd.DataFrame:
    """The neurons that spoke most for the prediction on one image, and those that spoke most against it.

    Args:
        influence: the prediction difference of every neuron, (C,).
        profiles: of the same neurons.
        predicted: the class that the network said.
        true: the class that it should have said, where that is to be shown.
        count: neurons for, and as many against (fewer where fewer have such an influence).

    Returns:
        One row a neuron: side ("for", "against"), neuron, contribution, U (of its profile's images), profile, match
        (of the predicted class with its profile) and match of true; beside them as chance levels the mean over
        all neurons, which is what a neuron drawn at random gives: "contribution chance", "U chance", "match chance".

    Raises:
        ParameterError: the influence is not of the profiles' neurons.

    Source: P2, tracing; the chance levels are ours.
    """
    _same_neurons(influence, profiles)
    order = influence.argsort(descending=True, stable=True)
    most, least = order[:count], order.flip(0)[:count]
    most, least = most[influence[most] > 0], least[influence[least] < 0]
    neurons, values = torch.cat([most, least]), influence.double()
    columns = {
        "side": ["for"] * len(most) + ["against"] * len(least),
        "neuron": neurons,
        "contribution": values[neurons],
        "contribution chance": float(influence.mean()),
        "profile": [profiles.words(neuron) for neuron in neurons.tolist()],
        "U": profiles.consistency[neurons],
        "U chance": profiles.chance,
        "match": profiles.matches[neurons, predicted],
        "match chance": float(profiles.matches[:, predicted].mean()),
    }
    return pd.DataFrame(columns if true is None else columns | {"match of true": profiles.matches[neurons, true]})


def random_neurons_row(influence: Tensor, profiles: Profiles, predicted: int, *, count: int) -> pd.DataFrame:
    """The `count` most influential neurons of one image together, beside as many drawn at random.

    Args:
        influence, profiles, predicted: as for `top_neurons`.

    Returns:
        One row a measure (summed contribution, mean match of the predicted class): value, random, low, high.

    Raises:
        ParameterError: the influence is not of the profiles' neurons, or has fewer than `count`.

    Source: ours.
    """
    _same_neurons(influence, profiles)
    require(1, len(influence), whole=True, count=count)
    top = influence.topk(count).indices
    generator = torch.Generator().manual_seed(0)
    sets = torch.rand(DRAWS, len(influence), generator=generator).topk(count).indices
    rows = []
    for name, values, combine in (
        ("summed contribution", influence.double(), torch.sum),
        ("mean match of the predicted class", profiles.matches[:, predicted], torch.mean),
    ):
        row = {"measure": name, "value": float(combine(values[top], 0))}
        rows.append(row | middle(combine(values[sets], 1)).row("random"))
    return pd.DataFrame(rows)


def _same_neurons(influence: Tensor, profiles: Profiles) -> None:
    if influence.shape != profiles.consistency.shape:
        raise ParameterError(
            f"the influence of {tuple(influence.shape)} neurons and profiles of {len(profiles.consistency)}: "
            f"give one image's influence at {profiles.layer}"
        )


def closed_form_error(models: Mapping[str, Classifier], images: Tensor) -> pd.DataFrame:
    """How far the closed form is from rerunning the rest of the network, the definition itself, on some images.

    Args:
        models: by title; their last layer is traced.
        images: on their device, (B, 3, H, W) in [0, 1].

    Returns:
        One row a network: form (the closed one, or that there is none), the largest influence of a neuron by rerun,
        and the largest difference between the two (NaN where there is no closed form).
    """
    rows = {}
    for title, model in models.items():
        by_rerun = prediction_difference(model, images, method="rerun")
        closed = rest_of_network(model).head is not None
        by_form = prediction_difference(model, images, method="closed") if closed else by_rerun * torch.nan
        rows[title] = {
            "form": "closed" if closed else "rerun alone: more than pooling and one linear map follow",
            "largest influence": float(by_rerun.abs().max()),
            "largest difference": float((by_form - by_rerun).abs().max()),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("network")


def mass_table(groups: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """When and why a network errs: which class the influential neurons stand for, by group of images.

    Args:
        groups: by name (right answers, errors, ...), rows of `Detectors.scores`.

    Returns:
        One row a group: images, and for predicted, true, other (the chance level), alike (classes as far from the
        predicted one as the true one is), predicted - true and true - alike the mean with its interval of 95 % over
        source images (Student's t; NaN for fewer than two), the verdict on predicted - true and its p.

    Source: ours, for P2's question when and why a network errs.
    """
    rows = []
    for name, images in groups.items():
        means = images.groupby("source")[["predicted", "true", "other", "alike"]].mean()
        means["predicted - true"] = means["predicted"] - means["true"]
        means["true - alike"] = means["true"] - means["alike"]
        row: dict[str, object] = {"group": name, "images": len(images)}
        found = {str(column): mean(means[column]) for column in means}
        for column, one in found.items():
            row |= one.row(column)
        lead = found["predicted - true"]
        equal = lead.value == lead.low == lead.high == 0
        words = "the predicted class", "the true class", "both: they are one" if equal else OPEN
        row |= {"neurons speak for": lead.verdict(above=0, words=words), "p": np.nan if equal else lead.p(above=0)}
        rows.append(row)
    return pd.DataFrame(rows)


def masses(trials: Mapping[str, Trial]) -> pd.DataFrame:
    """`mass_table` of right answers, errors and successful attacks, for every network, by model and group.

    All verdicts are one family: each is given where it holds with all the others at 95 %, by Holm.
    """
    tables = {}
    for title, trial in trials.items():
        right = trial.clean["right"]
        groups = {"right answers": trial.clean[right], "errors": trial.clean[~right]}
        groups |= {f"{name}, successful": fooled(trial.clean, scores) for name, scores in trial.attacked.items()}
        tables[title] = mass_table(groups).set_index("group")
    table = pd.concat(tables, names=["model"])
    unsettled = np.array(holm(table.pop("p").to_list())) >= 1 - LEVEL
    table["neurons speak for"] = table["neurons speak for"].mask(unsettled, OPEN)
    return table


def typical_examples(clean: pd.DataFrame, attacked: pd.DataFrame) -> dict[str, int]:
    """The place of a right answer, of an error and of a successful attack: each the median of its kind in sureness.

    A rule, so that no example is picked for its looks. A kind without images is left out.

    Args:
        clean, attacked: scores of the same images.
    """
    kinds = {RIGHT: clean[clean["right"]], ERROR: clean[~clean["right"]], ATTACKED: fooled(clean, attacked)}
    return {
        name: int(rows.sort_values(SOFTMAX, kind="stable").index[(len(rows) - 1) // 2])
        for name, rows in kinds.items()
        if len(rows)
    }


@dataclass(frozen=True)
class TracedPrediction:
    """One prediction, the neurons behind it, and as many random ones.

    Attributes:
        title: what the network said, how surely, and what the image shows.
        neurons: from `top_neurons`.
        random: from `random_neurons_row`.
        examples: by neuron, the selection images that fire it most.

    Shape:
        image and examples: (3, H, W) in [0, 1], on the CPU.
    """

    image: Tensor
    title: str
    neurons: pd.DataFrame
    random: pd.DataFrame
    examples: dict[int, list[Tensor]]


@torch.no_grad()
def trace_examples(
    trial: Trial, images: ImageSet, selection: ImageSet, on: Runtime, *, fgsm: Attack, count: int = 4, shown: int = 4
) -> dict[str, TracedPrediction]:
    """The `typical_examples` of a network, each traced to its most influential neurons; by kind.

    Args:
        trial: of the network.
        images: the test images.
        selection: the set that its profiles are from.
        on: where and how it runs.
        fgsm: the attack of that name which the network has met.
        count: neurons for, and as many against, the prediction.
        shown: strongest images of each neuron.
    """
    detectors, traced = trial.detectors, {}
    profiles, model = detectors.profiles, detectors.model
    for kind, place in typical_examples(trial.clean, trial.attacked["FGSM"]).items():
        image, attack = images.subset(torch.tensor([place])), fgsm if kind == ATTACKED else None
        with evaluating(model):
            (seen,) = over(model, image, on, layers=[profiles.layer], attack=attack)
            logits = detectors.rest(seen.maps[profiles.layer])
            said, true = logits.argmax(1), int(seen.labels)
            (influence,) = detectors.rest.influence(seen.maps[profiles.layer], said, form=detectors.form).cpu()
        predicted = int(said)
        neurons = top_neurons(influence, profiles, predicted, true=None if predicted == true else true, count=count)
        examples = {}
        for neuron in neurons["neuron"].tolist():
            strongest = profiles.strongest[:shown, neuron]
            strongest = strongest[strongest >= 0]  # a neuron may be silent on all selection images
            examples[neuron] = list(selection.batch(strongest, on.device)[0].cpu()) if len(strongest) else []
        sureness = float(logits.softmax(1).amax())
        title = f"said: {images.classes[predicted]} (p = {sureness:.2f})\nshows: {images.classes[true]}"
        random = random_neurons_row(influence, profiles, predicted, count=count)
        traced[kind] = TracedPrediction(seen.images[0].cpu(), title, neurons, random, examples)
    return traced
