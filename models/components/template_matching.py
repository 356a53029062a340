"""Template matching: how well the picture of an object explains an image, at one place or at many.

A picture g pasted into an image I changes the sum of squares by `|I - g|^2 - |I|^2 = -(2 <I, g> - |g|^2)`.
The bracket is the *gain*: the squared error that the picture takes away, negative where it adds some. Unlike
a cross-correlation it does not reward a picture for covering much, and unlike the error within a window it
can be compared between windows, also those that are partly outside.

What is left to explain is an *observation*: images `(R, C, H, W)` times weights, and the weights as one more
channel. Where the weight is zero, outside the image or behind another object, nothing speaks for or against.
Sums over an image are taken over the samples of a glimpse, times the area of a sample in pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .attention import crop
from .constants import constant


def observe(images: Tensor, explained: Tensor | None, hides: bool) -> Tensor:
    """The observation that is left when other objects have been drawn, `(R, C + 1, H, W)`.

    Args:
        images: `(R, C, H, W)` in [0, 1].
        explained: what has been drawn, with the same shape; None is nothing.
        hides: whether what has been drawn hides what is behind it, as on a canvas that is clamped to [0, 1]:
            there, what is as bright as can be leaves no weight.
    """
    # Frames may be large and rows many: each of these is a pass over all of memory.
    left = images.clamp(min=0) if explained is None else (images - explained).clamp_(min=0)
    if explained is None or not hides:
        return F.pad(left, (0, 0, 0, 0, 0, 1), value=1.0)
    weight = (1 - explained.amax(1, keepdim=True)).clamp_(0, 1)
    return torch.cat([left.mul_(weight), weight], dim=1)


def sample_area(coords: Tensor, observed: Tensor, template: Tensor) -> Tensor:
    """Area of a glimpse's sample in pixels, `(...)`, for windows `(..., 4)`."""
    scale = 1.0
    for pixels, samples in zip(observed.shape[-2:], template.shape[-2:], strict=True):
        scale *= (pixels - 1) / (samples - 1)
    return scale * coords[..., 0] * coords[..., 1]


class Fit(NamedTuple):
    """How well pictures explain what is seen in their windows; all in squared grey values times pixels."""

    gain: Tensor
    """Squared error that the picture takes away, `(...)`."""
    visible: Tensor
    """Energy of the picture where it can be seen, `(...)`."""
    total: Tensor
    """Energy of the whole picture, `(...)`."""


def fit(seen: Tensor, template: Tensor, area: Tensor) -> Fit:
    """Compare pictures with what is seen in their windows.

    Args:
        seen: crops of an observation, `(..., C + 1, h, w)`.
        template: pictures `(..., C, h, w)`.
        area: of a sample, `(...)`.
    """
    image, weight = seen[..., :-1, :, :], seen[..., -1:, :, :]
    energy = template.square()
    visible = (weight * energy).flatten(-3).sum(-1)
    match = (image * template).flatten(-3).sum(-1)
    return Fit(area * (2 * match - visible), area * visible, area * energy.flatten(-3).sum(-1))


class SearchMap(NamedTuple):
    """Gains of a picture at a grid of places around a window; R rows, m places on each axis."""

    gain: Tensor
    """`(R, m, m)`, y before x."""
    x: Tensor
    """Centres of the windows, in coords, `(R, m)`."""
    y: Tensor
    """`(R, m)`."""


def search(observed: Tensor, template: Tensor, coords: Tensor, margin: int, pool: int = 1) -> SearchMap:
    """The gain of a picture at all shifts of its window by multiples of `pool` samples, up to `margin`.

    One grouped convolution: the larger window around is cropped with the same distance of samples, and the
    picture slides over it. With `pool` > 1 both are averaged over squares of that side first, which is
    `pool^4` times cheaper, and less sensitive to detail.

    Args:
        observed: `(R, C + 1, H, W)`, see `observe`.
        template: pictures `(R, C, h, w)`.
        coords: windows `(R, 4)`.
        margin: greatest shift in samples; like h and w a multiple of `pool`.
        pool: samples between two places.

    Raises:
        ValueError: if sizes are no multiples of `pool`.
    """
    rows, _, *size = template.shape
    if any(length % pool for length in (*size, margin)):
        raise ValueError(f"`margin` {margin} and templates of {size} must be multiples of `pool` {pool}.")
    height, width = (length + 2 * margin for length in size)
    pitch = coords[:, :2] * constant((2 / (size[1] - 1), 2 / (size[0] - 1)), coords)
    enlarge = constant(((width - 1) / (size[1] - 1), (height - 1) / (size[0] - 1)), coords)
    region = crop(observed, torch.cat([coords[:, :2] * enlarge, coords[:, 2:]], dim=-1), (height, width))
    region, small = F.avg_pool2d(region, pool), F.avg_pool2d(template, pool)
    kernel = torch.cat([2 * small, -small.square().sum(1, keepdim=True)], dim=1)
    gain = F.conv2d(region.flatten(0, 1).unsqueeze(0), kernel, groups=rows)[0]
    gain = gain * (pool**2 * sample_area(coords, observed, template))[:, None, None]
    steps = pool * torch.arange(
        -(margin // pool), margin // pool + 1, device=coords.device, dtype=coords.dtype
    )
    return SearchMap(gain, *(coords[:, 2 + i, None] + pitch[:, i, None] * steps for i in (0, 1)))
