"""One process, or many started by `torchrun`, under the same command line.

Each process runs the same program on its own part of every global batch; DistributedDataParallel averages the
gradients, so an objective that is a *mean* over its batch takes the same steps in any number of processes
(one that sums takes steps `world_size` times smaller than one process would). Processes on CPUs talk through
gloo, on CUDA devices through NCCL.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ...checks import FieldError, UserError

__all__ = ["DeviceError", "Process", "check_device", "join_processes", "select_device", "unwrap"]


class DeviceError(UserError, RuntimeError):
    """The device asked for is not there, or the processes do not find each other."""


def unwrap(module: nn.Module) -> nn.Module:
    """Return the module inside DistributedDataParallel, or `module` itself where it is not wrapped."""
    return module.module if isinstance(module, DistributedDataParallel) else module


def check_device(name: str) -> None:
    """Refuse what names no device, whether or not there is one; see `select_device`.

    Raises:
        ValueError: the name is another one.
    """
    if not re.fullmatch(r"cpu|auto|cuda(:[0-9]+)?", name):
        raise FieldError("device", "must be 'cpu', 'cuda', 'cuda:N' or 'auto'", name)


def select_device(name: str) -> torch.device:
    """Choose the device of this process.

    Args:
        name: `cpu`; `cuda` (under `torchrun` the device of this process's local rank); `cuda:N`; or `auto`,
            which is `cuda` where there is a GPU and `cpu` elsewhere.

    Raises:
        ValueError: another name.
        DeviceError: a GPU is asked for and there is none, or not as many as processes on this machine.
    """
    check_device(name)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        return torch.device("cpu")
    index = name.partition(":")[2]
    if not torch.cuda.is_available():
        reason = "" if torch.version.cuda else f" (torch {torch.__version__} is a build without CUDA)"
        raise DeviceError(
            f"`device` is {name!r}, but there is no GPU that PyTorch can use{reason}; use 'cpu'"
        )
    number, count = int(index or os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if number >= count:
        raise DeviceError(
            f"`device` is {name!r} and this process needs GPU {number}, but there are {count} GPUs"
        )
    return torch.device("cuda", number)


@dataclass(frozen=True)
class Process:
    """This process's place among those that train together."""

    device: torch.device
    """Where this process computes."""
    rank: int = 0
    """Its number, from 0."""
    world_size: int = 1
    """How many processes there are."""

    @property
    def is_main(self) -> bool:
        """Whether this process writes logs and checkpoints."""
        return self.rank == 0

    def wrap(self, objective: nn.Module, *, find_unused_parameters: bool = False) -> nn.Module:
        """Wrap an objective so that gradients are averaged over processes; alone, return it as it is.

        Args:
            objective: a module on this process's device; wrapping copies the main process's parameters to
                all.
            find_unused_parameters: needed where a step may leave parameters without a gradient.
        """
        if self.world_size == 1:
            return objective
        devices = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(
            objective, device_ids=devices, find_unused_parameters=find_unused_parameters
        )

    def maximum_(self, tensor: Tensor) -> Tensor:
        """Replace a tensor by its maximum over processes, in place, without reading it back."""
        if self.world_size > 1:
            dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return tensor

    def sum_(self, tensor: Tensor) -> Tensor:
        """Replace a tensor by its sum over processes, in place, without reading it back."""
        if self.world_size > 1:
            dist.all_reduce(tensor, op=dist.ReduceOp.SUM)
        return tensor

    def any(self, flags: Sequence[bool]) -> list[bool]:
        """Return, for each flag, whether it is set in any process. All processes must call it."""
        if self.world_size == 1:
            return list(flags)
        agreed = self.maximum_(torch.tensor(flags, dtype=torch.float32, device=self.device))
        return [value > 0 for value in agreed.tolist()]

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return the means of named numbers over processes; all must call it, with the same names."""
        if self.world_size == 1 or not values:
            return dict(values)
        total = self.sum_(torch.tensor(list(values.values()), dtype=torch.float64, device=self.device))
        return dict(zip(values, (total / self.world_size).tolist(), strict=True))


@contextmanager
def join_processes(device: str = "auto") -> Iterator[Process]:
    """Join the processes that `torchrun` started, or be the only one.

    Under `torchrun` (the environment variables `RANK` and `WORLD_SIZE`) this sets up the process group, which
    is taken down at the end of the block.

    Args:
        device: see `select_device`.

    Yields:
        this process's place.

    Raises:
        DeviceError: see `select_device`; or only one of the environment variables is set.
    """
    chosen = select_device(device)
    names = [name for name in ("RANK", "WORLD_SIZE") if name in os.environ]
    if len(names) == 1:
        raise DeviceError(f"`{names[0]}` is set without its partner; start several processes with `torchrun`")
    with ExitStack() as stack:
        if chosen.type == "cuda":
            stack.enter_context(torch.cuda.device(chosen))
        if not names:
            yield Process(chosen)
            return
        if chosen.type == "cuda":
            dist.init_process_group("nccl", device_id=chosen)
        else:
            dist.init_process_group("gloo")
        stack.callback(dist.destroy_process_group)
        yield Process(chosen, dist.get_rank(), dist.get_world_size())
