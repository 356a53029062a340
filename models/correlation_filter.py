r"""A tracker by discriminative correlation filters: what users of video libraries would take instead.

A filter of the object's surroundings, learned in closed form, answers a frame with a peak where the object is
(see `ridge_filter`). A second one, over samples of growing size instead of places, says how large it is. Both
follow the object by running means.

Sources: Danelljan, Häger, Khan & Felsberg, *Accurate Scale Estimation for Robust Visual Tracking* (DSST),
2014, of which this is the form, but for the looks: colours and slopes instead of histograms of gradients;
Bolme et al. (MOSSE), 2010; Henriques, Caseiro, Martins & Batista, *High-Speed Tracking with Kernelized
Correlation Filters*, 2015, for the window.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .components.boxes import box_within_image, middles
from .components.gaussian_read import HART_EPSILON, gaussian_read
from .components.gaussian_windows import boxes_to_window, smooth_knee_sigma
from .components.inputs import require_first_boxes
from .components.looks import looks
from .components.ridge_filter import RidgeFilter, peak_at_corner


class FilterTracks(NamedTuple):
    """Where the object was found."""

    boxes: Tensor
    """`(B, T, 4)`, `(left, top, width, height)` in pixels."""
    scores: Tensor
    """Heights of the filters' peaks `(B, T)`: about 1 where the window is the one that was learned from."""


class CorrelationFilterTracker(nn.Module):
    """Follows objects by correlation filters for their place and their size. Nothing is trained beforehand.

    Args:
        samples: of a window, along both sides.
        context: by how much a window is larger than the box, on both axes, in sides of a square as large.
        rate: of the running means.
        regularisation: lambda, in units of the mean of B.
        scales: sizes that are compared in each frame, an odd number; 1 keeps the first size.
        scale_step: ratio of neighbouring sizes.
    """

    _label: Tensor
    _taper: Tensor
    _scale_label: Tensor
    _scale_taper: Tensor
    _factors: Tensor

    def __init__(
        self,
        samples: int = 48,
        context: float = 1.5,
        rate: float = 0.025,
        regularisation: float = 0.01,
        scales: int = 17,
        scale_step: float = 1.02,
    ) -> None:
        super().__init__()
        if samples < 8 or scales < 1 or scales % 2 == 0:
            raise ValueError(
                f"`samples` must be at least 8 and `scales` odd and positive, got {samples} and {scales}"
            )
        self.samples, self.context, self.rate = samples, context, rate
        self.regularisation, self.scales = regularisation, scales
        peak = peak_at_corner(samples, samples / (1 + context) / 16)
        taper = torch.hann_window(samples, periodic=True)
        ladder = torch.arange(scales) - scales // 2
        for name, value in (
            # Peaks are symmetric, and so their transforms are real.
            ("_label", torch.fft.rfft2(peak[:, None] * peak).real),
            ("_taper", taper[:, None] * taper),
            ("_scale_label", torch.fft.fft(peak_at_corner(scales, scales / 16)).real),
            ("_scale_taper", torch.hann_window(scales + 2, periodic=False)[1:-1]),
            ("_factors", scale_step**ladder),
        ):
            self.register_buffer(name, value, persistent=False)

    @torch.no_grad()
    def forward(self, video: Tensor, first_box: Tensor) -> FilterTracks:
        """Track the object of each video.

        Args:
            video: `(B, T, C, H, W)`, floating point in [0, 1], or uint8, which stands for it.
            first_box: of the object in the first frame, `(B, 4)`, `(left, top, width, height)` in pixels.

        Raises:
            ValueError: if a box has no area or is outside the frame.
        """
        size = video.shape[-2], video.shape[-1]
        require_first_boxes(first_box, video.shape[0], size)
        box = first_box.to(self._taper.dtype)
        filters = self._learned(video[:, 0], box)
        boxes, scores = [box], [torch.ones_like(box[:, 0])]
        for frame in video.unbind(1)[1:]:
            box, score = self._moved(frame, box, filters[0])
            if self.scales > 1:
                box = self._resized(frame, box, filters[1], boxes[0])
            box = box_within_image(box, size)
            filters = [
                old.towards(new, self.rate)
                for old, new in zip(filters, self._learned(frame, box), strict=True)
            ]
            boxes.append(box)
            scores.append(score)
        return FilterTracks(torch.stack(boxes, dim=1), torch.stack(scores, dim=1))

    def _learned(self, frame: Tensor, box: Tensor) -> list[RidgeFilter]:
        """The filters of one frame, for the place and for the size."""
        filters = [RidgeFilter.learned(self._place_spectra(frame, box), self._label)]
        if self.scales > 1:
            filters.append(RidgeFilter.learned(self._scale_spectra(frame, box), self._scale_label))
        return filters

    def _moved(self, frame: Tensor, box: Tensor, known: RidgeFilter) -> tuple[Tensor, Tensor]:
        answer = known.answer(self._place_spectra(frame, box), self.regularisation)
        answer = torch.fft.irfft2(answer, s=(self.samples, self.samples))
        answer = answer.roll((self.samples // 2, self.samples // 2), (-2, -1))
        height, best = answer.flatten(1).max(dim=1)
        place = torch.stack(
            [best % self.samples, torch.div(best, self.samples, rounding_mode="floor")], dim=-1
        )
        shift = (place - self.samples // 2) * self._window(box)[:, 2:] / (self.samples - 1)
        return torch.cat([box[:, :2] + shift, box[:, 2:]], dim=-1), height

    def _resized(self, frame: Tensor, box: Tensor, known: RidgeFilter, first_box: Tensor) -> Tensor:
        answer = torch.fft.ifft(known.answer(self._scale_spectra(frame, box), self.regularisation)).real
        best = answer.roll(self.scales // 2, -1).argmax(dim=1)
        extent = box[:, 2:] * self._factors[best, None]
        # Not below a fifth of the first size, nor above five times.
        extent = extent.maximum(first_box[:, 2:] / 5).minimum(first_box[:, 2:] * 5)
        return torch.cat([middles(box) - extent / 2, extent], dim=-1)

    def _window(self, box: Tensor) -> Tensor:
        extent = box[:, 2:] + self.context * box[:, 2:].prod(-1, keepdim=True).sqrt()
        return torch.cat([middles(box) - extent / 2, extent], dim=-1)

    def _place_spectra(self, frame: Tensor, box: Tensor) -> Tensor:
        """Transforms `(B, d, n, n // 2 + 1)` of the looks of a window."""
        return torch.fft.rfft2(self._read(frame, self._window(box), self.samples) * self._taper)

    def _scale_spectra(self, frame: Tensor, box: Tensor) -> Tensor:
        """Transforms `(B, d, scales)` over boxes of all sizes."""
        extent = box[:, 2:] * self._factors[:, None, None]
        boxes = torch.cat([middles(box) - extent / 2, extent], dim=-1)  # (scales, B, 4)
        seen = self._read(frame, boxes, 16).flatten(2).permute(1, 2, 0)
        return torch.fft.fft(seen * self._scale_taper)

    def _read(self, frame: Tensor, boxes: Tensor, samples: int) -> Tensor:
        """Looks of boxes `(..., B, 4)` without their means, `(..., B, d, samples, samples)`."""
        size = samples, samples
        seen = looks(
            gaussian_read(frame, boxes_to_window(boxes, size, smooth_knee_sigma), size, HART_EPSILON)
        )
        return seen - seen.mean(dim=(-2, -1), keepdim=True)
