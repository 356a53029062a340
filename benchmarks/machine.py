"""What a measurement was made on, and whether others were using it."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import pyro
import torch


def describe_machine(device: torch.device | None = None) -> dict[str, Any]:
    """Return what must be known to read a measurement, as numbers and strings.

    Args:
        device: the device that was measured; its name is added if it is not a CPU.
    """
    description: dict[str, Any] = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": commit(),
        "cpu": cpu_model(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pyro": pyro.__version__,
        "threads": torch.get_num_threads(),
        "flush_denormal": flushes_denormals(),
    }
    if device is not None and device.type == "cuda":
        description["accelerator"] = torch.cuda.get_device_name(device)
    return description


def cpu_model() -> str:
    """Return the name of the processor as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def commit() -> str | None:
    """Return the commit of the working tree, with `+` if it has changes; None outside a repository."""
    folder = Path(__file__).parent
    try:
        run = [
            subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True).stdout
            for words in (["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain", "-uno"])
        ]
    except (OSError, subprocess.CalledProcessError):
        return None
    return run[0].strip() + ("+" if run[1].strip() else "")


def flushes_denormals() -> bool:
    """Whether this thread turns numbers below 1e-38 into zeros; PyTorch can set this, but not tell it."""
    return not bool((torch.tensor([1e-38]) * 1e-2).any())


def idle_share(interval: float = 1.0) -> float | None:
    """Return the share of all cores that nobody used in the next `interval` seconds.

    None where the system does not tell.
    """
    before = _cpu_ticks()
    time.sleep(interval)
    after = _cpu_ticks()
    if before is None or after is None or after[1] == before[1]:
        return None
    return (after[0] - before[0]) / (after[1] - before[1])


def _cpu_ticks() -> tuple[int, int] | None:
    """Idle time and all time of all cores since the system started; what a hypervisor takes is not idle."""
    try:
        ticks = [int(text) for text in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    except (OSError, ValueError, IndexError):
        return None
    return ticks[3] + ticks[4], sum(ticks)


def wait_until_idle(timeout: float, share: float = 0.9) -> float | None:
    """Wait until the machine is nearly idle, at most `timeout` seconds.

    Args:
        timeout: with 0 the machine is looked at once, and nothing is waited for.
        share: of all cores that must be idle.

    Returns:
        the idle share when the waiting ended, None where the system does not tell. It belongs into the
        report: where it is small, wall times mean little.
    """
    end = time.monotonic() + timeout
    while True:
        idle = idle_share()
        if idle is None or idle >= share or time.monotonic() >= end:
            return idle
