"""Training steps on a GPU that are recorded once and replayed: CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ...checks import UserError

__all__ = ["CapturedStep", "CaptureError"]

_WARMUP = 3
"""Steps that are taken as they are before one is recorded: libraries prepare themselves in them."""
_EVERY = 1000
"""Steps between two comparisons of a recording with the step itself."""
_TOLERANCE = 1e-2
"""Of the gradients' norm: kernels that add in any order differ by much less, another step by much more."""


class CaptureError(UserError, RuntimeError):
    """A step cannot be recorded, or its recording does something else."""


class Recording(NamedTuple):
    """What a replay leaves behind, always in the same tensors."""

    replay: Callable[[], None]
    """Does once more what was recorded."""
    loss: Tensor
    """A scalar."""
    diagnostics: Any
    """A NamedTuple of scalars."""
    gradients: list[Tensor | None]
    """Of the parameters."""


class CapturedStep:
    """Loss and gradients of an objective, whose kernels are recorded and replayed.

    A step of a model of many statements is thousands of small kernels: a GPU has finished each long before
    the host has named the next. A recording is started by the host at once. After `_WARMUP` steps with
    arguments of the same shapes the step is recorded, and replayed as long as these shapes come.

    A replay reads and writes the memory of the recorded step. Parameters and buffers that are changed in
    place take part with what they are now, and random numbers are those of the generator's seed. What a step
    decides or changes in Python stays as it was: so each recording is compared with the step itself, from the
    same random numbers, when it is made and every 1,000 steps.

    Args:
        objective: `forward(*args)` returns a loss and a NamedTuple of scalars, see `Trainer`.
        parameters: those whose gradients are wanted.
    """

    def __init__(self, objective: nn.Module, parameters: Sequence[Tensor]) -> None:
        self.objective = objective
        self.parameters = list(parameters)
        self._shapes: list[Any] = []
        self._taken = 0
        self._inputs: list[Any] = []
        self._recording: Recording | None = None
        self._stream: torch.cuda.Stream | None = None

    def __call__(self, seed: Callable[[], None], *arguments: Any) -> tuple[Tensor, Any]:
        """Loss and diagnostics of a step; gradients are in `grad` of the parameters, which are none before.

        Args:
            seed: gives the generators the seed of this step once more.
            *arguments: of the objective, tensors or what is the same in every step.

        Raises:
            CaptureError: if the step reads from the device, replaces a buffer, or its recording differs.
        """
        shapes = [(x.shape, x.dtype) if isinstance(x, Tensor) else x for x in arguments]
        if shapes != self._shapes:
            self._shapes, self._taken, self._recording, self._inputs = shapes, 0, None, []
        self._taken += 1
        if self._taken <= _WARMUP:
            with self._beside():
                return self._step(arguments)
        if self._recording is None:
            self._inputs = [x.clone() if isinstance(x, Tensor) else x for x in arguments]
        for kept, given in zip(self._inputs, arguments, strict=True):
            if isinstance(kept, Tensor):
                kept.copy_(given)
        if self._recording is None or self._taken % _EVERY == 0:
            self._compare(seed)
            seed()
        assert self._recording is not None
        self._recording.replay()
        for parameter, gradient in zip(self.parameters, self._recording.gradients, strict=True):
            parameter.grad = gradient
        loss, diagnostics = self._recording.loss, self._recording.diagnostics
        return loss.clone(), type(diagnostics)(*(value.clone() for value in diagnostics))

    def _step(self, arguments: Sequence[Any]) -> tuple[Tensor, Any]:
        loss, diagnostics = self.objective(*arguments)
        loss.backward()
        return loss.detach(), type(diagnostics)(*(value.detach() for value in diagnostics))

    def _compare(self, seed: Callable[[], None]) -> None:
        """Take the step as it is, record it if that is not done, and replay it; buffers stay as they are."""
        buffers = dict(self.objective.named_buffers())
        before = {name: buffer.clone() for name, buffer in buffers.items()}

        def restore() -> None:
            for name, buffer in self.objective.named_buffers():
                if buffer is not buffers.get(name):
                    raise CaptureError(
                        self._advice(f"it puts another tensor in the place of buffer `{name}`")
                    )
                buffer.copy_(before[name])

        seed()
        with self._beside():
            loss, _ = self._step(self._inputs)
            expected = self._gradients()
        restore()
        if self._recording is None:
            try:
                self._recording = self._record()
            except RuntimeError as error:
                raise CaptureError(self._advice(f"{error}".splitlines()[0])) from error
            restore()
        seed()
        self._recording.replay()
        found = self._recording.gradients
        self._forget()
        restore()
        if [g is None for g in found] != [g is None for g in expected]:
            raise CaptureError(self._advice("its recording has gradients of other parameters"))
        pairs = [(a, b) for a, b in zip(found, expected, strict=True) if a is not None and b is not None]
        pairs.append((self._recording.loss, loss))
        scale = torch.stack([b.double().norm() for _, b in pairs]).norm()
        off = torch.stack([(a.double() - b.double()).norm() for a, b in pairs]).norm()
        if off > _TOLERANCE * scale:  # not where one is not finite: such steps are skipped, as others are
            raise CaptureError(
                self._advice(f"loss and gradients of its recording differ by {off / scale:.2g} of their norm")
            )

    def _gradients(self) -> list[Tensor | None]:
        """Take the gradients out of the parameters."""
        gradients = [parameter.grad for parameter in self.parameters]
        self._forget()
        return gradients

    def _forget(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def _record(self) -> Recording:
        """Record a step with the arguments that are kept; nothing is computed."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream):
            loss, diagnostics = self._step(self._inputs)
        return Recording(graph.replay, loss, diagnostics, self._gradients())

    @contextmanager
    def _beside(self) -> Iterator[None]:
        """On a stream beside the current one, as recordings are, which waits for it and is waited for."""
        self._stream = self._stream or torch.cuda.Stream()
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            yield
        current.wait_stream(self._stream)

    @staticmethod
    def _advice(reason: str) -> str:
        return f"the training step cannot be recorded: {reason}; train without `capture`"
