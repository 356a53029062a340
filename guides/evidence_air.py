"""AIR's inference half, by what is not explained yet."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .. import checks
from ..models.components.attention import Size, paste
from ..models.components.inputs import require_pixels
from ..models.components.networks import GlimpseDecoder, GlimpseEncoder
from ..models.components.plates import Plate
from ..models.components.programs import Program
from ..models.components.slots import Slots
from ..models.components.windows import InverseScaleWindows
from ..models.priors.counts import NormalPrior
from .evidence_discovery import SKETCH_NATS, EvidenceDiscovery
from .refined_looks import RefinedLooks
from .second_look import SecondLook


class EvidenceAIRGuide(Program):
    """Approximate posterior of `models.AIR` in place of `AIRGuide`, see `EvidenceDiscovery`.

    Of each slot it draws place and looks before presence, on which it decides by what the picture explains.
    It suits every model with AIR's statements whose objects are added on black, are about as large as
    `where_prior` says, and are placed by `air_inverse_scale`.

    Args:
        decoder: the model's, from `z_what` to glimpses.
        where_prior: prior of `z_where`, the model's.
        encoder: maps glimpses to the `LocScale` of `z_what`.
        glimpse_size: height and width of the crops, those of the decoder's glimpses.
        what_size: components of `z_what`.
        image_shape: channels, height and width of an image.
        max_count: number of slots.
        hidden: width of the hidden layers.
        scale: standard deviation of the pixels, the likelihood's.
        exploration: as of `AIRGuide`.
        sketch_nats: as of `EvidenceDiscovery`.
        refine_looks: steps by which looks are corrected in evaluation mode, see `RefinedLooks`.
    """

    def __init__(
        self,
        decoder: nn.Module | None = None,
        where_prior: NormalPrior | None = None,
        encoder: nn.Module | None = None,
        glimpse_size: tuple[int, int] = (28, 28),
        what_size: int = 50,
        image_shape: tuple[int, int, int] = (1, 50, 50),
        max_count: int = 3,
        hidden: int = 128,
        scale: float = 0.3,
        exploration: float = 0.0,
        sketch_nats: float | None = SKETCH_NATS,
        refine_looks: int = 2,
    ) -> None:
        super().__init__()
        checks.at_least(1, image_shape=image_shape)
        checks.within("[0, 1)", exploration=exploration)
        checks.at_least(0, refine_looks=refine_looks)
        self.where_prior = where_prior or NormalPrior([3.0, 0.0, 0.0], [0.2, 1.0, 1.0])
        shape = (image_shape[0], *glimpse_size)
        windows, inverse = InverseScaleWindows(), float(self.where_prior.loc[0])
        units = (float(self.where_prior.scale[0]), 0.1 * inverse, 0.1 * inverse)
        pictures = _Pictures(decoder or GlimpseDecoder(what_size, shape), windows, image_shape[1:])
        self.discovery = EvidenceDiscovery(
            pictures,
            (1 / inverse, 1 / inverse),
            encoder or GlimpseEncoder(shape, what_size),
            SecondLook(image_shape[0], glimpse_size, hidden, windows=windows, units=units),
            max_count,
            what_size,
            glimpse_size,
            hidden=hidden,
            scale=scale,
            sketch_nats=sketch_nats,
            refined=RefinedLooks(pictures, refine_looks, scale, frames=1.0) if refine_looks else None,
            exploration=exploration > 0,
        )
        if self.exploration is not None:
            self.exploration.fill_(exploration)
        self.image_shape = image_shape

    @property
    def exploration(self) -> Tensor | None:
        """Share of presence that a fair coin decides in training mode; None if it is always zero."""
        return self.discovery.exploration

    def forward(self, images: Tensor, batch_size: int | None = None) -> Slots:
        """Sample the latent variables of images.

        Args:
            images: `(B, C, H, W)` in [0, 1].
            batch_size: ignored; it is there because model and guide are called alike.

        Raises:
            ValueError: if the images do not have `image_shape`, or are not floating point.
        """
        require_pixels("images", images, "B", self.image_shape, dtype=self.where_prior.loc.dtype)
        count = self.discovery.max_count
        with Plate("data", len(images), dim=-1):
            free = torch.full_like(images[:, 0, 0, 0], count)
            return self.discovery.find([f"{{}}/{i}" for i in range(count)], images, free)


class _Pictures(nn.Module):
    """AIR's decoder as a source of pictures, which add up on the canvas."""

    clamp = False

    def __init__(self, decoder: nn.Module, windows: InverseScaleWindows, size: Size) -> None:
        super().__init__()
        self.decoder = decoder
        self.windows = windows
        self.size = size

    def glimpses(self, z_what: Tensor) -> Tensor:
        """Pictures `(..., C, h, w)` given `(..., W)`."""
        pictures: Tensor = self.decoder(z_what)
        return pictures

    def place(self, glimpses: Tensor, z_where: Tensor) -> Tensor:
        """Each of them `(..., C, h, w)` at its place in a black image, `(..., C, H, W)`."""
        return paste(glimpses, self.windows(z_where), self.size)
