"""Clips of a few frames of videos in which something goes on: samples over time and space."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ... import checks
from ..storage.video import Indices, as_indices

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


class ActionBatch(NamedTuple):
    """Clips, what goes on in them, and where the joints of people are."""

    video: Tensor
    """`(B, T, C, H, W)`, float32 in [0, 1]."""
    labels: Tensor
    """The action of each clip `(B,)`, int64."""
    joints: Tensor | None = None
    """`(B, T, P, J, 2)`, float32, x and y in [-1, 1] from first to last pixel centre, clipped to it; -1 for
    people who are not there. None where the source knows none.
    """
    seen: Tensor | None = None
    """Who is there, `(B, T, P)`, boolean."""

    def to(self, device: torch.device | str) -> "ActionBatch":
        """The same batch on `device`."""
        return ActionBatch(*(None if x is None else x.to(device) for x in self))  # type: ignore[arg-type]


class ActionFrames(NamedTuple):
    """Some frames of a video."""

    video: Bytes
    """`(n, C, H, W)`, uint8."""
    joints: Floats | None = None
    """`(n, P, J, 2)`, x and y in pixels; those of people who are not there are NaN."""
    mirrored: tuple[int, ...] | None = None
    """Which joint of a mirrored frame is which of these `(J,)`: left and right hands exchange their places in
    `joints`, for example. None where none has a side.
    """


class ActionSource(Protocol):
    """Videos of one action each, which may be read when they are asked for."""

    labels: npt.NDArray[np.int64]
    """Their actions `(M,)`."""
    lengths: npt.NDArray[np.int64]
    """How many frames each has `(M,)`."""
    names: npt.NDArray[np.str_]
    """What they are called `(M,)`."""
    shape: tuple[int, int, int]
    """Channels, height and width of all frames."""

    def frames(self, index: int, numbers: npt.NDArray[np.int64]) -> ActionFrames:
        """The frames of these numbers, ascending, of video `index`."""


class ActionClips:
    """Draws clips from videos: one random frame out of each of T equal parts, cut out at a random place.

    The stretch of a video that is cut into parts begins at a random frame. A video with fewer than T frames
    gives some of them twice.

    The released program of *Glimpse Clouds* draws so that at least `stretch` frames are left, and cuts up all
    of these; here the stretch is no longer than it says, so that clips of long videos are not slower.

    Args:
        source: the videos.
        frames: T.
        size: height and width of the clips; by default those of the videos.
        stretch: frames of a video that a clip is drawn from; 120 is published, 4 seconds. By default all.
        drop: last frames that are left out; 2 is published.
        shift: pixels of a clip by which it may reach beyond the frame on each side, where it is black; less
            than its sides.
        mirror: exchange left and right in half of the clips, and joints of the two sides with each other.
        zoom: greatest factor by which clips are larger or smaller, at least 1; of each it is drawn with a
            uniform logarithm. What was next to a frame that became smaller is black.
        speed: the same of the stretch's length.
    """

    def __init__(
        self,
        source: ActionSource,
        frames: int = 8,
        *,
        size: tuple[int, int] | None = None,
        stretch: int | None = None,
        drop: int = 0,
        shift: int = 0,
        mirror: bool = False,
        zoom: float = 1.0,
        speed: float = 1.0,
    ) -> None:
        checks.at_least(1, frames=frames, size=size, stretch=stretch, zoom=zoom, speed=speed)
        checks.not_negative(drop=drop, shift=shift)
        self.source, self.stretch, self.drop = source, stretch, drop
        self.shift_by, self.mirror, self.zoom, self.speed = shift, mirror, zoom, speed
        channels, height, width = source.shape
        self.size = size or (height, width)
        if shift >= min(self.size):
            raise ValueError(f"`shift` must be less than the sides of clips, {self.size}, got {shift}.")
        if self.size[0] > height or self.size[1] > width:
            raise ValueError(f"`size` must be at most {height} x {width}, got {self.size}.")
        self.clip_shape = (frames, channels, *self.size)
        """`(T, C, H, W)` of the clips."""

    def __len__(self) -> int:
        return len(self.source.labels)

    def batch(self, indices: Indices, rngs: Sequence[np.random.Generator]) -> ActionBatch:
        """A clip of each of the videos at `indices`, drawn by as many generators.

        Raises:
            IndexError: if an index is out of range.
            DataError: if a video cannot be read.
        """
        where = as_indices(indices, len(self))
        clips = [self._clip(int(i), rng) for i, rng in zip(where, rngs, strict=True)]
        video = torch.from_numpy(np.stack([clip.video for clip in clips])).float() / 255
        labels = torch.from_numpy(self.source.labels[where])
        known = [clip.joints for clip in clips if clip.joints is not None]
        if not known:
            return ActionBatch(video, labels)
        return ActionBatch(video, labels, *normalised_joints(torch.from_numpy(np.stack(known)), self.size))

    def _clip(self, index: int, rng: np.random.Generator) -> ActionFrames:
        length = max(int(self.source.lengths[index]) - self.drop, 1)
        stretch = min(max(1, round((self.stretch or length) * _factor(self.speed, rng))), length)
        start = int(rng.integers(length - stretch + 1))
        numbers = start + draw_from_parts(stretch, self.clip_shape[0], rng)
        unique, back = np.unique(numbers, return_inverse=True)
        read = self.source.frames(index, unique)
        zoom = _factor(self.zoom, rng)
        height, width = (max(1, round(side / zoom)) for side in self.size)
        shift = int(self.shift_by / zoom)
        top, left = (
            int(rng.integers(min(old - new, 0) - shift, max(old - new, 0) + shift + 1))
            for old, new in zip(self.source.shape[1:], (height, width), strict=True)
        )
        video = _resized(cut_out(read.video, (top, left), (height, width)), self.size)[back]
        joints = None
        if read.joints is not None:
            # Of pixels' middles: the first one of the rectangle is half a pixel from its border.
            scale = np.array([self.size[1] / width, self.size[0] / height], np.float32)
            joints = ((read.joints - np.array([left, top], np.float32) + 0.5) * scale - 0.5)[back]
        if self.mirror and rng.random() < 0.5:
            video = video[..., ::-1]
            if joints is not None:
                joints = np.stack([self.size[1] - 1 - joints[..., 0], joints[..., 1]], axis=-1)
                if read.mirrored is not None:
                    joints = joints[..., read.mirrored, :]
        return ActionFrames(np.ascontiguousarray(video), joints)


def _factor(greatest: float, rng: np.random.Generator) -> float:
    """A random factor in [1 / greatest, greatest]; nothing is drawn where that is 1."""
    return 1.0 if greatest == 1 else float(greatest ** rng.uniform(-1, 1))


def _resized(video: Bytes, size: tuple[int, int]) -> Bytes:
    if video.shape[-2:] == size:
        return video
    frames = torch.from_numpy(video).float()
    return F.interpolate(frames, size, mode="bilinear", antialias=True).round().byte().numpy()


def draw_from_parts(length: int, parts: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """One number out of each of `parts` equal parts of `range(length)`, ascending, `(parts,)`."""
    edges = np.arange(parts + 1) * length / parts
    drawn = np.floor(edges[:-1] + rng.random(parts) * np.diff(edges)).astype(np.int64)
    return np.minimum(drawn, length - 1)


def cut_out(video: Bytes, corner: tuple[int, int], size: tuple[int, int]) -> Bytes:
    """A rectangle of frames `(..., H, W)`, black where it is outside of them.

    Args:
        video: the frames.
        corner: top and left, which may be negative.
        size: height and width.
    """
    (top, bottom), (left, right) = (
        np.clip((start, start + length), 0, limit).tolist()
        for start, length, limit in zip(corner, size, video.shape[-2:], strict=True)
    )
    found = np.zeros((*video.shape[:-2], *size), np.uint8)
    rows = slice(top - corner[0], bottom - corner[0])
    columns = slice(left - corner[1], right - corner[1])
    found[..., rows, columns] = video[..., top:bottom, left:right]
    return found


def normalised_joints(joints: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The fields `joints` and `seen` of a batch, given joints in pixels, NaN for who is not there.

    Args:
        joints: `(..., P, J, 2)`.
        size: height and width of the frames.
    """
    seen = ~joints.isnan().any(-1).any(-1)
    last = joints.new_tensor([max(size[1] - 1, 1), max(size[0] - 1, 1)])
    places = (2 * joints / last - 1).clamp(-1, 1)
    return torch.where(seen[..., None, None], places, -1.0), seen
