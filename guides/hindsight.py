r"""The first frame in hindsight: what touches there comes apart later.

Two thin digits side by side look like one object, and one picture may explain both. Frames after show that it
was two: as one they cannot be followed. In evaluation mode a guide of videos can look ahead before it draws
anything. It follows what it finds in the first frame through the first few, and where these are explained
badly, it begins at each of the later ones instead and follows what it finds there backwards, to the first.
Where that leaves something still, all is tried once more, and half of what is asked of an object in a single
frame is enough: a faint one explains it in every frame. Objects that are found so are another start of the
first frame's sketches, see `ExplainingDiscovery`. The start is kept from which the frames are explained best,
where $o_t$ are the pictures of all objects, and $n_t$ is their number:

$$ \sum_t |x_t - \min(1, \sum o_t)|^2 / 2 \sigma^2 + 2 \, least \cdot \max_t n_t. $$

All this is a function of the video, and of random numbers that are drawn whatever is sampled afterwards: it
makes parameters of q, so weights given them are exact, and bounds are bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import NamedTuple

import torch
from pyro import poutine
from torch import Tensor

from ..models.components.frames import Frames
from ..models.components.slots import TrackedSlots
from .explaining_away import ExplainingDiscovery

Unroll = Callable[[Tensor, TrackedSlots | None], Frames]
"""A guide's frames of videos `(B, T, C, H, W)`, given objects of the first, or without them."""


FAINT = 0.5
"""Which part of what a sketch must explain one must that is followed through several frames."""

WELL = 2.0
"""What may be left of a first frame that seems to be explained, over what a sketch must explain: where more
is, the model knows too little, and looking ahead would be for nothing.
"""

PRICE = 2.0
"""What an object costs in all frames, over what a sketch must explain. With 1 digits fall to pieces, each of
which explains what one picture of all frames cannot.
"""


class _Followed(NamedTuple):
    """What a run over the first frames has found."""

    frames: Sequence[TrackedSlots]
    cost: Tensor
    """Of all frames, see the module, `(B,)`."""
    badly: Tensor
    """Whether of any frame as much is left as an object would have to explain, though the first seems to be
    explained, `(B,)`.
    """


@torch.no_grad()
def first_objects(
    unroll: Unroll, discovery: ExplainingDiscovery, video: Tensor, ahead: int
) -> TrackedSlots | None:
    """Objects of the first frame that explain the next ones better than what is found in it by itself.

    Args:
        unroll: the guide's.
        discovery: the guide's.
        video: `(B, T, C, H, W)`.
        ahead: how many frames are looked at after the first.

    Returns:
        Slots `(B, N, .)`, all absent in videos in which nothing better is found; None if these are all.
    """
    video = video[:, : ahead + 1]
    with poutine.block():
        found = _follow(unroll, discovery, video)
        first, cost = found.frames[0], found.cost
        best = first._replace(**{name: torch.zeros_like(getattr(first, name)) for name in first._fields})
        badly = found.badly
        for asked in (discovery.least, FAINT * discovery.least):
            rows = badly.nonzero().squeeze(-1)
            for last in range(1, video.shape[1]) if len(rows) else ():
                with discovery.asking(asked) if asked < discovery.least else nullcontext():
                    known = unroll(video[rows, : last + 1].flip(1), None).run()[-1]
                found = _follow(unroll, discovery, video[rows], known)
                better = found.cost < cost[rows]
                for whole, part in zip((*best, cost, badly), (*known, found.cost, found.badly), strict=True):
                    whole[rows[better]] = part[better]
    return best if bool(best.z_pres.any()) else None


def _follow(
    unroll: Unroll, discovery: ExplainingDiscovery, video: Tensor, known: TrackedSlots | None = None
) -> _Followed:
    frames = unroll(video, known).run()
    nats = torch.stack([_left(discovery, *each) for each in zip(video.unbind(1), frames, strict=True)])
    most = torch.stack([frame.z_pres.sum(-1) for frame in frames]).amax(0)
    badly = (nats > discovery.least).any(0) & (nats[0] <= WELL * discovery.least)
    return _Followed(frames, nats.sum(0) + PRICE * discovery.least * most, badly)


def _left(discovery: ExplainingDiscovery, image: Tensor, slots: TrackedSlots) -> Tensor:
    """What objects leave of a frame `(B, C, H, W)`, in nats, `(B,)`."""
    drawn = discovery.explained(image, slots.z_pres[..., 0], slots).clamp(max=1)
    return (image.flatten(1) - drawn).square().sum(-1) / (2 * discovery.scale**2)
