"""Held-out evaluation of trackers of one object: overlap with its true box, frame by frame.

Works with any tracker that is called with videos and the true boxes in their first frames, and returns
something with `boxes`, as `models.RATM` does.

The measures are those of `overlaps`, and distances of middles that are averaged in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ...models.components.boxes import iou, middles
from ..local_parameters import local_parameters
from .labels import check_filled, check_shape, checked_identities, checked_mask
from .overlaps import SUCCESS_THRESHOLDS, Floats, Overlaps, nan_mean, nan_means, success_curve
from .report_file import json_ready
from .tracker_baselines import constant_velocity_boxes, previous_boxes, static_boxes

__all__ = [
    "PRECISION_PIXELS",
    "Clips",
    "Tracker",
    "TrackerReport",
    "evaluate_tracker",
    "spread_frames",
]

PRECISION_PIXELS = 20.0
"""A box whose middle is this near to the true one's, in pixels, is precise."""

_NUMBERS = (
    "clips",
    "frames",
    "iou",
    "iou_without_first",
    "iou_last",
    "pooled_iou",
    "iou_over_time",
    "iou_by_frame",
    "clips_by_frame",
    "auc",
    "success_rate",
    "success",
    "centre_error",
    "median_centre_error",
    "precision",
)
"""What `TrackerReport.numbers` takes over as it is."""


class Clips(NamedTuple):
    """Videos in which one object is to be tracked, of one length; shorter ones are padded."""

    video: Tensor
    """`(B, T, C, H, W)`, as the tracker takes it."""
    boxes: Tensor
    """The object's true boxes `(B, T, 4)`, `(left, top, width, height)` in pixels."""
    mask: Tensor | None = None
    """In which frames the object is there, `(B, T)`, boolean or 0 and 1; all by default. It must be there in
    the first. What `boxes` are in the others does not matter."""
    groups: Tensor | None = None
    """What each clip belongs to, `(B,)` integers; the person who is seen, for one."""


class HasBoxes(Protocol):
    """What a tracker returns, as far as this evaluation looks at it."""

    @property
    def boxes(self) -> Tensor:
        """Predicted boxes `(B, T, 4)`, `(left, top, width, height)` in pixels."""


class Tracker(Protocol):
    """Follows one object through each video."""

    def __call__(self, video: Tensor, first_box: Tensor, /) -> HasBoxes:
        """Boxes in all frames of videos `(B, T, C, H, W)`, from the true boxes `(B, 4)` in the first."""


