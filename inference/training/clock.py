"""The time of a training run, earlier parts of a resumed one included."""

from __future__ import annotations

import time
from typing import Literal, NamedTuple

__all__ = ["Clock", "Times"]


class Times(NamedTuple):
    """Seconds by two clocks."""

    wall: float = 0.0
    """On the wall."""
    cpu: float = 0.0
    """Of the processor, of all threads."""

    @classmethod
    def now(cls) -> Times:
        """What the clocks show; only differences mean something."""
        return cls(time.monotonic(), time.process_time())


class Clock:
    """Counts the time of training; stands still until it is started."""

    def __init__(self) -> None:
        self._earlier = Times()
        self._started: Times | None = None

    def start(self) -> None:
        """Go on from the time so far."""
        self._earlier, self._started = self.elapsed(), Times.now()

    def stop(self) -> None:
        """Stand still."""
        self._earlier, self._started = self.elapsed(), None

    def set(self, elapsed: Times) -> None:
        """Go on from another time, that of a checkpoint."""
        self._earlier, self._started = elapsed, None

    def elapsed(self) -> Times:
        """Time of training so far."""
        return Times(*(a + b for a, b in zip(self._earlier, self.since_start(), strict=True)))

    def share_of(self, minutes: float, clock: Literal["wall", "cpu"]) -> float:
        """How much of so many minutes by one of the clocks has passed."""
        elapsed = self.elapsed()
        return (elapsed.wall if clock == "wall" else elapsed.cpu) / (60 * minutes)

    def since_start(self) -> Times:
        """Time since the latest start."""
        if self._started is None:
            return Times()
        return Times(*(now - then for now, then in zip(Times.now(), self._started, strict=True)))
