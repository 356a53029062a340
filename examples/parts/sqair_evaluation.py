"""How SQAIR is evaluated beside what needs no training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch

from whatwhere import checks
from whatwhere.examples.common.program import UsageError, usage_errors
from whatwhere.examples.common.video_models import (
    EvaluateConfig,
    VideoSource,
    batches_of,
    held_out_videos,
    load_data,
)
from whatwhere.examples.parts.sqair_config import SQAIRConfig
from whatwhere.inference.evaluation import (
    ComponentsReport,
    ConnectedComponents,
    ContinuationReport,
    PredictionReport,
    TrackingReport,
    Tracks,
    Videos,
    chosen_components,
    evaluate_components,
    evaluate_continuation,
    evaluate_prediction,
    found_tracks,
    predict,
    true_tracks,
)
from whatwhere.inference.pictures import (
    default_factor,
    draw_paths,
    grid,
    save_gif,
    save_picture,
    tracking_pictures,
    upscale,
)
from whatwhere.models.components.boxes import INK

_CHOSEN_BY = 100
"""Training videos by which the threshold of connected components is chosen."""


_SHOWN, _PATH = 4, 20
"""Videos of the picture of paths, and frames of each."""
_TRUE = (150, 150, 150)
"""Colour of true paths."""

Baseline = Literal["components"]


@dataclass(frozen=True)
class SQAIREvaluateConfig(EvaluateConfig):
    """Evaluate a trained model on held-out videos."""

    MOST_USED: ClassVar[tuple[str, ...]] = (
        "checkpoint",
        "output",
        "data",
        "videos",
        "frames",
        "baselines",
        "iou",
        "ink",
        "device",
    )

    iou: float = 0.5
    """Least intersection over union of a box and a true one that match; less where objects are of few pixels.
    """
    ink: float = INK
    """What belongs into the box of an object, as a share of its brightest pixel: less where legs are faint,
    more where windows hold a haze.
    """
    widest: float | None = None
    """Greatest width over height of a window, over the expected one, in place of `network.widest`: less in
    parts of frames, where a pair may be one who is nearer.
    """
    baselines: tuple[Baseline, ...] = ()
    """What needs no training, measured on the same videos: `components`, connected regions brighter than a
    threshold that is chosen on training videos, linked by overlap. Needs SciPy.
    """
    continuation: tuple[int, ...] = ()
    """After how many more frames objects are compared with where they are, when the model goes on alone after
    the `frames` it sees: 10 40 90. Beside it, a straight line that turns round at the borders.
    """

    predict: int | None = None
    """Frames that are predicted by means after the `frames` seen, whose centres are compared with true ones:
    90 of the balls, after 10. Needs SciPy.
    """
    segmented_from: int = 0
    """The first frame whose pixels are compared, where it is known which object is seen at each; 2 in the
    benchmark of which `spmot` is a part.
    """

    build: str | None = None
    """The function that the model was trained with, if it was one of your own."""

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.literals(self)
        checks.within("(0, 1]", self, "iou")
        checks.within("(0, 1)", self, "ink")
        checks.at_least(1, self, "widest", "continuation", "predict")
        checks.not_negative(self, "segmented_from")


def evaluate_baselines(
    options: SQAIREvaluateConfig, config: SQAIRConfig, data: VideoSource, frames: int
) -> dict[str, ComponentsReport]:
    """The baselines that are asked for, by name.

    Args:
        options: of the command.
        config: of the training run, by whose videos thresholds are chosen.
        data: the held-out videos.
        frames: of each.

    Raises:
        UsageError: if the training videos have no labels.
    """
    reports: dict[str, ComponentsReport] = {}
    for name in dict.fromkeys(options.baselines):
        components = components_for(config, options.iou)
        held_out = batches_of(data, min(options.videos, len(data)), frames, torch.device("cpu"))
        reports[name] = evaluate_components(components, held_out, options.iou)
    return reports


def components_for(config: SQAIRConfig, iou_threshold: float) -> ConnectedComponents:
    """Those that are best on training videos.

    Args:
        config: of the training run.
        iou_threshold: of a match.

    Raises:
        UsageError: if the training videos have no labels.
    """
    train = load_data(config.data, config.frames).train
    rows = min(_CHOSEN_BY, len(train))
    batches = list(batches_of(train, rows, config.frames, torch.device("cpu")))
    if batches[0].boxes is None and batches[0].counts is None:
        raise UsageError(
            "the threshold of `--baselines` is chosen on the videos of training, of which neither boxes nor "
            "counts are known: train with `--data.boxes`, or leave it out"
        )
    with usage_errors():
        return chosen_components(batches, iou_threshold)


def continue_alone(
    options: SQAIREvaluateConfig, config: SQAIRConfig, programs: Any, device: torch.device
) -> ContinuationReport | None:
    """How far off objects are that the model no longer sees, if that is asked for.

    Raises:
        UsageError: if the model goes nowhere, or the videos have no boxes or too few frames.
    """
    if not options.continuation:
        return None
    seen, videos = _longer("continuation", options, config, max(options.continuation), device)
    model, guide = programs
    with usage_errors():
        return evaluate_continuation(
            model, guide, videos, seen, options.continuation, model.decoder.whole_boxes
        )


def predict_means(
    options: SQAIREvaluateConfig, config: SQAIRConfig, programs: Any, device: torch.device
) -> PredictionReport | None:
    """How far off the means of what the model predicts are, if that is asked for.

    Raises:
        UsageError: if the model goes nowhere, or the videos have no boxes or too few frames.
    """
    if options.predict is None:
        return None
    seen, videos = _longer("predict", options, config, options.predict, device)
    model, guide = programs
    with usage_errors():
        return evaluate_prediction(model, guide, videos, seen, options.predict, model.decoder.whole_boxes)


def show_prediction(
    options: SQAIREvaluateConfig, config: SQAIRConfig, programs: Any, device: torch.device, folder: Path
) -> list[Path]:
    """Write `paths.png`, where objects of some videos go and are said to go, and a film, `prediction.gif`."""
    assert options.predict is not None
    seen, videos = _longer("predict", replace(options, videos=_SHOWN), config, options.predict, device)
    model, guide = programs
    batch = next(videos)
    video = batch.video.cpu()
    frames = predict(model, guide, batch.video, seen, options.predict)
    found = found_tracks([frame.slots for frame in frames], model.decoder.whole_boxes)
    assert batch.boxes is not None  # `predict_means` has refused others
    true = true_tracks(batch.boxes, batch)
    later = slice(seen - 1, seen + min(options.predict, _PATH))
    factor = default_factor(video)
    tiles = []
    for b in range(len(video)):
        picture = upscale(video[b, seen - 1], factor)
        picture = draw_paths(picture, Tracks(*(field[b, later].cpu() for field in true)), factor, _TRUE)
        tiles.append(draw_paths(picture, Tracks(*(field[b, later].cpu() for field in found)), factor))
    title = f"{later.stop - seen} frames after frame {seen - 1}: predicted in colours, true in grey"
    paths = folder / "paths.png", folder / "prediction.gif"
    save_picture(paths[0], grid([tiles], None, None, title=title))
    drawn = torch.stack([frame.canvas[0] for frame in frames]).cpu()
    remarks = ["seen"] * seen + ["predicted"] * options.predict
    boxes, present, identities = (field[0].cpu() for field in found)
    film = tracking_pictures(video[0], boxes, present, identities, drawn, remarks, ("truth", "model"))
    save_gif(paths[1], film, fps=10)
    return [*paths]


def _longer(
    name: str, options: SQAIREvaluateConfig, config: SQAIRConfig, later: int, device: torch.device
) -> tuple[int, Iterator[Videos]]:
    """Number of the frames that the model sees, and held-out videos of as many, and `later` frames more."""
    if config.model == "air":
        raise UsageError(f"`--{name}` is for SQAIR: AIR does not go on")
    seen = options.frames or config.frames
    longer = replace(options, frames=seen + later)
    data = held_out_videos(longer, config.data, config.frames, config.network.image_shape)
    return seen, batches_of(data, min(options.videos, len(data)), seen + later, device)


def print_continuation(report: ContinuationReport) -> None:
    """Distances after each number of frames."""
    print(f"going on alone   {report.objects} objects after {report.given} frames, pixels off")
    for later, distance, straight, kept in zip(
        report.later, report.distance, report.straight, report.kept, strict=True
    ):
        print(
            f"  {later} later".ljust(17) + f"{distance:.1f} ({kept:.1%} kept); a straight line {straight:.1f}"
        )


def print_prediction(report: PredictionReport) -> None:
    """Distances of centres, in sides of the frame."""
    ten = sum(report.stay[:10])
    print(f"predicted        {report.summed:.3f} over ten frames, {report.distance[-1]:.3f} in the last;")
    print(f"  where they were {ten:.3f} and {report.stay[-1]:.3f}; {report.paired:.1%} of the objects found,")
    print(f"  {report.kept:.1%} of them kept")


def print_segmentation(report: TrackingReport, first: int) -> None:
    """The numbers of the benchmark."""
    print(f"pixels           from frame {first}: MOTA {report.mota:.1%}, MOTP {report.motp:.1%};")
    print(f"  mostly detected {report.mostly_detected:.1%}, mostly tracked {report.mostly_tracked:.1%};")
    print(f"  {report.misses} misses, {report.switches} switches, {report.false_positives} false ones")


def print_baseline(name: str, report: ComponentsReport) -> None:
    """Its numbers, as those of the model."""
    print(f"{name:<17}threshold {report.threshold:g}, {report.least_area} pixels or more")
    if report.counting is not None:
        print(f"  count accuracy {report.counting.accuracy:.2%}")
    if report.visible_counting is not None:
        print(f"  ... of visible {report.visible_counting.accuracy:.2%}")
    if report.tracking is not None:
        tracking = report.tracking
        print(f"  MOTA, IDF1     {tracking.mota:.3f}, {tracking.idf1:.3f}; {tracking.switches} switches")
