"""SQAIR's training loss in plain torch: the arithmetic of `SQAIR`, `SQAIRGuide` and `VIMCO`, without Pyro.

It uses the networks of a model and a guide, and writes out by hand everything that Pyro's statements
and the objective do with them: what a careful author would write for speed. What need not wait for the slot
before, densities above all, is computed for all slots of a frame at once; log-densities of draws come from
the noise behind them; and what model and guide have in common is computed once. `benchmarks/sqair.py`
measures what Pyro costs over it, and a test shows that losses and gradients are equal.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from whatwhere.guides import Discovery, Propagation, SQAIRGuide
from whatwhere.models import SQAIR
from whatwhere.models.components.attention import crop, sqair_squash
from whatwhere.models.components.networks import LocScale
from whatwhere.models.components.slots import TrackedSlots, concatenate
from whatwhere.models.priors import MIN_SCALE, expected_propagation

from .air_reference import image_log_prob, vimco_objective


class Slots(NamedTuple):
    """The objects of a frame; slots are the first axis."""

    latents: Tensor
    """`z_what`, `z_where` and presence side by side, zero where absent, `(N, K, B, W + 5)`."""
    memory: Tensor
    """State of the guide's temporal network, `(N, K, B, D)`."""
    prior_memory: Tensor
    """State of the propagation prior, `(N, K, B, D)`."""

    @property
    def z_what(self) -> Tensor:
        """`(N, K, B, W)`."""
        return self.latents[..., :-5]

    @property
    def z_where(self) -> Tensor:
        """`(N, K, B, 4)`."""
        return self.latents[..., -5:-1]

    @property
    def z_pres(self) -> Tensor:
        """`(N, K, B)`."""
        return self.latents[..., -1]

    def by_object(self) -> tuple[Tensor, Tensor, Tensor]:
        """Presence `(K, B, N)`, and `z_where` and `z_what`, `(K, B, N, ...)`, as the networks want them."""
        return self.z_pres.movedim(0, -1), self.z_where.movedim(0, -2), self.z_what.movedim(0, -2)


class Draw(NamedTuple):
    """A slot that the guide drew, or several, stacked to `(N, K, B, ...)`."""

    latents: Tensor
    """As in `Slots`, `(K, B, W + 5)`."""
    logit: Tensor
    """Of presence, `(K, B)`."""
    where: Tensor
    """Standard normal noise of `z_where`, `(K, B, 4)`."""
    where_scale: Tensor
    """Its factor, `(K, B, 4)`."""
    what: Tensor
    """Standard normal noise of `z_what`, `(K, B, W)`."""
    what_scale: Tensor
    """Its factor, `(K, B, W)`."""


class Phase(NamedTuple):
    """Propagation or discovery in one frame."""

    slots: Slots
    """What the guide drew."""
    log_weight: Tensor
    """log p - log q of it, `(K, B)`."""
    log_score: Tensor
    """log q of the presences, `(K, B)`."""


class Context(NamedTuple):
    """What discovery must know of propagation."""

    summary: Tensor
    """Of the propagated objects, `(..., D)`."""
    expectation: Tensor
    """How many the prior expected to go on, `(..., 1)`."""
    free: Tensor
    """Number of slots that are left, `(K, B)`."""


