"""Random changes of training videos, which a tracker or a model should not mind.

(Mirroring and reversing are `ClipWindows`'s.)
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_LEAST_CONTRAST = 0.2
_SMALLEST_PART = 0.4  # of an object's width or height, that is followed in its place


def random_parts(boxes: Tensor, size: Sequence[int], share: float, rng: np.random.Generator) -> Tensor:
    """Parts of objects in place of some of them, each at a fixed place of its object.

    Args:
        boxes: of objects `(B, T, 4)`, present in the first frame; zeros where one is absent.
        size: height and width of the frames.
        share: of the objects that are replaced. Parts that are outside the first frame are not.
        rng: draws objects and parts.
    """
    batch = len(boxes)
    extent = rng.uniform(_SMALLEST_PART, 1, (batch, 1, 2))
    extent = np.where(rng.random((batch, 1, 1)) < share, extent, 1.0)
    corner = rng.uniform(0, 1, (batch, 1, 2)) * (1 - extent)
    sides = boxes[..., 2:].repeat(1, 1, 2)
    parts = torch.cat([boxes[..., :2], torch.zeros_like(boxes[..., 2:])], dim=-1)
    parts = parts + sides * torch.as_tensor(np.concatenate([corner, extent], axis=-1)).to(boxes)
    first = parts[:, 0]
    limits = torch.tensor([size[1], size[0]])
    seen = ((first[:, :2] < limits) & (first[:, :2] + first[:, 2:] > 0)).all(-1)
    return torch.where(seen[:, None, None], parts, boxes)


def random_fading(video: Tensor, share: float, rng: np.random.Generator) -> Tensor:
    """Some of the videos with less colour and contrast, each the same in all of its frames.

        x <- c (s x + (1 - s) g) + d,   g the mean of the colours,
        s = 0 or uniform in [0, 1], c in [0.2, 1], d in [0, 1 - c]

    Args:
        video: `(B, T, C, H, W)` in [0, 1], or uint8, which stands for it.
        share: of the videos.
        rng: draws videos and s, c and d.

    Returns:
        As `video`, which is left as it was.
    """
    chosen = np.flatnonzero(rng.random(len(video)) < share)
    saturation = rng.uniform(0, 1, len(chosen)) * (rng.random(len(chosen)) < 0.5)
    contrast = rng.uniform(_LEAST_CONTRAST, 1, len(chosen))
    offset = rng.uniform(0, 1, len(chosen)) * (1 - contrast)
    scale = 255.0 if video.dtype == torch.uint8 else 1.0
    faded = video.clone()
    for i, s, c, d in zip(chosen.tolist(), saturation, contrast, offset, strict=True):
        pixels = video[i].to(torch.get_default_dtype())
        grey = pixels.mean(dim=1, keepdim=True)
        pixels = grey.lerp(pixels, s).mul_(c).add_(d * scale)
        faded[i] = pixels if scale == 1 else pixels.round_()
    return faded
