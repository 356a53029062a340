"""A prior of how objects go on that know of each other: they collide, follow, avoid."""

from __future__ import annotations

import torch
from torch import Tensor

from ..components.messages import PAST, Messages, next_past
from ..components.recurrent import GRU
from ..components.slots import TrackedSlots
from .propagation import Propagation, RecurrentPropagationPrior


class RelationalPropagationPrior(RecurrentPropagationPrior):
    """As `RecurrentPropagationPrior`, but each object is sent messages, see `Messages`.

    The state of an object holds its last place too, so that messages are of velocities. What relates objects
    is one frame old: all are predicted at once, whatever the others will do. The guide's propagation may have
    `relations` too.

    Args:
        what_size: W.
        hidden_size: D of the GRU.
        presence_bias: constant added to the logit of staying.
        messages: of objects whose appearance has W components; by default `Messages` as it is.
    """

    per_object = False

    def __init__(
        self,
        what_size: int,
        hidden_size: int = 256,
        presence_bias: float = 10.0,
        messages: Messages | None = None,
    ) -> None:
        super().__init__(what_size, hidden_size, presence_bias)
        self.messages = Messages(what_size) if messages is None else messages
        self.rnn = GRU(what_size + 4 + self.messages.size, hidden_size)

    @property
    def initial_memory(self) -> Tensor:
        """State of an object that was just discovered: the GRU's, and nothing known of its past."""
        return torch.cat([self.rnn.initial, self.rnn.initial.new_zeros(PAST)])

    def forward(self, slots: TrackedSlots) -> Propagation:
        """Predict all slots at once, `(..., N, .)`, absent ones too."""
        hidden, past = slots.memory.split([self.rnn.hidden_size, PAST], dim=-1)
        message = self.messages(slots, past)
        hidden = self.rnn(torch.cat([slots.z_what, slots.z_where, message], dim=-1), hidden)
        return self.said(hidden, torch.cat([hidden, next_past(slots.z_where)], dim=-1))
