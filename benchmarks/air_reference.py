"""AIR's training losses in plain torch: the arithmetic of `AIR`, `AIRGuide` and the objectives, without Pyro.

It uses the networks of a model and a guide, and writes out by hand everything that Pyro's statements
and the objectives do with them: what a careful author would write for speed. `benchmarks/air.py`
measures what Pyro costs over it, and a test shows that losses and gradients are equal.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from whatwhere.guides import AIRGuide
from whatwhere.models import AIR
from whatwhere.models.components.attention import air_inverse_scale, crop, paste
from whatwhere.models.priors import NormalPrior

LOG_2PI = math.log(2 * math.pi)

WEIGHT_FLOOR = 1e-20
"""Weights and learning signals below are denormal soon, and denormal numbers are slow; they become zero."""


def normal_log_prob(value: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """Log-density of diagonal normals, summed over the last axis."""
    return (-0.5 * ((value - loc) / scale).square() - scale.log() - 0.5 * LOG_2PI).sum(-1)


def image_log_prob(images: Tensor, means: Tensor, scale: Tensor) -> Tensor:
    """Log-density of independent normal pixels, summed over the last three axes."""
    images, means = torch.broadcast_tensors(images, means)
    errors = F.mse_loss(means, images, reduction="none").flatten(-3).sum(-1)
    pixels = math.prod(images.shape[-3:])
    return -0.5 * errors / scale**2 - pixels * (0.5 * LOG_2PI + scale.log())


def marginal_elbo_loss(model: AIR, guide: AIRGuide, images: Tensor) -> Tensor:
    """Negative ELBO a datum, summed exactly over the number of objects, one particle."""
    batch, slots = len(images), guide.max_count
    where_prior, what_prior = model.where_prior, model.what_prior
    assert isinstance(what_prior, NormalPrior)
    context = guide.rnn.from_context(images.flatten(1))
    state = guide.rnn.initial_state(images.flatten(1))
    latents = torch.cat([images.new_ones(batch, 1), images.new_zeros(batch, 3 + guide.what_size)], -1)
    present, logits, log_ratios, wheres, whats = images.new_ones(batch, 1), [], [], [], []
    for _ in range(slots):
        state = guide.rnn(context, latents, state)
        logit, loc, raw_scale = guide.head(state.hidden).split([1, 3, 3], -1)
        loc, scale = where_prior.loc + loc, where_prior.scale * F.softplus(raw_scale)
        z_where = loc + scale * torch.randn_like(loc)
        log_ratio = normal_log_prob(z_where, where_prior.loc, where_prior.scale)
        log_ratio = log_ratio - normal_log_prob(z_where, loc, scale)
        loc, scale = guide.encoder(crop(images, air_inverse_scale(z_where), guide.glimpse_size))
        z_what = loc + scale * torch.randn_like(loc)
        log_ratio = log_ratio + normal_log_prob(z_what, what_prior.loc, what_prior.scale)
        log_ratios.append(log_ratio - normal_log_prob(z_what, loc, scale))
        logits.append(logit.squeeze(-1))
        wheres.append(z_where)
        whats.append(z_what)
        latents = torch.cat([present, z_where, z_what], -1)

    glimpses = model.decoder(torch.stack(whats, -2))
    objects = paste(glimpses, air_inverse_scale(torch.stack(wheres, -2)), model.image_shape[1:])
    prefixes = objects.new_ones(slots + 1, slots).tril(-1)  # row n: the first n objects
    canvases = torch.einsum("mn,bnchw->bmchw", prefixes, objects)
    log_likelihood = image_log_prob(images.unsqueeze(1), canvases, model.likelihood_scale)  # (B, N + 1)
    zero = images.new_zeros(batch, 1)
    logit = torch.stack(logits, -1)
    log_q = torch.cat([zero, F.logsigmoid(logit).cumsum(-1)], -1) + torch.cat(
        [F.logsigmoid(-logit), zero], -1
    )
    log_ratio = torch.cat([zero, torch.stack(log_ratios, -1).cumsum(-1)], -1)
    elbo = (log_q.exp() * (log_likelihood + model.count_prior.log_probs() + log_ratio - log_q)).sum(-1)
    return -elbo.mean()


def vimco_loss(model: AIR, guide: AIRGuide, images: Tensor, num_particles: int = 5) -> Tensor:
    """Negative importance-weighted bound a datum, with VIMCO's gradient for the sampled presences."""
    batch, slots = len(images), guide.max_count
    where_prior, what_prior = model.where_prior, model.what_prior
    assert isinstance(what_prior, NormalPrior)
    context = guide.rnn.from_context(images.flatten(1))
    state = guide.rnn.initial_state(images.flatten(1))
    latents = torch.cat([images.new_ones(batch, 1), images.new_zeros(batch, 3 + guide.what_size)], -1)
    present = images.new_ones(num_particles, batch)
    log_score = log_weight = torch.zeros_like(present)
    presences, wheres, whats = [], [], []
    for _ in range(slots):
        state = guide.rnn(context, latents, state)
        logit, loc, raw_scale = guide.head(state.hidden).split([1, 3, 3], -1)
        logit = logit.squeeze(-1).expand(num_particles, batch)
        drawn = torch.bernoulli(logit.detach().sigmoid()) * present
        log_score = log_score - present * F.binary_cross_entropy_with_logits(logit, drawn, reduction="none")
        present, here = drawn, drawn.unsqueeze(-1)
        loc, scale = where_prior.loc + loc, where_prior.scale * F.softplus(raw_scale)
        z_where = loc + scale * torch.randn_like(loc.expand(num_particles, batch, 3))
        log_ratio = normal_log_prob(z_where, where_prior.loc, where_prior.scale)
        log_ratio = log_ratio - normal_log_prob(z_where, loc, scale)
        loc, scale = guide.encoder(crop(images, air_inverse_scale(z_where), guide.glimpse_size))
        z_what = loc + scale * torch.randn_like(loc)
        log_ratio = log_ratio + normal_log_prob(z_what, what_prior.loc, what_prior.scale)
        log_ratio = log_ratio - normal_log_prob(z_what, loc, scale)
        log_weight = log_weight + present * log_ratio
        presences.append(present)
        wheres.append(z_where * here)
        whats.append(z_what * here)
        latents = torch.cat([here, wheres[-1], whats[-1]], -1)

    z_pres = torch.stack(presences, -1)  # z_pres.shape = (K, B, N)
    glimpses = model.decoder(torch.stack(whats, -2))
    objects = paste(glimpses, air_inverse_scale(torch.stack(wheres, -2)), model.image_shape[1:])
    canvas = (z_pres.unsqueeze(-2) @ objects.flatten(-3)).view(num_particles, *images.shape)
    log_weight = log_weight + image_log_prob(images, canvas, model.likelihood_scale) - log_score
    log_weight = log_weight + model.count_prior.log_probs()[z_pres.sum(-1).long()]
    return -vimco_objective(log_weight, log_score).mean()