class SQAIRReference:
    """Negative importance-weighted bound a video, with VIMCO's gradient for the sampled presences.

    Args:
        model: generative half.
        guide: inference half; its latent encoder must be the model's.
        num_particles: K.
    """

    def __init__(self, model: SQAIR, guide: SQAIRGuide, num_particles: int = 5) -> None:
        if model.latent_encoder is not guide.latent_encoder:
            raise ValueError("`SQAIRReference` expects `model` and `guide` to share one latent encoder.")
        if not isinstance(guide.propagation, Propagation) or not isinstance(guide.discovery, Discovery):
            raise ValueError("`SQAIRReference` is that of the published propagation and discovery.")
        self.model = model
        self.guide = guide
        self.propagation, self.discovery = guide.propagation, guide.discovery
        self.num_particles = num_particles

    def __call__(self, video: Tensor) -> Tensor:
        """The mean loss of videos `(B, T, C, H, W)`."""
        log_weight, log_score = self.log_weights(video)
        return -vimco_objective(log_weight, log_score).mean()

    def log_weights(self, video: Tensor) -> tuple[Tensor, Tensor]:
        """Log-weights of particles that the guide draws, and log q of their presences, `(K, B)`."""
        model = self.model
        log_weight = log_score = video.new_zeros(self.num_particles, len(video))
        full = torch.full_like(log_weight, model.max_count)
        context = Context(video.new_zeros(model.latent_encoder.size), video.new_full((1,), -0.5), full)
        features = self.discovery.image_encoder(video)
        slots: Slots | None = None
        for t, image in enumerate(video.unbind(1)):
            if slots is None:
                phases = [self._discover(image, features[:, t], context, first=True)]
                slots = phases[0].slots
            else:
                followed, expectation = self._propagate(image, slots)
                summary = model.latent_encoder(*followed.slots.by_object())
                context = Context(summary, expectation, full - followed.slots.z_pres.sum(0))
                phases = [followed, self._discover(image, features[:, t], context, first=False)]
                slots = merge(*(phase.slots for phase in phases))
            canvas = model.decoder(*slots.by_object())
            log_weight = log_weight + image_log_prob(image, canvas, model.likelihood_scale)
            for phase in phases:
                log_weight, log_score = log_weight + phase.log_weight, log_score + phase.log_score
        return log_weight, log_score

    def _propagate(self, image: Tensor, slots: Slots) -> tuple[Phase, Tensor]:
        """Follow the objects of the frame before; the second result is the `expectation` of `Context`."""
        part, before = self.propagation, slots.z_pres
        size, triangle = part.glimpse_size, part.triangle()
        proposal = slots.z_where + 0.1 * part.proposal(slots.memory)
        mask = part.mask(slots.memory).sigmoid().unflatten(-1, (1, *size))
        seen = part.what_encoder(mask * crop(image, sqair_squash(proposal), size))
        relation = part.relation.project(torch.cat([seen.loc, slots.latents, slots.memory], -1))
        hidden, latents, draws, memories = part.relation.initial, torch.zeros_like(slots.latents[0]), [], []
        for i in range(len(before)):
            z_where, z_what, memory = slots.z_where[i], slots.z_what[i], slots.memory[i]
            hidden = part.relation(relation[i], latents, hidden)
            shift, raw_scale = part.where_head(torch.cat([hidden, z_where, memory], -1)).chunk(2, -1)
            where_scale = F.softplus(raw_scale + part.scale_bias - 1) + MIN_SCALE
            where = torch.randn_like(where_scale)
            z_where = z_where + shift + where_scale * (where @ triangle.mT)
            seen = part.what_encoder(mask[i] * crop(image, sqair_squash(z_where), size))
            new_memory = part.temporal(torch.cat([hidden, z_where, seen.loc, seen.scale], -1), memory)
            past, raw_scale = part.temporal_what(new_memory).chunk(2, -1)
            forget, ignore_seen, ignore_past = (0.9999 * part.gates(new_memory).sigmoid()).chunk(3, -1)
            what_scale = (1 - ignore_seen) * seen.scale
            what_scale = what_scale + (1 - ignore_past) * (F.softplus(raw_scale) + MIN_SCALE)
            what = torch.randn_like(what_scale)
            z_what = forget * z_what + (1 - ignore_seen) * seen.loc + (1 - ignore_past) * past
            z_what = z_what + what_scale * what
            logit = part.presence_head(torch.cat([hidden, memory, z_what], -1)).squeeze(-1)
            latents = draw_presence(logit, before[i], z_where, z_what)
            draws.append(Draw(latents, logit, where, where_scale, what, what_scale))
            memories.append(new_memory)

        identity = before  # that the prior does not look at
        prior = self.model.propagation_prior(
            TrackedSlots(before, slots.z_where, slots.z_what, slots.prior_memory, identity)
        )
        drawn = stack(draws)
        new = Slots(drawn.latents, torch.stack(memories), prior.memory)
        log_score = presence_log_prob(drawn.logit, new.z_pres, before)
        log_weight = presence_log_prob(prior.logits, new.z_pres, before) - log_score
        correlation = triangle.diagonal().abs().log().sum()  # log-determinant
        log_ratio = appearance_log_ratio(drawn, prior.where, prior.what) + correlation
        log_weight = (log_weight + new.z_pres * log_ratio).sum(0)
        expectation = expected_propagation(prior.logits.movedim(0, -1), before.movedim(0, -1))
        return Phase(new, log_weight, log_score.sum(0)), expectation

    def _discover(self, image: Tensor, features: Tensor, context: Context, first: bool) -> Phase:
        """Find new objects; `first` says whether the frame is the first."""
        part, model, shape = self.discovery, self.model, context.free.shape
        early = part.rnn.project(concatenate(features, context.summary))
        hidden, present = part.rnn.initial, torch.ones_like(context.free)
        latents = image.new_zeros(part.what_size + 5)
        latents[-1] = 1
        draws, possible = [], []
        for j in range(part.max_count):
            possible.append(present * (context.free > j))
            hidden = part.rnn(early, latents, hidden)
            loc, raw_scale = part.where_head(hidden).chunk(2, -1)
            where_scale = (F.softplus(raw_scale + part.scale_bias) + MIN_SCALE).expand(*shape, -1)
            where = torch.randn_like(where_scale)
            z_where = loc + where_scale * where
            loc, what_scale = part.what_encoder(crop(image, sqair_squash(z_where), part.glimpse_size))
            what = torch.randn_like(what_scale)
            z_what = loc + what_scale * what
            logit = part.presence_head(concatenate(hidden, z_what)).squeeze(-1)
            latents = draw_presence(logit, possible[-1], z_where, z_what)
            present = latents[..., -1]
            draws.append(Draw(latents, logit, where, where_scale, what, what_scale))

        drawn = stack(draws)
        memories = (self.guide.propagation.initial_memory, model.propagation_prior.initial_memory)
        new = Slots(drawn.latents, *(memory.expand(*drawn.logit.shape, -1) for memory in memories))
        log_score = presence_log_prob(drawn.logit, new.z_pres, torch.stack(possible)).sum(0)
        counts = model.discovery.count_prior.log_probs(context.expectation, context.free, first)
        log_count = counts.gather(-1, new.z_pres.sum(0).long().unsqueeze(-1)).squeeze(-1)
        where_prior = model.discovery.where_prior
        started = where_prior.start(concatenate(context.summary, context.expectation))
        before = torch.cat([where_prior.first_sample.expand(1, *shape, 4), new.z_where[:-1]])
        what_prior = LocScale(model.discovery.what_prior.loc, model.discovery.what_prior.scale)
        log_ratio = appearance_log_ratio(drawn, where_prior(started, before), what_prior)
        log_weight = log_count - log_score + (new.z_pres * log_ratio).sum(0)
        return Phase(new, log_weight, log_score)


