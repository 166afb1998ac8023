"""Peak memory of the streaming pass at 1,000 and at 50,000 images: `python tests/benchmarks/memory.py`.

Each size runs in a process of its own, all layers of a ResNet-18 read, on synthetic images that cost no memory
themselves: windows of one random buffer. Exits 1 where the peaks differ by more than a tenth.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch

from neuron_consistency.data.images import ImageSet
from neuron_consistency.models import build_model
from neuron_consistency.responses import respond

SIZES = (1_000, 50_000)
CLASSES, SIDE, BATCH = 100, 32, 128


def synthetic(images: int) -> ImageSet:
    """Images that overlap in memory, each 97 bytes further on in a buffer of noise."""
    buffer = torch.randint(0, 256, (images * 97 + 3 * SIDE * SIDE,), dtype=torch.uint8)
    pixels = buffer.as_strided((images, 3, SIDE, SIDE), (97, SIDE * SIDE, SIDE, 1))
    names = tuple(str(number) for number in range(CLASSES))
    return ImageSet("synthetic", "val", names, names, torch.arange(images) % CLASSES, pixels, "synthetic")


def resident() -> float:
    """Memory of this process now, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def measure(images: int) -> dict[str, float]:
    """One pass: its peak in all, and above what the process held before it."""
    torch.set_num_threads(1)
    model = build_model("resnet18", num_classes=CLASSES, image_size=SIDE)
    data = synthetic(images)
    before, began = resident(), time.perf_counter()
    respond(model, data, device=torch.device("cpu"), layers=list(model.layers), batch_size=BATCH, precision="float32")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds = time.perf_counter() - began
    return {"images": images, "peak_mib": peak, "above_mib": peak - before, "seconds": seconds}


def main() -> int:
    rows = []
    for images in SIZES:
        ended = subprocess.run([sys.executable, __file__, str(images)], capture_output=True, text=True, check=True)
        rows.append(json.loads(ended.stdout))
        print(
            "{images:>6.0f} images: peak {peak_mib:.0f} MiB, the pass {above_mib:.0f} MiB, {seconds:.0f} s".format(
                **rows[-1]
            )
        )
    ratio = rows[1]["peak_mib"] / rows[0]["peak_mib"]
    print(f"ratio of the peaks: {ratio:.3f}")
    return int(abs(ratio - 1) > 0.1)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(int(sys.argv[1]))))
    else:
        sys.exit(main())
