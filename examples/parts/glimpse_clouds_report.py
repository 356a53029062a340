"""Glimpse Clouds on held-out videos and on a user's own: numbers and pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from whatwhere.datasets import ActionBatch
from whatwhere.examples.parts.action_data import ActionVideos
from whatwhere.inference.evaluation import ActionReport, evaluate_actions, write_json
from whatwhere.inference.local_parameters import local_parameters
from whatwhere.inference.pictures import CloudVideo, cloud_strip, save_picture
from whatwhere.models import GlimpseClouds
from whatwhere.models.components import crop

_SHOWN = 4
_BATCH = 50
_TABLES = ("confusion", "overview_confusion", "fused_confusion")


def report_held_out(
    folder: Path,
    model: GlimpseClouds,
    videos: ActionVideos,
    names: tuple[str, ...],
    device: torch.device,
    samples: int,
    glimpses: bool = True,
    count: int | None = None,
    floor: float | None = None,
    training: dict[str, Any] | None = None,
) -> ActionReport:
    """Tell what goes on in held-out videos; write and print numbers and pictures.

    Args:
        folder: where they are written.
        model: on the device.
        videos: held-out ones.
        names: of the classes.
        device: where the model is.
        samples: clips of each video whose answers are averaged.
        glimpses: look; otherwise there is the global path alone.
        count: number of videos, the first ones; all by default.
        floor: share of which the nearest neighbour is right, where that is known.
        training: for `read_report`: how the model was trained; None before the end of that.
    """
    model.eval()
    report = measure(model, videos, device, samples, glimpses, count)
    more = {"classes": list(names), "nearest_neighbour": floor, "training": training}
    write_json(folder / "metrics.json", report.numbers() | more)
    print_report(report, glimpses, floor)
    print(f"metrics:         {folder / 'metrics.json'}")
    if glimpses:
        clips = videos.batch(range(min(_SHOWN, len(videos))), "test/0", 0, 0).to(device)
        save_picture(folder / "glimpses.png", cloud_strip(looks(model, clips, names)))
        print(f"pictures:        {folder / 'glimpses.png'}")
    return report


def read_report(folder: Path, training: dict[str, Any]) -> ActionReport | None:
    """What `report_held_out` has written into a folder, of a model so trained; None if it has not."""
    try:
        numbers = json.loads((folder / "metrics.json").read_text())
        if numbers["training"] != training:
            return None
        tables = [torch.tensor(numbers[name]) for name in _TABLES]
        return ActionReport(tables[0], tables[1], tables[2], numbers["glimpse_to_joint"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def measure(
    model: GlimpseClouds,
    videos: ActionVideos,
    device: torch.device,
    samples: int,
    glimpses: bool = True,
    count: int | None = None,
) -> ActionReport:
    """The numbers of `report_held_out` alone."""
    size = min(count or len(videos), len(videos))
    model.eval()

    def batches() -> Iterator[list[ActionBatch]]:
        for start in range(0, size, _BATCH):
            rows = range(start, min(start + _BATCH, size))
            yield [videos.batch(rows, f"test/{start}", 0, sample).to(device) for sample in range(samples)]

    return evaluate_actions(model, batches(), glimpses)


def print_report(report: ActionReport, glimpses: bool = True, floor: float | None = None) -> None:
    """The numbers that matter most."""
    print(f"held-out videos  {report.videos}")
    if glimpses:
        print(f"accuracy         {report.accuracy:.2%}")
    print(f"global path      {report.overview_accuracy:.2%}")
    if glimpses:
        print(f"both together    {report.fused_accuracy:.2%}")
    if floor is not None:
        print(f"nearest neighbour {floor:.2%}")
    if report.distance is not None:
        print(f"glimpse to joint {report.distance:.3f} of half the frame's sides")


@torch.no_grad()
def looks(
    model: GlimpseClouds, clips: ActionBatch, names: tuple[str, ...], known: bool = True
) -> list[CloudVideo]:
    """What a model makes of clips, for pictures.

    Args:
        model: in evaluation mode.
        clips: on its device.
        names: of the classes.
        known: whether the labels are true.
    """
    with local_parameters(model):
        found = model(clips.video, clips.joints if model.locator.needs_joints else None)
    video, coords, weights, votes = (x.cpu() for x in (clips.video, found.coords, found.weights, found.votes))
    boxes = found.boxes(model.image_size).cpu()
    return [
        CloudVideo(
            video[row],
            boxes[row],
            _crops(video[row], coords[row]),
            weights[row],
            votes[row],
            names,
            int(clips.labels[row]) if known else None,
            found.counted,
        )
        for row in range(len(video))
    ]


def _crops(video: Tensor, coords: Tensor) -> Tensor:
    """What is in the windows, `(T, G, C, h, w)`."""
    return crop(video, coords.transpose(0, 1), (24, 24)).transpose(0, 1)
