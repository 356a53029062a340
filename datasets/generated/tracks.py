"""Digits that move through videos: where each is in every frame, drawing them, and their labels."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .multi_object import Sprite
from .trajectories import Floats

Bytes = npt.NDArray[np.uint8]

_SIDE = 28  # of a digit's picture


class Tracks(NamedTuple):
    """The D digits of several videos in all T frames; those of one video follow each other."""

    sprites: list[Sprite]
    """Their ink."""
    video: npt.NDArray[np.int64]
    """The video that each is in, `(D,)`."""
    slot: npt.NDArray[np.int64]
    """Its number there, `(D,)`."""
    corners: npt.NDArray[np.float32]
    """Top and left of each, before rounding, `(T, D, 2)`, not negative."""
    on: npt.NDArray[np.bool_]
    """In which frames each is on, `(T, D)`."""

    @classmethod
    def of(cls, sprites: Sequence[Sequence[Sprite]], corners: Floats, on: npt.NDArray[np.bool_]) -> "Tracks":
        """The tracks of videos whose digits are given for each; `corners` and `on` as above."""
        counts = [len(digits) for digits in sprites]
        video = np.repeat(np.arange(len(counts)), counts)
        slot = np.array([slot for count in counts for slot in range(count)], dtype=np.int64)
        # Rounded to what the labels can hold before anything is drawn, so that they tell where it was drawn.
        return cls([s for digits in sprites for s in digits], video, slot, corners.astype(np.float32), on)

    def pixels(self) -> npt.NDArray[np.int64]:
        """The first row and column that each is drawn at, `(T, D, 2)`."""
        return np.rint(self.corners).astype(np.int64)

    def paint(self, videos: Bytes) -> None:
        """Draws all digits into black frames `(B, T, H, W)`."""
        places, on = self.pixels().swapaxes(0, 1).tolist(), self.on.T.tolist()
        for digit, video in enumerate(self.video.tolist()):
            ink = self.sprites[digit].ink
            height, width = ink.shape
            for frame, (top, left), shown in zip(videos[video], places[digit], on[digit], strict=True):
                if shown:
                    window = frame[top : top + height, left : left + width]
                    np.maximum(window, ink[: window.shape[0], : window.shape[1]], out=window)

    def visible(self, size: int) -> npt.NDArray[np.float32]:
        """Fraction of the ink inside frames of `size` x `size` pixels, `(T, D)`."""
        inks = np.zeros((len(self.sprites), _SIDE + 1, _SIDE + 1))
        for padded, sprite in zip(inks, self.sprites, strict=True):
            height, width = sprite.ink.shape
            padded[1 : height + 1, 1 : width + 1] = sprite.ink
        sums = inks.cumsum(1).cumsum(2)  # [d, i, j]: ink in the first i rows and j columns
        inside = np.minimum(size - self.pixels(), _SIDE)
        found = sums[np.arange(len(sums)), inside[..., 0], inside[..., 1]]
        return (self.on * found / np.maximum(sums[:, -1, -1], 1)).astype(np.float32)

    def labels(self, videos: int, slots: int, size: int) -> dict[str, npt.NDArray[Any]]:
        """The labels of `VideoData` for `videos` videos of `slots` slots and frames of `size` x `size`."""
        frames = len(self.on)
        count = np.zeros((videos, frames), dtype=np.int64)
        classes = np.full((videos, slots), -1, dtype=np.int64)
        boxes = np.zeros((videos, frames, slots, 4), dtype=np.float32)
        visible = np.zeros((videos, frames, slots), dtype=np.float32)
        where = self.video, slice(None), self.slot
        np.add.at(count, self.video, self.on.T)
        classes[self.video, self.slot] = [sprite.label for sprite in self.sprites]
        sizes = np.array([sprite.ink.shape for sprite in self.sprites], dtype=np.float32).reshape(-1, 2)
        full = np.empty((*self.on.shape, 4), dtype=np.float32)  # (T, D, 4)
        full[..., :2], full[..., 2:] = self.corners[..., ::-1], sizes[:, ::-1]
        boxes[where] = (full * self.on[..., None]).swapaxes(0, 1)
        visible[where] = self.visible(size).T
        return {"count": count, "classes": classes, "boxes": boxes, "visible": visible}