def vimco_objective(log_weight: Tensor, log_score: Tensor) -> Tensor:
    """The bound of each datum as a value, with VIMCO's estimate as its derivative.

    Mnih and Rezende, *Variational Inference for Monte Carlo Objectives*, 2016, equations 7 to 10.

    Args:
        log_weight: `(K, B)`.
        log_score: log-probability of the discrete variables, `(K, B)`.
    """
    fixed = log_weight.detach()
    particles = len(fixed)
    others = ~torch.eye(particles, dtype=torch.bool, device=fixed.device)  # others[k, j]: j is not k
    relative = fixed - fixed.amax(0)
    table = relative.expand(particles, *relative.shape)
    mean = table.masked_fill(~others[..., None], 0.0).sum(1) / (particles - 1)
    without = torch.where(others[..., None], table, mean.unsqueeze(1)).logsumexp(1)
    signal = relative.logsumexp(0) - without
    weight = fixed.softmax(0)
    weight = weight.masked_fill(weight < WEIGHT_FLOOR, 0.0)
    signal = signal.masked_fill(signal.abs() < WEIGHT_FLOOR, 0.0)
    surrogate = (weight * log_weight + signal * log_score).sum(0)
    bound = fixed.logsumexp(0) - math.log(particles)
    return bound + surrogate - surrogate.detach()
