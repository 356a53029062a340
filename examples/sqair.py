"""Sequential Attend, Infer, Repeat from the command line: train, evaluate, track, generate, export.

    whatwhere-sqair track
    whatwhere-sqair train --preset glyphs --output runs/sqair
    whatwhere-sqair evaluate --checkpoint runs/sqair/checkpoint.pt
    whatwhere-sqair track --checkpoint runs/sqair/checkpoint.pt --video clip.gif
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
from typing import Literal, NamedTuple

import pyro
import torch
from PIL import Image
from pyro import poutine
from torch import Tensor, nn

from whatwhere.examples.common.program import (
    Command,
    ExportConfig,
    UsageError,
    export,
    restore_run,
    run_program,
    set_threads,
)
from whatwhere.examples.common.video_models import (
    DataConfig,
    EvaluateConfig,
    PerFrame,
    SingleFrames,
    Split,
    VideoSource,
    batches_of,
    frames_to_go_on_from,
    load_data,
    print_likelihood,
    user_videos,
    write_generated,
)
from whatwhere.examples.common.video_models import GenerateConfig as GenerateVideosConfig
from whatwhere.examples.common.video_training import (
    Run,
    VideoModelConfig,
    evaluate_checkpoint,
    make_run,
    run_to_end,
)
from whatwhere.guides import Discovery, Propagation, SQAIRGuide, WhatEncoder
from whatwhere.guides.sequence_air import SequenceAIRGuide
from whatwhere.inference.evaluation import (
    Tracks,
    VideoReport,
    Videos,
    count_accuracy_of_videos,
    evaluate_videos,
    found_tracks,
    infer_video,
    write_json,
    write_tracks,
)
from whatwhere.inference.objectives import VIMCO, SQAIRSignal
from whatwhere.inference.pictures import film_strip, save_gif, save_picture, tracking_pictures
from whatwhere.inference.training import (
    Annealed,
    Curriculum,
    Process,
    TrainingConfig,
    join_processes,
    keep_freed_memory,
    load_checkpoint,
    runtime_field,
    select_device,
)
from whatwhere.models.components.active_set import use_active_set
from whatwhere.models.components.networks import ConvFeatures, SubPixelGlimpseDecoder, convolutions, mlp
from whatwhere.models.priors import (
    DiscoveryCountPrior,
    DiscoveryWherePrior,
    FixedWherePrior,
    GuidedPropagationPrior,
    RecurrentPropagationPrior,
)
from whatwhere.models.sequence_air import SequenceAIR
from whatwhere.models.sqair import SQAIR, Frame, LatentEncoder, LinearGlimpseDecoder, SceneDecoder

PRETRAINED = Path(__file__).parent / "pretrained" / "sqair-glyphs.pt"
"""A checkpoint that comes with the package; how it was made and how good it is stands beside it."""
EXAMPLE = Path(__file__).parent / "pretrained" / "glyphs.npz"
"""A held-out video for it."""


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of the networks, those of the authors' MLP-SQAIR unless said otherwise."""

    variant: Literal["mlp", "conv"] = "mlp"
    """Encoders and decoder: multi-layer perceptrons or convolutions. The paper's CONV-SQAIR also has `hidden`
    128 and `presence_hidden` 64, see the preset `conv`.
    """
    image_shape: tuple[int, int, int] | None = None
    """Channels, height and width of a frame; by default those of the training videos."""
    max_count: int = 3
    """Slots: most objects the model can see in a frame."""
    what_size: int = 50
    """Components of `z_what`."""
    glimpse_size: int = 20
    """Side of the attention window's crop, in pixels."""
    hidden: int = 256
    """Units of the recurrent networks and of most hidden layers."""
    narrow: int = 128
    """Units of the hidden layers of propagation's proposal and mask, and of the prior of places."""
    presence_hidden: int = 128
    """Units of the hidden layer of the presence networks."""


@dataclass(frozen=True)
class PriorConfig:
    """The priors, and the likelihood."""

    propagation: Literal["recurrent", "guided", "random_walk"] = "recurrent"
    """How objects go on: predicted from their past; moved from where they are; or a random walk."""
    stay_logit: float = 10.0
    """Added to the prior's logit of staying."""
    where: Literal["recurrent", "fixed"] = "recurrent"
    """Places of new objects: learned, each given the one before; or the same normal for all."""
    likelihood_scale: float = 0.3
    """Standard deviation of the pixels."""
    truncate: bool = True
    """Whether no more is discovered than there are free slots; in the authors' code it is not so."""


