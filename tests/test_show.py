"""Tables as a page shows them."""

import pandas as pd

from neuron_consistency.show import with_intervals


def test_bounds_join_their_value_and_other_columns_are_rounded() -> None:
    """Were a bound joined to another column's value, a page would show a wrong interval."""
    table = pd.DataFrame({"m": [2.34567], "U": [0.5], "U low": [0.25], "U high": [0.75], "U chance": [0.12345]})
    shown = with_intervals(table, decimals=2)
    assert shown.to_dict("records") == [{"m": 2.35, "U": "0.50 (0.25 to 0.75)", "U chance": 0.12}]


def test_bare_bounds_belong_to_the_column_before_them() -> None:
    table = pd.DataFrame({"U": [0.5], "difference": [-0.1], "low": [-0.2], "high": [0.1], "verdict": ["lower"]})
    assert with_intervals(table, decimals=1).to_dict("records") == [
        {"U": 0.5, "difference": "-0.1 (-0.2 to 0.1)", "verdict": "lower"}
    ]
