"""Sequential Attend, Infer, Repeat: the inference half.

Kosiorek et al., *Sequential Attend, Infer, Repeat*, 2018, appendix A. In each frame `Propagation` follows the
objects of the frame before, each through a glimpse near where it was, and `Discovery` looks at the whole
image for new ones. Propagation never sees the image as a whole: a network that does swaps identities.

The two are plain modules with Pyro statements: within a called `PyroModule` every use of a network is a
statement for each of its parameters, which costs 4 % of a training step.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .. import checks
from ..models.components.frames import Frames
from ..models.components.inputs import require_pixels
from ..models.components.slots import (
    ABSENT,
    Slots,
    TrackedSlots,
    compact,
    empty_slots,
    new_identities,
    tracked,
)
from ..models.components.stated_once import StatedOnce
from ..models.sqair import LatentEncoder, State
from .background import BackgroundGuide
from .explaining_away import ExplainingDiscovery
from .hindsight import first_objects
from .propagation import Propagation
from .slot_discovery import SlotDiscovery
from .tracking import TrackingPropagation


class SQAIRGuide(StatedOnce):
    """Approximate posterior of `models.SQAIR`, with the same statements, one frame after the other.

    Where videos become longer during training, `hold` keeps the objects of the first frame: as long as
    propagation cannot follow into a new frame, letting objects go and discovering them again, or discovering
    them twice, has by far the greater weight, no gradient reaches the networks that would learn to follow,
    and the guide gives propagation up for good. Held on to, they learn.

    Args:
        propagation: follows the objects of the frame before.
        discovery: finds new ones.
        latent_encoder: summary of the propagated objects for discovery; the model's.
        image_shape: channels, height and width of a frame.
        truncate: as the model's.
        background: infers the model's background, if it has one.
        hindsight: how many frames are looked at before the objects of the first are drawn, in evaluation
            mode, see the module of that name; with `ExplainingDiscovery` and without `background` alone.
    """

    def __init__(
        self,
        propagation: Propagation | TrackingPropagation,
        discovery: SlotDiscovery,
        latent_encoder: LatentEncoder,
        image_shape: tuple[int, int, int] = (1, 50, 50),
        truncate: bool = True,
        background: BackgroundGuide | None = None,
        hindsight: int = 0,
    ) -> None:
        super().__init__()
        checks.not_negative(hindsight=hindsight)
        if hindsight and not isinstance(discovery, ExplainingDiscovery):
            raise ValueError(
                f"`hindsight` needs an `ExplainingDiscovery`, got `discovery` {type(discovery).__name__}"
            )
        if hindsight and background is not None:
            raise ValueError("`hindsight` is for objects on black, got a `background`")
        self.propagation = propagation
        self.discovery = discovery
        self.latent_encoder = latent_encoder
        self.image_shape = image_shape
        self.truncate = truncate
        self.background = background
        self.hindsight = hindsight

    def forward(self, video: Tensor) -> list[TrackedSlots]:
        """Sample the latent variables of videos `(B, T, C, H, W)` in [0, 1]: the slots of each frame.

        Raises:
            ValueError: if the video has another shape, or is not floating point.
        """
        slots: list[TrackedSlots] = self.unroll(video).run()
        return slots

    def unroll(self, video: Tensor) -> Frames:
        """The same, frame by frame; the state is a `models.sqair.State`."""
        self.state_parameters()
        require_pixels("video", video, "BT", self.image_shape, dtype=self.discovery.scale_bias.dtype)
        find = None
        if self.hindsight and not self.training:
            assert isinstance(self.discovery, ExplainingDiscovery)
            find = partial(first_objects, self._from, self.discovery, video, self.hindsight)
        return self._unroll(video, find)

    def _from(self, video: Tensor, known: TrackedSlots | None) -> Frames:
        """Frames that begin with objects that are known, if there are any."""
        return self._unroll(video, lambda: known)

    def _unroll(self, video: Tensor, find: Callable[[], TrackedSlots | None] | None) -> Frames:
        batch_size, count = len(video), self.discovery.max_count
        codes: Any = ()
        background: Any = ()
        if self.background is not None:
            video, codes = self.background.look(video)
            background = self.background.start(batch_size)
        features = self.discovery.features(video)  # each frame once, whatever the number of particles
        memory = self.propagation.initial_memory
        slots = empty_slots(count, self.discovery.sizes, memory, batch_size)
        total = torch.zeros(batch_size, dtype=torch.int64, device=video.device)
        steps = [partial(self.step, t, video[:, t], features[:, t], codes) for t in range(video.shape[1])]
        if find is not None:
            # When its turn has come: whoever goes on from the middle of a video does not run the first step.
            steps[0] = partial(_from_known, steps[0], find)
        return Frames.of_data(batch_size, State(slots, total, background), steps)

    def step(
        self,
        t: int,
        image: Tensor,
        features: Tensor,
        codes: Any,
        state: State,
        known: TrackedSlots | None = None,
    ) -> tuple[TrackedSlots, State]:
        """One frame: the background, then propagate, discover, put the slots in order.

        Args:
            t: number of the frame, from 0.
            image: what objects are looked for in, `(B, C, H, W)`: the frame, without its background.
            features: of it, see `Discovery.features`.
            codes: of the background, see `BackgroundGuide.look`.
            state: after the frame before.
            known: objects that are known to be there, for an `ExplainingDiscovery`.
        """
        slots, total, background = state
        if self.background is not None:
            background = self.background.step(t, codes, background)
        if t == 0:
            propagated = None
            survivors = torch.zeros_like(slots.z_pres[..., 0])
            summary = features.new_zeros(self.latent_encoder.size)
        else:
            followed: Slots
            followed, memory = self.propagation(t, image, slots)
            identity = slots.identity.masked_fill(followed.z_pres <= 0, ABSENT)
            propagated = tracked(followed, memory, identity)
            survivors = followed.z_pres.sum(-1)
            summary = self.latent_encoder(*propagated[:3])
        count = self.discovery.max_count
        free = count - survivors if self.truncate else torch.full_like(survivors, count)
        looked = t, image, features, summary, free, propagated
        found: Slots = self.discovery(*looked) if known is None else self.discovery(*looked, known)
        memory = self.propagation.initial_memory.expand(*found.z_pres.shape, -1)
        discovered = tracked(found, memory, new_identities(found.z_pres, total))
        slots = discovered if propagated is None else compact(propagated, discovered)
        return slots, State(slots, total + found.z_pres.sum(-1).long(), background)


def _from_known(step: Callable[..., Any], find: Callable[[], TrackedSlots | None], state: State) -> Any:
    return step(state, known=find())
