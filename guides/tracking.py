r"""Propagation in SQAIR's guide that searches for the decoder's own picture of each object.

If an object's appearance is known, and what else is drawn, the posterior of where it is now is

$$ p(z | x) \propto p(z | past) \, \exp(-|x - o - paste(g, z)|^2 / 2 \sigma^2), $$

with its picture g, the other objects' pictures o, and the prior of motion. Nothing in it has to be learned.
`TrackingPropagation` proposes from its Laplace approximation, for one object after the other:

1. *Expectation.* The model's own prior of propagation says where the object may be, a mixture.
2. *Search* (template matching). The gain of the picture at a grid of places around where it was, plus the
   logarithm of the prior, widened by a broad component: the best is where alignment starts.
   An object whose picture explains less than half of itself there has jumped or is hidden: it is searched for
   farther away, in what no other object explains, and what explains as much is taken for it.
3. *Alignment* (Lucas and Kanade). A few Gauss-Newton steps with the prior in the normal equations lead to the
   minimum $\hat z$ of the negative log-posterior E, and to its curvature H there. A grid of two pixels hides
   a fifth of a gain, so in evaluation the second best place is aligned too, and the better minimum is kept:
   an object would otherwise be found in another that hides it, one pixel nearer to the grid.
4. *Proposal*. $q(z) = w_0 N(\hat z + \delta, D^2) + \sum_k w_k N(m_k, s_k^2)$. The first component is the
   Laplace approximation: D holds the standard deviations $H_{ii}^{-1/2}$, which of all diagonal matrices
   make the divergence of q from it least; its weight is what being seen there adds to the evidence, $w_0
   \propto p(\hat z | past) (e^{gain(\hat z) / 2 \sigma^2} - 1) \prod_i \sqrt{2 \pi} D_{ii}$. The others
   are those of the prior, for an object that is out of sight, with $w_k \propto p(k | past) e^{min(0,
   gain(m_k)) / 2 \sigma^2}$: where a picture can be seen and fits, they vanish, and where nothing is seen of
   the object, the first does, and the prior is its posterior. A small network that sees what is there beside
   the picture corrects mean and standard deviation of the first. Where looks are seen anew in every frame, a
   picture tells a change of size, but not the size: errors add up. So a share of the way is gone to where
   discovery would put a window around what is seen there (`seen_again`).
5. *Presence.* A network decides on the ground of what the picture explains at the place that was drawn.

Search and alignment are parameters of q, like any network's output: weights are exact and bounds are bounds,
however good they are. No gradient is taken through them, so the gradient of a bound is that with these
parameters given.

References: Lucas and Kanade, *An Iterative Image Registration Technique*, 1981; Tierney and Kadane, *Accurate
Approximations for Posterior Moments and Marginal Densities*, 1986, for the Laplace approximation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pyro
import torch
from pyro import poutine
from torch import Tensor, nn

from .. import checks
from ..models.components.active_set import ActiveSet
from ..models.components.alignment import Aligned, align
from ..models.components.attention import Size, crop
from ..models.components.constants import constant
from ..models.components.networks import LocScale, fill_output_bias, initialise, mlp
from ..models.components.normal_mixture import Mixture, NormalMixture
from ..models.components.provisional import Decision, Provisional
from ..models.components.slots import (
    Slots,
    TrackedSlots,
    slot_at,
    slots_of,
    slots_present,
    stack_slots,
    tracked,
)
from ..models.components.template_matching import fit, observe, sample_area, search
from ..models.object_decoder import ObjectDecoder
from ..models.priors.counts import present_or_standard, slot_presence
from ..models.priors.propagation import PropagationPrior
from .evidence import EVIDENCE, evidence, explained_nats, remainder
from .exploration import explore
from .further import FurtherLatents
from .looking import WhatEncoder
from .looks import Looks, StaticLooks, draw_look

FAR_SCALE, FAR_WEIGHT = 0.3, 1e-5
"""Standard deviation of shifts, and weight, of the component that search and alignment add to the prior. The
model pays for a jump by its own prior, which has no such component: so it is to count only where the picture
is clearly elsewhere. With 0.01 objects that cross exchange places, and what is hardly to be seen goes astray.
"""

SURE_WEIGHT, SURE_SCALE = 0.7, 0.05
"""A prior is sure of a place if one component has this weight, and this standard deviation of shifts."""

APART = 2
"""Places of the search are neighbours up to this distance: alignment leads to the same minimum."""

COMPARED = 0.5
"""Trust in the fit of a picture from which on it decides between the two best places of the search."""

LEAST_SHARE = 0.5
"""An object is found where its picture takes away the squared error of so much of its energy."""

CORRECTION = (0.003, 0.003, 0.01, 0.01)
"""Units of the learned correction of a place: it is small, or search would be for nothing."""


STAY_SLOPE, MOST_STAY = 5.0, 8.0
"""How steeply logits of staying rise where as much is explained as must be, see `stay_nats`, and how far."""


class Expected(NamedTuple):
    """What the prior says of the objects in this frame."""

    where: Tensor
    """A mixture of K normals, `Mixture.flat`, `(..., 9 K)`."""
    memory: Tensor
    """The prior's next state, `(..., D)`."""


