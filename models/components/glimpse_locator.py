"""Where the next glimpse of a frame is: found by a recurrent network, or told by joints that are known."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ... import checks


class Place(NamedTuple):
    """Where a glimpse is."""

    raw: Tensor
    """Unbounded, `(B, 4)`: x, y, width, height."""
    coords: Tensor
    """The window, `(B, 4)`, see `attention`."""


class Clue(NamedTuple):
    """What is known when a glimpse is chosen."""

    context: Tensor
    """Of the frame, `(B, c)`."""
    glimpse: Tensor
    """The glimpse before, `(B, D)`; zeros before the first one of a clip."""
    workers: Tensor
    """Sum of the states of the workers, `(B, H)`."""
    joints: Tensor | None = None
    """Of the frame, `(B, P, J, 2)`, x and y in [-1, 1], where they are known."""


class RecurrentLocator(nn.Module):
    r"""Finds the places of glimpses one after the other, without knowing where joints are.

    $$ h_g = \mathrm{GRU}([v_{g-1}, \sum_c r_c], h_{g-1}), \quad l_g = W [c_t, h_g] + b $$

    A window's middle is the hyperbolic tangent of the first two numbers, its size the sigmoid of the other
    two plus `size_bias`. The state goes on from frame to frame. At first all places are about the middle:
    where the tangent is flat, nothing would bring them back.

    Args:
        glimpse_size: D.
        context_size: c.
        worker_size: H.
        hidden_size: of the GRU.
        size_bias: 3 is published: first windows are nearly as large as the map.
    """

    needs_joints = False

    def __init__(
        self,
        glimpse_size: int,
        context_size: int,
        worker_size: int,
        hidden_size: int = 512,
        size_bias: float = 3.0,
    ) -> None:
        super().__init__()
        sizes = {"glimpse_size": glimpse_size, "context_size": context_size, "worker_size": worker_size}
        checks.at_least(1, hidden_size=hidden_size, **sizes)
        checks.finite(size_bias=size_bias)
        self.size_bias = size_bias
        self.cell = nn.GRUCell(glimpse_size + worker_size, hidden_size)
        self.place = nn.Linear(context_size + hidden_size, 4)
        nn.init.normal_(self.place.weight, std=0.01)
        nn.init.zeros_(self.place.bias)

    def initial_state(self, like: Tensor) -> Tensor:
        """`(B, hidden_size)`, zeros, for B rows of `like`."""
        return like.new_zeros(len(like), self.cell.hidden_size)

    def forward(self, clue: Clue, number: int, state: Tensor) -> tuple[Place, Tensor]:
        """The next place.

        Args:
            clue: what is known.
            number: of the glimpse in the frame.
            state: `(B, hidden_size)`.

        Returns:
            the place, and the next state.
        """
        state = self.cell(torch.cat([clue.glimpse, clue.workers], dim=-1), state)
        raw = self.place(torch.cat([clue.context, state], dim=-1))
        middle, size = raw.split(2, dim=-1)
        return Place(raw, torch.cat([(size + self.size_bias).sigmoid(), middle.tanh()], dim=-1)), state


class JointLocator(nn.Module):
    """Glimpses at joints that are known, as the hands in *pose-conditioned attention*.

    Baradel, Wolf & Mille, *Human Action Recognition: Pose-based Attention draws focus to Hands*, 2017: the
    crops there are around the hands of both people, and only what they weigh is learned. Here workers follow
    them.

    Args:
        joints: person and joint of each glimpse; NTU's hands are 7 and 11, counted from 0.
        side: of the windows, in units of the frame's sides.
    """

    needs_joints = True

    def __init__(self, joints: Sequence[tuple[int, int]], side: float = 0.25) -> None:
        super().__init__()
        checks.not_empty(joints=joints)
        checks.whole(joints=list(itertools.chain(*joints)))
        checks.not_negative(joints=list(itertools.chain(*joints)))
        checks.within("(0, 1]", side=side)
        self.joints, self.side = tuple(joints), side

    def initial_state(self, like: Tensor) -> Tensor:
        """Nothing is remembered: `(B, 0)`."""
        return like.new_zeros(len(like), 0)

    def forward(self, clue: Clue, number: int, state: Tensor) -> tuple[Place, Tensor]:
        """The next place, see `RecurrentLocator.forward`.

        Raises:
            ValueError: if joints are not given, or there is no such joint.
        """
        if clue.joints is None:
            raise ValueError("`joints` of shape (B, T, P, J, 2) are needed by `JointLocator`, but got None.")
        person, joint = self.joints[number]
        people, joints = clue.joints.shape[1:3]
        if person >= people or joint >= joints:
            raise ValueError(
                f"`joints` must have joint {joint} of person {person}, counted from 0, but are "
                f"{joints} joints of {people} people."
            )
        middle = clue.joints[:, person, joint].to(clue.context)
        size = torch.full_like(middle, self.side)
        return Place(torch.cat([middle, size], dim=-1), torch.cat([size, middle], dim=-1)), state
