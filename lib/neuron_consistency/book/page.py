"""A page of the book as a notebook works with it: opened with its parameters checked, kept with its tables."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure
from myst_nb import glue
from torch import Tensor

from neuron_consistency.artifacts import artifacts, commit
from neuron_consistency.attacks.stored_set import AdversarialSet, obtain_adversarial_set
from neuron_consistency.book.exhibits import Exhibit, Exhibits
from neuron_consistency.book.knobs import Knob
from neuron_consistency.book.stamps import Run, source_lines, stamp_outputs
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.runtime import Runtime, describe_device
from neuron_consistency.show import distinct_titles
from neuron_consistency.training.obtain import TrainedModel, obtain
from neuron_consistency.training.recipes import Recipe
from neuron_consistency.workflow.claims import keep_findings, read_claims
from neuron_consistency.workflow.networks import current_models
from neuron_consistency.workflow.parameters import check
from neuron_consistency.workflow.results import Start, keep_result, start_of


@dataclass
class Page:
    """What a notebook has of its run.

    Attributes:
        parameters: checked, by name.
        on: where and how networks run, from device, precision and batch_size.
        start: commit, library and clock as it began.
        nets: the networks obtained so far.
        titles: theirs, by key.
    """

    parameters: dict[str, Any]
    on: Runtime
    start: Start
    nets: list[TrainedModel] = field(default_factory=list)
    titles: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        notebook = self.start.notebook
        self.run = Run(notebook, self.parameters, lambda: {net.recipe.seed for net in self.nets})
        self.exhibits = Exhibits(notebook)

    @property
    def profile(self) -> str:
        return str(self.parameters["profile"])

    def obtain(self, recipes: Iterable[Recipe]) -> list[TrainedModel]:
        """The networks of these recipes, loaded or trained; all of the page's get titles that tell them apart."""
        found = [obtain(recipe, self.on.device) for recipe in recipes]
        self.nets += [net for net in found if net.recipe.key not in self.titles]
        self.titles |= distinct_titles({net.recipe.key: net.recipe for net in self.nets}.values())
        return found

    def current(self) -> list[TrainedModel]:
        """The networks that chapter 3 chose last, those that the parameters ask for, printed by their titles.

        Raises:
            ParameterError: no network matches.
        """
        wanted = {name: self.parameters.get(name, []) for name in ("architectures", "objectives", "seeds")}
        found = self.obtain(current_models(self.profile, **wanted))
        print("evaluated here:")
        for net in found:
            print(f"  {self.titles[net.recipe.key]}")
        return found

    def adversarial_set(
        self, nets: Sequence[TrainedModel], images: ImageSet, targets: Tensor, **options: Any
    ) -> AdversarialSet:
        """The stored set of targeted images that is made on these networks; see `obtain_adversarial_set`."""
        folder = artifacts(self.profile) / "adversarial"
        models = {net.recipe.key: net.model for net in nets}
        sizes = {net.recipe.key: net.recipe.image_size for net in nets}
        return obtain_adversarial_set(models, images, targets, self.on, folder=folder, image_sizes=sizes, **options)

    def say(self, values: Mapping[str, object] | None = None, **named: object) -> None:
        """Values for the prose, by the names that it calls them by; `closed_form=...` is called closed-form there."""
        told = {name.replace("_", "-"): value for name, value in named.items()}
        for name, value in {**(values or {}), **told}.items():
            glue(name, value, display=False)

    def figure(self, shown: Figure, name: str, caption: str, *, alt: str) -> Exhibit:
        """A numbered figure to end a cell with; what it is of is what it cites, else this run. It is closed.

        Args:
            name: of lower-case letters, digits and hyphens, for links to "#fig-<name>".
            caption: what to see in it, with units.
            alt: what the picture shows, for those who cannot see it.

        Raises:
            ParameterError: the name is none, or caption or alt is empty.
        """
        return self.exhibits.figure(shown, name, caption, alt=alt, sources=source_lines(shown, self.run))

    def table(
        self, shown: pd.DataFrame, name: str, caption: str, *, decimals: int = 3, exact: pd.DataFrame | None = None
    ) -> Exhibit:
        """A numbered table to end a cell with; what it is of is what it cites, else this run.

        Args:
            shown: with numbers as they are: columns "X", "X low", "X high" are joined here. Texts stay.
            name: of lower-case letters, digits and hyphens, for links to "#tab-<name>".
            caption: what to see in it, with units.
            decimals: at most so many digits after the point.
            exact: the numbers behind a table of texts, for those who download it.

        Raises:
            ParameterError: the name is none, the caption is empty, or the table has no column.
        """
        sources = source_lines(shown, self.run)
        return self.exhibits.table(shown, name, caption, decimals=decimals, sources=sources, exact=exact)

    def knob(self, shown: Knob) -> Knob:
        """A live knob to end a cell with, which tells that this run made its numbers."""
        return replace(shown, sources=source_lines(shown, self.run))

    def findings(self, found: pd.DataFrame) -> Exhibit:
        """What this run says of the ledger's claims, in the words of the claims.

        Args:
            found: from `keep`.
        """
        says = {name: claim.says for name, claim in read_claims().items()}
        shown = found.assign(claim=found["claim"].map(says)).set_index(["claim", "case"]).drop(columns="freedom")
        caption = (
            "What this run says of the claims of the ledger: for each case the number that decides, with its 95 % "
            "interval, and the verdict of this case alone."
        )
        return self.table(shown, "claims", caption, exact=found)

    def with_recipes(self, table: pd.DataFrame) -> pd.DataFrame:
        """A table whose column network holds titles, with key, architecture, objective and seed after that column."""
        recipes = {self.titles[net.recipe.key]: net.recipe for net in self.nets}
        told = pd.DataFrame(
            {"network": title, "key": recipe.key}
            | {name: getattr(recipe, name) for name in ("architecture", "objective", "seed")}
            for title, recipe in recipes.items()
        )
        return told.merge(table, how="right", on="network")

    def keep(
        self,
        tables: Mapping[str, pd.DataFrame],
        findings: Iterable[Mapping[str, Any]] | None = None,
        made_of: Mapping[str, Any] | None = None,
    ) -> pd.DataFrame | None:
        """Keeps the findings for the ledger of claims. Where the parameters name a study, keeps both as its result.

        Tables without rows are left out.

        Args:
            made_of: the dataset, its fingerprint and the network, where others trained it.

        Returns:
            The findings as a table; None where none are given.

        Raises:
            ParameterError: a finding is of a claim that the ledger does not list under this chapter.
            StoreError: the disk is full, or the library was edited while the notebook ran.
        """
        table = None if findings is None else keep_findings(self.profile, self.start.notebook, findings)
        if study := self.parameters.get("study"):
            kept = {name: rows for name, rows in tables.items() if len(rows)}
            kept |= {} if table is None else {"findings": table}
            where = {
                "device": describe_device(self.on.device),
                "torch": torch.__version__,
                "precision": self.on.precision,
            }
            made_of = where | dict(made_of) if made_of and not self.nets else None
            keep_result(study, self.start, kept, parameters=self.parameters, nets=self.nets, made_of=made_of)
        return table

    def provenance(self) -> pd.DataFrame:
        """What stands behind the numbers of the page: one row a network."""
        return pd.DataFrame(
            {
                "profile": self.profile,
                "network": net.title,
                "key": net.recipe.key,
                "dataset": net.recipe.dataset,
                "images": net.recipe.fingerprint[:12],
                "seed": net.recipe.seed,
                "trained at commit": net.record["commit"],
                "measured at commit": commit(),
                "on": net.record["device"],
                "PyTorch": net.record["torch"],
                "training s": net.record["seconds"],
            }
            for net in self.nets
        )


def open_page(notebook: str, namespace: Mapping[str, object], *topics: str) -> Page:
    """Checks the parameters of a notebook, and stamps from now on every bare table and figure with what made it.

    Args:
        notebook: its stem.
        namespace: its `globals()`.
        topics: what it measures, names of `versions.MEASURES`, for the record of a study.

    Raises:
        ParameterError: a parameter is unknown or has the wrong type, or the device is not to be had.
    """
    parameters = check(namespace)
    pd.set_option("display.max_rows", 500, "display.max_colwidth", 200)  # tables are shown whole
    how = {name: parameters[name] for name in ("device", "precision", "batch_size") if name in parameters}
    page = Page(parameters, Runtime.of(**how), start_of(notebook, *topics))
    stamp_outputs(page.run)
    return page
