"""Functions of the training step: learning-rate factors, annealed scalars and the length of sequences.

A schedule is any callable from the step (0 for the first) to a number. It keeps no state, so a resumed run
continues it without further ado. The trainer multiplies the learning rate of every parameter group by one;
`Annealed` drives any other scalar by one.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ... import checks

__all__ = [
    "Annealed",
    "Constant",
    "Cosine",
    "Curriculum",
    "ExponentialDecay",
    "Linear",
    "PiecewiseConstant",
    "Schedule",
    "TriggeredCurriculum",
    "Warmup",
]

Schedule = Callable[[int], float]


@dataclass(frozen=True)
class Constant:
    """The same value at every step."""

    value: float = 1.0
    """The value."""

    def __post_init__(self) -> None:
        checks.finite(self, "value")

    def __call__(self, step: int) -> float:
        """Return the value at a step."""
        return self.value


@dataclass(frozen=True)
class Linear:
    """A straight line from `start` to `end`, constant before and after it.

    Of a logarithm it is a geometric decay, as in AIR's annealed prior of the number of objects.
    """

    start: float
    """Value up to step `begin`."""
    end: float
    """Value from step `begin + steps` on."""
    begin: int = 0
    """Step at which the line begins."""
    steps: int = 1
    """Steps from `start` to `end`."""

    def __post_init__(self) -> None:
        checks.positive(self, "steps")
        checks.finite(self, "start", "end", "begin")

    def __call__(self, step: int) -> float:
        """Return the value at a step."""
        progress = min(max(step - self.begin, 0) / self.steps, 1.0)
        return self.start + (self.end - self.start) * progress


@dataclass(frozen=True)
class Cosine:
    """Half a period of a cosine: `end + (start - end) * (1 + cos(pi * step / steps)) / 2`, then `end`."""

    steps: int
    """Steps until `end` is reached."""
    start: float = 1.0
    """Value at step 0."""
    end: float = 0.0
    """Value from `steps` on."""

    def __post_init__(self) -> None:
        checks.positive(self, "steps")
        checks.finite(self, "start", "end")

    def __call__(self, step: int) -> float:
        """Return the value at a step."""
        fraction = min(step / self.steps, 1.0)
        return self.end + (self.start - self.end) * (1.0 + math.cos(math.pi * fraction)) / 2.0


@dataclass(frozen=True)
class ExponentialDecay:
    """Geometric interpolation towards an end: `end + (start - end) * rate ** (step / every)`."""

    rate: float
    """Factor by which the distance to `end` shrinks in `every` steps; in (0, 1]."""
    every: int = 1
    """Steps in which it shrinks by `rate`; the decay is smooth, not in stairs."""
    start: float = 1.0
    """Value at step 0."""
    end: float = 0.0
    """Value approached."""

    def __post_init__(self) -> None:
        checks.within("(0, 1]", self, "rate")
        checks.positive(self, "every")
        checks.finite(self, "start", "end")

    def __call__(self, step: int) -> float:
        """Return the value at a step."""
        return self.end + (self.start - self.end) * self.rate ** (step / self.every)


@dataclass(frozen=True)
class PiecewiseConstant:
    """Constant between boundaries: `values[i]` from `boundaries[i - 1]` on, until before `boundaries[i]`."""

    boundaries: tuple[int, ...]
    """Steps at which the value changes, in order. They may be equal in a run of few steps."""
    values: tuple[float, ...]
    """One value more than boundaries."""

    def __post_init__(self) -> None:
        if len(self.values) != len(self.boundaries) + 1:
            raise ValueError(
                f"`values` must be one more than `boundaries`, "
                f"got {len(self.values)} and {len(self.boundaries)}"
            )
        checks.finite(self, "boundaries", "values")
        if any(later < earlier for earlier, later in itertools.pairwise(self.boundaries)):
            raise ValueError(f"`boundaries` must not decrease, got {self.boundaries}")

    @classmethod
    def in_proportion(cls, steps: int, parts: Sequence[int], factor: float) -> PiecewiseConstant:
        """Split a run into parts of given proportions and multiply the value by `factor` from part to part.

        SQAIR (Kosiorek et al., 2018; released code) trains with `parts = (4, 6, 10)` and `factor = 1/3`: of
        two million steps, 400 000 at the base rate, up to a million at a third of it, the rest at a ninth.

        Args:
            steps: length of the run.
            parts: proportions of the parts.
            factor: ratio of the value in one part to that in the part before.
        """
        checks.positive(steps=steps, parts=tuple(parts), factor=factor)
        ends = list(itertools.accumulate(parts))
        boundaries = tuple(round(steps * end / ends[-1]) for end in ends[:-1])
        return cls(boundaries, tuple(factor**i for i in range(len(parts))))

    def __call__(self, step: int) -> float:
        """Return the value at a step."""
        return self.values[bisect_right(self.boundaries, step)]


@dataclass(frozen=True)
class Warmup:
    """A schedule multiplied by a linear rise: `(step + 1) / steps` for the first `steps` steps, then 1."""

    steps: int
    """Steps of the rise; the first one has the factor `1 / steps`, not 0."""
    schedule: Schedule = Constant()
    """The schedule that is multiplied; it sees the same step."""

    def __post_init__(self) -> None:
        checks.positive(self, "steps")

    def __call__(self, step: int) -> float:
        """Return the value at a step."""
        return min((step + 1) / self.steps, 1.0) * self.schedule(step)


@dataclass(frozen=True)
class Curriculum:
    """The number of frames to train on: `min(start + step // every, maximum)`.

    SQAIR trains on the first L frames, L from 3 to 10, one more every 100 000 steps; without it training
    fails (released code; its authors' note).
    """

    start: int = 3
    """Frames at step 0."""
    every: int = 100_000
    """Steps between two lengthenings."""
    maximum: int = 10
    """Frames at the end."""

    def __post_init__(self) -> None:
        checks.positive(self, "start", "every")
        checks.ordered(self, "start", "maximum")

    def __call__(self, step: int) -> int:
        """Return the length at a step."""
        return min(self.start + step // self.every, self.maximum)


class TriggeredCurriculum(nn.Module):
    """A number of frames that grows by one when the tracker is good enough, as HART's.

    It keeps state, in buffers: give it to the trainer's `modules`, so that a resumed run goes on with it.

    HART goes from 5 to 30 frames, one more once the mean overlap on training videos, measured now and then,
    is at least 0.70 at first and 0.65 at last, but not before 13 epochs at a length (released code; the paper
    tells of the 13 epochs only).

    Args:
        start: frames at first.
        maximum: frames at the end.
        patience: steps between two lengthenings, at least.
        thresholds: qualities that are enough at `start`, and at `maximum`; in between, linearly.
    """

    def __init__(
        self,
        start: int = 5,
        maximum: int = 30,
        patience: int = 500,
        thresholds: tuple[float, float] = (0.70, 0.65),
    ) -> None:
        super().__init__()
        checks.positive(start=start, patience=patience)
        checks.ordered(start=start, maximum=maximum)
        checks.finite(thresholds=thresholds)
        self.start, self.maximum, self.patience, self.thresholds = start, maximum, patience, thresholds
        self.register_buffer("_state", torch.tensor([start, 0]))

    _state: Tensor

    @property
    def length(self) -> int:
        """Frames at present."""
        return int(self._state[0])

    @property
    def threshold(self) -> float:
        """Quality that is enough at present."""
        first, last = self.thresholds
        return first + (last - first) * (self.length - self.start) / max(1, self.maximum - self.start)

    def forward(self, step: int) -> int:
        """Return the length, the same at all steps between two calls of `update`."""
        return self.length

    def update(self, step: int, quality: float) -> bool:
        """Lengthen, if it is time and the quality is enough.

        Args:
            step: steps taken.
            quality: mean overlap on training videos of the present length.

        Returns:
            whether it has.
        """
        length, since = self._state.tolist()
        grows = length < self.maximum and step - since >= self.patience and quality >= self.threshold
        if grows:
            self._state.copy_(torch.tensor([length + 1, step]))
        return grows


class Annealed:
    """Write the value of a schedule into a tensor before each step, for example a prior's probability.

    Pass it to the trainer's `on_step`. The tensor is filled in place on its device, which reads nothing back;
    give a *buffer* of the model, so that its value is in the checkpoint and evaluation sees the one training
    had reached.

    Args:
        tensor: a scalar, or a tensor all of whose elements take the value.
        schedule: the value as a function of the step.
    """

    def __init__(self, tensor: Tensor, schedule: Schedule) -> None:
        if tensor.requires_grad:
            raise ValueError("`tensor` must not be a parameter: training would change it too")
        self.tensor = tensor
        self.schedule = schedule

    def __call__(self, step: int) -> None:
        """Write the value of a step into the tensor."""
        with torch.no_grad():
            self.tensor.fill_(self.schedule(step))
