"""What stands under a table or a figure: without it nobody can tell which run, or which kept result, made a number."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from neuron_consistency.book.stamps import cited, stamp_outputs

RECORD = {
    "study": "a-study",
    "notebook": "04_evaluation",
    "parameters": {"profile": "tiny"},
    "commit": "0123456789ab",
    "seeds": [0, 1],
    "device": "CPU, 1 threads",
    "training_seconds": 12.4,
    "run_seconds": 99.6,
}


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    yield InteractiveShell.instance()
    InteractiveShell.clear_instance()


def outputs(shell: InteractiveShell, code: str) -> list[str]:
    """The HTML that a cell displays after its own result."""
    with capture_output() as captured:
        shell.run_cell(code)  # type: ignore[no-untyped-call]
    return [output.data["text/html"] for output in captured.outputs if "provenance" in str(output.data)]


def test_tables_and_figures_say_what_made_them_and_nothing_else_does(shell: InteractiveShell) -> None:
    shell.user_ns.update(pd=pd)
    stamp_outputs("04_evaluation", {"profile": "demo<", "device": "cpu"}, lambda: {2, 0})
    (said,) = outputs(shell, "pd.DataFrame({'a': [1]})")
    assert said.startswith('<p class="provenance">04_evaluation · profile demo&lt; · commit ')
    assert "seeds 0, 2 · CPU, " in said
    assert said.endswith(" s into the run</p>")
    assert len(outputs(shell, "from matplotlib.figure import Figure; Figure()")) == 1
    assert len(outputs(shell, "pd.DataFrame({'a': [1]}).style")) == 1
    for quiet in ("1 + 1", "x = pd.DataFrame()", "print('a')", "1 / 0"):
        assert outputs(shell, quiet) == []


def test_a_cited_table_names_its_results_and_not_the_run(shell: InteractiveShell) -> None:
    other = {"study": "bench", "commit": "ba9876543210", "device": "GPU"}
    shell.user_ns.update(pd=pd, cited=cited, one=RECORD, other=other)
    stamp_outputs("09_results_p1", {"profile": "demo", "device": "cpu"}, set)
    expected = (
        "a-study · 04_evaluation · profile tiny · commit 0123456789ab · seeds 0, 1 · CPU, 1 threads · 12 s of training"
        " · run in 100 s; bench · commit ba9876543210 · GPU"
    )
    assert outputs(shell, "cited(pd.DataFrame(), one, other)") == [f'<p class="provenance">{expected}</p>']
    figure = "from matplotlib.figure import Figure; cited(Figure(), other)"
    assert outputs(shell, figure) == ['<p class="provenance">bench · commit ba9876543210 · GPU</p>']


def test_a_cell_run_twice_stamps_once(shell: InteractiveShell) -> None:
    shell.user_ns.update(pd=pd)
    for _ in range(2):
        stamp_outputs("01_metric_definition", {"profile": "demo", "device": "cpu"}, set)
    assert len(outputs(shell, "pd.DataFrame()")) == 1


def test_outside_of_a_notebook_nothing_happens() -> None:
    stamp_outputs("01_metric_definition", {"profile": "demo", "device": "cpu"}, set)
    assert not InteractiveShell.initialized(), "a script must not find itself inside a shell"
