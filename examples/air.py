"""Attend, Infer, Repeat from the command line: train, evaluate, sample.

    whatwhere-air train --preset demo --output runs/demo
    whatwhere-air evaluate --checkpoint runs/demo/checkpoint.pt
    whatwhere-air sample --checkpoint runs/demo/checkpoint.pt

Also `python -m whatwhere.examples.air`, and `torchrun --nproc-per-node 2 -m whatwhere.examples.air train ...`
for several processes.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import pyro
import torch
from pyro import poutine
from torch import nn

from whatwhere.datasets import (
    RECIPES,
    BatchSchedule,
    DataError,
    VideoData,
    load_images,
    multi_object_images,
)
from whatwhere.examples.common.program import (
    Command,
    RunConfig,
    restore_run,
    run_program,
    set_threads,
    train_to_end,
)
from whatwhere.guides import AIRGuide
from whatwhere.inference.evaluation import (
    Images,
    SceneReport,
    count_accuracy,
    evaluate_scenes,
    infer_scene,
    log_marginal,
    object_boxes,
    write_json,
)
from whatwhere.inference.objectives import (
    NVIL,
    OVIS,
    VIMCO,
    MarginalELBO,
    MultiSampleELBO,
    Reinforce,
    ReweightedWakeSleep,
    SQAIRSignal,
)
from whatwhere.inference.objectives.continuous import Continuous
from whatwhere.inference.pictures import reconstruction_picture, sample_picture, save_picture
from whatwhere.inference.training import (
    Annealed,
    ExponentialDecay,
    Linear,
    Process,
    Trainer,
    TrainingConfig,
    join_processes,
    keep_freed_memory,
    make_optimizer,
    parameter_groups,
    runtime_field,
    select_device,
)
from whatwhere.models import AIR
from whatwhere.models.components.networks import ConvFeatures, GlimpseDecoder, GlimpseEncoder
from whatwhere.models.priors import GeometricCount, NormalPrior

Estimator = Literal["marginal", "vimco", "ovis", "nvil", "reinforce", "wake_sleep", "sqair_code"]

COMPARING = ("vimco", "ovis", "wake_sleep", "sqair_code")
"""Estimators that compare particles, of which they need several."""
CONTINUOUS = ("vimco", "ovis", "sqair_code")
"""Estimators that leave a choice for continuous variables."""


def _check_continuous(estimator: Estimator, continuous: Continuous) -> None:
    if continuous != "pathwise" and estimator not in CONTINUOUS:
        raise ValueError(
            f"`continuous` = {continuous} is for `estimator` {', '.join(CONTINUOUS)}, got {estimator}: "
            "use one of them, or `continuous` = pathwise"
        )


@dataclass(frozen=True)
class DataConfig:
    """Where the images come from."""

    source: str = "glyphs"
    """`glyphs` (digits drawn from fonts, no download), `mnist`, or the path of a folder of images or an HDF5
    file.
    """
    test_source: str | None = None
    """Held-out images, where `source` is a path; without it the last tenth of `source` is held out."""
    recipe: Literal["pyro", "static_sqair"] = "pyro"
    """How digits are put together: Pyro's multi-MNIST, or the first frames of SQAIR's moving digits."""
    max_objects: int = 2
    """Most digits in a generated image; the number is uniform from 0."""
    image_size: int = 50
    """Side of generated images, in pixels; images of a folder are resized to it."""
    train_images: int = 60_000
    """Generated training images."""
    test_images: int = 10_000
    """Generated held-out images, made from other digits than the training images."""
    seed: int = 0
    """Seed of generated images; it is not the seed of training, so that all runs see the same data."""


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of the networks, those of Pyro's AIR unless said otherwise."""

    image_shape: tuple[int, int, int] | None = None
    """Channels, height and width of the images; by default those of the training images."""
    max_count: int = 3
    """Slots: most objects the model can see in an image."""
    what_size: int = 50
    """Components of `z_what`."""
    glimpse_size: int = 28
    """Side of the attention window's crop, in pixels."""
    image_channels: tuple[int, ...] = ()
    """Channels of convolutions of stride 2 between the image and the guide's LSTM; Pyro's AIR has none."""
    image_features: int = 256
    """Features of the image, where there are convolutions."""
    rnn_hidden: int = 256
    """Units of the guide's LSTM."""
    head_hidden: tuple[int, ...] = (200,)
    """Hidden layers between LSTM and the parameters of presence and place."""
    encoder_hidden: tuple[int, ...] = (200,)
    """Hidden layers from the glimpse to the parameters of `z_what`."""
    decoder_hidden: tuple[int, ...] = (200,)
    """Hidden layers from `z_what` to the glimpse."""


