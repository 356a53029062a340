"""Attend, Infer, Repeat from the command line: train, evaluate, detect, sample.

    whatwhere-air train --preset demo --output runs/demo
    whatwhere-air evaluate --checkpoint runs/demo/checkpoint.pt
    whatwhere-air detect path/to/pictures --checkpoint runs/demo/checkpoint.pt
    whatwhere-air sample --checkpoint runs/demo/checkpoint.pt

Also `python -m whatwhere.examples.air`, and `torchrun --nproc-per-node 2 -m whatwhere.examples.air train ...`
for several processes.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import pyro
import torch
from pyro import poutine
from torch import nn
from tqdm import tqdm

from whatwhere import checks
from whatwhere.datasets import VideoData, VideoWindows, schedule_for
from whatwhere.examples.common.assessment import known_of, print_assessment
from whatwhere.examples.common.data_records import records_of, require_recorded
from whatwhere.examples.common.program import (
    Command,
    begin_run,
    restore_run,
    run_program,
    train_to_end,
    usage_errors,
)
from whatwhere.examples.common.sources import require_shape, with_image_shape
from whatwhere.examples.parts.air_auto import chosen
from whatwhere.examples.parts.air_config import PRESETS, AIRConfig, NetworkConfig, PriorConfig
from whatwhere.examples.parts.air_data import (
    DataConfig,
    Split,
    held_out,
    load_data,
    load_still_images,
)
from whatwhere.examples.parts.air_detection import DetectConfig, Detector
from whatwhere.examples.parts.air_objective import COMPARING, CONTINUOUS, Estimator, make_objective
from whatwhere.guides import AIRGuide, EvidenceAIRGuide
from whatwhere.inference.evaluation import (
    Assessor,
    SceneReport,
    count_accuracy,
    evaluate_scenes,
    infer_best_scene,
    infer_scene,
    log_marginal,
    no_better_than_empty,
    object_boxes,
    watched_metrics,
    write_json,
)
from whatwhere.inference.objectives import Reinforce
from whatwhere.inference.pictures import PICTURE_FORMATS, reconstruction_picture, sample_picture, save_picture
from whatwhere.inference.training import (
    Annealed,
    ExponentialDecay,
    Linear,
    Process,
    Trainer,
    check_device,
    join_processes,
    make_optimizer,
    parameter_groups,
    select_device,
    whole_source,
)
from whatwhere.models import AIR
from whatwhere.models.components.networks import ConvFeatures, GlimpseDecoder, GlimpseEncoder
from whatwhere.models.priors import GeometricCount, NormalPrior

__all__ = [
    "COMMANDS",
    "COMPARING",
    "CONTINUOUS",
    "PRESETS",
    "AIRConfig",
    "DataConfig",
    "Estimator",
    "NetworkConfig",
    "PriorConfig",
    "Programs",
    "Split",
    "build",
    "compile_networks",
    "load_data",
    "main",
    "make_objective",
    "restore",
    "train",
    "with_image_shape",
]


_WATCHED = 100
"""Images by which it is watched how a model does on training data, and on none at all."""
_ASSESSED = 2
"""So many times as many by which it is assessed."""


class Programs(NamedTuple):
    """Model and guide."""

    model: AIR
    guide: AIRGuide | EvidenceAIRGuide


def build(config: AIRConfig) -> Programs:
    """Make the model and the guide of a configuration whose `network.image_shape` is known."""
    network, prior = config.network, config.prior
    if network.image_shape is None:
        raise ValueError("`network.image_shape` is not known")
    image_shape = network.image_shape
    where_prior = NormalPrior([prior.inverse_scale, 0.0, 0.0], [prior.inverse_scale_std, 1.0, 1.0])
    glimpse_shape = (image_shape[0], network.glimpse_size, network.glimpse_size)
    model = AIR(
        GeometricCount(network.max_count, prior.count_ratio),
        where_prior,
        GlimpseDecoder(network.what_size, glimpse_shape, network.decoder_hidden),
        network.what_size,
        image_shape,
        prior.likelihood_scale,
    )
    encoder = GlimpseEncoder(glimpse_shape, network.what_size, network.encoder_hidden)
    if network.discovery == "evidence":
        by_evidence = EvidenceAIRGuide(
            model.decoder,
            where_prior,
            encoder,
            glimpse_shape[1:],
            network.what_size,
            image_shape,
            network.max_count,
            scale=prior.likelihood_scale,
            exploration=config.exploration,
            sketch_nats=network.sketch_nats,
            refine_looks=network.refine_looks,
        )
        return Programs(model, by_evidence)
    guide = AIRGuide(
        where_prior,
        encoder,
        glimpse_shape[1:],
        network.what_size,
        image_shape,
        network.max_count,
        network.rnn_hidden,
        network.head_hidden,
        image_encoder(network, image_shape),
        exploration=config.exploration,
        use_baseline=config.estimator == "nvil",
    )
    return Programs(model, guide)


def image_encoder(network: NetworkConfig, image_shape: tuple[int, int, int]) -> nn.Module | None:
    """The network between the image and the LSTM, or nothing."""
    channels = network.image_channels
    if not channels:
        return None
    return ConvFeatures(image_shape, channels, [2] * len(channels), network.image_features)


def train(config: AIRConfig, process: Process) -> int:
    """Train, evaluate on held-out images, and write everything into `config.output`."""
    begin_run(config, process)
    config, data = chosen(config, process.is_main)
    config = with_image_shape(config, data.train.shape[2:], data.test.shape[2:])
    torch.manual_seed(config.training.seed)
    with usage_errors():
        programs = build(config)
    for program in programs:
        program.to(process.device)
    if config.compile:
        compile_networks(programs)
    objective = make_objective(config.estimator, config.particles, config.continuous)(*programs)
    own_rates = {"guide.baseline": config.baseline_learning_rate} if config.estimator == "nvil" else {}
    groups = parameter_groups(objective, config.learning_rate, own_rates)
    schedule = schedule_for(data.train, config.batch_size, config.training.seed).shard(
        process.rank, process.world_size
    )
    monitor = data.test.subset(range(min(config.monitor_images, len(data.test))))

    def batches(step: int) -> tuple[torch.Tensor]:
        return (data.train.batch(schedule.indices(step)).to(process.device).images,)

    def held_out_bound(particles: int) -> float:
        bounds = [
            log_marginal(*programs, batch.images, num_particles=particles, chunk_size=10)
            for batch in held_out(monitor, process.device)
        ]
        return float(torch.cat(bounds).mean())

    def evaluate(step: int) -> dict[str, float]:
        numbers = {}
        if monitor.count is None:
            numbers["held_out_bound"] = held_out_bound(1)
        else:
            numbers["count_accuracy"] = count_accuracy(*programs, held_out(monitor, process.device))
        if config.monitor_particles is not None:
            numbers["iwae"] = held_out_bound(config.monitor_particles)
        numbers |= watched(step)
        return numbers

    def watched(step: int) -> dict[str, float]:
        held_out_images, training = (
            next(held_out(source, process.device, _WATCHED)).images for source in (monitor, data.train)
        )
        bound = log_marginal(*programs, held_out_images, num_particles=1).mean().item()
        numbers = {"bound_per_frame": bound, **watched_metrics(*programs, held_out_images, training)}
        if process.is_main and (remark := no_better_than_empty(numbers)):
            tqdm.write(f"step {step}: {remark}")
        return numbers

    trainer = Trainer(
        objective,
        make_optimizer("adam", groups, config.learning_rate),
        batches,
        config.training,
        folder=config.output,
        configuration=config,
        schedule=ExponentialDecay(
            config.final_learning_rate / config.learning_rate, every=config.training.steps
        ),
        on_step=annealing(config, programs),
        evaluate=evaluate,
        process=process,
        data=records_of(config.data, *data),
        accept_changed_data=config.accept_changed_data,
    )
    report = partial(
        report_held_out,
        config,
        programs,
        data.test,
        process.device,
        config.output,
        config.output / "checkpoint.pt",
    )
    return train_to_end(trainer, config.resume, process, report)


def annealing(config: AIRConfig, programs: Programs) -> list[Callable[[int], None]]:
    """What changes with the step: the ratio of the count prior, exploration of presence, and sketches."""
    prior, steps = config.prior, config.training.steps
    hooks: list[Callable[[int], None]] = []
    count_prior = programs.model.count_prior
    if prior.final_count_ratio is not None and isinstance(count_prior, GeometricCount):
        begin, end = round(prior.anneal_from * steps), round(prior.anneal_to * steps)
        logs = math.log(prior.count_ratio), math.log(prior.final_count_ratio)
        hooks.append(Annealed(count_prior.log_ratio, Linear(*logs, begin, max(1, end - begin))))
    if programs.guide.exploration is not None:
        fall = Linear(config.exploration, 0.0, steps=max(1, round(config.exploration_end * steps)))
        hooks.append(Annealed(programs.guide.exploration, fall))
    if isinstance(programs.guide, EvidenceAIRGuide):
        discovery = programs.guide.discovery
        # A step that is recorded cannot change its mind.
        first = 0 if config.training.capture else round(config.network.sketch_from * steps)

        def sketch(step: int) -> None:
            discovery.sketch_early = step >= first

        hooks.append(sketch)
    return hooks


def compile_networks(programs: Programs) -> None:
    """Compile the pure network functions of model and guide; Pyro's statements stay outside."""
    model, guide = programs
    networks: list[nn.Module] = [model.decoder]
    if isinstance(guide, AIRGuide):
        networks += [guide.rnn, guide.head, guide.encoder]
    else:
        networks += [guide.discovery.what_encoder, guide.discovery.second_look, guide.discovery.presence_head]
    for network in networks:
        network.compile(dynamic=False)