@dataclass(frozen=True, eq=False)
class TrackerReport:
    """How well M clips were tracked, beside trackers that need no model.

    Two of these are oracles, which are told the true boxes of earlier frames: a model without access to
    the present frame need not reach them.
    """

    overlaps: Overlaps
    """Of the tracker."""
    static: Overlaps
    """Of the first true box, for ever."""
    previous: Overlaps
    """Of the true box before, an oracle; the first box in the first frame."""
    constant_velocity: Overlaps
    """Of the two true boxes before, continued in a straight line, an oracle; see
    `constant_velocity_boxes`."""
    centre_errors: Floats
    """Distances of the middles of predicted and true boxes in pixels, `(M, T)`; infinite where the
    prediction is not finite, NaN as in `overlaps`."""
    groups: npt.NDArray[np.int64] | None = None
    """What each clip belongs to, `(M,)`."""

    def __post_init__(self) -> None:
        there = ~np.isnan(self.overlaps.by_clip)
        for name in ("static", "previous", "constant_velocity"):
            _require_alike(name, ~np.isnan(getattr(self, name).by_clip), there)
        _require_alike("centre_errors", ~np.isnan(self.centre_errors), there)
        if self.groups is not None and self.groups.shape != there.shape[:1]:
            raise ValueError(f"`groups` must be of {len(there)} clips, but have shape {self.groups.shape}.")

    @classmethod
    def joined(cls, reports: Sequence[TrackerReport]) -> TrackerReport:
        """The report on the clips of all reports, for instance those of the folds of a cross-validation.

        Raises:
            ValueError: if there is none, or some have groups and others none.
        """
        return _report(
            [
                _Measured(
                    (
                        report.overlaps.by_clip,
                        report.static.by_clip,
                        report.previous.by_clip,
                        report.constant_velocity.by_clip,
                    ),
                    report.centre_errors,
                    report.groups,
                )
                for report in reports
            ]
        )

    @property
    def clips(self) -> int:
        """M, the number of clips."""
        return len(self.centre_errors)

    @property
    def clip_frames(self) -> npt.NDArray[np.int64]:
        """Number of frames of each clip in which the object is there, `(M,)`."""
        return (~np.isnan(self.centre_errors)).sum(1)

    @property
    def frames(self) -> int:
        """Number of frames of all clips in which the object is there."""
        return int(self.clip_frames.sum())

    @property
    def iou(self) -> float:
        """Mean intersection over union over the frames of a clip, the first included, then over clips."""
        return self.overlaps.mean

    @property
    def iou_without_first(self) -> float:
        """The same without the first frame."""
        return self.overlaps.without_first

    @property
    def iou_last(self) -> float:
        """Intersection over union in the last frame in which the object is there."""
        return self.overlaps.last

    @property
    def pooled_iou(self) -> float:
        """Mean over all frames of all clips at once."""
        return self.overlaps.pooled

    @property
    def iou_over_time(self) -> float:
        """Mean over time of the means over clips, see `Overlaps.over_time`."""
        return self.overlaps.over_time

    @property
    def iou_by_frame(self) -> Floats:
        """Mean over the clips that have frame t, `(T,)`."""
        return self.overlaps.by_frame

    @property
    def clips_by_frame(self) -> npt.NDArray[np.int64]:
        """How many clips have frame t, `(T,)`."""
        return self.overlaps.clips_by_frame

    @property
    def success(self) -> Floats:
        """Share of a clip's frames whose overlap is above each of `SUCCESS_THRESHOLDS`."""
        return self.overlaps.success

    @property
    def success_rate(self) -> float:
        """Share of a clip's frames whose overlap is above one half."""
        return float(success_curve(self.overlaps.by_clip, [0.5])[0])

    @property
    def auc(self) -> float:
        """Mean of `success` over the thresholds, see `Overlaps.auc`."""
        return self.overlaps.auc

    @property
    def centre_error(self) -> float:
        """Mean distance of middles in pixels."""
        return nan_mean(nan_means(self.centre_errors, 1))

    @property
    def median_centre_error(self) -> float:
        """Median distance of middles over all frames of all clips at once, in pixels."""
        return float(np.median(self.centre_errors[~np.isnan(self.centre_errors)]))

    @property
    def precision(self) -> float:
        """Share of a clip's frames in which the middles are at most `PRECISION_PIXELS` apart."""
        near = np.where(np.isnan(self.centre_errors), np.nan, self.centre_errors <= PRECISION_PIXELS)
        return nan_mean(nan_means(near, 1))

    @property
    def static_iou(self) -> float:
        """`iou` of the first true box, for ever."""
        return self.static.mean

    @property
    def previous_iou(self) -> float:
        """`iou` of the true box before."""
        return self.previous.mean

    @property
    def constant_velocity_iou(self) -> float:
        """`iou` of the two true boxes before, continued."""
        return self.constant_velocity.mean

    @property
    def iou_by_group(self) -> dict[int, float]:
        """`iou` of the clips of each group, in the order of the labels; empty without groups."""
        if self.groups is None:
            return {}
        means = self.overlaps.clip_means
        return {int(group): nan_mean(means[self.groups == group]) for group in np.unique(self.groups)}

    @property
    def group_mean_iou(self) -> float | None:
        """Mean of `iou_by_group` over groups, whatever their sizes; None without groups."""
        return None if self.groups is None else nan_mean(np.array(list(self.iou_by_group.values())))

    def curves(self, name: str) -> dict[str, Overlaps]:
        """The tracker, under `name`, and what it is compared with, for plots."""
        return {
            name: self.overlaps,
            "first box kept": self.static,
            "true box before": self.previous,
            "constant velocity": self.constant_velocity,
        }

    def numbers(self) -> dict[str, Any]:
        """The report as nested primitives, for JSON; what is not finite becomes None.

        Overlaps of single clips are left out.
        """
        numbers: dict[str, Any] = {name: getattr(self, name) for name in _NUMBERS}
        for name in ("static", "previous", "constant_velocity"):
            overlaps: Overlaps = getattr(self, name)
            numbers[f"{name}_iou"] = overlaps.mean
            numbers[f"{name}_iou_without_first"] = overlaps.without_first
        numbers["success_thresholds"] = list(SUCCESS_THRESHOLDS)
        if self.groups is not None:
            numbers["iou_by_group"] = {str(group): value for group, value in self.iou_by_group.items()}
            numbers["group_mean_iou"] = self.group_mean_iou
        return {name: json_ready(value) for name, value in numbers.items()}

    def __str__(self) -> str:
        """The numbers that matter most, in lines for a terminal."""
        frames = len(self.iou_by_frame)
        least, most = self.clip_frames.min(), self.clip_frames.max()
        by_frame = " ".join(f"{t}: {self.iou_by_frame[t]:.3f}" for t in spread_frames(frames, 9))
        lines = [
            f"held-out clips   {self.clips} of {most if least == most else f'{least} to {most}'} frames",
            f"IoU              {self.iou:.3f}  (without first frame {self.iou_without_first:.3f}, "
            f"last frame {self.iou_last:.3f}, all frames at once {self.pooled_iou:.3f})",
            f"... by frame     {by_frame}",
            f"success          AUC {self.auc:.3f}, IoU above 0.5 in {self.success_rate:.1%} of frames",
            f"centre error     {self.centre_error:.2f} px, median {self.median_centre_error:.2f} px, "
            f"within {PRECISION_PIXELS:g} px in {self.precision:.1%} of frames",
            f"IoU to compare   {self.static_iou:.3f} first box kept, "
            f"{self.previous_iou:.3f} true box before, {self.constant_velocity_iou:.3f} constant velocity",
        ]
        if self.groups is not None:
            each = " ".join(f"{group}: {value:.3f}" for group, value in self.iou_by_group.items())
            lines += [
                f"IoU of groups    {self.group_mean_iou:.3f}, mean of {len(self.iou_by_group)}",
                f"... by group     {each}",
            ]
        return "\n".join(lines)


