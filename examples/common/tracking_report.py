"""Single-object trackers on held-out videos: numbers, plots and pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from whatwhere.examples.common.program import UsageError
from whatwhere.examples.common.tracking_data import Targets, TargetVideos
from whatwhere.inference.evaluation import Clips, TrackerReport, evaluate_tracker, write_json
from whatwhere.inference.pictures import TrackedVideo, iou_plot, save_picture, success_plot, tracking_strips
from whatwhere.models.correlation_filter import CorrelationFilterTracker
from whatwhere.models.template_tracker import TemplateTracker

Baseline = Literal["template", "careful-template", "correlation-filter"]
"""Names of `BASELINES`."""

BASELINES: dict[str, Callable[[], nn.Module]] = {
    "template": TemplateTracker,
    "careful-template": partial(TemplateTracker, penalty=0.2, threshold=0.4),
    "correlation-filter": CorrelationFilterTracker,
}
"""Trackers that need no training."""


def for_frames(model: Any, image_shape: tuple[int, int, int], name: str) -> Any:
    """The tracker for frames of another size than those it was trained on, where it can be.

    Raises:
        UsageError: if it cannot.
    """
    expected = tuple(model.image_shape)
    if image_shape == expected:
        return model
    if image_shape[0] == expected[0] and hasattr(model, "resized"):
        return model.resized(image_shape[1:])
    raise UsageError(
        f"{name} has frames of (channels, height, width) = {image_shape}, but the tracker was trained on "
        f"{expected}"
    )


def report_held_out(
    folder: Path,
    model: nn.Module,
    videos: TargetVideos,
    device: torch.device,
    count: int | None,
    frames: int | None,
    name: str,
    baselines: Iterable[str] = (),
) -> None:
    """Track held-out videos; write and print numbers and pictures.

    Args:
        folder: where they are written.
        model: the tracker.
        videos: held-out ones.
        device: where the tracker is.
        count: number of videos; all by default.
        frames: of each; all by default.
        name: of the tracker, in plots.
        baselines: names of `BASELINES` to track them with, too.
    """
    model.eval()
    count = count or len(videos)
    others = {each: track_clips(BASELINES[each](), videos, count, frames) for each in baselines}
    write_report(folder, track_clips(model, videos, count, frames), name, others)
    write_strip(folder, model, videos, device, frames)


def track_clips(
    tracker: Any, videos: TargetVideos, count: int, frames: int | None = None, batch_size: int = 50
) -> TrackerReport:
    """Track the first `count` videos and compare with the truth."""
    return evaluate_tracker(tracker, _labelled(videos, count, frames, batch_size))


def _labelled(videos: TargetVideos, count: int, frames: int | None, batch_size: int) -> Iterator[Clips]:
    for batch in videos.clips(count, frames, batch_size):
        video, boxes, _, mask = Targets.of(batch, torch.device("cpu"))
        yield Clips(video, boxes, mask, batch.groups)


def write_report(
    folder: Path, report: TrackerReport, name: str, others: Mapping[str, TrackerReport] | None = None
) -> None:
    """Write `metrics.json` and the plots `iou.png` and `success.png`, and print the numbers that matter.

    Args:
        folder: where they are written.
        report: of the tracker.
        name: its name.
        others: reports of other trackers on the same videos, by name.
    """
    others = others or {}
    numbers = {**report.numbers(), **{other: each.numbers() for other, each in others.items()}}
    write_json(folder / "metrics.json", numbers)
    curves = {**report.curves(name), **{other: each.overlaps for other, each in others.items()}}
    save_picture(folder / "iou.png", iou_plot(curves))
    save_picture(folder / "success.png", success_plot(curves))
    print(report)
    for other, each in others.items():
        print(f"{other:<18} {each.iou:.3f}  (last frame {each.iou_last:.3f}, AUC {each.auc:.3f})")
    print(f"metrics:         {folder / 'metrics.json'}")
    print(f"pictures:        {folder / 'iou.png'}, {folder / 'success.png'}")


@torch.no_grad()
def write_strip(
    folder: Path, tracker: Any, videos: TargetVideos, device: torch.device, frames: int | None, count: int = 4
) -> None:
    """Draw the first videos, what was tracked in them, and what was seen, into `strip.png`."""
    shown = []
    for batch in videos.clips(count, frames, batch_size=1):
        video, boxes, _, mask = Targets.of(batch, device)
        tracks = tracker(video, boxes[:, 0])
        shown.append(described(video, tracks, boxes, mask))
    save_picture(folder / "strip.png", tracking_strips(shown))
    print(f"                 {folder / 'strip.png'}")


def described(
    video: Tensor, tracks: Any, truth: Tensor | None = None, present: Tensor | None = None
) -> TrackedVideo:
    """What there is to be shown of the first video of a batch.

    Args:
        video: `(B, T, C, H, W)`.
        tracks: with `boxes` and `glimpses`, and `attention` and `masks` where the tracker has them.
        truth: true boxes, `(B, T, 4)`.
        present: in which frames the target is there, `(B, T)`.
    """
    fields = {
        "video": video,
        "boxes": tracks.boxes,
        "truth": truth,
        "present": present,
        "glimpses": tracks.glimpses,
        "attention": getattr(tracks, "attention", None),
        "heat": getattr(tracks, "masks", None),
    }
    return TrackedVideo(**{name: value[0].cpu() for name, value in fields.items() if value is not None})
