"""The variational recurrent neural network from the command line: train, evaluate, generate, export.

    whatwhere-vrnn train --preset glyphs --output runs/vrnn
    whatwhere-vrnn evaluate --checkpoint runs/vrnn/checkpoint.pt
    whatwhere-vrnn generate --checkpoint runs/vrnn/checkpoint.pt

Also `python -m whatwhere.examples.vrnn`, and with several processes
`torchrun --nproc-per-node 2 -m whatwhere.examples.vrnn train ...`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import pyro
import torch
from pyro import poutine

from whatwhere import checks
from whatwhere.examples.common.program import (
    Command,
    ExportConfig,
    begin_run,
    export,
    restore_run,
    run_program,
    usage_errors,
)
from whatwhere.examples.common.sources import with_image_shape
from whatwhere.examples.common.video_models import (
    DataConfig,
    EvaluateConfig,
    GenerateConfig,
    PerFrame,
    Split,
    VideoSource,
    batches_of,
    count_parameters,
    frames_to_go_on_from,
    load_data,
    print_likelihood,
    reconstruction_strip,
    with_levels,
    write_generated,
)
from whatwhere.examples.common.video_training import (
    Run,
    VideoModelConfig,
    evaluate_checkpoint,
    held_out_bound,
    make_run,
    run_to_end,
)
from whatwhere.examples.parts.vrnn_programs import NetworkConfig, Programs, build, reconstruct
from whatwhere.inference.evaluation import LikelihoodReport, evaluate_likelihood, write_json
from whatwhere.inference.objectives import FIVO, IWAE
from whatwhere.inference.pictures import save_picture
from whatwhere.inference.training import (
    Process,
    TrainingConfig,
    join_processes,
    runtime_field,
    select_device,
)
from whatwhere.models.vrnn import FeedBack

__all__ = [
    "COMMANDS",
    "PRESETS",
    "NetworkConfig",
    "Programs",
    "VRNNConfig",
    "build",
    "main",
    "prepare",
    "restore",
    "train",
]


@dataclass(frozen=True)
class VRNNConfig(VideoModelConfig):
    """Train a variational recurrent neural network on videos, and evaluate it on held-out ones."""

    output: Path = runtime_field(Path("runs/vrnn"))
    bound: Literal["iwae", "fivo"] = "iwae"
    """What is maximised: SQAIR's importance-weighted bound, or the bound of a particle filter, with which
    SQAIR's authors trained their baseline.
    """
    particles: int = 5
    """Particles of the objective; `fivo` needs at least 2. The paper tells neither of them nor of videos that
    become longer.
    """
    likelihood_scale: float = 0.3
    """Standard deviation of the pixels."""
    network: NetworkConfig = NetworkConfig()
    """The networks."""

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.positive(self, "particles", "likelihood_scale")
        if self.bound == "fivo" and self.particles == 1:
            raise ValueError(
                "`bound` = fivo chooses among particles and needs 2 or more, got 1; iwae takes one"
            )


_PAPER = VRNNConfig(output=Path("runs/vrnn-paper"), data=DataConfig(source="mnist"))

PRESETS = {
    # Adam learns in thousands of steps what RMSProp at the published learning rate does in hundreds of
    # thousands.
    "glyphs": VRNNConfig(
        output=Path("runs/vrnn-glyphs"),
        threads=1,
        optimizer="adam",
        learning_rate=3e-4,
        decay_parts=(3, 1),
        training=TrainingConfig(steps=8_000, evaluate_every=500, clip_norm=100.0),
    ),
    "paper": _PAPER,
    "conv": replace(
        _PAPER,
        output=Path("runs/vrnn-conv"),
        network=NetworkConfig(variant="conv", hidden=184, recurrent=184, layers=1),
    ),
}


def print_sizes(programs: Programs) -> None:
    """Numbers of parameters."""
    model, guide = programs
    parts = {"dynamics": model.dynamics, "decoder": model.decoder, "posterior": guide.posterior}
    listed = ", ".join(f"{name} {count_parameters(part):,}" for name, part in parts.items())
    print(f"parameters       {count_parameters(*programs):,}  ({listed})")


def prepare(config: VRNNConfig, process: Process, data: Split | None = None) -> Run[VRNNConfig, Programs]:
    """Make all that a training run needs.

    Args:
        config: of the run.
        process: this process's place among several.
        data: the videos, if they are there already; by default those that the configuration says.
    """
    if data is None:
        config = replace(config, data=with_levels(config.data))
        data = load_data(config.data, config.frames)
    config = with_image_shape(config, data.train.shape[2:], data.test.shape[2:])
    torch.manual_seed(config.training.seed)
    with usage_errors():
        programs = build(config.network, config.likelihood_scale)
    for program in programs:
        program.to(process.device)
    bound = IWAE if config.bound == "iwae" else FIVO
    objective = PerFrame(bound(config.particles, reduction="mean")(*programs))

    return make_run(config, programs, objective, data, process, partial(held_out_bound, objective))


def train(config: VRNNConfig, process: Process) -> int:
    """Train, evaluate on held-out videos, and write everything into `config.output`."""
    begin_run(config, process)
    run = prepare(config, process)
    if process.is_main:
        print_sizes(run.programs)
    return run_to_end(run, process, report_held_out)


def report_held_out(
    options: EvaluateConfig, config: VRNNConfig, programs: Programs, data: VideoSource, device: torch.device
) -> LikelihoodReport:
    """Evaluate on held-out videos; write and print `metrics.json` and a picture."""
    folder = options.output or options.checkpoint.parent / "evaluation"
    frames = options.frames or config.frames
    for program in programs:
        program.eval()
    torch.manual_seed(options.seed)
    report = evaluate_likelihood(
        *programs,
        (batch.video for batch in batches_of(data, min(options.videos, len(data)), frames, device)),
        particles=options.particles,
        iwae_particles=options.iwae_particles,
        iwae_videos=options.iwae_videos,
    )
    write_json(folder / "metrics.json", report.numbers())
    example = next(batches_of(data, min(4, len(data)), frames, device)).video
    save_picture(
        folder / "reconstructions.png", reconstruction_strip(example, reconstruct(programs, example))
    )
    print_likelihood(report)
    print("effective sample " + " ".join(f"{value:.2f}" for value in report.effective_sample_size))
    print(f"metrics:         {folder / 'metrics.json'}")
    print(f"pictures:        {folder / 'reconstructions.png'}")
    return report


def restore(path: Path, device: torch.device) -> tuple[VRNNConfig, Programs]:
    """Rebuild the configuration, model and guide of a checkpoint."""
    config, modules = restore_run(
        path,
        device,
        VRNNConfig,
        "VRNN",
        lambda config: build(config.network, config.likelihood_scale)._asdict(),
    )
    programs = Programs(**modules)
    return config, programs


@dataclass(frozen=True)
class GenerateVRNNConfig(GenerateConfig):
    """Draw videos from a trained model, or go on from the first frames of a given one."""

    output: Path = Path("generated/vrnn")
    feed_back: FeedBack = "mean"
    """What the model goes on from: the mean images of the frames before, or, as its probabilities say, these
    with the noise of the pixels.
    """


def generate(options: GenerateVRNNConfig) -> int:
    """Generate videos with a checkpoint."""
    device = select_device(options.device)
    config, (model, guide) = restore(options.checkpoint, device)
    torch.manual_seed(options.seed)
    draw = partial(model.generate, options.count, options.frames, feed_back=options.feed_back)
    if options.video is None:
        write_generated(options, [frame.canvas for frame in draw()])
        return 0
    video, seen = frames_to_go_on_from(
        options, options.video, config.network.image_shape, device, config.data
    )
    with torch.no_grad():
        trace = poutine.trace(guide).get_trace(seen)
    write_generated(options, [frame.canvas for frame in draw(given=trace, video=seen)], video)
    return 0


def run_training(config: VRNNConfig) -> int:
    """Train in this process, or with the others that `torchrun` has started."""
    with join_processes(config.device) as process, pyro.validation_enabled(config.validate):
        return train(config, process)


COMMANDS = {
    "train": Command(VRNNConfig, run_training, PRESETS),
    "evaluate": Command(
        EvaluateConfig, partial(evaluate_checkpoint, restore=restore, report=report_held_out)
    ),
    "generate": Command(GenerateVRNNConfig, generate),
    "export": Command(ExportConfig, partial(export, restore=restore)),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command."""
    return run_program("whatwhere-vrnn", __doc__ or "", COMMANDS, argv)


if __name__ == "__main__":
    sys.exit(main())
