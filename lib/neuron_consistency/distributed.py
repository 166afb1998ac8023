"""Work split over processes: which of them this one is."""

from __future__ import annotations

import os

from neuron_consistency.errors import ParameterError


def ranks() -> tuple[int, int]:
    """This process's number and how many there are, as torchrun says it; (0, 1) without torchrun.

    Raises:
        ParameterError: RANK and WORLD_SIZE of the environment do not make sense.
    """
    texts = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    if not all(text.isdigit() for text in texts) or int(texts[0]) >= int(texts[1]):
        raise ParameterError(
            f"RANK={texts[0]!r}, WORLD_SIZE={texts[1]!r}: start the processes with torchrun, or unset both"
        )
    return int(texts[0]), int(texts[1])
