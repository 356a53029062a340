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
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import is_dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ...checks import FieldError
from .averages import RunningMeans
from .captured_step import CapturedStep, CaptureError
from .checkpoint import Checkpoint, OptimizerState, OptimizerStateDict, module_states
from .checkpoint_file import load_checkpoint
from .clipping import RunningClip
from .clock import Clock, Times
from .config import to_primitives
from .data_record import DataRecord
from .distributed import Process, unwrap
from .divergence import nonfinite_cause
from .interrupts import SignalWatch
from .nonfinite import (
    NonFiniteError,
    StepGuard,
    clip_gradients,
    gradient_norm,
    gradients,
    nonfinite_gradients,
    nonfinite_state,
)
from .optimizers import learning_rates, set_learning_rates
from .progress import progress_of
from .randomness import preserve_random_state, seed_generators
from .run_folder import RunFolder
from .schedules import Schedule
from .training_config import TrainingConfig
from .training_result import TrainingResult

__all__ = ["Trainer"]

_NAMED = 3
_ADVICE = "Resumed, the run takes the same steps again: lower the learning rate, or set `clip_norm`"


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
        evaluate: called with the number of steps taken, every `evaluate_every` steps, and at the end if it
            has not been before, in all processes, without gradients and in evaluation mode; returns named
            numbers, which are averaged over processes.
        modules: what checkpoints hold, by name; by default the objective's direct sub-modules, for example
            `model` and `guide`, or, where it has state of its own, itself under the name `objective`.
        process: this process's place among several, see `distributed.join_processes`.
        find_unused_parameters: see `Process.wrap`.
        keep_best: name of one of the numbers of `evaluate`: whenever it is greater than ever before, the
            parameters are written to `best.pt` in `folder`, without the state of the optimiser.
        data: what the run is trained and measured on, by what it is for, for example `train`; stored in
            checkpoints and compared on resumption.
        accept_changed_data: resume although they have changed.

    Attributes:
        step: steps taken so far.
        position: where schedules were in the latest step: its number or, in a run of a given time, the share
            of the time that had passed before it, times `config.steps`.
        metrics: the latest evaluation.

    Raises:
        ValueError: if a run of several processes is given a time, or steps are to be captured elsewhere than
            on one GPU.
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
        data: Mapping[str, DataRecord] | None = None,
        accept_changed_data: bool = False,
    ) -> None:
        self.objective = unwrap(objective)
        self.optimizer = optimizer
        self.config = config
        self.process = process or Process(_device(self.objective))
        if config.minutes is not None and self.process.world_size > 1:
            raise ValueError("`minutes` are for one process: several do not agree on the time")
        if config.capture and (self.process.device.type != "cuda" or self.process.world_size > 1):
            expected = f"is for one GPU, not for {self.process.device}"
            raise FieldError("training.capture", expected, config.capture)
        self.step = self.position = 0
        self.metrics: dict[str, float] = {}
        self._batches = batches
        self._folder = RunFolder(folder, self.process)
        self._configuration = config if configuration is None else configuration
        self._schedule = schedule
        self._on_step = tuple(on_step)
        self._evaluate = evaluate
        self._keep_best = keep_best
        self._best = -math.inf
        self._data = dict(data or {})
        self._accept_changed_data = accept_changed_data
        self._modules = _default_modules(self.objective) if modules is None else dict(modules)
        self._forward = self.process.wrap(self.objective, find_unused_parameters=find_unused_parameters)
        self._parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self._captured = CapturedStep(self.objective, self._parameters) if config.capture else None
        self._guard = StepGuard(optimizer, self.process.device)
        self._reads_every_step = self.process.device.type == "cpu"  # where a read waits for nothing
        self._clip = (
            None if config.clip_factor is None else RunningClip(config.clip_factor, self.process.device)
        )
        self._means = RunningMeans(self.process)
        self._clock = Clock()
        self._saved_at = time.monotonic()
        self._saved_step: int | None = None
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", float(group["lr"]))

    @property
    def checkpoint_path(self) -> Path | None:
        """The file of the run's checkpoint, None without a folder."""
        return self._folder.checkpoint

    @property
    def best_path(self) -> Path | None:
        """The file of the best parameters, see `keep_best`; None without a folder."""
        return self._folder.best

    @property
    def complete(self) -> bool:
        """Whether all steps are taken, or the time for them has passed."""
        return self._share() >= 1

    def locked(self) -> AbstractContextManager[None]:
        """Keep other runs out of the folder within a `with` block; `run` does, which may be inside of it.

        Raises:
            FolderLockedError: on entering, another run is there.
            OSError: on entering, the folder cannot be written to.
        """
        return self._folder.locked()

    def resume(self, path: str | Path | None = None) -> int:
        """Load a checkpoint, to continue from it with `run`; learning rates are those it holds.

        Args:
            path: the file; by default the one in the run's folder.

        Returns:
            the number of steps it has taken.

        Raises:
            CheckpointError: it cannot be read, has another configuration (fields declared with
                `runtime_field` excepted) or other data, or does not fit the modules or the optimiser.
                Nothing has been changed then.
            ValueError: neither `path` nor a folder is given.
        """
        path = path or self.checkpoint_path
        if path is None:
            raise ValueError("`path` is needed where the trainer has no folder")
        checkpoint = load_checkpoint(path)
        checkpoint.require_configuration(self._configuration)
        if not self._accept_changed_data:
            checkpoint.require_data(self._data)
        names: dict[Tensor, str] = {parameter: name for name, parameter in self.objective.named_parameters()}
        progress = progress_of(checkpoint)
        checkpoint.require_modules(self._modules)
        checkpoint.restore_optimizer(self.optimizer, names)
        checkpoint.restore_modules(self._modules)
        self._guard.load(progress["skipped"])
        self._means.load(progress["means"])
        if self._clip is not None:
            self._clip.load(progress["clip"])
        self._clock.set(Times(progress["seconds"], progress.get("cpu_seconds", 0.0)))
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
        exists = self.process.any([self._folder.holds_checkpoint])[0]
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
            FolderLockedError: another run writes into the folder.
            LogError: the folder holds a log that is damaged.
            NonFiniteError: too many steps in a row were not finite, or a parameter is not.
            OSError: the log or a checkpoint cannot be written.
            MissingPackageError: TensorBoard is asked for and not installed.
            ValueError: the objective returns something else, or no parameter has a gradient.
        """
        with ExitStack() as stack:
            stack.enter_context(self.locked())
            self._folder.refuse_earlier(own=self._saved_step is not None)
            self._clock.start()
            stack.callback(self._clock.stop)
            self._saved_at = time.monotonic()
            stack.enter_context(preserve_random_state(self.process.device))
            signals = stack.enter_context(SignalWatch(impatient=self.process.world_size == 1))
            bar = stack.enter_context(self._progress_bar())
            unseen = self.config.progress is None and (bar.disable or not sys.stdout.isatty())
            stack.enter_context(
                self._folder.logging(self.step, tensorboard=self.config.tensorboard, lines=unseen)
            )
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
            if reason == "completed" and self.config.evaluate_every is not None and not self.metrics:
                self._evaluate_now()  # what nobody has watched is not known afterwards
            self._save()
            self._require_best()
            stopped_by = signals.received if reason == "interrupted" else None
        return TrainingResult(self.step, reason, stopped_by, self.checkpoint_path, dict(self.metrics))

    def _train_step(self, done: float) -> None:
        step = self.step
        self.position = step if self.config.minutes is None else int(done * self.config.steps)
        for hook in self._on_step:
            hook(self.position)
        if self._schedule is not None:
            set_learning_rates(self.optimizer, self._schedule(self.position))
        self._seed(step)
        self.optimizer.zero_grad(set_to_none=True)
        arguments = self._batches(step)
        with self.finite_or_explained(lambda: self._repeat(step, arguments)):
            forward = partial(self._captured, partial(self._seed, step)) if self._captured else self._forward
            loss, diagnostics = forward(*arguments)
            values = {"loss": loss, **_named_scalars(loss, diagnostics)}
            if self._captured is None:  # a captured step has done so
                loss.backward()
        grads = gradients(self._parameters)
        if not grads:
            raise ValueError("no parameter of `optimizer` has a gradient after `loss.backward()`")
        norm = gradient_norm(grads)
        nonfinite = (~(torch.isfinite(loss.detach()) & torch.isfinite(norm))).float()
        self.process.maximum_(nonfinite)
        if self.config.clip_norm is not None:
            clip_gradients(grads, norm, self.config.clip_norm)
        if self._clip is not None:
            self._clip(grads, norm, nonfinite)
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
        out_of_time = budget is not None and self._clock.since_start().wall >= 60 * budget
        due = interval is not None and now - self._saved_at >= 60 * interval
        return self.process.any([signals.received is not None, out_of_time, due])

    def _share(self) -> float:
        """How much of the run is done, from 0 to 1."""
        if self.config.minutes is None:
            return self.step / self.config.steps
        return self._clock.share_of(self.config.minutes, self.config.clock)

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
            self._write("train", {**means, **learning_rates(self.optimizer), "skipped": skipped})
            if skipped:
                shown["skipped"] = skipped
        if _every(self.config.evaluate_every, self.step):
            self._evaluate_now()
        if shown:
            bar.set_postfix({**shown, **self.metrics}, refresh=False)

    def _evaluate_now(self) -> None:
        if self._evaluate is not None:
            self.metrics = self._run_evaluation(self._evaluate)
            self._write("evaluation", self.metrics)
            self._save_if_best()

    def _run_evaluation(self, evaluate: Callable[[int], Mapping[str, float]]) -> dict[str, float]:
        training = [module for module in self.objective.modules() if module.training]
        seed_generators(self.process.device, "evaluate", self.config.seed, self.step, self.process.rank)
        self.objective.eval()
        try:
            with torch.no_grad(), self.finite_or_explained():
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
        names = nonfinite_gradients(self.objective)
        listed = ", ".join(f"`{name}`" for name in names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
        of = f" (gradients not finite at the last step: {listed})" if names else ""
        raise NonFiniteError(
            f"the loss or the gradient was not finite in {longest} steps in a row, up to step "
            f"{self.step}{of}; {self._last_good()}. {_ADVICE}"
        )

    def _last_good(self) -> str:
        if self._saved_step is None:
            return "there is no checkpoint from before"
        return f"the last good checkpoint is `{self.checkpoint_path}`, after step {self._saved_step}"

    def _write(self, event: str, values: Mapping[str, float]) -> None:
        self._folder.write(self.step, event, self._clock.elapsed().wall, values)

    @contextmanager
    def finite_or_explained(self, repeat: Callable[[], object] | None = None) -> Iterator[None]:
        """Name the true cause of an error in the block, where that is values that are not finite.

        Args:
            repeat: does once more what the block does to the objective, to find where they cease to be.

        Raises:
            NonFiniteError: in place of such an error.
        """
        try:
            yield
        except CaptureError:
            raise
        except (ValueError, RuntimeError, ArithmeticError) as error:
            cause = nonfinite_cause(self.objective, error, repeat)
            if cause is None:
                raise
            raise NonFiniteError(
                f"training has diverged at step {self.step}: {cause}; {self._last_good()}. {_ADVICE}"
            ) from error

    def _repeat(self, step: int, arguments: tuple[Any, ...]) -> object:
        self._seed(step)
        return self.objective(*arguments)

    def _seed(self, step: int) -> None:
        seed_generators(self.process.device, "train", self.config.seed, step, self.process.rank)

    def _save(self) -> None:
        """Write a checkpoint, unless this step has one; all processes must call it."""
        self._saved_at = time.monotonic()
        due = self._folder.writes and not (self._saved_step == self.step and self._folder.holds_checkpoint)
        if not self.process.any([due])[0]:
            return
        names = nonfinite_state(self.objective)
        if self.process.any([bool(names)])[0]:
            listed = ", ".join(f"`{name}`" for name in names[:_NAMED])
            raise NonFiniteError(
                f"parameters are not finite after step {self.step} ({listed}); {self._last_good()}"
            )
        means = self._means.state()
        self._folder.save(lambda: self._checkpoint(means))
        self._saved_step = self.step

    def _require_best(self) -> None:
        """Notice that the best parameters, which cannot be made anew, were removed during the run."""
        if self._best > -math.inf and self._folder.writes and not self._folder.holds_best:
            raise FileNotFoundError(
                f"`{self.best_path}` was removed: the best parameters are lost; {self._last_good()}"
            )

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
            self._folder.save_best(self._parameters_only)

    def _checkpoint(self, means: dict[str, object]) -> Checkpoint:
        elapsed = self._clock.elapsed()
        seconds = {"seconds": elapsed.wall, "cpu_seconds": elapsed.cpu}
        progress = {"means": means, "skipped": self._guard.state(), **seconds}
        if self._clip is not None:
            progress["clip"] = self._clip.state()
        return replace(
            self._parameters_only(),
            optimizer=OptimizerState(
                name=type(self.optimizer).__name__,
                state=cast(OptimizerStateDict, self.optimizer.state_dict()),
            ),
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
            kind=type(configuration).__name__.removesuffix("Config") if is_dataclass(configuration) else "",
            data=self._data,
        )

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
        # A bar that is asked for is a widget in a notebook; importing `auto` may warn that it lacks one.
        make = tqdm if self.config.progress is None else import_module("tqdm.auto").tqdm
        return make(total=total, initial=self.step, disable=hidden, unit="step", dynamic_ncols=True)


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
