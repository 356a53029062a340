"""Priors of how an object goes on: whether it stays, how it moves, how it changes.

Each is shared by all slots, and objects are independent given their own histories. Kosiorek et al.,
*Sequential Attend, Infer, Repeat*, 2018, as the released code has them; of its three variants the paper uses
the recurrent one.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ... import checks
from ..components.networks import LocScale, initialise
from ..components.normal_mixture import Mixture
from ..components.recurrent import GRU
from ..components.slots import TrackedSlots
from .discovery import MIN_SCALE


class Propagation(NamedTuple):
    """What the prior says of the next frame, given the objects of this one."""

    logits: Tensor
    """Of staying, if there is an object, `(..., N)`."""
    where: LocScale | Mixture
    """Parameters of `z_where`, `(..., N, 4)`, or of a mixture, `(..., N, K, 4)`."""
    what: LocScale | None
    """Parameters of `z_what`, `(..., N, W)`; None if it stays as it is, see `looks.StaticLooks`."""
    memory: Tensor
    """The next recurrent state, `(..., N, D)`."""
    further: Any = ()
    """Parameters of other latent variables, if there are any: a NamedTuple of `LocScale`s, each under the
    name of its variable, such as `z_depth`.
    """


def further_of(predicted: Propagation) -> dict[str, LocScale]:
    """Parameters of other latent variables than presence, place and appearance, by name."""
    return predicted.further._asdict() if predicted.further else {}


class PropagationPrior(Protocol):
    """Predicts objects from their past."""

    @property
    def per_object(self) -> bool:
        """Whether each is predicted from its own past alone, so that it may be given any rows `(R, .)`.

        Else it relates objects to each other, and always gets all slots, `(..., N, .)`, absent ones too.
        """

    @property
    def initial_memory(self) -> Tensor:
        """State of an object that was just discovered, `(D,)`."""

    def __call__(self, slots: TrackedSlots) -> Propagation:
        """Predict all slots at once."""


class RecurrentPropagationPrior(nn.Module):
    """A GRU that has seen an object's past predicts its next presence, place and appearance.

    The predicted means are absolute, not increments: motion has to be learned.

    Args:
        what_size: W.
        hidden_size: D.
        presence_bias: constant added to the logit of staying; 10 makes objects stay but for one in
            20,000 until training says otherwise.

    Attributes:
        per_object: whether each slot is predicted from that slot alone, see `models.SQAIR`. A subclass that
            relates slots sets it to False.
    """

    per_object = True

    def __init__(self, what_size: int, hidden_size: int = 256, presence_bias: float = 10.0) -> None:
        super().__init__()
        checks.at_least(1, what_size=what_size, hidden_size=hidden_size)
        checks.finite(presence_bias=presence_bias)
        self.what_size = what_size
        self.presence_bias = presence_bias
        self.rnn = GRU(what_size + 4, hidden_size)
        self.readout = nn.Linear(hidden_size, 1 + 2 * (4 + what_size))
        initialise(self.readout)

    @property
    def initial_memory(self) -> Tensor:
        """Recurrent state of an object that was just discovered, `(D,)`."""
        return self.rnn.initial

    def forward(self, slots: TrackedSlots) -> Propagation:
        """Predict all slots at once."""
        memory = self.rnn(torch.cat([slots.z_what, slots.z_where], dim=-1), slots.memory)
        return self.said(memory, memory)

    def said(self, hidden: Tensor, memory: Tensor) -> Propagation:
        """What is read out of the GRU's state, `(..., N, D)`, beside the state that is remembered."""
        sizes = [1, 4, self.what_size, 4, self.what_size]
        logit, where, what, raw_where, raw_what = self.readout(hidden).split(sizes, dim=-1)
        return Propagation(
            logit.squeeze(-1) + self.presence_bias,
            LocScale(where, F.softplus(raw_where) + MIN_SCALE),
            LocScale(what, F.softplus(raw_what) + MIN_SCALE),
            memory,
        )


class GuidedPropagationPrior(RecurrentPropagationPrior):
    """As `RecurrentPropagationPrior`, but means are the previous values plus a tenth of the prediction.

    Args:
        what_size: W.
        hidden_size: D.
        presence_bias: constant added to the logit of staying.
        update_scale: factor of the predicted increments; 0 gives a random walk with learned step sizes.
    """

    def __init__(
        self,
        what_size: int,
        hidden_size: int = 256,
        presence_bias: float = 10.0,
        update_scale: float = 0.1,
    ) -> None:
        super().__init__(what_size, hidden_size, presence_bias)
        checks.finite(update_scale=update_scale)
        self.update_scale = update_scale

    def forward(self, slots: TrackedSlots) -> Propagation:
        """Predict all slots at once."""
        predicted = super().forward(slots)
        where, what = predicted.where, predicted.what
        assert isinstance(where, LocScale)
        assert what is not None
        return predicted._replace(
            where=where._replace(loc=slots.z_where + self.update_scale * where.loc),
            what=what._replace(loc=slots.z_what + self.update_scale * what.loc),
        )
