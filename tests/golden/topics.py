"""The topics with their version numbers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from importlib import import_module

from golden.kept import Topic
from neuron_consistency import versions


def _numbers(name: str) -> Mapping[str, object]:
    """A topic's numbers; its module is imported here, so that each topic can be checked while another one is broken."""
    found: Mapping[str, object] = import_module(f"golden.{name}").numbers()
    return found


MEASURES = ("consistency", "dissection", "representation", "tracing", "explanation", "choices")
TOPICS = [
    *(Topic(name, name.upper(), partial(_numbers, name)) for name in ("training", "groups", "renderer", "attack")),
    *(Topic(name, f"MEASURES['{name}']", partial(_numbers, name)) for name in MEASURES),
]


def version_of(topic: Topic) -> int:
    """The topic's version today."""
    found: int = versions.MEASURES[topic.name] if topic.name in MEASURES else getattr(versions, topic.number)
    return found
