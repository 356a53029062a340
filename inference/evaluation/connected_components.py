"""Objects as connected bright regions, followed by overlap: what needs no model, to compare one with.

Needs SciPy, which comes with `pip install whatwhere[metrics]`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ... import checks
from ...models.components.boxes import iou
from ...models.components.slots import ABSENT
from .labels import check_filled
from .tracking_metrics import Tracks, best_matches, import_scipy

Values = npt.NDArray[np.float64]

__all__ = ["ConnectedComponents", "FoundComponents"]


class FoundComponents(NamedTuple):
    """The components of B videos of T frames, in up to N slots, in the order of their first pixels."""

    tracks: Tracks
    """Tight boxes, presence and identities, as `tracking_counts` takes them. Identities of a video count from
    0 in the order in which they appear."""
    scores: Tensor
    """Mean brightness of the pixels of each, `(B, T, N)`; 0 where there is none."""
    energies: Tensor
    """Sum of the squares of the pixels of each, over all channels, `(B, T, N)`; 0 where there is none."""


@dataclass(frozen=True)
class ConnectedComponents:
    """Finds objects that are brighter than the ground, and follows them from frame to frame.

    An object is a set of pixels that touch each other, also at a corner, and in one channel at least are
    brighter than `threshold`. In every frame boxes are assigned to those of the frame before, as many as
    overlap enough and so that they overlap most in total; the others are new objects. So objects that touch
    are one, and one that is lost for a frame is another afterwards: what a model is expected to do better.

    A static camera's background is best taken away beforehand.
    """

    threshold: float = 0.25
    """Of the brightness of a pixel, in [0, 1)."""
    least_area: int = 1
    """Pixels of an object; smaller components are noise."""
    least_overlap: float = 0.1
    """Intersection over union of an object's boxes in two frames, in (0, 1]."""

    def __post_init__(self) -> None:
        checks.within("[0, 1)", self, "threshold")
        checks.at_least(1, self, "least_area")
        checks.within("(0, 1]", self, "least_overlap")

    def __call__(self, video: Tensor) -> FoundComponents:
        """What is found in videos.

        Args:
            video: `(B, T, C, H, W)` in [0, 1].

        Raises:
            MissingPackageError: if SciPy is not installed.
            ValueError: if the shape is another, or pixels are not in [0, 1].
        """
        check_filled("video", video, "(B, T, C, H, W)")
        pixels = video.detach().cpu()
        if video.dim() != 5 or not ((pixels >= 0) & (pixels <= 1)).all():
            raise ValueError(f"`video` must be (B, T, C, H, W) in [0, 1], but got {_described(pixels)}.")
        brightness = pixels.flatten(0, 1).amax(1).double().numpy()  # (B T, H, W)
        squares = pixels.flatten(0, 1).double().square().sum(1).numpy()
        frame, boxes, scores, energies = self._components(brightness, squares)
        counts = np.bincount(frame, minlength=len(brightness))
        slots = np.arange(len(frame)) - np.repeat(counts.cumsum() - counts, counts)
        shape = (len(brightness), int(counts.max()))
        found = np.zeros((*shape, 4)), np.zeros(shape, bool), np.zeros(shape), np.zeros(shape)
        for field, values in zip(found, (boxes, True, scores, energies), strict=True):
            field[frame, slots] = values
        boxes, present, scores, energies = (torch.from_numpy(x).unflatten(0, video.shape[:2]) for x in found)
        identities = torch.stack([self._linked(*one) for one in zip(boxes, present, strict=True)])
        return FoundComponents(Tracks(boxes.float(), present, identities), scores.float(), energies.float())

    def _components(
        self, brightness: npt.NDArray[np.float64], squares: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.int64], Values, Values, Values]:
        """Frame, box, mean brightness, sum of squares of the components of `(F, H, W)`, in their order."""
        ndimage = import_scipy("ndimage")
        touching = np.zeros((3, 3, 3), bool)
        touching[1] = True  # within a frame, not from one to the next
        labels, count = ndimage.label(brightness > self.threshold, touching)
        areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
        sums = np.bincount(labels.ravel(), brightness.ravel(), count + 1)[1:]
        energies = np.bincount(labels.ravel(), squares.ravel(), count + 1)[1:].astype(np.float64)
        places = ndimage.find_objects(labels)
        corners = np.array([[[s.start, s.stop] for s in place] for place in places], int).reshape(-1, 3, 2)
        starts, sizes = corners[..., 0], corners[..., 1] - corners[..., 0]
        boxes = np.stack([starts[:, 2], starts[:, 1], sizes[:, 2], sizes[:, 1]], -1).astype(float)
        large = areas >= self.least_area
        return starts[large, 0], boxes[large], sums[large] / areas[large], energies[large]

    def _linked(self, boxes: Tensor, present: Tensor) -> Tensor:
        """Identities `(T, N)` of the boxes of a video."""
        identities = torch.full(present.shape, ABSENT)
        total, before = 0, torch.zeros(0, dtype=torch.int64)
        for t, here in enumerate(present):
            now = here.nonzero().squeeze(-1)
            overlap = iou(boxes[t, now, None], boxes[t - 1, None, before]).numpy()
            known = best_matches(overlap, overlap >= self.least_overlap)
            for number, slot in enumerate(now.tolist()):
                if number in known:
                    identities[t, slot] = identities[t - 1, before[known[number]]]
                else:
                    identities[t, slot] = total
                    total += 1
            before = now
        return identities


def _described(pixels: Tensor) -> str:
    return f"{tuple(pixels.shape)} in [{pixels.min().item()}, {pixels.max().item()}]"
