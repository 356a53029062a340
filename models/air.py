r"""Attend, Infer, Repeat: the generative half.

Eslami et al., *Attend, Infer, Repeat: Fast Scene Understanding with Generative Models*, 2016. An
image is the sum of a few objects, each with a place `z_where` and an appearance `z_what`:

$$
n \sim p(n), \quad
z_\text{where}^i \sim \mathcal N(m, S), \quad
z_\text{what}^i \sim \mathcal N(0, I), \quad
y^i = \text{paste}(\text{dec}(z_\text{what}^i), z_\text{where}^i), \quad
x \sim \mathcal N\Big(\sum_{i<n} y^i, \sigma^2 I\Big)
$$
"""

from __future__ import annotations

from typing import NamedTuple

import pyro
import torch
from pyro import poutine
from torch import Tensor, nn

from .. import checks
from .components.attention import air_inverse_scale, paste
from .components.inputs import require_pixels, require_size
from .components.likelihood import GaussianImage, pixel_scale
from .components.networks import GlimpseDecoder
from .components.plates import Plate
from .components.programs import Program
from .components.slots import Slots, stack_slots
from .priors.counts import CountPrior, GeometricCount, NormalPrior, slot_presence
from .priors.flow import FlowPrior

IMAGE_SITE = "x"


class Scene(NamedTuple):
    """What AIR says about an image."""

    slots: Slots
    """The latent variables."""
    objects: Tensor
    """Each object alone, drawn at its place, absent ones too, `(..., N, C, H, W)`."""
    canvas: Tensor
    """Mean image: the sum of the objects that are present, `(..., C, H, W)`."""


class AIR(Program):
    """Generative model of images with up to `count_prior.max_count` objects.

    Statements, for each slot `i`: `z_pres/i` under the mask of the previous slot's presence, then
    `z_where/i` and `z_what/i` under the mask of its own; finally the image `x`. An absent slot
    changes neither the log-probability nor the image.

    Everything is batched over a plate `data`, and over any axes to the left of it: particles, or
    the prefixes of presence that `MarginalELBO` sums over.

    Args:
        count_prior: distribution of the number of objects.
        where_prior: distribution of `z_where = (s, x, y)`. A mean of 3 for `s` says that an object
            is a third as wide as the image.
        decoder: maps `z_what` `(..., what_size)` to glimpses `(..., C, h, w)` of any size.
        what_size: components of `z_what`.
        image_shape: channels, height and width of an image.
        likelihood_scale: standard deviation of the pixels; becomes a buffer, which training may anneal.
        what_prior: distribution of `z_what`, by default a standard normal.
    """

    likelihood_scale: Tensor

    def __init__(
        self,
        count_prior: CountPrior | None = None,
        where_prior: NormalPrior | None = None,
        decoder: nn.Module | None = None,
        what_size: int = 50,
        image_shape: tuple[int, int, int] = (1, 50, 50),
        likelihood_scale: float = 0.3,
        what_prior: NormalPrior | FlowPrior | None = None,
    ) -> None:
        super().__init__()
        checks.at_least(1, what_size=what_size, image_shape=image_shape)
        self.count_prior = count_prior or GeometricCount(3, 0.01)
        self.where_prior = where_prior or NormalPrior([3.0, 0.0, 0.0], [0.2, 1.0, 1.0])
        self.what_prior = what_prior or NormalPrior.standard(what_size)
        self.decoder = decoder or GlimpseDecoder(what_size, (image_shape[0], 28, 28))
        self.image_shape = image_shape
        # It follows from the configuration and the step, so checkpoints do not have it.
        self.register_buffer("likelihood_scale", pixel_scale(likelihood_scale), persistent=False)

    def forward(self, images: Tensor | None = None, batch_size: int | None = None) -> Scene:
        """Sample latent variables and, unless they are given, images.

        Args:
            images: `(B, C, H, W)` in [0, 1], or nothing to sample from the prior.
            batch_size: B, where no images are given.

        Raises:
            ValueError: if the images do not have `image_shape`, or neither argument is given.
        """
        size = self._batch_size(images, batch_size)
        with Plate("data", size, dim=-1):
            slots = self.sample_slots()
            scene = self.draw(slots)
            pyro.sample(IMAGE_SITE, GaussianImage(scene.canvas, self.likelihood_scale), obs=images)
        return scene

    def sample_slots(self) -> Slots:
        """The statements of all slots."""
        logits = self.count_prior.hazard_logits()
        where_prior, what_prior = self.where_prior(), self.what_prior()
        z_pres = torch.ones_like(logits[0])
        slots = []
        for i in range(self.count_prior.max_count):
            with poutine.mask(mask=z_pres > 0):
                z_pres = pyro.sample(f"z_pres/{i}", slot_presence(logits[i], z_pres))
            with poutine.mask(mask=z_pres > 0):
                z_where = pyro.sample(f"z_where/{i}", where_prior)
                z_what = pyro.sample(f"z_what/{i}", what_prior)
            require_size(f"z_where/{i}", z_where, self.where_prior.size)
            require_size(f"z_what/{i}", z_what, self.what_prior.size)
            slots.append(Slots(z_pres, z_where, z_what))
        return stack_slots(slots)

    def draw(self, slots: Slots) -> Scene:
        """Decode all slots, put them in their places and add up those that are present."""
        glimpses = self.decoder(slots.z_what)
        objects = paste(glimpses, air_inverse_scale(slots.z_where), self.image_shape[1:])
        return Scene(slots, objects, sum_present(slots.z_pres, objects))

    def _batch_size(self, images: Tensor | None, batch_size: int | None) -> int:
        if images is not None:
            require_pixels("images", images, "B", self.image_shape, dtype=self.where_prior.loc.dtype)
            return len(images)
        if batch_size is None:
            raise ValueError("`AIR` needs `images`, or `batch_size` to sample from the prior.")
        return batch_size


def sum_present(z_pres: Tensor, objects: Tensor) -> Tensor:
    """Sum of the objects that are present.

    Args:
        z_pres: `(..., N)`; its leading axes broadcast with those of `objects`, and may be more.
        objects: `(..., N, C, H, W)`.

    Returns:
        `(..., C, H, W)`.
    """
    return torch.einsum("...n,...nchw->...chw", z_pres, objects)
