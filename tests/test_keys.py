"""Keys of code: they change with what is computed, and with nothing else."""

from pathlib import Path

import pytest

from neuron_consistency import keys
from neuron_consistency.errors import ParameterError


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package: `net` uses `data.images`, which uses `tree` and its table; `other` stands alone."""
    folder = tmp_path / "neuron_consistency"
    (folder / "data").mkdir(parents=True)
    (folder / "__init__.py").write_text('"""Package."""\n')
    (folder / "data" / "__init__.py").write_text("")
    (folder / "net.py").write_text("def f():\n    from neuron_consistency.data import images\n    return images\n")
    (folder / "data" / "images.py").write_text("from ..tree import g\n\nA = g()\n")
    (folder / "tree.py").write_text('import math\n\nTABLE = "tree.tsv"\n\n\ndef g():\n    """Doc."""\n    return 1\n')
    (folder / "tree.tsv").write_text("a\tb\n")
    (folder / "other.py").write_text("B = 1\n")
    monkeypatch.setattr(keys, "PACKAGE", folder)
    return folder


def key() -> str:
    return keys.code_key(["neuron_consistency.net"])


def test_comments_docstrings_and_layout_do_not_count(package: Path) -> None:
    before = key()
    (package / "tree.py").write_text(
        '"""Module."""\nimport math\n\nTABLE = "tree.tsv"  # a table\n\ndef g():\n    """Other."""\n    return (1)\n'
    )
    (package / "other.py").write_text("B = 2\n")
    assert key() == before


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("net.py", "from neuron_consistency.data import images\n\nC = 1\n"),
        ("tree.py", 'TABLE = "tree.tsv"\n\n\ndef g():\n    return 2\n'),
        ("tree.tsv", "a\tc\n"),
        ("data/images.py", "from ..tree import g\n\nA = g() + 1\n"),
    ],
)
def test_code_and_tables_count_through_imports_of_any_form(package: Path, name: str, text: str) -> None:
    before = key()
    (package / name).write_text(text)
    assert key() != before


def test_function_with_nothing_but_a_docstring_stays_a_function(package: Path) -> None:
    (package / "other.py").write_text('def f():\n    """Doc."""\n')
    assert keys.code_key(["neuron_consistency.other"])


def test_stranger_is_refused(package: Path) -> None:
    with pytest.raises(ParameterError, match=r"not modules of .*: torch"):
        keys.code_key(["torch", "neuron_consistency.net"])


def test_modules_of_a_notebook_are_found(package: Path) -> None:
    source = "import torch\nfrom neuron_consistency import net\nfrom neuron_consistency.data.images import A\n"
    assert keys.imported_modules(source) == [
        "neuron_consistency",
        "neuron_consistency.data.images",
        "neuron_consistency.net",
    ]
