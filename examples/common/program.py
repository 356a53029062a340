"""What the programs of `examples/` share: commands, and mistakes of the user in one line."""

from __future__ import annotations

import inspect
import os
import shutil
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import nn

from whatwhere import checks
from whatwhere._version import __version__
from whatwhere.checks import UserError
from whatwhere.examples.common.launch import INTERRUPTED, reader_has_gone
from whatwhere.files import user_path
from whatwhere.inference.training import (
    CheckpointError,
    FolderLock,
    Process,
    RunFolder,
    Trainer,
    check_device,
    from_primitives,
    keep_freed_memory,
    load_checkpoint,
    parse_config,
    runtime_field,
    save_checkpoint,
)

Config = TypeVar("Config")


class UsageError(UserError, ValueError):
    """Options that do not go together, or do not fit the data."""


class Command(NamedTuple):
    """One command of a program."""

    config: type
    """Dataclass of its options."""
    run: Callable[[Any], int]
    """Does the work and returns the exit code."""
    presets: Mapping[str, Any] | None = None
    """Configurations by name."""
    says: str | None = None
    """What it does, in a line; by default the first paragraph of the docstring of `config`."""

    @property
    def summary(self) -> str:
        """What it does, in a line."""
        return self.says or " ".join((inspect.getdoc(self.config) or "").partition("\n\n")[0].split())


@dataclass(frozen=True)
class RunConfig:
    """A run of training, and where it takes place."""

    output: Path = runtime_field(Path("runs/run"))
    """Folder for the log, the checkpoints, the metrics and the pictures."""
    resume: bool = runtime_field(False)
    """Continue the run in `output` from its checkpoint; start it if there is none."""
    overwrite: bool = runtime_field(False)
    """Start anew where `output` holds a run already, which is kept beside it as `OUTPUT.previous`."""
    accept_changed_data: bool = runtime_field(False)
    """Continue it although its data are no longer the same."""
    device: str = runtime_field("cpu")
    """`cpu`, `cuda`, or `auto`. A GPU is ten times as fast with `training.capture`."""
    threads: int | None = runtime_field(None)
    """Threads of the CPU a process uses; by default what PyTorch chooses."""

    def __post_init__(self) -> None:
        checks.literals(self)
        check_device(self.device)
        checks.positive(self, "threads")
        if self.resume and self.overwrite:
            raise ValueError("`resume` and `overwrite` exclude each other")


def set_aside(folder: Path) -> None:
    """Rename the folder of a run, if it is one, by appending `.previous`; an older one of that name goes.

    Raises:
        FolderLockedError: the run is going on.
        OSError: it cannot be renamed.
    """
    if not any(any(folder.glob(name)) for name in ("checkpoint.pt", "log.jsonl", "stages", "fold-*")):
        return
    with FolderLock(folder):
        pass  # no other process is at work there
    previous = folder.with_name(f"{folder.name}.previous")
    if previous.exists():
        shutil.rmtree(previous)
    folder.rename(previous)


def begin_run(config: RunConfig, process: Process) -> None:
    """Set up threads and memory, and refuse an `output` that holds another run.

    To be called before the data are opened and looked at, which may take minutes.

    Raises:
        CheckpointError: there is another run, and nobody said that it goes on.
    """
    set_threads(config.threads)
    keep_freed_memory()
    if not config.resume:
        RunFolder(config.output, process).refuse_earlier(sorted(config.output.glob("stages/*")))


def train_to_end(trainer: Trainer, resume: bool, process: Process, report: Callable[[], object]) -> int:
    """Train, from the run's checkpoint where that is asked for and there is one; then `report`, once.

    Returns:
        the exit code.
    """
    with trainer.locked():
        if resume:
            trainer.resume_existing()
        result = trainer.run()
        if process.is_main:
            print(result.message)
            if result.reason != "interrupted":
                with trainer.finite_or_explained():
                    report()
    return result.exit_code


