"""Importance log-weights of models of sequences, frame by frame."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .base import MultiSampleELBO, Program
from .errors import FrameError
from .layout import Layout, Site
from .log_weights import ScoredTraces, run_and_score
from .reinforce import Reinforce


class FrameLogWeights(NamedTuple):
    r"""What each frame adds to the log-weights; T frames, K particles, B sequences, in nats and unscaled.

    Summed over all frames they are those of `LogWeights`. If the model's statements up to frame t describe
    $p(x_{\le t}, z_{\le t})$, as they do where it goes through the frames in their order, the sums up to t
    are the log-weights of a sequence that ends there: the mean of their exponentials estimates $p(x_{\le t})$
    without bias.
    """

    log_weight: Tensor
    """log p(x_t, z_t | past) - log q(z_t | ...); shape (T, K, B)."""
    log_likelihood: Tensor
    """The part of it that belongs to observed sites, log p(x_t | z_t, past); shape (T, K, B)."""

    def effective_sample_size(self) -> Tensor:
        r"""$1 / \sum_k \tilde w_k^2$ of the normalised weights of the frames up to each; shape (T, B).

        Between 1 and K; nothing resamples, so it tends to fall from frame to frame.
        """
        return self.log_weight.cumsum(0).softmax(1).square().sum(1).reciprocal()


def frame_of(site: Site) -> int:
    """Returns the frame that a site is in: the first part of its name, cut at `/`, that is an integer.

    So `x/4`, `propagation/z_where/4/0` and a factor `discovery/cost/4` are in frame 4: names are
    `phase/variable/t/i`, of which phase and slot may be missing. Where names are others, the statement says
    `infer={"frame": t}`, which comes before the name.

    Raises:
        FrameError: Neither tells a frame, or it is no integer of at least 0.
    """
    frame = site["infer"].get("frame")
    if frame is None:
        frame = next((int(part) for part in site["name"].split("/") if part.isdecimal()), None)
    if frame is None:
        raise FrameError(
            f"expected the name of every site to tell its frame, as `variable/t` or `variable/t/i` with "
            f'integers t and i, got `{site["name"]}`: rename it, or give it `infer={{"frame": t}}`'
        )
    if not isinstance(frame, int) or frame < 0:
        raise FrameError(
            f'expected `infer={{"frame": t}}` of site `{site["name"]}` with an integer t >= 0, got {frame!r}'
        )
    return frame


def split_by_frame(traces: ScoredTraces) -> FrameLogWeights:
    """Adds the sites of each frame up.

    There are as many frames as the greatest number of one says; one without sites adds nothing.

    Args:
        traces: a guide's draw and the model replayed on it, scored.

    Raises:
        FrameError: A site is in no frame, or in one of the model and in another of the guide; or the model
            has no sites.
    """
    if not traces.model_sites:
        raise FrameError("expected at least one sample statement in the model, got none")
    of_model, of_guide = _frames(traces.model_sites), _frames(traces.guide_sites)
    for name, frame in of_guide.items():
        if of_model.get(name, frame) != frame:
            raise FrameError(
                f"expected site `{name}` in one frame, got {of_model[name]} in the model and {frame} in the "
                f"guide"
            )
    number = 1 + max(*of_model.values(), *of_guide.values(), 0)
    of_observed = {site["name"]: of_model[site["name"]] for site in traces.model_sites if site["is_observed"]}
    log_p = {name: log_prob for name, (log_prob, _) in traces.model.by_name().items()}
    log_q = {name: log_prob for name, (log_prob, _) in traces.guide.by_name().items()}
    zeros = torch.zeros_like(next(iter(log_p.values())))
    prior, proposal = _sums(log_p, of_model, number, zeros), _sums(log_q, of_guide, number, zeros)
    return FrameLogWeights(prior - proposal, _sums(log_p, of_observed, number, zeros))


def frame_log_weights(
    model: Program,
    guide: Program,
    *args: Any,
    num_particles: int,
    objective: MultiSampleELBO | None = None,
    **kwargs: Any,
) -> FrameLogWeights:
    """Draws particles of whole sequences and returns what each frame adds to their log-weights.

    The sum over frames is what `MultiSampleELBO.log_weights` returns for the same draws. Every variable is
    sampled, and has its pathwise gradient where there is one.

    Args:
        model: generative program; `frame_of` says how its statements tell their frame.
        guide: inference program.
        *args: arguments of both.
        num_particles: K.
        objective: gives the name of the batch plate and the plate nesting, by default those of any objective.
        **kwargs: keyword arguments of both.

    Raises:
        ValueError: `num_particles` is not positive.
        FrameError: A site is in no frame, or in one of the model and in another of the guide.
        ObjectiveError: Model and guide do not fit together.
    """
    if num_particles < 1:
        raise ValueError(f"`num_particles` must be positive, got {num_particles}")
    plates = objective or Reinforce()
    layout = Layout(num_particles, plates.batch_plate, plates.max_plate_nesting)
    return split_by_frame(run_and_score(model, guide, layout, args, kwargs))


def _frames(sites: Sequence[Site]) -> dict[str, int]:
    return {site["name"]: frame_of(site) for site in sites}


def _sums(terms: Mapping[str, Tensor], frames: Mapping[str, int], number: int, zeros: Tensor) -> Tensor:
    """Sums the terms of each frame, of those names for which `frames` says one; shape (T, K, B)."""
    grouped: list[list[Tensor]] = [[] for _ in range(number)]
    for name, frame in frames.items():
        grouped[frame].append(terms[name])
    return torch.stack([torch.stack(group).sum(0) if group else zeros for group in grouped])
