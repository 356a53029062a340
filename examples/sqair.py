"""Sequential Attend, Infer, Repeat from the command line: train, evaluate, track, generate, export.

    whatwhere-sqair track
    whatwhere-sqair train --preset glyphs --output runs/sqair
    whatwhere-sqair evaluate --checkpoint runs/sqair/checkpoint.pt
    whatwhere-sqair track clip.mp4 --checkpoint runs/sqair/checkpoint.pt
    whatwhere-sqair generate --checkpoint runs/sqair/checkpoint.pt

Also `python -m whatwhere.examples.sqair`, and with several processes
`torchrun --nproc-per-node 2 -m whatwhere.examples.sqair train ...`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor

from whatwhere import checks
from whatwhere.checks import FieldError
from whatwhere.examples.common.assessment import known_of, print_assessment
from whatwhere.examples.common.program import (
    Command,
    ExportConfig,
    UsageError,
    begin_run,
    export,
    restore_run,
    run_program,
    usage_errors,
)
from whatwhere.examples.common.sources import with_image_shape
from whatwhere.examples.common.user_code import require_named
from whatwhere.examples.common.video_models import GenerateConfig as GenerateVideosConfig
from whatwhere.examples.common.video_models import (
    PerFrame,
    SingleFrames,
    Split,
    VideoSource,
    batches_of,
    camera_image,
    camera_size,
    frames_to_go_on_from,
    mean_frame,
    median_frame,
    print_likelihood,
    reconstruction_strip,
    write_generated,
)
from whatwhere.examples.common.video_training import (
    Run,
    evaluate_checkpoint,
    make_run,
    monitored,
    run_to_end,
)
from whatwhere.examples.parts.sqair_auto import chosen
from whatwhere.examples.parts.sqair_config import PRESETS, NetworkConfig, PriorConfig, SQAIRConfig
from whatwhere.examples.parts.sqair_evaluation import (
    SQAIREvaluateConfig,
    continue_alone,
    evaluate_baselines,
    predict_means,
    print_baseline,
    print_continuation,
    print_prediction,
    print_segmentation,
    show_prediction,
)
from whatwhere.examples.parts.sqair_programs import AIRPrograms, Programs, build, programs_of, rebuilt
from whatwhere.examples.parts.sqair_tracking import TrackConfig, programs_for, track_objects
from whatwhere.examples.parts.warm_start import WarmStart
from whatwhere.guides import Propagation, SlotDiscovery, TrackingPropagation
from whatwhere.inference.evaluation import (
    Assessment,
    Assessor,
    VideoReport,
    Videos,
    evaluate_videos,
    found_tracks,
    infer_video,
    log_marginal,
    watched_metrics,
    write_json,
)
from whatwhere.inference.objectives import VIMCO, SQAIRSignal
from whatwhere.inference.pictures import save_picture
from whatwhere.inference.training import (
    Annealed,
    Curriculum,
    Process,
    join_processes,
    keep_freed_memory,
    load_checkpoint,
    positional_field,
    run_stages,
    select_device,
)
from whatwhere.models.components.active_set import use_active_set

__all__ = [
    "COMMANDS",
    "EXAMPLE",
    "PRESETS",
    "PRETRAINED",
    "AIRPrograms",
    "Hold",
    "NetworkConfig",
    "PriorConfig",
    "Programs",
    "SQAIRConfig",
    "build",
    "main",
    "prepare",
    "programs_of",
    "restore",
    "train",
]

PRETRAINED = Path(__file__).parent / "pretrained" / "sqair-glyphs.pt"
"""A checkpoint that comes with the package; how it was made and how good it is stands beside it."""
EXAMPLE = Path(__file__).parent / "pretrained" / "glyphs.npz"
"""A held-out video for it."""


_ASSESSED = 100
"""Held-out videos by which a model is assessed without labels."""


@dataclass(frozen=True)
class Hold:
    """Share of decisions after the first frame that keep the objects as they are, as a function of the step.

    After each lengthening of the videos nearly 1 for half of `steps`, from there linearly to 0.
    """

    lengths: Curriculum
    """Length of the videos."""
    steps: int
    """Steps until it has reached 0."""

    def __call__(self, step: int) -> float:
        """Return the share at a step."""
        stages = min(step // self.lengths.every, self.lengths.maximum - self.lengths.start)
        taken = step - stages * self.lengths.every
        return min(0.999, max(0.0, 2 - 2 * taken / self.steps)) if self.steps else 0.0


def prepare(
    config: SQAIRConfig, process: Process, data: Split | None = None
) -> Run[SQAIRConfig, Programs | AIRPrograms]:
    """Make all that a training run needs.

    Args:
        config: of the run.
        process: this process's place among several.
        data: the videos, if they are there already; by default those that the configuration says.
    """
    if data is None:
        config, data = chosen(config, process.is_main)
    config = with_image_shape(config, data.train.shape[2:], data.test.shape[2:])
    if config.network.background == "camera":
        size = camera_size(data.train)
        if config.network.camera not in (None, size):
            raise FieldError("network.camera", f"must be that of the videos, {size}", config.network.camera)
        config = replace(config, network=replace(config.network, camera=size))
    torch.manual_seed(config.training.seed)
    with usage_errors():
        programs = programs_of(config, first_image(config, data.train))
    if config.initial is not None:
        load_checkpoint(config.initial).restore_modules(programs._asdict())
    model, guide = programs
    for program in programs:
        program.to(process.device)
    on_cpu = process.device.type == "cpu"
    use_active_set(*programs, on=on_cpu if config.active_set is None else config.active_set)
    estimator = VIMCO if config.estimator == "vimco" else SQAIRSignal
    bound = estimator(config.particles, reduction="mean")(model, guide)
    objective = PerFrame(bound) if config.model == "sqair" else SingleFrames(bound)

    moving = ("rnn", "head") if config.motion_rate != 1 else ()
    rates = {
        f"objective.model.propagation_prior.{part}": config.motion_rate * config.learning_rate
        for part in moving
    }

    def evaluate(videos: Iterator[Videos]) -> dict[str, float]:
        return monitored(model, guide, objective, videos)

    def watch(held_out: Tensor, training: Tensor) -> dict[str, float]:
        return watched_metrics(model, guide, held_out, training)

    return make_run(
        config,
        programs,
        objective,
        data,
        process,
        evaluate,
        watch,
        config.training.part(1 - config.warm_start.share),
        rates,
        on_step=[
            Annealed(phase.hold, Hold(config.length, config.hold_steps))
            for phase in guide.modules()
            if isinstance(phase, Propagation | TrackingPropagation | SlotDiscovery) and phase.hold is not None
        ],
        # In the first frame nothing is propagated.
        find_unused_parameters=config.first_frames == 1 or config.model == "air",
    )


def first_image(config: SQAIRConfig, data: VideoSource) -> Tensor:
    """What the mean image, or what is behind the objects, starts from."""
    if config.network.background == "camera":
        return camera_image(data, config.frames)
    first = median_frame if config.network.behind else mean_frame
    return first(data, config.frames)


def train(config: SQAIRConfig, process: Process) -> int:
    """Train, evaluate on held-out videos, and write everything into `config.output`."""
    begin_run(config, process)
    run = prepare(config, process)
    warm = WarmStart(run.config, run.programs, run.data, process)
    stages = warm.stages()
    if stages:
        result = run_stages(stages, config.resume, print if process.is_main else lambda line: None)
        if result.reason != "completed":
            return result.exit_code
    return run_to_end(run, process, report_held_out, SQAIREvaluateConfig)


def report_held_out(
    options: SQAIREvaluateConfig,
    config: SQAIRConfig,
    programs: Programs | AIRPrograms,
    data: VideoSource,
    device: torch.device,
) -> VideoReport:
    """Evaluate on held-out videos; write and print `metrics.json` and a picture."""
    folder = options.output or options.checkpoint.parent / "evaluation"
    frames = options.frames or config.frames
    model, guide = programs
    model.decoder.ink = options.ink
    for program in programs:
        program.eval()
    torch.manual_seed(options.seed)
    report = evaluate_videos(
        model,
        guide,
        batches_of(data, min(options.videos, len(data)), frames, device),
        find_boxes=model.decoder.boxes,
        find_segments=getattr(model.decoder, "segments", None),
        independent_frames=config.model == "air",
        particles=options.particles,
        iwae_particles=options.iwae_particles,
        iwae_videos=options.iwae_videos,
        iou_threshold=options.iou,
        segmented_from=options.segmented_from,
    )
    assessment = assess_held_out(options, config, programs, data, device)
    baselines = evaluate_baselines(options, config, data, frames)
    continuation = continue_alone(options, config, programs, device)
    prediction = predict_means(options, config, programs, device)
    numbers = report.numbers() | {
        "assessment": assessment,
        "baselines": baselines,
        "continuation": continuation,
        "prediction": prediction,
    }
    write_json(folder / "metrics.json", numbers)
    example = next(batches_of(data, min(4, len(data)), frames, device)).video
    found = infer_video(model, guide, example)
    canvas = torch.stack([frame.canvas for frame in found], dim=1)
    tracks = found_tracks([frame.slots for frame in found], model.decoder.boxes)
    save_picture(folder / "reconstructions.png", reconstruction_strip(example, canvas, tracks))
    print_report(report)
    for name, baseline in baselines.items():
        print_baseline(name, baseline)
    if continuation is not None:
        print_continuation(continuation)
    pictures = [folder / "reconstructions.png"]
    if prediction is not None:
        print_prediction(prediction)
        pictures += show_prediction(options, config, programs, device, folder)
    print_assessment(assessment, assessment.remarks())
    print(f"metrics:         {folder / 'metrics.json'}")
    print(f"pictures:        {', '.join(map(str, pictures))}")
    return report


def assess_held_out(
    options: SQAIREvaluateConfig,
    config: SQAIRConfig,
    programs: Programs | AIRPrograms,
    data: VideoSource,
    device: torch.device,
) -> Assessment:
    """How good the model is on some held-out videos, beside what its checkpoint knows of training."""
    model, guide = programs
    assessor = Assessor(model, guide)
    size = min(_ASSESSED, options.videos, len(data))
    for batch in batches_of(data, size, options.frames or config.frames, device):
        found = infer_video(model, guide, batch.video)
        bound = log_marginal(model, guide, batch.video, num_particles=1)
        assessor.add(batch.video, bound, torch.stack([frame.slots.z_pres for frame in found], dim=1))
    return assessor.assessment(known_of(options.checkpoint, config.network.image_shape))


def print_report(report: VideoReport) -> None:
    """The numbers that matter most, in nats per sequence."""
    print_likelihood(report)
    print("propagated       " + " ".join(f"{value:.2f}" for value in report.propagated))
    print("discovered       " + " ".join(f"{value:.2f}" for value in report.discovered))
    print("effective sample " + " ".join(f"{value:.2f}" for value in report.effective_sample_size))
    if report.counting is not None:
        by_frame = " ".join(f"{value:.3f}" for value in report.counting.frame_accuracy)
        print(f"count accuracy   {report.counting.accuracy:.2%}  by frame {by_frame}")
        print(f"                 {report.counting.weighted_accuracy:.2%} weighted")
        ratio = report.discoveries_per_object_after_first
        print(f"rediscovered     {ratio:.4f} per object and frame after the first")
    if report.visible_counting is not None:
        print(f"... of visible   {report.visible_counting.accuracy:.2%}")
    if report.tracking is not None:
        tracking = report.tracking
        print(f"MOTA, IDF1       {tracking.mota:.3f}, {tracking.idf1:.3f}; {tracking.switches} switches")
    if report.segmentation is not None:
        print_segmentation(report.segmentation, report.segmented_from)


def restore(
    path: Path, device: torch.device, build: str | None = None
) -> tuple[SQAIRConfig, Programs | AIRPrograms]:
    """Rebuild the configuration, model and guide of a checkpoint.

    Args:
        path: of the checkpoint.
        device: where they shall be.
        build: the function that it was trained with, if it was one of the user's own; one that only the
            checkpoint names is not imported.

    Raises:
        CheckpointError: it cannot be read, is one of something else, or was trained with another function.
    """

    def made(config: SQAIRConfig) -> dict[str, Any]:
        require_named(path, config.build, build)
        return programs_of(config)._asdict()

    config, modules = restore_run(path, device, SQAIRConfig, "SQAIR", made)
    programs = Programs(**modules) if config.model == "sqair" else AIRPrograms(**modules)
    use_active_set(*programs, on=device.type == "cpu")
    return config, programs


@dataclass(frozen=True)
class SQAIRTrackConfig(TrackConfig):
    """Follow the objects of videos: a table of boxes with identities, and films with them."""

    checkpoint: Path = PRETRAINED
    """The checkpoint of a training run; by default that of the package, trained on glyphs."""
    video: Path = positional_field(EXAMPLE)
    build: str | None = None
    """The function that the model was trained with, if it was one of your own."""


def track(options: SQAIRTrackConfig) -> int:
    """Track the objects of a user's videos."""
    keep_freed_memory()
    device = select_device(options.device)
    config, programs = restore(options.checkpoint, device, options.build)
    known = known_of(options.checkpoint, config.network.image_shape)
    config, programs = programs_for(options, config, programs)
    torch.manual_seed(options.seed)
    track_objects(options, config, programs, device, known)
    return 0


