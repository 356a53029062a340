"""A training of several stages, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from .trainer import Trainer
from .training_result import TrainingResult

__all__ = ["Stage", "run_stages"]


class Stage(NamedTuple):
    """One part of a training, with an objective, data and schedules of its own."""

    name: str
    """What the log of the run calls it."""
    make: Callable[[], Trainer]
    """Makes its trainer, when the stages before are done. Each stage has its own folder; all of them hold the
    same modules, so that a stage begins with the parameters that the one before ends with, also where that
    one is not run again because its checkpoint is there.
    """


def run_stages(
    stages: Sequence[Stage], resume: bool = False, announce: Callable[[str], None] = print
) -> TrainingResult:
    """Run stages in order, each to its end.

    A stage that is stopped stops the run; so does an error. Resumed, stages whose checkpoint says that they
    are at their end take no step, the one that was stopped goes on from its checkpoint, and those after it
    begin: bit for bit what a run without interruption does, since all that a stage takes from those before
    it is in its modules.

    Args:
        stages: at least one.
        resume: whether to go on from checkpoints in the folders of the stages; without it they are an error.
        announce: called with one line when a stage has ended.

    Returns:
        how the last stage that was run has ended.

    Raises:
        CheckpointError: see `Trainer.run` and `Trainer.resume`.
        ValueError: if there are no stages.
    """
    if not stages:
        raise ValueError("`stages` must be at least one, got none")
    for name, make in stages:
        trainer = make()
        if resume:
            trainer.resume_existing()
        result = trainer.run()
        announce(f"{name}: {result.message}")
        if result.reason != "completed":
            break
    return result
