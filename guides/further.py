"""What a slot has beside place and appearance, inferred: a depth for instance."""

from __future__ import annotations

from collections.abc import Mapping

import pyro
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import checks
from ..models.components.active_set import ActiveSet
from ..models.components.attention import Size, crop
from ..models.components.networks import LocScale, initialise, mlp
from ..models.components.provisional import Decision, Provisional
from ..models.components.slots import Slots, concatenate
from ..models.components.windows import SquashedWindows
from ..models.priors.counts import present_or_standard
from ..models.priors.discovery import MIN_SCALE


class FurtherLatents(ActiveSet, nn.Module):
    """Draws latent variables of a slot after place and appearance; discovery and propagation share it.

    All are normal, given the glimpse at the place that was drawn, place, appearance, and the values in the
    frame before, which are zeros for an object that is new.

    Args:
        features: network from glimpses `(..., C, h, w)` to `(..., F)`.
        feature_size: F.
        what_size: W.
        sizes: number of components of each variable, by name, in the model's order.
        glimpse_size: height and width of the crops.
        hidden: width of the hidden layer.
        windows: what `z_where` means; the model's.
    """

    def __init__(
        self,
        features: nn.Module,
        feature_size: int,
        what_size: int,
        sizes: Mapping[str, int],
        glimpse_size: Size = (20, 20),
        hidden: int = 64,
        windows: SquashedWindows = SquashedWindows(),  # noqa: B008
    ) -> None:
        super().__init__()
        checks.at_least(1, feature_size=feature_size, what_size=what_size, hidden=hidden)
        checks.at_least(1, **sizes)
        self.features = features
        total = sum(sizes.values())
        self.readout = mlp([feature_size + what_size + 4 + total, hidden, 2 * total], nn.ELU)
        initialise(self)
        self.sizes = dict(sizes)
        self.glimpse_size = glimpse_size
        self.windows = windows

    def draw(
        self,
        name: str,
        image: Tensor,
        possible: Tensor,
        z_where: Tensor,
        z_what: Tensor,
        used: Decision,
        before: Slots | None = None,
    ) -> dict[str, Tensor]:
        """The statements of one slot.

        Args:
            name: of them, with `{}` for the variable.
            image: `(B, C, H, W)`.
            possible: whether there can be an object, `(...)`.
            z_where: its place.
            z_what: its appearance.
            used: decides on its presence.
            before: the slot in the frame before; by default there was none.
        """
        drawn = {}
        for variable, law in self.laws(image, possible, z_where, z_what, before).items():
            provisional = Provisional(present_or_standard(law, possible), used)
            drawn[variable] = pyro.sample(name.format(variable), provisional)
        return drawn

    def laws(
        self, image: Tensor, possible: Tensor, z_where: Tensor, z_what: Tensor, before: Slots | None = None
    ) -> dict[str, LocScale]:
        """Parameters of the variables, by name, with arguments as those of `draw`."""
        if before is None:
            past = z_what.new_zeros(sum(self.sizes.values()))
        else:
            past = torch.cat([getattr(before, variable) for variable in self.sizes], dim=-1)
        said: Tensor = self.where_present(self._infer, possible, z_where, z_what, past, images=image)
        loc, raw_scale = (part.split([*self.sizes.values()], dim=-1) for part in said.chunk(2, dim=-1))
        return {
            variable: LocScale(mean, F.softplus(raw) + MIN_SCALE)
            for variable, mean, raw in zip(self.sizes, loc, raw_scale, strict=True)
        }

    def _infer(self, image: Tensor, z_where: Tensor, z_what: Tensor, before: Tensor) -> Tensor:
        seen = self.features(crop(image, self.windows(z_where), self.glimpse_size))
        said: Tensor = self.readout(concatenate(seen, z_where, z_what, before))
        return said