@dataclass(frozen=True)
class GenerateConfig(GenerateVideosConfig):
    """Draw videos from a trained model, or go on from the first frames of a given one."""

    checkpoint: Path = PRETRAINED
    """The checkpoint of a training run; by default that of the package, trained on glyphs."""
    output: Path = Path("generated/sqair")
    discover: bool = False
    """Whether new objects may appear after the given frames; in videos from the prior they always may."""
    max_count: int | None = None
    """Most objects in a frame of the given video, see `track`."""
    build: str | None = None
    """The function that the model was trained with, if it was one of your own."""

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.positive(self, "max_count")
        if self.max_count is not None and self.video is None:
            raise ValueError("`max_count` is for a given `video`; those from the prior have that of training")


def generate(options: GenerateConfig) -> int:
    """Generate videos with a checkpoint."""
    device = select_device(options.device)
    config, programs = restore(options.checkpoint, device, options.build)
    torch.manual_seed(options.seed)
    if options.video is None:
        model: Any = programs.model
        drawn = model.generate(options.count, options.frames)
        write_generated(options, [frame.canvas for frame in drawn])
        return 0
    if config.model != "sqair":
        raise UsageError("`--video` is for SQAIR: what AIR draws does not depend on the frames before")
    whole = TrackConfig(options.checkpoint, options.video, resize=options.resize, max_count=options.max_count)
    config, (model, guide) = programs_for(whole, config, programs)
    video, seen = frames_to_go_on_from(
        options, options.video, config.network.image_shape, device, config.data
    )
    with torch.no_grad():
        trace = poutine.trace(guide).get_trace(seen)
    drawn = model.generate(options.count, options.frames, trace, discover=options.discover)
    write_generated(options, [frame.canvas for frame in drawn], video)
    return 0


