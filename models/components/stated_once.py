"""Pyro modules of sequences that state their parameters once a run."""

from __future__ import annotations

from typing import Any

from .programs import Program


class StatedOnce(Program):
    """A program whose parts' parameters are statements once, and not at every use of a part.

    Within a called `PyroModule`, every access to a plain module is a statement for each of its parameters. A
    model of T frames uses its parts in every frame, so that these statements took a tenth of SQAIR's training
    step. A subclass calls `state_parameters` where a run begins; then its parts are as silent as in any other
    module.
    """

    def state_parameters(self) -> None:
        """Make the statements of all parameters."""
        for name in self._modules:
            super().__getattr__(name)

    def __getattr__(self, name: str) -> Any:
        part = self.__dict__.get("_modules", {}).get(name)
        return super().__getattr__(name) if part is None else part
