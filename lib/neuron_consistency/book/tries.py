"""What each chapter proposes to change, and what is to be expected then: notebooks/try.yaml, which tests run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from IPython.display import Markdown

from neuron_consistency.workflow.parameters import notebook_parameters, notebook_path, read_list


@dataclass(frozen=True)
class Try:
    """A change of a notebook's parameters, and the number that has to follow.

    Attributes:
        name: its key in the file.
        notebook: its stem.
        change: the new values, by parameter.
        say: what to expect, in words.
        value: the number that is looked at, as an expression in the notebook's names.
        goes: where it goes: "up", "down", or to a number that it has not before.
        quick: further parameters that the test sets in both runs, to be quick.
    """

    name: str
    notebook: str
    change: Mapping[str, Any]
    say: str
    value: str
    goes: str | float
    quick: Mapping[str, Any] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """The change as `PARAMS=` of `make notebook` takes it."""
        told = {name: value if isinstance(value, str) else repr(value) for name, value in self.change.items()}
        return " ".join(f"{name}={value.replace(' ', '')}" for name, value in told.items())


def read_tries(notebook: str = "") -> list[Try]:
    """The proposals of a notebook (its stem), or all.

    Raises:
        ParameterError: an entry lacks a field or has another.
    """
    return [one for one in read_list("try.yaml", Try).values() if notebook in ("", one.notebook)]


def try_this(notebook: str) -> Markdown:
    """The proposals of a notebook as the list that its page shows, each with the command that runs it."""
    standing = notebook_parameters(notebook_path(notebook))
    items = []
    for one in read_tries(notebook):
        before = ", ".join(f"`{name}` is {_told(name, standing[name].default)} here" for name in one.change)
        command = f'make notebook N={notebook.partition("_")[0]} PARAMS="{one.words}"'
        items.append(f"1. `{command}` ({before}). {one.say.strip()}")
    return Markdown("\n".join(items))  # type: ignore[no-untyped-call]


def _told(name: str, value: object) -> str:
    return f"{255 * value:g}/255" if "epsilon" in name and isinstance(value, float) else repr(value)
