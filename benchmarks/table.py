"""The table of what is fast: `make bench`, or `python benchmarks/table.py --only step` for some of its rows.

Every row times our way and another in turns, in one process, and holds their results against each other. Rows of
another kind of device than the one at hand stand there as not measured. The whole table goes to
book/results/benchmarks/ with a record of the machine; some rows of it, or one whose two ways disagree, go to the
terminal alone. Beside the whole table is kept where the time of a training step goes. Exits 1 where a goal is missed
or a result is wrong.
"""

from __future__ import annotations

import argparse
import sys

import torch

import data_rows
import measure_rows
import training_rows
from neuron_consistency.artifacts import commit
from neuron_consistency.runtime import describe_device, resolve_device
from neuron_consistency.workflow.results import keep_tables
from pairs import Size, run, table_of
from step_profile import step_profile


def main() -> int:
    parser = argparse.ArgumentParser(description="The table of what is fast.")
    parser.add_argument("--only", default="", help="rows with this in their name; nothing is kept")
    parser.add_argument("--share", type=float, default=1.0, help="of the work's size; nothing is kept below 1")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--data", help="folder with photographs; without one nothing is read from disk")
    given, began_at = parser.parse_args(), commit()
    device = resolve_device(given.device)
    sizes = [Size(torch.device(kind), given.share, given.data) for kind in ("cpu", "cuda")]
    done, left_out = [], 0
    for size in sizes:
        for row in [*measure_rows.rows(size), *training_rows.rows(size), *data_rows.rows(size)]:
            if given.only not in row.work:
                left_out += 1
            elif size.device.type in row.devices:
                done.append(run(row, size, repeats=given.repeats, here=size.device.type == device.type))
                print(", ".join(f"{name} {value}" for name, value in done[-1].items()), flush=True)
    table = table_of(done)
    if not left_out and given.share >= 1 and not (table["verdict"] == "wrong").any():
        facts = {
            "commit": began_at,
            "device": describe_device(device),
            "torch": torch.__version__,
            "repeats": given.repeats,
        }
        profile = step_profile(training_rows.watched_steps(Size(device)), device=device)
        print(keep_tables("benchmarks", {"table": table, "profile": profile}, facts))
    return int(table["verdict"].isin(["missed", "wrong"]).any())


if __name__ == "__main__":
    sys.exit(main())
