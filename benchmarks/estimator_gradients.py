"""Signal, noise, bias and cost of gradient estimators at a checkpoint of AIR. See `docs/benchmarks.md`."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from whatwhere.datasets import BatchSchedule, VideoData, VideoWindows
from whatwhere.examples import air
from whatwhere.examples.air import AIRConfig, Programs
from whatwhere.files import atomic_write
from whatwhere.inference.objectives import ObjectiveModule
from whatwhere.inference.pictures import save_picture
from whatwhere.inference.training import TrainingConfig, keep_freed_memory, load_checkpoint, make_optimizer

from .air import settle
from .estimator_lineup import (
    BASELINE,
    CONTENDERS,
    check_contenders,
    claims_no_bias,
    contender,
    unbiased_of,
)
from .estimator_plots import gradient_plot
from .footprint import Step, peak_memory, saved_bytes
from .gradient_moments import GradientMoments, merge, relative_bias, signal_to_noise
from .harness import Measurement, measure
from .machine import describe_machine
from .report import conditions, markdown_table, timing_fields, write_report

GROUPS = ("presence", "where", "what", "recurrent", "decoder")
"""Groups of parameters, see `group_gradients`."""

BLOCKS = 8
TRAINING_IMAGES = 2_000
QUARTER = 4


@dataclass(frozen=True)
class GradientsConfig:
    """Measure signal, noise, bias and cost of gradient estimators at a checkpoint of AIR."""

    output: Path = Path("runs/estimators")
    """Folder for `gradients.json`, `gradients.md`, `gradients.png`, and the checkpoint that is made."""
    checkpoint: Path | None = None
    """A checkpoint of `whatwhere-air`; by default that of a quarter of the demo, which is trained once."""
    contenders: tuple[str, ...] = CONTENDERS
    """Estimators; `-stl` or `-dreg` behind is the option for continuous variables."""
    particles: tuple[int, ...] = (2, 5, 10, 20)
    """Numbers of particles."""
    draws: int = 200
    """Gradients that are drawn of each."""
    batch: int = 64
    """Images in the batch, always the same ones."""
    baseline_steps: int = 300
    """Steps in which the baseline of `nvil` learns, and nothing else, if the checkpoint has none."""
    rounds: int = 20
    """Steps of each contender that are timed."""
    memory: bool = True
    """Also measure peak memory, each contender in a process of its own."""
    threads: int = 1
    """Threads of PyTorch."""
    seed: int = 0
    """Seed of the draws."""
    idle_timeout: float = 0.0
    """Longest wait, in seconds, for other processes to come to rest."""

    def __post_init__(self) -> None:
        check_contenders(self.contenders)
        if not self.particles or min(self.particles) < 2:
            raise ValueError(f"`particles` must be numbers of at least 2, got {self.particles}")
        if self.draws < 2 * BLOCKS:
            raise ValueError(
                f"`draws` must be at least {2 * BLOCKS}, two in each of {BLOCKS} blocks, got {self.draws}"
            )


class Setting(NamedTuple):
    """Where gradients are measured."""

    programs: Programs
    """Model and guide of the checkpoint, in training mode."""
    with_baseline: Programs
    """The same with a baseline that has learned, for `nvil`."""
    images: Tensor
    """The batch, `(B, C, H, W)`."""

    def of(self, name: str) -> Programs:
        """Model and guide of a contender."""
        return self.with_baseline if contender(name).estimator == "nvil" else self.programs


def quarter_of_demo() -> AIRConfig:
    """A quarter of the demo of `whatwhere-air`: it finds objects by then, and still learns to count."""
    demo = air.PRESETS["demo"]
    return replace(
        demo,
        exploration_end=QUARTER * demo.exploration_end,
        final_learning_rate=demo.learning_rate
        * (demo.final_learning_rate / demo.learning_rate) ** (1 / QUARTER),
        prior=replace(
            demo.prior, anneal_from=QUARTER * demo.prior.anneal_from, anneal_to=QUARTER * demo.prior.anneal_to
        ),
        training=TrainingConfig(steps=demo.training.steps // QUARTER),
    )


def made_checkpoint(folder: Path, config: AIRConfig) -> Path:
    """Train what gradients are measured at, or continue, unless it is there; its checkpoint."""
    path = folder / "checkpoint.pt"
    if not path.exists() or load_checkpoint(path).step < config.training.steps:
        air.run_training(replace(config, output=folder, resume=True))
    return path


def load_setting(path: Path, batch: int, baseline_steps: int) -> Setting:
    """Read a checkpoint, make images like those it was trained on, and fit a baseline if it has none.

    The baseline learns for `baseline_steps` steps by `NVIL`'s own regression, model and guide fixed.
    """
    config, programs = air.restore(path, torch.device("cpu"))
    data = air.load_data(replace(config.data, train_images=max(batch, TRAINING_IMAGES), test_images=1)).train
    with_baseline = programs
    if programs.guide.baseline is None:
        torch.manual_seed(config.training.seed)
        with_baseline = air.build(replace(config, estimator="nvil", particles=1, continuous="pathwise"))
        with_baseline.model.load_state_dict(programs.model.state_dict())
        with_baseline.guide.load_state_dict(programs.guide.state_dict(), strict=False)
    for program in (*programs, *with_baseline):
        program.train()
    if programs.guide.baseline is None:
        fit_baseline(with_baseline, data, baseline_steps)
    return Setting(programs, with_baseline, data.batch(range(batch)).images)


def fit_baseline(programs: Programs, data: VideoData | VideoWindows, steps: int) -> None:
    """Let a guide's baseline learn, and nothing else."""
    assert programs.guide.baseline is not None
    objective = contender("nvil").objective(1)(*programs)
    optimizer = make_optimizer("adam", programs.guide.baseline.parameters(), 1e-3)
    schedule = BatchSchedule(len(data), min(64, len(data)), seed=0)
    for step in range(steps):
        optimizer.zero_grad()
        objective(data.batch(schedule.indices(step)).images)[0].backward()
        optimizer.step()


