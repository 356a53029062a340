"""Checkpoints: the state of a run, and how it goes into modules and an optimiser, or is refused.

All tensors are stored on the CPU and state dicts carry no `module.` prefix, so a checkpoint of several
processes on GPUs continues in one process without, and the other way round. See `checkpoint_file` for how
they are written and read.
"""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import Tensor, nn

from ..._version import __version__
from ...checks import UserError
from .config import differences, from_primitives, source_names
from .data_record import DataRecord
from .distributed import unwrap
from .nonfinite import nonfinite_entries
from .structure import Primitives, mismatch

__all__ = ["Checkpoint", "CheckpointError", "OptimizerState", "OptimizerStateDict", "module_states"]

# How an optimiser computes its step, which the machine decides, and not what it computes.
_IMPLEMENTATION = ("fused", "foreach", "capturable")
_NAMED = 5


class CheckpointError(UserError, RuntimeError):
    """A checkpoint cannot be read, or does not fit; the message names the file and the problem."""


class ParameterGroup(TypedDict):
    """Parameters of an optimiser that share options; what the options are depends on it."""

    params: list[int]
    """Numbers of the parameters."""


class OptimizerStateDict(TypedDict):
    """What `torch.optim.Optimizer.state_dict` returns."""

    state: dict[int, dict[str, Any]]
    """Tensors and numbers by name, for each parameter that has had a gradient."""
    param_groups: list[ParameterGroup]
    """The groups of parameters, with their options."""


