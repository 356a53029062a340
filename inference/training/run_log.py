"""The log of a run: one JSON object a line, and optionally TensorBoard.

Each line holds `step` (steps taken so far), `event` (`train`: means over the steps since the last such line;
`evaluation`), `seconds` (training time, earlier parts of a resumed run included) and then named numbers. A
number that is not finite is written as null, for which JSON has a word.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from ...checks import MissingPackageError, UserError
from ...files import atomic_write

__all__ = ["EvaluationLines", "JSONLog", "LogError", "LogSink", "TensorBoardLog", "read_log"]


class LogError(UserError, ValueError):
    """A log is damaged; the message names the file and the line."""


class LogSink(Protocol):
    """Where the trainer writes what it logs."""

    def write(self, step: int, event: str, seconds: float, values: Mapping[str, float]) -> None:
        """Write one record."""

    def sync(self) -> None:
        """Force what was written to the disk."""

    def close(self) -> None:
        """Write what is pending and free the file."""


class JSONLog:
    """A file of JSON lines, appended to.

    Args:
        path: the file; it and its folder are created where missing.
        step: the step the run continues from. Lines of later steps, which the run will write again, are
            dropped, and so is a last line that a killed process left unfinished.

    Raises:
        LogError: a line of the existing file is not of this form.
    """

    def __init__(self, path: str | Path, step: int = 0) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            _keep_until(self.path, step)
        self._file = open(self.path, "ab+")  # noqa: SIM115 - closed by `close`

    def write(self, step: int, event: str, seconds: float, values: Mapping[str, float]) -> None:
        """Append one line.

        Args:
            step: steps taken so far.
            event: what the numbers are, `train` or `evaluation`.
            seconds: training time so far.
            values: named numbers.
        """
        self._stay_in_place()
        record = {"step": step, "event": event, "seconds": round(seconds, 3)}
        numbers = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._file.write((json.dumps({**record, **numbers}, allow_nan=False) + "\n").encode())
        self._file.flush()

    def sync(self) -> None:
        """Force the lines to the disk."""
        self._stay_in_place()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _stay_in_place(self) -> None:
        """Write all lines anew, if the file or its folder was removed, renamed or replaced."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            if os.path.samestat(os.stat(self.path), os.fstat(self._file.fileno())):
                return
        warnings.warn(
            f"`{self.path}` was removed, renamed or replaced while it is written; it is written anew, with "
            "all lines",
            RuntimeWarning,
            stacklevel=3,
        )
        with self._file as old, atomic_write(self.path) as new:
            old.seek(0)
            shutil.copyfileobj(old, new)
        self._file = open(self.path, "ab+")  # noqa: SIM115 - closed by `close`


class EvaluationLines:
    """Prints a line for each evaluation, for those who see no progress bar."""

    def write(self, step: int, event: str, seconds: float, values: Mapping[str, float]) -> None:
        """Print the numbers of an evaluation.

        Args:
            step: steps taken so far.
            event: what the numbers are.
            seconds: training time so far.
            values: named numbers.
        """
        if event == "evaluation":
            numbers = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
            print(f"step {step}, {seconds:.0f} s: {numbers}", flush=True)

    def sync(self) -> None:
        """Nothing is pending."""

    def close(self) -> None:
        """Nothing is open."""


def _keep_until(path: Path, step: int) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    kept = [
        line for line, record in zip(lines, _records(path, lines), strict=False) if record["step"] <= step
    ]
    if kept != lines:
        with atomic_write(path) as file:
            file.writelines(kept)


def _records(path: Path, lines: list[bytes]) -> list[dict[str, Any]]:
    """Parse lines, without a last one that is unfinished."""
    complete = lines[:-1] if lines and not lines[-1].endswith(b"\n") else lines
    records = []
    for number, line in enumerate(complete, start=1):
        try:
            record = json.loads(line)
            valid = isinstance(record, dict) and isinstance(record.get("step"), int)
        except (ValueError, RecursionError):
            valid = False
        if not valid:
            raise LogError(f"line {number} of `{path}` is not a JSON object with a `step`")
        records.append(record)
    return records


def read_log(path: str | Path, event: str | None = None) -> list[dict[str, Any]]:
    """Read a log, also while it is being written.

    Args:
        path: the file.
        event: only lines of this kind, `train` or `evaluation`.

    Returns:
        one dictionary a line.

    Raises:
        FileNotFoundError: there is no such file.
        LogError: a line is not of the expected form.
    """
    records = _records(Path(path), Path(path).read_bytes().splitlines(keepends=True))
    return [record for record in records if event is None or record.get("event") == event]


class TensorBoardLog:
    """The same numbers as curves of TensorBoard, named `event/name`.

    Args:
        folder: where the event files are written.
        step: the step the run continues from; TensorBoard hides what an earlier part wrote after it.

    Raises:
        MissingPackageError: tensorboard is not installed.
    """

    def __init__(self, folder: str | Path, step: int = 0) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingPackageError(
                "`tensorboard` is asked for, but it is not installed: pip install 'whatwhere[logging]'"
            ) from error
        self._writer = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def write(self, step: int, event: str, seconds: float, values: Mapping[str, float]) -> None:
        """Add a point to each curve.

        Args:
            step: steps taken so far.
            event: what the numbers are.
            seconds: training time so far, not shown.
            values: named numbers.
        """
        for name, value in values.items():
            self._writer.add_scalar(f"{event}/{name}", value, step)

    def sync(self) -> None:
        """Force the curves to the disk."""
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()