def group_gradients(programs: Programs) -> dict[str, Tensor]:
    """The gradients that model and guide hold, a vector for each group of parameters.

    - `presence`: the row of the guide's head that gives the logit of presence.
    - `where`: the other rows, location and scale of `z_where`.
    - `what`: the encoder of glimpses, location and scale of `z_what`.
    - `recurrent`: the LSTM, and the layers of the head that presence and place share.
    - `decoder`: the model's, from `z_what` to glimpses.

    A baseline, which learns by an objective of its own, is in none.
    """
    model, guide = programs
    head = guide.head[-1]
    rows = [_gradient(head.weight), _gradient(head.bias)]
    shared = [guide.rnn, guide.image_encoder, guide.head[:-1]]
    return {
        "presence": _flat(part[:1] for part in rows),
        "where": _flat(part[1:] for part in rows),
        "what": _gradients(guide.encoder),
        "recurrent": _gradients(*shared),
        "decoder": _gradients(model.decoder),
    }


def _gradient(parameter: Any) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _gradients(*modules: nn.Module) -> Tensor:
    return _flat(_gradient(parameter) for module in modules for parameter in module.parameters())


def _flat(parts: Iterable[Tensor]) -> Tensor:
    return torch.cat([part.flatten() for part in parts])


def draw_gradients(
    programs: Programs, objective: ObjectiveModule, images: Tensor, draws: int
) -> GradientMoments:
    """Draw the gradient of a batch again and again."""
    objective.zero_grad()
    moments = GradientMoments({name: len(part) for name, part in group_gradients(programs).items()}, BLOCKS)
    for _ in range(draws):
        objective.zero_grad()
        objective(images)[0].backward()
        moments.add(group_gradients(programs))
    return moments


def make_step(objective: ObjectiveModule, images: Tensor) -> Step:
    """A training step that leaves the parameters as they are."""
    optimizer = make_optimizer("adam", objective.parameters(), lr=0.0)

    def step() -> None:
        optimizer.zero_grad()
        objective(images)[0].backward()
        optimizer.step()

    return step


def make_fresh_step(path: Path, name: str, particles: int, batch: int, threads: int) -> Step:
    """Make a step in a fresh process, for `peak_memory`."""
    settle(threads)
    setting = load_setting(path, batch, baseline_steps=0)
    return make_step(contender(name).objective(particles)(*setting.of(name)), setting.images)


def run(config: GradientsConfig) -> dict[str, Any]:
    """Measure everything, write it after each number of particles, and return the report."""
    settle(config.threads)
    kept = keep_freed_memory()
    path = config.checkpoint or made_checkpoint(config.output / "state", quarter_of_demo())
    setting = load_setting(path, config.batch, config.baseline_steps)
    options = {
        key: [*value] if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value
        for key, value in asdict(config).items()
    }
    report: dict[str, Any] = {
        "benchmark": "estimator gradients",
        "options": options,
        "machine": {**describe_machine(), "freed_memory_kept": kept},
        "checkpoint": {"path": str(path), "step": load_checkpoint(path).step},
        "results": {},
    }
    for particles in config.particles:
        report["results"][str(particles)] = _compare(config, setting, path, particles)
        write_report(config.output / "gradients.json", report)
        print(f"{particles} particles", table(report, str(particles)), sep="\n\n", end="\n\n", flush=True)
    text = "\n\n".join(f"{number} particles\n\n{table(report, number)}" for number in report["results"])
    with atomic_write(config.output / "gradients.md") as file:
        file.write((text + "\n").encode())
    save_picture(config.output / "gradients.png", gradient_plot(report, GROUPS))
    return report


