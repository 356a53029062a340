"""AIR on videos, each frame by itself: the inference half."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from ..models.components.frames import Frames
from ..models.components.inputs import require_pixels
from ..models.components.slots import TrackedSlots
from ..models.components.stated_once import StatedOnce
from ..models.sequence_air import of_one_frame
from .slot_discovery import SlotDiscovery


class SequenceAIRGuide(StatedOnce):
    """Approximate posterior of `models.SequenceAIR`: what SQAIR's does in the first frame, in every frame.

    Args:
        discovery: finds the objects of a frame.
        image_shape: channels, height and width of a frame.
    """

    def __init__(self, discovery: SlotDiscovery, image_shape: tuple[int, int, int] = (1, 50, 50)) -> None:
        super().__init__()
        self.discovery = discovery
        self.image_shape = image_shape

    def forward(self, video: Tensor) -> list[TrackedSlots]:
        """Sample the latent variables of videos `(B, T, C, H, W)` in [0, 1]: the slots of each frame.

        Raises:
            ValueError: if the video has another shape, or is not floating point.
        """
        slots: list[TrackedSlots] = self.unroll(video).run()
        return slots

    def unroll(self, video: Tensor) -> Frames:
        """The same, frame by frame; the state is the number of objects so far, `(...)`, int64."""
        self.state_parameters()
        require_pixels("video", video, "BT", self.image_shape, dtype=self.discovery.scale_bias.dtype)
        features = self.discovery.features(video)  # each frame once, whatever the number of particles
        steps = (partial(self.step, t, video[:, t], features[:, t]) for t in range(video.shape[1]))
        total = torch.zeros(len(video), dtype=torch.int64, device=video.device)
        return Frames.of_data(len(video), total, steps)

    def step(self, t: int, image: Tensor, features: Tensor, total: Tensor) -> tuple[TrackedSlots, Tensor]:
        """One frame."""
        summary = features.new_zeros(self.discovery.context_size)
        free = features.new_full(total.shape, self.discovery.max_count)
        found = self.discovery(t, image, features, summary, free)
        return of_one_frame(found, total), total + found.z_pres.sum(-1).long()
