"""What the programs of `examples/` share: commands, and mistakes of the user in one line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import nn

from whatwhere.datasets import DataError
from whatwhere.inference.training import (
    CheckpointError,
    NonFiniteError,
    Process,
    Trainer,
    from_primitives,
    load_checkpoint,
    parse_config,
    runtime_field,
    save_checkpoint,
)

Config = TypeVar("Config")


class UsageError(ValueError):
    """Options that do not go together, or do not fit the data."""


class Command(NamedTuple):
    """One command of a program."""

    config: type
    """Dataclass of its options."""
    run: Callable[[Any], int]
    """Does the work and returns the exit code."""
    presets: Mapping[str, Any] | None = None
    """Configurations by name."""


@dataclass(frozen=True)
class RunConfig:
    """A run of training, and where it takes place."""

    output: Path = runtime_field(Path("runs/run"))
    """Folder for the log, the checkpoints, the metrics and the pictures."""
    resume: bool = runtime_field(False)
    """Continue the run in `output` from its checkpoint; start it if there is none."""
    device: str = runtime_field("cpu")
    """`cpu`, `cuda`, or `auto`."""
    threads: int | None = runtime_field(None)
    """Threads of the CPU a process uses; by default what PyTorch chooses."""


def train_to_end(trainer: Trainer, resume: bool, process: Process, report: Callable[[], object]) -> int:
    """Train, from the run's checkpoint where that is asked for and there is one; then `report`, once.

    Returns:
        the exit code.
    """
    if resume:
        trainer.resume_existing()
    result = trainer.run()
    if process.is_main:
        print(result.message)
        if result.reason != "interrupted":
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
    try:
        config = from_primitives(config_class, checkpoint.configuration)
        modules = build(config)
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


def run_program(
    name: str, description: str, commands: Mapping[str, Command], argv: Sequence[str] | None = None
) -> int:
    """Run a command; mistakes of the user end in one line and exit code 2.

    Args:
        name: of the program.
        description: shown by `--help`.
        commands: by name.
        argv: the arguments; by default those of the process.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] not in commands:
        wants_help = bool(arguments) and arguments[0] in ("-h", "--help")
        usage = f"usage: {name} {{{','.join(commands)}}} [--help]"
        print(usage, file=None if wants_help else sys.stderr)
        if wants_help:
            print(description)
        return 0 if wants_help else 2
    command, rest = commands[arguments[0]], arguments[1:]
    prog = f"{name} {arguments[0]}"
    try:
        return command.run(parse_config(command.config, rest, presets=command.presets, prog=prog))
    except (UsageError, DataError, CheckpointError, NonFiniteError, RuntimeError, OSError) as error:
        print(f"{prog}: error: {error}", file=sys.stderr)
        return 2
