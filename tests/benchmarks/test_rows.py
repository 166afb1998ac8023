"""The benchmark table itself: every row runs, at a fraction of its size, and its two ways agree."""

from __future__ import annotations

import time
from functools import partial

import pytest
import torch

import data_rows
import measure_rows
import training_rows
from pairs import Pair, Row, Size, run, table_of
from step_profile import KINDS, REST, step_profile

SMALL = Size(torch.device("cpu"), share=0.02)
ROWS = [*measure_rows.rows(SMALL), *training_rows.rows(SMALL), *data_rows.rows(SMALL)]


@pytest.mark.parametrize(
    "row", [row for row in ROWS if "compiled" not in row.work], ids=lambda row: f"{row.work}, {row.against}"
)
def test_a_row_runs_and_its_two_ways_agree(row: Row) -> None:
    """A row that broke would be noticed when somebody next has an hour for the whole table."""
    found = run(row, SMALL, repeats=1)
    if row.needs:
        assert found["verdict"] == f"not measured, needs {row.needs}"
    else:
        assert found["verdict"] != "wrong", found


def test_a_faster_wrong_answer_is_wrong() -> None:
    def pair(difference: float, _size: Size) -> Pair:
        return Pair(lambda: None, lambda: time.sleep(0.01), "a nap", scale=2, difference=lambda: difference)

    rows = [
        Row("nothing", "a nap", goal, partial(pair, apart)) for goal, apart in ((1, 0), (1, 1), (1e9, 0), (None, 0))
    ]
    table = table_of([run(row, SMALL, repeats=3) for row in rows])
    assert table["verdict"].tolist() == ["met", "wrong", "missed", "no goal here"]
    assert bool((table["seconds, other"] >= 0.02).all())  # scaled
    elsewhere = table_of([run(rows[0], Size(torch.device("cuda")), repeats=1, here=False)])
    assert elsewhere["verdict"].tolist() == ["not measured"]
    assert bool(elsewhere["times"].isna().all())


def test_a_profile_tells_where_the_time_goes() -> None:
    matrix, images, kernel = torch.rand(200, 200), torch.rand(8, 8, 32, 32), torch.rand(8, 8, 3, 3)
    steps = {
        "products": lambda: matrix @ matrix,
        "convolutions": lambda: torch.nn.functional.conv2d(images, kernel),
    }
    table = step_profile(steps, device=torch.device("cpu")).set_index("operation")
    assert list(table.index) == [*KINDS, REST]
    assert table.sum().tolist() == pytest.approx([100, 100])
    assert table["products"].idxmax() == "matrix product"
    assert table["convolutions"].idxmax() == "convolution"
