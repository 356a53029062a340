"""The commands of `whatwhere-data` that look at a user's video, and cut clips out of it."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from whatwhere import checks
from whatwhere.datasets import (
    BACKGROUNDS,
    DataError,
    Preparation,
    SizeError,
    VideoData,
    VideoStore,
    VideoWindows,
    contact_sheet,
    in_parts,
    save_video_parts,
)
from whatwhere.datasets import check as check_data
from whatwhere.datasets.recorded.video_windows import Cut, Stretch
from whatwhere.examples.common.look import (
    Look,
    choose_data,
    describe,
    print_look,
    read_raw,
    settings_of,
    warnings_of,
)
from whatwhere.examples.common.program import UsageError
from whatwhere.examples.common.recorded import RecordedConfig, objects_of, open_recorded, settled
from whatwhere.files import atomic_path
from whatwhere.inference.evaluation import object_statistics, objects_found
from whatwhere.inference.training import from_primitives, to_primitives, whole_source

_SHOWN = 8


def add_cutting_commands(add_command: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds `look` and `clips`.

    Args:
        add_command: makes a parser for a command of a name, with its `help`.
    """
    command = add_command("look", help="tell what is in images or a video, and which settings suit it")
    command.set_defaults(run=look)
    add_frame_arguments(command)
    command.add_argument(
        "--images", action="store_true", help="images that have nothing to do with each other"
    )
    command.add_argument("--output", metavar="PNG", help="picture to write")
    command = add_command("clips", help="cut clips out of videos, with all objects' boxes")
    command.set_defaults(run=clips)
    add_frame_arguments(command)
    command.add_argument("--output", required=True, metavar="FILE", help="HDF5 file to write")
    command.add_argument("--frames", type=int, default=10, help="of a clip (default: %(default)s)")
    command.add_argument(
        "--stride",
        type=int,
        metavar="N",
        help="frames from one clip to the next (default: they do not overlap)",
    )
    command.add_argument(
        "--crop",
        nargs=2,
        type=int,
        metavar=("HEIGHT", "WIDTH"),
        help="what is cut out of frames (default: all)",
    )
    command.add_argument(
        "--cut", choices=get_args(Cut), default="activity", help="where (default: %(default)s, in 3 of 4)"
    )
    command.add_argument("--cuts", type=int, default=1, help="so many out of one clip (default: %(default)s)")
    command.add_argument("--mirror", action="store_true", help="exchange left and right in half of the clips")
    command.add_argument(
        "--range",
        nargs=2,
        type=int,
        metavar=("START", "STOP"),
        help="frames that clips are cut from (default: all)",
    )
    command.add_argument(
        "--boxes", metavar="CSV", help="table of boxes (default: boxes.csv beside the video)"
    )
    command.add_argument("--like", metavar="FILE", help="do to frames what was done to those of this file")
    command.add_argument("--seed", type=int, default=0, help="of what is cut out (default: %(default)s)")


def add_frame_arguments(command: argparse.ArgumentParser) -> None:
    """Adds what is done to frames."""
    command.add_argument("source", help="a video, a folder of frames or of videos, images, an archive")
    command.add_argument("--every", type=int, default=1, metavar="N", help="take one of N frames in a row")
    size = command.add_mutually_exclusive_group()
    size.add_argument("--resize", nargs=2, type=int, metavar=("HEIGHT", "WIDTH"), help="size of frames")
    size.add_argument("--scale", type=float, help="factor of their height and width")
    command.add_argument("--grey", action="store_true", help="one channel instead of three")
    command.add_argument("--bits", type=int, default=16, help="used bits of grey values stored in 16")
    command.add_argument(
        "--background",
        default="none",
        metavar="GROUND",
        help=f"what is taken away: {', '.join(BACKGROUNDS)}, or a picture (default: %(default)s)",
    )
    command.add_argument(
        "--polarity", choices=("bright", "dark", "both", "auto"), default="bright", help="of objects"
    )
    command.add_argument("--normalise", action="store_true", help="make noise black and objects white")


def _config(arguments: argparse.Namespace) -> RecordedConfig:
    """What the options say about frames."""
    return RecordedConfig(
        every=arguments.every,
        resize=_pair(arguments.resize),
        scale=arguments.scale,
        grey=arguments.grey,
        bits=arguments.bits,
        prepare=Preparation(arguments.background, arguments.polarity, arguments.normalise),
    )


def _pair(values: Sequence[int] | None) -> tuple[int, int] | None:
    return None if values is None else (values[0], values[1])


