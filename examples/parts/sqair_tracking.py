"""Following the objects of a user's videos with SQAIR, part by part, however long they are."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from whatwhere import checks
from whatwhere.datasets import Frames, count_videos
from whatwhere.examples.common.video_models import user_frames
from whatwhere.examples.parts.sqair_config import SQAIRConfig
from whatwhere.examples.parts.sqair_programs import AIRPrograms, Programs
from whatwhere.inference.evaluation import Tracks, TracksWriter, found_tracks, infer_parts, tracks_writer
from whatwhere.inference.pictures import save_gif, tracking_pictures
from whatwhere.inference.training import check_device

_PART = 20
"""Frames of a video that are in memory at a time."""
_UNUSUAL = 0.1
"""Nats a pixel by which the bound of frames that a model knows is never below that of its own data."""
_BRIGHT = 0.25
"""Grey value that more than half of the pixels of a dark background do not exceed."""


@dataclass(frozen=True)
class TrackConfig:
    """Follow the objects of videos.

    The program's own configuration has the defaults of `checkpoint` and `video`.
    """

    checkpoint: Path
    """The checkpoint of a training run; by default that of the package."""
    video: Path
    """A folder of frames, a video file, an animated GIF, an `.npz` or an HDF5 file, see
    `whatwhere.datasets.load_clips`; by default an example that comes with the package.
    """
    output: Path = Path("tracks/sqair")
    """Folder for `tracks.csv`, whose boxes are in pixels of the video, and `tracks.gif`."""
    resize: bool = False
    """Resize frames to what the model was trained on, and make them grey where it was trained on grey."""
    particles: int = 10
    """Posterior samples of each video, 20 frames at a time; the one of greatest weight is taken."""
    gifs: int = 1
    """Number of videos that a GIF is made of, the first ones."""
    fps: float = 4.0
    """Frames per second of the GIF."""
    seed: int = 0
    """Seed of the posterior samples."""
    device: str = "cpu"
    """`cpu`, `cuda`, or `auto`."""

    def __post_init__(self) -> None:
        check_device(self.device)
        checks.positive(self, "particles")
        checks.not_negative(self, "gifs")
        checks.within("[0.1, 50]", self, "fps")
        checks.seed(self, "seed")


def track_objects(
    options: TrackConfig,
    config: SQAIRConfig,
    programs: Programs | AIRPrograms,
    device: torch.device,
    usual: float | None,
) -> None:
    """Track the objects of a user's videos; write boxes and animations as it goes.

    Args:
        options: of the command.
        config: of the training run.
        programs: model and guide, on the device.
        device: where they are.
        usual: the bound of a frame of its own data, in nats, where that is known.

    Raises:
        DataError: if the videos cannot be read, or have another shape.
    """
    count, path = count_videos(options.video), options.output / "tracks.csv"
    unknown: dict[int, str] = {}
    with tracks_writer(path, videos=count > 1) as writer:
        for number in range(count):
            frames = user_frames(
                options.video, config.network.image_shape, options.resize, number, data=config.data
            )
            followed = _Followed(frames, number, programs, options.particles, device)
            pages = followed.pages(writer)
            if number < options.gifs:
                film = options.output / ("tracks.gif" if options.gifs == 1 else f"tracks-{number}.gif")
                save_gif(film, pages, options.fps)
                print(f"animation: {film}")
            for _ in pages:
                pass
            if reason := followed.unknown(config, usual):
                unknown[number] = reason
    print(f"boxes:     {path}")
    if unknown:
        number, reason = next(iter(unknown.items()))
        which = f"; of video {number}, {reason}" if count > 1 else f": {reason}"
        name = (
            f"`{options.video}` is"
            if count == 1
            else f"{len(unknown)} of {count} videos of `{options.video}` are"
        )
        warnings.warn(f"{name} not what the model knows, so tracks mean little{which}", stacklevel=2)


@dataclass
class _Followed:
    """One video, and how well the model explains it."""

    frames: Frames
    number: int
    programs: Programs | AIRPrograms
    particles: int
    device: torch.device
    bound: float = 0.0
    seen: int = 0
    bright: list[bool] = field(default_factory=list)

    def parts(self) -> Iterator[Tensor]:
        """The video `(1, n, C, H, W)` in [0, 1], part by part."""
        for part in self.frames.blocks(_PART):
            self.bright.append(float(torch.from_numpy(part).median()) > 255 * _BRIGHT)
            self.shown = torch.from_numpy(part)[None].to(self.device).float() / 255
            yield self.shown

    def pages(self, writer: TracksWriter) -> Iterator[Image.Image]:
        """The pages of an animation; the boxes of each part are written before its pages are drawn."""
        model, guide = self.programs
        for found in infer_parts(model, guide, self.parts(), self.particles):
            slots = [frame.slots for frame in found.frames]
            tracks = Tracks(*(x[0].cpu() for x in found_tracks(slots, model.decoder.objects)))
            boxes = torch.from_numpy(self.frames.in_source(tracks.boxes)).float()
            writer.write(boxes, *tracks[1:], video=self.number, frame=self.seen)
            canvas = torch.cat([frame.canvas for frame in found.frames]).cpu()
            first = self.seen
            self.seen += len(canvas)
            self.bound += float(found.bound)
            yield from tracking_pictures(self.shown[0].cpu(), *tracks, canvas=canvas, first=first)

    def unknown(self, config: SQAIRConfig, usual: float | None) -> str:
        """Why the frames are not what the model knows; empty where they are."""
        pixels = math.prod((self.frames.channels, *self.frames.size))
        least = least_bound(usual, pixels, config.prior.likelihood_scale)
        bound = self.bound / self.seen
        reasons = []
        if bound < least:
            reasons.append(f"the bound is {bound:.0f} nats a frame, that of known ones at least {least:.0f}")
        if any(self.bright):
            reasons.append("the background is bright, and objects are drawn on a dark one")
        return ", and ".join(reasons)


def least_bound(usual: float | None, pixels: int, scale: float) -> float:
    """The bound of a frame, in nats, below which it is not what a model knows.

    Args:
        usual: the bound of a frame of the model's own data; without it, that of pixels that are as far from
            the mean as the model allows for, one standard deviation.
        pixels: numbers of a frame.
        scale: that standard deviation.
    """
    if usual is None:
        return -pixels * (0.5 + math.log(scale * math.sqrt(2 * math.pi)))
    return usual - _UNUSUAL * pixels
