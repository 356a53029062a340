"""Times alternatives against each other: interleaved, warmed up, by two clocks. See `docs/benchmarks.md`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch

from .machine import wait_until_idle

Clock = Literal["wall", "cpu"]

MATMUL_SIZE = 768


class Spread(NamedTuple):
    """Robust summary of a sample."""

    median: float
    lower: float
    """First quartile."""
    upper: float
    """Third quartile."""
    minimum: float


def spread(samples: Sequence[float]) -> Spread:
    """Summarise a sample; quartiles are interpolated linearly, as in `numpy.percentile`.

    Raises:
        ValueError: there are fewer than two samples.
    """
    if len(samples) < 2:
        raise ValueError(f"a spread needs at least 2 samples, got {len(samples)}")
    lower, median, upper = statistics.quantiles(samples, n=4, method="inclusive")
    return Spread(median, lower, upper, min(samples))


class Samples(NamedTuple):
    """What one contender took in each round, in seconds."""

    wall: tuple[float, ...]
    """Time that passed."""
    cpu: tuple[float, ...]
    """Processor time of this process, all threads together."""


@dataclass(frozen=True)
class Measurement:
    """Times of all contenders of one run."""

    samples: Mapping[str, Samples]
    """By contender."""
    matmul: Samples
    """Products of two float32 matrices of `MATMUL_SIZE`, taken in every round."""
    idle: float | None
    """Share of the machine that was idle before the run, None if unknown."""

    def times(self, name: str, clock: Clock = "cpu") -> Spread:
        """Summarise the times of a contender, in seconds."""
        return spread(getattr(self.samples[name], clock))

    def ratio(self, name: str, baseline: str, clock: Clock = "cpu") -> Spread:
        """Summarise the ratio of two contenders, formed round by round.

        What slows down a whole round, another process say, cancels.
        """
        pairs = zip(getattr(self.samples[name], clock), getattr(self.samples[baseline], clock), strict=True)
        return spread([time / reference for time, reference in pairs])

    def matmul_gflops(self, clock: Clock = "wall") -> float:
        """Float32 rate of the machine in this run: median of the matrix products, GFLOP/s."""
        return 2e-9 * MATMUL_SIZE**3 / spread(getattr(self.matmul, clock)).median


def measure(
    contenders: Mapping[str, Callable[[], object]],
    rounds: int = 50,
    warmup: int = 5,
    idle_timeout: float = 0.0,
    device: torch.device | None = None,
) -> Measurement:
    """Time contenders against each other.

    Every round runs each contender once, beginning with another one each time, so that a drift of the
    machine, and what one leaves in the caches for the next, falls on all alike.

    Args:
        contenders: functions by name; each call is one unit of work, such as a training step.
        rounds: calls of each contender that are timed.
        warmup: calls of each before.
        idle_timeout: seconds to wait for other processes to come to rest.
        device: an accelerator that every timed call must wait for.

    Raises:
        ValueError: there is no contender, or fewer than two rounds.
    """
    if not contenders or rounds < 2 or warmup < 0:
        raise ValueError(
            "`measure` needs at least one contender, 2 rounds and no negative warm-up, "
            f"got {len(contenders)} contenders, `rounds={rounds}` and `warmup={warmup}`"
        )
    matrix = torch.rand(MATMUL_SIZE, MATMUL_SIZE)
    calls: dict[str, Callable[[], object]] = {"": lambda: matrix @ matrix, **contenders}
    for _ in range(warmup):
        for call in calls.values():
            call()
    idle = wait_until_idle(idle_timeout)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    names = list(calls)
    for i in range(rounds):
        first = i % len(names)
        for name in names[first:] + names[:first]:
            times[name].append(_time(calls[name], device))
    samples = {name: Samples(*zip(*pairs, strict=True)) for name, pairs in times.items()}
    matmul = samples.pop("")
    return Measurement(samples, matmul, idle)


def _time(call: Callable[[], object], device: torch.device | None) -> tuple[float, float]:
    """Wall and processor time of one call, in seconds."""
    _synchronize(device)
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    _synchronize(device)
    return time.perf_counter() - wall, time.process_time() - cpu


def _synchronize(device: torch.device | None) -> None:
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