def report_held_out(
    config: AIRConfig,
    programs: Programs,
    data: VideoData | VideoWindows,
    device: torch.device,
    folder: Path,
    checkpoint: Path,
    iou: float = 0.5,
) -> SceneReport:
    """Evaluate on held-out images; write and print `metrics.json` and two pictures."""
    known = known_of(checkpoint, config.network.image_shape)
    torch.manual_seed(config.training.seed)
    elbo = make_objective("marginal", 1) if config.estimator == "marginal" else Reinforce(reduction="mean")
    report = evaluate_scenes(
        *programs, elbo, held_out(data, device), iwae_particles=config.iwae_particles, iou_threshold=iou
    )
    assessor = Assessor(programs.model)
    for batch in islice(held_out(data, device, _WATCHED), _ASSESSED):
        scene = infer_best_scene(*programs, batch.images)
        assessor.add(batch.images, scene.bound, scene.present)
    assessment = assessor.assessment(known)
    metrics = folder / "metrics.json"
    write_json(metrics, report.numbers() | {"assessment": assessment})
    first = next(held_out(data.subset(with_objects(data, 10)), device, batch_size=10))
    scene = infer_scene(*programs, first.images)
    picture = reconstruction_picture(
        first.images.cpu(),
        scene.canvas.cpu(),
        object_boxes(scene.objects).cpu(),
        (scene.slots.z_pres > 0).cpu(),
        true_counts=None if first.counts is None else first.counts.cpu(),
        objects=scene.objects.cpu(),
    )
    save_picture(folder / "reconstructions.png", picture)
    save_picture(folder / "samples.png", sample_picture(draw_samples(programs.model, 40)))
    print(f"held-out images  {report.images}")
    print(f"ELBO             {report.elbo:.1f} nats per image")
    print(f"IWAE-{report.iwae_particles:<12}{report.iwae:.1f}")
    print(f"reconstruction   {report.log_likelihood:.1f}")
    print(f"KL               {report.kl:.1f}")
    if report.counting is not None:
        print(f"count accuracy   {report.counting.accuracy:.2%}")
        print(f"confusion        {report.counting.confusion}  (rows: true count)")
    if report.average_precision is not None:
        print(f"boxes, AP{100 * report.iou_threshold:<8.0f}{report.average_precision:.3f}")
    print_assessment(assessment, assessment.remarks())
    print(f"metrics:         {metrics}")
    print(f"pictures:        {folder / 'reconstructions.png'}, {folder / 'samples.png'}")
    return report