@dataclass(frozen=True)
class SQAIRConfig(VideoModelConfig):
    """Train SQAIR to find and follow the objects of videos, and evaluate it on held-out ones."""

    output: Path = runtime_field(Path("runs/sqair"))
    initial: Path | None = None
    """A checkpoint to start from, of networks of the same sizes; only its parameters are taken."""
    active_set: bool | None = runtime_field(None)
    """Run networks only on slots where there is an object: the same numbers, faster on a CPU, slower on a
    GPU. By default on the CPU.
    """
    model: Literal["sqair", "air"] = "sqair"
    """SQAIR, or AIR with SQAIR's discovery and decoder, for which every frame is the first: its objective is
    that of single frames.
    """
    estimator: Literal["vimco", "sqair_code"] = "vimco"
    """Gradient of presence: unbiased (`vimco`), or what the authors' code computes."""
    particles: int = 5
    """Particles of the objective, at least 2."""
    first_frames: int = 3
    """Frames of each video at the start of training."""
    hold_steps: int = 0
    """Steps after each lengthening during which objects are held on to: for the first half of them those of
    the first frame stay and nothing new is discovered, then in a falling share of decisions. A start at one
    frame needs it, see `guides.SQAIRGuide`.
    """
    decay_parts: tuple[int, ...] = (4, 6, 10)
    network: NetworkConfig = NetworkConfig()
    """The networks."""
    prior: PriorConfig = PriorConfig()
    """The priors."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.particles < 2:
            raise ValueError(f"`particles` are compared with each other: at least 2, got {self.particles}")
        if self.hold_steps < 0:
            raise ValueError(f"`hold_steps` must not be negative, got {self.hold_steps}")


_PAPER = SQAIRConfig(output=Path("runs/sqair-paper"), data=DataConfig(source="mnist"))
_GLYPHS = SQAIRConfig(
    output=Path("runs/sqair-glyphs"),
    threads=1,
    frames=3,
    optimizer="adam",
    learning_rate=3e-4,
    decay_parts=(3, 1),
    training=TrainingConfig(steps=8_000, evaluate_every=500, clip_norm=100.0),
)

PRESETS = {
    # Adam learns in thousands of steps what RMSProp at the published learning rate does in hundreds of
    # thousands. Three frames from the start: a guide that has seen two at most gives up propagation when the
    # third comes, unless it is held on to.
    "glyphs": _GLYPHS,
    "glyphs-10": replace(
        _GLYPHS,
        output=Path("runs/sqair-glyphs-10"),
        initial=_GLYPHS.output / "checkpoint.pt",
        first_frames=4,
        frames=10,
        stage_steps=150,
        hold_steps=60,
        training=replace(_GLYPHS.training, steps=1_500, evaluate_every=150, checkpoint_every=250),
    ),
    "from-one-frame": replace(
        _GLYPHS,
        output=Path("runs/sqair-from-one-frame"),
        first_frames=1,
        stage_steps=1_500,
        hold_steps=600,
        training=replace(_GLYPHS.training, steps=9_000),
    ),
    "paper": _PAPER,
    "authors": replace(
        _PAPER,
        output=Path("runs/sqair-authors"),
        estimator="sqair_code",
        prior=PriorConfig(truncate=False),
    ),
    "conv": replace(
        _PAPER,
        output=Path("runs/sqair-conv"),
        network=NetworkConfig(variant="conv", hidden=128, presence_hidden=64),
    ),
}


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


class Programs(NamedTuple):
    """Model and guide."""

    model: SQAIR
    guide: SQAIRGuide


class AIRPrograms(NamedTuple):
    """Model and guide of single frames."""

    model: SequenceAIR
    guide: SequenceAIRGuide


def programs_of(config: SQAIRConfig, mean_image: Tensor | None = None) -> Programs | AIRPrograms:
    """Make the model and the guide of a configuration whose `network.image_shape` is known.

    AIR is what SQAIR has for the first frame.

    Args:
        config: of the run.
        mean_image: what the model's mean image starts from, black by default.
    """
    programs = build(config.network, config.prior, mean_image, hold=config.hold_steps > 0)
    if config.model == "sqair":
        return programs
    model, guide = programs
    single = SequenceAIR(
        model.discovery_count_prior,
        model.discovery_where_prior,
        model.decoder,
        model.latent_encoder.size,
        config.network.max_count,
        config.network.what_size,
        config.prior.likelihood_scale,
    )
    return AIRPrograms(single, SequenceAIRGuide(guide.discovery, guide.image_shape))


def build(
    network: NetworkConfig, prior: PriorConfig, mean_image: Tensor | None = None, hold: bool = False
) -> Programs:
    """Make SQAIR's model and guide, see `programs_of`.

    Args:
        network: sizes.
        prior: the priors.
        mean_image: what the model's mean image starts from, black by default.
        hold: whether objects can be held on to, see `SQAIRGuide`.
    """
    if network.image_shape is None:
        raise ValueError("`network.image_shape` is not known")
    image_shape, hidden, narrow = network.image_shape, network.hidden, network.narrow
    count, what = network.max_count, network.what_size
    glimpse_shape = (image_shape[0], network.glimpse_size, network.glimpse_size)
    encoders = _encoders(network, glimpse_shape, image_shape)
    what_encoder = WhatEncoder(encoders.glimpse, hidden, what)
    latent_encoder = LatentEncoder(what, hidden)
    mean_image = torch.zeros(image_shape) if mean_image is None else mean_image
    model = SQAIR(
        _propagation_prior(network, prior),
        DiscoveryCountPrior(count),
        DiscoveryWherePrior(hidden + 1, narrow) if prior.where == "recurrent" else FixedWherePrior(),
        latent_encoder,
        SceneDecoder(_decoder(network, glimpse_shape), mean_image),
        count,
        what,
        prior.likelihood_scale,
        prior.truncate,
    )
    propagation = Propagation(
        what_encoder,
        what,
        glimpse_shape[1:],
        hidden,
        narrow,
        presence_hidden=network.presence_hidden,
        hold=hold,
    )
    discovery = Discovery(
        encoders.image,
        what_encoder,
        hidden,
        latent_encoder.size,
        count,
        what,
        glimpse_shape[1:],
        hidden,
        network.presence_hidden,
        hold=hold,
    )
    guide = SQAIRGuide(propagation, discovery, latent_encoder, image_shape, prior.truncate)
    return Programs(model, guide)


class _Encoders(NamedTuple):
    """Features of glimpses and of whole frames."""

    glimpse: nn.Module
    image: nn.Module


def _encoders(network: NetworkConfig, *shapes: tuple[int, int, int]) -> _Encoders:
    """The two encoders; convolutions are shared, fully connected layers are not."""
    hidden = network.hidden
    if network.variant == "conv":
        trunk = convolutions(shapes[0][0], (16, 32, 32, 64), (2, 2, 1, 1))
        return _Encoders(*(ConvFeatures(shape, features=hidden, trunk=trunk) for shape in shapes))
    sizes = ([torch.Size(shape).numel(), hidden, hidden] for shape in shapes)
    return _Encoders(
        *(nn.Sequential(nn.Flatten(-3), mlp(widths, nn.ELU, activate_last=True)) for widths in sizes)
    )


def _decoder(network: NetworkConfig, glimpse_shape: tuple[int, int, int]) -> nn.Module:
    if network.variant == "conv":
        return SubPixelGlimpseDecoder(network.what_size, glimpse_shape)
    return LinearGlimpseDecoder(network.what_size, glimpse_shape, network.hidden)


def _propagation_prior(network: NetworkConfig, prior: PriorConfig) -> RecurrentPropagationPrior:
    sizes = network.what_size, network.hidden, prior.stay_logit
    if prior.propagation == "recurrent":
        return RecurrentPropagationPrior(*sizes)
    return GuidedPropagationPrior(*sizes, update_scale=0.1 if prior.propagation == "guided" else 0.0)


def prepare(
    config: SQAIRConfig, process: Process, data: Split | None = None
) -> Run[SQAIRConfig, Programs | AIRPrograms]:
    """Make all that a training run needs.

    Args:
        config: of the run.
        process: this process's place among several.
        data: the videos, if they are there already; by default those that the configuration says.
    """
    data = data or load_data(config.data, config.frames)
    if config.network.image_shape is None:
        channels, height, width = data.train.shape[2:]
        config = replace(config, network=replace(config.network, image_shape=(channels, height, width)))
    torch.manual_seed(config.training.seed)
    first = data.train.batch(range(min(1000, len(data.train)))).video[:, : config.frames]
    programs = programs_of(config, first.mean((0, 1)))
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
    has_counts = next(batches_of(data.test, 1, 1, process.device)).counts is not None

    def evaluate(videos: Iterator[Videos]) -> dict[str, float]:
        return count_accuracy_of_videos(model, guide, videos)._asdict()

    return make_run(
        config,
        programs,
        objective,
        data,
        process,
        evaluate if has_counts else None,
        on_step=[
            Annealed(phase.hold, Hold(config.length, config.hold_steps))
            for phase in guide.modules()
            if isinstance(phase, Propagation | Discovery) and phase.hold is not None
        ],
        # In the first frame nothing is propagated.
        find_unused_parameters=config.first_frames == 1 or config.model == "air",
    )


def train(config: SQAIRConfig, process: Process) -> int:
    """Train, evaluate on held-out videos, and write everything into `config.output`."""
    set_threads(config.threads)
    keep_freed_memory()
    return run_to_end(prepare(config, process), process, report_held_out)


def report_held_out(
    options: EvaluateConfig,
    config: SQAIRConfig,
    programs: Programs | AIRPrograms,
    data: VideoSource,
    device: torch.device,
) -> VideoReport:
    """Evaluate on held-out videos; write and print `metrics.json` and a picture."""
    folder = options.output or options.checkpoint.parent / "evaluation"
    frames = options.frames or config.frames
    model, guide = programs
    for program in programs:
        program.eval()
    torch.manual_seed(options.seed)
    report = evaluate_videos(
        model,
        guide,
        batches_of(data, min(options.videos, len(data)), frames, device),
        draw_objects=model.decoder.objects,
        independent_frames=config.model == "air",
        particles=options.particles,
        iwae_particles=options.iwae_particles,
        iwae_videos=options.iwae_videos,
    )
    write_json(folder / "metrics.json", report.numbers())
    example = next(batches_of(data, min(4, len(data)), frames, device)).video
    picture = reconstructions(example, infer_video(model, guide, example), model)
    save_picture(folder / "reconstructions.png", picture)
    print_report(report)
    print(f"metrics:         {folder / 'metrics.json'}")
    print(f"pictures:        {folder / 'reconstructions.png'}")
    return report


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


def reconstructions(video: Tensor, found: Sequence[Frame], model: SQAIR | SequenceAIR) -> Image.Image:
    """A film strip of videos and what the model makes of them, with boxes around the objects."""
    tracks = found_tracks([frame.slots for frame in found], model.decoder.objects)
    canvas = torch.stack([frame.canvas for frame in found], dim=1)
    rows: list[Tensor] = []
    overlays: list[Tracks | None] = []
    for i, frames in enumerate(video):
        rows += [frames.cpu(), canvas[i].cpu()]
        overlays += [Tracks(*(field[i].cpu() for field in tracks)), None]
    return film_strip(rows, ["input", "reconstruction"] * len(video), overlays)


def restore(path: Path, device: torch.device) -> tuple[SQAIRConfig, Programs | AIRPrograms]:
    """Rebuild the configuration, model and guide of a checkpoint."""
    config, modules = restore_run(
        path, device, SQAIRConfig, "SQAIR", lambda config: programs_of(config)._asdict()
    )
    programs = Programs(**modules) if config.model == "sqair" else AIRPrograms(**modules)
    use_active_set(*programs, on=device.type == "cpu")
    return config, programs


@dataclass(frozen=True)
class TrackConfig:
    """Follow the objects of videos: boxes with identities as CSV, and an annotated GIF."""

    checkpoint: Path = PRETRAINED
    """The checkpoint of a training run; by default that of the package, trained on glyphs."""
    video: Path = EXAMPLE
    """A folder of frames, an animated GIF, an `.npz` or an HDF5 file, see `whatwhere.datasets.load_clips`; by
    default an example that comes with the package.
    """
    output: Path = Path("tracks")
    """Folder for `tracks.csv` and `tracks.gif`."""
    resize: bool = False
    """Resize frames to what the model was trained on, and make them grey where it was trained on grey."""
    particles: int = 10
    """Posterior samples of each video; the one of greatest weight is taken."""
    gifs: int = 1
    """Number of videos that a GIF is made of, the first ones."""
    fps: float = 4.0
    """Frames per second of the GIF."""
    seed: int = 0
    """Seed of the posterior samples."""
    device: str = "cpu"
    """`cpu`, `cuda`, or `auto`."""

    def __post_init__(self) -> None:
        if self.particles < 1 or self.gifs < 0:
            raise ValueError(
                f"`particles` must be positive and `gifs` not negative, got {self.particles} and {self.gifs}"
            )


def track(options: TrackConfig) -> int:
    """Track the objects of a user's videos."""
    device = select_device(options.device)
    config, (model, guide) = restore(options.checkpoint, device)
    data = user_videos(options.video, config.network.image_shape, options.resize)
    torch.manual_seed(options.seed)
    parts: list[Tracks] = []
    for start in range(0, len(data), 20):
        video = data.batch(range(start, min(start + 20, len(data)))).video.to(device)
        found = infer_video(model, guide, video, particles=options.particles)
        slots = [frame.slots for frame in found]
        tracks = Tracks(*(x.cpu() for x in found_tracks(slots, model.decoder.objects)))
        parts.append(tracks)
        canvas = torch.stack([frame.canvas for frame in found], dim=1).cpu()
        for i in range(start, min(start + len(video), options.gifs)):
            boxes, here, identities = (x[i - start] for x in tracks)
            pages = tracking_pictures(
                video[i - start].cpu(), boxes, here, identities, canvas=canvas[i - start]
            )
            path = options.output / ("tracks.gif" if options.gifs == 1 else f"tracks-{i}.gif")
            save_gif(path, pages, options.fps)
            print(f"animation: {path}")
    joined = Tracks(*(torch.cat(fields) for fields in zip(*parts, strict=True)))
    boxes, here, identities = (x[0] if len(data) == 1 else x for x in joined)
    write_tracks(options.output / "tracks.csv", boxes, here, identities)
    print(f"boxes:     {options.output / 'tracks.csv'}")
    return 0


