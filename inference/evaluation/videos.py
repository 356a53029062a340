"""Held-out evaluation of models of videos: likelihood, counting, discovery and tracking.

Works with any model and guide that say what `models.SQAIR` and `guides.SQAIRGuide` say: their statements tell
their frame (`objectives.frame_weights.frame_of`), and the model returns for each frame its `slots`
(`TrackedSlots`), the numbers `propagated` and `discovered`, and the `canvas`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...checks import MissingPackageError, at_least, not_negative, within
from ...models.components.boxes import boxes_inside
from ...models.components.slots import TrackedSlots
from ..local_parameters import local_parameters
from ..objectives.base import Program
from ..objectives.frame_weights import FrameLogWeights, frame_log_weights
from .labels import check_filled, check_shape, checked_boxes, checked_counts, checked_mask, settled
from .likelihood import (
    LikelihoodReport,
    likelihood_report,
    log_marginal_of_videos,
    weight_shares,
    weighted_parts,
)
from .metrics import count_report
from .segment_metrics import segment_tracking_counts
from .tracking_metrics import TrackingCounts, TrackingReport, Tracks, tracking_counts, tracks_by_slot

FindBoxes = Callable[[TrackedSlots], Tensor]
"""Boxes around each object of slots `(..., N, .)`, as far as they are in the frame, `(..., N, 4)`; zeros
where nothing is.
"""
FindSegments = Callable[[TrackedSlots], Tensor]
"""The slot whose object is seen at each pixel, `(..., H, W)`, int64; -1 where there is none."""


class Videos(NamedTuple):
    """Videos and what is known about them; M objects."""

    video: Tensor
    """`(B, T, C, H, W)` in [0, 1]."""
    counts: Tensor | None = None
    """Number of objects in each frame, those out of sight included, `(B, T)`."""
    visible_counts: Tensor | None = None
    """Number of objects of which something is to be seen, `(B, T)`."""
    boxes: Tensor | None = None
    """`(B, T, M, 4)`, `(left, top, width, height)` in pixels; a slot of M is an identity. Zero width where
    there is no object."""
    present: Tensor | None = None
    """Which of `boxes` are to be found, `(B, T, M)`, boolean or 0 and 1: those of objects of which something
    is to be seen. By default those that reach into the frame."""
    segments: Tensor | None = None
    """1 + the number of the object that is seen at each pixel, `(B, T, H, W)`, 0 for none."""


class VideoCountReport(NamedTuple):
    """How often the number of objects in a frame is right, and how it is wrong."""

    accuracy: float
    """Fraction of frames whose count, in one posterior sample, is right."""
    confusion: list[list[int]]
    """`confusion[t][p]` frames have `t` objects and were said to have `p`; square."""
    frame_accuracy: list[float]
    """Accuracy in each of the T frames."""
    weighted_accuracy: float
    """Accuracy of K posterior samples, averaged with the importance weights of their videos."""


@dataclass(frozen=True, kw_only=True)
class VideoReport(LikelihoodReport):
    """Held-out numbers of a model of videos of objects: those of its likelihood, and what it found."""

    counting: VideoCountReport | None
    """Against the number of objects."""
    visible_counting: VideoCountReport | None
    """Against the number of objects of which something is to be seen."""
    propagated: list[float]
    """Objects that come from the frame before, in each of T frames of one posterior sample."""
    discovered: list[float]
    """Objects that are new, in each of T frames of one posterior sample."""
    discoveries_per_object_after_first: float | None
    """Discovered objects over true ones, both summed over all frames but the first. Where no object appears
    after the first frame, it counts objects that were lost or overlooked; NaN without a second frame."""
    tracking: TrackingReport | None
    """Of the boxes around the drawn objects of one posterior sample. None also where SciPy is missing."""
    segmentation: TrackingReport | None = None
    """Of the pixels in which objects are seen, from frame `segmented_from` on, see `segment_tracking_counts`.
    """
    segmented_from: int = 0
    """The first frame of `segmentation`, from 0."""
    iou_threshold: float = 0.5
    """The least intersection over union of a match of `tracking` and of `segmentation`."""


class CountMonitor(NamedTuple):
    """What is worth watching during training, of one posterior sample a video."""

    count_accuracy: float
    """Fraction of frames whose number of objects is right."""
    propagated: float
    """Objects that come from the frame before, per frame after the first; NaN without one."""
    discovered: float
    """Objects that are new, per frame after the first; NaN without one."""
    bound_per_frame: float
    """Evidence lower bound of a frame, the mean over all, in nats."""


class _Particles(NamedTuple):
    """K posterior samples of each of B videos; "the first" is one posterior sample a video."""

    weights: FrameLogWeights
    """`(T, K, B)`."""
    counts: Tensor
    """Number of objects, `(T, K, B)`."""
    slots: list[TrackedSlots]
    """The objects in each of T frames, of the first, `(B, N, .)`."""
    propagated: Tensor
    """Objects from the frame before, of the first, `(T, B)`."""
    discovered: Tensor
    """New objects, of the first, `(T, B)`."""


class _Measured(NamedTuple):
    """What is kept of a batch, or of all: tensors on the CPU, with the videos on the last axis."""

    log_weight: Tensor
    """`(T, K, B)`."""
    log_likelihood: Tensor
    """`(T, K, B)`."""
    counts: Tensor
    """`(T, K, B)`."""
    propagated: Tensor
    """`(T, B)`."""
    discovered: Tensor
    """`(T, B)`."""
    true_counts: Tensor | None
    """`(T, B)`."""
    true_visible_counts: Tensor | None
    """`(T, B)`."""
    log_marginal: Tensor
    """Of the first videos."""
    tracking: TrackingCounts | None
    """Boxes matched with true ones."""
    segmentation: TrackingCounts | None
    """Pixels matched with true ones."""


@torch.no_grad()
def infer_video(model: Program, guide: Program, video: Tensor, particles: int = 1) -> list[Any]:
    """Find the objects of videos: a posterior sample of each, the one of greatest weight among several.

    Args:
        model: as `models.SQAIR`.
        guide: as `guides.SQAIRGuide`.
        video: `(B, T, C, H, W)` in [0, 1].
        particles: number of samples to choose from.

    Returns:
        the frames that the model returns, without an axis of particles.

    Raises:
        ValueError: if there is no video or frame, or no particle.
        NonFiniteError: if a weight is NaN or infinite.
    """
    at_least(1, particles=particles)
    check_filled("video", video, "(B, T, C, H, W)")
    with local_parameters(model, guide):
        weights, frames = _draw_chunk(model, guide, video, particles)
    best = settled("log_weight", weights.log_weight.sum(0)).argmax(0)  # (B,)
    return [of_particle(frame, best, particles) for frame in frames]


@torch.no_grad()
def count_accuracy_of_videos(model: Program, guide: Program, data: Iterable[Videos]) -> CountMonitor:
    """How well objects are counted and kept, from one posterior sample a video: cheap.

    Args:
        model: as `models.SQAIR`.
        guide: as `guides.SQAIRGuide`.
        data: batches of videos of one length, with `counts`.

    Raises:
        ValueError: if there are no videos, they have no true counts, or batches differ in length.
        NonFiniteError: if a weight is NaN or infinite.
    """
    hits, propagated, discovered, bounds = [], [], [], []
    for batch in _checked(data):
        if batch.counts is None:
            raise ValueError("`data` has no true counts.")
        with local_parameters(model, guide):
            weights, drawn = _draw_chunk(model, guide, batch.video, 1)
        frames = [of_particle(frame, torch.zeros(len(batch.video), dtype=torch.int64), 1) for frame in drawn]
        counts = torch.stack([_counts(frame) for frame in frames], dim=-1)
        hits.append((counts == batch.counts).cpu())
        propagated.append(torch.stack([frame.propagated for frame in frames])[1:].cpu())
        discovered.append(torch.stack([frame.discovered for frame in frames])[1:].cpu())
        total = settled("log_weight", weights.log_weight.sum(0)[0])  # (B,)
        bounds.append(total.cpu() / len(frames))
    return CountMonitor(
        _mean(torch.cat(hits)),
        _mean(torch.cat(propagated, dim=-1)),
        _mean(torch.cat(discovered, dim=-1)),
        _mean(torch.cat(bounds)),
    )


@torch.no_grad()
def evaluate_videos(
    model: Program,
    guide: Program,
    data: Iterable[Videos],
    *,
    find_boxes: FindBoxes,
    find_segments: FindSegments | None = None,
    particles: int = 5,
    iwae_particles: int = 100,
    iwae_videos: int | None = None,
    chunk_size: int = 10,
    independent_frames: bool = False,
    iou_threshold: float = 0.5,
    segmented_from: int = 0,
) -> VideoReport:
    """Evaluate a model and guide on held-out videos.

    For tracking, boxes end at the border of the frame, the true ones as those around drawn objects: each is a
    part of the box of the whole object. An object
    that is entirely outside is not present: it need not be found, and to have it there is no mistake.

    Args:
        model: as `models.SQAIR`.
        guide: as `guides.SQAIRGuide`.
        data: batches of videos of one length, with the same labels; memory is bounded by one of them times
            `chunk_size`.
        find_boxes: boxes around drawn objects, `model.decoder.boxes`.
        find_segments: pixels of drawn objects, `model.decoder.segments`; without it there is no
            `segmentation`.
        particles: K.
        iwae_particles: particles of `VideoReport.log_marginal`.
        iwae_videos: number of videos for it, the first ones, by default all; with many particles it takes
            most of the time.
        chunk_size: particles that are held in memory at a time.
        independent_frames: whether frames are independent in model and guide, see
            `likelihood.evaluate_likelihood`.
        iou_threshold: see `VideoReport.iou_threshold`; a small one where objects are of few pixels.
        segmented_from: see `VideoReport.segmented_from`; 2 in the benchmark of Weis et al.

    Raises:
        ValueError: if there are no videos or frames, batches differ in length or labels, labels do not fit
            the videos or cannot be true, or a number is not positive.
        NonFiniteError: if a log-weight is NaN or infinite; minus infinity counts as it is.
        ObjectiveError: if model and guide do not fit together, or a statement does not tell its frame.
    """
    at_least(
        1,
        particles=particles,
        iwae_particles=iwae_particles,
        iwae_videos=iwae_videos,
        chunk_size=chunk_size,
    )
    within("(0, 1]", iou_threshold=iou_threshold)
    not_negative(segmented_from=segmented_from)
    parts: list[_Measured] = []
    slots, left = 0, sys.maxsize if iwae_videos is None else iwae_videos
    with local_parameters(model, guide):
        for batch in _checked(data):
            drawn = _draw(model, guide, batch.video, particles, chunk_size)
            slots = drawn.slots[0].z_pres.shape[-1]
            first = batch.video[:left]
            left -= len(first)
            estimate = drawn.weights.log_weight.new_zeros(0)
            if len(first):
                estimate = log_marginal_of_videos(
                    model, guide, first, iwae_particles, chunk_size, independent_frames
                )
            segmentation = None
            if batch.segments is not None and find_segments is not None:
                found = found_segments(drawn.slots, find_segments)
                segmentation = _segmentation(found, batch.segments, iou_threshold, segmented_from)
            part = _measured(batch, drawn, estimate, find_boxes, iou_threshold)
            parts.append(part._replace(segmentation=segmentation))
    report = _report(_joined(parts), slots, iwae_particles, independent_frames)
    return replace(report, iou_threshold=iou_threshold, segmented_from=segmented_from)


def _draw(model: Program, guide: Program, video: Tensor, particles: int, chunk_size: int) -> _Particles:
    weights, counts = [], []
    first: list[Any] = []
    for start in range(0, particles, chunk_size):
        size = min(chunk_size, particles - start)
        chunk, frames = _draw_chunk(model, guide, video, size)
        weights.append(chunk)
        counts.append(torch.stack([_counts(frame).expand(size, len(video)) for frame in frames]))
        first = first or [_first_particle(frame, size, len(video)) for frame in frames]
    slots, propagated, discovered = zip(*first, strict=True)
    return _Particles(
        FrameLogWeights(*(torch.cat(chunks, dim=1) for chunks in zip(*weights, strict=True))),
        torch.cat(counts, dim=1),
        list(slots),
        torch.stack(propagated),
        torch.stack(discovered),
    )


def _draw_chunk(
    model: Program, guide: Program, video: Tensor, particles: int
) -> tuple[FrameLogWeights, list[Any]]:
    """The weights of particles, and the frames that the model returned for the same ones."""
    returned: list[Any] = []
    weights = frame_log_weights(
        lambda video: returned.extend(model(video)), guide, video, num_particles=particles
    )
    return weights, returned


def _first_particle(frame: Any, particles: int, videos: int) -> tuple[TrackedSlots, Tensor, Tensor]:
    """Slots, propagated and discovered; what is the same for all particles may lack their axis."""
    propagated, discovered = (x.expand(particles, videos)[0] for x in (frame.propagated, frame.discovered))
    return frame.slots._make(field[0] for field in frame.slots), propagated, discovered


def of_particle(frame: Any, index: Tensor, particles: int) -> Any:
    """One particle of each video: fields `(K, B, ...)` of a frame, or those that lack K, to `(B, ...)`."""
    videos = len(index)
    rows = torch.arange(videos, device=index.device)

    def take(value: Tensor, event_dims: int) -> Tensor:
        event = value.shape[value.dim() - event_dims :]
        return value.expand(particles, videos, *event)[index, rows]

    slots = frame.slots._make(take(f, 1 + f.dim() - frame.slots.z_pres.dim()) for f in frame.slots)
    return frame._replace(
        slots=slots,
        propagated=take(frame.propagated, 0),
        discovered=take(frame.discovered, 0),
        canvas=take(frame.canvas, 3),
    )


def _counts(frame: Any) -> Tensor:
    counts: Tensor = frame.slots.z_pres.sum(-1).round()
    return counts


def _measured(
    batch: Videos, drawn: _Particles, estimate: Tensor, find_boxes: FindBoxes, iou_threshold: float
) -> _Measured:
    tracking = None
    if batch.boxes is not None:
        tracking = _tracking(
            found_tracks(drawn.slots, find_boxes), true_tracks(batch.boxes, batch), iou_threshold
        )
    return _Measured(
        log_weight=drawn.weights.log_weight.cpu(),
        log_likelihood=drawn.weights.log_likelihood.cpu(),
        counts=drawn.counts.cpu(),
        propagated=drawn.propagated.cpu(),
        discovered=drawn.discovered.cpu(),
        true_counts=None if batch.counts is None else batch.counts.T.cpu(),
        true_visible_counts=None if batch.visible_counts is None else batch.visible_counts.T.cpu(),
        log_marginal=estimate.cpu(),
        tracking=tracking,
        segmentation=None,
    )


def found_segments(slots: Sequence[TrackedSlots], find_segments: FindSegments) -> Tensor:
    """The identity of the object that is seen at each pixel, `(B, T, H, W)`, int64; negative for none."""
    frames = []
    for frame in slots:
        seen = find_segments(frame)
        names = frame.identity.gather(-1, seen.clamp(min=0).flatten(-2)).unflatten(-1, seen.shape[-2:])
        frames.append(names.masked_fill(seen < 0, -1))
    return torch.stack(frames, dim=1)


def found_tracks(slots: Sequence[TrackedSlots], find_boxes: FindBoxes) -> Tracks:
    """The boxes around drawn objects; one of which nothing is drawn in the frame is not present."""
    boxes = torch.stack([find_boxes(frame) for frame in slots], dim=1)
    present = torch.stack([frame.z_pres > 0 for frame in slots], dim=1)
    identities = torch.stack([frame.identity for frame in slots], dim=1)
    return Tracks(boxes, present & (boxes[..., 2] > 0), identities)


def true_tracks(boxes: Tensor, batch: Videos) -> Tracks:
    """The true boxes, as far as they are inside the frame; one of which nothing is there is not present."""
    boxes = boxes.nan_to_num(0, 0, 0)  # which only those of no object can need
    boxes = boxes_inside(boxes, (batch.video.shape[-2], batch.video.shape[-1]))
    present = boxes[..., 2] > 0
    if batch.present is not None:
        present = present & (batch.present > 0)
    return tracks_by_slot(boxes, present)


def _tracking(found: Tracks, true: Tracks, iou_threshold: float) -> TrackingCounts | None:
    try:
        return tracking_counts(found, true, iou_threshold)
    except MissingPackageError:  # SciPy is optional
        return None


def _segmentation(
    found: Tensor, true: Tensor, iou_threshold: float, segmented_from: int
) -> TrackingCounts | None:
    if segmented_from >= true.shape[1]:
        raise ValueError(f"`segmented_from` must be less than the {true.shape[1]} frames of videos.")
    names = true.long() - 1
    try:
        return segment_tracking_counts(found[:, segmented_from:], names[:, segmented_from:], iou_threshold)
    except MissingPackageError:  # SciPy is optional
        return None


def _joined(parts: Sequence[_Measured]) -> _Measured:
    """The batches together."""
    *tensors, tracking, segmentation = zip(*parts, strict=True)
    joined = [None if column[0] is None else torch.cat(column, dim=-1) for column in tensors]
    known = ([part for part in column if part is not None] for column in (tracking, segmentation))
    counts = (sum(parts, TrackingCounts()) if parts else None for parts in known)
    return _Measured._make([*joined, *counts])


def _report(measured: _Measured, slots: int, iwae_particles: int, independent_frames: bool) -> VideoReport:
    weights = FrameLogWeights(measured.log_weight.double(), measured.log_likelihood.double())
    likelihood = likelihood_report(weights, measured.log_marginal, iwae_particles, independent_frames)
    share = weight_shares(weighted_parts(weights.log_weight, independent_frames))  # (T or 1, K, B)
    ratio = None
    if measured.true_counts is not None:
        objects = float(measured.true_counts[1:].sum())
        ratio = float(measured.discovered[1:].sum()) / objects if objects else math.nan
    counting, visible_counting = (
        None if true is None else _count_report(measured.counts, true, share, slots)
        for true in (measured.true_counts, measured.true_visible_counts)
    )
    return VideoReport(
        **vars(likelihood),
        counting=counting,
        visible_counting=visible_counting,
        propagated=measured.propagated.double().mean(-1).tolist(),
        discovered=measured.discovered.double().mean(-1).tolist(),
        discoveries_per_object_after_first=ratio,
        tracking=None if measured.tracking is None else measured.tracking.report(),
        segmentation=None if measured.segmentation is None else measured.segmentation.report(),
    )


def _count_report(counts: Tensor, true: Tensor, share: Tensor, slots: int) -> VideoCountReport:
    """Compares counts `(T, K, B)` with true ones `(T, B)`, weighted by `share`, of T or 1 for the first T."""
    report = count_report(counts[:, 0], true, slots)
    right = counts == true.unsqueeze(1)
    return VideoCountReport(
        report.accuracy,
        report.confusion,
        right[:, 0].double().mean(-1).tolist(),
        _mean((share * right).sum(1)),
    )


def _checked(data: Iterable[Videos]) -> Iterator[Videos]:
    """The batches; an error if there are none, or they cannot be evaluated together."""
    first: tuple[Any, ...] | None = None
    for batch in data:
        check_filled("video", batch.video, "(B, T, C, H, W)")
        _check_labels(batch)
        labels = [name for name, value in batch._asdict().items() if value is not None]
        form = (batch.video.shape[1], labels)
        first = first or form
        if form != first:
            raise ValueError(
                f"`data` must be batches of one length with the same labels, but one has {first[0]} frames "
                f"with {first[1]} and another {form[0]} frames with {form[1]}."
            )
        yield batch
    if first is None:
        raise ValueError("`data` has no videos.")


def _check_labels(batch: Videos) -> None:
    """Refuse labels that do not fit the video, or cannot be true."""
    frames = batch.video.shape[:2]
    objects = next((x.shape[2] for x in (batch.boxes, batch.present) if x is not None and x.dim() > 2), 0)
    check_shape("boxes", batch.boxes, *frames, objects, 4)
    check_shape("present", batch.present, *frames, objects)
    check_shape("segments", batch.segments, *frames, *batch.video.shape[-2:])
    for name in ("counts", "visible_counts"):
        counts = getattr(batch, name)
        check_shape(name, counts, *frames)
        if counts is not None:
            checked_counts(name, counts)
    if batch.boxes is not None:
        everywhere = torch.ones(batch.boxes.shape[:-1], dtype=torch.bool)
        here = everywhere if batch.present is None else checked_mask("present", batch.present)
        checked_boxes("boxes", batch.boxes, here)


def _mean(values: Tensor) -> float:
    return values.double().mean().item()
