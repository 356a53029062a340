"""Table 1 of SQAIR's paper: SQAIR, AIR and VRNN, trained for the same time each, and compared.

    whatwhere-table1 --budget 30 --output runs/table1

writes `table1.md`, `table1.json` and pictures into the output folder. Stopped, the same command goes on where
it was: rows that are finished are kept. A trained model takes the place of a row's training with
`--checkpoints mlp-sqair=runs/sqair-mnist-10/checkpoint.pt`. Also `python -m whatwhere.examples.table1`.

Kosiorek et al., *Sequential Attend, Infer, Repeat*, 2018, section 4.1.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from whatwhere import checks
from whatwhere.checks import FieldError
from whatwhere.datasets import DataError, present
from whatwhere.examples import sqair, vrnn
from whatwhere.examples.common.program import exit_code, run_command, set_threads
from whatwhere.examples.common.sources import require_shape
from whatwhere.examples.common.video_models import (
    DataConfig,
    Split,
    VideoSource,
    batches_of,
    count_parameters,
    load_data,
)
from whatwhere.examples.parts.sqair_config import WarmStartConfig
from whatwhere.examples.parts.table1_pictures import VideoPrograms, write_overlaps, write_pictures
from whatwhere.examples.parts.table1_report import PUBLISHED, Row, markdown
from whatwhere.examples.parts.warm_start import WarmStart
from whatwhere.examples.sqair import SQAIRConfig
from whatwhere.examples.vrnn import VRNNConfig
from whatwhere.files import atomic_write
from whatwhere.inference.evaluation import (
    LabelledLatents,
    LikelihoodReport,
    ProbeConfig,
    VideoReport,
    appearance_features,
    digit_sums,
    encode_frames,
    evaluate_likelihood,
    evaluate_videos,
    probe_accuracy,
    train_probe,
    write_json,
)
from whatwhere.inference.training import (
    CheckpointError,
    NonFiniteError,
    Process,
    Stage,
    check_device,
    keep_freed_memory,
    load_checkpoint,
    parse_config,
    run_stages,
    select_device,
    to_primitives,
)

Name = Literal[
    "mlp-sqair", "mlp-air", "mlp-vrnn", "conv-sqair", "conv-vrnn", "mlp-sqair-published", "mlp-sqair-static"
]
"""A row of the table."""

_SQAIR = sqair.PRESETS["mnist-fast"]
_STAGES = _SQAIR.warm_start
_CONV = sqair.PRESETS["conv"].network
# A third of it from six frames on: at 3e-4 gradients through seven frames have norms of 1,000 and more.
_DECAY = (3, 4, 1)
_END_TO_END = replace(_SQAIR.training, steps=8_000, clip_norm=100.0, clip_factor=None)
_PUBLISHED = SQAIRConfig(
    batch_size=16,
    optimizer="adam",
    learning_rate=3e-4,
    decay_parts=_DECAY,
    training=_END_TO_END,
)
_VRNN = VRNNConfig(
    batch_size=16, optimizer="adam", learning_rate=3e-4, decay_parts=_DECAY, training=_END_TO_END
)
ROWS: dict[Name, SQAIRConfig | VRNNConfig] = {
    "mlp-sqair": _SQAIR,
    "mlp-air": replace(
        _SQAIR,
        model="air",
        batch_size=16,
        # A tenth of it at the end, at half the rate of `again`: where longer, each digit becomes two objects.
        learning_rate=1e-4,
        decay_parts=_DECAY,
        network=replace(
            _SQAIR.network, follow="learned", looks="redrawn", hindsight=0, refine_looks=2, refine_frames=1
        ),
        prior=replace(_SQAIR.prior, propagation="recurrent"),
        # Each frame pays for its own looks.
        warm_start=WarmStartConfig(
            frames=replace(_STAGES.frames, share=0.25, weight=1.0),
            looks=replace(_STAGES.looks, share=0.5, weight=1.0),
            again=replace(_STAGES.again, share=0.15, first_weight=1.0, weight=1.0),
        ),
    ),
    "mlp-vrnn": _VRNN,
    # Convolutions take five times as long, so that steps are too few with as many videos in each.
    "conv-sqair": replace(
        _SQAIR,
        batch_size=8,
        network=replace(
            _SQAIR.network, variant="conv", hidden=_CONV.hidden, presence_hidden=_CONV.presence_hidden
        ),
    ),
    "conv-vrnn": replace(_VRNN, batch_size=8, network=vrnn.PRESETS["conv"].network),
    # End to end: what is taught to discover by single frames does not learn to propagate afterwards. Nothing
    # is added: with exact places and windows that may leave the frame it finds nothing, and where the canvas
    # is clamped, too, it draws each digit twice.
    "mlp-sqair-published": _PUBLISHED,
    "mlp-sqair-static": replace(_PUBLISHED, network=replace(_PUBLISHED.network, looks="static")),
}
"""How the models are made and trained, apart from what `Table1Config` says: each as well as we can. The
last two are not in the paper's table: SQAIR as published, end to end, and the same with looks that stay.
"""


@dataclass(frozen=True)
class Table1Config:
    """Train SQAIR, AIR and VRNN for the same time each, and compare them as table 1 of SQAIR's paper does."""

    MOST_USED: ClassVar[tuple[str, ...]] = (
        "output",
        "budget",
        "clock",
        "rows",
        "checkpoints",
        "data.source",
        "seed",
    )

    output: Path = Path("runs/table1")
    """Folder for the table, the pictures, and a folder for each model."""
    budget: float = 30.0
    """Minutes of training of each model. A table that is finished can be given more."""
    clock: Literal["wall", "cpu"] = "wall"
    """What they are minutes of; time of the processor is fair on a busy machine."""
    rows: tuple[Name, ...] = tuple(ROWS)
    """The models, in the order in which they are trained."""
    checkpoints: tuple[str, ...] = ()
    """Checkpoints of models that are trained already, as NAME=PATH."""
    first_frames: int = 3
    """Frames of the videos at the start of training, of VRNN and of propagation that is learned; they become
    longer by one in equal times.
    """
    frames: int = 10
    """Frames at the end, and in evaluation."""
    videos: int = 1_000
    """Held-out videos of which single posterior samples are evaluated."""
    iwae_particles: int = 1_000
    """Particles of log p(x), and of what is weighted."""
    iwae_videos: int = 64
    """Held-out videos for these; they take most of the time of evaluation."""
    probe_videos: int = 50_000
    """Training videos from whose frames a classifier learns digit addition; a twentieth more say when to
    stop.
    """
    seed: int = 0
    """Seed of training and of evaluation."""
    device: str = "cpu"
    """`cpu`, `cuda`, or `auto`."""
    threads: int | None = 1
    """Threads of the CPU."""
    data: DataConfig = DataConfig(source="mnist")
    """The videos."""
    probe: ProbeConfig = ProbeConfig()
    """The classifier."""

    def __post_init__(self) -> None:
        checks.literals(self)
        check_device(self.device)
        checks.positive(self, "budget", "first_frames", "frames", "videos", "iwae_particles")
        checks.positive(self, "iwae_videos", "probe_videos", "threads")
        checks.ordered(self, "first_frames", "frames")
        checks.seed(self, "seed")
        if not self.rows or len(set(self.rows)) < len(self.rows):
            raise FieldError("rows", "must be different models, at least one", self.rows)
        unknown = [entry for entry in self.checkpoints if entry.partition("=")[0] not in self.rows]
        if unknown or any(not entry.partition("=")[2] for entry in self.checkpoints):
            raise ValueError(
                f"`checkpoints` must be NAME=PATH with names of `rows`, {self.rows}, got {self.checkpoints}"
            )


