"""What decoders of scenes share: each object by itself, its picture and its box."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from .components.active_set import ActiveSet
from .components.attention import paste
from .components.boxes import INK, boxes_inside, object_boxes
from .components.constants import constant
from .components.contrast import Contrast
from .components.slots import TrackedSlots
from .components.windows import SquashedWindows


class ObjectDecoder(ActiveSet, nn.Module, ABC):
    """Base of `sqair.SceneDecoder` and `layered_decoder.LayeredDecoder`, which put objects together.

    Attributes:
        mean_image: `(C, H, W)`; says at least what size frames have.
        windows: what `z_where` means; the guide must be given the same.
        clamp: whether objects hide each other, so that no pixel is brighter than one.
        has_background: whether something is drawn that is no object.
        contrast: what glimpses of twice as many channels as the background have mean in front of it.
        ink: what belongs into the box of an object, see `object_boxes`.
    """

    mean_image: Tensor
    windows: SquashedWindows
    clamp: bool
    has_background: bool
    contrast: Contrast = Contrast()
    ink: float = INK

    @abstractmethod
    def glimpses(self, z_what: Tensor) -> Tensor:
        """What objects look like on black, `(..., C, h, w)`, given `(..., W)`."""

    def objects(self, slots: TrackedSlots) -> Tensor:
        """Each object alone at its place, on black, `(..., N, C, H, W)`; absent ones black."""
        glimpses = self.where_present(self.glimpses, slots.z_pres, slots.z_what)
        return self.place(glimpses * slots.z_pres[..., None, None, None], slots.z_where)

    def added(self, slots: TrackedSlots, channels: int) -> Tensor:
        """What each object alone adds to images of so many channels, `(..., N, C, H, W)`."""
        return self.contrast.added(self.objects(slots), channels)

    def segments(self, slots: TrackedSlots) -> Tensor:
        """The slot whose object is seen at each pixel, `(..., H, W)`, int64; -1 where there is none.

        It is the brightest there, among those of which the pixel is a part, see `ink`.
        """
        drawn = self.objects(slots).amax(-3)  # (..., N, H, W)
        own = drawn > self.ink * drawn.amax((-1, -2), keepdim=True).clamp(min=1e-6)
        brightest = (drawn * own).max(-3)
        return brightest.indices.masked_fill(brightest.values <= 0, -1)

    def place(self, glimpses: Tensor, z_where: Tensor) -> Tensor:
        """Each glimpse `(..., C, h, w)` at its place in a black frame, `(..., C, H, W)`."""
        height, width = self.mean_image.shape[-2:]
        return paste(glimpses, self.windows(z_where), (height, width))

    def boxes(self, slots: TrackedSlots) -> Tensor:
        """Boxes around the objects, as far as they are in the frame, `(..., N, 4)`; zeros where nothing is.

        As those that people draw, each is a part of the box of the *whole* object: of an eight that has left
        but for an edge the box is as high as the eight, though what is still to be seen of it is not.
        """
        height, width = self.mean_image.shape[-2:]
        return boxes_inside(self.whole_boxes(slots), (height, width))

    @torch.no_grad()
    def whole_boxes(self, slots: TrackedSlots) -> Tensor:
        """Boxes around whole objects, wherever they are, `(..., N, 4)`; without a size where one is absent.

        Each is drawn in the middle of a frame, whole pixels from its place.
        """
        height, width = self.mean_image.shape[-2:]
        coords = self.windows(slots.z_where)
        half = constant((width - 1, height - 1), coords) / 2
        moved = (coords[..., 2:] * half).round()
        middle = torch.cat([coords[..., :2], coords[..., 2:] - moved / half], dim=-1)
        glimpses = self.where_present(self.glimpses, slots.z_pres, slots.z_what)
        drawn = paste(glimpses * slots.z_pres[..., None, None, None], middle, (height, width))
        left_top, extent = object_boxes(drawn, self.ink).split(2, dim=-1)
        return torch.cat([left_top + moved, extent], dim=-1)
