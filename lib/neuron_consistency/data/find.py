"""Sets of images by name: the sources that there are, and finding a split where the user keeps it."""

import os
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from neuron_consistency.data import sources
from neuron_consistency.data.sources.base import SPLITS, Source
from neuron_consistency.errors import DatasetError, ParameterError

MODULES = [import_module(f"{sources.__name__}.{module.name}") for module in iter_modules(sources.__path__)]
KINDS = [kind for module in MODULES for kind in vars(module).values() if isinstance(kind, type)]
SOURCES: dict[str, type[Source]] = {name: kind for kind in KINDS if issubclass(kind, Source) for name in kind.sets}


def sets_that_tell(what: str) -> str:
    """Names of the sets that know so much of an image, for a sentence; last those that do under some condition."""
    conditions = sorted((kind.tells[what], name) for name, kind in SOURCES.items() if what in kind.tells)
    return ", ".join(f"and {name} {condition}" if condition else name for condition, name in conditions)


def options_of(name: str) -> tuple[str, ...]:
    """Names of what may be chosen of a set beside its split; none of a folder of one's own."""
    return SOURCES[name].options if name in SOURCES else ()


def own_place(name: str | Path) -> Path | None:
    """A folder or zip of one's own by its path, from here or from the folder that NEURON_CONSISTENCY_DATA names."""
    path, data = Path(name).expanduser(), os.environ.get("NEURON_CONSISTENCY_DATA")
    places = [path] if data is None else [path, Path(data).expanduser() / path]
    return next((place for place in places if place.exists()), None)


def open_source(name: str, split: str, root: str | Path | None, *, download: bool = False, **options: Any) -> Source:
    """Finds a split of a set by name, or by the path (see `own_place`) of a folder or zip of classes.

    Raises:
        DatasetError: it is not there; the message says where it was sought, in which layouts, and where to get it.
        ParameterError: unknown set, split or option.
    """
    if split not in SPLITS:
        raise ParameterError(f"Unknown split {split!r}: use {' or '.join(SPLITS)}.")
    kind = SOURCES.get(name)
    if strange := sorted(set(options) - set(options_of(name))):
        raise ParameterError(f"{(kind or Source).strange}: {', '.join(strange)}.".format(name))
    if kind is None:
        found = own_place(name)
        if found is None:
            raise ParameterError(
                f"Unknown dataset {name!r}: use {', '.join(sorted(SOURCES))}, or the path of a folder or zip of "
                "classes."
            )
        name, root, kind = "folder", found, SOURCES["folder"]
    place = root or os.environ.get("NEURON_CONSISTENCY_DATA")
    there = Path(place).expanduser() if place and Path(place).expanduser().exists() else None
    source = kind.open(name, split, there, download=download, **options)
    if source is None:
        accepted, page = kind.sets[name]
        where = f"are not in {place}" if place else "have no folder to be looked for in"
        raise DatasetError(
            f"The {split} images of {name} {where}. Accepted there: {accepted}. Get it from {page}, and let the "
            "environment variable NEURON_CONSISTENCY_DATA (or the argument root) name the folder that holds it."
        )
    return source
