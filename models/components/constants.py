"""Numbers of the code beside tensors of any device."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_MADE: dict[tuple[tuple[float, ...], torch.dtype, torch.device], Tensor] = {}


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
    if type(like) not in (Tensor, nn.Parameter):  # it stands for another, as when a program is traced
        return like.new_tensor(values)
    key = values, like.dtype, like.device
    if key not in _MADE:
        with torch.inference_mode(False):  # or autograd could not use it later
            _MADE[key] = torch.tensor(values, dtype=like.dtype, device=like.device)
    return _MADE[key]
