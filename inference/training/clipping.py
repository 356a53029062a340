"""Clipping gradients relative to how large they have been."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ... import checks
from .nonfinite import clip_gradients

__all__ = ["RunningClip"]


class RunningClip:
    r"""Scales gradients down whose norm exceeds a multiple of the running mean of norms.

    With norms $n_1, n_2, \dots$ of the gradients of all parameters together,

    $$ \ell_s = c \, m_{s-1}, \quad m_s = d \, m_{s-1} + (1 - d) \min(n_s, \ell_s), \quad m_1 = n_1, $$

    step s has the gradient times $\min(1, \ell_s / n_s)$; the first one is left alone. A norm that is fixed
    has to be found anew for each objective, and is too large or too small where losses change during
    training; this one follows them, while single steps that are much larger than those before have a bounded
    influence on the parameters and on the mean. Steps that are not finite leave the mean as it is. The mean
    stays on the device; nothing is read back.

    Args:
        factor: c, greater than 1.
        device: where the gradients are.
        decay: d in (0, 1).

    Raises:
        ValueError: if a number is out of its range.
    """

    def __init__(self, factor: float, device: torch.device, decay: float = 0.98) -> None:
        checks.within("(1, inf)", factor=factor)
        checks.within("(0, 1)", decay=decay)
        self.factor, self.decay = factor, decay
        self._mean = torch.zeros((), dtype=torch.float64, device=device)  # zero before the first step

    def __call__(self, grads: Sequence[Tensor], norm: Tensor, nonfinite: Tensor) -> None:
        """Scale the gradients of one step in place.

        Args:
            grads: the gradients.
            norm: their joint norm, a scalar.
            nonfinite: scalar, not 0 where this step is skipped.
        """
        current = norm.detach().to(self._mean.dtype)
        limit = torch.where(self._mean > 0, self.factor * self._mean, torch.inf)
        new = torch.minimum(current, limit)
        mean = torch.where(self._mean > 0, self.decay * self._mean + (1 - self.decay) * new, new)
        self._mean = torch.where(nonfinite != 0, self._mean, mean)
        clip_gradients(grads, norm, limit.to(norm.dtype))

    def state(self) -> Tensor:
        """Return the running mean, for a checkpoint."""
        return self._mean.clone()

    def load(self, state: Tensor) -> None:
        """Continue from the running mean of a checkpoint."""
        self._mean = state.to(self._mean.device).clone()
