"""Recurrent cells."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class LSTMState(NamedTuple):
    """State of an LSTM."""

    hidden: Tensor
    """Output, `(..., D)`."""
    cell: Tensor
    """Memory, `(..., D)`."""


class SplitInputLSTM(nn.Module):
    """An LSTM cell whose input has a part that is the same at every step.

    `LSTM([context, x_i], state)` with the weights of `context` and `x_i` kept apart, so that the
    product with the context, here an image of thousands of pixels, is taken once instead of once
    a step and particle. The mathematics is that of `torch.nn.LSTMCell` on the concatenation.

    Args:
        context_size: features of the constant part.
        input_size: features of the part that changes.
        hidden_size: D.
    """

    def __init__(self, context_size: int, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.from_context = nn.Linear(context_size, 4 * hidden_size)
        self.from_input = nn.Linear(input_size + hidden_size, 4 * hidden_size, bias=False)
        bound = hidden_size**-0.5
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def initial_state(self, like: Tensor) -> LSTMState:
        """A state of zeros with the leading axes of `like` `(..., F)`."""
        zeros = like.new_zeros(*like.shape[:-1], self.hidden_size)
        return LSTMState(zeros, zeros)

    def forward(self, context_gates: Tensor, inputs: Tensor, state: LSTMState) -> LSTMState:
        """One step.

        Args:
            context_gates: `from_context(context)`, `(..., 4 D)`; broadcasts.
            inputs: `(..., F)`.
            state: of the step before; may lack leading axes that the inputs have.
        """
        hidden = state.hidden.expand(*inputs.shape[:-1], self.hidden_size)
        gates = context_gates + self.from_input(torch.cat([inputs, hidden], dim=-1))
        in_gate, forget_gate, candidate, out_gate = gates.chunk(4, dim=-1)
        cell = forget_gate.sigmoid() * state.cell + in_gate.sigmoid() * candidate.tanh()
        return LSTMState(out_gate.sigmoid() * cell.tanh(), cell)
