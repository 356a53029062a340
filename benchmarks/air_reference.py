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

LOG_2PI = math.log(2 * math.pi)


def normal_log_prob(value: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """Log-density of diagonal normals, summed over the last axis."""
    return (-0.5 * ((value - loc) / scale).square() - scale.log() - 0.5 * LOG_2PI).sum(-1)


def marginal_elbo_loss(model: AIR, guide: AIRGuide, images: Tensor) -> Tensor:
    """Negative ELBO a datum, summed exactly over the number of objects, one particle."""
    batch, slots = len(images), guide.max_count
    where_prior, what_prior = model.where_prior, model.what_prior
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
    canvases = torch.cat([torch.zeros_like(objects[:, :1]), objects.cumsum(1)], 1)
    errors = (images.unsqueeze(1) - canvases).square().flatten(2).sum(-1)  # errors.shape = (B, N + 1)
    pixels = math.prod(model.image_shape)
    log_likelihood = -0.5 * errors / model.likelihood_scale**2
    log_likelihood = log_likelihood - pixels * (0.5 * LOG_2PI + math.log(model.likelihood_scale))

    zero = images.new_zeros(batch, 1)
    logit = torch.stack(logits, -1)
    log_q = torch.cat([zero, F.logsigmoid(logit).cumsum(-1)], -1) + torch.cat([F.logsigmoid(-logit), zero], -1)
    log_ratio = torch.cat([zero, torch.stack(log_ratios, -1).cumsum(-1)], -1)
    elbo = (log_q.exp() * (log_likelihood + model.count_prior.log_probs() + log_ratio - log_q)).sum(-1)
    return -elbo.mean()