class OptimizerState(TypedDict):
    """An optimiser in a checkpoint."""

    name: str
    """Its class."""
    state: OptimizerStateDict
    """Its state."""


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training run after a step."""

    step: int
    """Optimiser steps taken so far (skipped ones included)."""
    modules: dict[str, dict[str, Any]]
    """State dicts by name, for example `model` and `guide`."""
    optimizer: OptimizerState | None = None
    """The optimiser."""
    configuration: dict[str, Primitives] = field(default_factory=dict)
    """The run's configuration, see `whatwhere.inference.training.config.to_primitives`."""
    metrics: dict[str, float] = field(default_factory=dict)
    """The latest evaluation."""
    seed: int = 0
    """The run's seed, which with the step is the state of its random numbers."""
    progress: dict[str, Any] = field(default_factory=dict)
    """The trainer's own state: running averages, counters, elapsed time."""
    kind: str = ""
    """What was trained: the class of the configuration without its ending, `AIR` of `AIRConfig`."""
    data: dict[str, DataRecord] = field(default_factory=dict)
    """The run's data, by what they are for, for example `train`; empty where nothing is known of them."""
    package_version: str = __version__
    """The version of whatwhere that wrote the checkpoint."""
    path: Path | None = None
    """The file it was loaded from; not stored."""

    def require_modules(self, modules: Mapping[str, nn.Module], *, subset: bool = False) -> None:
        """Refuse modules that the checkpoint does not fit; see `restore_modules`."""
        missing = sorted(set(modules) - set(self.modules))
        unexpected = [] if subset else sorted(set(self.modules) - set(modules))
        problems = _listed("no module", missing) + _listed("unexpected module", unexpected)
        for name in sorted(set(modules) & set(self.modules)):
            problems += _mismatches(name, self.modules[name], unwrap(modules[name]))
        if problems:
            raise CheckpointError(f"{self._where()} does not fit the modules: " + "; ".join(problems))

    def restore_modules(self, modules: Mapping[str, nn.Module], *, subset: bool = False) -> None:
        """Load the stored parameters and buffers into modules, in place.

        All modules are compared with the checkpoint before the first one is changed.

        Args:
            modules: modules by the names they were stored under; wrapped ones (DistributedDataParallel) are
                unwrapped.
            subset: accept that the checkpoint holds further modules.

        Raises:
            CheckpointError: names the modules, and the parameters missing, unexpected, of another shape or
                not finite.
        """
        self.require_modules(modules, subset=subset)
        for name, module in modules.items():
            unwrap(module).load_state_dict(self.modules[name])

    def require_optimizer(
        self, optimizer: torch.optim.Optimizer, names: Mapping[Tensor, str] | None = None
    ) -> None:
        """Refuse an optimiser whose state the checkpoint does not hold; see `restore_optimizer`."""
        if self.optimizer is None:
            raise CheckpointError(f"{self._where()} holds no optimiser state")
        name, state = self.optimizer["name"], self.optimizer["state"]
        if name != type(optimizer).__name__:
            raise CheckpointError(
                f"{self._where()} holds the state of the optimiser `{name}`, "
                f"not of `{type(optimizer).__name__}`"
            )
        sizes = [len(group["params"]) for group in state["param_groups"]]
        expected = [len(group["params"]) for group in optimizer.param_groups]
        if sizes != expected:
            raise CheckpointError(
                f"{self._where()} holds an optimiser of {sizes} parameters per group, this one has {expected}"
            )
        if problems := _optimizer_mismatches(state, optimizer, names or {}):
            raise CheckpointError(
                f"the optimiser state of {self._where()} cannot be loaded: " + "; ".join(problems[:_NAMED])
            )

    def restore_optimizer(
        self, optimizer: torch.optim.Optimizer, names: Mapping[Tensor, str] | None = None
    ) -> None:
        """Load the stored optimiser state.

        The optimiser keeps its own implementation (fused, foreach, capturable), which the machine decides.

        Args:
            optimizer: an optimiser of the same class, over the same parameters in the same order.
            names: what messages call its parameters.

        Raises:
            CheckpointError: there is no optimiser state, or it is another optimiser's or other parameters'.
        """
        self.require_optimizer(optimizer, names)
        assert self.optimizer is not None
        state, groups = self.optimizer["state"], optimizer.param_groups
        kept = [{key: group[key] for key in _IMPLEMENTATION if key in group} for group in groups]
        merged = [{**saved, **keep} for saved, keep in zip(state["param_groups"], kept, strict=True)]
        try:
            optimizer.load_state_dict({"state": state["state"], "param_groups": merged})
        except (KeyError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"the optimiser state of {self._where()} cannot be loaded: {error}"
            ) from error

    def require_data(self, data: Mapping[str, DataRecord]) -> None:
        """Refuse data that are no longer those of the run.

        Args:
            data: by what they are for. What the checkpoint knows nothing of is not compared.

        Raises:
            CheckpointError: names the changes.
        """
        changes = [
            f"`{name}`: {change}"
            for name, now in data.items()
            if name in self.data
            for change in self.data[name].changes(now)
        ]
        if changes:
            raise CheckpointError(f"{self._where()} was trained with other data: " + "; ".join(changes))

    def require_configuration(self, config: Any) -> None:
        """Refuse to continue under another configuration.

        Args:
            config: a dataclass instance, or its primitives. Fields declared with `runtime_field` may differ;
                those declared with `source_field` too if there is a record of the data, see `require_data`.

        Raises:
            CheckpointError: names the differing fields with both values.
        """
        sources = source_names(config) if self.data else set()
        found = [
            difference
            for difference in differences(self._configuration_like(config), config, ignore_runtime=True)
            if difference.field not in sources
        ]
        if found:
            listed = "; ".join(f"`{d.field}` was {d.first!r} and is now {d.second!r}" for d in found)
            raise CheckpointError(f"{self._where()} was written under another configuration: {listed}")

    def _configuration_like(self, config: Any) -> Any:
        """The stored configuration; fields that it lacks, of a later version, have their defaults."""
        if not is_dataclass(config):
            return self.configuration
        try:
            return from_primitives(type(config), self.configuration)
        except ValueError:  # it is one of something else
            return self.configuration

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
    tensors = {key: value for key, value in current.items() if isinstance(value, Tensor) and key in saved}
    wrong = [problem for key in tensors if (problem := mismatch(saved[key], Tensor, f"{name}.{key}"))]
    fixed = {} if wrong else {key: value for key, value in tensors.items() if not _takes_any_shape(value)}
    shapes = [
        f"{name}.{key}` {tuple(saved[key].shape)} there, {tuple(value.shape)} here`"[:-1]
        for key, value in fixed.items()
        if value.shape != saved[key].shape
    ]
    parameters = dict(module.named_parameters())
    whole = {} if wrong or shapes else {key: saved[key] for key in tensors}
    spoilt = [f"{name}.{key}" for key in nonfinite_entries(whole, parameters)]
    return (
        _listed("no entry", missing)
        + _listed("unexpected entry", unexpected)
        + wrong[:_NAMED]
        + [f"shape of `{text}" for text in shapes[:_NAMED]]
        + _listed("not finite", spoilt)
    )


