"""Messages between objects: what each is told of its own motion, and of the others that are there."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ... import checks
from .networks import initialise, mlp
from .slots import TrackedSlots

PAST = 5
"""Numbers by which a velocity is remembered: the last place, and whether there was one."""


class Messages(nn.Module):
    r"""A message to each object, the sum of what it is told of itself and of each of the others.

    $$ m_i = self(e_i) + \sum_{j \ne i} b_{ij} rel(e_i, e_j, d_{ij}, |d_{ij}|^2), \quad
       b_{ij} = sigmoid(att(e_i, e_j, d_{ij}, |d_{ij}|^2)), $$

    where `e_i` encodes appearance, place and velocity of an object, and $d_{ij}$ is what there is from its
    place to the other's. An object that is absent sends nothing and is sent nothing. Messages follow a
    permutation of the objects, and depend on all that are there, however many. They start as zeros: first an
    object is told nothing. It is the interaction of STOVE (Kossen et al., *Structured Object-Aware Physics
    Prediction for Video Modeling and Planning*, 2020), without its residual connections, and with a sigmoid
    in place of an exponential, which has no bound.

    Args:
        what_size: W.
        size: M, numbers of a message.
        hidden: width of the encodings and of the hidden layers.
    """

    def __init__(self, what_size: int, size: int = 32, hidden: int = 64) -> None:
        super().__init__()
        checks.at_least(1, what_size=what_size, size=size, hidden=hidden)
        self.size = size
        self.encoder = nn.Linear(what_size + 4 + 4, hidden)
        self.own = mlp([hidden, hidden, size], nn.ELU)
        self.relation = mlp([2 * hidden + 3, hidden, hidden, size + 1], nn.ELU)
        initialise(self)
        for network in (self.own, self.relation):
            *_, weight, bias = network.parameters()
            nn.init.zeros_(weight)
            nn.init.zeros_(bias)

    def forward(self, slots: TrackedSlots, past: Tensor) -> Tensor:
        """Messages `(..., N, M)` to the objects in slots, zero where there is none.

        Args:
            slots: all slots of a frame, `(..., N, .)`.
            past: of each, see `next_past`, `(..., N, PAST)`.
        """
        where, here = slots.z_where, slots.z_pres.unsqueeze(-1)
        encoded = self.encoder(torch.cat([slots.z_what, where, velocity(where, past)], dim=-1))
        count, place = where.shape[-2], where[..., 2:]
        pairs = (*encoded.shape[:-2], count, count, encoded.shape[-1])
        distance = place.unsqueeze(-3) - place.unsqueeze(-2)  # from i, the axis before, to j
        told = torch.cat(
            [
                encoded.unsqueeze(-2).expand(pairs),
                encoded.unsqueeze(-3).expand(pairs),
                distance,
                distance.square().sum(-1, keepdim=True),
            ],
            dim=-1,
        )
        relation, logit = self.relation(told).split([self.size, 1], dim=-1)
        others = 1 - torch.eye(count, dtype=where.dtype, device=where.device)
        weight = logit.sigmoid() * (others * slots.z_pres.unsqueeze(-2)).unsqueeze(-1)
        message: Tensor = self.own(encoded) + (weight * relation).sum(-2)
        return message * here


def velocity(where: Tensor, past: Tensor) -> Tensor:
    """How places `(..., 4)` have changed since the last frame, 0 for what is new, `(..., 4)`."""
    last, known = past.split([4, 1], dim=-1)
    return known * (where - last)


def next_past(where: Tensor) -> Tensor:
    """What is remembered of places `(..., 4)` for the next frame, `(..., PAST)`; of what is new, zeros."""
    return torch.cat([where, torch.ones_like(where[..., :1])], dim=-1)
