"""How a page shows tables and names networks: intervals as text, titles, seeds brought together."""

import collections
import json
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import pandas as pd


def with_intervals(table: pd.DataFrame, *, decimals: int = 3) -> pd.DataFrame:
    """Each column "X" that has its bounds in "X low" and "X high" becomes one of text, "0.31 (0.25 to 0.37)".

    Columns named "low" and "high" alone belong to the column before them. All other numbers are rounded.

    Args:
        table: numbers, with an index if there is one.
        decimals: digits after the point.
    """
    shown = table.round(decimals)
    for place, name in enumerate(table.columns):
        own = f"{name} low" in table and f"{name} high" in table
        if own or list(table.columns[place + 1 : place + 3]) == ["low", "high"]:
            bounds = [f"{name} low", f"{name} high"] if own else ["low", "high"]
            shown[name] = [
                f"{value:.{decimals}f} ({low:.{decimals}f} to {high:.{decimals}f})"
                for value, low, high in table[[name, *bounds]].to_numpy(float)
            ]
            shown = shown.drop(columns=bounds)
    return shown


def stacked(tables: Mapping[str, pd.DataFrame], by: str = "network") -> pd.DataFrame:
    """The tables of all networks, or of what else `by` names, as one; the name comes first."""
    return pd.concat(tables, names=[by]).reset_index(by).reset_index(drop=True)


class Named(Protocol):
    """A network as tables name it, such as a `training.recipes.Recipe`; `spec` holds all that it was trained with."""

    @property
    def key(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def architecture(self) -> str: ...
    @property
    def objective(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def spec(self) -> dict[str, Any]: ...


def distinct_titles(recipes: Iterable[Named]) -> dict[str, str]:
    """By key, a title for tables with the seed in it, and the key where two networks would have the same."""
    titles = {recipe.key: f"{recipe.title}, seed {recipe.seed}" for recipe in recipes}
    times = collections.Counter(titles.values())
    return {key: title if times[title] == 1 else f"{title} [{key[:6]}]" for key, title in titles.items()}


def seed_groups(rows: Iterable[tuple[Named, ...]], titles: Mapping[str, str]) -> dict[str, list[tuple[Named, ...]]]:
    """Rows of recipes, single networks or pairs such as `matched` gives, brought together where seeds alone differ.

    Args:
        rows: all of one length.
        titles: by key, from `distinct_titles`.

    Returns:
        By the title of the first recipe of a row; where there are several seeds, their number stands in place of it.
    """
    groups: dict[str, list[tuple[Named, ...]]] = {}
    for row in rows:
        groups.setdefault("".join(_but_seed(recipe) for recipe in row), []).append(row)
    named: dict[str, list[tuple[Named, ...]]] = {}
    for same in groups.values():
        first = same[0][0]
        title = titles[first.key] if len(same) == 1 else f"{first.title}, {len(same)} seeds"
        named[f"{title} [{first.key[:6]}]" if title in named else title] = same
    return named


def _but_seed(recipe: Named) -> str:
    spec = recipe.spec | {"seed": None, "schedule": recipe.spec["schedule"] | {"seed": None}}
    return json.dumps(spec, sort_keys=True)


def matched(recipes: Iterable[Named], first: str, second: str) -> list[tuple[Named, Named]]:
    """All pairs of a network of the objective `first` and one of `second` that agree in all else that is no loss."""

    def rest(recipe: Named) -> list[Any]:
        return [recipe.spec.get(name) for name in ("architecture", "seed", "data", "filter_groups")]

    recipes = list(recipes)
    ones, others = ([recipe for recipe in recipes if recipe.objective == kind] for kind in (first, second))
    return [(a, b) for a in ones for b in others if rest(a) == rest(b)]