def _compare(config: GradientsConfig, setting: Setting, path: Path, particles: int) -> dict[str, Any]:
    """All contenders with one number of particles."""
    objectives = {name: contender(name).objective(particles)(*setting.of(name)) for name in config.contenders}
    moments = {}
    for number, (name, objective) in enumerate(objectives.items()):
        torch.manual_seed(config.seed + 1_000 * particles + number)
        moments[name] = draw_gradients(setting.of(name), objective, setting.images, config.draws)
    steps = {name: make_step(objective, setting.images) for name, objective in objectives.items()}
    measurement = measure(steps, config.rounds, warmup=2, idle_timeout=config.idle_timeout)
    fields = {
        name: {
            **_cost_fields(config, measurement, name, steps[name], objectives[name], path, particles),
            "groups": {group: _group_fields(moments, name, group) for group in GROUPS},
        }
        for name in config.contenders
    }
    return {"conditions": conditions(measurement), "contenders": fields}


def _cost_fields(
    config: GradientsConfig,
    measurement: Measurement,
    name: str,
    step: Step,
    objective: ObjectiveModule,
    path: Path,
    particles: int,
) -> dict[str, Any]:
    fields = timing_fields(measurement, name, BASELINE)
    fields["saved_bytes"] = saved_bytes(step, objective.parameters())
    if config.memory:
        make = functools.partial(make_fresh_step, path, name, particles, config.batch, config.threads)
        fields["peak_bytes"] = peak_memory(make)
    return fields


def _group_fields(moments: Mapping[str, GradientMoments], name: str, group: str) -> dict[str, Any]:
    """What the report says of a contender and a group of parameters."""
    own = moments[name].blocks(group)
    moments_of_all, ratio = merge(own), signal_to_noise(own)
    others = [other for other in unbiased_of(name, group) if other in moments]
    bias = relative_bias(own, [moments[other].blocks(group) for other in others]) if others else None
    fields = {
        "squared_norm": moments_of_all.squared_norm,
        "variance": moments_of_all.variance,
        "snr": ratio.value,
        "snr_is_seen": ratio.is_seen,
        "snr_limit": ratio.limit,
        "snr_squared": ratio.squared,
        "snr_squared_error": ratio.squared_error,
        "claims_no_bias": claims_no_bias(name, group),
        "references": others,
    }
    if bias is not None:
        fields |= {
            "bias": bias.value,
            "bias_is_seen": bias.is_seen,
            "bias_limit": bias.limit,
            "bias_squared": bias.squared,
            "bias_squared_error": bias.squared_error,
        }
    return fields


def table(report: Mapping[str, Any], particles: str) -> str:
    """Show the results for one number of particles as Markdown."""
    header = ["", *(f"SNR {group}" for group in GROUPS), *(f"bias {group}" for group in GROUPS)]
    header += ["CPU ms", "CPU", "peak", "saved"]
    contenders = report["results"][particles]["contenders"]
    baseline = contenders[BASELINE]
    rows = []
    for name, fields in contenders.items():
        cells = [name]
        for group in GROUPS:
            part = fields["groups"][group]
            cells.append(_shown(part, "snr"))
        for group in GROUPS:
            part = fields["groups"][group]
            cells.append(_shown(part, "bias") if "bias" in part else "")
        cells.append(f"{fields['cpu_ms']['median']:.1f}")
        cells.append(f"{fields['cpu_ratio']['median']:.2f}" if "cpu_ratio" in fields else "1")
        for key in ("peak_bytes", "saved_bytes"):
            cells.append(f"{fields[key] / baseline[key]:.2f}" if key in fields else "")
        rows.append(cells)
    return markdown_table(header, rows)


def _shown(part: Mapping[str, Any], measure: str) -> str:
    """A value, or what it is below."""
    seen = part[f"{measure}_is_seen"]
    return f"{part[measure]:.3g}" if seen else f"< {part[f'{measure}_limit']:.2g}"


def main(config: GradientsConfig) -> int:
    run(config)
    print(f"results: {config.output / 'gradients.json'}, {config.output / 'gradients.png'}")
    return 0
