"""Discovery in SQAIR's guide: what is new in a frame.

Kosiorek et al., *Sequential Attend, Infer, Repeat*, 2018, appendix A.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import checks
from ..models.components.attention import Size
from ..models.components.constants import constant
from ..models.components.networks import LocScale, fill_output_bias, initialise, mlp
from ..models.components.recurrent import VanillaRNN
from ..models.components.slots import Slots, TrackedSlots, concatenate, stack_slots
from ..models.components.windows import SquashedWindows
from ..models.priors.discovery import MIN_SCALE, pair
from .further import FurtherLatents
from .looking import Placed, WhatEncoder
from .second_look import SecondLook
from .slot_discovery import SlotDiscovery


class Discovery(SlotDiscovery):
    """Finds new objects, one after the other: where, what, and whether there is one at all.

    Args:
        image_encoder: features of a frame, `(B, C, H, W)` to `(B, F)`.
        what_encoder: shared with `Propagation`.
        feature_size: F.
        context_size: features of the summary of the propagated objects.
        max_count: N.
        what_size: W.
        glimpse_size: height and width of the crops.
        hidden: width of the recurrent network and of the hidden layers.
        presence_hidden: width of the hidden layer of the presence network.
        presence_bias: initial logit of presence.
        scale_bias: initial offset of the raw standard deviation of `z_where`; learned.
        hold: whether `hold` may be other than zero.
        exploration: whether `exploration` may be other than zero.
        where_floor: least standard deviation of `z_where`. The published 0.01 is a quarter of a pixel in
            frames of 50 pixels, and jitter of that size costs up to 18 nats a frame and digit where pixels
            have a standard deviation of 0.3; 0.001 costs none.
        windows: what `z_where` means; the model's.
        second_look: corrects the place by a crop of it; by default there is none.
        size_logit: initial mean of the two size logits of `z_where`, or of each, x before y.
        size_range: greatest distance of their mean from it, at any time; by default there is no bound. Where
            objects are of one size, a window that grows until it holds two takes of each what the other's
            has left, which fits one frame and none of those after it.
        further: draws what a slot has beside place and appearance, if there is anything; shared with
            `Propagation`.
    """

    def __init__(
        self,
        image_encoder: nn.Module,
        what_encoder: WhatEncoder,
        feature_size: int = 256,
        context_size: int = 256,
        max_count: int = 3,
        what_size: int = 50,
        glimpse_size: Size = (20, 20),
        hidden: int = 256,
        presence_hidden: int = 128,
        presence_bias: float = 1.0,
        scale_bias: float = -3.0,
        hold: bool = False,
        exploration: bool = False,
        where_floor: float = MIN_SCALE,
        windows: SquashedWindows = SquashedWindows(),  # noqa: B008
        second_look: SecondLook | None = None,
        size_logit: float | tuple[float, float] = 0.0,
        size_range: float | None = None,
        further: FurtherLatents | None = None,
    ) -> None:
        super().__init__(max_count, what_size, glimpse_size, context_size, hold, exploration, further)
        checks.at_least(1, feature_size=feature_size, hidden=hidden, presence_hidden=presence_hidden)
        checks.not_negative(where_floor=where_floor)
        checks.positive(size_range=size_range)
        checks.finite(presence_bias=presence_bias, scale_bias=scale_bias)
        self.image_encoder = image_encoder
        self.what_encoder = what_encoder
        self.rnn = VanillaRNN(feature_size + context_size, what_size + 5, hidden)
        self.where_head = mlp([hidden, hidden, hidden, 8], nn.ELU)
        self.scale_bias = nn.Parameter(torch.tensor(scale_bias))
        self.presence_head = mlp([hidden + what_size, presence_hidden, 1], nn.ELU)
        initialise(self.image_encoder, self.where_head, self.presence_head)
        fill_output_bias(self.presence_head, presence_bias)
        first = self.where_head[-1]
        assert isinstance(first, nn.Linear)
        self.size_logit = pair(size_logit)
        self.size_range = size_range
        first.bias.data[:2] = torch.tensor(self.size_logit)
        self.second_look = second_look
        self.where_floor = where_floor
        self.windows = windows

    def features(self, frames: Tensor) -> Tensor:
        """What is seen of frames `(..., C, H, W)` as a whole, whatever the number of particles."""
        features: Tensor = self.image_encoder(frames)
        return features

    def forward(
        self,
        t: int,
        image: Tensor,
        features: Tensor,
        summary: Tensor,
        free: Tensor,
        propagated: Slots | TrackedSlots | None = None,
    ) -> Slots:
        """The statements of frame `t`.

        Args:
            t: number of the frame, from 0.
            image: `(B, C, H, W)`.
            features: of the frame, see `features`.
            summary: of the propagated objects.
            free: number of free slots, `(...)`; more cannot be discovered.
            propagated: these objects, of which only the summary is looked at.
        """
        early = self.rnn.project(concatenate(features, summary))
        hidden, slot = self.rnn.initial, self._before_first(free)
        hold = self.hold if t > 0 and self.training else None
        slots = []
        for j in range(self.max_count):
            possible = slot.z_pres * (free > j)
            hidden, place = self.where_present(
                self._place, possible, early, slot.features(), hidden, images=image
            )
            look = partial(self.where_present, self._look, possible, images=image)
            decide = partial(self._decided, possible, hidden)
            slot = self._draw(f"discovery/{{}}/{t}/{j}", image, possible, place, look, decide, hold)
            slots.append(slot)
        return stack_slots(slots)

    def _before_first(self, free: Tensor) -> Slots:
        """What the first slot is told of its predecessor."""
        start = free.new_zeros(*free.shape, 4 + self.what_size)
        return Slots(torch.ones_like(free), start[..., :4], start[..., 4:])

    def place(self, images: Tensor) -> LocScale:
        """Where the first object of single frames `(B, C, H, W)` is: parameters of `z_where`, `(B, 4)`."""
        features = self.image_encoder(images)
        early = self.rnn.project(concatenate(features, features.new_zeros(self.context_size)))
        none = early.new_zeros(len(images), 4 + self.what_size)
        first = Slots(early.new_ones(len(images)), none[:, :4], none[:, 4:])
        return self._place(images, early, first.features(), self.rnn.initial).where

    def _place(self, image: Tensor, early: Tensor, previous: Tensor, hidden: Tensor) -> Placed:
        hidden = self.rnn(early, previous, hidden)
        return Placed(hidden, self._placed(image, self.where_head(hidden)))

    def _placed(self, image: Tensor, place: Tensor) -> LocScale:
        """Parameters of `z_where` given the first look's mean and raw standard deviation, `(..., 8)`."""
        place = self._of_bounded_size(place)
        if self.second_look is not None:
            place = self._of_bounded_size(place + self.second_look(image, place[..., :4]))
        loc, raw_scale = place.chunk(2, dim=-1)
        return LocScale(loc, F.softplus(raw_scale + self.scale_bias) + self.where_floor)

    def _of_bounded_size(self, place: Tensor) -> Tensor:
        if self.size_range is None:
            return place
        middle = constant(self.size_logit, place)
        size = place[..., :2].clamp(middle - self.size_range, middle + self.size_range)
        return torch.cat([size, place[..., 2:]], dim=-1)

    def _decide(self, hidden: Tensor, z_what: Tensor) -> Tensor:
        return self.presence_head(concatenate(hidden, z_what))

    def _decided(self, possible: Tensor, hidden: Tensor, z_where: Tensor, z_what: Tensor) -> Tensor:
        logit: Tensor = self.where_present(self._decide, possible, hidden, z_what)
        return logit
