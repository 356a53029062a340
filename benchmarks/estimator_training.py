"""Trainings of AIR with each gradient estimator, of equal processor time. See `docs/benchmarks.md`."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from whatwhere.examples import air
from whatwhere.examples.air import AIRConfig
from whatwhere.examples.common.program import UsageError
from whatwhere.files import atomic_write
from whatwhere.inference.evaluation import write_json
from whatwhere.inference.pictures import save_picture
from whatwhere.inference.training import (
    NonFiniteError,
    TrainingConfig,
    keep_freed_memory,
    make_optimizer,
    read_log,
)

from .air import settle
from .estimator_lineup import BASELINE, CONTENDERS, check_contenders, contender
from .estimator_plots import training_plot
from .footprint import Step
from .harness import measure
from .machine import describe_machine
from .report import markdown_table

CALIBRATION_ROUNDS = 15


@dataclass(frozen=True)
class TrainingComparison:
    """Train AIR on glyphs with each estimator for the same processor time, on one thread."""

    output: Path = Path("runs/estimators/training")
    """Folder: `training.json`, `training.md`, `training.png`, and a folder for each run. What is finished
    there is kept, what is not is continued.
    """
    minutes: float = 2.0
    """Processor time of the steps of a run, evaluations not counted."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of training; images are the same for all."""
    contenders: tuple[str, ...] = CONTENDERS
    """Estimators; `-stl` or `-dreg` behind is the option for continuous variables."""
    particles: int = 5
    """Particles of the estimators that compare them; the others have one, as published."""
    batch_size: int = 64
    """Images in a step."""
    points: int = 10
    """Evaluations in a run."""
    monitor_images: int = 500
    """Held-out images of these evaluations."""
    monitor_particles: int = 10
    """Particles of the importance-weighted bound there."""
    images: int = 20_000
    """Training images."""
    test_images: int = 1_000
    """Held-out images of the last evaluation."""
    iwae_particles: int = 100
    """Particles of the importance-weighted bound there."""
    threshold: float = 0.8
    """A run has failed that counts right less often than this at its end, or stops with an error because
    numbers are not finite.
    """

    def __post_init__(self) -> None:
        check_contenders(self.contenders)
        if self.particles < 2 or self.points < 1 or self.minutes <= 0:
            raise ValueError(
                "`particles` must be at least 2, `points` at least 1 and `minutes` positive, got "
                f"{self.particles}, {self.points} and {self.minutes}"
            )


