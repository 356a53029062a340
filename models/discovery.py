"""What is new in a frame of a video: the statements, and the chain of decisions that SQAIR makes them by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import pyro
import torch
from pyro import poutine
from torch import Tensor, nn

from .. import checks
from .components.inputs import require_size
from .components.networks import LocScale
from .components.normal_mixture import Mixture
from .components.slots import Slots, concatenate, slots_of, slots_present, stack_slots
from .priors.counts import NormalPrior, present_or_standard, slot_presence
from .priors.discovery import DiscoveryCountPrior, DiscoveryWherePrior, FixedCountPrior, FixedWherePrior
from .priors.flow import FlowPrior

STORED_AS = {
    "discovery.count_prior.": "discovery_count_prior.",
    "discovery.where_prior.": "discovery_where_prior.",
    "discovery.what_prior.": "what_prior.",
}
"""The names that checkpoints have for parts of a model."""


class DiscoveryPrior(Protocol):
    """What a model says of new objects: `ChainDiscovery`, or `GridDiscovery`, which has them all at once."""

    max_count: int
    """N."""

    @property
    def sizes(self) -> Mapping[str, int]:
        """Number of components of each latent variable, by name, `z_where` and `z_what` first."""

    def __call__(self, t: int, summary: Tensor, expectation: Tensor, free: Tensor, first: bool) -> Slots:
        """The statements `discovery/VARIABLE/t/j`, see `ChainDiscovery.forward`; or one for all slots."""

    def nothing(self, t: int, absent: Tensor) -> dict[str, Tensor]:
        """Values of the statements of frame `t` by which nothing is new; `absent` is zeros, `(B,)`."""


class NewObjects(nn.Module):
    """Base of `ChainDiscovery` and `GridDiscovery`: the priors that new objects have.

    Args:
        count_prior: distribution of their number, up to `max_count`.
        where_prior: distribution of their places.
        what_size: W, components of `z_what`, whose prior is a standard normal by default.
        what_prior: of appearances; with it `what_size` is not used.
        further: priors of other latent variables, by name, such as `z_depth`.
    """

    def __init__(
        self,
        count_prior: DiscoveryCountPrior | FixedCountPrior,
        where_prior: DiscoveryWherePrior | FixedWherePrior,
        what_size: int = 50,
        what_prior: NormalPrior | FlowPrior | None = None,
        **further: NormalPrior,
    ) -> None:
        super().__init__()
        checks.at_least(1, what_size=what_size)
        self.count_prior = count_prior
        self.where_prior = where_prior
        self.what_prior = what_prior or NormalPrior.standard(what_size)
        self.further = nn.ModuleDict(further)
        self.max_count = count_prior.max_count

    @property
    def sizes(self) -> Mapping[str, int]:
        """Number of components of each latent variable, by name."""
        return {"z_where": 4, **{name: prior.size for name, prior in self._others().items()}}

    def _others(self) -> dict[str, Any]:
        """Priors of all variables but presence and place."""
        return {"z_what": self.what_prior, **self.further}


class ChainDiscovery(NewObjects):
    """New objects one after the other, each given that there is the one before, as published.

    Args:
        count_prior: distribution of their number, up to `max_count`.
        where_prior: distribution of their places.
        what_size: W, components of `z_what`, whose prior is a standard normal by default.
        what_prior: of appearances; with it `what_size` is not used.
        further: priors of other latent variables, by name, such as `z_depth`.
    """

    def forward(self, t: int, summary: Tensor, expectation: Tensor, free: Tensor, first: bool) -> Slots:
        """The statements of what is new in frame `t`, one slot after the other.

        Args:
            t: number of the frame.
            summary: of the propagated objects, `(..., S)`.
            expectation: how many the prior expected to stay, see `expected_propagation`, `(..., 1)`.
            free: number of free slots, `(...)`; more cannot be discovered.
            first: whether it is the first frame, in which nothing is propagated.
        """
        logits = self.count_prior(expectation, free, first=first)
        started = self.where_prior.start(concatenate(summary, expectation))
        z_where: Tensor = self.where_prior.first_sample
        z_pres, found = torch.ones_like(free), []
        laws = {name: prior.law for name, prior in self._others().items()}
        what = laws.pop("z_what")
        for j in range(self.max_count):
            possible = z_pres * (free > j)
            with poutine.mask(mask=possible > 0):
                z_pres = pyro.sample(f"discovery/z_pres/{t}/{j}", slot_presence(logits[..., j], possible))
            where = self.where_prior(started, z_where)
            found.append(appear(f"discovery/{{}}/{t}/{j}", z_pres, where, what, **laws))
            z_where = found[-1].z_where
        return stack_slots(found)

    def nothing(self, t: int, absent: Tensor) -> dict[str, Tensor]:
        """Values of the statements of frame `t` by which nothing is new, by name.

        Args:
            t: number of the frame.
            absent: zeros, `(B,)`.
        """
        return dict.fromkeys((f"discovery/z_pres/{t}/{j}" for j in range(self.max_count)), absent)


def appear(
    name: str,
    z_pres: Tensor,
    where: LocScale | Mixture,
    what: LocScale | FlowPrior | Tensor,
    **further: LocScale | Tensor,
) -> Slots:
    """The statements of place, appearance and what else a slot has; what is absent comes out as zeros.

    Args:
        name: of the statements, with `{}` for the variable.
        z_pres: presence, `(...)`.
        where: parameters of the place, `(..., 4)`.
        what: parameters of the appearance, `(..., W)`, or its prior; or the appearance itself, where it is
            known: then there is no statement.
        further: the same of other latent variables, by name.
    """
    laws: dict[str, LocScale | Mixture | FlowPrior | Tensor] = {"z_where": where, "z_what": what, **further}
    values = {}
    with poutine.mask(mask=z_pres > 0):
        for variable, law in laws.items():
            if isinstance(law, Tensor):
                values[variable] = law
                continue
            values[variable] = pyro.sample(name.format(variable), present_or_standard(law, z_pres))
            require_size(name.format(variable), values[variable], _components(law))
    return slots_present(slots_of(z_pres, **values))


def _components(law: LocScale | Mixture | FlowPrior) -> int:
    return law.size if isinstance(law, FlowPrior) else law.loc.shape[-1]


def keep_stored_names(model: nn.Module) -> None:
    """Let a model's state dict have the parts of `ChainDiscovery` as the model's own, as checkpoints do."""
    model.register_state_dict_post_hook(_store)
    model.register_load_state_dict_pre_hook(_restore)


def _store(model: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    _rename(state, {prefix + own: prefix + stored for own, stored in STORED_AS.items()})


def _restore(model: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    _rename(state, {prefix + stored: prefix + own for own, stored in STORED_AS.items()})


def _rename(state: dict[str, Any], names: Mapping[str, str]) -> None:
    for key in list(state):
        for before, after in names.items():
            if key.startswith(before):
                state[after + key.removeprefix(before)] = state.pop(key)
