"""Numbers of the code beside tensors of any device."""

from __future__ import annotations

import functools

import torch
from torch import Tensor


def constant(values: tuple[float, ...], like: Tensor) -> Tensor:
    """A few numbers as a vector, with type and device of another tensor.

    It is made once for each device and type: a copy of the host's numbers to a GPU makes the host wait until
    the GPU has done all before it: `like.new_tensor(values)` in a training step costs as much as a read.
    Never change it in place.

    Args:
        values: numbers that do not change from step to step, such as the size of the images.
        like: any tensor.

    Returns:
        `(len(values),)`.
    """
    return _made(values, like.dtype, like.device)


@functools.lru_cache(maxsize=1024)
def _made(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """The vector; usable by autograd later, wherever it was made."""
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device)
