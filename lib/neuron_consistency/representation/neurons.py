"""Means over neurons of what two passes have in common, with chance and intervals: tables, curves and claims."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from neuron_consistency.responses import JACKKNIFE_GROUPS
from neuron_consistency.statistics import Estimate, jackknife

MEASURES = ("LC", "U", "CS1", "CS2", "shows", "merely targets")  # each column has its "<measure> chance" beside it


@dataclass(frozen=True)
class NeuronMeasures:
    """The measures of every neuron, and what they become with each group of clean images left out.

    Attributes:
        table: one row a neuron: layer, neuron; m and images, the numbers of its top real and adversarial images;
            concept and purity, the class most frequent among the real ones and its share; and the columns
            MEASURES, NaN where a neuron has no such value, each with its chance level.

    Shape:
        replicates: by measure, (JACKKNIFE_GROUPS, neurons) float64.
    """

    table: pd.DataFrame
    replicates: dict[str, Tensor]

    def estimate(self, measure: str, rows: np.ndarray | None = None, *, above_chance: bool = False) -> Estimate:
        """The mean of a measure over neurons, with an interval of 95 %.

        The interval is a jackknife's over groups of clean images, an image leaving together with all adversarial
        images made of it. It covers the choice of images; the neurons are all there are, and are no sample.

        Args:
            measure: one of MEASURES.
            rows: which neurons, a mask over the table; None takes all.
            above_chance: the mean of what exceeds each neuron's chance level, which is held fixed.

        Source: ours.
        """
        values = self.table[measure].to_numpy()
        kept = ~np.isnan(values) & (np.ones(len(values), dtype=bool) if rows is None else rows)
        if not kept.any():
            return jackknife(float("nan"), np.full(JACKKNIFE_GROUPS, np.nan), 1.0)
        level = self.table[f"{measure} chance"].to_numpy()[kept].mean() if above_chance else 0.0
        left_out = self.replicates[measure][:, torch.from_numpy(kept)].nanmean(1).numpy()
        asked = len(values) if rows is None else int(rows.sum())
        return jackknife(float(values[kept].mean() - level), left_out - level, 1 - kept.sum() / asked)

    def summary(self) -> pd.DataFrame:
        """Means by layer and over all of them, one row each: neurons, silent (share without top images in either set),
        with concept (share of those with a clear one), and each of MEASURES as "X", "X low", "X high", "X chance".
        """
        layers = self.table["layer"].to_numpy()
        parts = {name: layers == name for name in dict.fromkeys(layers)} | {"all": np.ones(len(layers), dtype=bool)}
        rows = []
        for name, part in parts.items():
            row: dict[str, float | str] = {"layer": name, "neurons": int(part.sum())}
            row |= {"silent": self.estimate("CS1", part).excluded}
            row |= {"with concept": 1 - self.estimate("shows", part).excluded}
            for measure in MEASURES:
                found = self._row(measure, part)
                row |= Estimate.read(found, "value", bare=True).row(measure) | {f"{measure} chance": found["chance"]}
            rows.append(row)
        return pd.DataFrame(rows)

    def _row(self, measure: str, rows: np.ndarray) -> dict[str, float]:
        estimate = self.estimate(measure, rows)
        kept = self.table[rows & self.table[measure].notna().to_numpy()]
        level = float(kept[f"{measure} chance"].mean())
        return {"neurons": len(kept)} | estimate.row("value", bare=True) | {"chance": level}

    def bins(self, count: int) -> np.ndarray:
        """The neurons of all layers dealt by their LC into `count` bins of equal number; -1 where CS is not defined.

        Shape:
            result: (neurons,) int64.
        """
        rank = self.table["LC"].where(self.table["CS1"].notna()).rank(method="first").to_numpy()
        defined = int((~np.isnan(rank)).sum())
        dealt: np.ndarray = np.ceil(rank * min(count, defined) / max(defined, 1)) - 1
        return np.where(np.isnan(dealt), -1, dealt).astype(np.int64)

    def curves(self, *, bins: int) -> pd.DataFrame:
        """Figure 4 of P2: CS1 and CS2 over LC, with columns measure, LC (mean of the bin), neurons,
        value, low, high, chance.

        Args:
            bins: into how many bins of equal number the neurons of all layers are dealt.

        Source: P2, figure 4 ("averaged over neurons around each LC value"); the bins are ours.
        """
        which = self.bins(bins)
        lc = self.table["LC"].to_numpy()
        return pd.DataFrame(
            {"measure": measure, "LC": lc[which == place].mean()} | self._row(measure, which == place)
            for measure in ("CS1", "CS2")
            for place in range(which.max() + 1)
        )

    def claims(self, *, bins: int) -> pd.DataFrame:
        """The claims of P2 about neurons, differences settled by intervals: claim, value, low, high, verdict.

        Of the neurons of the highest LC: CS1 lies below chance; it is lower than that of the neurons of the lowest LC;
        CS2 lies above chance; it exceeds CS1. Of the neurons with a clear concept: top images that merely target it are
        more than chance has, and more than those that show it.

        Args:
            bins: as for `curves`; the highest LC is the last bin, the lowest the first.
        """
        which, estimate = self.bins(bins), self.estimate
        high, low = which == which.max(), which == 0
        claims = {
            "CS1 below chance": (estimate("CS1", high, above_chance=True), "below"),
            "CS1 falls with LC": (estimate("CS1", high).minus(estimate("CS1", low)), "below"),
            "CS2 above chance": (estimate("CS2", high, above_chance=True), "above"),
            "CS2 above CS1": (estimate("CS2", high).minus(estimate("CS1", high)), "above"),
            "merely targets above chance": (estimate("merely targets", above_chance=True), "above"),
            "merely targets above shows": (estimate("merely targets").minus(estimate("shows")), "above"),
        }
        return pd.DataFrame({"claim": claim, **one.settles(**{side: 0.0})} for claim, (one, side) in claims.items())
