"""How time and memory of the streaming pass grow with images and with channels: `python benchmarks/growth.py`.

Each size runs in a process of its own, on one thread, so that peaks are its own: a convolution of so many channels on
synthetic images that cost no memory themselves, windows of one random buffer. The table goes to book/results/growth/.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from neuron_consistency.artifacts import commit
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.networks.models import Classifier
from neuron_consistency.responses import respond
from neuron_consistency.runtime import Runtime, describe_device
from neuron_consistency.workflow.results import keep_tables

IMAGES, CHANNELS = (1_000, 10_000, 100_000), (64, 256, 1_024)  # one of them grows, the other stays at its first
CLASSES, SIDE, BATCH = 100, 32, 100


def synthetic(images: int) -> ImageSet:
    """Images that overlap in memory, each 97 bytes further on in a buffer of noise."""
    buffer = torch.randint(0, 256, (images * 97 + 3 * SIDE * SIDE,), dtype=torch.uint8)
    pixels = buffer.as_strided((images, 3, SIDE, SIDE), (97, SIDE * SIDE, SIDE, 1))
    names = tuple(str(number) for number in range(CLASSES))
    return ImageSet("synthetic", "val", names, names, torch.arange(images) % CLASSES, pixels, "synthetic")


def network(channels: int) -> Classifier:
    """One convolution, of which all is read."""
    layers = [nn.Conv2d(3, channels, 4, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return Classifier(nn.Sequential(*layers, nn.Linear(channels, CLASSES)), "one layer", {"only": ("1", channels)})


def resident() -> float:
    """Memory of this process now, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def measure(images: int, channels: int) -> dict[str, float]:
    """One pass: its seconds, and its peak above what the process held before it."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, data = network(channels), synthetic(images)
    on = Runtime.of("cpu", "float32", BATCH)
    respond(model, data.subset(torch.arange(BATCH)), on)  # what is set up once
    before, began = resident(), time.perf_counter()
    respond(model, data, on)
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before}


def table() -> pd.DataFrame:
    """A row a size, and for each quantity that grows the exponents fitted to its sizes, on logarithmic scales."""
    rows = []
    for grows, sizes in (("images", IMAGES), ("channels", CHANNELS)):
        found = []
        for size in sizes:
            images, channels = (size, CHANNELS[0]) if grows == "images" else (IMAGES[1], size)
            command = [sys.executable, __file__, str(images), str(channels)]
            ended = subprocess.run(command, capture_output=True, text=True, check=True)
            found.append({"grows": grows, "images": images, "channels": channels} | json.loads(ended.stdout))
            print(found[-1], flush=True)
        for name in ("seconds", "MiB"):
            slope = np.polyfit(np.log(sizes), np.log([row[name] for row in found]), 1)[0]
            found = [row | {f"exponent of {name}": slope} for row in found]
        rows += found
    return pd.DataFrame(rows)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(*map(int, sys.argv[1:]))))
    else:
        torch.set_num_threads(1)
        facts = {"commit": commit(), "device": describe_device(torch.device("cpu")), "torch": torch.__version__}
        print(keep_tables("growth", {"growth": table()}, facts))