@dataclass(frozen=True)
class PriorConfig:
    """The prior on objects, and the likelihood."""

    count_ratio: float = 0.01
    """Ratio of the geometric prior of the number of objects at the start: what another object costs."""
    final_count_ratio: float | None = 0.5
    """Ratio at the end of its schedule; with `none` it stays, as in Pyro. Once objects have found their
    places, cheaper ones keep the decoder from drawing two that overlap as one.
    """
    anneal_from: float = 0.2
    """Share of training after which the ratio begins to change, geometrically."""
    anneal_to: float = 0.6
    """Share of training at which it has reached its end."""
    inverse_scale: float = 3.0
    """Prior mean of the image's side over the object's."""
    inverse_scale_std: float = 0.2
    """Its standard deviation."""
    likelihood_scale: float = 0.3
    """Standard deviation of the pixels."""


@dataclass(frozen=True)
class AIRConfig(RunConfig):
    """Train AIR to count, locate and draw the objects of images, and evaluate it on held-out ones."""

    output: Path = runtime_field(Path("runs/air"))
    compile: bool = runtime_field(False)
    """Compile the networks with `torch.compile`; starting then takes a minute longer."""
    validate: bool = runtime_field(False)
    """Let Pyro check the parameters and values of all distributions at every step: slower, for debugging."""
    estimator: Estimator = "marginal"
    """How presence is learned: exactly, by summing over the number of objects (`marginal`), or by sampling:
    with several particles `vimco`, `ovis`, `wake_sleep` (the guide has an objective of its own) and
    `sqair_code` (what SQAIR's authors compute, biased); `nvil` (with a learned baseline), `reinforce`.
    """
    continuous: Continuous = "pathwise"
    """Gradient of places and looks, for `vimco`, `ovis` and `sqair_code`: reparameterised; without the part
    of mean 0 (sticking the landing, biased); or doubly reparameterised.
    """
    particles: int = 1
    """Particles of the objective; estimators that compare them need at least 2."""
    batch_size: int = 64
    """Images in a step, of all processes together."""
    exploration: float = 0.1
    """Share of the guide's decisions on presence that a fair coin takes at the start; it falls linearly to
    zero. Without it a slot that is never used never learns, and pairs that overlap stay one object.
    """
    exploration_end: float = 0.6
    """Share of training at which it has reached zero."""
    learning_rate: float = 2e-3
    """Learning rate of Adam at the start; Pyro uses 1e-4 throughout, and ten times as many steps."""
    final_learning_rate: float = 1e-4
    """Learning rate at the last step; the decay is exponential."""
    baseline_learning_rate: float = 1e-3
    """Learning rate of the baseline, for `nvil`; it decays by the same factor."""
    iwae_particles: int = 100
    """Particles of the importance-weighted bound that the evaluation reports."""
    monitor_images: int = 1_000
    """Held-out images on which counting is measured during training."""
    monitor_particles: int | None = runtime_field(None)
    """Particles of the importance-weighted bound that is measured on them too; by default it is not."""
    data: DataConfig = DataConfig()
    """The images."""
    network: NetworkConfig = NetworkConfig()
    """The networks."""
    prior: PriorConfig = PriorConfig()
    """The prior."""
    training: TrainingConfig = TrainingConfig(steps=20_000, evaluate_every=1_000)
    """The training loop."""

    def __post_init__(self) -> None:
        if self.estimator in COMPARING and self.particles < 2:
            raise ValueError(
                f"`estimator` {self.estimator} compares particles: set `particles` to 2 or more, "
                "for example 5"
            )
        _check_continuous(self.estimator, self.continuous)
        for name in ("learning_rate", "final_learning_rate", "batch_size", "particles", "iwae_particles"):
            if getattr(self, name) <= 0:
                raise ValueError(f"`{name}` must be positive, got {getattr(self, name)}")


