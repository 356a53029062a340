"""What a step needs besides time: memory, kernels, and values read back from the device."""

from __future__ import annotations

import contextlib
import multiprocessing
import sys
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

Step = Callable[[], object]

HOST_READS = ("_local_scalar_dense", "nonzero", "equal", "is_nonzero", "masked_select")
"""Operators whose result, or its shape, the program waits for."""

NO_KERNEL = ("_unsafe_view", "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided")
"""Operators that launch nothing, besides those that return a view."""


class Operations(NamedTuple):
    """Calls that reach PyTorch's operators, forward and backward together."""

    kernels: int
    """Operators that compute something; each is at least one launch on an accelerator."""
    host_reads: int
    """Operators whose result the program waits for."""


class _Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.kernels = 0
        self.host_reads = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        returns = func._schema.returns
        is_view = any(r.alias_info is not None and not r.alias_info.is_write for r in returns)
        self.kernels += not is_view and name not in NO_KERNEL
        self.host_reads += name in HOST_READS
        return func(*args, **(kwargs or {}))


def count_operations(step: Step) -> Operations:
    """Count the operators of one call. Inside `torch.compile`d code they cannot be seen."""
    with _Counter() as counter:
        step()
    return Operations(counter.kernels, counter.host_reads)


def saved_bytes(step: Step, parameters: Iterable[Tensor] = ()) -> int:
    """Return the bytes that the forward pass of one call keeps for its backward pass.

    Args:
        step: does both passes.
        parameters: tensors that are there anyway and are not counted.
    """
    known = {parameter.untyped_storage().data_ptr() for parameter in parameters}
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        step()
    return sum(sizes.values())


def peak_memory(make_step: Callable[[], Step], device: torch.device | None = None, calls: int = 3) -> int:
    """Return by how many bytes a step raises the memory of a fresh process, at its peak.

    The baseline is the process with the step made, not yet run: modules imported, networks and data there.
    The rise is activations, gradients, the optimiser's state, and what the libraries set up at first use.

    Args:
        make_step: makes the step in the process; a function of a module, or a `functools.partial` of one.
        device: on an accelerator, memory of its allocator is counted instead.
        calls: calls of the step.

    Raises:
        RuntimeError: the process failed; its traceback is on the error stream.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_report_peak, args=(sender, make_step, device, calls))
    process.start()
    sender.close()
    try:
        peak = receiver.recv()
    except EOFError:
        raise RuntimeError("the process that measures memory failed") from None
    finally:
        process.join()
    return peak


def _report_peak(
    sender: Connection, make_step: Callable[[], Step], device: torch.device | None, calls: int
) -> None:
    step = make_step()
    if device is not None and device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        for _ in range(calls):
            step()
        sender.send(torch.cuda.max_memory_allocated(device) - before)
        return
    _reset_peak()
    before = _resident()[0]
    for _ in range(calls):
        step()
    sender.send(_resident()[1] - before)


def _reset_peak() -> None:
    with contextlib.suppress(OSError):  # without this the peak is that since the process began
        Path("/proc/self/clear_refs").write_text("5")


def _resident() -> tuple[int, int]:
    """Memory of this process in bytes, now and at its peak.

    On Linux not from `getrusage`: there a new process begins with the peak of the one that started it.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith("Vm")}
        return kilobytes["VmRSS"] * 1024, kilobytes["VmHWM"] * 1024
    except (OSError, KeyError):
        import resource  # not on Windows

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return peak, peak
