r"""A tracker that learns nothing: where does the frame look most like the first picture of the object?

In every frame the template, which is what is in the first box, is compared with the surroundings of the last
place by normalised cross-correlation (see `correlation`), and the box moves to the best place.

What it cannot do: change the size of the box, or follow what changes its looks. It is what a learned tracker
should beat.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .components.correlation import normalised_cross_correlation
from .components.inputs import require_first_boxes

_NEAREST = 1e-6
"""Least penalty: where nothing is seen, as on black padding, all places are alike, and the box stays."""


class TemplateTracks(NamedTuple):
    """Where the object was found."""

    boxes: Tensor
    """`(B, T, 4)`, `(left, top, width, height)` in pixels; all of a video have the first one's size."""
    scores: Tensor
    """Normalised cross-correlations there, `(B, T)`, float64, at most 1."""


class TemplateTracker(nn.Module):
    """Follows one object by normalised cross-correlation with the first picture of it.

    In each frame the best place is taken of those whose middle is not further from the last one than `reach`
    times the longer side of the box; the object may be partly outside the frame, where pixels are repeated.
    Boxes move by whole pixels.

    Args:
        reach: how far an object may move from frame to frame, in sides of its box. Large ones let it jump to
            whatever else looks alike.
        penalty: taken from the correlation at the reach, and by the square of the distance of nearer places:
            0.2 makes fewer mistakes on real video.
        threshold: where the best place has less, the box stays where it was: 0.4 on real video.
    """

    def __init__(self, reach: float = 0.5, penalty: float = 0.0, threshold: float = -1.0) -> None:
        super().__init__()
        if reach <= 0:
            raise ValueError(f"`reach` must be positive, got {reach}")
        self.reach, self.penalty, self.threshold = reach, penalty, threshold

    @torch.no_grad()
    def forward(self, video: Tensor, first_box: Tensor) -> TemplateTracks:
        """Track the object of each video, one video after the other.

        Args:
            video: `(B, T, C, H, W)`, floating point in [0, 1], or uint8, which stands for it.
            first_box: of the object in the first frame, `(B, 4)`, `(left, top, width, height)` in pixels.

        Raises:
            ValueError: if a box has no area or is outside the frame.
        """
        height, width = video.shape[-2:]
        require_first_boxes(first_box, video.shape[0], (height, width))
        tracks = [self._track(frames, box) for frames, box in zip(video, first_box, strict=True)]
        return TemplateTracks(*(torch.stack(fields) for fields in zip(*tracks, strict=True)))

    def _track(self, frames: Tensor, box: Tensor) -> tuple[Tensor, Tensor]:
        """The boxes `(T, 4)` and scores `(T,)` of one video."""
        (left, across), (top, down) = (
            _side(start, length, limit)
            for start, length, limit in zip(box[:2], box[2:], frames.shape[:-3:-1], strict=True)
        )
        margin = max(across, down)
        template = _padded(frames[0], margin)[:, top + margin :, left + margin :][:, :down, :across].double()
        radius = self.reach * margin
        penalty = max(self.penalty, _NEAREST)
        corner, corners, scores = (left, top), [(left, top)], [template.new_ones(())]
        # Of corners: the template is inside the frame with its margin.
        ends = frames.shape[-1] - across + margin, frames.shape[-2] - down + margin
        for frame in frames[1:]:
            # No more is compared than can be reached.
            (x0, x1), (y0, y1) = (
                (max(place - int(radius), -margin), min(place + int(radius), end))
                for place, end in zip(corner, ends, strict=True)
            )
            part = _padded(frame, margin)[
                :, y0 + margin : y1 + margin + down, x0 + margin : x1 + margin + across
            ]
            score = normalised_cross_correlation(part.double(), template)
            rows, columns = (
                torch.arange(first, last + 1, device=frames.device) - place
                for first, last, place in ((y0, y1, corner[1]), (x0, x1, corner[0]))
            )
            distance = (rows[:, None].square() + columns.square()) / radius**2
            wanted = (score - penalty * distance).masked_fill(distance > 1, -torch.inf)
            best = int(wanted.argmax())
            scores.append(score.flatten()[best])
            if scores[-1] >= self.threshold:
                corner = x0 + best % score.shape[1], y0 + best // score.shape[1]
            corners.append(corner)
        moved = (torch.tensor(corners) - torch.tensor(corners[0])).to(box)
        return torch.cat([box[:2] + moved, box[2:].expand(len(frames), 2)], dim=-1), torch.stack(scores)


def _side(start: Tensor, length: Tensor, limit: int) -> tuple[int, int]:
    """Where the template begins on an axis, and its pixels, which are at most those of the frame."""
    pixels = int(length.round().clamp(1, limit))
    # In the middle of the box, or, of one larger than the frame, where it shows most of the frame.
    rest = length - pixels
    return round(float(start + ((-start).clamp(min=0).minimum(rest) if length > limit else rest / 2))), pixels


def _padded(frame: Tensor, margin: int) -> Tensor:
    """A frame in [0, 1] with its border repeated."""
    pixels = frame if frame.is_floating_point() else frame / 255
    return F.pad(pixels[None], (margin,) * 4, mode="replicate")[0]