PRESETS = {
    # One thread is 40 % slower than two on an idle machine, and many times faster on a busy one.
    "demo": AIRConfig(
        output=Path("runs/demo"),
        threads=1,
        data=DataConfig(train_images=20_000, test_images=2_000),
        training=TrainingConfig(steps=4_000, evaluate_every=500),
    ),
    "multi-mnist": AIRConfig(output=Path("runs/multi-mnist"), data=DataConfig(source="mnist")),
    # Eslami et al. anneal the prior from "objects are free" to "objects are dear"; the schedule is the one
    # their readers report, of 100,000 steps.
    "eslami": AIRConfig(
        output=Path("runs/eslami"),
        data=DataConfig(source="mnist"),
        prior=PriorConfig(count_ratio=1.0, final_count_ratio=1e-7, anneal_from=0.003, anneal_to=1 / 3),
        estimator="nvil",
        exploration=0.0,
        learning_rate=1e-4,
        final_learning_rate=1e-4,
        training=TrainingConfig(steps=300_000, evaluate_every=5_000, checkpoint_every=5_000),
    ),
}


class Split(NamedTuple):
    """Training images and held-out images."""

    train: VideoData
    test: VideoData


class Programs(NamedTuple):
    """Model and guide."""

    model: AIR
    guide: AIRGuide