def look(arguments: argparse.Namespace) -> int:
    """Tells what is in a user's images or video, and which settings suit it."""
    source = whole_source(arguments.source)
    try:
        data, reasons = choose_data(_config(arguments), source, whole=arguments.images)
    except SizeError as error:
        raise UsageError(
            f"{error} Give `--resize HEIGHT WIDTH`, or `--images` if they are no frames of one video."
        ) from error
    raw = read_raw(data, source, 1 if arguments.images else 1 + data.every)
    recipe = data.frame_recipe()
    seen = raw.seen(recipe)[:, :: data.every]
    found = Look(seen, object_statistics(seen))
    for line in describe(found):
        print(line)
    for line in warnings_of(found):  # which are of training
        print(f"warning: {line.replace('--data.prepare.', '--').replace('--data.scale', '--scale')}")
    alone = seen.shape[0 if arguments.images else 1] == 1
    if alone:
        what = "image" if arguments.images else "frame tells neither the ground nor how far objects move, and"
        print(f"warning: one {what} is too few to train on")
    for line in reasons:
        print(f"suggested: {line}")
    if found.statistics.most:
        settings = settings_of(found.statistics)
        for name, value, reason in zip(settings._fields, settings, settings.reasons, strict=False):
            if value is not None:  # of what there is nothing to tell in images that stand alone
                print(f"suggested: {name} {value} ({reason})")
    if found.statistics.most and not alone:
        program = "air train" if arguments.images else "sqair train --preset video"
        words = ["--data.source", arguments.source, "--auto", *_of_training(_config(arguments))]
        print(f"to train with all of that: whatwhere-{program} {shlex.join(words)}")
    if arguments.output:
        before = raw.seen(replace(recipe, prepare=Preparation()))
        _draw(arguments.output, before[:, 0], seen[:, 0])
        print(f"picture: {arguments.output} (frames, below each what a model sees, and what was found)")
    return 0


def _of_training(config: RecordedConfig) -> list[str]:
    """The options of a training run that say the same about frames."""
    words = []
    for setting in ("every", "resize", "scale", "grey", "bits"):
        value = getattr(config, setting)
        if value is True:
            words.append(f"--data.{setting}")
        elif value != getattr(RecordedConfig(), setting):
            values = value if isinstance(value, tuple) else (value,)
            words += [f"--data.{setting}", *map(str, values)]
    prepare = config.prepare
    if prepare.background != "none":
        words += ["--data.prepare.background", prepare.background]
    if prepare.polarity != "bright":
        words += ["--data.prepare.polarity", prepare.polarity]
    return [*words, "--data.prepare.normalise"] if prepare.normalise else words


def _draw(path: str, before: torch.Tensor, seen: torch.Tensor) -> None:
    """Frames `(B, C, H, W)` in a row and, below each, how it is seen, with boxes."""
    some = np.unique(np.linspace(0, len(seen) - 1, _SHOWN).astype(int))
    boxes, present, _ = objects_found(seen[some].unsqueeze(1)).tracks  # each a video of one frame
    video = (torch.stack([before[some], seen[some]]) * 255).round().to(torch.uint8).numpy()
    shown = (boxes * present.unsqueeze(-1)).transpose(0, 1).repeat(2, 1, 1, 1).numpy()
    counts = present.sum(-1).transpose(0, 1).repeat(2, 1).numpy()
    data = VideoData(video, count=counts, boxes=shown.astype(np.float32))
    with atomic_path(Path(path)) as temporary:
        contact_sheet(data, zoom=max(1, 200 // max(video.shape[-2:]))).save(temporary, format="PNG")


def clips(arguments: argparse.Namespace) -> int:
    """Cuts clips out of videos."""
    checks.seed(arguments, "seed")
    source = whole_source(arguments.source)
    config = replace(
        _config(arguments),
        crop=_pair(arguments.crop),
        cut=arguments.cut,
        boxes=None if arguments.boxes is None else whole_source(arguments.boxes),
    )
    config = _as_in(config, arguments.like) if arguments.like else settled(config, source)
    videos = open_recorded(config, source)
    first, last = arguments.range or (0, None)
    parts = []
    for video in videos:
        stop = video.count() if last is None else last
        if not 0 <= first < stop <= video.count():
            raise UsageError(
                f"`--range` must be in the {video.count()} frames of {video.path}, got {first} {last}"
            )
        parts.append(Stretch(video, first, stop, objects_of(config, source, video)))
    recipe = replace(
        config.window_recipe(arguments.frames), cuts=arguments.cuts, mirror=arguments.mirror, crop=config.crop
    )
    recipe = replace(recipe, stride=arguments.stride or recipe.span)
    windows = VideoWindows(parts, recipe, arguments.seed, purpose="clips")
    parameters = {
        "source": Path(source).name,
        "frames": to_primitives(config),
        "windows": asdict(recipe),
        "range": arguments.range,
    }
    save_video_parts(
        arguments.output, in_parts(windows), generator="clips", parameters=parameters, seed=arguments.seed
    )
    labelled = "with boxes" if windows.labelled else "without boxes"
    print(f"{arguments.output}: {len(windows)} clips of {recipe.frames} frames, {labelled}")
    print_look(VideoStore(arguments.output), slots=1000)
    return 0


def _as_in(config: RecordedConfig, path: str) -> RecordedConfig:
    """What was done to the frames of a file of clips."""
    report = check_data(path)
    if not report.shapes:  # nor anything else
        raise DataError(f"{path}: {report.problems[0]}")
    try:
        known = from_primitives(RecordedConfig, json.loads(report.attributes["parameters"])["frames"])
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path}: is no file that `whatwhere-data clips` has written.") from error
    kept: dict[str, Any] = {name: getattr(config, name) for name in ("crop", "cut", "boxes", "every")}
    return replace(known, **kept)
