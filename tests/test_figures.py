"""Every figure of the book, drawn from made-up tables: what is written can be read, and everything has its name."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterable

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from figure_faults import faults, texts
from neuron_consistency.consistency import figures, metric_figures, worked_examples
from neuron_consistency.consistency.choices import ACCURACIES, MEASURES
from neuron_consistency.dissection.controls import shuffled
from neuron_consistency.dissection.figures import category_shares
from neuron_consistency.explanation import figures as explanation_figures
from neuron_consistency.plotting import WIDTH, Picture, PictureGrid, grid, looks, picture_grid
from neuron_consistency.representation import figures as representation_figures
from neuron_consistency.taxonomy import correlation, resolve
from neuron_consistency.tracing.figures import auroc_intervals, explanation_panel
from neuron_consistency.tracing.tables import TracedPrediction

NETWORKS = [
    f"{architecture}, {objective}, seed {seed}"
    for architecture in ("ResNet-18", "EfficientNet-Lite0")
    for objective in ("normal", "consistent (beta 1)", "consistent (beta 1) and reweighted")
    for seed in (0, 1)
]
SETS = ["real", "FGSM", "sign noise, same size", "FGSM of one network for all", "real, misclassified"]


def numbers(value: str, size: int) -> dict[str, np.ndarray]:
    """A column of numbers from 0 to 1 with their bounds."""
    drawn = np.random.default_rng(0).uniform(0.2, 0.8, size)
    return {value: drawn, f"{value} low": drawn - 0.1, f"{value} high": drawn + 0.1, f"{value} chance": drawn * 0 + 0.1}


def every(value: str, **columns: Iterable[Hashable]) -> pd.DataFrame:
    """All combinations of the values of some columns, with numbers."""
    rows = pd.DataFrame(list(itertools.product(*columns.values())), columns=list(columns))
    return rows.assign(**numbers(value, len(rows)))


def bare(rows: pd.DataFrame, value: str) -> pd.DataFrame:
    return rows.rename(columns={f"{value} {end}": end for end in ("low", "high", "chance")})


def curves() -> Figure:
    rows = every("value", model=NETWORKS[:6], measure=["loss", "accuracy"], epoch=range(1, 13))
    return figures.training_curves(rows.assign(unit="% of images"), chance={"accuracy": 0.1})


def scatter() -> Figure:
    rows = pd.concat([bare(every("real", labels=["true", "predicted"], neuron=range(9)), "real")])
    return figures.consistency_scatter(rows.assign(adversarial=rows["real"] / 2))


def histograms() -> Figure:
    return figures.consistency_histograms(every("V", model=NETWORKS[:6], measure=["consis", "consis_adv"], n=range(9)))


def choices() -> Figure:
    told = ["Eq. 6 as in chapter 3", "trained normally", "attack_label = least-likely", "second_example = True"]
    rows = every("difference", choice=told, measure=[*MEASURES, *ACCURACIES])
    return figures.choice_differences(rows.assign(verdict=["", "higher", "cannot be told", "lower"] * 6))


def shares() -> Figure:
    images = [name for kind in ("real", "real, those attacked", "adversarial") for name in (kind, shuffled(kind))]
    rows = every("share", model=NETWORKS[:6], images=images, category=["color", "material", "object"])
    return category_shares(bare(rows, "share"))


def merely() -> Figure:
    rows = every("merely targets", network=[f"{name}, own set" for name in NETWORKS])
    return representation_figures.merely_targets(rows.assign(own=[True, False] * 6))


def ratios() -> Figure:
    rows = every("r1", network=NETWORKS[:6], image=range(9))
    return representation_figures.ratio_histograms(
        rows.assign(**{name: rows["r1"] for name in ("r2", "r1 noise", "r2 noise")})
    )


def quantiles() -> Figure:
    rows = every("E", model=NETWORKS[:6], epoch=[2, 4, 6], quantile=[0.05, 0.25, 0.5, 0.75, 0.95])
    return explanation_figures.explanation_over_training(rows.assign(E=rows["quantile"]))


def traced() -> Figure:
    sides, profile = ["for", "for", "against"], "golden retriever .60, dalmatian .30, corgi .10"
    neurons = pd.DataFrame(
        {"side": sides, "neuron": [3, 511, 20], "contribution": [0.3, 0.1, -0.2], "profile": profile}
    )
    image, said = torch.rand(3, 8, 8), "said: golden retriever (p = 0.93)\nshows: golden retriever"
    examples = {neuron: [image] * 4 for neuron in neurons["neuron"]}
    neurons["contribution chance"] = 0.05
    return explanation_panel(TracedPrediction(image, said, neurons, neurons, examples))


def detectors() -> Figure:
    detectors = ["mismatch", "1 - max softmax", "Mahalanobis"]
    rows = every("AUROC", model=NETWORKS[:4], attack=["errors, no attack", "adaptive, w = 1000"], detector=detectors)
    return auroc_intervals(rows.assign(verdict=""))


def pictures() -> Figure:
    image = torch.rand(3, 8, 8)
    row = [Picture(image, "golden retriever\nas African elephant", bright=torch.eye(8).bool(), framed=True)] * 8
    titles = ["neuron 511\nadversarial\nU = 0.42", NETWORKS[-1]]
    return picture_grid(PictureGrid([(title, row) for title in titles], ["golden retriever, then corgi\nE = 0.50"] * 8))


def tree() -> Figure:
    ends = [resolve(name) for name in ("Persian cat", "Siamese cat", "wolfhound", "beagle")]
    return metric_figures.tree_path(*worked_examples.subtree(ends, highlight=(ends[0], ends[2])))


def matrix(classes: int) -> Figure:
    names = [f"class of number {place}" for place in range(classes)]
    return metric_figures.correlation_map(pd.DataFrame(np.eye(classes), index=names, columns=names))


def random_neurons() -> Figure:
    rows = every("value", measure=["V", "U"], m=[2, 5, 100])
    return metric_figures.random_neurons(bare(rows, "value"))


DRAWN: dict[str, Callable[[], Figure]] = {
    "training curves": curves,
    "scatter": scatter,
    "intervals of twelve": lambda: figures.consistency_intervals(
        every("U", model=NETWORKS, set=SETS, labels=["true", "predicted"])
    ),
    "intervals of one": lambda: figures.consistency_intervals(
        every("U", model=NETWORKS[:1], set=SETS, labels=["true", "predicted"])
    ),
    "histograms": histograms,
    "sigma": lambda: figures.sweep(
        every("U", model=NETWORKS, set=["real", "FGSM"], sigma=[1, 1.5, 2]), x="sigma", y="U"
    ),
    "layers": lambda: figures.sweep(
        every("U", model=["as trained", "labels shuffled"], set=["true labels"], layer=list("ab")), x="layer", y="U"
    ),
    "choices": choices,
    "shares": shares,
    "CS": lambda: representation_figures.cs_curves(
        bare(every("value", network=NETWORKS[:6], measure=["CS1", "CS2"], LC=[0.2, 0.4]), "value")
    ),
    "ratios": ratios,
    "merely targets": merely,
    "E over training": quantiles,
    "E of images": lambda: explanation_figures.explanation_distributions(
        every("E", model=["untrained", *NETWORKS[:6]], mask=["own explanation", "true object"], image=range(5))
    ),
    "differences": lambda: explanation_figures.differences(
        bare(
            every("difference", objective=explanation_figures.WORDS, against=["normal"], measure=["accuracy", "E"]),
            "difference",
        ).assign(verdict=["better", "not shown"] * 5)
    ),
    "traced": traced,
    "detectors": detectors,
    "pictures": pictures,
    "tree": tree,
    "matrix with names": lambda: matrix(28),
    "matrix without": lambda: matrix(200),
    "decay": lambda: metric_figures.correlation_decay(
        pd.DataFrame({str(sigma): correlation(torch.arange(9), sigma=sigma) for sigma in (1.0, 2.0)})
    ),
    "random neurons": random_neurons,
}


@pytest.mark.parametrize("name", DRAWN)
def test_all_that_is_written_can_be_read(name: str) -> None:
    """On a phone and full size: nothing small, nothing cut, nothing over something else, one width for all."""
    assert faults(DRAWN[name]()) == []


def test_faults_are_found() -> None:
    made, ((axis,),) = grid(WIDTH, 2)
    axis.text(0.5, 0.5, "one")
    axis.text(0.5, 0.5, "two", fontsize=5)
    made.text(0.95, 0.9, "far out of the figure")
    assert sorted(faults(made)) == ["'far out of the figure' is cut", "'one' lies on 'two'", "'two' is small"]


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("training curves", [*NETWORKS[:6], "chance"]),
        ("intervals of twelve", ["by true labels", "by predicted labels", "chance"]),
        ("sigma", [*NETWORKS, "chance"]),
        ("choices", ["not shown to differ", "shown to differ", "the standing choice"]),
        ("merely targets", ["made against itself", "made against others", "chance"]),
    ],
)
def test_legends_list_everything_once(name: str, named: list[str]) -> None:
    """A legend of the first panel alone once listed four of six networks."""
    (legend,) = DRAWN[name]().legends
    assert sorted(text.get_text() for text in legend.get_texts()) == sorted(named)


def test_words_stand_for_the_names_of_parameters() -> None:
    written = " ".join(text.get_text() for text in texts(DRAWN["choices"]()))
    assert "_" not in written
    assert "True" not in written


def test_a_network_looks_alike_wherever_it_stands_and_unlike_every_other() -> None:
    alone, among = looks(NETWORKS[:1]), looks(reversed(NETWORKS))
    assert alone[NETWORKS[0]] == among[NETWORKS[0]]
    colours = {title.split(", ")[1]: look["color"] for title, look in among.items()}
    assert len(set(colours.values())) == 3
    assert all(look["color"] == colours[title.split(", ")[1]] for title, look in among.items())
    weights = looks(f"AlexNet, consistent (beta {beta}), seed 0" for beta in range(4))
    assert len({tuple(look.values()) for look in weights.values()}) == 4


def test_colours_are_told_apart_in_every_panel_by_the_network_alone() -> None:
    """A network that one panel lacks must not shift the colours of the others."""
    rows = every("value", model=NETWORKS[:4], measure=["loss", "distance"], epoch=[1, 2])
    rows = rows[(rows["measure"] == "loss") | ~rows["model"].str.contains("normal")]
    made = figures.training_curves(rows.assign(unit=""))
    first, second = ({line.get_label(): line.get_color() for line in axis.lines} for axis in made.axes)
    assert len(second) == 2
    assert second.items() <= first.items()
