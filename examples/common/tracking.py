"""Following one object through a user's video with any single-object tracker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from whatwhere import checks
from whatwhere.checks import FieldError
from whatwhere.datasets import VIDEO_SUFFIXES, DataError, load_clips, read_video
from whatwhere.examples.common.program import UsageError
from whatwhere.examples.common.tracking_data import present
from whatwhere.examples.common.tracking_report import described, for_frames
from whatwhere.inference.evaluation import write_tracks
from whatwhere.inference.pictures import TrackedVideo, annotated_frames, save_gif, save_mp4
from whatwhere.inference.training import check_device
from whatwhere.models.components.inputs import require_first_boxes


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
    """Left, top, width and height of the object in the first frame, in pixels; by default the label of the
    file, where it has one.
    """
    output: Path = Path("tracks")
    """Folder for `tracks.csv` and the animation."""
    animation: Literal["gif", "mp4"] = "gif"
    """Format of the animation; `mp4` needs PyAV, `pip install whatwhere[video]`."""
    resize: bool = False
    """Resize frames to what the tracker was trained on, and make them grey where it was trained on grey. HART
    takes frames of any size without.
    """
    frames: int | None = None
    """Frames that are tracked, the first ones; by default all."""
    fps: float = 8.0
    """Frames per second of the animation."""
    device: str = "cpu"
    """`cpu`, `cuda`, or `auto`."""

    def __post_init__(self) -> None:
        check_device(self.device)
        checks.positive(self, "frames")
        checks.within("[0.1, 50]" if self.animation == "gif" else "[0.1, 1000]", self, "fps")
        if self.box is not None:
            checks.finite(self, "box")
            if min(self.box[2:]) <= 0:
                raise FieldError("box", "must have a positive width and height", self.box)


@torch.no_grad()
def track_clip(options: TrackConfig, model: Any, device: torch.device, needs_box: bool) -> int:
    """Track one object of a user's video.

    Args:
        options: of the command.
        model: the tracker, on the device, in evaluation mode.
        device: where it is.
        needs_box: whether it must be told the first box.

    Raises:
        UsageError: if that box is missing, has no area, or is outside the frame.
    """
    any_size = hasattr(model, "resized")
    clip = open_clip(options.video, model.image_shape, options.resize, options.frames, options.box, any_size)
    channels, height, width = clip.video.shape[1:]
    model = for_frames(model, (channels, height, width), f"`{options.video}`")
    if clip.first_box is None and needs_box:
        raise UsageError(f"`{options.video}` has no boxes: give that of the first frame, `--box L T W H`")
    box = None if clip.first_box is None else clip.first_box.to(device)[None]
    if box is not None:
        try:
            require_first_boxes(box, 1, model.image_size)
        except ValueError as error:
            raise UsageError(str(error)) from error
    tracks = model(clip.video.to(device)[None], box)
    known = {} if clip.truth is None else {"truth": clip.truth[None], "present": present(clip.truth)[None]}
    write_tracked(
        options.output, described(clip.video[None], tracks, **known), options.animation, options.fps
    )
    return 0


class UserClip(NamedTuple):
    """One video of a user's, to be tracked."""

    video: Tensor
    """`(T, C, H, W)`, uint8."""
    first_box: Tensor | None
    """Of the target in the first frame, `(4,)`; None where nobody told it."""
    truth: Tensor | None
    """True boxes `(T, 4)`, where the file has them; zeros where the target is not there."""


def open_clip(
    path: Path,
    image_shape: Sequence[int],
    resize: bool,
    frames: int | None,
    box: tuple[float, float, float, float] | None,
    any_size: bool = False,
) -> UserClip:
    """Read the first video of a file or folder as a tracker needs it.

    Args:
        path: see `whatwhere.datasets.load_clips`.
        image_shape: channels, height and width that the tracker was trained on.
        resize: resize frames to that; `box` is then still in pixels of the file.
        frames: most frames; all by default.
        box: of the target in the first frame; by default the label of slot 0.
        any_size: let frames have the size they have, unless `resize`, and convert colours.

    Raises:
        DataError: if the file cannot be read, or has another shape.
    """
    channels, height, width = image_shape
    data = load_clips(
        path,
        size=(height, width) if resize else None,
        channels=channels if resize or any_size else None,
    )
    if not any_size and data.shape[2:] != tuple(image_shape):
        raise DataError(
            f"`{path}` has frames of (channels, height, width) = {data.shape[2:]}, but the tracker was "
            f"trained on {tuple(image_shape)}; give `--resize` to fit them"
        )
    boxes = data.labels().get("boxes")
    truth = None if boxes is None else torch.from_numpy(boxes[0, :frames, 0])
    first = None if truth is None else truth[0]
    if box is not None:
        first = torch.tensor(box)
        if resize:
            old_height, old_width = _first_frame_size(path)
            first *= torch.tensor([width / old_width, height / old_height]).repeat(2)
    return UserClip(torch.from_numpy(data.video[0, :frames]), first, truth)


def _first_frame_size(path: Path) -> tuple[int, int]:
    """Height and width of what `load_clips` has just read; no other frame of a video file is decoded."""
    is_film = path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES
    height, width = (read_video(path, stop=1) if is_film else load_clips(path).video).shape[-2:]
    return height, width


def write_tracked(folder: Path, tracked: TrackedVideo, animation: Literal["gif", "mp4"], fps: float) -> None:
    """Write the boxes of one target as `tracks.csv`, and `tracks.gif` or `tracks.mp4`."""
    boxes = tracked.boxes.unsqueeze(1)
    there = torch.ones(boxes.shape[:2], dtype=torch.bool)
    write_tracks(folder / "tracks.csv", boxes, there, there.long())
    save = save_gif if animation == "gif" else save_mp4
    save(folder / f"tracks.{animation}", annotated_frames(tracked), fps)
    print(f"boxes:     {folder / 'tracks.csv'}")
    print(f"animation: {folder / f'tracks.{animation}'}")
