"""A training that is killed is resumed to the bit; a checkpoint that does not fit is refused."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from neuron_consistency.errors import TrainingError
from neuron_consistency.explanation.filter_groups import FilterGroups
from neuron_consistency.explanation.weighting import Weighting
from neuron_consistency.training.objective import Objective
from toys import EQ6, assert_equal_weights, assert_same_state, state_of, toy_model, train_toy


def test_killed_in_the_middle_of_an_epoch_and_resumed_gives_the_same_bits(tmp_path: Path) -> None:
    """SIGKILL at the second step of the third epoch; the next call ends with the weights of an unbroken run.

    The images' weights were taken before the second epoch and the groups formed before the first: neither is due again.
    """
    checkpoint = tmp_path / "run.checkpoint"
    script = textwrap.dedent(f"""
        import os, signal, sys
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parents[1])!r})
        import torch
        torch.set_num_threads(1)
        from neuron_consistency.training import loop as training
        from neuron_consistency.explanation.filter_groups import FilterGroups
        from neuron_consistency.explanation.weighting import Weighting
        from toys import toy_model, train_toy

        steps, step = [], training.training_step

        def killed(*arguments, **options):
            steps.append(1)
            if len(steps) == 2 * 3 + 2:
                os.kill(os.getpid(), signal.SIGKILL)
            return step(*arguments, **options)

        training.training_step = killed
        train_toy(
            toy_model(dropout=0.2),
            checkpoint=Path({str(checkpoint)!r}),
            checkpoint_key="k",
            weighting=Weighting(warm_up=1, period=5),
            filter_groups=FilterGroups(groups=3, period=5),
        )
        """)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ended = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert list(tmp_path.iterdir()) == [checkpoint]  # nothing half-written beside it
    resumed, unbroken = toy_model(dropout=0.2), toy_model(dropout=0.2)
    seen: list[int] = []
    options: dict[str, Any] = {
        "weighting": Weighting(warm_up=1, period=5),
        "filter_groups": FilterGroups(groups=3, period=5),
    }
    train_toy(
        resumed,
        checkpoint=checkpoint,
        checkpoint_key="k",
        report=lambda row, _epochs: seen.append(row["epoch"]),
        **options,
    )
    assert seen == [3]
    train_toy(unbroken, **options)
    assert_equal_weights(resumed, unbroken)


@pytest.mark.parametrize("objective", [Objective(), EQ6], ids=["standard", "eq6"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weighting": Weighting(warm_up=1, period=2)},
        {"weighting": Weighting(warm_up=1, period=1, normalise=True), "filter_groups": FilterGroups(groups=3)},
    ],
    ids=["plain", "weighted", "weighted and grouped"],
)
def test_resumed_after_every_epoch_gives_the_same_bits_and_history(
    tmp_path: Path, objective: Objective, options: dict[str, Any]
) -> None:
    """An exception after each epoch in turn; moments of the optimiser, batch norm and dropout all go on, and so do the
    images' weights and the groups, whether they are due in the epoch after the break or not."""

    class StoppedError(Exception):
        pass

    def stop(row: dict[str, Any], epochs: int) -> None:
        if row["epoch"] < epochs:
            raise StoppedError

    broken, unbroken = toy_model(dropout=0.2), toy_model(dropout=0.2)
    checkpoint = tmp_path / "run.checkpoint"
    for _ in range(2):
        with pytest.raises(StoppedError):
            train_toy(copy.deepcopy(broken), objective, checkpoint=checkpoint, report=stop, **options)
    history = train_toy(broken, objective, checkpoint=checkpoint, report=stop, **options)
    other = train_toy(unbroken, objective, **options)
    assert_equal_weights(broken, unbroken)
    for one, two in zip(history, other, strict=True):
        clocks = {"seconds": 0, "weighing_seconds": 0}
        assert {**one, **clocks} == {**two, **clocks}


def test_a_checkpoint_of_other_parameters_is_refused_and_kept(tmp_path: Path) -> None:
    checkpoint = tmp_path / "run.checkpoint"
    train_toy(toy_model(), epochs=1, checkpoint=checkpoint, checkpoint_key="old")
    content = checkpoint.read_bytes()
    model = toy_model()
    before = state_of(model)
    with pytest.raises(TrainingError, match=r"run\.checkpoint.*key old.*has new.*remove it"):
        train_toy(model, epochs=1, checkpoint=checkpoint, checkpoint_key="new")
    assert checkpoint.read_bytes() == content
    assert_same_state(before, model)


def test_a_damaged_checkpoint_is_named_with_its_cure(tmp_path: Path) -> None:
    checkpoint = tmp_path / "run.checkpoint"
    train_toy(toy_model(), epochs=1, checkpoint=checkpoint)
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(TrainingError, match=r"run\.checkpoint cannot be read.*remove it"):
        train_toy(toy_model(), epochs=1, checkpoint=checkpoint)
