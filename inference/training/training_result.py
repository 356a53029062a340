"""How a run of training ended."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Literal, NamedTuple

__all__ = ["TrainingResult"]


class TrainingResult(NamedTuple):
    """How a run ended, other than by an error."""

    step: int
    """Steps taken, those before a resumption included."""
    reason: Literal["completed", "interrupted", "out of time"]
    """Why it ended."""
    signal: int | None
    """The signal that interrupted it, in the process that received it."""
    checkpoint: Path | None
    """Its last checkpoint; None where the trainer has no folder."""
    metrics: dict[str, float]
    """The latest evaluation."""

    @property
    def exit_code(self) -> int:
        """What a shell expects from a program that ends so: 0, 130 after SIGINT, 143 after SIGTERM."""
        return 0 if self.signal is None else 128 + self.signal

    @property
    def message(self) -> str:
        """One line for the user, with the place of the checkpoint."""
        why = f" by {signal.Signals(self.signal).name}" if self.signal is not None else ""
        where = f"; checkpoint: {self.checkpoint}" if self.checkpoint else ""
        return f"{self.reason}{why} after step {self.step}{where}"
