"""The kept studies as pages show them: their tables stacked, cited, and read for the ledger."""

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Self

import pandas as pd

from neuron_consistency.book.stamps import Shown, cited
from neuron_consistency.show import with_intervals
from neuron_consistency.workflow.claims import COLUMNS, read_claims, settled
from neuron_consistency.workflow.findings import explanation_findings, own_findings
from neuron_consistency.workflow.results import Result, Study, read_result, read_studies, was_run

FINDINGS: dict[str, Callable[[pd.DataFrame], Any]] = {  # by the table of a study that they stand in or follow from
    "findings": lambda findings: findings,
    "verdicts": explanation_findings,
    "success": lambda success: settled("06_representations", success=success),
    "changes": own_findings,
}


@dataclass(frozen=True)
class Kept:
    """All studies with their results, by name."""

    studies: dict[str, Study]
    results: dict[str, Result]

    @classmethod
    def read(cls) -> Self:
        """Those of `notebooks/studies.yaml`; one that was never run has no result.

        Raises:
            StoreError: a table is not the one that its record tells of.
        """
        studies = read_studies()
        return cls(studies, {name: read_result(name) for name in studies if was_run(name)})

    def result(self, name: str) -> Result:
        """The result of a study.

        Raises:
            StoreError: it was never run; the message says how to.
        """
        return self.results.get(name) or read_result(name)

    def named(self, beginning: str, *, several_seeds: bool = False) -> list[str]:
        """The studies with a result whose names begin so; those of several seeds alone, if asked."""
        found = [name for name in self.results if name.startswith(beginning)]
        return [name for name in found if not several_seeds or len(self.results[name].record["seeds"]) > 1]

    def table(self, names: str | Iterable[str], table: str) -> pd.DataFrame:
        """A table of one study; of several studies stacked, with the column study."""
        if isinstance(names, str):
            return self.result(names).tables[table]
        tables = {name: self.result(name).tables[table] for name in names}
        return pd.concat(tables, names=["study"]).reset_index("study")

    def cited(self, shown: Shown, *names: str) -> Shown:
        """A table or figure, below which the page says of which studies it is."""
        return cited(shown, *(self.result(name).record for name in names))

    def shown(self, table: pd.DataFrame, *names: str, decimals: int = 3) -> pd.DataFrame:
        """A table with its intervals as text, cited."""
        return self.cited(with_intervals(table, decimals=decimals), *names)

    def with_own_sets(self, table: str) -> pd.DataFrame:
        """A table of P2's large set and, below, the rows of a smaller set that are of networks attacked themselves."""
        rows = self.table(["adversarial-photographs", "representation-photographs"], table)
        large = rows["study"] == "adversarial-photographs"
        return rows[large | rows["network"].str.endswith("own set")].drop(columns="study")

    def overview(self) -> pd.DataFrame:
        """What stands behind the studies: one row each, by name, with what it is about."""
        rows = {
            name: {
                "dataset": found.record["dataset"],
                "images": found.record["fingerprint"][:12],
                "seeds": ", ".join(map(str, found.record["seeds"])),
                "commit": found.record["commit"],
                "library": "the same" if found.current else "changed since",
                "on": found.record["device"],
                "PyTorch": found.record["torch"],
                "precision": found.record["precision"],
                "training s": found.record["training_seconds"],
                "run s": found.record.get("run_seconds", math.nan),
                "finished": found.record["finished"][:10],
                "about": self.studies[name].about,
                "remarks": found.record.get("remarks", ""),
            }
            for name, found in self.results.items()
        }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("study")

    def outdated(self) -> list[str]:
        """The studies that were never run, or whose numbers the library would compute otherwise now.

        The ledger leaves them out.
        """
        never = [name for name in self.studies if name not in self.results]
        return never + [name for name, result in self.results.items() if not result.current]

    def findings(self) -> pd.DataFrame:
        """What the studies say of the claims: those that are evidence, and that the library would compute alike now.

        Some studies keep findings, others the tables that these follow from; a study that no claim is about says none.
        Findings of claims that are no longer asked are left out.

        Returns:
            COLUMNS, and the study with the table of it that a finding stands in or follows from.
        """
        found, asked = [pd.DataFrame(columns=[*COLUMNS, "study", "table"])], read_claims().keys()
        for name, result in self.results.items():
            kept = next((table for table in FINDINGS if table in result.tables), None)
            if kept and result.current and self.studies[name].evidence:
                rows = pd.DataFrame(FINDINGS[kept](result.tables[kept])).reindex(columns=COLUMNS)
                rows = rows.fillna({"freedom": math.inf})  # older results do not tell it
                found.append(rows.assign(study=name, table=kept)[rows["claim"].isin(asked)])
        return pd.concat(found, ignore_index=True)


def beside_seeds(consistency: pd.DataFrame) -> pd.DataFrame:
    """How every two trainings differ in U, seed by seed, beside how far the seeds of one training lie apart.

    Args:
        consistency: the table of that name of a study of several seeds.

    Returns:
        One row a set, kind of label and pair of trainings: first, second, set, labels, difference (the mean over seeds)
        with the lowest and the highest seed, and seeds apart (the wider of the two trainings).
    """
    rows = consistency[consistency["set"].isin(["real", "FGSM"])].copy()
    rows[["training", "seed"]] = rows["model"].str.rsplit(", seed ", n=1, expand=True)
    found = []
    for (images, labels), same in rows.groupby(["set", "labels"], sort=False):
        # that with the consistent loss is held against the others
        trainings = sorted(same["training"].unique(), key=lambda title: "consistent" in title)
        by_seed = same.pivot(index="seed", columns="training", values="U")[trainings]
        apart = by_seed.max() - by_seed.min()
        for second, first in itertools.combinations(map(str, by_seed), 2):
            change = by_seed[first] - by_seed[second]
            row = {"first": first, "second": second, "set": images, "labels": labels, "difference": change.mean()}
            spread = {"difference low": change.min(), "difference high": change.max()}
            found.append(row | spread | {"seeds apart": max(apart[first], apart[second])})
    return pd.DataFrame(found)


def over_seeds(measures: pd.DataFrame) -> pd.DataFrame:
    """P3's measures by objective: the mean over seeds, lowest and highest in brackets, beside chance and no training.

    Args:
        measures: the table of that name of a study of several seeds.
    """
    seeds = measures.dropna(subset="seed").groupby(["measure", "objective"], sort=False)["mean"]
    spread = seeds.agg(["mean", "min", "max"]).rename(columns={"min": "low", "max": "high"})
    trained = with_intervals(spread, decimals=2)["mean"].unstack("objective", sort=False)
    others = measures[measures["seed"].isna()].set_index("measure")[["mean", "chance"]].round(2)
    others = others.set_axis(["untrained", "chance"], axis=1).astype(object).fillna("")
    return others[["chance"]].join(trained, how="right").join(others["untrained"])
