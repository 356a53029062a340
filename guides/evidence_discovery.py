r"""Discovery in a guide that looks at what is not explained yet.

A network that sees a whole frame learns where objects are from nothing: there is no gradient until a window
overlaps an object by chance, and what it has learned holds for frames of one size. Here the evidence says
where to look. With what the propagated objects and the slots before have drawn, o, the places of slot j are

1. *Proposal.* Where most of what is left, `max(x - o, 0)`, is within a window of the size that the prior
   expects: the maximum of the filtered remainder, refined by mean shift, see `peaks`. The window there is as
   large as `windows` say of its row. In evaluation mode a larger one can be tried beside it (`larger`):
   networks see what is in a window, however large it is, so that what is larger than any object in training
   is known all the same.
2. *Second look.* A network that sees the window of that place corrects mean and standard deviation, see
   `SecondLook`. `z_where` is drawn from $N(\hat z(x, o) + \delta, s^2)$.
3. *Looks.* `z_what` is inferred from the remainder at the place that was drawn; in evaluation mode it can be
   corrected by what its picture leaves (`RefinedLooks`).
   What is left is so of the slots before; with *sketches* it is of all the others, and the places of 1. are
   chosen together. Where two objects touch, the window that holds most may lie between them. So all slots
   are sketched first, each at its mean place with its mean looks, from five starts: where most ink is, and
   where it begins at each of the four sides, since what is outermost belongs to one object. The sketches are
   kept that explain most together, less `sketch_nats` for each. In training mode there are none, but with
   `sketch_early`.
4. *Presence.* A network decides on the ground of what the object's picture explains of the remainder. In
   evaluation mode a least number of nats can be asked for (`least`), more than the price of an object: what
   the picture of a large one leaves of it is worth that, too, and the object would fall to pieces.

All of it is a function of the image and of what was drawn before, so the density of q is known: weights are
exact and bounds are bounds, and the number of objects can be summed out, see `MarginalELBO`. No gradient is
taken through the maximum and through the remainder, as if they were data; so that of a bound leaves out how
the choice of later slots depends on where earlier ones were drawn.

No parameter depends on the size of the frame or on the number of slots.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import checks
from ..models.components.attention import Size, crop
from ..models.components.networks import LocScale, fill_output_bias, initialise, mlp
from ..models.components.slots import Slots, TrackedSlots, stack_slots
from ..models.components.template_matching import fit, observe, sample_area
from .beside_others import SIDES, LooksBesideOthers, Sketch, explaining_most
from .evidence import EVIDENCE, evidence, explained_nats, remainder
from .further import FurtherLatents
from .peaks import peak_of_ink, start_of_ink, window_at
from .refined_looks import RefinedLooks
from .second_look import SecondLook
from .slot_discovery import SlotDiscovery

LEAST_SLOPE, MOST_LEAST = 25.0, 12.0
"""How steeply greatest logits of presence rise where as much is explained as must be, and how far."""

SKETCH_NATS = 60.0
"""What a sketch must explain where nothing is known of the price of an object: three times the divergence of
the looks of a digit.
"""

MORE, AS_WELL = 1.15, 0.85
"""A larger window is better if its picture explains so many times as much, and so large a part of what is in
it, relative to the smaller one: the picture of two objects explains more, but not as well.
"""


class EvidenceDiscovery(LooksBesideOthers, SlotDiscovery):
    """Finds new objects where something is left to explain, see the module; in place of `Discovery`.

    Args:
        decoder: the model's, as `models.sqair.SceneDecoder`: `glimpses` are the pictures of `z_what`, `place`
            puts them into the frame where `windows` are, and `clamp` says whether the canvas is clamped to
            [0, 1], so that objects hide each other.
        size: width and height of an object's window that the prior expects, relative to the image's; in
            perspective where windows grow by one, see `models.components.PerspectiveWindows`.
        what_encoder: shared with propagation.
        second_look: corrects the proposed places.
        max_count: N.
        what_size: W.
        glimpse_size: height and width of the crops.
        context_size: features of the summary of the propagated objects, which is not used.
        hidden: width of the hidden layer of the presence network.
        presence_bias: initial logit of presence.
        scale_bias: initial offset of the raw standard deviation of `z_where`; learned.
        scale: standard deviation of the pixels, the likelihood's.
        where_floor: least standard deviation of `z_where`, see `Discovery`.
        least: what the picture of an object must explain in evaluation mode, in nats: the logit of presence
            is at most `LEAST_SLOPE * (nats / least - 1)`, within `MOST_LEAST`. By default the network decides
            alone, as while it learns: at first no picture explains anything.
        larger: side of the larger window over that of the expected one; by default none is tried.
        sketch_nats: what a sketch must explain, in nats, in evaluation mode; by default there are none.
        refined: corrects looks by what their picture leaves, in evaluation mode, but not those of sketches:
            the mean that is corrected has no gradient, and an encoder would not begin to learn.
        hold: whether `hold` may be other than zero.
        exploration: whether `exploration` may be other than zero.
        further: as of `Discovery`.

    Attributes:
        sketch_early: whether there are sketches in training mode too: objects that are found in pieces teach
            the decoder pieces. They take as long as the rest of a step.
    """

    def __init__(
        self,
        decoder: Any,
        size: tuple[float, float],
        what_encoder: nn.Module,
        second_look: SecondLook,
        max_count: int = 3,
        what_size: int = 50,
        glimpse_size: Size = (20, 20),
        context_size: int = 256,
        hidden: int = 128,
        presence_bias: float = 1.0,
        scale_bias: float = -3.0,
        scale: float = 0.3,
        where_floor: float = 0.001,
        least: float | None = None,
        larger: float | None = None,
        sketch_nats: float | None = None,
        refined: RefinedLooks | None = None,
        hold: bool = False,
        exploration: bool = False,
        further: FurtherLatents | None = None,
    ) -> None:
        super().__init__(max_count, what_size, glimpse_size, context_size, hold, exploration, further)
        checks.positive(size=size, scale=scale, least=least, sketch_nats=sketch_nats)
        checks.at_least(1, hidden=hidden)
        checks.not_negative(where_floor=where_floor)
        checks.finite(presence_bias=presence_bias, scale_bias=scale_bias)
        checks.within("(1, 2]", larger=larger)
        self.decoder = decoder
        self.what_encoder = what_encoder
        self.second_look = second_look
        self.scale_bias = nn.Parameter(torch.tensor(scale_bias))
        self.presence_head = mlp([EVIDENCE + what_size, hidden, 1], nn.ELU)
        initialise(self.presence_head)
        fill_output_bias(self.presence_head, presence_bias)
        self.windows = decoder.windows
        self.size = size
        self.scale = scale
        self.where_floor = where_floor
        self.least = least
        self.larger = larger
        self.sketch_nats = sketch_nats
        self.sketch_early = False
        self.refined = refined

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
            features: not used.
            summary: not used.
            free: number of free slots, `(...)`; more cannot be discovered.
            propagated: the objects that go on, whose pictures are explained.
        """
        hold = self.hold if t > 0 and self.training else None
        names = [f"discovery/{{}}/{t}/{j}" for j in range(self.max_count)]
        return self.find(names, image, free, propagated, hold)

    def find(
        self,
        names: list[str],
        image: Tensor,
        free: Tensor,
        propagated: TrackedSlots | None = None,
        hold: Tensor | None = None,
    ) -> Slots:
        """The statements of slots, one after the other.

        Args:
            names: of the statements of each slot, with `{}` for the variable.
            image: `(B, C, H, W)`.
            free: number of free slots, `(...)`.
            propagated: the objects that go on, by default none.
            hold: share of decisions that are taken for "absent".
        """
        explained = self.explained(image, free, propagated)
        sketched = self.sketch_nats is not None and (self.sketch_early or not self.training)
        sketches = self._sketches(image, free, explained, len(names)) if sketched else []
        later = sum((sketch.drawn for sketch in sketches[1:]), sketches[0].drawn) if sketches else None
        present, slots = torch.ones_like(free), []
        for j, name in enumerate(names):
            possible = present * (free > j)
            others = explained
            if later is not None:
                later = later - sketches[j].drawn
                others = explained + later
            start = [sketches[j].slot.z_pres.unsqueeze(-1), sketches[j].slot.z_where] if sketches else []
            place: LocScale = self.rows_where_present(self._place, possible, others, *start, images=image)
            look = partial(self.look_beside, image, others, possible)
            decide = partial(self.rows_where_present, self._decide, possible, others, images=image)
            refine = None
            if self.refined is not None and not self.training:
                refine = partial(self.refine_beside, self.refined, image, others, possible)
            slots.append(self._draw(name, image, possible, place, look, decide, hold, refine))
            present = slots[-1].z_pres
            if j + 1 < len(names):
                explained = explained + self.pictures(slots[-1])
        return stack_slots(slots)

    @torch.no_grad()
    def _sketches(self, image: Tensor, free: Tensor, explained: Tensor, count: int) -> list[Sketch]:
        """So many slots, from the start from which they explain most."""
        sketches = self._chain(image, free, explained, count)
        free = free * sketches[0].slot.z_pres  # where nothing is found, there is nothing to find otherwise
        if self.active_set and not free.any():
            return []
        sides = (self._chain(image, free, explained, count, side) for side in SIDES)
        return explaining_most(sketches, sides, image, explained, self.scale, self.sketch_nats or 0.0)

    def _chain(
        self,
        image: Tensor,
        free: Tensor,
        explained: Tensor,
        count: int,
        side: tuple[int, bool] | None = None,
    ) -> list[Sketch]:
        """Slots one after the other, each in what is left, the first where most is or at a side of it."""

        def first(image: Tensor, explained: Tensor) -> LocScale:
            rest = remainder(image, explained)
            return self.place_at(rest, start_of_ink(rest, self.size, self.glimpse_size, side))

        present, sketches = torch.ones_like(free), []
        for j in range(count):
            possible = present * (free > j)
            place: LocScale = self.rows_where_present(
                self._place if j else first, possible, explained, images=image
            )
            sketches.append(self.sketch(image, possible, explained, place.loc, self.sketch_nats or 0.0))
            present, explained = sketches[-1].slot.z_pres, explained + sketches[-1].drawn
            if self.active_set and not present.any():  # nor are any of the rest
                return sketches + [sketches[-1]] * (count - len(sketches))
        return sketches

    def _place(
        self, image: Tensor, explained: Tensor, known: Tensor | None = None, where: Tensor | None = None
    ) -> LocScale:
        """Where an object is in what is left, near `where` `(R, D)` if that is `known` `(R, 1)`."""
        with torch.no_grad():
            rest = remainder(image, explained)
            centre = peak_of_ink(rest, self.size, self.glimpse_size)
            if known is not None and where is not None:
                centre = torch.where(known > 0, self.windows(where)[:, 2:], centre)
        return self.place_at(rest, centre)

    def place_at(self, rest: Tensor, centre: Tensor) -> LocScale:
        """Parameters of `z_where` of an object that is seen about here, `(R, 4)`.

        Args:
            rest: what is left to explain, `(R, C, H, W)`.
            centre: x and y, in [-1, 1] within the image, `(R, 2)`.
        """
        place = self._corrected(rest, centre, 1.0)
        if self.training or self.larger is None:
            return place
        larger = self._corrected(rest, centre, self.larger)
        with torch.no_grad():
            (gain, share), (more, of_it) = (self._explained_at(rest, each.loc) for each in (place, larger))
            better = ((more > MORE * gain) & (of_it > AS_WELL * share)).unsqueeze(-1)
        return LocScale(*(torch.where(better, new, old) for new, old in zip(larger, place, strict=True)))

    def _corrected(self, rest: Tensor, centre: Tensor, factor: float) -> LocScale:
        """What the second look makes of a window so many times as large as the expected one."""
        with torch.no_grad():
            size = self.size[0] * factor, self.size[1] * factor
            proposed = window_at(self.windows, size, centre)
        shift, raw_scale = self.second_look(rest, proposed).chunk(2, dim=-1)
        return LocScale(proposed + shift, F.softplus(raw_scale + self.scale_bias) + self.where_floor)

    def _explained_at(self, rest: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
        """Squared error that the picture of what is seen here takes away, and its share of all there is."""
        coords = self.windows(place)
        picture = self.decoder.glimpses(self.what_encoder(crop(rest, coords, self.glimpse_size)).loc)
        inside = rest.new_ones(1, 1, *rest.shape[-2:]).expand(len(rest), -1, -1, -1)
        size = picture.shape[-2], picture.shape[-1]
        seen = torch.cat([crop(each, coords, size) for each in (rest, inside)], dim=1)
        area = sample_area(coords, rest, picture)
        ink = area * seen[:, :-1].square().flatten(1).sum(1)
        gain = fit(seen, picture, area).gain
        return gain, gain / ink.clamp(min=1e-6)

    def _decide(self, image: Tensor, explained: Tensor, z_where: Tensor, z_what: Tensor) -> Tensor:
        with torch.no_grad():
            observed = observe(image, explained.unflatten(-1, image.shape[1:]), self.decoder.clamp)
            found = evidence(observed, self.decoder.glimpses(z_what), self.windows(z_where), self.scale)
        logit: Tensor = self.presence_head(torch.cat([found, z_what], dim=-1))
        if self.training or self.least is None:
            return logit
        most = LEAST_SLOPE * (explained_nats(found) / self.least - 1)
        return torch.minimum(logit, most.clamp(-MOST_LEAST, MOST_LEAST))
