"""Following one object through a user's video with any single-object tracker."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from whatwhere import checks
from whatwhere.checks import FieldError
from whatwhere.datasets import (
    DataError,
    Frames,
    count_videos,
    frame_names,
    open_frames,
    own_frames,
    video_name,
)
from whatwhere.datasets.recorded.target_clips import fraction_inside
from whatwhere.examples.common.films import Animation, require_rate, write_film
from whatwhere.examples.common.program import UsageError, usage_errors
from whatwhere.examples.common.results import (
    Format,
    Results,
    print_summary,
    results,
    table_path,
    write_summary,
)
from whatwhere.examples.common.sources import in_stored
from whatwhere.examples.common.tracking_data import present
from whatwhere.examples.common.tracking_report import described, for_frames
from whatwhere.inference.evaluation import COCOImage
from whatwhere.inference.pictures import TrackedVideo, annotated_frames
from whatwhere.inference.training import check_device
from whatwhere.models.components.inputs import require_first_boxes

_PART = 16
"""Frames of a video that are in memory at a time."""


@dataclass(frozen=True)
class TrackConfig:
    """Follow one object through a video: boxes as CSV, and an annotated animation.

    A tracker's own configuration has the defaults of `checkpoint` and `video`.
    """

    checkpoint: Path
    """The checkpoint of a training run; by default that of the package."""
    video: Path
    """A video file, a folder of frames, an animated GIF, an `.npz` or an HDF5 file, see
    `whatwhere.datasets.load_clips`; by default an example that comes with the package. Of several videos, the
    first.
    """
    box: tuple[float, float, float, float] | None = None
    """Left, top, width and height of the object in the first frame, in its pixels; by default the label of
    the file, where it has one.
    """
    output: Path = Path("tracks")
    """Folder for the table `tracks`, with boxes in the video's pixels, the film, and `summary.json`."""
    format: Format = "csv"
    """Of the table: CSV, see `inference.evaluation.tracks_file`; or what the MOTChallenge's or COCO's
    programs read.
    """
    animation: Animation = "auto"
    """Format of the film: GIF, or MP4, which needs PyAV, `pip install whatwhere[video]`. By default a short
    one is a GIF, and another one MP4 where that is installed.
    """
    resize: bool = False
    """Resize frames to what the tracker was trained on, and make them grey where it was trained on grey. HART
    takes frames of any size without.
    """
    bits: int = 16
    """How many bits of grey values that are stored in 16 are used; 12 for many scientific cameras."""
    frames: int | None = None
    """Frames that are tracked, the first ones; by default all."""
    fps: float | None = None
    """Frames per second of the film; by default those of the video, or 8."""
    device: str = "cpu"
    """`cpu`, `cuda`, or `auto`."""

    def __post_init__(self) -> None:
        checks.literals(self)
        check_device(self.device)
        checks.positive(self, "frames", "fps")
        checks.within("[8, 16]", self, "bits")
        require_rate(self.animation, self.fps)
        if self.box is not None:
            checks.finite(self, "box")
            if min(self.box[2:]) <= 0:
                raise FieldError("box", "must have a positive width and height", self.box)


@torch.no_grad()
def track_clip(options: TrackConfig, model: Any, device: torch.device, needs_box: bool) -> int:
    """Track one object of a user's video, of any length: memory holds a part of it.

    Args:
        options: of the command.
        model: the tracker, on the device, in evaluation mode.
        device: where it is.
        needs_box: whether it must be told the first box.

    Raises:
        UsageError: if that box is missing, has no area, or is outside the frame.
    """
    frames = open_clip(options, model)
    model = for_frames(model, (frames.channels, *frames.size), f"`{options.video}`")
    first_box = _first_box(options, frames)
    if first_box is None and needs_box:
        raise UsageError(f"`{options.video}` has no boxes: give that of the first frame, `--box L T W H`")
    if first_box is not None and options.box is None and not (first_box[2:] > 0).all():
        raise UsageError(
            f"the object of `{options.video}` is not in its first frame: say what to follow, `--box L T W H`"
        )
    if first_box is not None:
        stored = in_stored(frames, first_box).round(decimals=3)  # the pixels that the user knows
        with usage_errors():
            require_first_boxes(stored[None], 1, frames.stored_size)
        _warn_of_box(options, frames)
        first_box = first_box.to(device)[None]
    if (count := count_videos(options.video)) > 1:
        print(f"video:     {video_name(options.video)}, the first of {count} in {options.video}")
    path = options.output / "tracks"
    name = frame_names(options.video)

    def image(video: int, frame: int) -> COCOImage:
        return COCOImage(name(frame), *frames.stored_size)

    with results(
        path,
        options.format,
        image,
        videos=(video_name(options.video),),
        scores=getattr(model, "scored", False),
        frames=frames.length,
    ) as table:
        parts = _parts(options, frames, model, first_box, device, table)
        write_film(path, _pages(parts), frames, options.animation, options.fps)
        for _ in parts:
            pass
        summary = table.summary()
    write_summary(options.output, summary)
    print(f"boxes:     {table_path(path, options.format)}")
    print_summary(summary)
    return 0


