"""Checkpoints: one file of tensors and primitives, written atomically, safe to load.

A file is a dictionary written by `torch.save` and read with `weights_only=True`, so loading one never runs
code from it. All tensors are stored on the CPU and state dicts carry no `module.` prefix, so a checkpoint of
several processes on GPUs continues in one process without, and the other way round.

There is one file per run, replaced at once: a run that is killed at any moment, also while it writes, leaves
its last complete checkpoint.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..._version import __version__
from ...checks import UserError
from ...files import atomic_write
from .config import differences
from .distributed import unwrap

__all__ = [
    "FORMAT_VERSION",
    "Checkpoint",
    "CheckpointError",
    "load_checkpoint",
    "module_states",
    "save_checkpoint",
]

FORMAT = "whatwhere checkpoint"
FORMAT_VERSION = 1
# How an optimiser computes its step, which the machine decides, and not what it computes.
_IMPLEMENTATION = ("fused", "foreach", "capturable")
_NAMED = 5


class CheckpointError(UserError, RuntimeError):
    """A checkpoint cannot be read, or does not fit; the message names the file and the problem."""


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training run after a step."""

    step: int
    """Optimiser steps taken so far (skipped ones included)."""
    modules: dict[str, dict[str, Any]]
    """State dicts by name, for example `model` and `guide`."""
    optimizer: dict[str, Any] | None = None
    """Class name (`name`) and state dict (`state`) of the optimiser."""
    configuration: dict[str, Any] = field(default_factory=dict)
    """The run's configuration, see `whatwhere.inference.training.config.to_primitives`."""
    metrics: dict[str, float] = field(default_factory=dict)
    """The latest evaluation."""
    seed: int = 0
    """The run's seed, which with the step is the state of its random numbers."""
    progress: dict[str, Any] = field(default_factory=dict)
    """The trainer's own state: running averages, counters, elapsed time."""
    package_version: str = __version__
    """The version of whatwhere that wrote the checkpoint."""
    path: Path | None = None
    """The file it was loaded from; not stored."""

    def restore_modules(self, modules: Mapping[str, nn.Module], *, subset: bool = False) -> None:
        """Load the stored parameters and buffers into modules, in place.

        All modules are compared with the checkpoint before the first one is changed.

        Args:
            modules: modules by the names they were stored under; wrapped ones (DistributedDataParallel) are
                unwrapped.
            subset: accept that the checkpoint holds further modules.

        Raises:
            CheckpointError: names the modules, and the parameters missing, unexpected or of another shape.
        """
        missing = sorted(set(modules) - set(self.modules))
        unexpected = [] if subset else sorted(set(self.modules) - set(modules))
        problems = _listed("no module", missing) + _listed("unexpected module", unexpected)
        for name in set(modules) & set(self.modules):
            problems += _mismatches(name, self.modules[name], unwrap(modules[name]))
        if problems:
            raise CheckpointError(f"{self._where()} does not fit the modules: " + "; ".join(problems))
        for name, module in modules.items():
            unwrap(module).load_state_dict(self.modules[name])

    def restore_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Load the stored optimiser state.

        The optimiser keeps its own implementation (fused, foreach, capturable), which the machine decides.

        Args:
            optimizer: an optimiser of the same class, over the same parameters in the same order.

        Raises:
            CheckpointError: there is no optimiser state, or it is another optimiser's.
        """
        if self.optimizer is None:
            raise CheckpointError(f"{self._where()} holds no optimiser state")
        name, state = self.optimizer["name"], self.optimizer["state"]
        if name != type(optimizer).__name__:
            raise CheckpointError(
                f"{self._where()} holds the state of the optimiser `{name}`, "
                f"not of `{type(optimizer).__name__}`"
            )
        groups = optimizer.param_groups
        sizes = [len(group["params"]) for group in state["param_groups"]]
        expected = [len(group["params"]) for group in groups]
        if sizes != expected:
            raise CheckpointError(
                f"{self._where()} holds an optimiser of {sizes} parameters per group, this one has {expected}"
            )
        kept = [{key: group[key] for key in _IMPLEMENTATION if key in group} for group in groups]
        merged = [{**saved, **keep} for saved, keep in zip(state["param_groups"], kept, strict=True)]
        try:
            optimizer.load_state_dict({"state": state["state"], "param_groups": merged})
        except (KeyError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"the optimiser state of {self._where()} cannot be loaded: {error}"
            ) from error

    def require_configuration(self, config: Any) -> None:
        """Refuse to continue under another configuration.

        Args:
            config: a dataclass instance, or its primitives. Fields declared with `runtime_field` may differ.

        Raises:
            CheckpointError: names the differing fields with both values.
        """
        found = differences(self.configuration, config, ignore_runtime=True)
        if found:
            listed = "; ".join(f"`{d.field}` was {d.first!r} and is now {d.second!r}" for d in found)
            raise CheckpointError(f"{self._where()} was written under another configuration: {listed}")

    def _where(self) -> str:
        return "the checkpoint" if self.path is None else f"checkpoint `{self.path}`"


def module_states(modules: Mapping[str, nn.Module]) -> dict[str, dict[str, Any]]:
    """Return the state dicts of modules, without the prefix `module.` of DistributedDataParallel."""
    return {name: dict(unwrap(module).state_dict()) for name, module in modules.items()}


def _listed(problem: str, names: Sequence[str]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return [f"{problem} " + ", ".join(f"`{name}`" for name in names[:_NAMED]) + more]


def _mismatches(name: str, saved: Mapping[str, Any], module: nn.Module) -> list[str]:
    current = module.state_dict()
    missing = [f"{name}.{key}" for key in current if key not in saved]
    unexpected = [f"{name}.{key}" for key in saved if key not in current]
    shapes = [
        f"{name}.{key}` {tuple(saved[key].shape)} there, {tuple(value.shape)} here`"[:-1]
        for key, value in current.items()
        if isinstance(value, Tensor)
        and isinstance(saved.get(key), Tensor)
        and not isinstance(value, nn.UninitializedParameter | nn.UninitializedBuffer)
        and value.shape != saved[key].shape
    ]
    return (
        _listed("no entry", missing)
        + _listed("unexpected entry", unexpected)
        + [f"shape of `{text}" for text in shapes[:_NAMED]]
    )


def save_checkpoint(path: str | Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically.

    Args:
        path: the file; an existing one is replaced at once, so it is whole at every moment.
        checkpoint: what to write.

    Raises:
        TypeError: an entry is neither a tensor nor a primitive; names it. Nothing is written.
        OSError: the file cannot be written.
    """
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "package_version": checkpoint.package_version,
        "step": checkpoint.step,
        "seed": checkpoint.seed,
        "modules": checkpoint.modules,
        "optimizer": checkpoint.optimizer,
        "configuration": checkpoint.configuration,
        "metrics": checkpoint.metrics,
        "progress": checkpoint.progress,
    }
    plain = _plain(content, "checkpoint")
    with atomic_write(path) as file:
        torch.save(plain, file)


