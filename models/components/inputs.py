"""What all models refuse: images, videos and boxes of another shape or type than they were built for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .attention import Size
from .constants import constant


def require_pixels(
    name: str,
    pixels: Tensor,
    leading: str,
    image_shape: Sequence[int],
    allow_bytes: bool = False,
    dtype: torch.dtype | None = None,
) -> None:
    """Refuse pixels that a model cannot mean; values are checked where data are loaded.

    Args:
        name: of the argument, for the message.
        pixels: floating point in [0, 1], with an axis for each letter of `leading`, none of them empty,
            before those of an image.
        leading: names of the leading axes, one letter each: `"B"` for images, `"BT"` for videos.
        image_shape: the expected channels, height and width.
        allow_bytes: whether uint8 will do too.
        dtype: the expected one, that of the model's parameters, outside `torch.autocast`.

    Raises:
        ValueError: says what was expected and what came.
        TypeError: if the pixels are no tensor.
    """
    if not isinstance(pixels, Tensor):
        raise TypeError(f"`{name}` must be a PyTorch tensor, but got {type(pixels).__name__}.")
    cut = len(leading)
    if pixels.dim() != cut + 3 or tuple(pixels.shape[cut:]) != tuple(image_shape) or not pixels.numel():
        expected = ", ".join([*leading, *map(str, image_shape)])
        raise ValueError(f"`{name}` must have shape ({expected}), but got {tuple(pixels.shape)}.")
    if not pixels.is_floating_point() and not (allow_bytes and pixels.dtype == torch.uint8):
        raise ValueError(f"`{name}` must be floating point in [0, 1], but got {pixels.dtype}.")
    if dtype not in (None, pixels.dtype) and not torch.is_autocast_enabled(pixels.device.type):
        raise ValueError(f"`{name}` must be {dtype}, as the model's parameters are, but got {pixels.dtype}.")


def require_size(name: str, value: Tensor, size: int) -> None:
    """Refuse a latent variable of another size than the model has: one that a guide for another model drew.

    Args:
        name: of its statement.
        value: `(..., D)`.
        size: D.

    Raises:
        ValueError: says what was expected and what came.
    """
    if value.shape[-1] != size:
        raise ValueError(
            f"`{name}` must have {size} components, as in the model, but got {value.shape[-1]}: "
            "model and guide are of different sizes."
        )


def require_first_boxes(boxes: Tensor, batch_size: int, size: Size, check_values: bool = True) -> None:
    """Refuse first boxes that nothing could be tracked from.

    Args:
        boxes: `(B, 4)`, `(left, top, width, height)` in pixels.
        batch_size: B.
        size: height and width of the frame.
        check_values: look at the numbers too, and not at the shape alone.

    Raises:
        ValueError: if the shape is another, or a box is not finite, has no area, or lies outside the frame; a
            part of it may.
    """
    if boxes.shape != (batch_size, 4):
        raise ValueError(f"`first_box` must have shape ({batch_size}, 4), but got {tuple(boxes.shape)}.")
    if not check_values:
        return
    start, extent = boxes.split(2, dim=-1)
    frame = constant((size[1], size[0]), boxes)
    for wrong, expected in (
        (~boxes.isfinite(), "finite"),
        (extent <= 0, "of positive width and height"),
        (
            (start >= frame) | (start + extent <= 0),
            f"at least in part inside frames of {size[0]} x {size[1]}",
        ),
    ):
        if (rows := wrong.any(dim=-1)).any():
            i = int(rows.nonzero()[0])
            raise ValueError(
                f"`first_box` must be {expected}, but that of video {i} is {boxes[i].tolist()} "
                "(left, top, width, height)."
            )