def restore_run(
    path: Path,
    device: torch.device,
    config_class: type[Config],
    name: str,
    build: Callable[[Config], Mapping[str, nn.Module]],
    *,
    subset: bool = False,
) -> tuple[Config, Mapping[str, Any]]:
    """Rebuild the configuration and the modules of a checkpoint, for evaluation.

    Args:
        path: of the checkpoint.
        device: where the modules shall be.
        config_class: of the program's configuration.
        name: of what the program trains, for messages.
        build: the modules of a configuration, by the names that checkpoints have.
        subset: accept that the checkpoint holds further modules.

    Raises:
        CheckpointError: if it cannot be read, or is one of something else.
    """
    checkpoint = load_checkpoint(path)
    if checkpoint.kind not in ("", config_class.__name__.removesuffix("Config")):
        raise CheckpointError(f"`{path}` is a checkpoint of {checkpoint.kind}, not of {name}")
    try:
        config = from_primitives(config_class, checkpoint.configuration)
        modules = build(config)
    except UsageError:
        raise
    except ValueError as error:
        raise CheckpointError(f"checkpoint `{path}` is not one of {name}: {error}") from error
    checkpoint.restore_modules(modules, subset=subset)
    for module in modules.values():
        module.to(device).eval()
    return config, modules


@dataclass(frozen=True)
class ExportConfig:
    """Write a checkpoint to share: without the state of the optimiser, a third of its size."""

    checkpoint: Path
    """The checkpoint of a training run."""
    output: Path
    """The file to write."""


def export(options: ExportConfig, restore: Callable[[Path, torch.device], Any]) -> int:
    """Export a checkpoint.

    Args:
        options: which one, and where to.
        restore: refuses checkpoints of other programs.
    """
    restore(options.checkpoint, torch.device("cpu"))
    checkpoint = load_checkpoint(options.checkpoint)
    save_checkpoint(options.output, replace(checkpoint, optimizer=None, progress={}))
    print(f"checkpoint: {options.output}")
    return 0


def set_threads(threads: int | None) -> None:
    """Let PyTorch use so many threads of the CPU; as many as it chooses where None."""
    if threads is not None:
        torch.set_num_threads(threads)


@contextmanager
def usage_errors() -> Iterator[None]:
    """Take `ValueError`s for mistakes of the user: for the part of a program that builds what options say."""
    try:
        yield
    except UserError:
        raise
    except ValueError as error:
        raise UsageError(str(error)) from error


