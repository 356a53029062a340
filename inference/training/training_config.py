"""How long a run of training is, and what happens on the way."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from ... import checks
from .config import runtime_field

__all__ = ["TrainingConfig"]


@dataclass(frozen=True)
class TrainingConfig:
    """How long to train, and what to do on the way."""

    steps: int = runtime_field(100_000)
    """Optimiser steps of the whole run. A resumed run may have more; a schedule made from this number then
    changes.
    """
    minutes: float | None = runtime_field(None)
    """Train for so many minutes in all, those before a resumption included, instead of `steps` steps: as many
    steps as there is time for. Schedules go by the time: what they take for the step is the share of it that
    has passed, times `steps`. No two such runs are the same. For one process.
    """
    clock: Literal["wall", "cpu"] = runtime_field("wall")
    """What `minutes` are minutes of. Time of the processor, of all threads, is the same on a busy machine."""
    seed: int = 0
    """Seed of the random numbers of all steps."""
    clip_norm: float | None = None
    """Largest Euclidean norm of all gradients together; larger ones are scaled down to it."""
    clip_factor: float | None = None
    """Largest such norm relative to its running mean over the steps before, greater than 1."""
    max_nonfinite_steps: int = 10
    """Stop with an error when so many steps in a row had a loss or gradient that is not finite; they are
    skipped.
    """
    log_every: int = runtime_field(100)
    """Steps between two lines of the log. On a GPU also the steps between two reads of values back from
    it.
    """
    evaluate_every: int | None = runtime_field(None)
    """Steps between two evaluations; a run that takes fewer is evaluated when it is completed."""
    checkpoint_every: int | None = runtime_field(1000)
    """Steps between two checkpoints; one is written in any case when the run ends."""
    checkpoint_minutes: float | None = runtime_field(None)
    """Minutes between two checkpoints, in addition to those after `checkpoint_every` steps."""
    max_minutes: float | None = runtime_field(None)
    """Stop after so many minutes, with a checkpoint to resume from."""
    progress: bool | None = runtime_field(None)
    """Show a progress bar; where not given, if standard error is a terminal."""
    capture: bool = runtime_field(False)
    """On one GPU: record the kernels of a step once and replay them, which is 8 to 16 times as fast. A step
    that cannot be recorded is refused, see `CapturedStep`.
    """
    tensorboard: bool = runtime_field(False)
    """Write the log for TensorBoard too."""

    def __post_init__(self) -> None:
        checks.literals(self)
        checks.positive(self, "steps", "minutes", "clip_norm", "max_nonfinite_steps", "log_every")
        checks.positive(self, "evaluate_every", "checkpoint_every", "checkpoint_minutes", "max_minutes")
        checks.seed(self, "seed")
        checks.one_of(("wall", "cpu"), self, "clock")
        checks.within("(1, inf)", self, "clip_factor")
        if self.clip_factor is not None and self.clip_norm is not None:
            raise ValueError("`clip_norm` and `clip_factor` are two ways to do the same: give one of them")

    def part(self, share: float) -> TrainingConfig:
        """These settings for a stage that takes a share of the steps and of the time."""
        minutes = None if self.minutes is None else share * self.minutes
        return replace(self, steps=max(1, round(share * self.steps)), minutes=minutes)