def with_objects(data: VideoData | VideoWindows, number: int) -> list[int]:
    """The first images that are not empty, as far as that is known and there are any; else the first."""
    count = data.count if isinstance(data, VideoData) else None
    filled = range(len(data)) if count is None else count[:, 0].nonzero()[0].tolist()
    return list(filled or range(len(data)))[:number]


@torch.no_grad()
def draw_samples(model: AIR, count: int) -> torch.Tensor:
    """Mean images `(count, C, H, W)` of scenes from the prior, with 1, 2, ... objects in turn.

    The number of objects is not drawn: where the prior makes objects dear, nearly every scene is empty,
    and the picture is to show what objects look like and where they are put.
    """
    slots = model.count_prior.max_count
    counts = torch.arange(count, device=model.where_prior.loc.device) % slots + 1
    presence = {f"z_pres/{i}": (counts > i).float() for i in range(slots)}
    return poutine.condition(model, data=presence)(batch_size=count).canvas.cpu()


@dataclass(frozen=True)
class EvaluateConfig:
    """Evaluate a trained model on held-out images."""

    checkpoint: Path
    """The checkpoint of a training run."""
    output: Path | None = None
    """Folder for `metrics.json` and the pictures; by default `evaluation` beside the checkpoint."""
    data: str | None = None
    """Other images than the held-out ones of the training run: a folder of images or an HDF5 file."""
    images: int | None = None
    """Number of images, the first ones; by default all."""
    iwae_particles: int = 100
    """Particles of the importance-weighted bound."""
    iou: float = 0.5
    """Least intersection over union of a box and a true one that match; less where objects are of few pixels.
    """
    device: str = "cpu"
    """`cpu`, `cuda`, or `auto`."""

    def __post_init__(self) -> None:
        check_device(self.device)
        checks.positive(self, "images", "iwae_particles")
        checks.within("(0, 1]", self, "iou")


