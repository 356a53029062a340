"""Pictures beside table 1 of SQAIR's paper: what each model sees, draws, and goes on with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from pyro import poutine
from torch import Tensor

from whatwhere.datasets import VideoBatch, present
from whatwhere.examples.common.video_models import VideoSource, reconstruction_strip
from whatwhere.examples.parts import sqair_programs, vrnn_programs
from whatwhere.inference.evaluation import Tracks, found_tracks, infer_video
from whatwhere.inference.local_parameters import local_parameters
from whatwhere.inference.pictures import film_strip, save_picture
from whatwhere.models.components.boxes import iou
from whatwhere.models.sequence_air import SequenceAIR
from whatwhere.models.vrnn import VRNN

_PARTICLES = 10
"""Posterior samples of a video, of which the one of greatest weight is shown."""

SQAIRPrograms = sqair_programs.Programs | sqair_programs.AIRPrograms
"""Model and guide of a row with objects."""
VideoPrograms = SQAIRPrograms | vrnn_programs.Programs
"""Model and guide of a row of the table."""


def write_pictures(folder: Path, programs: VideoPrograms, video: Tensor, given: int, seed: int) -> None:
    """What a model makes of videos, what it draws, and, where frames depend on each other, how it goes on.

    Args:
        folder: where they are written.
        programs: the model and its guide.
        video: `(B, T, C, H, W)` in [0, 1], on the device of the model.
        given: frames of them to go on from.
        seed: of what is drawn.
    """
    torch.manual_seed(seed)
    model, guide = programs
    save_picture(folder / "reconstructions.png", _reconstructions(programs, video))
    count, frames = video.shape[:2]
    with local_parameters(model, guide):
        drawn = torch.stack([frame.canvas for frame in model.generate(count, frames)], dim=1)
        save_picture(folder / "samples.png", film_strip([*drawn.cpu()], [""] * count))
        if isinstance(model, SequenceAIR):
            return
        seen = video[:, :given]
        with torch.no_grad():
            trace = poutine.trace(guide).get_trace(seen)
        if isinstance(model, VRNN):
            canvases = [frame.canvas for frame in model.generate(count, frames, trace, seen)]
        else:
            canvases = [frame.canvas for frame in model.generate(count, frames, trace, discover=False)]
    rows = [row.cpu() for pair in zip(video, torch.stack(canvases, dim=1), strict=True) for row in pair]
    strip = film_strip(rows, ["input", "generated"] * count, marks={given: "generated"})
    save_picture(folder / "generated.png", strip)


def _reconstructions(programs: VideoPrograms, video: Tensor) -> Image.Image:
    if isinstance(programs, vrnn_programs.Programs):
        return reconstruction_strip(video, vrnn_programs.reconstruct(programs, video))
    return reconstruction_strip(video, *_objects(programs, video))


_OVERLAPS = "videos whose objects overlap most, and what each model draws; a colour and number is an identity"


def write_overlaps(
    path: Path, models: Mapping[Any, VideoPrograms], data: VideoSource, device: torch.device, count: int = 3
) -> None:
    """Models of objects side by side on the videos whose objects overlap most.

    Args:
        path: of the picture.
        models: by the names to be shown; those that know no objects are left out.
        data: videos with boxes, all of one length.
        device: of the models.
        count: number of videos.
    """
    batch = data.batch(range(min(len(data), 500)))
    if batch.boxes is None:
        return
    video = batch.video[most_overlapping(batch, count)].to(device)
    rows: list[Tensor] = []
    labels: list[str] = []
    overlays: list[Tracks | None] = []
    found = {
        name: _objects(programs, video)
        for name, programs in models.items()
        if not isinstance(programs, vrnn_programs.Programs)
    }
    for i, frames in enumerate(video):
        rows.append(frames.cpu())
        labels.append("input")
        overlays.append(None)
        for name, (canvas, tracks) in found.items():
            rows.append(canvas[i].cpu())
            labels.append(name)
            overlays.append(Tracks(*(field[i].cpu() for field in tracks)))
    save_picture(path, film_strip(rows, labels, overlays, title=_OVERLAPS))


def most_overlapping(batch: VideoBatch, count: int) -> Sequence[int]:
    """The videos in which two objects overlap most, by the sum over frames of their intersection over union.

    Args:
        batch: with boxes `(B, T, N, 4)`.
        count: number of videos.

    Returns:
        their places in the batch, the one with most overlap first.
    """
    assert batch.boxes is not None
    here = present(batch)
    boxes = batch.boxes
    overlap = torch.zeros(len(boxes))
    for i in range(boxes.shape[2]):
        for j in range(i):
            both = here[:, :, i] & here[:, :, j]
            overlap += (iou(boxes[:, :, i], boxes[:, :, j]) * both).sum(-1)
    return overlap.argsort(descending=True, stable=True)[:count].tolist()


def _objects(programs: SQAIRPrograms, video: Tensor) -> tuple[Tensor, Tracks]:
    model, guide = programs
    frames = infer_video(model, guide, video, _PARTICLES)
    tracks = found_tracks([frame.slots for frame in frames], model.decoder.boxes)
    return torch.stack([frame.canvas for frame in frames], dim=1), tracks
