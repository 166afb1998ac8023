"""What stands under a table or a figure: without it nobody can tell which run, or which kept result, made a number."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from neuron_consistency.book.stamps import Run, cited, source_lines, stamp_outputs
from neuron_consistency.workflow.parameters import all_parameters

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


HERE = Run("04_evaluation", {"profile": "demo", "device": "cpu"}, set)


def plain(said: str) -> str:
    return re.sub("<.*?>", "", said)


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
    stamp_outputs(Run("04_evaluation", {"profile": "demo<", "device": "cpu"}, lambda: {2, 0}))
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
    stamp_outputs(Run("09_results_p1", {"profile": "demo", "device": "cpu"}, set))
    (said,) = outputs(shell, "cited(pd.DataFrame(), one, other)")
    assert plain(said) == (
        "a-study · 04_evaluation · profile tiny · commit 0123456789ab · seeds 0, 1 · CPU, 1 threads · 12 s of training"
        " · run in 100 s; bench · commit ba9876543210 · GPU"
    )
    (said,) = outputs(shell, "from matplotlib.figure import Figure; cited(Figure(), other)")
    assert plain(said) == "bench · commit ba9876543210 · GPU"


def test_a_source_links_to_its_record_its_tables_and_its_commit() -> None:
    """Else a reader has to find the numbers behind a figure by hand."""
    table = cited(pd.DataFrame(), RECORD | {"tables": {"b.csv": "0", "a b.csv": "1"}})
    (line,) = source_lines(table, HERE)
    root = "https://github.com/consistent-neurons/consistent-neurons"
    results = f"{root}/blob/main/book/results/a-study"
    assert re.findall('href="(.*?)"', line) == [
        f"{results}/record.json",
        f"{root}/commit/0123456789ab",
        f"{results}/a%20b.csv",
        f"{results}/b.csv",
    ]


@pytest.mark.parametrize("made_at", ["0123456789ab+", "unknown", "../../evil/repository"])
def test_a_commit_that_cannot_be_looked_up_is_no_link(made_at: str) -> None:
    (line,) = source_lines(cited(pd.DataFrame(), {"commit": made_at}), HERE)
    assert line == f"commit {made_at}"


def test_every_parameter_that_differs_from_the_profiles_is_said() -> None:
    """Else numbers of sigma = 1.5 read as those of sigma = 2."""
    standing = all_parameters("smoke", "04_evaluation")
    same = {"notebook": "04_evaluation", "parameters": standing | {"device": "cuda", "study": "x"}}
    (line,) = source_lines(cited(pd.DataFrame(), same), HERE)
    assert line == "04_evaluation · profile smoke · commit unknown"
    other = {
        "notebook": "04_evaluation",
        "parameters": standing | {"sigma": 1.5, "per_class": 9, "architectures": ["<b>"]},
    }
    (line,) = source_lines(cited(pd.DataFrame(), other), HERE)
    assert html.unescape(line) == (
        "04_evaluation · profile smoke · architectures = ['<b>'] (the profile has [])"
        " · per_class = 9 (the profile has 6) · sigma = 1.5 (the profile has 2.0) · commit unknown"
    )
    assert "<" not in line


def test_of_a_profile_that_is_gone_every_parameter_is_said() -> None:
    record = {"notebook": "04_evaluation", "parameters": {"profile": "gone", "sigma": 2.0}}
    assert "profile gone · sigma = 2.0 · " in source_lines(cited(pd.DataFrame(), record), HERE)[0]


def test_evil_text_in_a_record_is_no_markup() -> None:
    record: dict[str, object] = {name: "<img src=x>" for name in ("study", "notebook", "commit", "device")}
    record |= {"parameters": {"profile": "<img src=x>", "sigma": "<img src=x>"}, "seeds": ["<img src=x>"]}
    (line,) = source_lines(cited(pd.DataFrame(), record | {"tables": {"'\"<img src=x>": ""}}), HERE)
    assert "<img" not in line
    assert set(re.findall(r"<(/?\w+)", line)) == {"a", "/a"}


def test_a_cell_run_twice_stamps_once(shell: InteractiveShell) -> None:
    shell.user_ns.update(pd=pd)
    for _ in range(2):
        stamp_outputs(Run("01_metric_definition", {"profile": "demo", "device": "cpu"}, set))
    assert len(outputs(shell, "pd.DataFrame()")) == 1


def test_outside_of_a_notebook_nothing_happens() -> None:
    stamp_outputs(Run("01_metric_definition", {"profile": "demo", "device": "cpu"}, set))
    assert not InteractiveShell.initialized(), "a script must not find itself inside a shell"
