"""Write the golden numbers of the topics whose versions were raised, and of new ones: `make golden`."""

from __future__ import annotations

import sys
import time

from golden.kept import GoldenError, write
from golden.topics import TOPICS, version_of


def main() -> int:
    failed = 0
    for topic in TOPICS:
        started = time.process_time()
        try:
            said = write(topic, version_of(topic))
        except GoldenError as error:
            said, failed = f"error: {error}", failed + 1
        print(f"{said} ({time.process_time() - started:.1f} s)", flush=True)
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