class Sketch(NamedTuple):
    """An object drawn where it seems to be before its turn has come."""

    drawn: Tensor
    """Its picture in the frame, `(..., C H W)`."""
    ink: Tensor
    """Energy of the picture, `(..., 1)`."""
    sure: Tensor
    """Whether the prior is sure of the place, 0 or 1, `(..., 1)`."""


class Proposed(NamedTuple):
    """Where an object may be."""

    where: Mixture
    """The Laplace approximation, and the components of the prior, `(..., K + 1, 4)`."""
    features: Tensor
    """Of what is there and of what is expected, `(..., F)`."""


class TrackingPropagation(ActiveSet, nn.Module):
    """Follows objects by their pictures, see the module; in place of `Propagation`.

    Args:
        prior: the model's prior of propagation, of which presence is not used.
        decoder: the model's.
        what_encoder: shared with `Discovery`; used by `StickyLooks` alone.
        what_size: W.
        glimpse_size: height and width of the crops, the decoder's.
        hidden: width of the hidden layers.
        features: width of the features that corrections are linear in.
        looks: how appearance goes on; the model's prior must be of the same kind.
        scale: standard deviation of the pixels in search and alignment, the likelihood's.
        margin: how far objects are searched for, in samples of their glimpse, which are about as far from
            each other as the pixels of a frame if the glimpse has as many as an object: as far as an object
            goes while it is out of sight.
        far: how far what is not found there is searched for, likewise, in evaluation mode; 0 is not at all.
            In the short videos of training discovery finds it anew, and a search costs more than it teaches.
        trust: factor of the gain in the search, in which sums over a coarse grid and other objects that are
            not placed yet say more than they know. From `COMPARED` on two places are aligned in evaluation
            mode, and the better one taken; below, where looks change, that leads to neighbours.
        steps: of alignment.
        where_floor: added to the standard deviations of places.
        presence_bias: initial logit of staying, of the network alone.
        hold: whether `hold` may be other than zero.
        anywhere: whether objects are followed alike wherever they are: the networks are not told the shifts.
        stay_nats: what an object's picture must explain of a frame for it to stay, in nats, at first:
            `STAY_SLOPE * (nats / stay_nats - 1)`, within `MOST_STAY`, is added to the network's logit, which
            then starts at `presence_bias` 0. By default objects stay at first whatever they explain.
        seen_again: parameters of `z_where` of an object, given what is left of images `(R, C, H, W)` and
            about where it is `(R, 2)`, as `EvidenceDiscovery.place_at`.
        relook: which share of the way from the place of alignment to that one the first component goes, in
            [0, 1]. A part of it lets sizes follow what is seen, and keeps objects apart that touch, between
            which the whole of it would jump.
        further: as of `Discovery`.

    Attributes:
        hold: as of `Propagation`.
    """

    hold: Tensor | None

    def __init__(
        self,
        prior: PropagationPrior,
        decoder: ObjectDecoder,
        what_encoder: WhatEncoder,
        what_size: int = 50,
        glimpse_size: Size = (20, 20),
        hidden: int = 256,
        features: int = 64,
        looks: Looks | None = None,
        scale: float = 0.3,
        margin: int = 24,
        far: int = 0,
        trust: float = 0.5,
        steps: int = 3,
        where_floor: float = 0.001,
        presence_bias: float = 5.0,
        hold: bool = False,
        anywhere: bool = False,
        stay_nats: float | None = None,
        seen_again: Callable[[Tensor, Tensor], LocScale] | None = None,
        relook: float = 0.0,
        further: FurtherLatents | None = None,
    ) -> None:
        super().__init__()
        checks.positive(stay_nats=stay_nats)
        checks.within("[0, 1]", relook=relook)
        self.prior = prior
        self.decoder = decoder
        self.what_encoder = what_encoder
        self.looks: Looks = StaticLooks() if looks is None else looks
        channels = decoder.mean_image.shape[0]
        pixels = 2 * channels * math.prod(glimpse_size)
        self.comparison = mlp([pixels, hidden, features], nn.ELU, activate_last=True)
        self.correction = mlp([features + 12, hidden // 4, 8], nn.ELU)
        self.presence_head = mlp([features + EVIDENCE + 4 + what_size, hidden // 4, 1], nn.ELU)
        initialise(self.comparison, self.correction, self.presence_head)
        for head, bias in ((self.correction, 0.0), (self.presence_head, presence_bias)):
            fill_output_bias(head, bias)
            *_, weight, _ = head.parameters()
            nn.init.zeros_(weight)
        # It follows from the step, so checkpoints do not have it.
        self.register_buffer("hold", torch.tensor(0.0) if hold else None, persistent=False)
        self.glimpse_size = glimpse_size
        self.pool = 2 if not any(length % 2 for length in (*glimpse_size, margin, far)) else 1
        self.scale = scale
        self.margin = margin
        self.far = far
        self.trust = trust
        self.steps = steps
        self.where_floor = where_floor
        self.anywhere = anywhere
        self.stay_nats = stay_nats
        self.seen_again = seen_again
        self.relook = relook
        self.further = further

    @property
    def initial_memory(self) -> Tensor:
        """State of an object that was just discovered, which is the prior's, `(D,)`."""
        return self.prior.initial_memory.detach()

    def forward(self, t: int, image: Tensor, slots: TrackedSlots) -> tuple[Slots, Tensor]:
        """The statements of frame `t`, and the next state of each slot.

        Args:
            t: number of the frame, from 1.
            image: `(B, C, H, W)`.
            slots: the objects of the frame before.
        """
        # Slots come first, so that the batch of images stays the last axis.
        fields = slots.z_pres.unsqueeze(-1), slots.z_where, slots.z_what
        z_pres, where, what = (field.movedim(-2, 0) for field in fields)
        present = z_pres.squeeze(-1)
        before = where.detach()
        expected: Expected
        if getattr(self.prior, "per_object", False):
            known = (getattr(slots, name).movedim(-2, 0) for name in slots._fields[1:-1])
            expected = self.where_present(self._expect, present, *known)
        else:
            expected = self._expect_all(slots)
        pictures = self.where_present(self._picture, present, what.detach()) * z_pres
        drawn = self._sketch_all(image, present, before, expected.where, pictures)
        everything = sum((other.drawn for other in drawn[1:]), drawn[0].drawn) if self._searches_far else None
        followed = []
        for i, possible in enumerate(present):
            explained = self._explained(i, drawn)
            context = pictures[i], explained
            others = explained if everything is None else everything - drawn[i].drawn
            proposed: Proposed = self.rows_where_present(
                self._propose, possible, before[i], expected.where[i], *context, others, images=image
            )
            name = f"propagation/{{}}/{t}/{i}"
            slot = self._draw(name, image, slot_at(slots, i), proposed, *context)
            followed.append(slot)
            painted = self.rows_where_present(self._paint, slot.z_pres, slot.z_where.detach(), pictures[i])
            drawn[i] = drawn[i]._replace(drawn=painted * slot.z_pres.unsqueeze(-1))
            everything = None if everything is None else others + drawn[i].drawn
        found = stack_slots(followed)
        return found, expected.memory.movedim(0, -2).expand(*found.z_pres.shape, -1)

    @torch.no_grad()
    def _expect(self, *known: Tensor) -> Expected:
        """What the prior says, given the objects' own past: latent variables, and then the memory."""
        *values, memory = known
        names = ("z_where", "z_what", *(self.further.sizes if self.further else ()))
        nobody = memory[..., 0]
        drawn = slots_of(nobody, **dict(zip(names, values, strict=True)))
        predicted = self.prior(tracked(drawn, memory, nobody))
        return Expected(Mixture.of(predicted.where).flat(), predicted.memory)

    @torch.no_grad()
    def _expect_all(self, slots: TrackedSlots) -> Expected:
        """The same, given all objects, which the prior relates to each other."""
        predicted = self.prior(slots)
        return Expected(Mixture.of(predicted.where).flat().movedim(-2, 0), predicted.memory.movedim(-2, 0))

    @torch.no_grad()
    def _picture(self, what: Tensor) -> Tensor:
        glimpses = self.decoder.glimpses(what)
        # On a canvas that is clamped it makes no difference how much darker than black a glimpse is.
        return (glimpses.clamp(0, 1) if self.decoder.clamp else glimpses).flatten(-3)

    @torch.no_grad()
    def _paint(self, where: Tensor, picture: Tensor) -> Tensor:
        return self.decoder.place(self._glimpse(picture), where).flatten(-3)

    def _glimpse(self, picture: Tensor) -> Tensor:
        return picture.unflatten(-1, (-1, *self.glimpse_size))

    def _sketch_all(
        self, image: Tensor, present: Tensor, before: Tensor, expected: Tensor, pictures: Tensor
    ) -> list[Sketch]:
        """All objects but the first, which none comes before, found as if each were alone."""
        black = pictures.new_zeros(image[0].numel()).expand(*pictures.shape[1:-1], -1)
        nothing = Sketch(black, black[..., :1], black[..., :1])
        if len(present) == 1:
            return [nothing]
        observed = self._observe(image, None)
        later: Sketch = self.rows_where_present(
            self._sketch, present[1:], before[1:], expected[1:], pictures[1:], images=observed
        )
        ink = pictures[0].square().sum(-1, keepdim=True)
        return [nothing._replace(ink=ink), *map(Sketch, *(field.unbind(0) for field in later))]

    @torch.no_grad()
    def _sketch(self, observed: Tensor, before: Tensor, expected: Tensor, picture: Tensor) -> Sketch:
        mixture = Mixture.unflat(expected, 4)
        found = self._find(observed, picture, before, mixture, self.margin)
        best = mixture.component(mixture.logits.argmax(-1))
        likely = mixture.logits.softmax(-1).amax(-1) > SURE_WEIGHT
        sure = likely & (best.scale[:, 2:].mean(-1) < SURE_SCALE)
        ink = picture.square().sum(-1, keepdim=True)
        return Sketch(self._paint(found.where, picture), ink, sure.to(ink.dtype).unsqueeze(-1))

    @staticmethod
    def _explained(i: int, drawn: Sequence[Sketch]) -> Tensor:
        """What other objects draw: those that have been placed, and of the others those found more surely."""
        total = torch.zeros_like(drawn[i].drawn, memory_format=torch.contiguous_format)
        for j, other in enumerate(drawn):
            if j < i:
                total += other.drawn
            elif j > i:
                total.addcmul_(other.drawn, torch.maximum(other.sure, (other.ink > drawn[i].ink).to(total)))
        return total

    @torch.no_grad()
    def _observe(self, image: Tensor, explained: Tensor | None) -> Tensor:
        decoder = self.decoder
        others = None if explained is None else explained.unflatten(-1, image.shape[1:])
        return observe(image - decoder.mean_image if decoder.has_background else image, others, decoder.clamp)

    @property
    def _searches_far(self) -> bool:
        return self.far > 0 and not self.training

    def _find_farther(
        self, image: Tensor, near: Aligned, others: Tensor, picture: Tensor, before: Tensor, expected: Tensor
    ) -> Aligned:
        """What is found elsewhere, of pictures that are not found near where they were expected."""

        def is_lost(found: Aligned) -> Tensor:
            seen = fit(found.seen, self._glimpse(picture), found.area)
            return seen.gain < LEAST_SHARE * seen.total

        lost = is_lost(near)
        context = others, picture, before, expected
        far: Aligned = self.rows_where_present(self._find_anywhere, lost, *context, images=image)
        return _chosen(lost & ~is_lost(far), far, near)

    def _find_anywhere(
        self, image: Tensor, others: Tensor, picture: Tensor, before: Tensor, expected: Tensor
    ) -> Aligned:
        observed, mixture = self._observe(image, others), Mixture.unflat(expected, 4)
        return self._find(observed, picture, before, mixture, self.far)

    def _find(
        self, observed: Tensor, picture: Tensor, before: Tensor, mixture: Mixture, margin: int
    ) -> Aligned:
        """Search, and align."""
        template, wider = self._glimpse(picture), _with_far(mixture, before)
        windows = self.decoder.windows
        size = mixture.component(mixture.logits.argmax(-1)).loc[:, :2]
        found = search(
            observed, template, windows(torch.cat([size, before[:, 2:]], dim=-1)), margin, self.pool
        )
        x, y = windows.inverse_shift(found.x, 0), windows.inverse_shift(found.y, 1)
        score = self.trust * found.gain / (2 * self.scale**2) + _log_prior(wider, x, y)

        def aligned(place: Tensor) -> Aligned:
            start = torch.cat([size, x.gather(1, place % count), y.gather(1, place // count)], dim=-1)
            prior = wider.component(wider.component_log_probs(start).argmax(-1))
            return align(observed, template, start, prior, windows, self.scale, self.steps)

        def log_prob(there: Aligned) -> Tensor:
            gain = fit(there.seen, template, there.area).gain
            return gain / (2 * self.scale**2) + wider.component_log_probs(there.where).logsumexp(-1)

        count, (best, second) = x.shape[1], _two_best(score)
        one = aligned(best)
        if self.training or self.trust < COMPARED:
            return one
        other = aligned(second)
        return _chosen(log_prob(other) > log_prob(one), other, one)

    def _propose(
        self,
        image: Tensor,
        before: Tensor,
        expected: Tensor,
        picture: Tensor,
        explained: Tensor,
        others: Tensor,
    ) -> Proposed:
        with torch.no_grad():
            mixture, template = Mixture.unflat(expected, 4), self._glimpse(picture)
            observed = self._observe(image, explained)
            found = self._find(observed, picture, before, mixture, self.margin)
            if self._searches_far:
                found = self._find_farther(image, found, others, picture, before, expected)
            scale = found.curvature.diagonal(dim1=-2, dim2=-1).rsqrt()
            logits = self._weigh(observed, template, found, scale, mixture, before)
            off = 10 * (found.where - mixture.component(mixture.logits.argmax(-1)).loc)
        features = self.comparison(torch.cat([found.seen[:, :-1].flatten(1), picture], dim=-1))
        where_from = torch.cat([features, self._told(found.where), off, scale.log() / 5], dim=-1)
        shift, raw_scale = self.correction(where_from).chunk(2, dim=-1)
        loc, scale = self._look_again(image, explained, found.where, scale)
        loc = loc + shift * constant(CORRECTION, shift)
        scale = scale * (0.3 * raw_scale).exp() + self.where_floor
        return Proposed(
            Mixture(
                torch.cat([loc.unsqueeze(-2), mixture.loc], dim=-2),
                torch.cat([scale.unsqueeze(-2), mixture.scale], dim=-2),
                logits,
            ),
            features,
        )

    def _look_again(
        self, image: Tensor, explained: Tensor, where: Tensor, scale: Tensor
    ) -> tuple[Tensor, Tensor]:
        """A place, and its standard deviations, somewhat nearer to what discovery says, and as sure."""
        if self.seen_again is None or self.relook == 0:
            return where, scale
        centre = self.decoder.windows(where)[:, 2:]
        seen = self.seen_again(remainder(image, explained), centre)
        return where + self.relook * (seen.loc - where), torch.minimum(scale, seen.scale)

    def _told(self, where: Tensor) -> Tensor:
        """What networks are told of a place."""
        return torch.cat([where[:, :2], torch.zeros_like(where[:, 2:])], dim=-1) if self.anywhere else where

    def _weigh(
        self,
        observed: Tensor,
        template: Tensor,
        found: Aligned,
        scale: Tensor,
        mixture: Mixture,
        before: Tensor,
    ) -> Tensor:
        """Logits of the proposal's components, `(R, K + 1)`."""
        prior = _with_far(mixture, before).component_log_probs(found.where).logsumexp(-1)
        nats = fit(found.seen, template, found.area).gain / (2 * self.scale**2)
        nats = nats.clamp(min=1e-4)
        evidence = nats + (-(-nats).expm1()).log()  # log(exp(nats) - 1)
        laplace = prior + evidence + (scale.log() + 0.5 * math.log(2 * math.pi)).sum(-1)
        coords = self.decoder.windows(mixture.loc.movedim(-2, 0))  # coords.shape = (K, R, 4)
        seen = crop(observed, coords, self.glimpse_size)
        there = fit(seen, template, sample_area(coords, observed, template)).gain / (2 * self.scale**2)
        hidden = mixture.logits.log_softmax(-1) + there.clamp(max=0).movedim(0, -1)
        return torch.cat([laplace.unsqueeze(-1), hidden], dim=-1)

    def _decide(
        self,
        image: Tensor,
        where: Tensor,
        what: Tensor,
        features: Tensor,
        picture: Tensor,
        explained: Tensor,
    ) -> Tensor:
        with torch.no_grad():
            observed, coords = self._observe(image, explained), self.decoder.windows(where)
            found = evidence(observed, self._glimpse(picture), coords, self.scale)
            nats = explained_nats(found)
        logit: Tensor = self.presence_head(torch.cat([features, found, self._told(where), what], dim=-1))
        if self.stay_nats is None:
            return logit
        return logit + (STAY_SLOPE * (nats / self.stay_nats - 1)).clamp(-MOST_STAY, MOST_STAY)

    def _look(self, image: Tensor, where: Tensor, explained: Tensor, what: Tensor) -> LocScale | None:
        rest = remainder(image, explained)
        seen = self.what_encoder(crop(rest, self.decoder.windows(where), self.glimpse_size))
        return self.looks(what, seen)

    def _draw(
        self, name: str, image: Tensor, before: Slots, proposed: Proposed, picture: Tensor, explained: Tensor
    ) -> Slots:
        possible, used = before.z_pres, Decision(name.format("z_pres"))
        with poutine.mask(mask=possible > 0):
            where = present_or_standard(proposed.where, possible)
            z_where = pyro.sample(name.format("z_where"), Provisional(where, used))
            look = None
            if self.looks.draws:
                look = self.rows_where_present(
                    self._look, possible, z_where, explained, before.z_what, images=image
                )
            z_what = draw_look(name.format("z_what"), look, before, used)
            further = {}
            if self.further is not None:
                further = self.further.draw(name, image, possible, z_where, z_what, used, before)
            context = z_where, z_what, proposed.features, picture, explained
            logit = self.rows_where_present(self._decide, possible, *context, images=image).squeeze(-1)
            if self.training and self.hold is not None:
                logit = explore(logit, self.hold, towards=1.0)
            z_pres = pyro.sample(name.format("z_pres"), slot_presence(logit, possible))
        used.settle(z_pres > 0)
        return slots_present(slots_of(z_pres, z_where=z_where, z_what=z_what, **further))


def is_seen(place: Any) -> Tensor:
    """Whether an object is more probably where its picture is seen than where the prior expects it: 0 or 1.

    Args:
        place: distribution of a statement `propagation/z_where/t/i`, `(B,)`. Of another guide than
            `TrackingPropagation` it says that the object is seen.
    """
    while not isinstance(place, NormalMixture) and hasattr(place, "base_dist"):
        place = place.base_dist
    if not isinstance(place, NormalMixture):
        return place.mean.new_ones(place.mean.shape[:-1])
    return (place.logits.softmax(-1)[..., 0] > 0.5).to(place.loc.dtype)


def _chosen(rows: Tensor, new: Aligned, old: Aligned) -> Aligned:
    """What is new in some rows, `(R,)`, and old in the others."""
    pairs = zip(new, old, strict=True)
    return Aligned(*(torch.where(rows.view(-1, *[1] * (a.dim() - 1)), a, b) for a, b in pairs))


def _two_best(score: Tensor) -> tuple[Tensor, Tensor]:
    """Index `(R, 1)` of the greatest of scores `(R, m, m)`, and of the greatest but its neighbours."""
    count = score.shape[-1]
    best = score.flatten(1).argmax(1, keepdim=True)
    grid = torch.arange(count, device=score.device)
    row, column = ((grid - place).abs() <= APART for place in (best // count, best % count))
    neighbours = row.unsqueeze(-1) & column.unsqueeze(-2)
    return best, score.masked_fill(neighbours, -math.inf).flatten(1).argmax(1, keepdim=True)


def _with_far(mixture: Mixture, before: Tensor) -> Mixture:
    """A mixture that may also be anywhere around the place before, if rarely: priors can be wrong."""
    best = mixture.component(mixture.logits.argmax(-1))
    loc = torch.cat([best.loc[:, :2], before[:, 2:]], dim=-1)
    scale = torch.cat([best.scale[:, :2], torch.full_like(before[:, 2:], FAR_SCALE)], dim=-1)
    logit = mixture.logits.logsumexp(-1, keepdim=True) + math.log(FAR_WEIGHT)
    return Mixture(
        torch.cat([mixture.loc, loc.unsqueeze(-2)], dim=-2),
        torch.cat([mixture.scale, scale.unsqueeze(-2)], dim=-2),
        torch.cat([mixture.logits, logit], dim=-1),
    )


def _log_prior(mixture: Mixture, x: Tensor, y: Tensor) -> Tensor:
    """Log-density of shifts at a grid, but for a constant; each component as wide as the grid can tell.

    Args:
        mixture: of places, `(R, K, 4)`.
        x: `(R, m)`.
        y: `(R, m)`.

    Returns:
        `(R, m, m)`, y before x.
    """
    logits = mixture.logits
    squares = []
    for axis, grid in ((2, x), (3, y)):
        spacing = (grid[:, -1:] - grid[:, :1]) / (grid.shape[1] - 1)
        variance = mixture.scale[..., axis].square() + (spacing / 2).square()
        logits = logits - 0.5 * variance.log()
        squares.append((grid.unsqueeze(1) - mixture.loc[..., axis, None]).square() / variance.unsqueeze(-1))
    log_probs = logits[..., None, None] - 0.5 * (squares[0].unsqueeze(-2) + squares[1].unsqueeze(-1))
    return log_probs.logsumexp(1)
