"""How a page shows tables and names networks: intervals as text, titles, seeds brought together."""

from __future__ import annotations

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


class Named(Protocol):
    """A network as tables name it, such as a `training.recipes.Recipe`: by key, title and how it was trained."""

    @property
    def key(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def spec(self) -> dict[str, Any]: ...


def distinct_titles(recipes: Iterable[Named]) -> dict[str, str]:
    """By key, a title for tables with the seed in it, and the key where two networks would have the same."""
    titles = {recipe.key: f"{recipe.title}, seed {recipe.spec['seed']}" for recipe in recipes}
    again = {title for title, times in collections.Counter(titles.values()).items() if times > 1}
    return {key: f"{title} [{key[:6]}]" if title in again else title for key, title in titles.items()}


def seed_groups(rows: Iterable[tuple[Named, ...]], titles: Mapping[str, str]) -> dict[str, list[tuple[Named, ...]]]:
    """Rows of recipes, a network or a pair such as `matched` gives, brought together where they differ in seeds alone.

    Args:
        rows: of one length.
        titles: by key, from `distinct_titles`.

    Returns:
        By the title of the first of a row: as it stands for one seed, else with the number of seeds in place of it.
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
    schedule = {name: value for name, value in recipe.spec.get("schedule", {}).items() if name != "seed"}
    return json.dumps({**recipe.spec, "seed": None, "schedule": schedule}, sort_keys=True)


def matched(recipes: Iterable[Named], first: str, second: str) -> list[tuple[Named, Named]]:
    """All pairs of a network of the objective `first` and one of `second` that agree in all else that is no loss."""

    def rest(recipe: Named) -> list[Any]:
        return [recipe.spec.get(name) for name in ("architecture", "seed", "data", "filter_groups")]

    recipes = list(recipes)
    return [
        (a, b)
        for a in recipes
        for b in recipes
        if (a.spec["objective"], b.spec["objective"]) == (first, second) and rest(a) == rest(b)
    ]
