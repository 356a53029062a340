"""A decoder of scenes whose objects hide each other: colours, coverage, and depth."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .. import checks
from .components.contrast import Contrast
from .components.layers import EPSILON, Composite, soft_over
from .components.windows import SquashedWindows
from .object_decoder import ObjectDecoder


class LayeredDecoder(ObjectDecoder):
    r"""Draws objects as layers over a background, nearer ones before farther ones, see `layers.soft_over`.

    Each object has colours $o$ and coverage $a$, both sigmoids of one network's output, and a depth
    `z_depth`, the smaller the nearer. With $A_k = paste(a_k)$, $Y_k = paste(a_k o_k)$ and the weights $v_k$
    of `soft_over`,

    $$ canvas = \sum_k v_k Y_k / A_k + (1 - c) \, background. $$

    It is a decoder of slots that have `z_depth`: give the model a `ChainDiscovery` with its prior and a
    propagation prior `WithFurther`, and the guide `FurtherLatents`.

    Args:
        glimpse_decoder: maps `z_what` to `(..., C + 1, h, w)`, logits of colours and then of coverage.
        image_shape: channels, height and width of a frame.
        windows: what `z_where` means; the guide must be given the same.
        softness: of the order of depths.
        coverage_logit: added to the logits of coverage: objects are to be seen at first.
        contrast: what twice as many channels as the background has mean in front of it.
    """

    def __init__(
        self,
        glimpse_decoder: nn.Module,
        image_shape: tuple[int, int, int],
        windows: SquashedWindows = SquashedWindows(),  # noqa: B008
        softness: float = 0.5,
        coverage_logit: float = 1.0,
        contrast: Contrast = Contrast(),  # noqa: B008
    ) -> None:
        super().__init__()
        checks.at_least(1, image_shape=image_shape)
        checks.positive(softness=softness)
        checks.finite(coverage_logit=coverage_logit)
        self.glimpse_decoder = glimpse_decoder
        self.register_buffer("mean_image", torch.zeros(image_shape), persistent=False)
        self.windows = windows
        self.softness = softness
        self.coverage_logit = coverage_logit
        self.contrast = contrast
        self.clamp = True
        self.has_background = False

    def forward(
        self, z_pres: Tensor, z_where: Tensor, z_what: Tensor, z_depth: Tensor, behind: Tensor | None = None
    ) -> Tensor:
        """Draw slots to images `(..., C, H, W)`.

        Args:
            z_pres: presence, `(..., N)`.
            z_where: places.
            z_what: appearances.
            z_depth: depths, `(..., N, 1)`.
            behind: the background, `(..., C, H, W)`, black by default; with half as many channels as colours
                these are contrasts to it.
        """
        premultiplied, coverage, (weights, covered) = self._layers(z_pres, z_where, z_what, z_depth)
        shares = weights / (coverage + EPSILON)
        canvas = (shares.unsqueeze(-3) * premultiplied).sum(-4)
        return canvas if behind is None else self.contrast.in_front(canvas, behind, covered)

    def segments(self, slots: Any) -> Tensor:
        """The slot whose object has the greatest part in each pixel, `(..., H, W)`, int64.

        Where the background has a greater one it is -1.
        """
        *_, (weights, covered) = self._layers(slots.z_pres, slots.z_where, slots.z_what, slots.z_depth)
        parts = torch.cat([(1 - covered).unsqueeze(-3), weights], dim=-3)
        return parts.argmax(-3) - 1

    def _layers(
        self, z_pres: Tensor, z_where: Tensor, z_what: Tensor, z_depth: Tensor
    ) -> tuple[Tensor, Tensor, Composite]:
        """Colours `(..., N, C, H, W)` as far as they cover, coverage `(..., N, H, W)`, and shares."""
        painted = self.where_present(self._painted, z_pres, z_what)
        placed = self.place(painted * z_pres[..., None, None, None], z_where)
        premultiplied, coverage = placed[..., :-1, :, :], placed[..., -1, :, :]
        return premultiplied, coverage, soft_over(coverage, z_depth.squeeze(-1), self.softness)

    def glimpses(self, z_what: Tensor) -> Tensor:
        """What objects look like on black, `(..., C, h, w)`, given `(..., W)`."""
        return self._painted(z_what)[..., :-1, :, :]

    def _painted(self, z_what: Tensor) -> Tensor:
        """Colours, as far as they cover what is behind, and how far that is, `(..., C + 1, h, w)`."""
        colours, coverage = self.glimpse_decoder(z_what).split([self.mean_image.shape[0], 1], dim=-3)
        coverage = (coverage + self.coverage_logit).sigmoid()
        return torch.cat([coverage * colours.sigmoid(), coverage], dim=-3)
