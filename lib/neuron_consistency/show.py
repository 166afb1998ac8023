"""How a page shows tables and names networks: numbers and intervals as text, titles, seeds brought together."""

import collections
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import pandas as pd

MISSING = "not measured"  # what a table says where it has no number


def number_text(value: float, decimals: int) -> str:
    """A number as tables show it: with so many decimals, or its first digit where these would all be zero."""
    if math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "-∞" if value < 0 else "∞"
    small = value and abs(value) < 0.5 * 10**-decimals
    return f"{value:.1g}" if small else f"{value:.{decimals}f}"


def interval_text(value: float, low: float, high: float, *, decimals: int) -> str:
    """ "0.31 (0.25 to 0.37)"; a value without bounds says so, and bounds without a value are not told."""
    if math.isnan(value):
        return MISSING
    known = not (math.isnan(low) or math.isnan(high))
    bounds = f"{number_text(low, decimals)} to {number_text(high, decimals)}" if known else "no interval"
    return f"{number_text(value, decimals)} ({bounds})"


def interval_columns(table: pd.DataFrame) -> dict[Any, list[Any]]:
    """The columns that have bounds, by name, with those that hold them: "X low" and "X high", or "low" and "high".

    Columns named "low" and "high" alone belong to the column before them.
    """
    found = {}
    for place, name in enumerate(table.columns):
        own = [f"{name} low", f"{name} high"]
        if all(bound in table for bound in own):
            found[name] = own
        elif list(table.columns[place + 1 : place + 3]) == ["low", "high"]:
            found[name] = ["low", "high"]
    return found


def with_intervals(table: pd.DataFrame, *, decimals: int = 3) -> pd.DataFrame:
    """Each column "X" that has its bounds in "X low" and "X high" becomes one of text, "0.31 (0.25 to 0.37)".

    Which columns these are, says `interval_columns`. All other numbers are rounded.

    Args:
        table: numbers, with an index if there is one.
        decimals: digits after the point.
    """
    shown = table.round(decimals)
    for name, bounds in interval_columns(table).items():
        shown[name] = [interval_text(*row, decimals=decimals) for row in table[[name, *bounds]].to_numpy(float)]
        shown = shown.drop(columns=bounds)
    return shown


def in_words(values: "pd.Series[Any]", *, decimals: int = 2, most: int = 12) -> str:
    """What a series holds, for those who cannot see its figure: "real: 0.31; FGSM: 0.12", by the words of its index.

    Args:
        values: numbers.
        decimals: digits after the point.
        most: of more values than these, the lowest and the highest are told.
    """
    if len(values) > most:
        ends = values.dropna().sort_values().iloc[[0, -1]]
        return f"{len(values)} values, from {in_words(ends, decimals=decimals).replace('; ', ' to ')}"
    names = [", ".join(map(str, name)) if isinstance(name, tuple) else str(name) for name in values.index]
    return "; ".join(f"{name}: {number_text(value, decimals)}" for name, value in zip(names, values, strict=True))


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