def run_config(config: TrainingComparison, name: str, seed: int, steps: int) -> AIRConfig:
    """The training of one row and seed: the demo of `whatwhere-air`, its schedules over `steps` steps."""
    demo, row = air.PRESETS["demo"], contender(name)
    return replace(
        demo,
        output=config.output / f"{name}-{seed}",
        resume=True,
        threads=1,
        estimator=row.estimator,
        continuous=row.continuous,
        particles=row.particles(config.particles),
        batch_size=config.batch_size,
        iwae_particles=config.iwae_particles,
        monitor_images=config.monitor_images,
        monitor_particles=config.monitor_particles,
        data=replace(demo.data, train_images=config.images, test_images=config.test_images),
        training=TrainingConfig(
            steps=steps,
            seed=seed,
            evaluate_every=max(1, steps // config.points),
            checkpoint_every=max(1, steps // config.points),
            progress=False,
        ),
    )


def plan(config: TrainingComparison) -> dict[str, float]:
    """Processor time of a step of each row in milliseconds: measured once, then read from `plan.json`.

    All rows are measured in one process, in turn: on a machine that others use, times of two runs differ by
    more than estimators do, and the ratios of one run do not. Rows that are added later are measured against
    the baseline.

    Raises:
        UsageError: the folder has runs of other settings.
    """
    path = config.output / "plan.json"
    settings = {
        key: getattr(config, key) for key in ("minutes", "particles", "batch_size", "images", "points")
    }
    found = _read(path) or {"settings": settings, "cpu_ms": {}}
    if found["settings"] != settings:
        raise UsageError(
            f"`{config.output}` has runs of other settings, {found['settings']}, not {settings}: choose "
            "another `--output`"
        )
    costs = found["cpu_ms"]
    missing = [name for name in config.contenders if name not in costs]
    if missing:
        measured = calibrate(config, list(dict.fromkeys([BASELINE, *missing])))
        factor = costs.get(BASELINE, measured[BASELINE]) / measured[BASELINE]
        costs |= {name: factor * measured[name] for name in missing}
        write_json(path, found)
    return {name: costs[name] for name in config.contenders}


def calibrate(config: TrainingComparison, names: Sequence[str]) -> dict[str, float]:
    """Measure the processor time of a training step of each row, in milliseconds."""
    images: dict[str, Any] = {"train_images": config.batch_size, "test_images": 1}
    steps: dict[str, Callable[[], object]] = {}
    for name in names:
        run = run_config(config, name, seed=0, steps=1)
        data = air.load_data(replace(run.data, **images)).train
        batch = data.batch(range(config.batch_size)).images
        torch.manual_seed(0)
        programs = air.build(air.with_image_shape(run, data.shape[2:]))
        objective = contender(name).objective(run.particles)(*programs)
        steps[name] = _step(objective, batch, run.learning_rate)
    measured = measure(steps, CALIBRATION_ROUNDS, warmup=3)
    return {name: 1e3 * measured.times(name).median for name in names}


def _step(objective: torch.nn.Module, batch: torch.Tensor, rate: float) -> Step:
    optimizer = make_optimizer("adam", objective.parameters(), rate)

    def step() -> None:
        optimizer.zero_grad()
        objective(batch)[0].backward()
        optimizer.step()

    return step


class Stopwatch:
    """Processor time between the steps of optimisers, while `measuring`."""

    def __init__(self) -> None:
        self._times: list[float] = []

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Watch every optimiser of the process."""

        def note(*_: Any) -> None:
            self._times.append(time.process_time())

        handle = register_optimizer_step_post_hook(note)
        try:
            yield
        finally:
            handle.remove()

    @property
    def median(self) -> float | None:
        """Seconds from one step to the next; of the gaps, few contain an evaluation. None without a gap."""
        gaps = [later - earlier for earlier, later in zip(self._times, self._times[1:], strict=False)]
        return statistics.median(gaps) if gaps else None


def train_run(config: TrainingComparison, name: str, seed: int, cpu_ms: float) -> dict[str, Any] | None:
    """Train one row with one seed, or read its result; None if it was interrupted."""
    steps = max(1, round(6e4 * config.minutes / cpu_ms))
    run = run_config(config, name, seed, steps)
    path = run.output / "result.json"
    finished = _read(path)
    if finished is not None:
        return finished
    diverged, watch = False, Stopwatch()
    try:
        with watch.measuring():
            code = air.run_training(run)
        if code:
            return None
    except NonFiniteError as error:
        print(f"{name}, seed {seed}: {error}", flush=True)
        diverged = True
    log = run.output / "log.jsonl"
    curve = [
        {"step": line["step"], "minutes": line["step"] * cpu_ms / 6e4}
        | {key: line[key] for key in ("count_accuracy", "iwae")}
        for line in (read_log(log) if log.exists() else [])
        if line["event"] == "evaluation"
    ]
    metrics = {} if diverged else _read(run.output / "metrics.json") or {}
    result = {
        "seed": seed,
        "steps": steps,
        "particles": run.particles,
        "cpu_ms_planned": cpu_ms,
        "cpu_ms_measured": None if watch.median is None else 1e3 * watch.median,
        "diverged": diverged,
        "count_accuracy": None if diverged else metrics["counting"]["accuracy"],
        **{key: metrics.get(key) for key in ("iwae", "elbo", "kl", "average_precision")},
        "curve": curve,
    }
    write_json(path, result)
    return result


def run(config: TrainingComparison) -> int:
    """Train what is not there yet, and write table and plot after every run."""
    settle(1)
    keep_freed_memory()
    costs = plan(config)
    for seed in config.seeds:
        for name in config.contenders:
            print(f"{name}, seed {seed}", flush=True)
            if train_run(config, name, seed, costs[name]) is None:
                return 130
            write_results(config, costs)
    print(table(summarise(config, costs)))
    print(f"results: {config.output / 'training.md'}, {config.output / 'training.png'}")
    return 0


def write_results(config: TrainingComparison, costs: Mapping[str, float]) -> None:
    """Write `training.json`, `training.md` and `training.png` of the runs that are finished."""
    report = summarise(config, costs)
    write_json(config.output / "training.json", report)
    with atomic_write(config.output / "training.md") as file:
        file.write((table(report) + "\n").encode())
    save_picture(config.output / "training.png", training_plot(report))


def summarise(config: TrainingComparison, costs: Mapping[str, float]) -> dict[str, Any]:
    """Put the finished runs together, row by row."""
    results = {}
    for name in config.contenders:
        found = (_read(config.output / f"{name}-{seed}" / "result.json") for seed in config.seeds)
        runs = [result for result in found if result is not None]
        failed = sum(has_failed(result, config.threshold) for result in runs)
        results[name] = {"cpu_ms": costs[name], "failed": failed, "runs": runs}
    settings = {
        key: getattr(config, key) for key in ("minutes", "particles", "monitor_particles", "threshold")
    }
    return {
        "benchmark": "estimator training",
        **settings,
        "iwae_particles": config.iwae_particles,
        "machine": describe_machine(),
        "results": results,
    }


def has_failed(result: Mapping[str, Any], threshold: float) -> bool:
    """Whether a run diverged, or counts too badly at its end."""
    return bool(result["diverged"]) or result["count_accuracy"] < threshold


def table(report: Mapping[str, Any]) -> str:
    """Show a report as Markdown: means over seeds, with the least and the greatest."""
    header = ["", "particles", "CPU ms a step", "steps", "count accuracy, %"]
    header += [f"IWAE-{report['iwae_particles']}", "ELBO", "boxes, AP50", f"below {report['threshold']:.0%}"]
    rows = []
    for name, row in report["results"].items():
        runs = row["runs"]
        ended = [result for result in runs if not result["diverged"]]
        cells = [name, str(runs[0]["particles"]) if runs else "", f"{row['cpu_ms']:.1f}"]
        cells.append(str(runs[0]["steps"]) if runs else "")
        cells.append(_mean_and_range([100 * result["count_accuracy"] for result in ended]))
        for key, digits in (("iwae", 1), ("elbo", 1), ("average_precision", 3)):
            cells.append(_mean_and_range([result[key] for result in ended], digits))
        cells.append(f"{row['failed']} of {len(runs)}" if runs else "")
        rows.append(cells)
    return markdown_table(header, rows)


def _mean_and_range(values: Sequence[float], digits: int = 1) -> str:
    if not values:
        return ""
    mean, least, greatest = (
        f"{value:.{digits}f}" for value in (statistics.fmean(values), min(values), max(values))
    )
    return f"{mean} ({least} to {greatest})"


def _read(path: Path) -> dict[str, Any] | None:
    """The numbers of a file; None where there is none."""
    return json.loads(path.read_text()) if path.exists() else None
