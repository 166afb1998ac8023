"""Several processes: the same passes, equal weights, resumed by another number of them, ended when one dies."""

from __future__ import annotations

import multiprocessing
import shutil
import signal
import socket
import subprocess
import sys
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest
import torch
from torch import Tensor

from distributed_worker import DIE_AFTER, passes, training, work
from neuron_consistency.errors import ParameterError
from neuron_consistency.explanation.filter_groups import FilterGroups
from neuron_consistency.runtime import Part, launched
from neuron_consistency.training.loop import train
from neuron_consistency.training.objective import Objective
from neuron_consistency.training.schedule import Schedule
from toys import CPU, toy_images, toy_model


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Processes that start at once: most of what they import, a server of theirs has imported (it knows no tests)."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["neuron_consistency.training.obtain"])
    return context


def run(processes: ForkServerContext, what: str, folder: Path, size: int, **environment: str) -> list[int | None]:
    """Starts so many processes, each told its number as torchrun tells it; how each of them ended."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), **environment}
    told = [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(size)]
    started = [processes.Process(target=work, args=(what, folder, one)) for one in told]
    for process in started:
        process.start()
    for process in started:
        process.join(timeout=240)
        process.kill()
    return [process.exitcode for process in started]


def results(processes: ForkServerContext, what: str, folder: Path, size: int) -> list[dict[str, Tensor]]:
    """What each of so many processes ended with."""
    assert run(processes, what, folder, size) == [0] * size
    return [torch.load(folder / f"{what}-{size}-{rank}.pt", weights_only=True) for rank in range(size)]


@pytest.mark.parametrize("size", [2, 4])
def test_passes_find_the_same_in_any_number_of_processes(
    processes: ForkServerContext, tmp_path: Path, size: int
) -> None:
    """Every bit of it, an idle process included: else weights and held-out scores depend on the cluster."""
    alone = passes(tmp_path)
    for found in results(processes, "passes", tmp_path, size):
        assert found.keys() == alone.keys()
        for name, tensor in alone.items():
            assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("size", [2, 4])
def test_training_gives_the_weights_of_one_process(processes: ForkServerContext, tmp_path: Path, size: int) -> None:
    """Equal in all processes to the bit, and but for rounding those of one: batches, moves and weights are the same."""
    (tmp_path / "alone").mkdir()
    alone = training(tmp_path / "alone")
    first, *others = results(processes, "training", tmp_path, size)
    for name, tensor in alone.items():
        assert torch.allclose(first[name], tensor, rtol=1e-3, atol=1e-4), name
        assert all(torch.equal(first[name], other[name]) for other in others), name


def test_batch_norm_ends_alike_in_all_processes(processes: ForkServerContext, tmp_path: Path) -> None:
    """Its running statistics too: each process sees its own part of a batch, and all evaluate and keep one network."""
    first, second = results(processes, "batch norm", tmp_path, 2)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_process_that_dies_ends_the_others_and_any_number_goes_on(
    processes: ForkServerContext, tmp_path: Path
) -> None:
    """The first of two is killed after an epoch; the other says so and ends; four finish what one would have done."""
    assert run(processes, "training", tmp_path, 2, **{DIE_AFTER: "1"}) == [-signal.SIGKILL, 1]
    said = (tmp_path / "error-1").read_text()
    assert said.startswith("process 1 of 2 lost another one")
    assert "Start again, with any number of processes" in said
    (tmp_path / "alone").mkdir()
    shutil.copy(tmp_path / "run.checkpoint", tmp_path / "alone" / "run.checkpoint")
    alone = training(tmp_path / "alone")
    found = results(processes, "training", tmp_path, 4)[0]
    assert found["history, epoch"].tolist() == [1, 2, 3]
    for name, tensor in alone.items():
        assert torch.allclose(found[name], tensor, rtol=1e-3, atol=1e-4), name


def test_torchrun_starts_them(tmp_path: Path) -> None:
    """The command of the page on scaling."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    worker = Path(__file__).parent / "distributed_worker.py"
    subprocess.run([*torchrun, str(worker), "passes", str(tmp_path)], check=True, timeout=240)
    found = torch.load(tmp_path / "passes-2-1.pt", weights_only=True)
    assert torch.equal(found["E by 3"], passes(tmp_path)["E by 3"])


def test_what_processes_cannot_share_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neuron_consistency.training.loop.this_process", lambda: Part(0, 3))
    with pytest.raises(ParameterError, match="3 processes cannot train batches of 16: let their number divide"):
        train(toy_model(), toy_images(16), Objective(), Schedule(epochs=1, batch_size=16), device=CPU)
    with pytest.raises(ParameterError, match="with filter groups: use one"):
        train(
            toy_model(),
            toy_images(18),
            Objective(),
            Schedule(epochs=1, batch_size=18),
            device=CPU,
            filter_groups=FilterGroups(groups=2),
        )


def test_without_torchrun_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert launched() == (0, 1)
    for rank, size in (("2", "2"), ("one", "2"), ("-1", "2"), ("0", "")):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("WORLD_SIZE", size)
        with pytest.raises(ParameterError, match="torchrun"):
            launched()
