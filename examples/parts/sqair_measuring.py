"""How good the tracks of a user's videos are where boxes are known, beside what needs no training."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from whatwhere.checks import MissingPackageError
from whatwhere.datasets import Frames, visible_objects
from whatwhere.examples.common.recorded import RecordedConfig, objects_of
from whatwhere.inference.evaluation import (
    ConnectedComponents,
    CountReport,
    Encounters,
    TrackingCounts,
    TrackingReport,
    TrackLinker,
    Tracks,
    count_report,
    tracking_counts,
)


class TrackReport(NamedTuple):
    """How well the objects of videos were found and followed, all frames together."""

    frames: int
    """How many are labelled."""
    counting: CountReport
    """Against the number of objects of which enough is in the frame, see `VideoWindows`."""
    tracking: TrackingReport | None
    """Of boxes, as far as they are in the frame, and identities; None where SciPy is missing."""
    iou_threshold: float
    """The least intersection over union of a match of `tracking`."""


def known_tracks(data: RecordedConfig, table: Path | None, path: Path, frames: Frames) -> Tracks | None:
    """The objects of a video, `(1, T, M)`, in pixels of the frames as they are given.

    Args:
        data: how frames are read.
        table: of boxes; by default that beside the video, or the labels of a data set.
        path: of the videos.
        frames: the video.

    Returns:
        None where nothing tells.

    Raises:
        DataError: if the table cannot be read, or has boxes in frames that the video has not.
    """
    objects = objects_of(replace(data, boxes=None if table is None else str(table)), str(path), frames)
    if objects is None:
        return None
    shown = [list(visible_objects(objects.get(t, {}), frames.size)) for t in range(frames.count())]
    most = max(map(len, shown), default=0)
    boxes = np.zeros((len(shown), most, 4), np.float32)
    identities = np.full((len(shown), most), -1)
    numbers: dict[str, int] = {}
    for t, found in enumerate(shown):
        for slot, (name, box, _) in enumerate(found):
            boxes[t, slot], identities[t, slot] = box, numbers.setdefault(name, len(numbers))
    return Tracks(*(torch.from_numpy(x)[None] for x in (boxes, identities >= 0, identities)))


def part_of(tracks: Tracks, start: int, stop: int) -> Tracks:
    """Some frames of tracks `(B, T, M)`."""
    return Tracks(*(field[:, start:stop] for field in tracks))


def report_of(found: Sequence[Tracks], known: Sequence[Tracks], iou_threshold: float) -> TrackReport:
    """Compare what was found in some videos, at least one, with what is known."""
    numbers, wanted = (
        torch.cat([video.present.sum(-1).flatten().cpu() for video in videos]) for videos in (found, known)
    )
    tracking = None
    with suppress(MissingPackageError):
        parts = (tracking_counts(*pair, iou_threshold) for pair in zip(found, known, strict=True))
        tracking = sum(parts, TrackingCounts()).report()
    return TrackReport(len(wanted), count_report(numbers, wanted, 0), tracking, iou_threshold)


class Naming:
    """Names the objects of a video, which may come part by part.

    Args:
        patience: frames for which a `TrackLinker` remembers what was lost; `Encounters`, by which those who
            met are told apart, do so twice as long. With 0 all that is found anew is another object.
    """

    def __init__(self, patience: int) -> None:
        self._linker = TrackLinker(patience)
        self._encounters = Encounters(patience=2 * patience) if patience else None

    def __call__(
        self, tracks: Tracks, frames: npt.NDArray[np.uint8], boxes: torch.Tensor | None = None
    ) -> Tracks:
        """The tracks `(T, N)` of the next part, with names for identities.

        Args:
            tracks: what was found.
            frames: `(T, C, H, W)`, in which objects are looked at.
            boxes: where they are in these, if pixels of the tracks are others.
        """
        linked = self._linker(tracks)
        if self._encounters is None:
            return linked
        seen = linked if boxes is None else linked._replace(boxes=boxes)
        return linked._replace(identities=self._encounters(seen, frames).identities)


def found_components(components: ConnectedComponents, frames: Frames, patience: int = 0) -> Tracks:
    """What connected components find in a video, all of which is in memory for that.

    Args:
        components: they.
        frames: the video.
        patience: of `Naming`.
    """
    video = np.concatenate(list(frames.blocks()))
    found = components(torch.from_numpy(video)[None].float() / 255).tracks
    named = Naming(patience)(Tracks(*(x[0] for x in found)), video)
    return Tracks(*(x[None] for x in named))


def print_measures(name: str, report: TrackReport) -> None:
    """The numbers that matter most."""
    print(f"{name}: {report.frames} labelled frames, an overlap of {report.iou_threshold:g} is a match")
    print(f"  count accuracy {report.counting.accuracy:.2%}")
    if report.tracking is not None:
        tracking = report.tracking
        print(f"  MOTA, IDF1     {tracking.mota:.3f}, {tracking.idf1:.3f}; {tracking.switches} switches")
