"""Short pieces of long videos in which one object is followed."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from ..storage.store import VideoStore
from ..storage.video import FRAME_LABELS, Indices, VideoBatch, VideoData, as_indices, to_batch


class ClipWindows:
    """Videos of one object each, from which batches of random windows are drawn to train a tracker on.

    Frames after the last one that shows the object (where the shorter videos of a data set are padded) are
    left out; the others are in memory, those of a `VideoStore` as copies, those of `VideoData` as views.
    The object is *present* in the frames in which its box has a width.

    A window begins at a frame drawn uniformly from those in which the object is present and after which the
    video has at least `min_length` frames, itself included; where there is none, with the object's first
    frame. It has a number of frames drawn uniformly from `min_length` to the length asked for, and fewer
    where the video ends before.

    Source: Kahou, Michalski and Memisevic (2015), RATM: Recurrent Attentive Tracking Model, for the defaults.

    Args:
        source: videos with the label `boxes`; other labels are kept.
        slot: which object is followed; batches have the labels of all.
        min_length: fewest frames of a window.
        mirror: exchange left and right in half of the windows.
        reverse: let half of the windows run backwards in time, from the last frame that shows the object.
        as_bytes: batches have frames of uint8, a quarter of the memory, for models that take them.

    Raises:
        DataError: if a video never shows the object, or pixels cannot be read.
        ValueError: if `source` has no boxes or no such slot, or `min_length` is not positive.
    """

    def __init__(
        self,
        source: VideoData | VideoStore,
        *,
        slot: int = 0,
        min_length: int = 5,
        mirror: bool = False,
        reverse: bool = False,
        as_bytes: bool = False,
    ) -> None:
        if min_length < 1:
            raise ValueError(f"`min_length` must be at least 1, got {min_length}.")
        labels = source.labels()
        if "boxes" not in labels:
            raise ValueError("`source` must have the label `boxes`, by which an object is followed.")
        slots = labels["boxes"].shape[2]
        if not 0 <= slot < slots:
            raise ValueError(f"`slot` must be in [0, {slots}), the objects of `source`, got {slot}.")
        self.slot, self.min_length, self.mirror, self.reverse = slot, min_length, mirror, reverse
        self.as_bytes = as_bytes
        self.source = source
        """The videos."""
        self.shape = source.shape
        """`(M, T, C, H, W)` of the source."""
        self._labels = labels
        self._present = labels["boxes"][:, :, slot, 2] > 0  # (M, T)
        absent = np.flatnonzero(~self._present.any(1))
        if len(absent):
            name = f" ({labels['names'][absent[0]]})" if "names" in labels else ""
            raise DataError(f"video {absent[0]}{name} has no frame that shows object {slot}.")
        self.lengths: npt.NDArray[np.int64] = source.shape[1] - self._present[:, ::-1].argmax(1)
        """Frames of each video up to the last one that shows the object `(M,)`, int64."""
        self._frames = [_first_frames(source, index, stop) for index, stop in enumerate(self.lengths)]

    def __len__(self) -> int:
        return len(self._frames)

    def batch(self, indices: Indices, length: int, rng: np.random.Generator) -> VideoBatch:
        """A random window of each of the videos at `indices`.

        Args:
            indices: the videos; one that is there several times gives several windows.
            length: most frames of a window, and the number of frames T of the batch.
            rng: draws the windows; with the same state they are the same.

        Returns:
            Videos and labels on the CPU. Shorter windows end with black frames without objects, in which
            `count`, `visible` and boxes are zeros.

        Raises:
            IndexError: if an index is out of range.
            ValueError: if `length` is less than `min_length`.
        """
        if length < self.min_length:
            raise ValueError(f"`length` must be at least `min_length`, {self.min_length}, got {length}.")
        where = as_indices(indices, len(self))
        return self._gather(where, [self._draw(index, length, rng) for index in where], length)

    def clips(self, indices: Indices) -> VideoBatch:
        """The videos at `indices` from their first frame, as long as the longest of them, to test on.

        Raises:
            IndexError: if an index is out of range.
        """
        where = as_indices(indices, len(self))
        lengths = self.lengths[where]
        return self._gather(where, [_Window(np.arange(n), False) for n in lengths], lengths.max(initial=0))

    def frame(self, index: int, rng: np.random.Generator) -> "TargetFrame":
        """A frame of a video, drawn uniformly from those in which the object is present.

        Raises:
            IndexError: if `index` is out of range.
        """
        (row,) = as_indices([index], len(self))
        chosen = rng.choice(np.flatnonzero(self._present[row]))
        box = self._labels["boxes"][row, chosen, self.slot].astype(np.float64)
        return TargetFrame(self._frames[row][chosen], box)

    def _draw(self, index: int, length: int, rng: np.random.Generator) -> "_Window":
        end, present = self.lengths[index], np.flatnonzero(self._present[index])
        last = max(end - self.min_length, present[0])
        start = rng.choice(present[present <= last])
        stop = min(start + rng.integers(self.min_length, length + 1), end)
        mirrored = self.mirror and rng.random() < 0.5
        if self.reverse and rng.random() < 0.5:
            return _Window(np.arange(present[present < stop].max(), start - 1, -1), mirrored)
        return _Window(np.arange(start, stop), mirrored)

    def _gather(self, where: npt.NDArray[np.int64], windows: list["_Window"], length: int) -> VideoBatch:
        video = np.zeros((len(where), length, *self.shape[2:]), np.uint8)
        labels = {name: value[where] for name, value in self._labels.items() if name not in FRAME_LABELS}
        for name in FRAME_LABELS.keys() & self._labels.keys():
            value = self._labels[name]
            labels[name] = np.zeros((len(where), length, *value.shape[2:]), value.dtype)
        for row, (index, (frames, mirrored)) in enumerate(zip(where, windows, strict=True)):
            pixels = self._frames[index][frames]
            video[row, : len(frames)] = pixels[..., ::-1] if mirrored else pixels
            for name in FRAME_LABELS.keys() & labels.keys():
                value = self._labels[name][index, frames]
                if mirrored and name == "boxes":
                    value = mirrored_boxes(value, self.shape[-1])
                elif mirrored and name == "segments":
                    value = value[..., ::-1]
                labels[name][row, : len(frames)] = value
        return to_batch(video, labels, self.as_bytes)


class TargetFrame(NamedTuple):
    """A frame, and where the object is in it."""

    image: npt.NDArray[np.uint8]
    """`(C, H, W)`."""
    box: npt.NDArray[np.float64]
    """`(left, top, width, height)` in pixels."""


class _Window(NamedTuple):
    """A piece of a video."""

    frames: npt.NDArray[np.int64]
    """The numbers of its frames, in the order in which they are shown."""
    mirrored: bool


def mirrored_boxes(boxes: npt.NDArray[np.float32], width: int) -> npt.NDArray[np.float32]:
    """Boxes `(..., 4)` in a frame of `width` pixels whose left and right are exchanged.

    Boxes without a width, which stand for no object, stay as they are.
    """
    turned = boxes.copy()
    turned[..., 0] = width - boxes[..., 0] - boxes[..., 2]
    return np.where(boxes[..., 2:3] > 0, turned, boxes)


def _first_frames(source: VideoData | VideoStore, index: int, stop: int) -> npt.NDArray[np.uint8]:
    return source.video[index, :stop] if isinstance(source, VideoData) else source.frames(index, stop)