def _warn_of_box(options: TrackConfig, frames: Frames) -> None:
    """Says so if most of the box that was given is outside, as if it were two corners."""
    if options.box is None:
        return
    share = float(fraction_inside(np.array(options.box), frames.stored_size))
    if share < 0.5:
        height, width = frames.stored_size
        warnings.warn(
            f"only {share:.0%} of the box {options.box}, that is left, top, width and height, is inside "
            f"frames of {height} x {width} pixels",
            stacklevel=2,
        )


def open_clip(options: TrackConfig, model: Any) -> Frames:
    """The first video of a file or folder as a tracker needs it.

    A tracker that can be `resized` takes frames of the size that they have, and converts colours.

    Raises:
        DataError: if the file cannot be read, or has another shape.
    """
    channels, height, width = model.image_shape
    any_size = hasattr(model, "resized")
    frames = open_frames(
        options.video,
        size=(height, width) if options.resize else None,
        channels=channels if options.resize or any_size else None,
        bits=options.bits,
        stop=options.frames,
    )
    found = (frames.channels, *frames.size)
    if not any_size and found != tuple(model.image_shape):
        raise DataError(
            f"`{options.video}` has frames of (channels, height, width) = {found}, but the tracker was "
            f"trained on {tuple(model.image_shape)}; give `--resize` to fit them"
        )
    return frames


def _first_box(options: TrackConfig, frames: Frames) -> Tensor | None:
    """Box of the target in the first frame, in pixels of the frames given; None if nobody told."""
    if options.box is not None:
        return torch.from_numpy(frames.from_source(options.box)).float()
    truth = _truth(frames)
    return None if truth is None else truth[0]


def _truth(frames: Frames) -> Tensor | None:
    """True boxes of the target `(T, 4)`, where the file has them; zeros where it is not there."""
    boxes = frames.labels.get("boxes")
    return None if boxes is None or not boxes.shape[1] else torch.from_numpy(boxes[:, 0])


def _parts(
    options: TrackConfig,
    frames: Frames,
    model: Any,
    first_box: Tensor | None,
    device: torch.device,
    table: Results,
) -> Iterator[tuple[int, TrackedVideo]]:
    """The video, part by part, each with its first frame; the boxes are written before it is given."""

    def given() -> Iterator[Tensor]:
        for part in frames.blocks(_PART):
            yield torch.from_numpy(part).to(device)[None]

    own = own_frames(options.video, bits=options.bits, stop=options.frames)
    truth, start = _truth(frames), 0
    for tracks in model.follow(given(), first_box):
        video = torch.from_numpy(np.stack(list(islice(own, tracks.boxes.shape[1]))))[None]
        stop = start + video.shape[1]
        known = None if truth is None else truth[None, start:stop]
        found = described(video, tracks, known, None if known is None else present(known))
        shown = found._replace(
            boxes=in_stored(frames, found.boxes),
            truth=None if found.truth is None else in_stored(frames, found.truth),
            attention=None if found.attention is None else in_stored(frames, found.attention),
        )
        boxes = torch.from_numpy(frames.in_source(found.boxes)).float().unsqueeze(1)
        lost, scores = (getattr(tracks, name, None) for name in ("lost", "scores"))
        there = torch.ones(boxes.shape[:2], dtype=torch.bool) if lost is None else ~lost.cpu().T
        identities = torch.zeros(boxes.shape[:2], dtype=torch.int64)
        table.write(boxes, there, identities, None if scores is None else scores.T, frame=start)
        yield start, shown
        start = stop


def _pages(parts: Iterator[tuple[int, TrackedVideo]]) -> Iterator[Image.Image]:
    for start, shown in parts:
        yield from annotated_frames(shown, first=start)
