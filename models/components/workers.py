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
        keep: first bias of the gates by which states stay as they are. The published 0 lets half of them go
            in each frame; greater, what was seen long ago is still known.
    """

    def __init__(
        self, count: int, input_size: int, hidden_size: int, classes: int, keep: float = 0.0
    ) -> None:
        super().__init__()
        checks.finite(keep=keep)
        checks.at_least(1, count=count, input_size=input_size, hidden_size=hidden_size, classes=classes)
        self.count, self.input_size = count, input_size
        self.hidden_size, self.classes = hidden_size, classes
        self.cells = nn.ModuleList(nn.GRUCell(input_size, hidden_size) for _ in range(count))
        for cell in self.cells:
            cell.bias_ih.detach()[hidden_size : 2 * hidden_size] += keep  # type: ignore[operator]
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
