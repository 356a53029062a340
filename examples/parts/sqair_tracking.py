"""Following the objects of a user's videos with SQAIR, part by part, however long they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import chain, islice
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from whatwhere import checks
from whatwhere.checks import MissingPackageError
from whatwhere.datasets import Frames, Preparation, count_videos, frame_names, own_frames, video_name
from whatwhere.datasets.recorded.frames import size_of_all
from whatwhere.examples.common import look
from whatwhere.examples.common.assessment import print_assessment, warn_of_unknown
from whatwhere.examples.common.films import Animation, require_rate, write_film
from whatwhere.examples.common.program import UsageError, usage_errors
from whatwhere.examples.common.recorded import open_as_trained
from whatwhere.examples.common.results import (
    Format,
    Results,
    print_summary,
    results,
    table_path,
    write_summary,
)
from whatwhere.examples.common.sources import in_stored
from whatwhere.examples.common.video_models import reconstruction_strip, user_frames
from whatwhere.examples.parts.sqair_auto import plane
from whatwhere.examples.parts.sqair_config import NetworkConfig, SQAIRConfig
from whatwhere.examples.parts.sqair_evaluation import Baseline, components_for
from whatwhere.examples.parts.sqair_measuring import (
    Naming,
    TrackReport,
    found_components,
    known_tracks,
    part_of,
    print_measures,
    report_of,
)
from whatwhere.examples.parts.sqair_programs import AIRPrograms, Programs, refitted
from whatwhere.files import user_path
from whatwhere.inference.evaluation import (
    Assessor,
    COCOImage,
    ConnectedComponents,
    Known,
    Tracks,
    infer_parts,
    object_statistics,
    perspective_of,
    scored_tracks,
)
from whatwhere.inference.pictures import overlay_pictures, save_picture
from whatwhere.inference.training import check_device
from whatwhere.models.components import PerspectiveWindows
from whatwhere.models.components.boxes import INK

_PART = 20
"""Frames of a video that are in memory at a time."""
_STRIP = 10
"""Frames of the picture of what a model makes of a video."""
_ASSESSED = 10
"""The model is assessed on one part of so many."""

_ROWS = (-0.5, 0.0, 0.5, 1.0)
_OTHER_CAMERA = 1.4
"""Sizes at these rows that differ by such a factor are seen by another camera."""

_SMALLEST = 0.1
"""Least size where none is known."""


@dataclass(frozen=True)
class TrackConfig:
    """Follow the objects of videos.

    The program's own configuration has the defaults of `checkpoint` and `video`.
    """

    MOST_USED: ClassVar[tuple[str, ...]] = (
        "checkpoint",
        "output",
        "format",
        "range",
        "iou",
        "max_count",
        "particles",
        "device",
    )

    checkpoint: Path
    """The checkpoint of a training run; by default that of the package."""
    video: Path
    """A folder of frames, a video file, an animated GIF, an `.npz` or an HDF5 file, see
    `whatwhere.datasets.load_clips`; by default an example that comes with the package.
    """
    output: Path = Path("tracks/sqair")
    """Folder for the table `tracks`, whose boxes are in pixels of the video, films of the video with what was
    found, `reconstructions.png` with what the model makes of its first frames, and `summary.json`.
    """
    format: Format = "csv"
    """Of the table: CSV, see `inference.evaluation.tracks_file`; or what the MOTChallenge's or COCO's
    programs read.
    """
    range: tuple[int, int] | None = None
    """The first frame of each video, and the one to stop before; by default all. Numbers in the table are
    those of the whole video.
    """
    boxes: Path | None = None
    """Where objects are, to measure by: a table `frame,id,x,y,w,h`, by default a `boxes.csv` beside the
    video.
    """
    iou: float = 0.5
    """Least intersection over union of a box and a true one that match; less where objects are of few pixels.
    """
    ink: float = INK
    """What belongs into the box of an object, as a share of its brightest pixel: less where legs are faint,
    more where windows hold a haze.
    """
    baselines: tuple[Baseline, ...] = ()
    """What needs no training, measured beside the model, see `SQAIREvaluateConfig.baselines`; all frames are
    in memory for that.
    """
    resize: bool = False
    """Resize frames to what the model was trained on, and make them grey where it was trained on grey."""
    max_count: int | None = None
    """Most objects in a frame, where an object has a price (`prior.price`). By default as in training; frames
    of another size, which models take whose `network.discovery` is evidence, have at least one more, and two
    more than there are bright regions in any of some frames of the video.
    """
    patience: int = 15
    """Frames for which a lost object is remembered: what is found anew where it would be by now takes up its
    identity, see `TrackLinker`, and objects that met are told apart by what they looked like before, see
    `Encounters`. With 0 all that is found anew is another object, as it is to AIR.
    """
    perspective: Literal["trained", "video", "none"] = "trained"
    """How large windows are in whole frames, see `network.perspective`: as it was found in training, as it is
    in this video, of another camera, or the same everywhere.
    """
    particles: int = 10
    """Posterior samples of each video, 20 frames at a time; the one of greatest weight is taken."""
    animation: Animation = "auto"
    """Format of the films: GIF, or MP4, which needs PyAV, `pip install whatwhere[video]`. By default short
    ones are GIFs, and others MP4 where that is installed.
    """
    films: int = 1
    """Number of videos of which there is a film, the first ones."""
    fps: float | None = None
    """Frames per second of the films; by default those of the video, or 8."""
    seed: int = 0
    """Seed of the posterior samples."""
    device: str = "cpu"
    """`cpu`, `cuda`, or `auto`."""

    def __post_init__(self) -> None:
        check_device(self.device)
        checks.literals(self)
        checks.positive(self, "max_count", "particles", "fps")
        checks.not_negative(self, "films", "patience")
        require_rate(self.animation, self.fps)
        checks.seed(self, "seed")
        checks.within("(0, 1]", self, "iou")
        checks.within("(0, 1)", self, "ink")
        checks.not_negative(self, "range")
        if self.range is not None and self.range[0] >= self.range[1]:
            raise ValueError(f"`range` must be a first frame and a later one, got {self.range}")


def programs_for(
    options: TrackConfig, config: SQAIRConfig, programs: Programs | AIRPrograms
) -> tuple[SQAIRConfig, Programs | AIRPrograms]:
    """The model for the frames of a user's video as they are, where it can be one; else as it is.

    Args:
        options: of the command.
        config: of the training run.
        programs: model and guide.

    Raises:
        DataError: if the video cannot be read.
        UsageError: if the model cannot have so many slots.
    """
    recipe = config.data.frame_recipe()
    if config.network.background == "camera":
        recipe = replace(recipe, prepare=Preparation("median", "both", normalise=True))
    # They take seconds to read, and mostly nobody asks for them.
    some_frames = cache(lambda: look.read_raw(config.data, str(options.video), 1).seen(recipe))
    wanted_network = _with_perspective(options, config, some_frames)
    changed = wanted_network != config.network
    config = replace(config, network=wanted_network)
    trained, slots = config.network.image_shape, config.network.max_count
    assert trained is not None  # a trained model has one
    whole = trained
    if config.network.discovery == "evidence" and not options.resize:
        numbers = range(count_videos(options.video))
        opened = (open_as_trained(config.data, options.video, None, number) for number in numbers)
        whole = (trained[0], *size_of_all(opened))
    more_room = whole != trained and config.prior.price is not None
    wanted = options.max_count or (_slots_for(some_frames, slots) if more_room else slots)
    if (whole, wanted) == (trained, slots) and not changed:
        return config, programs
    with usage_errors():
        return refitted(config, programs, whole, wanted)


def _with_perspective(
    options: TrackConfig, config: SQAIRConfig, some_frames: Callable[[], Tensor]
) -> NetworkConfig:
    """The network with the perspective that is asked for; says so if that of training is another one."""
    network, given = config.network, options.perspective
    if network.discovery != "evidence" or config.prior.object_size is None or options.resize:
        if given != "trained":
            raise UsageError(
                "`perspective` is for models whose `network.discovery` is evidence, and frames as they are"
            )
        return network
    if given == "none":
        return _without_perspective(network)
    known = network.perspective
    if given == "trained" and (known is None or user_path(config.data.source) == user_path(options.video)):
        return network
    try:
        seen = perspective_of(some_frames())
    except MissingPackageError:
        if given == "video":
            raise
        return network
    found = None if seen is None else plane(seen, config.prior.object_size[0])
    if given == "video":
        print(f"perspective: {found or 'none is found'} in {options.video}")
        return _without_perspective(network) if found is None else replace(network, perspective=found)
    if known is not None and found is not None and _apart(known, found) > _OTHER_CAMERA:
        print(
            f"warning: in {options.video} sizes of objects depend on where they are as on a plane {found}, "
            f"and windows do as with the camera of training, {known}; if this is another: "
            "`--perspective video`"
        )
    return network


def _without_perspective(network: NetworkConfig) -> NetworkConfig:
    """The network where sizes mean nothing: what is far away can be as small as it likes."""
    limits = network.size_limits
    if network.perspective is not None and limits is not None:
        limits = _SMALLEST, limits[1]
    return replace(network, perspective=None, size_limits=limits)


def _slots_for(some_frames: Callable[[], Tensor], slots: int) -> int:
    """How many slots whole frames may need of a model of parts of them that has so many."""
    try:
        most = object_statistics(some_frames()).most
    except MissingPackageError:
        most = 0
    wanted = max(slots + 1, most + 2)
    print(f"slots:     {wanted} (at most {most} objects at once in some frames; `--max-count` for others)")
    return wanted


def _apart(first: tuple[float, float], second: tuple[float, float]) -> float:
    """By what factor sizes in frames of two perspectives differ, at most."""
    windows = (PerspectiveWindows(horizon=horizon, row=row) for horizon, row in (first, second))
    sizes, others = (each.growth(torch.tensor(_ROWS)) for each in windows)
    return float((sizes / others).log().abs().max().exp())


def track_objects(
    options: TrackConfig,
    config: SQAIRConfig,
    programs: Programs | AIRPrograms,
    device: torch.device,
    known: Known,
) -> None:
    """Track the objects of a user's videos; write boxes and films as it goes.

    Args:
        options: of the command.
        config: of the training run.
        programs: model and guide, on the device.
        device: where they are.
        known: of its training.

    Raises:
        DataError: if the videos cannot be read, or have another shape.
    """
    count, path = count_videos(options.video), options.output / "tracks"
    programs.model.decoder.ink = options.ink
    baselines: dict[str, ConnectedComponents] = {}
    done: list[_Followed] = []
    followed: _Followed

    def image(video: int, frame: int) -> COCOImage:
        return COCOImage(followed.frame_name(frame), *followed.frames.stored_size)

    names = tuple(video_name(options.video, number) for number in range(count))
    with results(path, options.format, image, videos=names, scores=True) as table:
        for number in range(count):
            resize = options.resize or config.network.measured_in is not None  # then to their own size
            frames = user_frames(options.video, config.network.image_shape, resize, number, data=config.data)
            true = known_tracks(config.data, options.boxes, options.video, frames)
            if options.baselines and true is None:
                raise UsageError(f"`{frames.path}` has no boxes to measure by: give a table with `--boxes`")
            if number == 0:
                baselines = {name: components_for(config, options.iou) for name in options.baselines}
            if options.range is not None:
                frames = frames.part(*options.range)
                true = None if true is None else part_of(true, *options.range)
            followed = _Followed(options, frames, number, programs, device, true, config.data.bits)
            done.append(followed)
            parts = followed.parts(table)
            if number == 0:
                first = next(parts)
                strip = reconstruction_strip(
                    first.given[None], first.canvas[None], Tracks(*(x[None] for x in first.in_given))
                )
                save_picture(options.output / "reconstructions.png", strip)
                parts = chain([first], parts)
            if number < options.films:
                name = "tracks" if options.films == 1 else f"tracks-{number}"
                write_film(options.output / name, _pages(parts), frames, options.animation, options.fps)
            for _ in parts:
                pass
        summary = table.summary()
    assessment = Assessor.joined([each.assessor for each in done]).assessment(known)
    measured = _measured(done, baselines, options.iou)
    write_summary(options.output, summary, assessment=assessment, measured=measured)
    print(f"boxes:     {table_path(path, options.format, count)}")
    print_summary(summary)
    print_assessment(assessment, assessment.of_model())
    for name, report in measured.items():
        print_measures(name, report)
    warn_of_unknown(options.video, [each.assessor.assessment(known).unknown() for each in done])


def _measured(
    followed: Sequence[_Followed], baselines: Mapping[str, ConnectedComponents], iou_threshold: float
) -> dict[str, TrackReport]:
    """How good the tracks are, and the baselines beside them; nothing where no boxes are known."""
    labelled = [(each, each.true) for each in followed if each.true is not None]
    if not labelled:
        return {}
    true = [known for _, known in labelled]
    reports = {"model": report_of([each.found() for each, _ in labelled], true, iou_threshold)}
    for name, components in baselines.items():
        found = [found_components(components, each.frames, each.options.patience) for each, _ in labelled]
        reports[name] = report_of(found, true, iou_threshold)
    return reports


class _Part(NamedTuple):
    """Some frames of a video, and what was found in them."""

    frames: Tensor
    """The user's own, `(n, C, H, W)`, uint8."""
    tracks: Tracks
    """In their pixels, `(n, N)`."""
    given: Tensor
    """What the model sees of the first of them, in [0, 1]."""
    canvas: Tensor
    """What it makes of these."""
    in_given: Tracks
    """What was found, in their pixels."""