@torch.no_grad()
def evaluate_tracker(tracker: Tracker, data: Iterable[Clips]) -> TrackerReport:
    """Track all clips and compare with the truth.

    Boxes are compared as they are, not cut off at the border of the frame. A predicted box that is not finite
    or has a negative side overlaps nothing. How clips are batched and padded makes no difference.

    Args:
        tracker: see `Tracker`. It is left in the mode it is in, training or evaluation; a module gets the
            clips on its device.
        data: batches, which may differ in length.

    Raises:
        ValueError: if there are no clips, shapes do not agree, some batches have groups and others none, the
            object is not in the first frame, or a true box is not finite or has no area.
    """
    parts: list[_Measured] = []
    call: Callable[..., Any] = tracker
    device = None
    if isinstance(tracker, nn.Module):
        # Without Pyro's own call, reading a parameter is no statement.
        call = partial(nn.Module.__call__, tracker)
        device = next((parameter.device for parameter in tracker.parameters()), None)
    with local_parameters(tracker):
        for clips in data:
            present = _present(clips)
            boxes: Tensor = call(clips.video.to(device), clips.boxes[:, 0].to(device)).boxes
            if boxes.shape != clips.boxes.shape:
                raise ValueError(
                    f"`tracker` must return `boxes` of shape {tuple(clips.boxes.shape)}, "
                    f"but got {tuple(boxes.shape)}."
                )
            parts.append(_measured(boxes, clips, present))
    return _report(parts)


def spread_frames(length: int, count: int) -> list[int]:
    """At most `count` of `length` frames, evenly spread from the first to the last."""
    return [round(place) for place in np.linspace(0, length - 1, min(length, count))]


