"""Draws of which it is decided only afterwards whether they are used."""

from __future__ import annotations

from typing import Any

import torch
from pyro.distributions import MaskedDistribution, TorchDistribution
from torch import Tensor


class Decision:
    """Whether provisional draws are used.

    Args:
        name: of the statement that decides, which comes after those of the draws.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._used: Tensor | None = None

    def settle(self, used: Tensor) -> None:
        """Say where the draws are used, `(...)`, bool."""
        self._used = used

    @property
    def used(self) -> Tensor:
        """Where the draws are used, `(...)`, bool.

        Raises:
            RuntimeError: before it is decided.
        """
        if self._used is None:
            raise RuntimeError(
                f"the log-probability of a draw that `{self.name}` decides on was asked for before it did; "
                "score the trace after the program has run"
            )
        return self._used


class Provisional(MaskedDistribution):
    """A distribution whose log-probability counts only where a later decision says that its draw is used.

    SQAIR's guide draws place and appearance of an object, looks at them, and only then decides on its
    presence. Where that is denied, the draws are auxiliary variables: nothing but the decision depends on
    them, and their target is the guide itself, so that their terms cancel in every objective. They are left
    out by a mask, which a sample statement needs before the decision and its log-probability, as all of Pyro
    computes it, after. So model and guide have the same statements, and the guide can be replayed,
    conditioned and enumerated.

    Args:
        base_dist: what is drawn from.
        decision: settled by the program later on.
    """

    def __init__(self, base_dist: TorchDistribution, decision: Decision) -> None:
        self.decision = decision
        self.base_dist = base_dist
        TorchDistribution.__init__(self, base_dist.batch_shape, base_dist.event_shape, validate_args=False)

    @property
    def _mask(self) -> Tensor:
        return self.decision.used

    def expand(self, batch_shape: Any, _instance: Provisional | None = None) -> Provisional:
        """The same distribution with a larger batch shape, under the same decision."""
        new: Provisional = self._get_checked_instance(Provisional, _instance)
        Provisional.__init__(new, self.base_dist.expand(torch.Size(batch_shape)), self.decision)
        return new