@dataclass(frozen=True)
class SQAIRExportConfig(ExportConfig):
    """Write a checkpoint to share: without the state of the optimiser, a third of its size."""

    build: str | None = None
    """The function that the model was trained with, if it was one of your own."""


def evaluate(options: SQAIREvaluateConfig) -> int:
    """Evaluate a checkpoint."""

    def restored(path: Path, device: torch.device) -> tuple[SQAIRConfig, Programs | AIRPrograms]:
        config, programs = restore(path, device, options.build)
        if options.widest is not None:
            config = replace(config, network=replace(config.network, widest=options.widest))
            programs = rebuilt(config, programs)
        return config, programs

    return evaluate_checkpoint(options, restored, report_held_out)


def run_training(config: SQAIRConfig) -> int:
    """Train in this process, or with the others that `torchrun` has started."""
    with join_processes(config.device) as process, pyro.validation_enabled(config.validate):
        return train(config, process)


COMMANDS = {
    "train": Command(SQAIRConfig, run_training, PRESETS),
    "evaluate": Command(SQAIREvaluateConfig, evaluate),
    "track": Command(SQAIRTrackConfig, track),
    "generate": Command(GenerateConfig, generate),
    "export": Command(
        SQAIRExportConfig, lambda options: export(options, partial(restore, build=options.build))
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command."""
    return run_program("whatwhere-sqair", __doc__ or "", COMMANDS, argv)


if __name__ == "__main__":
    sys.exit(main())
