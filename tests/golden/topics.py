"""The topics with their version numbers."""

from __future__ import annotations

from golden import (
    attack,
    choices,
    consistency,
    dissection,
    explanation,
    groups,
    renderer,
    representation,
    tracing,
    training,
)
from golden.kept import Topic
from neuron_consistency import versions

MEASURES = {
    "consistency": consistency.numbers,
    "dissection": dissection.numbers,
    "representation": representation.numbers,
    "tracing": tracing.numbers,
    "explanation": explanation.numbers,
    "choices": choices.numbers,
}
TOPICS = [
    Topic("training", "TRAINING", training.numbers),
    Topic("groups", "GROUPS", groups.numbers),
    Topic("renderer", "RENDERER", renderer.numbers),
    Topic("attack", "ATTACK", attack.numbers),
    *(Topic(name, f"MEASURES['{name}']", compute) for name, compute in MEASURES.items()),
]


def version_of(topic: Topic) -> int:
    """The topic's version today."""
    found: int = versions.MEASURES[topic.name] if topic.name in MEASURES else getattr(versions, topic.number)
    return found