@dataclass(frozen=True)
class SampleConfig:
    """Draw scenes from a trained model's prior."""

    checkpoint: Path
    """The checkpoint of a training run."""
    output: Path = Path("samples.png")
    """The picture."""
    count: int = 64
    """Number of scenes."""
    seed: int = 0
    """Seed of the scenes."""
    device: str = "cpu"
    """`cpu`, `cuda`, or `auto`."""

    def __post_init__(self) -> None:
        check_device(self.device)
        checks.positive(self, "count")
        checks.seed(self, "seed")
        checks.suffix(PICTURE_FORMATS, self, "output")


def restore(path: Path, device: torch.device) -> tuple[AIRConfig, Programs]:
    """Rebuild the configuration, model and guide of a checkpoint."""
    config, modules = restore_run(path, device, AIRConfig, "AIR", lambda config: build(config)._asdict())
    programs = Programs(**modules)
    return config, programs


def evaluate(options: EvaluateConfig) -> int:
    """Evaluate a checkpoint."""
    device = select_device(options.device)
    config, programs = restore(options.checkpoint, device)
    config = replace(config, iwae_particles=options.iwae_particles)
    if options.data is None:
        split = load_data(config.data)
        require_recorded(options.checkpoint, **records_of(config.data, *split))
        data = split.test
    else:
        data = load_still_images(whole_source(options.data), config.data)
    source = options.data or config.data.test_source or config.data.source
    require_shape(source, data.shape[2:], config.network.image_shape)
    if options.images is not None:
        data = data.subset(range(min(options.images, len(data))))
    folder = options.output or options.checkpoint.parent / "evaluation"
    report_held_out(config, programs, data, device, folder, options.checkpoint, options.iou)
    return 0


def sample(options: SampleConfig) -> int:
    """Draw samples of a checkpoint."""
    _, programs = restore(options.checkpoint, select_device(options.device))
    torch.manual_seed(options.seed)
    save_picture(options.output, sample_picture(draw_samples(programs.model, options.count)))
    print(f"picture: {options.output}")
    return 0


def detect(options: DetectConfig) -> int:
    """Find the objects of a user's pictures."""
    device = select_device(options.device)
    config, (model, guide) = restore(options.checkpoint, device)
    torch.manual_seed(options.seed)
    image_shape = config.network.image_shape
    detector = Detector(options, image_shape, model, guide, device, config.data)
    detector.run(known_of(options.checkpoint, image_shape))
    return 0


def run_training(config: AIRConfig) -> int:
    """Train in this process, or with the others that `torchrun` has started."""
    with join_processes(config.device) as process, pyro.validation_enabled(config.validate):
        return train(config, process)


COMMANDS = {
    "train": Command(AIRConfig, run_training, PRESETS),
    "evaluate": Command(EvaluateConfig, evaluate),
    "detect": Command(DetectConfig, detect),
    "sample": Command(SampleConfig, sample),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command."""
    return run_program("whatwhere-air", __doc__ or "", COMMANDS, argv)


if __name__ == "__main__":
    sys.exit(main())
