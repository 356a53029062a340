"""Training steps on a GPU that are recorded once and replayed: CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
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
"""Of the loss and of each gradient: kernels that add in any order differ by less, another step by more."""
_TINY = 1e-30
_LEAST = 1e-3
"""Share of the norm of all gradients that is added to that of each, which may be nothing but rounding."""


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
        parameters: those whose gradients are wanted, all on the device of the objective.
    """

    def __init__(self, objective: nn.Module, parameters: Sequence[Tensor]) -> None:
        self.objective = objective
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self._shapes: list[Any] = []
        self._taken = 0
        self._inputs: list[Tensor | None] = []
        self._recording: Recording | None = None
        self._stream: torch.cuda.Stream | None = None

    def __call__(self, seed: Callable[[], None], *arguments: Any) -> tuple[Tensor, Any]:
        """Loss and diagnostics of a step; gradients are in `grad` of the parameters, which are none before.

        Args:
            seed: gives the generators the seed of this step once more.
            *arguments: of the objective, tensors or None.

        Raises:
            CaptureError: if the step reads from the device, replaces a buffer, or its recording differs.
        """
        if not all(x is None or isinstance(x, Tensor) for x in arguments):
            kinds = ", ".join(type(x).__name__ for x in arguments)
            raise CaptureError(self._advice(f"its arguments must be tensors or None, got {kinds}"))
        shapes = [None if x is None else (x.shape, x.dtype) for x in arguments]
        if shapes != self._shapes:
            self._shapes, self._taken, self._recording, self._inputs = shapes, 0, None, []
        self._taken += 1
        with self._on_device():
            return self._take(seed, arguments)

    def _take(self, seed: Callable[[], None], arguments: Sequence[Tensor | None]) -> tuple[Tensor, Any]:
        if self._taken <= _WARMUP:
            with self._beside():
                return self._step(arguments)
        if self._recording is None:
            self._inputs = [None if x is None else x.clone() for x in arguments]
        else:
            for kept, given in zip(self._inputs, arguments, strict=True):
                if kept is not None and given is not None:
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

    def _step(self, arguments: Sequence[Tensor | None]) -> tuple[Tensor, Any]:
        loss, diagnostics = self.objective(*arguments)
        loss.backward(inputs=self.parameters)
        if isinstance(diagnostics, tuple):  # the trainer says what else is wrong with it
            diagnostics = type(diagnostics)(*(value.detach() for value in diagnostics))
        return loss.detach(), diagnostics

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
                first: BaseException = error
                while first.__context__ is not None:  # what follows says only that there was one
                    first = first.__context__
                raise CaptureError(self._advice(f"{first}".splitlines()[0])) from error
            restore()
        seed()
        self._recording.replay()
        found = self._recording.gradients
        self._forget()
        restore()
        if [g is None for g in found] != [g is None for g in expected]:
            raise CaptureError(self._advice("its recording has gradients of other parameters"))
        pairs = [(a, b) for a, b in zip(found, expected, strict=True) if a is not None and b is not None]
        norms = torch.stack([b.double().norm() for _, b in pairs])
        off = torch.stack([(a.double() - b.double()).norm() for a, b in pairs])
        share = (off / (norms + _LEAST * norms.norm()).clamp(min=_TINY)).amax()
        of_loss = (self._recording.loss - loss).abs() / loss.abs().clamp(min=_TINY)
        share = share.maximum(of_loss.double())
        finite = bool(norms.isfinite().all() & loss.isfinite())  # steps that are not are skipped anyway
        if finite and not share <= _TOLERANCE:
            raise CaptureError(
                self._advice(
                    f"loss and gradients of its recording differ from its own by a share of {share:.2g}"
                )
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
        # The outer context goes back to the current stream even if what is recorded fails.
        with torch.cuda.stream(torch.cuda.current_stream()), torch.cuda.graph(graph, stream=self._stream):
            loss, diagnostics = self._step(self._inputs)
        return Recording(graph.replay, loss, diagnostics, self._gradients())

    def _on_device(self) -> AbstractContextManager[Any]:
        """Streams and recordings are of the current device."""
        return torch.cuda.device(self.parameters[0].device)

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
