"""The training loop: any objective, any optimiser, one process or many.

The trainer knows no model. An objective is a module whose `forward(*args)` returns the loss to minimise and a
NamedTuple of scalar tensors to look at; `batches(step)` returns the arguments. Everything a step depends on
is a function of the step number: its batch, its random numbers (see `randomness`), its
learning rate (see `schedules`). So a run that is stopped and resumed takes bit for bit
the steps of one that is not, and nothing but parameters, optimiser state and the step number needs to be
stored.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ... import checks
from .averages import RunningMeans
from .checkpoint import Checkpoint, CheckpointError, load_checkpoint, module_states, save_checkpoint
from .config import runtime_field, to_primitives
from .distributed import Process, unwrap
from .interrupts import SignalWatch
from .nonfinite import (
    NonFiniteError,
    StepGuard,
    clip_gradients,
    gradient_norm,
    gradients,
    nonfinite_parameters,
)
from .randomness import preserve_random_state, seed_generators
from .run_log import JSONLog, LogSink, TensorBoardLog
from .schedules import Schedule

__all__ = ["Trainer", "TrainingConfig", "TrainingResult"]

_NAMED = 3


@dataclass(frozen=True)
class TrainingConfig:
    """How long to train, and what to do on the way."""

    steps: int = runtime_field(100_000)
    """Optimiser steps of the whole run. A resumed run may have more; a schedule made from this number then
    changes.
    """
    minutes: float | None = runtime_field(None)
    """Train for so many minutes in all, those before a resumption included, instead of `steps` steps: as many
    steps as there is time for. Schedules go by the time: what they take for the step is the share of it that
    has passed, times `steps`. No two such runs are the same. For one process.
    """
    clock: Literal["wall", "cpu"] = runtime_field("wall")
    """What `minutes` are minutes of. Time of the processor, of all threads, is the same on a busy machine."""
    seed: int = 0
    """Seed of the random numbers of all steps."""
    clip_norm: float | None = None
    """Largest Euclidean norm of all gradients together; larger ones are scaled down to it."""
    max_nonfinite_steps: int = 10
    """Stop with an error when so many steps in a row had a loss or gradient that is not finite; they are
    skipped.
    """
    log_every: int = runtime_field(100)
    """Steps between two lines of the log. On a GPU also the steps between two reads of values back from
    it.
    """
    evaluate_every: int | None = runtime_field(None)
    """Steps between two evaluations."""
    checkpoint_every: int | None = runtime_field(1000)
    """Steps between two checkpoints; one is written in any case when the run ends."""
    checkpoint_minutes: float | None = runtime_field(None)
    """Minutes between two checkpoints, in addition to those after `checkpoint_every` steps."""
    max_minutes: float | None = runtime_field(None)
    """Stop after so many minutes, with a checkpoint to resume from."""
    progress: bool | None = runtime_field(None)
    """Show a progress bar; where not given, if standard error is a terminal."""
    tensorboard: bool = runtime_field(False)
    """Write the log for TensorBoard too."""

    def __post_init__(self) -> None:
        checks.positive(self, "steps", "minutes", "clip_norm", "max_nonfinite_steps", "log_every")
        checks.positive(self, "evaluate_every", "checkpoint_every", "checkpoint_minutes", "max_minutes")
        checks.seed(self, "seed")
        checks.one_of(("wall", "cpu"), self, "clock")


class TrainingResult(NamedTuple):
    """How a run ended, other than by an error."""

    step: int
    """Steps taken, those before a resumption included."""
    reason: Literal["completed", "interrupted", "out of time"]
    """Why it ended."""
    signal: int | None
    """The signal that interrupted it, in the process that received it."""
    checkpoint: Path | None
    """Its last checkpoint; None where the trainer has no folder."""
    metrics: dict[str, float]
    """The latest evaluation."""

    @property
    def exit_code(self) -> int:
        """What a shell expects from a program that ends so: 0, 130 after SIGINT, 143 after SIGTERM."""
        return 0 if self.signal is None else 128 + self.signal

    @property
    def message(self) -> str:
        """One line for the user, with the place of the checkpoint."""
        why = f" by {signal.Signals(self.signal).name}" if self.signal is not None else ""
        where = f"; checkpoint: {self.checkpoint}" if self.checkpoint else ""
        return f"{self.reason}{why} after step {self.step}{where}"


class Trainer:
    """Trains an objective; writes a log and checkpoints into a folder.

    A step whose loss or gradients are not finite is skipped and counted. Diagnostics stay on the device, and
    are read and averaged over steps and processes every `log_every` steps; the steps between read nothing
    back, so a GPU is never waited for.

    Step `s` (from 0) sees `on_step(s)`, `schedule(s)` and `batches(s)`; logs, evaluations and checkpoints
    carry the number of steps *taken*, `s + 1`. In a run of a given time (`TrainingConfig.minutes`) `on_step`
    and `schedule` see `position` instead, and what else shall go by the time asks for it.

    Args:
        objective: `forward(*args)` returns `(loss, diagnostics)`, a scalar tensor to minimise and a
            NamedTuple of scalar tensors. It is already on the device of `process`.
        optimizer: over parameters of the objective.
        batches: the positional arguments of the objective as a function of the step; in a run of several
            processes, this process's part of the global batch.
        config: see `TrainingConfig`.
        folder: where `checkpoint.pt`, `log.jsonl` and `tensorboard/` are written; nothing is written where
            None.
        configuration: the program's whole configuration (a dataclass), stored in checkpoints and compared on
            resumption; `config` by default.
        schedule: factor of the learning rates of all parameter groups.
        on_step: called with the step before each one, for example `schedules.Annealed`.
        evaluate: called with the number of steps taken, every `evaluate_every` steps, in all processes,
            without gradients and in evaluation mode; returns named numbers, which are averaged over
            processes.
        modules: what checkpoints hold, by name; by default the objective's direct sub-modules, for example
            `model` and `guide`, or, where it has state of its own, itself under the name `objective`.
        process: this process's place among several, see `distributed.join_processes`.
        find_unused_parameters: see `Process.wrap`.
        keep_best: name of one of the numbers of `evaluate`: whenever it is greater than ever before, the
            parameters are written to `best.pt` in `folder`, without the state of the optimiser.

    Attributes:
        step: steps taken so far.
        position: where schedules were in the latest step: its number or, in a run of a given time, the share
            of the time that had passed before it, times `config.steps`.
        metrics: the latest evaluation.

    Raises:
        ValueError: if a run of several processes is given a time.
    """

    def __init__(
        self,
        objective: nn.Module,
        optimizer: torch.optim.Optimizer,
        batches: Callable[[int], tuple[Any, ...]],
        config: TrainingConfig,
        *,
        folder: str | Path | None = None,
        configuration: Any = None,
        schedule: Schedule | None = None,
        on_step: Iterable[Callable[[int], None]] = (),
        evaluate: Callable[[int], Mapping[str, float]] | None = None,
        modules: Mapping[str, nn.Module] | None = None,
        process: Process | None = None,
        find_unused_parameters: bool = False,
        keep_best: str | None = None,
    ) -> None:
        self.objective = unwrap(objective)
        self.optimizer = optimizer
        self.config = config
        self.process = process or Process(_device(self.objective))
        if config.minutes is not None and self.process.world_size > 1:
            raise ValueError("`minutes` are for one process: several do not agree on the time")
        self.step = self.position = 0
        self.metrics: dict[str, float] = {}
        self._batches = batches
        self._folder = None if folder is None else Path(folder)
        self._configuration = config if configuration is None else configuration
        self._schedule = schedule
        self._on_step = tuple(on_step)
        self._evaluate = evaluate
        self._keep_best = keep_best
        self._best = -math.inf
        self._modules = _default_modules(self.objective) if modules is None else dict(modules)
        self._forward = self.process.wrap(self.objective, find_unused_parameters=find_unused_parameters)
        self._parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self._guard = StepGuard(optimizer, self.process.device)
        self._reads_every_step = self.process.device.type == "cpu"  # where a read waits for nothing
        self._means = RunningMeans(self.process)
        self._earlier = _Times(0.0, 0.0)
        self._started = _Times.now()
        self._saved_at = self._started.wall
        self._saved_step: int | None = None
        self._sinks: list[LogSink] = []
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", float(group["lr"]))

    @property
    def checkpoint_path(self) -> Path | None:
        """The file of the run's checkpoint, None without a folder."""
        return None if self._folder is None else self._folder / "checkpoint.pt"

    @property
    def best_path(self) -> Path | None:
        """The file of the best parameters, see `keep_best`; None without a folder."""
        return None if self._folder is None else self._folder / "best.pt"

    def resume(self, path: str | Path | None = None) -> int:
        """Load a checkpoint, to continue from it with `run`; learning rates are those it holds.

        Args:
            path: the file; by default the one in the run's folder.

        Returns:
            the number of steps it has taken.

        Raises:
            CheckpointError: it cannot be read, has another configuration (fields declared with
                `runtime_field` excepted), or does not fit the modules or the optimiser. The trainer is then
                not fit for use.
            ValueError: neither `path` nor a folder is given.
        """
        path = path or self.checkpoint_path
        if path is None:
            raise ValueError("`path` is needed where the trainer has no folder")
        checkpoint = load_checkpoint(path)
        checkpoint.require_configuration(self._configuration)
        checkpoint.restore_modules(self._modules)
        checkpoint.restore_optimizer(self.optimizer)
        progress = checkpoint.progress
        if not {"skipped", "means", "seconds"} <= set(progress):
            raise CheckpointError(f"checkpoint `{path}` holds no state of a trainer")
        self._guard.load(progress["skipped"])
        self._means.load(progress["means"])
        self._earlier = _Times(progress["seconds"], progress.get("cpu_seconds", 0.0))
        self._best = progress.get("best", -math.inf)
        self.step, self.metrics = checkpoint.step, checkpoint.metrics
        if Path(path) == self.checkpoint_path:
            self._saved_step = self.step
        return self.step

    def resume_existing(self) -> bool:
        """Load the checkpoint in the run's folder, if there is one; see `resume`.

        Returns:
            whether there is one.
        """
        path = self.checkpoint_path
        exists = path is not None and path.exists()
        if exists:
            self.resume()
        return exists

    def run(self) -> TrainingResult:
        """Train until all steps are taken, the time is up, or SIGINT or SIGTERM arrives.

        A signal lets the current step finish and a checkpoint be written; a second SIGINT does not. The
        caller's random state is the same afterwards as before.

        Returns:
            how it ended.

        Raises:
            CheckpointError: the folder holds a checkpoint that this trainer was not resumed from.
            NonFiniteError: too many steps in a row were not finite, or a parameter is not.
            OSError: the log or a checkpoint cannot be written.
            MissingPackageError: TensorBoard is asked for and not installed.
            ValueError: the objective returns something else, or no parameter has a gradient.
        """
        self._refuse_to_overwrite()
        self._started = _Times.now()
        self._saved_at = self._started.wall
        with ExitStack() as stack:
            stack.enter_context(preserve_random_state(self.process.device))
            signals = stack.enter_context(SignalWatch(impatient=self.process.world_size == 1))
            self._sinks = self._open_sinks(stack)
            bar = stack.enter_context(self._progress_bar())
            reason: Literal["completed", "interrupted", "out of time"] = "completed"
            while (done := self._share()) < 1:
                self._train_step(done)
                interrupted, out_of_time, due = self._agree(signals)
                self._report(bar)
                if due or _every(self.config.checkpoint_every, self.step):
                    self._save()
                if interrupted or out_of_time:
                    reason = "interrupted" if interrupted else "out of time"
                    break
            self._save()
            self._earlier, self._started = self._elapsed(), _Times.now()
            stopped_by = signals.received if reason == "interrupted" else None
        return TrainingResult(self.step, reason, stopped_by, self.checkpoint_path, dict(self.metrics))

    def _train_step(self, done: float) -> None:
        step = self.step
        self.position = step if self.config.minutes is None else int(done * self.config.steps)
        for hook in self._on_step:
            hook(self.position)
        if self._schedule is not None:
            _set_learning_rates(self.optimizer, self._schedule(self.position))
        seed_generators(self.process.device, "train", self.config.seed, step, self.process.rank)
        self.optimizer.zero_grad(set_to_none=True)
        loss, diagnostics = self._forward(*self._batches(step))
        values = {"loss": loss, **_named_scalars(loss, diagnostics)}
        loss.backward()
        grads = gradients(self._parameters)
        if not grads:
            raise ValueError("no parameter of `optimizer` has a gradient after `loss.backward()`")
        norm = gradient_norm(grads)
        nonfinite = (~(torch.isfinite(loss.detach()) & torch.isfinite(norm))).float()
        self.process.maximum_(nonfinite)
        if self.config.clip_norm is not None:
            clip_gradients(grads, norm, self.config.clip_norm)
        self._guard.step(nonfinite)
        self._means.add({**values, "gradient_norm": norm}, nonfinite)
        self.step += 1
        if self._reads_every_step:
            self._require_finite_steps()

    def _agree(self, signals: SignalWatch) -> list[bool]:
        """Decide together whether to stop, and whether a checkpoint is due."""
        if self.process.world_size > 1 and not self._reads_every_step and not self._reads():
            return [False, False, False]  # agreeing would read from the device
        now = time.monotonic()
        budget, interval = self.config.max_minutes, self.config.checkpoint_minutes
        out_of_time = budget is not None and now - self._started.wall >= 60 * budget
        due = interval is not None and now - self._saved_at >= 60 * interval
        return self.process.any([signals.received is not None, out_of_time, due])

    def _share(self) -> float:
        """How much of the run is done, from 0 to 1."""
        if self.config.minutes is None:
            return self.step / self.config.steps
        elapsed = self._elapsed()
        seconds = elapsed.wall if self.config.clock == "wall" else elapsed.cpu
        return seconds / (60 * self.config.minutes)

    def _reads(self) -> bool:
        return _every(self.config.log_every, self.step)

    def _report(self, bar: tqdm[Any]) -> None:
        bar.update()
        shown: dict[str, float] = {}
        if self._reads():
            skipped = self._require_finite_steps()
            means = self._means.read()
            name = "bound" if "bound" in means else "loss"
            shown[name] = means[name]
            self._write("train", {**means, **_learning_rates(self.optimizer), "skipped": skipped})
            if skipped:
                shown["skipped"] = skipped
        if self._evaluate is not None and _every(self.config.evaluate_every, self.step):
            self.metrics = self._run_evaluation(self._evaluate)
            self._write("evaluation", self.metrics)
            self._save_if_best()
        if shown:
            bar.set_postfix({**shown, **self.metrics}, refresh=False)

    def _run_evaluation(self, evaluate: Callable[[int], Mapping[str, float]]) -> dict[str, float]:
        training = [module for module in self.objective.modules() if module.training]
        seed_generators(self.process.device, "evaluate", self.config.seed, self.step, self.process.rank)
        self.objective.eval()
        try:
            with torch.no_grad():
                metrics = evaluate(self.step)
        finally:
            for module in training:
                module.training = True
        return self.process.mean({name: float(value) for name, value in metrics.items()})

    def _require_finite_steps(self) -> int:
        """Return how many steps were skipped; stop the run where there were too many in a row."""
        longest, total = self._guard.read()
        if longest < self.config.max_nonfinite_steps:
            return total
        names = nonfinite_parameters(self.objective, of_gradient=True)
        listed = ", ".join(f"`{name}`" for name in names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
        of = f" (gradients not finite at the last step: {listed})" if names else ""
        raise NonFiniteError(
            f"the loss or the gradient was not finite in {longest} steps in a row, up to step "
            f"{self.step}{of}; {self._last_good()}. Resumed, the run takes the same steps again: lower the "
            "learning rate, or set `clip_norm`"
        )

    def _last_good(self) -> str:
        if self._saved_step is None:
            return "there is no checkpoint from before"
        return f"the last good checkpoint is `{self.checkpoint_path}`, after step {self._saved_step}"

    def _write(self, event: str, values: Mapping[str, float]) -> None:
        for sink in self._sinks:
            sink.write(self.step, event, self._elapsed().wall, values)

    def _elapsed(self) -> _Times:
        now = _Times.now()
        return _Times(*(a + b - c for a, b, c in zip(self._earlier, now, self._started, strict=True)))

    def _save(self) -> None:
        """Write a checkpoint, unless this step has one; all processes must call it."""
        self._saved_at = time.monotonic()
        path = self.checkpoint_path
        due = self.process.is_main and path is not None and self._saved_step != self.step
        if not self.process.any([due])[0]:
            return
        names = nonfinite_parameters(self.objective)
        if self.process.any([bool(names)])[0]:
            listed = ", ".join(f"`{name}`" for name in names[:_NAMED])
            raise NonFiniteError(
                f"parameters are not finite after step {self.step} ({listed}); {self._last_good()}"
            )
        means = self._means.state()
        error: OSError | None = None
        if self.process.is_main and path is not None:
            try:
                for sink in self._sinks:
                    sink.sync()
                save_checkpoint(path, self._checkpoint(means))
            except OSError as caught:
                error = caught
        if self.process.any([error is not None])[0]:
            raise error or OSError("the main process could not write a checkpoint")
        self._saved_step = self.step

    def _save_if_best(self) -> None:
        """Write the parameters, if the last evaluation was the best one."""
        if self._keep_best is None:
            return
        if self._keep_best not in self.metrics:
            raise ValueError(
                f"`keep_best` must be one of the numbers of `evaluate`, {sorted(self.metrics)}, "
                f"but got {self._keep_best!r}"
            )
        # All processes have the same numbers. A run that is resumed from an older checkpoint takes the same
        # steps again, and writes the same file.
        value = self.metrics[self._keep_best]
        if value > self._best:
            self._best = value
            if self.process.is_main and self.best_path is not None:
                save_checkpoint(self.best_path, self._parameters_only())

    def _checkpoint(self, means: dict[str, object]) -> Checkpoint:
        elapsed = self._elapsed()
        seconds = {"seconds": elapsed.wall, "cpu_seconds": elapsed.cpu}
        progress = {"means": means, "skipped": self._guard.state(), **seconds}
        return replace(
            self._parameters_only(),
            optimizer={"name": type(self.optimizer).__name__, "state": self.optimizer.state_dict()},
            progress={**progress, "best": self._best},
        )

    def _parameters_only(self) -> Checkpoint:
        configuration = self._configuration
        return Checkpoint(
            step=self.step,
            modules=module_states(self._modules),
            configuration=dict(configuration)
            if isinstance(configuration, Mapping)
            else to_primitives(configuration),
            metrics=self.metrics,
            seed=self.config.seed,
        )

    def _refuse_to_overwrite(self) -> None:
        path = self.checkpoint_path
        exists = self.process.is_main and self._saved_step is None and path is not None and path.exists()
        if self.process.any([exists])[0]:
            raise CheckpointError(
                f"`{path}` is the checkpoint of an earlier run; resume it, or choose another folder"
            )

    def _open_sinks(self, stack: ExitStack) -> list[LogSink]:
        if self._folder is None or not self.process.is_main:
            return []
        sinks: list[LogSink] = [JSONLog(self._folder / "log.jsonl", self.step)]
        stack.callback(sinks[0].close)
        if self.config.tensorboard:
            sinks.append(TensorBoardLog(self._folder / "tensorboard", self.step))
            stack.callback(sinks[1].close)
        return sinks

    def _progress_bar(self) -> tqdm[Any]:
        # None lets tqdm look whether standard error is a terminal.
        hidden = (
            True
            if not self.process.is_main
            else None
            if self.config.progress is None
            else not self.config.progress
        )
        total = self.config.steps if self.config.minutes is None else None
        return tqdm(total=total, initial=self.step, disable=hidden, unit="step", dynamic_ncols=True)


class _Times(NamedTuple):
    """Seconds by two clocks."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> _Times:
        return cls(time.monotonic(), time.process_time())


def _device(module: nn.Module) -> torch.device:
    return next((parameter.device for parameter in module.parameters()), torch.device("cpu"))


def _default_modules(objective: nn.Module) -> dict[str, nn.Module]:
    children = dict(objective.named_children())
    inside = {f"{name}.{key}" for name, child in children.items() for key in child.state_dict()}
    return children if inside == set(objective.state_dict()) else {"objective": objective}


def _every(interval: int | None, step: int) -> bool:
    return interval is not None and step % interval == 0


def _named_scalars(loss: object, diagnostics: object) -> dict[str, Tensor]:
    """Check what an objective returned, by shapes alone, and name its diagnostics."""
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        what = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise ValueError(f"the first value of `objective` must be a scalar tensor, the loss, got {what}")
    if not hasattr(diagnostics, "_asdict"):
        raise ValueError(
            f"the second value of `objective` must be a NamedTuple, got {type(diagnostics).__name__}"
        )
    values = cast("dict[str, Tensor]", diagnostics._asdict())
    wrong = [name for name, value in values.items() if not isinstance(value, Tensor) or value.numel() != 1]
    if wrong:
        raise ValueError(f"the diagnostics {wrong} must be scalar tensors")
    return values


def _set_learning_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    for group in optimizer.param_groups:
        rate = group["initial_lr"] * factor
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def _learning_rates(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    first, *others = optimizer.param_groups
    named: Sequence[tuple[str, Any]] = [(str(g.get("name", i)), g) for i, g in enumerate(others, start=1)]
    return {
        "learning_rate": float(first["lr"]),
        **{f"learning_rate/{name}": float(group["lr"]) for name, group in named},
    }
