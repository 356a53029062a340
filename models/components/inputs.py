"""What all models refuse: images and videos of another shape or type than they were built for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def require_pixels(
    name: str, pixels: Tensor, leading: str, image_shape: Sequence[int], allow_bytes: bool = False
) -> None:
    """Refuse pixels that a model cannot mean; values are checked where data are loaded.

    Args:
        name: of the argument, for the message.
        pixels: floating point in [0, 1], with an axis for each letter of `leading`, none of them empty,
            before those of an image.
        leading: names of the leading axes, one letter each: `"B"` for images, `"BT"` for videos.
        image_shape: the expected channels, height and width.
        allow_bytes: whether uint8 will do too.

    Raises:
        ValueError: says what was expected and what came.
    """
    cut = len(leading)
    if pixels.dim() != cut + 3 or tuple(pixels.shape[cut:]) != tuple(image_shape) or not pixels.numel():
        expected = ", ".join([*leading, *map(str, image_shape)])
        raise ValueError(f"`{name}` must have shape ({expected}), but got {tuple(pixels.shape)}.")
    if not pixels.is_floating_point() and not (allow_bytes and pixels.dtype == torch.uint8):
        raise ValueError(f"`{name}` must be floating point in [0, 1], but got {pixels.dtype}.")