def _takes_any_shape(value: Tensor) -> bool:
    return isinstance(value, nn.UninitializedParameter | nn.UninitializedBuffer)


def _optimizer_mismatches(
    state: OptimizerStateDict, optimizer: torch.optim.Optimizer, names: Mapping[Tensor, str]
) -> list[str]:
    """What in a stored state is not as in the state that the optimiser itself would have after a step."""
    problems = []
    for saved, group in zip(state["param_groups"], optimizer.param_groups, strict=True):
        problems += _option_mismatches(saved, group)
        for number, parameter in zip(saved["params"], group["params"], strict=True):
            entry = state["state"].get(number)
            template = _state_after_a_step(optimizer, group, parameter) if entry else None
            if entry and template is not None:
                name = names.get(parameter, f"parameter {number}")
                problems += _entry_mismatches(name, entry, template)
    return problems


def _option_mismatches(saved: Mapping[str, Any], group: Mapping[str, Any]) -> list[str]:
    wrong = [
        key
        for key, value in group.items()
        if key in saved and key not in ("params", *_IMPLEMENTATION) and not _same_kind(saved[key], value)
    ]
    return [f"its `{key}` is {saved[key]!r}" for key in wrong]


def _same_kind(saved: Any, value: Any) -> bool:
    """Whether both are finite numbers, or things of one type."""
    if isinstance(value, tuple | list):
        same_length = isinstance(saved, tuple | list) and len(saved) == len(value)
        return same_length and all(map(_same_kind, saved, value))
    if isinstance(value, bool) or not isinstance(value, int | float | Tensor):
        return isinstance(saved, type(value))
    if isinstance(saved, Tensor):
        return saved.numel() == 1 and bool(torch.isfinite(saved))
    return isinstance(saved, int | float) and math.isfinite(saved)


def _state_after_a_step(
    optimizer: torch.optim.Optimizer, group: Mapping[str, Any], parameter: Tensor
) -> dict[str, Any] | None:
    """The state of one parameter after a step of gradient 0; None where the optimiser takes none alone."""
    twin = torch.zeros_like(parameter, requires_grad=False)
    twin.grad = torch.zeros_like(parameter, requires_grad=False)
    probe = copy.copy(optimizer)
    probe.state, probe.param_groups = defaultdict(dict), [{**group, "params": [twin]}]
    try:
        probe.step()
    except Exception:  # another's optimiser: it may need a closure, or attributes that a copy lacks
        return None
    return dict(probe.state[twin])


def _entry_mismatches(name: str, entry: Mapping[str, Any], template: Mapping[str, Any]) -> list[str]:
    problems = _listed(f"`{name}` has no", sorted(set(template) - set(entry)))
    problems += _listed(f"`{name}` has an unexpected", sorted(map(str, set(entry) - set(template))))
    for key in template.keys() & entry.keys():
        value, expected = entry[key], template[key]
        if isinstance(value, Tensor) and isinstance(expected, Tensor):
            if value.shape != expected.shape:
                shapes = f"{tuple(value.shape)}, not {tuple(expected.shape)}"
                problems.append(f"`{key}` of `{name}` has the shape {shapes}")
            elif bool(value.isnan().any()):
                problems.append(f"`{key}` of `{name}` is not finite")
        elif not _same_kind(value, expected):
            problems.append(f"`{key}` of `{name}` is a {type(value).__name__}")
    return problems
