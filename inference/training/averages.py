"""Running means of diagnostics, kept on the device until they are read."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .distributed import Process

__all__ = ["RunningMeans"]


class RunningMeans:
    """Means of named scalars over steps, read once in a while.

    Args:
        process: where to keep them, and over which processes to average when they are read.
    """

    def __init__(self, process: Process) -> None:
        self._process = process
        self._names: tuple[str, ...] = ()
        self._sums: Tensor | None = None  # the last entry counts steps

    def add(self, values: Mapping[str, Tensor], skipped: Tensor) -> None:
        """Add the values of one step, without reading them.

        Args:
            values: scalar tensors; every step the same names.
            skipped: scalar tensor, not 0 where this step does not count.

        Raises:
            ValueError: the names differ from those of the step before.
        """
        if self._names and tuple(values) != self._names:
            raise ValueError(f"expected the diagnostics {self._names}, got {tuple(values)}")
        device = self._process.device
        with torch.no_grad():
            row = torch.stack([v.detach().to(device, torch.float64).reshape(()) for v in values.values()])
            row = torch.cat([row, torch.ones_like(row[:1])])
            row = torch.where(skipped != 0, torch.zeros_like(row), row)
            self._sums = row if self._sums is None else self._sums + row
        self._names = tuple(values)

    def read(self) -> dict[str, float]:
        """Return the means over steps and processes, NaN where no step counted, and start again.

        All processes must call it.
        """
        if self._sums is None:
            return {}
        *sums, count = self._process.sum_(self._sums.clone()).tolist()
        self._sums = None
        return {
            name: total / count if count else float("nan")
            for name, total in zip(self._names, sums, strict=True)
        }

    def state(self) -> dict[str, object]:
        """Return names and sums, means over processes, for a checkpoint. All processes must call it."""
        if self._sums is None:
            return {}
        sums = self._process.sum_(self._sums.clone()) / self._process.world_size
        return {"names": list(self._names), "sums": sums}

    def load(self, state: Mapping[str, object]) -> None:
        """Continue from a checkpoint, in any number of processes."""
        self._names, self._sums = (), None
        sums = state.get("sums")
        if isinstance(sums, Tensor):
            self._names = tuple(state["names"])  # type: ignore[arg-type]
            self._sums = sums.to(self._process.device)
