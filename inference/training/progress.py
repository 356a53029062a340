"""The trainer's own state in a checkpoint: running averages, counters, elapsed time."""

from __future__ import annotations

import math
from typing import TypedDict, cast

import torch
from torch import Tensor

from .checkpoint import Checkpoint, CheckpointError
from .structure import mismatch

__all__ = ["Progress", "progress_of"]


class Means(TypedDict, total=False):
    names: list[str]
    sums: Tensor


class FirstProgress(TypedDict):
    means: Means
    skipped: Tensor
    seconds: float


class Progress(FirstProgress, total=False):
    """The trainer's own state in a checkpoint; the first ones lack what is here."""

    cpu_seconds: float
    best: float
    clip: Tensor


def progress_of(checkpoint: Checkpoint) -> Progress:
    """The trainer's own state in a checkpoint.

    Raises:
        CheckpointError: it is not there, or damaged.
    """
    progress = checkpoint.progress
    where = "the checkpoint" if checkpoint.path is None else f"checkpoint `{checkpoint.path}`"
    if problem := mismatch(progress, Progress, "progress"):
        raise CheckpointError(f"{where} holds no state of a trainer: {problem}")
    means = progress["means"]
    sound = (
        progress["skipped"].shape == (3,)
        and progress["skipped"].dtype == torch.int64
        and means.keys() in (set(), {"names", "sums"})
        and (not means or means["sums"].shape == (len(means["names"]) + 1,))
        and all(0 <= progress.get(name, 0.0) < math.inf for name in ("seconds", "cpu_seconds"))
        and not math.isnan(progress.get("best", 0.0))
    )
    if not sound:
        raise CheckpointError(f"{where} holds a damaged state of a trainer")
    return cast(Progress, progress)