def _plain(value: Any, where: str) -> Any:
    """Copy tensors, to the CPU, and primitives; reject what `weights_only` would not load."""
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        # A view is stored with all of what it is a view of.
        whole = value.untyped_storage().nbytes() == value.numel() * value.element_size()
        return value if whole else value.clone()
    if isinstance(value, Mapping):
        return {_key(key, where): _plain(entry, f"{where}[{key!r}]") for key, entry in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_plain(entry, f"{where}[{i}]") for i, entry in enumerate(value))
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise TypeError(f"`{where}` is a {type(value).__name__}; a checkpoint holds tensors and primitives only")


def _key(key: Any, where: str) -> Any:
    if type(key) in (str, int):
        return key
    raise TypeError(f"`{where}` has the key {key!r}; keys in a checkpoint are strings or integers")


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint; its tensors are on the CPU.

    Args:
        path: a file written by `save_checkpoint`.

    Raises:
        CheckpointError: the file is missing, truncated or corrupt, not a checkpoint, or of a newer format.
    """
    path = Path(path)
    content = _read(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"`{path}` is not a checkpoint of whatwhere")
    version = content.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise CheckpointError(
            f"checkpoint `{path}` has format {version}, of whatwhere {content.get('package_version')}; "
            f"this is whatwhere {__version__}, which reads formats up to {FORMAT_VERSION}"
        )
    names = set(Checkpoint.__dataclass_fields__) - {"path"}
    missing = sorted(names - set(content))
    if missing:
        raise CheckpointError(f"checkpoint `{path}` lacks {', '.join(f'`{name}`' for name in missing)}")
    return Checkpoint(**{name: content[name] for name in names}, path=path)


def _read(path: Path) -> Any:
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint `{path}`")
    with open(path, "rb") as file:
        head = file.read(4)
    if not zipfile.is_zipfile(path):
        if head == b"PK\x03\x04":
            raise CheckpointError(f"checkpoint `{path}` is truncated")
        raise CheckpointError(f"`{path}` is not a checkpoint of whatwhere")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # the check sums, which `torch.load` does not look at
        if damaged is not None:
            raise ValueError(f"the check sum of `{damaged}` is wrong")
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"`{path}` is not a checkpoint of whatwhere: it holds other than tensors"
        ) from error
    except (RuntimeError, EOFError, KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"checkpoint `{path}` is corrupt: {str(error).splitlines()[0]}") from error
