"""How well objects are followed through videos: CLEAR-MOT, identity measures, and discovery counts.

Everything here is a function of tensors and knows no model. Objects are padded to a fixed number of slots,
a mask tells which slots hold an object, and integers tell which object it is; boxes are `(left, top, width,
height)` in pixels, as in `models.components.boxes`.

The assignment problems are solved by SciPy, which comes with `pip install whatwhere[metrics]`.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ... import checks
from ...models.components.boxes import iou
from .labels import checked_boxes, checked_identities, checked_mask

__all__ = [
    "Discoveries",
    "TrackingCounts",
    "TrackingReport",
    "Tracks",
    "best_matches",
    "discoveries",
    "import_scipy",
    "tracking_counts",
    "tracks_by_slot",
]


_MOSTLY = 5
"""Four of five frames are most."""


class Tracks(NamedTuple):
    """Objects in B videos of T frames, true ones or those a model found, in up to N slots."""

    boxes: Tensor
    """`(B, T, N, 4)`, pixels."""
    present: Tensor
    """`(B, T, N)`, boolean or 0 and 1: which slots hold an object."""
    identities: Tensor
    """`(B, T, N)`, integers: equal ones are the same object, in whichever slots of the frames of one video.
    Ignored where there is no object; no two objects of a frame may have the same.
    """


class TrackingReport(NamedTuple):
    """The measures of tracking; a ratio is NaN where its denominator is 0."""

    mota: float
    """Multiple object tracking accuracy, 1 - (misses + false positives + switches) / true boxes: at most 1,
    and negative where there are more errors than true boxes.
    """
    motp: float
    """Multiple object tracking precision: mean intersection over union of the matched boxes, in [threshold,
    1]. (Bernardin and Stiefelhagen average a distance; with one minus this overlap, it is 1 - `motp`.)
    """
    idf1: float
    """Identity F1: twice the identity matches over the true and predicted boxes together."""
    idp: float
    """Identity precision: identity matches over predicted boxes."""
    idr: float
    """Identity recall: identity matches over true boxes."""
    misses: int
    """True boxes without a match."""
    false_positives: int
    """Predicted boxes without a match."""
    switches: int
    """Matches of a true object with another identity than at its match before."""
    fragmentations: int
    """Times that a true object is missed between two of its matches (for however many frames)."""
    discovered_per_object: float
    """Predicted identities over true objects: 1 for a perfect tracker, more where objects are discovered
    again, or are not there at all.
    """
    mostly_detected: float = math.nan
    """Share of the true objects that are matched in at least 80 % of their frames (MD)."""
    mostly_tracked: float = math.nan
    """Share of those that are so without a switch being counted as a match (MT)."""


@dataclass(frozen=True)
class TrackingCounts:
    """What the measures of tracking are computed from; the counts of parts of a data set can be added.

    Totals over the data set give its measures: a video counts for as much as it has boxes.
    """

    objects: int = 0
    """True boxes in all frames."""
    predictions: int = 0
    """Predicted boxes in all frames."""
    matches: int = 0
    """Pairs of a true and a predicted box, switches included."""
    overlap: float = 0.0
    """Sum of the intersections over union of these pairs."""
    switches: int = 0
    """Matches of a true object with another identity than at its match before."""
    fragmentations: int = 0
    """Times that a true object is missed between two of its matches."""
    identity_matches: int = 0
    """Frames in which true objects overlap the identity that is assigned to them for good (IDTP)."""
    true_tracks: int = 0
    """Different true objects, summed over videos."""
    predicted_tracks: int = 0
    """Different predicted identities, summed over videos."""
    mostly_detected: int = 0
    """True objects that are matched in at least 80 % of their frames."""
    mostly_tracked: int = 0
    """True objects of which that is so where a switch counts for nothing."""

    def __post_init__(self) -> None:
        checks.not_negative(self, *(field.name for field in dataclasses.fields(self)))
        checks.ordered(self, "matches", "objects")
        checks.ordered(self, "matches", "predictions")
        checks.ordered(self, "switches", "matches")
        checks.ordered(self, "identity_matches", "objects")
        checks.ordered(self, "identity_matches", "predictions")
        checks.ordered(self, "true_tracks", "objects")
        checks.ordered(self, "predicted_tracks", "predictions")
        checks.ordered(self, "mostly_tracked", "mostly_detected")
        checks.ordered(self, "mostly_detected", "true_tracks")

    def __add__(self, other: TrackingCounts) -> TrackingCounts:
        if not isinstance(other, TrackingCounts):
            return NotImplemented
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return TrackingCounts(*(mine + theirs for mine, theirs in pairs))

    def report(self) -> TrackingReport:
        """The measures of all that was counted."""
        misses, false_positives = self.objects - self.matches, self.predictions - self.matches
        errors = misses + false_positives + self.switches
        return TrackingReport(
            mota=1 - _ratio(errors, self.objects),
            motp=_ratio(self.overlap, self.matches),
            idf1=_ratio(2 * self.identity_matches, self.objects + self.predictions),
            idp=_ratio(self.identity_matches, self.predictions),
            idr=_ratio(self.identity_matches, self.objects),
            misses=misses,
            false_positives=false_positives,
            switches=self.switches,
            fragmentations=self.fragmentations,
            discovered_per_object=_ratio(self.predicted_tracks, self.true_tracks),
            mostly_detected=_ratio(self.mostly_detected, self.true_tracks),
            mostly_tracked=_ratio(self.mostly_tracked, self.true_tracks),
        )


class Discoveries(NamedTuple):
    """How many objects of each frame are new; the two add up to the number of objects present."""

    discovered: Tensor
    """`(B, T)` int64: objects whose identity was in no frame before."""
    propagated: Tensor
    """`(B, T)` int64: objects whose identity was in some frame before."""


def tracks_by_slot(boxes: Tensor, present: Tensor) -> Tracks:
    """Tracks of objects that keep their slot: the slot's number is the identity.

    Args:
        boxes: `(B, T, N, 4)`, pixels.
        present: `(B, T, N)`, boolean or 0 and 1.
    """
    return Tracks(boxes, present, torch.arange(present.shape[-1], device=present.device).expand_as(present))


def tracking_counts(predicted: Tracks, truth: Tracks, iou_threshold: float = 0.5) -> TrackingCounts:
    r"""Match predicted to true boxes frame by frame, and whole tracks with each other, and count.

    **CLEAR-MOT.** A true and a predicted box may be matched if their intersection over union is at least
    `iou_threshold`. In each frame,

    1. a true object keeps the identity of its latest match, however long ago that was, if that is present
       and may be matched. Where several objects have the same identity as their latest match, it goes to
       the one that had it last. (The definition leaves this open. py-motmetrics takes the first in the list;
       here the order of slots never matters.)
    2. The others are assigned to each other such that as many as possible are matched, and among these
       assignments the total intersection over union is greatest. An object that thereby gets another
       identity than at its latest match is a *switch*.

    So a match once made is kept even where another box fits better. True objects and predictions left over
    are misses and false positives.

    **Identity measures.** In each video every true object is assigned at most one predicted identity for all
    frames, and the other way round, such that the number of frames in which the two may be matched is
    greatest in total; these are the identity matches. This is the assignment of least cost, false positives
    plus misses.

    **Whole tracks.** An object is mostly detected if it is matched in 80 % of the frames in which it is
    present, and mostly tracked if it is without the frames in which it switches.

    A predicted box that is not finite matches nothing.

    Source: Bernardin and Stiefelhagen (2008), Evaluating Multiple Object Tracking Performance: The CLEAR MOT
    Metrics, section 2.1.2; Ristani et al. (2016), Performance Measures and a Data Set for Multi-Target,
    Multi-Camera Tracking, section 2.

    Args:
        predicted: what a model found.
        truth: the true objects in the same frames. Whether an object outside the frame counts as present is
            up to the caller.
        iou_threshold: the least intersection over union of a match, in (0, 1].

    Raises:
        MissingPackageError: if SciPy is not installed.
        ValueError: if shapes do not agree, the threshold is out of range, a mask is not of 0 and 1,
            identities are not integers, one occurs twice in a frame, or a true box is not finite or of
            negative size.
    """
    checks.within("(0, 1]", iou_threshold=iou_threshold)
    import_scipy("optimize")  # raises before the work, not at the first frame that needs it
    found, true = _checked("predicted", predicted), _checked("truth", truth)
    true = true._replace(boxes=checked_boxes("truth.boxes", true.boxes, true.present))
    if found.present.shape[:2] != true.present.shape[:2]:
        raise ValueError(
            "`predicted` and `truth` must be of the same videos and frames (B, T), "
            f"but are of {tuple(found.present.shape[:2])} and {tuple(true.present.shape[:2])}."
        )
    total = TrackingCounts()
    for video in range(len(true.present)):
        mine, theirs = (Tracks(*(x[video] for x in tracks)) for tracks in (found, true))
        total += VideoOverlaps.of(mine, theirs, iou_threshold).counts()
    return total


def discoveries(tracks: Tracks) -> Discoveries:
    """How many objects of each frame appear for the first time, and how many were known.

    A model that never loses an object discovers each once; one that discovers more than there are objects
    loses them and finds them again, see `TrackingReport.discovered_per_object`.

    Raises:
        ValueError: if shapes do not agree, the mask is not of 0 and 1, identities are not integers, or one
            occurs twice in a frame.
    """
    _, present, identities = _checked("tracks", tracks)
    discovered = torch.zeros(present.shape[:2], dtype=torch.int64)
    for video, row in enumerate(discovered):
        known: set[int] = set()
        for frame, (here, names) in enumerate(zip(present[video], identities[video], strict=True)):
            new = set(names[here].tolist()) - known
            row[frame] = len(new)
            known |= new
    return Discoveries(discovered, present.sum(-1) - discovered)


class VideoOverlaps(NamedTuple):
    """One video: true objects are numbered 0 .. I - 1, predicted identities 0 .. J - 1, in all frames."""

    overlap: npt.NDArray[np.float64]
    """Intersection over union `(T, I, J)`, 0 where either is absent."""
    may_match: npt.NDArray[np.bool_]
    """`(T, I, J)`: where both are present and overlap enough."""
    true: npt.NDArray[np.bool_]
    """Which objects are present, `(T, I)`."""
    found: npt.NDArray[np.bool_]
    """Which identities are present, `(T, J)`."""

    @classmethod
    def of(cls, found: Tracks, true: Tracks, iou_threshold: float) -> VideoOverlaps:
        overlap = iou(true.boxes.unsqueeze(-2), found.boxes.unsqueeze(-3)).numpy()  # (T, G, N)
        rows, columns = _numbered(true), _numbered(found)
        frames, objects, identities = len(overlap), rows.max(initial=-1) + 1, columns.max(initial=-1) + 1
        by_track = np.zeros((frames, objects, identities))
        frame, row, column = np.nonzero((rows >= 0)[:, :, None] & (columns >= 0)[:, None])
        by_track[frame, rows[frame, row], columns[frame, column]] = overlap[frame, row, column]
        return cls(
            by_track, by_track >= iou_threshold, _occupied(rows, objects), _occupied(columns, identities)
        )

    def counts(self) -> TrackingCounts:
        """What there is in this video."""
        matches, switches, fragmentations, overlap = 0, 0, 0, 0.0
        detected, kept = np.zeros((2, self.true.shape[1]), np.int64)  # frames of each object
        identity: dict[int, int] = {}  # of each object at its latest match
        missed: set[int] = set()  # since its latest match
        for frame, pairs in enumerate(self._frames()):
            matches += len(pairs)
            overlap += sum(self.overlap[frame, i, j] for i, j in pairs.items())
            switched = [i for i, j in pairs.items() if identity.get(i, j) != j]
            switches += len(switched)
            detected[list(pairs)] += 1
            kept[list(pairs.keys() - switched)] += 1
            fragmentations += len(missed & pairs.keys())
            missed -= pairs.keys()
            identity |= pairs
            missed |= identity.keys() & set(np.flatnonzero(self.true[frame]).tolist()) - pairs.keys()
        _, objects = self.true.shape
        _, identities = self.found.shape
        return TrackingCounts(
            objects=int(self.true.sum()),
            predictions=int(self.found.sum()),
            matches=matches,
            overlap=float(overlap),
            switches=switches,
            fragmentations=fragmentations,
            identity_matches=_identity_matches(self.may_match),
            true_tracks=objects,
            predicted_tracks=identities,
            mostly_detected=int((_MOSTLY * detected >= (_MOSTLY - 1) * self.true.sum(0)).sum()),
            mostly_tracked=int((_MOSTLY * kept >= (_MOSTLY - 1) * self.true.sum(0)).sum()),
        )

    def _frames(self) -> Iterator[dict[int, int]]:
        """The identity that each object is matched with, frame by frame."""
        latest: dict[int, int] = {}  # identity of each object, those that were matched last at the end
        for overlap, may_match in zip(self.overlap, self.may_match, strict=True):
            pairs: dict[int, int] = {}
            taken: set[int] = set()
            for i, j in reversed(latest.items()):
                if may_match[i, j] and j not in taken:
                    pairs[i] = j
                    taken.add(j)
            free = may_match.copy()
            free[list(pairs)] = False
            free[:, list(taken)] = False
            pairs |= best_matches(overlap, free)
            for i, j in pairs.items():
                latest.pop(i, None)
                latest[i] = j
            yield pairs


def best_matches(overlap: npt.NDArray[np.float64], may_match: npt.NDArray[np.bool_]) -> dict[int, int]:
    """As many pairs of a row and a column as possible, and among these the greatest total overlap.

    Args:
        overlap: `(I, J)`, in [0, 1].
        may_match: which may be a pair, `(I, J)`.

    Returns:
        The column by row.
    """
    rows, columns = np.flatnonzero(may_match.any(1)), np.flatnonzero(may_match.any(0))
    if not rows.size:
        return {}
    allowed = may_match[np.ix_(rows, columns)]
    # A further pair is worth more than all overlap that can be lost for it.
    gain = np.where(allowed, min(allowed.shape) + overlap[np.ix_(rows, columns)], 0)
    return {int(rows[i]): int(columns[j]) for i, j in _assignment(gain) if allowed[i, j]}


def _identity_matches(may_match: npt.NDArray[np.bool_]) -> int:
    frames = may_match.sum(0)
    return int(sum(frames[i, j] for i, j in _assignment(frames)))


def _assignment(gain: npt.NDArray[Any]) -> list[tuple[int, int]]:
    """Pairs of a row and a column, each at most once, of the greatest total gain."""
    if gain.size == 0:
        return []
    if 1 in gain.shape:
        where = np.unravel_index(gain.argmax(), gain.shape)
        return [(int(where[0]), int(where[1]))]
    rows, columns = import_scipy("optimize").linear_sum_assignment(gain, maximize=True)
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


def import_scipy(part: str) -> Any:
    """A part of SciPy, which need not be installed.

    Raises:
        MissingPackageError: if it is not.
    """
    try:
        return importlib.import_module(f"scipy.{part}")
    except ImportError as error:
        raise checks.MissingPackageError(
            "tracking of several objects needs SciPy: pip install 'whatwhere[metrics]'."
        ) from error


def _numbered(tracks: Tracks) -> npt.NDArray[np.int64]:
    """Number of each object of a video in the order of identities `(T, N)`; -1 where there is none."""
    here = tracks.present.numpy()
    numbers = np.full(here.shape, -1, dtype=np.int64)
    numbers[here] = np.unique(tracks.identities.numpy()[here], return_inverse=True)[1]
    return numbers


def _occupied(numbers: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.bool_]:
    occupied = np.zeros((len(numbers), size), dtype=bool)
    frame, slot = np.nonzero(numbers >= 0)
    occupied[frame, numbers[frame, slot]] = True
    return occupied


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else math.nan


def _checked(name: str, tracks: Tracks) -> Tracks:
    """The tracks on the CPU: boxes in double precision, the mask as booleans."""
    boxes, present, identities = (x.detach().cpu() for x in tracks)
    if present.ndim != 3 or identities.shape != present.shape or boxes.shape != (*present.shape, 4):
        raise ValueError(
            f"`{name}` must hold boxes (B, T, N, 4), and presence and identities (B, T, N), "
            f"but got the shapes {[tuple(x.shape) for x in tracks]}."
        )
    here = checked_mask(f"{name}.present", present)
    identities = checked_identities(f"{name}.identities", identities)
    _check_distinct(name, here, identities)
    return Tracks(boxes.double(), here, identities)


def _check_distinct(name: str, here: Tensor, identities: Tensor) -> None:
    same = (identities.unsqueeze(-1) == identities.unsqueeze(-2)) & here.unsqueeze(-1) & here.unsqueeze(-2)
    twice = same.tril(-1).any(-1)
    if twice.any():
        video, frame, slot = twice.nonzero()[0].tolist()
        raise ValueError(
            f"`{name}.identities` must differ within a frame, "
            f"but {identities[video, frame, slot].item()} is twice in frame {frame} of video {video}."
        )
