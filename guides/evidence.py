"""What is left of an image, and how much of it the picture of an object explains."""

from __future__ import annotations

import torch
from torch import Tensor

from ..models.components.attention import crop
from ..models.components.template_matching import fit, sample_area

EVIDENCE = 4
"""How many numbers presence is decided on."""


def remainder(images: Tensor, explained: Tensor) -> Tensor:
    """What is not explained of images `(R, C, H, W)`, given what has been drawn, `(R, C H W)`."""
    return (images - explained.unflatten(-1, images.shape[1:])).clamp_(min=0)


def evidence(observed: Tensor, picture: Tensor, coords: Tensor, scale: float) -> Tensor:
    """Nats that a picture explains, shares of what can be seen of it, and how much that is, `(R, EVIDENCE)`.

    The nats are what the picture adds to the log-likelihood of the image, `gain / 2 sigma^2`, of either sign
    and compressed.

    Args:
        observed: what is left to explain, `(R, C + 1, H, W)`, see `template_matching.observe`.
        picture: `(R, C, h, w)`.
        coords: its windows, `(R, 4)`.
        scale: sigma, standard deviation of the pixels.
    """
    size = picture.shape[-2], picture.shape[-1]
    found = fit(crop(observed, coords, size), picture, sample_area(coords, observed, picture))
    nats = found.gain / (2 * scale**2)
    return torch.stack(
        [
            (nats / 10).asinh(),
            found.gain / (found.visible + 1),
            found.visible / (found.total + 1),
            found.visible.log1p(),
        ],
        dim=-1,
    )


def explained_nats(found: Tensor) -> Tensor:
    """The nats that are in `evidence`, as they were, `(R, 1)`."""
    return 10 * found[..., :1].sinh()