class _Measured(NamedTuple):
    """What is kept of a batch, with NaN where there is no true box."""

    overlaps: tuple[Floats, ...]
    """Of the tracker and what it is compared with, `(B, T)` each."""
    centre_errors: Floats
    """`(B, T)`."""
    groups: npt.NDArray[np.int64] | None
    """`(B,)`."""


def _measured(predicted: Tensor, clips: Clips, present: Tensor) -> _Measured:
    found, true = predicted.cpu().double(), clips.boxes.cpu().double()
    compared = (
        found,
        static_boxes(true),
        previous_boxes(true, present),
        constant_velocity_boxes(true, present),
    )
    distances = torch.linalg.vector_norm(middles(found) - middles(true), dim=-1)
    distances = torch.where(found.isfinite().all(-1), distances, torch.inf)
    overlaps, errors = (
        tuple(torch.where(present, values, torch.nan).numpy() for values in group)
        for group in ([iou(boxes, true) for boxes in compared], [distances])
    )
    return _Measured(overlaps, errors[0], None if clips.groups is None else clips.groups.cpu().long().numpy())


def _report(parts: Sequence[_Measured]) -> TrackerReport:
    if not parts:
        raise ValueError("`data` has no clips.")
    labelled = [part.groups for part in parts if part.groups is not None]
    if len(labelled) not in (0, len(parts)):
        raise ValueError(
            f"`groups` must be given for all batches or for none, but {len(labelled)} of {len(parts)} have "
            "them."
        )
    columns = zip(*(part.overlaps for part in parts), strict=True)
    overlaps, static, previous, constant_velocity = (Overlaps(_joined(column)) for column in columns)
    return TrackerReport(
        overlaps,
        static,
        previous,
        constant_velocity,
        centre_errors=_joined([part.centre_errors for part in parts]),
        groups=np.concatenate(labelled) if labelled else None,
    )


def _require_alike(name: str, there: npt.NDArray[np.bool_], expected: npt.NDArray[np.bool_]) -> None:
    if there.shape != expected.shape or (there != expected).any():
        raise ValueError(
            f"`{name}` must be of the {expected.sum()} frames {expected.shape} of `overlaps`, "
            f"but are of {there.sum()} frames {there.shape}."
        )


def _joined(parts: Sequence[Floats]) -> Floats:
    """Rows of arrays `(B, T)` below one another, to the last column in which there is a number."""
    lengths = [int(np.flatnonzero((~np.isnan(part)).any(0)).max(initial=-1)) + 1 for part in parts]
    joined = np.full((sum(map(len, parts)), max(lengths)), np.nan)
    start = 0
    for part, length in zip(parts, lengths, strict=True):
        joined[start : start + len(part), :length] = part[:, :length]
        start += len(part)
    return joined


def _present(clips: Clips) -> Tensor:
    """In which frames the object is there, boolean, on the CPU; an error if clips cannot be evaluated."""
    video, boxes, mask, groups = clips
    frames = video.shape[:2]
    check_filled("video", video, "(B, T, C, H, W)")
    check_shape("boxes", boxes, *frames, 4)
    check_shape("mask", mask, *frames)
    check_shape("groups", groups, frames[0])
    if groups is not None:
        checked_identities("groups", groups)
    present = torch.ones(frames, dtype=torch.bool) if mask is None else checked_mask("mask", mask)
    if not present[:, :1].all():
        clip = int((~present[:, 0]).nonzero()[0])
        raise ValueError(f"`mask` must be true in the first frame, but is not in that of clip {clip}.")
    wrong = present & ~(boxes.isfinite().all(-1) & (boxes[..., 2:] > 0).all(-1)).cpu()
    if wrong.any():
        clip, frame = wrong.nonzero()[0].tolist()
        raise ValueError(
            "`boxes` must be finite and of positive width and height where the object is there, "
            f"but that of clip {clip} in frame {frame} is {boxes[clip, frame].tolist()}."
        )
    return present
