"""Finding the objects of videos of any length: part by part, of which one is in memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..local_parameters import local_parameters
from ..objectives.base import Program
from ..objectives.fivo import Stepper
from ..objectives.frame_weights import frame_log_weights
from .labels import settled
from .videos import of_particle

__all__ = ["InferredPart", "infer_parts"]


class InferredPart(NamedTuple):
    """What was found in a part of videos."""

    frames: list[Any]
    """What the model says of each, without an axis of particles."""
    bound: Tensor
    """Importance-weighted bound on log p of the part, given what was found before it, `(B,)`, in nats."""


class _Past(NamedTuple):
    """What a part goes on from."""

    frame: Tensor
    """The last one, `(B, 1, C, H, W)`."""
    of_model: Any
    """The model's state after it, the same for all particles."""
    of_guide: Any
    """The guide's."""


@torch.no_grad()
def infer_parts(
    model: Program, guide: Program, parts: Iterable[Tensor], particles: int = 1
) -> Iterator[InferredPart]:
    """Find the objects of videos that come part by part; they keep their identities from part to part.

    Of each part some posterior samples are drawn, all of which go on from the one of greatest weight of the
    part before. Of one part alone that is what `infer_video` does.

    Args:
        model: as `models.SQAIR`, with a method `unroll`, see `models.components.frames.Frames`.
        guide: as `guides.SQAIRGuide`, likewise.
        parts: of B videos, in order, `(B, n, C, H, W)` in [0, 1]; n may differ.
        particles: number of samples to choose from.

    Raises:
        FrameError: if model or guide cannot be run frame by frame.
    """
    past: _Past | None = None
    for part in parts:
        with local_parameters(model, guide):
            inferred, past = _infer_part(model, guide, part, past, particles)
        yield inferred


def _infer_part(
    model: Program, guide: Program, part: Tensor, past: _Past | None, particles: int
) -> tuple[InferredPart, _Past]:
    # The frame before comes first, since only the first frame of all has no past; its step is not run again.
    video = part if past is None else torch.cat([past.frame, part], dim=1)
    steps = range(video.shape[1] - part.shape[1], video.shape[1])
    of_model, of_guide = Stepper(model, "model", (video,), {}), Stepper(guide, "guide", (video,), {})
    if past is not None:
        of_model.state, of_guide.state = past.of_model, past.of_guide
    frames: list[Any] = []
    weights = frame_log_weights(
        lambda: frames.extend(map(of_model.step, steps)),
        lambda: [of_guide.step(t) for t in steps],
        num_particles=particles,
    )
    log_weight = settled("log_weight", weights.log_weight.sum(0))  # (K, B)
    best = log_weight.argmax(0)
    for stepper in (of_model, of_guide):
        stepper.copy(best.expand(particles, -1))
    chosen = [of_particle(frame, best, particles) for frame in frames]
    bound = log_weight.logsumexp(0) - math.log(particles)
    return InferredPart(chosen, bound), _Past(part[:, -1:], of_model.state, of_guide.state)
