"""Gradient norms, clipping, and optimiser steps that a non-finite loss or gradient cannot spoil."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from ...checks import UserError

__all__ = [
    "NonFiniteError",
    "StepGuard",
    "clip_gradients",
    "gradient_norm",
    "gradients",
    "nonfinite_entries",
    "nonfinite_gradients",
    "nonfinite_state",
]


class NonFiniteError(UserError, RuntimeError):
    """Training cannot go on, because losses, gradients or parameters are not finite."""


def gradients(parameters: Iterable[Tensor]) -> list[Tensor]:
    """Return the gradients of those parameters that have one."""
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def gradient_norm(grads: Sequence[Tensor]) -> Tensor:
    """Return the Euclidean norm of all gradients together, a scalar tensor; not finite if any element is not.

    Args:
        grads: at least one tensor.
    """
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(grads))))


def clip_gradients(grads: Sequence[Tensor], norm: Tensor, limit: float | Tensor) -> None:
    """Scale gradients in place so that their joint norm is at most `limit`, without reading the norm back.

    Args:
        grads: the gradients.
        norm: their joint norm.
        limit: the largest norm allowed.
    """
    torch._foreach_mul_(list(grads), torch.clamp(limit / (norm + 1e-6), max=1.0))


def nonfinite_gradients(module: nn.Module) -> list[str]:
    """Name the parameters whose gradients are not finite; reads from the device."""
    named = {name: parameter.grad for name, parameter in module.named_parameters()}
    present = {name: gradient for name, gradient in named.items() if gradient is not None}
    return nonfinite_entries(present, present)


def nonfinite_state(module: nn.Module) -> list[str]:
    """Name the parameters that are not finite and the stored buffers that are NaN; reads from the device."""
    tensors = {name: value for name, value in module.state_dict().items() if isinstance(value, Tensor)}
    return nonfinite_entries(tensors, {name for name, _ in module.named_parameters()})


def nonfinite_entries(tensors: Mapping[str, Tensor], parameters: Collection[str]) -> list[str]:
    """Name the tensors that are not finite; reads from the device.

    Args:
        tensors: by name, a module's parameters and buffers.
        parameters: which of them are parameters. The others may be infinite, as the logit of what is certain.
    """
    present = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
    if not present:
        return []
    # A sum is finite only if all its terms are: one read in the usual case. Sums can overflow, so look again.
    sums = torch.stack([tensor.sum().float() for tensor in present.values()])
    if bool(torch.isfinite(sums).all()):
        return []
    return [
        name
        for name, tensor in present.items()
        if bool((~torch.isfinite(tensor) if name in parameters else torch.isnan(tensor)).any())
    ]


class StepGuard:
    """Takes optimiser steps, skips those of non-finite gradients, and counts.

    On the CPU the flag is read and the step left out. On other devices a read would wait for all work queued:
    there fused Adam and AdamW and `RMSPropTF` take the flag as a tensor and leave parameters and state
    unchanged themselves (the mechanism of `torch.amp.GradScaler`); any other optimiser costs one read a step.

    Args:
        optimizer: the optimiser.
        device: where its parameters are.
        on_device: whether the optimiser gets the flag as a tensor; decided by device and optimiser where
            None.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, device: torch.device, on_device: bool | None = None
    ) -> None:
        self._optimizer = optimizer
        self.on_device = (
            device.type != "cpu" and _takes_found_inf(optimizer) if on_device is None else on_device
        )
        # In a row until now, most in a row since the last read, in all.
        self._counts = torch.zeros(3, dtype=torch.int64, device=device)

    def step(self, nonfinite: Tensor) -> None:
        """Take a step of the optimiser, unless a flag forbids it.

        Args:
            nonfinite: scalar float32 tensor on the device, 1 where the loss or the gradients are not finite,
                else 0.
        """
        skipped = nonfinite.to(self._counts.dtype)
        row, longest, total = self._counts.unbind()
        row = (row + skipped) * skipped
        self._counts = torch.stack([row, torch.maximum(longest, row), total + skipped])
        if not self.on_device:
            if not bool(nonfinite):
                self._optimizer.step()
            return
        self._optimizer.grad_scale = None  # type: ignore[attr-defined]
        self._optimizer.found_inf = nonfinite  # type: ignore[attr-defined]
        try:
            self._optimizer.step()
        finally:
            del self._optimizer.grad_scale  # type: ignore[attr-defined]
            del self._optimizer.found_inf  # type: ignore[attr-defined]

    def read(self) -> tuple[int, int]:
        """Return the most steps skipped in a row since the last call, and all; reads from the device."""
        row, longest, total = self._counts.tolist()
        self._counts[1] = row
        return longest, total

    def state(self) -> Tensor:
        """Return the counters, for a checkpoint."""
        return self._counts.clone()

    def load(self, state: Tensor) -> None:
        """Continue from counters of a checkpoint."""
        self._counts = state.to(self._counts.device).clone()


def _takes_found_inf(optimizer: torch.optim.Optimizer) -> bool:
    if getattr(optimizer, "supports_found_inf", False):
        return True
    # Fused SGD is left out: a skipped first step leaves its momentum uninitialised.
    fused = all(group.get("fused") for group in optimizer.param_groups)
    return fused and isinstance(optimizer, torch.optim.Adam | torch.optim.AdamW)