def run_program(
    name: str, description: str, commands: Mapping[str, Command], argv: Sequence[str] | None = None
) -> int:
    """Run a command; see `exit_code` for how it ends.

    Args:
        name: of the program.
        description: shown by `--help`.
        commands: by name.
        argv: the arguments; by default those of the process.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] not in commands:
        usage = f"usage: {name} {{{','.join(commands)}}} [--help]"
        if arguments[:1] not in (["-h"], ["--help"]):
            print(usage, file=sys.stderr)
            return 2
        width = max(map(len, commands))
        lines = [f"  {key:{width}}  {command.summary}" for key, command in commands.items()]
        return exit_code(name, lambda: print("\n".join([usage, "", *lines, "", description])) or 0)
    command, rest = commands[arguments[0]], arguments[1:]
    prog = f"{name} {arguments[0]}"

    def work() -> int:
        config = parse_config(
            command.config, rest, presets=command.presets, prog=prog, description=command.says
        )
        typed = _typed(rest)
        if remark := _steps_without_effect(config, typed):
            print(f"{prog}: {remark}", file=sys.stderr)
        if getattr(config, "auto", False):
            own = (name for name in typed if "." in name and not name.startswith("training."))
            config = replace(config, keep=(*config.keep, *own))
        first = os.environ.get("RANK", "0") == "0"  # of the processes of `torchrun`
        if isinstance(config, RunConfig) and config.overwrite:
            if first:
                set_aside(config.output)
            config = replace(config, overwrite=False)
        code = run_command(command.run, config)
        if isinstance(config, RunConfig) and code > 128 and first:  # by a signal
            print("the same command with `--resume` goes on from there")
        return code

    return exit_code(prog, work)


def run_command(run: Callable[[Any], int], config: Any) -> int:
    """Run a command whose options may have an `output`.

    Returns:
        its exit code.

    Raises:
        UsageError: there can be no such `output`.
    """
    try:
        return run(config)
    except OSError as error:
        output = getattr(config, "output", None)
        if output is None or not isinstance(error.filename, str):
            raise
        if not Path(os.path.realpath(user_path(output))).is_relative_to(os.path.realpath(error.filename)):
            raise
        path = Path(error.filename)
        file = next(filter(os.path.isfile, (path, *path.parents)), None)
        why = f"cannot make `{path}`: {error.strerror}" if file is None else f"`{file}` is a file"
        raise UsageError(f"{why}; give another `--output`") from error


def _typed(arguments: Sequence[str]) -> list[str]:
    """The names of the fields that are given as options, in their order."""
    options = (argument.partition("=")[0] for argument in arguments if argument.startswith("--"))
    return [option.removeprefix("--").removeprefix("no-").replace("-", "_") for option in options]


def _steps_without_effect(config: Any, typed: Sequence[str]) -> str | None:
    """A remark where steps were asked for, and a preset trains for a time."""
    minutes = getattr(getattr(config, "training", None), "minutes", None)
    if minutes is None or "training.steps" not in typed or "training.minutes" in typed:
        return None
    return (
        f"`--training.steps` has no effect, since the preset trains for {minutes:g} minutes; "
        "`--training.minutes none` lets steps count"
    )


def exit_code(prog: str, work: Callable[[], int]) -> int:
    """Do a program's work, and say in one line what ended it before its time.

    A mistake of the user (`UserError`, files and devices that fail, too little memory) ends in one line and
    exit code 2, an interruption in one line and 130. What is left is a
    fault of the program: it keeps its traceback, is followed by a line that asks for a report, and has exit
    code 1. Warnings take one line each. Nothing is raised, so that a notebook can call a program, too.

    Args:
        prog: the program's name, in front of every line.
        work: returns the exit code where nothing of that happens.
    """
    with _warnings_in_a_line(prog):
        try:
            return work()
        except SystemExit as ended:  # of the parser: in a notebook an exception would be all that is seen
            return ended.code if isinstance(ended.code, int) else 0
        except KeyboardInterrupt:
            return _end(prog, "interrupted", INTERRUPTED)
        except BrokenPipeError:  # who read what is printed has gone, `head` for instance
            return reader_has_gone()
        except (UserError, OSError) as error:
            return _end(prog, f"error: {_told(error)}", 2)
        except Exception as error:
            if _lacks_memory(error):
                return _end(prog, f"error: not enough memory: {error}", 2)
            traceback.print_exc()
            line = f"this is a fault of whatwhere {__version__}: please report it, with the lines above"
            return _end(prog, line, 1)


def _end(prog: str, message: str, code: int) -> int:
    print(f"{prog}: {_in_a_line(message)}", file=sys.stderr)
    return code


def _told(error: Exception) -> str:
    """An error's message; of one of the system the file and the reason, without its number."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"`{os.fsdecode(error.filename)}`: {error.strerror}"
    return str(error)


def _in_a_line(text: str) -> str:
    return " ".join(text.split())


def _lacks_memory(error: Exception) -> bool:
    allocator = isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    return allocator or isinstance(error, MemoryError | torch.cuda.OutOfMemoryError)


@contextmanager
def _warnings_in_a_line(prog: str) -> Iterator[None]:
    """Leave out where in the source a warning comes from, which tells a user nothing."""
    usual = warnings.formatwarning
    warnings.formatwarning = lambda message, *_, **__: f"{prog}: warning: {_in_a_line(str(message))}\n"
    try:
        yield
    finally:
        warnings.formatwarning = usual