def load_data(config: DataConfig) -> Split:
    """Load or generate training and held-out images."""
    if config.source in ("glyphs", "mnist"):
        return Split(*(_generate(config, split) for split in ("train", "test")))
    data = _load(config.source, config)
    if config.test_source is not None:
        return Split(data, _load(config.test_source, config))
    held_out = max(1, len(data) // 10)
    if len(data) <= held_out:
        raise DataError(f"`{config.source}` has {len(data)} image, too few to hold one out")
    cut = len(data) - held_out
    return Split(data.subset(range(cut)), data.subset(range(cut, len(data))))


def _generate(config: DataConfig, split: Literal["train", "test"]) -> VideoData:
    recipe = RECIPES[config.recipe](max_objects=config.max_objects, image_size=config.image_size)
    size = config.train_images if split == "train" else config.test_images
    source: Literal["glyphs", "mnist"] = "mnist" if config.source == "mnist" else "glyphs"
    return multi_object_images(recipe, split, size, config.seed, source=source)


def _load(source: str, config: DataConfig) -> VideoData:
    """Read still images from a path."""
    path = Path(source)
    if not path.exists():
        raise DataError(f"`{source}` is neither `glyphs`, `mnist`, nor the path of a folder or file")
    return load_images(path, size=(config.image_size, config.image_size) if path.is_dir() else None)


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
    guide = AIRGuide(
        where_prior,
        GlimpseEncoder(glimpse_shape, network.what_size, network.encoder_hidden),
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


def with_image_shape(config: AIRConfig, data: VideoData) -> AIRConfig:
    """The configuration with the shape of the training images, unless it has one."""
    if config.network.image_shape is not None:
        return config
    channels, height, width = data.video.shape[2:]
    return replace(config, network=replace(config.network, image_shape=(channels, height, width)))


def make_objective(
    estimator: Estimator, particles: int, continuous: Continuous = "pathwise"
) -> MultiSampleELBO:
    """The objective of a name; losses are means over the batch.

    Raises:
        ValueError: if the estimator leaves no choice for continuous variables and `continuous` makes one, or
            it compares particles and there is only one.
    """
    _check_continuous(estimator, continuous)
    classes: dict[str, Callable[..., MultiSampleELBO]] = {
        "marginal": MarginalELBO,
        "vimco": VIMCO,
        "ovis": OVIS,
        "nvil": NVIL,
        "reinforce": Reinforce,
        "wake_sleep": ReweightedWakeSleep,
        "sqair_code": SQAIRSignal,
    }
    options = {"continuous": continuous} if estimator in CONTINUOUS else {}
    return classes[estimator](num_particles=particles, reduction="mean", **options)


def held_out(data: VideoData, device: torch.device, batch_size: int = 200) -> Iterator[Images]:
    """Batches of images with their labels, in order."""
    for start in range(0, len(data), batch_size):
        batch = data.batch(range(start, min(start + batch_size, len(data)))).to(device)
        count = None if batch.count is None else batch.count[:, 0]
        boxes = None if batch.boxes is None else batch.boxes[:, 0]
        yield Images(batch.images, count, boxes)


def train(config: AIRConfig, process: Process) -> int:
    """Train, evaluate on held-out images, and write everything into `config.output`."""
    set_threads(config.threads)
    keep_freed_memory()
    data = load_data(config.data)
    config = with_image_shape(config, data.train)
    torch.manual_seed(config.training.seed)
    programs = build(config)
    for program in programs:
        program.to(process.device)
    if config.compile:
        compile_networks(programs)
    objective = make_objective(config.estimator, config.particles, config.continuous)(*programs)
    own_rates = {} if programs.guide.baseline is None else {"guide.baseline": config.baseline_learning_rate}
    groups = parameter_groups(objective, config.learning_rate, own_rates)
    schedule = BatchSchedule(len(data.train), config.batch_size, config.training.seed).shard(
        process.rank, process.world_size
    )
    monitor = data.test.subset(range(min(config.monitor_images, len(data.test))))

    def batches(step: int) -> tuple[torch.Tensor]:
        return (data.train.batch(schedule.indices(step)).to(process.device).images,)

    def evaluate(step: int) -> dict[str, float]:
        numbers = {"count_accuracy": count_accuracy(*programs, held_out(monitor, process.device))}
        if (particles := config.monitor_particles) is not None:
            bounds = [
                log_marginal(*programs, batch.images, num_particles=particles, chunk_size=10)
                for batch in held_out(monitor, process.device)
            ]
            numbers["iwae"] = float(torch.cat(bounds).mean())
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
        evaluate=evaluate if monitor.count is not None else None,
        process=process,
    )
    report = partial(report_held_out, config, programs, data.test, process.device, config.output)
    return train_to_end(trainer, config.resume, process, report)


def annealing(config: AIRConfig, programs: Programs) -> list[Callable[[int], None]]:
    """What changes with the step: the ratio of the count prior, and the exploration of presence."""
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
    return hooks


def compile_networks(programs: Programs) -> None:
    """Compile the pure network functions of model and guide; Pyro's statements stay outside."""
    model, guide = programs
    networks: list[nn.Module] = [model.decoder, guide.rnn, guide.head, guide.encoder]
    for network in networks:
        network.compile(dynamic=False)


def report_held_out(
    config: AIRConfig, programs: Programs, data: VideoData, device: torch.device, folder: Path
) -> SceneReport:
    """Evaluate on held-out images; write and print `metrics.json` and two pictures."""
    torch.manual_seed(config.training.seed)
    elbo = make_objective("marginal", 1) if config.estimator == "marginal" else Reinforce(reduction="mean")
    report = evaluate_scenes(*programs, elbo, held_out(data, device), iwae_particles=config.iwae_particles)
    metrics = folder / "metrics.json"
    write_json(metrics, report.numbers())
    first = next(held_out(data, device, batch_size=10))
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
        print(f"boxes, AP50      {report.average_precision:.3f}")
    print(f"metrics:         {metrics}")
    print(f"pictures:        {folder / 'reconstructions.png'}, {folder / 'samples.png'}")
    return report


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
    device: str = "cpu"
    """`cpu`, `cuda`, or `auto`."""


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
        if self.count < 1:
            raise ValueError(f"`count` must be at least 1, got {self.count}")


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
    data = load_data(config.data).test if options.data is None else _load(options.data, config.data)
    if options.images is not None:
        data = data.subset(range(min(options.images, len(data))))
    folder = options.output or options.checkpoint.parent / "evaluation"
    report_held_out(config, programs, data, device, folder)
    return 0


def sample(options: SampleConfig) -> int:
    """Draw samples of a checkpoint."""
    _, programs = restore(options.checkpoint, select_device(options.device))
    torch.manual_seed(options.seed)
    save_picture(options.output, sample_picture(draw_samples(programs.model, options.count)))
    print(f"picture: {options.output}")
    return 0


def run_training(config: AIRConfig) -> int:
    """Train in this process, or with the others that `torchrun` has started."""
    with join_processes(config.device) as process, pyro.validation_enabled(config.validate):
        return train(config, process)


COMMANDS = {
    "train": Command(AIRConfig, run_training, PRESETS),
    "evaluate": Command(EvaluateConfig, evaluate),
    "sample": Command(SampleConfig, sample),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command."""
    return run_program("whatwhere-air", __doc__ or "", COMMANDS, argv)


if __name__ == "__main__":
    sys.exit(main())
