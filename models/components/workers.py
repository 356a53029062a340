"""Recurrent workers that see glimpses of a video, and vote on what goes on."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ... import checks


class Workers(nn.Module):
    """Recurrent cells side by side, each with a state and a vote of its own.

    Args:
        count: C.
        input_size: D.
        hidden_size: H.
        classes: K.
    """

    def __init__(self, count: int, input_size: int, hidden_size: int, classes: int) -> None:
        super().__init__()
        checks.at_least(1, count=count, input_size=input_size, hidden_size=hidden_size, classes=classes)
        self.count, self.hidden_size, self.classes = count, hidden_size, classes
        self.cells = nn.ModuleList(nn.GRUCell(input_size, hidden_size) for _ in range(count))
        self.readouts = nn.ModuleList(nn.Linear(hidden_size, classes) for _ in range(count))

    def initial_state(self, like: Tensor) -> Tensor:
        """`(B, C, H)`, zeros, for B rows of `like`."""
        return like.new_zeros(len(like), self.count, self.hidden_size)

    def forward(self, inputs: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
        """One frame.

        Args:
            inputs: `(B, C, D)`.
            states: `(B, C, H)`, of which each worker reads its own.

        Returns:
            votes `(B, C, K)`, logits, and the next states.
        """
        pairs = zip(self.cells, inputs.unbind(1), states.unbind(1), strict=True)
        states = torch.stack([cell(given, state) for cell, given, state in pairs], dim=1)
        votes = [readout(state) for readout, state in zip(self.readouts, states.unbind(1), strict=True)]
        return torch.stack(votes, dim=1), states
