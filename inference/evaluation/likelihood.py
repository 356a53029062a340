"""Held-out likelihood of models of videos, whether they know objects or not.

Works with any model and guide whose statements tell their frame (`objectives.frame_weights.frame_of`).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...checks import at_least
from ..local_parameters import local_parameters
from ..objectives.base import Program
from ..objectives.frame_weights import FrameLogWeights, frame_log_weights
from .labels import check_filled, settled
from .log_marginal import log_marginal
from .report_file import json_ready

__all__ = ["LikelihoodReport", "evaluate_likelihood", "single_frames"]


@dataclass(frozen=True, kw_only=True)
class LikelihoodReport:
    """Held-out numbers of a model of videos: means over videos, nats of whole sequences.

    *Weighted* numbers average the K particles of a video with their self-normalised importance weights
    instead of equally, as the code of SQAIR's authors does. Weighted, reconstruction minus KL is no evidence
    lower bound: it exceeds `iwae` by the divergence of the weights from uniform ones, which is in
    `[0, log K]`. Where the data are impossible under a particle, likelihood and bounds are minus infinity,
    and the KL terms NaN.
    """

    videos: int
    """Number of videos."""
    frames: int
    """T, the number of frames of each."""
    particles: int
    """K, the particles of all numbers but `log_marginal`."""
    log_marginal: float
    """Estimate of log p(x): importance-weighted bound with `iwae_particles` particles."""
    iwae_particles: int
    """Number of particles of `log_marginal`."""
    iwae_videos: int
    """Number of videos that `log_marginal` is a mean of, the first ones."""
    iwae: float
    """Importance-weighted bound with K particles."""
    elbo: float
    """Single-sample evidence lower bound: `log_likelihood - kl`."""
    log_likelihood: float
    """Reconstruction term `E_q[log p(x | z)]`."""
    kl: float
    """`E_q[log q(z | x) - log p(z)]`, estimated with the same samples."""
    weighted_log_likelihood: float
    """Reconstruction term under the weighted particles."""
    weighted_kl: float
    """KL term under the weighted particles."""
    effective_sample_size: list[float]
    """Of the weights of the frames up to each of T, or, where they are independent, of each; from 1 to K."""

    def numbers(self) -> dict[str, Any]:
        """The report as nested primitives, for JSON; what is not finite becomes None."""
        numbers: dict[str, Any] = json_ready(self)
        return numbers


@torch.no_grad()
def evaluate_likelihood(
    model: Program,
    guide: Program,
    videos: Iterable[Tensor],
    *,
    particles: int = 5,
    iwae_particles: int = 100,
    iwae_videos: int | None = None,
    chunk_size: int = 10,
    independent_frames: bool = False,
) -> LikelihoodReport:
    """Evaluate a model and guide on held-out videos.

    Args:
        model: generative program.
        guide: inference program; both are called with a batch of videos.
        videos: batches `(B, T, C, H, W)` of one length T; memory is bounded by one of them times
            `chunk_size`.
        particles: K.
        iwae_particles: particles of `LikelihoodReport.log_marginal`.
        iwae_videos: number of videos for it, the first ones, by default all; with many particles it takes
            most of the time.
        chunk_size: particles that are held in memory at a time.
        independent_frames: whether frames are independent in model and guide. Then the particles of each have
            weights of their own, and log p(x) is the sum of estimates for single frames: the same quantities,
            estimated far better.

    Raises:
        ValueError: if there are no videos or frames, batches differ in length, or a number is not positive.
        NonFiniteError: if a log-weight is NaN or infinite; minus infinity counts as it is.
        ObjectiveError: if model and guide do not fit together, or a statement does not tell its frame.
    """
    at_least(
        1,
        particles=particles,
        iwae_particles=iwae_particles,
        iwae_videos=iwae_videos,
        chunk_size=chunk_size,
    )
    weights: list[FrameLogWeights] = []
    estimates: list[Tensor] = []
    left = sys.maxsize if iwae_videos is None else iwae_videos
    with local_parameters(model, guide):
        for video in videos:
            check_filled("videos", video, "(B, T, C, H, W)")
            weights.append(_draw(model, guide, video, particles, chunk_size))
            if len(weights[-1].log_weight) != len(weights[0].log_weight):
                raise ValueError(
                    f"`videos` must be of one length, but there are some of {len(weights[0].log_weight)} and "
                    f"some of {len(weights[-1].log_weight)} frames."
                )
            first = video[:left]
            left -= len(first)
            if len(first):
                estimates.append(
                    log_marginal_of_videos(
                        model, guide, first, iwae_particles, chunk_size, independent_frames
                    ).cpu()
                )
    if not weights:
        raise ValueError("`videos` are none.")
    joined = FrameLogWeights(*(torch.cat(parts, dim=-1).double() for parts in zip(*weights, strict=True)))
    return likelihood_report(joined, torch.cat(estimates), iwae_particles, independent_frames)


def single_frames(video: Tensor) -> Tensor:
    """The frames of videos `(B, T, C, H, W)` as videos of one frame, `(B T, 1, C, H, W)`."""
    return video.flatten(0, 1).unsqueeze(1)


def log_marginal_of_videos(
    model: Program, guide: Program, video: Tensor, particles: int, chunk_size: int, independent_frames: bool
) -> Tensor:
    """Estimates of log p(x) of videos `(B, T, C, H, W)`, `(B,)`; see `evaluate_likelihood`."""
    videos = single_frames(video) if independent_frames else video
    estimates = log_marginal(model, guide, videos, num_particles=particles, chunk_size=chunk_size)
    return estimates.unflatten(0, (len(video), -1)).sum(-1)


def _draw(model: Program, guide: Program, video: Tensor, particles: int, chunk_size: int) -> FrameLogWeights:
    """Weights `(T, K, B)` on the CPU."""
    chunks = [
        frame_log_weights(model, guide, video, num_particles=min(chunk_size, particles - start))
        for start in range(0, particles, chunk_size)
    ]
    return FrameLogWeights(*(torch.cat(parts, dim=1).cpu() for parts in zip(*chunks, strict=True)))


def likelihood_report(
    weights: FrameLogWeights, log_marginals: Tensor, iwae_particles: int, independent_frames: bool = False
) -> LikelihoodReport:
    """The report on weights that have been drawn.

    Args:
        weights: fields `(T, K, M)`, of M videos.
        log_marginals: estimates of log p(x) of the first videos, `(L,)`.
        iwae_particles: particles that they were made from.
        independent_frames: see `evaluate_likelihood`.

    Raises:
        NonFiniteError: if a log-weight is NaN or infinite.
    """
    settled("log_weight", weights.log_weight)
    settled("log_marginals", log_marginals)
    frames, particles, videos = weights.log_weight.shape
    log_weight, log_likelihood = (weighted_parts(x, independent_frames) for x in weights)  # (P, K, M)
    share = weight_shares(log_weight)

    def mean(values: Tensor) -> float:  # over videos
        return values.double().sum().item() / videos

    # A particle without weight does not count, whatever it is.
    weighted_likelihood, weighted = (
        mean(torch.where(share > 0, share * terms, 0.0)) for terms in (log_likelihood, log_weight)
    )

    elbo, likelihood = mean(log_weight) / particles, mean(log_likelihood) / particles
    sums = weights.log_weight if independent_frames else weights.log_weight.cumsum(0)
    ess = weight_shares(sums).square().sum(1).reciprocal()  # (T, M)
    return LikelihoodReport(
        videos=videos,
        frames=frames,
        particles=particles,
        log_marginal=log_marginals.double().mean().item(),
        iwae_particles=iwae_particles,
        iwae_videos=len(log_marginals),
        iwae=mean(log_weight.logsumexp(1) - math.log(particles)),
        elbo=elbo,
        log_likelihood=likelihood,
        kl=likelihood - elbo,
        weighted_log_likelihood=weighted_likelihood,
        weighted_kl=weighted_likelihood - weighted,
        effective_sample_size=ess.mean(-1).tolist(),
    )


def weight_shares(log_weight: Tensor) -> Tensor:
    """Self-normalised weights of particles `(P, K, M)`; equal ones where all are 0."""
    impossible = (log_weight == -torch.inf).all(1, keepdim=True)
    return torch.where(impossible, 0.0, log_weight).softmax(1)


def weighted_parts(terms: Tensor, independent_frames: bool) -> Tensor:
    """What has importance weights of its own: each frame, or the whole video.

    Args:
        terms: what each frame adds, `(T, K, M)`.
        independent_frames: see `evaluate_likelihood`.

    Returns:
        `(T, K, M)`, or the sum, `(1, K, M)`.
    """
    return terms if independent_frames else terms.sum(0, keepdim=True)
