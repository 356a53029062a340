r"""A tracker that learns nothing: where does the frame look most like the first picture of the object?

The template T is what is in the first box. At every place of a frame its normalised cross-correlation with
the pixels X below it is

$$ \frac{\sum (X - \bar X)(T - \bar T)}{\sqrt{\sum (X - \bar X)^2 \sum (T - \bar T)^2}} $$

with means over the template's area, in each colour, and sums over the area and the colours: 1 where the frame
is the template, but for brightness and contrast. The numerator is a convolution, done by fast Fourier
transforms, and the sums of X and X^2 come from an integral image (Lewis, *Fast Normalized Cross-Correlation*,
1995).

What it cannot do: change the size of the box, or follow what changes its looks. It is what a learned tracker
should beat.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .components.inputs import require_first_boxes

_FLAT = 1e-6  # variance of a pixel, of grey values in [0, 1], below which a place has no look


class TemplateTracks(NamedTuple):
    """Where the object was found."""

    boxes: Tensor
    """`(B, T, 4)`, `(left, top, width, height)` in pixels; all of a video have the first one's size."""
    scores: Tensor
    """Normalised cross-correlations there, `(B, T)`, at most 1."""


class TemplateTracker(nn.Module):
    """Follows one object by normalised cross-correlation with the first picture of it.

    In each frame the best place is taken of those whose middle is not further from the last one than `reach`
    times the longer side of the box; the object may be partly outside the frame, where pixels are repeated.
    Boxes move by whole pixels.

    Args:
        reach: how far an object may move from frame to frame, in sides of its box. Large ones let it jump to
            whatever else looks alike.
    """

    def __init__(self, reach: float = 0.5) -> None:
        super().__init__()
        if reach <= 0:
            raise ValueError(f"`reach` must be positive, got {reach}")
        self.reach = reach

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
        # In whole pixels, and not larger than the frame.
        across = int(box[2].round().clamp(1, frames.shape[-1]))
        down = int(box[3].round().clamp(1, frames.shape[-2]))
        left = round(float(box[0] + (box[2] - across) / 2))
        top = round(float(box[1] + (box[3] - down) / 2))
        margin = max(across, down)
        first = _padded(frames[0], margin)
        template = first[:, top + margin :, left + margin :][:, :down, :across]
        radius = self.reach * margin
        corner = torch.tensor([left, top])
        corners, scores = [corner], [torch.ones((), device=frames.device)]
        for frame in frames[1:]:
            score = normalised_cross_correlation(_padded(frame, margin), template)
            rows, columns = (torch.arange(n, device=frames.device) - margin for n in score.shape)
            distance = (rows[:, None] - corner[1]).square() + (columns - corner[0]).square()
            score = score.masked_fill(distance > radius**2, -torch.inf)
            best = int(score.argmax())
            corner = torch.tensor([best % score.shape[1], best // score.shape[1]]) - margin
            corners.append(corner)
            scores.append(score.flatten()[best])
        moved = (torch.stack(corners) - corners[0]).to(box)
        return torch.cat([box[:2] + moved, box[2:].expand(len(frames), 2)], dim=-1), torch.stack(scores)


def normalised_cross_correlation(image: Tensor, template: Tensor) -> Tensor:
    """How much the image looks like the template, at all places where the template is inside.

    Args:
        image: `(C, H, W)`, floating point.
        template: `(C, h, w)`, at most as large.

    Returns:
        `(H - h + 1, W - w + 1)`, in [-1, 1]; 0 where image or template are flat.
    """
    size, image, template = template[0].numel(), image.double(), template.double()
    template = template - template.mean(dim=(1, 2), keepdim=True)
    rows, columns = (n - m + 1 for n, m in zip(image.shape[1:], template.shape[1:], strict=True))
    spectrum = torch.fft.rfft2(image) * torch.fft.rfft2(template, s=image.shape[1:]).conj()
    product = torch.fft.irfft2(spectrum, s=image.shape[1:]).sum(dim=0)[:rows, :columns]
    sums, squares = (_window_sums(power, *template.shape[1:]) for power in (image, image.square()))
    variance = (squares - sums.square() / size).sum(dim=0)
    flat = _FLAT * size * len(image)
    energy = template.square().sum()
    score = product / (variance.clamp(min=flat) * energy.clamp(min=flat)).sqrt()
    return score.masked_fill((variance <= flat) | (energy <= flat), 0.0).clamp(-1, 1)


def _window_sums(image: Tensor, down: int, across: int) -> Tensor:
    """Sums over all windows of a size, `(C, H - down + 1, W - across + 1)`."""
    integral = F.pad(image, (1, 0, 1, 0)).cumsum(dim=1).cumsum(dim=2)
    below, above = integral[:, down:], integral[:, :-down]
    return below[..., across:] - below[..., :-across] - above[..., across:] + above[..., :-across]


def _padded(frame: Tensor, margin: int) -> Tensor:
    """A frame in [0, 1] with its border repeated."""
    pixels = frame if frame.is_floating_point() else frame / 255
    return F.pad(pixels[None], (margin,) * 4, mode="replicate")[0]
