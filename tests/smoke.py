"""The whole book with the profile `smoke`, run once for all tests that look at it."""

import fcntl
import functools
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SITE = Path("artifacts/smoke/book")
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@functools.cache
def smoke_site() -> tuple[Path, str]:
    """The folder with the executed notebooks and pages, and what the run said where it failed (else nothing).

    Trainings and notebooks that nothing has changed for are not run again, as in any run of the workflow. Of several
    processes one makes the site, the others wait and find it made.
    """
    options = ["book", "--strict", "--profile", "smoke", "--device", "cpu", "--site", str(SITE)]
    command = [sys.executable, "-m", "neuron_consistency.workflow", *options]
    (ROOT / SITE).mkdir(parents=True, exist_ok=True)
    with (ROOT / SITE / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return ROOT / SITE, "" if done.returncode == 0 else done.stdout