def draw_presence(logit: Tensor, possible: Tensor, z_where: Tensor, z_what: Tensor) -> Tensor:
    """Draw whether a slot is present; returns its latents, zero where it is not, `(K, B, W + 5)`."""
    here = (torch.bernoulli(logit.detach().sigmoid()) * possible).unsqueeze(-1)
    return torch.cat([z_what * here, z_where * here, here], -1)


def stack(draws: list[Draw]) -> Draw:
    """The slots of a phase on a new first axis."""
    return Draw(*(torch.stack(field) for field in zip(*draws, strict=True)))


def presence_log_prob(logits: Tensor, z_pres: Tensor, possible: Tensor) -> Tensor:
    """Log-probability of presences, 0 where there is nothing to decide."""
    return -possible * F.binary_cross_entropy_with_logits(logits, z_pres, reduction="none")


def appearance_log_ratio(drawn: Draw, where: LocScale, what: LocScale) -> Tensor:
    """The difference log p - log q of place and appearance, `(N, K, B)`; q of places without correlation."""
    z_what, z_where, _ = drawn.latents.split([drawn.what.shape[-1], 4, 1], -1)
    log_ratio = normal_log_ratio(z_where, where, drawn.where, drawn.where_scale)
    return log_ratio + normal_log_ratio(z_what, what, drawn.what, drawn.what_scale)


def normal_log_ratio(value: Tensor, prior: LocScale, noise: Tensor, scale: Tensor) -> Tensor:
    """The difference log p - log q of diagonal normals at a value that q drew as `loc + scale * noise`."""
    squares = noise.square() - ((value - prior.loc) / prior.scale).square()
    return (0.5 * squares + (scale / prior.scale).log()).sum(-1)


def merge(followed: Slots, found: Slots) -> Slots:
    """The slots that are present, those followed first, then absent ones, N in all."""
    slots = Slots(*(torch.cat(pair) for pair in zip(followed, found, strict=True)))
    order = (1 - slots.z_pres).argsort(dim=0, stable=True)[: len(found.z_pres)].unsqueeze(-1)
    return Slots(*(field.gather(0, order.expand(*order.shape[:-1], field.shape[-1])) for field in slots))
