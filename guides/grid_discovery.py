"""Discovery in a guide that decides on all cells of a grid at once."""

from __future__ import annotations

import pyro
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import checks
from ..models.components.attention import Size
from ..models.components.boxes import coords_to_boxes, iou
from ..models.components.cells import Cells, Chosen
from ..models.components.constants import constant
from ..models.components.networks import LocScale, fill_output_bias, initialise, mlp
from ..models.components.presence_vectors import BudgetedBernoulli
from ..models.components.slots import Slots, TrackedSlots, slots_of, slots_present
from ..models.priors.counts import ABSENT_LOGIT, slots_law
from ..models.priors.discovery import MIN_SCALE, pair
from .exploration import explore
from .further import FurtherLatents
from .looking import WhatEncoder
from .slot_discovery import SlotDiscovery


class GridFeatures(nn.Module):
    """Features of the cells of a frame: convolutions, pooled to the grid; cells see what is near them.

    Args:
        cells: the grid.
        convolutions: from frames `(B, C, H, W)` to maps `(B, F', H', W')`.
        map_channels: F'.
        features: F, of a cell.
    """

    def __init__(self, cells: Cells, convolutions: nn.Module, map_channels: int, features: int) -> None:
        super().__init__()
        self.cells = cells
        self.convolutions = convolutions
        self.mix = nn.Sequential(nn.Conv2d(map_channels, features, 3, padding=1), nn.ELU())
        initialise(self.mix)

    def forward(self, frames: Tensor) -> Tensor:
        """Encode frames `(..., C, H, W)` to `(..., K, F)`."""
        maps = self.convolutions(frames.flatten(0, -4))
        pooled = self.mix(F.adaptive_avg_pool2d(maps, (self.cells.rows, self.cells.columns)))
        return pooled.flatten(-2).transpose(-1, -2).unflatten(0, frames.shape[:-3])


class ObjectMap(nn.Module):
    r"""What cells are told of objects that are known already: $\sum_i N(c - t_i; 0, \sigma^2) f(z_i)$.

    As in SILOT (Crawford and Pineau, 2020) and G-SWM (Lin et al., 2020), with the normal's density over that
    of its middle, and a standard deviation of half a cell.

    Args:
        cells: the grid.
        what_size: W.
        hidden: width of the hidden layer.
        features: M, of a cell.
    """

    def __init__(self, cells: Cells, what_size: int, hidden: int = 64, features: int = 32) -> None:
        super().__init__()
        self.cells = cells
        self.features = features
        self.network = mlp([what_size + 4, hidden, features], nn.ELU, activate_last=True)
        initialise(self.network)

    def forward(self, slots: Slots | TrackedSlots) -> Tensor:
        """Features of the cells, `(..., K, M)`, of slots `(..., N, .)`; absent ones count for nothing."""
        said = self.network(torch.cat([slots.z_what, slots.z_where], dim=-1))
        away = self.cells.centres(said) - self.cells.windows(slots.z_where)[..., 2:].unsqueeze(-2)
        away = away * constant((self.cells.columns, self.cells.rows), away)  # in half cells
        near = torch.exp(-0.5 * away.square().sum(-1)) * slots.z_pres.unsqueeze(-1)  # (..., N, K)
        return near.transpose(-1, -2) @ said


