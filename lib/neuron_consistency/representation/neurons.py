"""Means over neurons of what two passes have in common, with chance and intervals: tables, curves and claims."""

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
        rows = np.ones(len(self.table), dtype=bool) if rows is None else rows
        kept = self._measured(measure, rows)
        if not kept.any():
            return jackknife(float("nan"), np.full(JACKKNIFE_GROUPS, np.nan), 1.0)
        level = self._level(measure, kept) if above_chance else 0.0
        value = float(self.table[measure].to_numpy()[kept].mean())
        left_out = self.replicates[measure][:, torch.from_numpy(kept)].nanmean(1).numpy()
        return jackknife(value - level, left_out - level, 1 - kept.sum() / rows.sum())

    def _measured(self, measure: str, rows: np.ndarray) -> np.ndarray:
        return rows & self.table[measure].notna().to_numpy()

    def _level(self, measure: str, kept: np.ndarray) -> float:
        return float(self.table.loc[kept, f"{measure} chance"].mean())

    def summary(self) -> pd.DataFrame:
        """Means by layer and over all of them, one row each: neurons, silent (share without top images in either set),
        with concept (share of those with a clear one), and each of MEASURES as "X", "X low", "X high", "X chance".
        """
        layers = self.table["layer"].to_numpy()
        rows = []
        for name in [*dict.fromkeys(layers), "all"]:
            part = np.ones(len(layers), dtype=bool) if name == "all" else layers == name
            found = {measure: self.estimate(measure, part) for measure in MEASURES}
            row: dict[str, float | str] = {"layer": name, "neurons": int(part.sum()), "silent": found["CS1"].excluded}
            row["with concept"] = 1 - found["shows"].excluded
            for measure, estimate in found.items():
                level = self._level(measure, self._measured(measure, part))
                row |= estimate.row(measure) | {f"{measure} chance": level}
            rows.append(row)
        return pd.DataFrame(rows)

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
        which, lc = self.bins(bins), self.table["LC"].to_numpy()
        rows = []
        for measure in ("CS1", "CS2"):
            for part in (which == place for place in range(which.max() + 1)):
                row = {"measure": measure, "LC": lc[part].mean(), "neurons": int(part.sum())}
                row |= self.estimate(measure, part).row("value", bare=True)
                rows.append(row | {"chance": self._level(measure, part)})
        return pd.DataFrame(rows)

    def claimed(self, *, bins: int) -> dict[str, Estimate]:
        """The numbers that the claims of P2 about neurons are about, by the names in `claims.NEURON_CLAIMS`.

        Args:
            bins: as for `curves`; the highest LC is the last bin, the lowest the first.
        """
        which, estimate = self.bins(bins), self.estimate
        high, low = which == which.max(), which == 0
        return {
            "CS1 below chance": estimate("CS1", high, above_chance=True),
            "CS1 falls with LC": estimate("CS1", high).minus(estimate("CS1", low)),
            "CS2 above chance": estimate("CS2", high, above_chance=True),
            "CS2 above CS1": estimate("CS2", high).minus(estimate("CS1", high)),
            "merely targets above chance": estimate("merely targets", above_chance=True),
            "merely targets above shows": estimate("merely targets").minus(estimate("shows")),
        }
