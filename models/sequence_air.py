"""AIR on videos, each frame by itself: the generative half.

Kosiorek et al., *Sequential Attend, Infer, Repeat*, 2018, compare SQAIR with AIR (Eslami et al., *Attend,
Infer, Repeat*, 2016) on videos. It is SQAIR for which every frame is the first one: the same discovery and
the same decoder, but nothing is propagated, so that the frames are independent,

    p(x, z, D) = prod_t p(x_t | z_t) p_disc(z_t, D_t)

`models.AIR` is the original model of single images, with another prior and another likelihood.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pyro
import torch
from torch import Tensor

from .. import checks
from .components.frames import Frames
from .components.likelihood import GaussianImage, pixel_scale
from .components.slots import Slots, TrackedSlots, new_identities, tracked
from .components.stated_once import StatedOnce
from .discovery import DiscoveryPrior, keep_stored_names
from .object_decoder import ObjectDecoder
from .sqair import Frame, sizes_of_videos


class SequenceAIR(StatedOnce):
    """Generative model of videos with up to `max_count` objects in a frame, none of which is the same again.

    Statements of frame `t`: for each object `j` `discovery/z_pres/t/j`, `discovery/z_where/t/j` and
    `discovery/z_what/t/j`, then the image `x/t`: those of SQAIR's first frame.

    Args:
        discovery: says how many objects there are, where they are and what they look like, in every frame as
            in SQAIR's first.
        decoder: draws a frame.
        context_size: features of the summary of propagated objects, which SQAIR's priors of places see.
            There are none, so it is zeros.
        likelihood_scale: standard deviation of the pixels; becomes a buffer, which training may anneal.
    """

    likelihood_scale: Tensor

    def __init__(
        self,
        discovery: DiscoveryPrior,
        decoder: ObjectDecoder,
        context_size: int = 256,
        likelihood_scale: float = 0.3,
    ) -> None:
        super().__init__()
        checks.not_negative(context_size=context_size)
        self.discovery: Any = discovery
        self.decoder: Any = decoder
        self.context_size = context_size
        self.max_count = discovery.max_count
        keep_stored_names(self)
        # It follows from the configuration and the step, so checkpoints do not have it.
        self.register_buffer("likelihood_scale", pixel_scale(likelihood_scale), persistent=False)

    def forward(
        self, video: Tensor | None = None, batch_size: int | None = None, frames: int | None = None
    ) -> list[Frame]:
        """Sample latent variables and, unless they are given, images.

        Args:
            video: `(B, T, C, H, W)` in [0, 1], or nothing to sample from the prior.
            batch_size: B, where there is no video.
            frames: T, where there is no video.

        Returns:
            one `Frame` for each of the T frames, with new identities in each and slots without memory.

        Raises:
            ValueError: if the video has another shape or type, or nothing says how large to sample.
        """
        said: list[Frame] = self.unroll(video, batch_size, frames).run()
        return said

    def unroll(
        self, video: Tensor | None = None, batch_size: int | None = None, frames: int | None = None
    ) -> Frames:
        """The same, frame by frame; the state is the number of objects so far, `(...)`, int64."""
        self.state_parameters()
        mean_image = self.decoder.mean_image
        size, length = sizes_of_videos("SequenceAIR", mean_image, video, batch_size, frames)
        images = [None] * length if video is None else video.unbind(1)
        total = torch.zeros(size, dtype=torch.int64, device=mean_image.device)
        return Frames.of_data(size, total, (partial(self.step, t, image) for t, image in enumerate(images)))

    @torch.no_grad()
    def generate(self, batch_size: int, frames: int) -> list[Frame]:
        """Draw videos from the prior; look at the canvases, as in `SQAIR.generate`.

        Args:
            batch_size: B.
            frames: T.
        """
        drawn: list[Frame] = self(batch_size=batch_size, frames=frames)
        return drawn

    def step(self, t: int, image: Tensor | None, total: Tensor) -> tuple[Frame, Tensor]:
        """One frame: discover, draw."""
        free = self.decoder.mean_image.new_full(total.shape, self.max_count)
        summary = free.new_zeros(*free.shape, self.context_size)
        expectation = free.new_full((*free.shape, 1), -0.5)  # nothing is expected to be propagated
        slots = self.discovery(t, summary, expectation, free, first=True)
        canvas = self.decoder(*slots)
        pyro.sample(f"x/{t}", GaussianImage(canvas, self.likelihood_scale), obs=image)
        new = slots.z_pres.sum(-1)
        return Frame(of_one_frame(slots, total), torch.zeros_like(new), new, canvas), total + new.long()


def of_one_frame(slots: Slots, total: Tensor) -> TrackedSlots:
    """Slots that nothing is remembered of, with identities of their own.

    Args:
        slots: of a frame.
        total: number of objects in the frames before, `(...)`, int64.
    """
    return tracked(slots, slots.z_where[..., :0], new_identities(slots.z_pres, total))