class GridDiscovery(SlotDiscovery):
    """Finds new objects in the cells of a grid: which of them hold one, then where it is, and what.

    In place of `Discovery`, for a model with `models.GridDiscovery`, whose statements it has. A convolutional
    network sees the frame once, whatever the number of particles; a cell's logit of presence depends on what
    is seen near it, and on the objects that are known to be near it, see `ObjectMap`. Cells are decided on in
    their order until slots are used up, see `BudgetedBernoulli`; only those with an object are looked at.

    Args:
        cells: the grid, the model's.
        features: of the cells of a frame, `(..., C, H, W)` to `(..., K, F)`.
        feature_size: F.
        what_encoder: shared with `Propagation`.
        max_count: N.
        what_size: W.
        glimpse_size: height and width of the crops.
        context_size: features of the summary of the propagated objects, which is not used.
        hidden: width of the hidden layers.
        presence_logit: of presence, at first.
        scale_bias: initial offset of the raw standard deviation of places; learned.
        size_logit: initial mean of the two size logits, or of each, x before y.
        where_floor: least standard deviation of places.
        reject: intersection over union with an object that is known, from which on a cell cannot hold
            another; by default there is no such rule. With it the guide's support is smaller than the
            model's: a bound stays one, but its weights are no longer unbiased.
        hold: whether `hold` may be other than zero.
        exploration: whether `exploration` may be other than zero: the share of decisions that are taken by
            coins, which say "present" for half of the slots on average.
        further: draws what a slot has beside place and appearance, if there is anything.
    """

    def __init__(
        self,
        cells: Cells,
        features: nn.Module,
        feature_size: int,
        what_encoder: WhatEncoder,
        max_count: int = 3,
        what_size: int = 50,
        glimpse_size: Size = (20, 20),
        context_size: int = 256,
        hidden: int = 128,
        presence_logit: float = -2.0,
        scale_bias: float = -1.0,
        size_logit: float | tuple[float, float] = 0.0,
        where_floor: float = MIN_SCALE,
        reject: float | None = None,
        hold: bool = False,
        exploration: bool = False,
        further: FurtherLatents | None = None,
    ) -> None:
        super().__init__(max_count, what_size, glimpse_size, context_size, hold, exploration, further)
        checks.at_least(1, feature_size=feature_size, hidden=hidden)
        checks.not_negative(where_floor=where_floor)
        checks.finite(presence_logit=presence_logit, scale_bias=scale_bias)
        checks.within("(0, 1]", reject=reject)
        self.cells = cells
        self.grid_features = features
        self.known = ObjectMap(cells, what_size)
        self.what_encoder = what_encoder
        size = feature_size + self.known.features
        self.where_head = mlp([size, hidden, 8], nn.ELU)
        self.presence_head = mlp([size, hidden, 1], nn.ELU)
        initialise(self.where_head, self.presence_head)
        fill_output_bias(self.presence_head, presence_logit)
        last = self.where_head[-1]
        assert isinstance(last, nn.Linear)
        last.weight.data.mul_(0.1)
        last.bias.data[:2] = torch.tensor(pair(size_logit))
        self.scale_bias = nn.Parameter(torch.tensor(scale_bias))
        self.where_floor = where_floor
        self.reject = reject
        self.windows = cells.windows

    def features(self, frames: Tensor) -> Tensor:
        """What is seen of the cells of frames `(..., C, H, W)`, whatever the number of particles."""
        features: Tensor = self.grid_features(frames)
        return features

    def forward(
        self,
        t: int,
        image: Tensor,
        features: Tensor,
        summary: Tensor,
        free: Tensor,
        propagated: TrackedSlots | None = None,
    ) -> Slots:
        """The statements of frame `t`.

        Args:
            t: number of the frame, from 0.
            image: `(B, C, H, W)`.
            features: of its cells, see `features`.
            summary: not used.
            free: number of free slots, `(...)`; more cannot be discovered.
            propagated: the objects that go on.
        """
        known = features.new_zeros(*features.shape[:-1], self.known.features)
        if propagated is not None:
            known = self.known(propagated)
        leading = torch.broadcast_shapes(features.shape[:-1], known.shape[:-1])
        seen = torch.cat([x.expand(*leading, x.shape[-1]) for x in (features, known)], dim=-1)
        place = self._place(seen)
        logits = self._logits(t, image, seen, place, propagated)
        budget = free.clamp(max=self.max_count)
        present = pyro.sample(f"discovery/z_pres/{t}", BudgetedBernoulli(logits, budget))
        chosen = self.cells.choose(present, self.max_count)
        where = LocScale(*(chosen.of(x) for x in place))
        local = pyro.sample(f"discovery/z_where/{t}", slots_law(where, chosen.z_pres))
        z_where = self.cells.places(local, chosen.of(self.cells.centres(local)))
        return self._looked_at(t, image, chosen, z_where)

    def _place(self, seen: Tensor) -> LocScale:
        loc, raw_scale = self.where_head(seen).chunk(2, dim=-1)
        return LocScale(loc, F.softplus(raw_scale + self.scale_bias) + self.where_floor)

    def _logits(
        self, t: int, image: Tensor, seen: Tensor, place: LocScale, propagated: TrackedSlots | None
    ) -> Tensor:
        """Logits of presence of all cells, `(..., K)`."""
        logits: Tensor = self.presence_head(seen).squeeze(-1)
        if self.training and self.exploration is not None:
            logits = explore(logits, self.exploration, towards=0.5 * self.max_count / len(self.cells))
        if self.training and self.hold is not None and t > 0:
            logits = explore(logits, self.hold, towards=0.0)
        if self.reject is None or propagated is None:
            return logits
        with torch.no_grad():
            size = image.shape[-2], image.shape[-1]
            mean = self.windows(self.cells.places(place.loc, self.cells.centres(seen)))
            mine, theirs = (coords_to_boxes(x, size) for x in (mean, self.windows(propagated.z_where)))
            overlap = iou(mine.unsqueeze(-2), theirs.unsqueeze(-3)) * propagated.z_pres.unsqueeze(-2)
            known = overlap.amax(-1) > self.reject
        return logits.masked_fill(known, ABSENT_LOGIT)

    def _looked_at(self, t: int, image: Tensor, chosen: Chosen, z_where: Tensor) -> Slots:
        """The statements of what slots `(..., N)` look like, and what else there is of them."""
        present, where = chosen.z_pres.movedim(-1, 0), z_where.movedim(-2, 0)  # slots first, as particles
        look: LocScale = self.where_present(self._look, present, where, images=image)
        what = LocScale(*(x.movedim(0, -2) for x in look))
        z_what = pyro.sample(f"discovery/z_what/{t}", slots_law(what, chosen.z_pres))
        values = {"z_where": z_where, "z_what": z_what}
        if self.further is not None:
            said = self.further.laws(image, present, where, z_what.movedim(-2, 0))
            for name, law in said.items():
                whole = LocScale(*(x.movedim(0, -2) for x in law))
                values[name] = pyro.sample(f"discovery/{name}/{t}", slots_law(whole, chosen.z_pres))
        return slots_present(slots_of(chosen.z_pres, **values))
