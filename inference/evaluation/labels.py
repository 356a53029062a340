"""Labels that can be relied on: each function returns them checked, on the CPU.

What is not there is marked by a mask, never by NaN. A label that cannot be true is refused: silently it
would count as an object that nobody finds.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..training.nonfinite import NonFiniteError

__all__ = [
    "LARGEST_COUNT",
    "check_filled",
    "check_shape",
    "checked_boxes",
    "checked_counts",
    "checked_identities",
    "checked_mask",
    "settled",
]

LARGEST_COUNT = 1000
"""Most objects of an image: a table of counts has as many rows and columns."""


def check_filled(name: str, value: Tensor, form: str) -> None:
    """Refuse data that are nothing, or not of a form such as `(B, T, C, H, W)`, of which B and T count."""
    if value.dim() < 2 or not value.numel():
        raise ValueError(f"`{name}` must have shape {form}, at least 1 each, but got {tuple(value.shape)}.")


def check_shape(name: str, value: Tensor | None, *shape: int) -> None:
    """Refuse a label of another shape than that of what it belongs to; None is no label."""
    if value is not None and value.shape != shape:
        raise ValueError(f"`{name}` must have shape {shape}, but got {tuple(value.shape)}.")


def checked_mask(name: str, mask: Tensor) -> Tensor:
    """A mask as booleans.

    Raises:
        ValueError: if it is neither boolean nor of 0 and 1.
    """
    values = mask.detach().cpu().double()
    here = values == 1
    if not (here | (values == 0)).all():
        raise ValueError(f"`{name}` must be boolean or of 0 and 1, but has other values.")
    return here


def checked_boxes(name: str, boxes: Tensor, present: Tensor) -> Tensor:
    """Boxes `(..., 4)` in double precision, those of slots without an object as 0.

    Args:
        name: of the boxes.
        boxes: `(left, top, width, height)` in pixels.
        present: which slots hold an object, `(...)`, boolean.

    Raises:
        ValueError: if the box of an object is not finite, or its size negative.
    """
    values = boxes.detach().cpu().double()
    wrong = present.cpu() & ~(values.isfinite().all(-1) & (values[..., 2:] >= 0).all(-1))
    if wrong.any():
        place = tuple(wrong.nonzero()[0].tolist())
        raise ValueError(
            f"`{name}` must be finite and of no negative width or height where an object is, "
            f"but number {', '.join(map(str, place))} is {values[place].tolist()}."
        )
    return torch.where(present.cpu().unsqueeze(-1), values, 0.0)


def checked_counts(name: str, counts: Tensor) -> Tensor:
    """Numbers of objects as int64.

    Raises:
        ValueError: if they are not integers from 0 to `LARGEST_COUNT`, of whatever type.
    """
    values = counts.detach().cpu()
    if values.is_complex():
        raise ValueError(f"`{name}` must hold integers from 0 to {LARGEST_COUNT}, but are {values.dtype}.")
    integers = values.long()
    if (
        (values.is_floating_point() and (integers != values).any())
        or (integers < 0).any()
        or (integers > LARGEST_COUNT).any()
    ):
        raise ValueError(
            f"`{name}` must hold integers from 0 to {LARGEST_COUNT}, "
            f"but got {values.flatten()[:10].tolist()}."
        )
    return integers


def checked_identities(name: str, identities: Tensor) -> Tensor:
    """Numbers that tell objects apart, as int64.

    Raises:
        ValueError: if they are of another type than integers, or too large.
    """
    values = identities.detach().cpu()
    if values.is_floating_point() or values.is_complex() or values.dtype == torch.bool:
        raise ValueError(f"`{name}` must be integers, but are {values.dtype}.")
    integers = values.long()
    if values.dtype == torch.uint64 and (integers < 0).any():
        raise ValueError(f"`{name}` must be less than 2**63, but some are not.")
    return integers


def settled(name: str, values: Tensor) -> Tensor:
    """Log-weights or their means, which may be minus infinity, a probability of 0.

    Raises:
        NonFiniteError: if some are NaN or infinite.
    """
    wrong = values.isnan() | (values == torch.inf)
    if wrong.any():
        raise NonFiniteError(
            f"{int(wrong.sum())} of {values.numel()} values of `{name}` are NaN or infinite: model or guide "
            "have diverged, or the data are not finite"
        )
    return values
