"""The one figure of "What we found": how much of its consistency each network keeps, by whom its images are named."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from neuron_consistency.book.kept import Kept
from neuron_consistency.plotting import OTHER_LABEL, TRUE_LABEL, grid, spread
from neuron_consistency.statistics import Estimate, pooled
from neuron_consistency.training.recipes import TITLES
from neuron_consistency.workflow.parameters import profile_parameters

FALL = "less-consistent-under-attack"  # the claim whose cases are the networks of the figure
TRUE, SAID = "attacked, sorted by what the images show", "attacked, sorted by what the network says"
ERRORS = "ordinary mistakes, sorted by what it says"
MARKS = {  # what is shown: set and kind of label in the studies' tables, place, colour (Okabe and Ito's), sign
    TRUE: ("FGSM", "true", -0.1, TRUE_LABEL, "o"),
    SAID: ("FGSM", "predicted", 0.13, OTHER_LABEL, "s"),
    ERRORS: ("real, misclassified", "predicted", 0.34, "#7f7f7f", "D"),
}
DATASETS = {"imagenet-samples-224": "ImageNet", "cifar10-mini": "CIFAR-10"}
SHOWN = (-5, 205)  # per cent


def what_is_left(kept: Kept, findings: pd.DataFrame) -> pd.DataFrame:
    """How much of its consistency above chance on real images a network keeps, in per cent.

    Args:
        kept: the studies.
        findings: theirs, from `Kept.findings`; the cases of the claim FALL are the networks.

    Returns:
        Columns network, study, accuracy (per cent of real images), what (of MARKS), left, low, high. Networks that get
        most images right come first. The interval is that of U on those images, over the seeds too where there are
        several; the consistency on real images is taken as it is.
    """
    rows = []
    for case in findings[findings["claim"] == FALL].to_dict("records"):
        result = kept.results[case["study"]]
        consistency, accuracy, name = _network(case["case"], result.tables, result.record)
        right = accuracy["accuracy"].mean()
        for what, (images, labels, *_) in MARKS.items():
            real, found = (_above_chance(consistency, of, labels) for of in ("real", images))
            scaled = {end: 100 * number / real.value for end, number in found.row("left", bare=True).items()}
            rows.append({"network": name, "study": case["study"], "accuracy": right, "what": what} | scaled)
    return pd.DataFrame(rows).sort_values("accuracy", ascending=False, kind="stable", ignore_index=True)


def _network(case: str, tables: Mapping[str, pd.DataFrame], record: Mapping[str, Any]) -> tuple[Any, Any, str]:
    """The rows of a case about consistency and about accuracy on real images, and what the figure calls the network."""
    if "layers" in tables:  # a network that others trained
        layers, accuracy = tables["layers"], tables["accuracy"]
        last, dataset = layers[layers["layer"] == layers["layer"].iloc[-1]], str(record["dataset"])
        name = TITLES[str(record["network"]).partition(",")[0]]
        told = DATASETS.get(dataset, dataset)
        return last, accuracy[accuracy["set"] == "real"], name if told in name else f"{name}, {told}"
    objective = re.sub(r", (\d+ seeds|seed \d+)$", "", case)
    own = re.escape(objective) + (r", seed \d+" if case.endswith("seeds") else re.escape(case[len(objective) :]))
    parts = (tables[name] for name in ("consistency", "accuracy"))
    consistency, accuracy = (part[part["model"].str.fullmatch(own)] for part in parts)
    trained = profile_parameters(record["parameters"]["profile"], "03_consistent_loss_training")
    name = objective.partition(",")[0] + ", trained on" * (trained.get("weights") == "published")
    name += f", {trained['classes']} classes" if trained["classes"] else ""
    return consistency, accuracy[accuracy["images"] == "clean"], name


def _above_chance(rows: pd.DataFrame, images: str, labels: str) -> Estimate:
    """U less its chance level, of some images under some labels, over seeds where there are several."""
    chosen = rows[(rows["set"] == images) & (rows["labels"] == labels)].to_dict("records")
    return pooled([Estimate.read(row, "U").minus(row["U chance"]) for row in chosen])


def found_figure(left: pd.DataFrame) -> Figure:
    """The table of `what_is_left`: a line a network, a mark with its interval for each kind of image and label."""
    networks = list(left["network"].unique())
    made, axes = grid(5.0, 0.76 * len(networks) + 1.3)
    axis = axes[0, 0]
    axis.axvline(100, color="0.2", lw=1.5, zorder=1)
    axis.axvline(0, color="0.2", lw=1.5, ls=":", zorder=1)
    for what, (_, _, shift, colour, sign) in MARKS.items():
        own = left[left["what"] == what]
        at, inside = own["network"].map(networks.index) + shift, "w" if what == ERRORS else colour
        ends = spread(own, "left")
        axis.errorbar(own["left"], at, xerr=ends, fmt=sign, ms=8, lw=2.2, color=colour, mfc=inside, label=what)
    for place, (network, right) in enumerate(left.groupby("network", sort=False)["accuracy"].first().items()):
        around = {"facecolor": "w", "edgecolor": "none", "pad": 1}
        axis.text(
            SHOWN[0] + 4, place - 0.36, f"{network}, {right:.0f} % right", fontsize=11.5, va="center", bbox=around
        )
        axis.axhline(place - 0.57, color="0.85", lw=0.8)
    axis.set(xlim=SHOWN, ylim=(len(networks) - 0.45, -0.6), yticks=[])
    axis.set_xticks([0, 50, 100, 150, 200], ["chance", "50 %", "100 %\nreal images", "150 %", "200 %"], fontsize=11)
    axis.set_xlabel("how much of its neurons' consistency is left", fontsize=11.5)
    made.legend(loc="outside upper left", ncols=1, frameon=False, fontsize=11.5)
    return made


def alt_text(left: pd.DataFrame) -> str:
    """The figure for those who cannot see it, with its numbers."""
    told = []
    for network, rows in left.groupby("network", sort=False):
        numbers = [f"{row['left']:.0f} ({row['low']:.0f} to {row['high']:.0f})" for row in rows.to_dict("records")]
        told.append(f"{network}: {', '.join(numbers)}".replace("-0 ", "0 "))
    return (
        "How much of the consistency of its neurons each network keeps, in per cent of what lies above chance on real "
        f"images, with intervals of 95 %; first {', then '.join(MARKS)}. {'. '.join(told)}."
    )