@dataclass
class _Followed:
    """One video, and how well the model explains it."""

    options: TrackConfig
    frames: Frames
    number: int
    programs: Programs | AIRPrograms
    device: torch.device
    true: Tracks | None
    """The objects that are known, `(1, T, M)`, in pixels of what the model is given."""
    bits: int
    """Of the user's grey values that are used."""
    seen: int = 0

    def __post_init__(self) -> None:
        self.first = 0 if self.options.range is None else self.options.range[0]
        self._found: list[Tracks] = []
        self.frame_name = frame_names(self.options.video, self.number)
        self.assessor = Assessor(*self.programs)
        patience = self.options.patience if isinstance(self.programs, Programs) else 0
        self._named = Naming(patience)

    def parts(self, table: Results) -> Iterator[_Part]:
        """The video, part by part; the boxes of each are written before it is given."""
        (model, guide), particles = self.programs, self.options.particles
        own = islice(own_frames(self.options.video, self.number, bits=self.bits), self.first, None)
        for found in infer_parts(model, guide, self._given(), particles):
            frames = torch.from_numpy(np.stack(list(islice(own, len(found.frames)))))
            added = partial(model.decoder.added, channels=self.given.shape[2])
            tracks, scores = scored_tracks(found.frames, self.given, added, model.decoder.boxes)
            given = Tracks(*(x[0].cpu() for x in tracks))
            stored = in_stored(self.frames, given.boxes)
            in_given = self._named(given, frames.numpy(), stored)
            shown = in_given._replace(boxes=stored)
            if self.true is not None:
                self._found.append(in_given)
            boxes = torch.from_numpy(self.frames.in_source(in_given.boxes)).float()
            table.write(boxes, *in_given[1:], scores[0], video=self.number, frame=self.first + self.seen)
            if self.seen % (_ASSESSED * _PART) == 0:
                self.assessor.add(self.given, found.bound, tracks.present)
            else:
                self.assessor.count(tracks.present)
            self.seen += len(frames)
            canvas = torch.cat([frame.canvas for frame in found.frames[:_STRIP]]).cpu()
            few = Tracks(*(x[:_STRIP] for x in in_given))
            yield _Part(frames, shown, self.given[0, :_STRIP].cpu(), canvas, few)

    def found(self) -> Tracks:
        """What was found in the whole video, `(1, T, N)`, in the pixels of `true`."""
        return Tracks(*(torch.cat(parts)[None] for parts in zip(*self._found, strict=True)))

    def _given(self) -> Iterator[Tensor]:
        """What the model is given, `(1, n, C, H, W)` in [0, 1]."""
        for part in self.frames.blocks(_PART):
            self.given = torch.from_numpy(part)[None].to(self.device).float() / 255
            yield self.given


def _pages(parts: Iterator[_Part]) -> Iterator[Image.Image]:
    """The user's frames with what was found, one by one."""
    for part in parts:
        yield from overlay_pictures(part.frames, *part.tracks)
