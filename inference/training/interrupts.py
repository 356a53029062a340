"""Stopping between two steps when the process is asked to end."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

__all__ = ["SignalWatch"]


class SignalWatch:
    """Note SIGINT and SIGTERM in place of dying from them, within a `with` block.

    A second SIGINT raises `KeyboardInterrupt` at once where `impatient`; programs under `torchrun` are sent
    the signal more than once and should not be. Outside the main thread, where Python allows no handlers, it
    does nothing.

    Attributes:
        received: the number of the first signal, None before one came.

    Args:
        impatient: whether a second SIGINT raises `KeyboardInterrupt`.
    """

    def __init__(self, impatient: bool = True) -> None:
        self.received: int | None = None
        self._impatient = impatient
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> SignalWatch:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            # None stands for a handler that was not installed from Python; it cannot be put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._impatient and self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = self.received or number