class Trained(NamedTuple):
    """A model of the table, and its guide."""

    config: SQAIRConfig | VRNNConfig
    programs: VideoPrograms


def training_config(options: Table1Config, name: Name) -> SQAIRConfig | VRNNConfig:
    """How a row is trained: all in the same time, its stages included."""
    config = ROWS[name]
    config = replace(
        config,
        output=options.output / name,
        device=options.device,
        threads=options.threads,
        first_frames=options.frames,
        frames=options.frames,
        data=options.data,
        training=replace(config.training, minutes=options.budget, clock=options.clock, seed=options.seed),
    )
    if isinstance(config, SQAIRConfig) and (config.model == "air" or config.warm_start.held.share > 0):
        return config
    # What has to learn to follow objects begins with short videos.
    own = 1 - config.warm_start.share if isinstance(config, SQAIRConfig) else 1.0
    steps = config.training.part(own).steps
    stage_steps = max(1, steps // (options.frames - options.first_frames + 1))
    config = replace(config, first_frames=options.first_frames, stage_steps=stage_steps)
    if isinstance(config, SQAIRConfig):
        # Long enough for propagation to learn to go on from the frames that are new to it.
        config = replace(config, hold_steps=stage_steps // 5)
    return config


class StoppedError(Exception):
    """A signal has ended training."""

    def __init__(self, exit_code: int) -> None:
        super().__init__()
        self.exit_code = exit_code


def checkpoint_of(options: Table1Config, name: Name, data: Split, device: torch.device) -> Path:
    """The checkpoint of a row, after its training has come to its end.

    Raises:
        StoppedError: if a signal ended it before.
    """
    path = _path(options, name)
    if name in _given(options):
        return path
    config, process = training_config(options, name), Process(device)
    stages: list[Stage] = []
    if isinstance(config, SQAIRConfig):
        run = sqair.prepare(config, process, data)
        stages = WarmStart(run.config, run.programs, data, process).stages()
        last = run.trainer
    else:
        last = vrnn.prepare(config, process, data).trainer
    result = run_stages([*stages, Stage("training", lambda: last)], resume=True)
    if result.reason == "interrupted":
        raise StoppedError(result.exit_code)
    return path


def _given(options: Table1Config) -> dict[str, str]:
    return dict(entry.split("=", 1) for entry in options.checkpoints)


def _path(options: Table1Config, name: Name) -> Path:
    return Path(_given(options).get(name, options.output / name / "checkpoint.pt"))


def restore(path: Path, name: Name, device: torch.device) -> Trained:
    """Read a model of the table.

    Raises:
        CheckpointError: if it cannot be read, or is another one.
    """
    expected = ROWS[name]
    trained = (
        Trained(*sqair.restore(path, device))
        if isinstance(expected, SQAIRConfig)
        else Trained(*vrnn.restore(path, device))
    )
    found = trained.config
    kinds = [(config.network.variant, getattr(config, "model", "vrnn")) for config in (expected, found)]
    if kinds[0] != kinds[1]:
        raise CheckpointError(f"checkpoint `{path}` is not one of {name}, but of {'-'.join(kinds[1])}")
    return trained


def measure(options: Table1Config, trained: Trained, data: Split, path: Path, device: torch.device) -> Row:
    """Evaluate a model."""
    torch.manual_seed(options.seed)
    model, guide = trained.programs
    weighted = _report(trained, data.test, options, options.iwae_videos, options.iwae_particles, device)
    single = _report(trained, data.test, options, options.videos, 1, device)
    accuracy, reason = addition(options, trained, data, device)
    checkpoint = load_checkpoint(path)
    clock = "seconds" if options.clock == "wall" else "cpu_seconds"
    return Row(
        parameters=count_parameters(model, guide),
        steps=checkpoint.step,
        minutes=checkpoint.progress.get(clock, 0.0) / 60,
        log_marginal=weighted.iwae,
        weighted_log_likelihood=weighted.weighted_log_likelihood,
        weighted_kl=weighted.weighted_kl,
        log_likelihood=single.log_likelihood,
        kl=single.kl,
        counting=_counting(single, "accuracy"),
        weighted_counting=_counting(weighted, "weighted_accuracy"),
        addition=accuracy,
        addition_reason=reason,
        iwae_particles=weighted.particles,
        iwae_videos=weighted.videos,
        videos=single.videos,
    )


def _report(
    trained: Trained,
    data: VideoSource,
    options: Table1Config,
    videos: int,
    particles: int,
    device: torch.device,
) -> VideoReport | LikelihoodReport:
    batches = batches_of(data, min(videos, len(data)), options.frames, device, batch_size=16)
    # The bound of all particles is log p(x); it need not be estimated again.
    if isinstance(trained.programs, vrnn.Programs):
        return evaluate_likelihood(
            *trained.programs,
            (batch.video for batch in batches),
            particles=particles,
            iwae_particles=1,
            iwae_videos=1,
        )
    model, guide = trained.programs
    return evaluate_videos(
        model,
        guide,
        batches,
        find_boxes=model.decoder.boxes,
        particles=particles,
        iwae_particles=1,
        iwae_videos=1,
        independent_frames=isinstance(trained.programs, sqair.AIRPrograms),
    )


def _counting(report: VideoReport | LikelihoodReport, name: str) -> float | None:
    counting = getattr(report, "counting", None)
    return None if counting is None else float(getattr(counting, name))


class Addition(NamedTuple):
    """How well digits are added."""

    accuracy: float
    """Of frames of held-out videos."""
    reason: str
    """Why training ended, see `TrainedProbe`."""


def addition(options: Table1Config, trained: Trained, data: Split, device: torch.device) -> Addition:
    """Train a classifier of the sum of digits on posterior samples of frames, and test it on others."""
    size = min(options.probe_videos, len(data.train) * 20 // 21)
    validation = max(1, size // 20)

    def encoded(source: VideoSource, start: int, count: int) -> LabelledLatents:
        batches = _labelled(source, range(start, start + count), options.frames, device)
        if isinstance(trained.programs, vrnn.Programs):
            return encode_frames(trained.programs.guide, batches)
        return encode_frames(trained.programs.guide, batches, appearance_features)

    probe = train_probe(encoded(data.train, 0, size), encoded(data.train, size, validation), options.probe)
    test = encoded(data.test, 0, min(options.videos, len(data.test)))
    return Addition(probe_accuracy(probe.classifier, test), probe.reason)


def _labelled(
    data: VideoSource, videos: range, frames: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    for start in range(videos.start, videos.stop, 50):
        batch = data.batch(range(start, min(start + 50, videos.stop)))
        if batch.classes is None:
            raise DataError("the videos have no classes of digits, which addition needs")
        sums = digit_sums(batch.classes, present(batch))[:, :frames]
        yield batch.video[:, :frames].to(device), sums.to(device)


def _identity(options: Table1Config, path: Path) -> dict[str, Any]:
    """What the numbers of a row depend on."""
    runtime = ("output", "rows", "checkpoints", "budget", "first_frames", "threads", "device")
    asked = {key: value for key, value in to_primitives(options).items() if key not in runtime}
    return {"checkpoint": str(path.resolve()), "written": path.stat().st_mtime_ns, **asked}


def kept_row(path: Path, identity: dict[str, Any]) -> Row | None:
    """The numbers of an earlier call, if they are those of the same checkpoint and of the same options."""
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text())
        row, same = Row(**record["row"]), record["identity"] == json.loads(json.dumps(identity))
    except (ValueError, TypeError, KeyError) as error:
        print(f"  `{path}` is damaged ({error}): the row is measured again", flush=True)
        return None
    return row if same else None


def make_row(options: Table1Config, name: Name, data: Split, device: torch.device) -> Row:
    """Train and evaluate one model, as far as that is not done yet."""
    print(f"{name}:", flush=True)
    path = checkpoint_of(options, name, data, device)
    trained = restore(path, name, device)
    require_shape(options.data.source, data.test.shape[2:], trained.config.network.image_shape)
    identity, file = _identity(options, path), options.output / name / "row.json"
    row = kept_row(file, identity)
    if row is None:
        row = measure(options, trained, data, path, device)
        example = data.test.batch(range(min(4, len(data.test)))).video[:, : options.frames].to(device)
        write_pictures(
            options.output / name, trained.programs, example, min(3, options.frames - 1), options.seed
        )
        write_json(file, {"identity": identity, "row": row})
    print(
        f"  {row.parameters:,} parameters, {row.steps:,} steps, log p(x) {row.log_marginal:.1f}, "
        f"KL {row.weighted_kl:.1f}, counting {row.weighted_counting}, addition {row.addition:.4f}",
        flush=True,
    )
    return row


def make_table(options: Table1Config) -> int:
    """Train and evaluate all models, and write the table after each."""
    set_threads(options.threads)
    keep_freed_memory()
    device = select_device(options.device)
    data = load_data(options.data, options.frames)
    rows: dict[str, Row] = {}
    failed: dict[str, str] = {}
    for name in options.rows:
        try:
            rows[name] = make_row(options, name, data, device)
        except NonFiniteError as error:
            failed[name] = str(error)
            print(f"  {error}", file=sys.stderr)
        except StoppedError as stopped:
            return stopped.exit_code
        write_table(options, rows, failed)
    models = {
        name: restore(_path(options, name), name, device).programs for name in options.rows if name in rows
    }
    write_overlaps(options.output / "overlaps.png", models, data.test, device)
    print((options.output / "table1.md").read_text())
    return 1 if failed else 0


def write_table(options: Table1Config, rows: dict[str, Row], failed: dict[str, str]) -> None:
    """Write `table1.json` and `table1.md`."""
    published = {name: PUBLISHED[name] for name in rows if name in PUBLISHED}
    content = {"options": to_primitives(options), "rows": rows, "published": published, "failed": failed}
    write_json(options.output / "table1.json", content)
    clock = "" if options.clock == "wall" else " of the processor"
    title = (
        f"Trained for {options.budget:g} minutes{clock} each on `{options.data.source}`, videos of "
        f"up to {options.frames} frames, seed {options.seed}."
    )
    with atomic_write(options.output / "table1.md") as file:
        # The paper's numbers are of moving MNIST digits.
        comparable = PUBLISHED if options.data.source == "mnist" else None
        file.write(markdown(rows, failed, title, comparable).encode())


def main(argv: Sequence[str] | None = None) -> int:
    """Make the table; see `exit_code` for how it ends."""
    prog = "whatwhere-table1"
    return exit_code(
        prog,
        lambda: run_command(make_table, parse_config(Table1Config, argv, prog=prog, description=__doc__)),
    )


if __name__ == "__main__":
    sys.exit(main())
