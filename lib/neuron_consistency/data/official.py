"""Sets in the layouts of their official archives, found by their marks."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from neuron_consistency.data.classification import FileSource
from neuron_consistency.errors import DatasetError


@dataclass(frozen=True)
class Layout:
    """Where a set may be: a pattern of its folders' and archives' names; and, at or in these, the folders that may hold
    it, each with a file or folder by which it is known."""

    archives: str
    places: list[tuple[str, str]]


class OfficialSource(FileSource):
    """A set in a layout of its own, found by its marks; its options are those of its constructor."""

    options: tuple[str, ...] = ()

    @staticmethod
    @abstractmethod
    def layout(name: str, split: str, options: Mapping[str, Any]) -> Layout:
        """Where the split may be.

        Raises:
            ParameterError: an option has an impossible value.
        """

    def require(self, *folders: str) -> None:
        """Raise DatasetError where a folder of the layout is not there."""
        if missing := [folder for folder in folders if not self.files.has(folder)]:
            raise DatasetError(f"{self.files} has no folder {missing[0]}: unpack the official archive there again.")
