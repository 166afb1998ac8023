"""Tables as a page shows them."""

from __future__ import annotations

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