@dataclass(frozen=True)
class GenerateConfig(GenerateVideosConfig):
    """Draw videos from a trained model, or go on from the first frames of a given one."""

    checkpoint: Path = PRETRAINED
    """The checkpoint of a training run; by default that of the package, trained on glyphs."""
    discover: bool = False
    """Whether new objects may appear after the given frames; in videos from the prior they always may."""


def generate(options: GenerateConfig) -> int:
    """Generate videos with a checkpoint."""
    device = select_device(options.device)
    config, (model, guide) = restore(options.checkpoint, device)
    torch.manual_seed(options.seed)
    if options.video is None:
        drawn = model.generate(options.count, options.frames)
        write_generated(options, [frame.canvas for frame in drawn])
        return 0
    if not isinstance(model, SQAIR):
        raise UsageError("`--video` is for SQAIR: what AIR draws does not depend on the frames before")
    video, seen = frames_to_go_on_from(options, options.video, config.network.image_shape, device)
    with torch.no_grad():
        trace = poutine.trace(guide).get_trace(seen)
    drawn = model.generate(options.count, options.frames, trace, discover=options.discover)
    write_generated(options, [frame.canvas for frame in drawn], video)
    return 0


def run_training(config: SQAIRConfig) -> int:
    """Train in this process, or with the others that `torchrun` has started."""
    with join_processes(config.device) as process, pyro.validation_enabled(config.validate):
        return train(config, process)


COMMANDS = {
    "train": Command(SQAIRConfig, run_training, PRESETS),
    "evaluate": Command(
        EvaluateConfig, partial(evaluate_checkpoint, restore=restore, report=report_held_out)
    ),
    "track": Command(TrackConfig, track),
    "generate": Command(GenerateConfig, generate),
    "export": Command(ExportConfig, partial(export, restore=restore)),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command."""
    return run_program("whatwhere-sqair", __doc__ or "", COMMANDS, argv)


if __name__ == "__main__":
    sys.exit(main())
