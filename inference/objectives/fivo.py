"""The bound of a particle filter, for models of sequences: FIVO."""

from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any, ClassVar, Literal, final

import torch
from pyro import poutine
from pyro.nn import PyroModule
from torch import Tensor

from ...models.components.frames import Frames
from .base import Estimate, MultiSampleELBO, Program
from .diagnostics import summarise
from .errors import FrameError, UnequalScaleError
from .log_weights import run_and_score
from .sites import random_sites
from .surrogates import log_mean_exp, pathwise, truncate, weighted
from .vimco import control_variate

Criterion = Literal["never", "always", "ess"]
"""When particles are replaced by copies of others."""


@final
class FIVO(MultiSampleELBO):
    r"""Filtering variational objective: the expected logarithm of a particle filter's likelihood.

    K particles go through a sequence of T frames. The weight of a particle is multiplied in frame t by
    $\alpha_t = p(x_t, z_t | past) / q(z_t | \dots)$. Where the criterion is met after a frame, the mean of
    the weights is taken into the result, K ancestors are drawn with probabilities proportional to the
    weights, every particle goes on as a copy of its ancestor, and all weights are 1 again. With segments s
    between these events

    $$ \log \hat p = \sum_s \log \frac{1}{K} \sum_k \prod_{t \in s} \alpha_t^k, \quad E[\hat p] = p(x), \quad
    L = E[\log \hat p] \le \log p(x). $$

    Particles that have lost the sequence early are not carried to its end, so the bound is usually far
    tighter than that of `VIMCO`, to which it is equal where nothing is resampled; for one sequence it need
    not be.

    The gradient takes ancestors, and where they are drawn, for constants. It is *biased*, as in the paper and
    usual since:

    - the derivative of the ancestors' probabilities, $\log \hat p \, \nabla \log P(ancestors)$, is left out
      (as by Maddison et al.; it has a very large variance);
    - for a discrete variable only the segment that it is drawn in counts, with the signal of `VIMCO`. That
      its value goes on to later segments through copies is a matter of ancestors, too, and left out;
    - with `"ess"` the end of a segment depends on its draws, so that VIMCO's control variates $L_{s,-k}$
      do, which adds $-E \sum_s \sum_k L_{s,-k} \nabla \log q_{disc}(z_s^k)$.

    What is estimated, but for the last term, is

    $$ \sum_s E \Big[\nabla E_{z_s}[\log \frac{1}{K} \sum_k \prod_{t \in s} \alpha_t^k]\Big], $$

    where the inner gradient is that of segment s for given ancestors; reparameterised variables and recurrent
    states of earlier segments have their part in it along the lines of ancestors. Without resampling the
    gradient is unbiased.

    Model and guide are run frame by frame, in turn, which needs a method `unroll` of both, see
    `models.components.frames.Frames`; `SQAIR` has it. Everything that a program carries from frame to frame
    is in its state, and all of that is copied; nothing of a model's own is needed. Which data are resampled
    is no decision in Python: nothing is read back from the device. The last frame is never followed by
    resampling.

    Reference: Maddison, Lawson, Tucker, Heess, Norouzi, Mnih, Doucet and Teh, Filtering Variational
    Objectives, 2017, algorithm 1; likewise Naesseth et al. and Le et al., 2018.

    `log_weights` returns those of plain importance sampling. Of the diagnostics, the effective sample size is
    that of the last segment.

    Args:
        num_particles: K >= 2.
        resample: `"never"`; `"always"`, after each frame; or `"ess"`, for each sequence apart where the
            effective sample size is below K / 2, which that of two particles never is.
        **options: see `MultiSampleELBO`; `max_plate_nesting` must be 1.

    Raises:
        FrameError: (when evaluated) Model or guide has no frames, they have not the same number, or the state
            of one of them cannot be copied.
    """

    min_particles: ClassVar[int] = 2

    def __init__(self, num_particles: int = 5, *, resample: Criterion = "ess", **options: Any) -> None:
        super().__init__(num_particles, **options)
        if resample not in ("never", "always", "ess"):
            raise ValueError(f'`resample` must be "never", "always" or "ess", got {resample!r}')
        if self.max_plate_nesting != 1:
            raise ValueError(
                f"`max_plate_nesting` must be 1 for `FIVO`, which copies states along the dimensions "
                f"(particles, data), got {self.max_plate_nesting}"
            )
        self.resample: Criterion = resample

    def _estimate(
        self, model: Program, guide: Program, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Estimate:
        of_model, of_guide = Stepper(model, "model", args, kwargs), Stepper(guide, "guide", args, kwargs)
        last = len(of_model.steps) - 1
        if last < 0 or len(of_guide.steps) != last + 1:
            raise FrameError(
                f"expected as many frames in the guide as in the model, and at least one, got "
                f"{len(of_guide.steps)} and {last + 1}"
            )
        layout, frames = self._layout(), []
        bound: Tensor | float = 0.0
        surrogate: Tensor | float = 0.0
        log_weight: Tensor | float = 0.0
        log_score: Tensor | float = 0.0
        for t in range(last + 1):
            traces = run_and_score(
                partial(of_model.step, t), partial(of_guide.step, t), layout, (), {}, self.mask_score
            )
            frames.append(traces.log_weights())
            log_weight = log_weight + frames[-1].log_weight
            log_score = log_score + frames[-1].log_score
            ends = None if t == last else self._where_to_resample(log_weight.detach())
            if t < last and ends is None:
                continue
            value, gradient = self._segment(log_weight, log_score)
            if ends is None:
                bound, surrogate = bound + value, surrogate + gradient
                continue
            bound = bound + torch.where(ends, value, 0.0)
            surrogate = surrogate + torch.where(ends, gradient, 0.0)
            unchanged = torch.arange(self.num_particles, device=ends.device).unsqueeze(-1)
            ancestors = torch.where(ends, draw_ancestors(log_weight.detach()), unchanged)
            of_model.copy(ancestors)
            of_guide.copy(ancestors)
            log_weight, log_score = (
                torch.where(ends, 0.0, log_weight),
                torch.where(ends, 0.0, log_score),
            )
        scales = {frame.scale for frame in frames}
        if len(scales) > 1:
            raise UnequalScaleError(f"expected one scale for all frames, got {sorted(scales)}")
        assert isinstance(bound, Tensor)
        assert isinstance(surrogate, Tensor)
        assert isinstance(log_weight, Tensor)
        elbo = torch.stack([frame.log_weight.detach() for frame in frames]).sum(0)
        log_likelihood = torch.stack([frame.log_likelihood.detach() for frame in frames]).sum(0)
        return Estimate(bound, surrogate, frames[0].scale, summarise(bound, elbo, log_likelihood, log_weight))

    def _where_to_resample(self, log_weight: Tensor) -> Tensor | None:
        """Returns for which data the particles are resampled, shape (B,), or None for none."""
        if self.resample == "never":
            return None
        if self.resample == "always":
            return torch.ones_like(log_weight[0], dtype=torch.bool)
        effective = log_weight.softmax(0).square().sum(0).reciprocal()
        return effective < self.num_particles / 2

    def _segment(self, log_weight: Tensor, log_score: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the bound of a segment and its surrogate, which are those of `VIMCO`; shape (B,)."""
        fixed = log_weight.detach()
        relative = fixed - fixed.amax(0)
        signal = log_mean_exp(relative) - control_variate(relative, "geometric")
        score = weighted(truncate(signal, self.weight_floor), log_score)
        return log_mean_exp(fixed), pathwise(log_weight, self.weight_floor) + score


def draw_ancestors(log_weight: Tensor) -> Tensor:
    """Draws the ancestor of every particle, independently and in proportion to the weights.

    Args:
        log_weight: log-weights; shape (K, B).

    Returns:
        Indices of particles, shape (K, B). No value is read back from the device, and weights that are no
        numbers, which a trainer is to find, raise nothing.
    """
    cumulative = log_weight.softmax(0).cumsum(0).T.contiguous()  # cumulative.shape = (B, K)
    point = torch.rand_like(cumulative) * cumulative[:, -1:]
    return torch.searchsorted(cumulative, point, right=True).clamp(max=len(log_weight) - 1).T


class Stepper:
    """One program, run a frame at a time."""

    def __init__(self, program: Program, role: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        # `ObjectiveModule` wraps a Pyro module so that reading its parameters is no Pyro statement.
        wrapped = isinstance(program, partial)
        owner: Any = program.args[0] if isinstance(program, partial) and program.args else program
        if not callable(getattr(owner, "unroll", None)):
            name = getattr(owner, "__name__", type(owner).__name__)
            raise FrameError(
                f"expected a {role} that can be run frame by frame, with a method `unroll` that returns "
                f"`whatwhere.models.components.frames.Frames`, but `{name}` has none: give it one, or use "
                f"`VIMCO` or `IWAE`, whose weights are those of whole sequences"
            )
        self.role = role
        self._context = (
            owner._pyro_context if isinstance(owner, PyroModule) and not wrapped else nullcontext()
        )
        with self._context, poutine.trace() as early:
            frames: Frames = owner.unroll(*args, **kwargs)
        if statements := random_sites(early.trace):
            raise FrameError(
                f"expected every sample statement of the {role} in a frame, but `unroll` itself makes "
                f"`{statements[0]['name']}`, which would have no part in the weights"
            )
        self.steps, self.state = frames.steps, frames.state

    def step(self, t: int) -> Any:
        """Runs the statements of frame t, and returns what it says."""
        with self._context:
            said, self.state = self.steps[t](self.state)
        return said

    def copy(self, ancestors: Tensor) -> None:
        """Makes every particle's state a copy of its ancestor's; `ancestors` has shape (K, B)."""
        self.state = self._copied(self.state, ancestors)

    def _copied(self, state: Any, ancestors: Tensor) -> Any:
        if isinstance(state, Tensor):
            return self._copied_tensor(state, ancestors)
        if isinstance(state, tuple) and hasattr(state, "_fields"):
            return type(state)(*(self._copied(each, ancestors) for each in state))
        if isinstance(state, (tuple, list)):
            return type(state)(self._copied(each, ancestors) for each in state)
        if isinstance(state, dict):
            return {key: self._copied(each, ancestors) for key, each in state.items()}
        if state is None or isinstance(state, (int, float, str)):
            return state
        raise FrameError(
            f"expected tensors, numbers, tuples, lists and dictionaries in the state of the {self.role}, got "
            f"a `{type(state).__name__}`, which cannot be copied for particles"
        )

    def _copied_tensor(self, state: Tensor, ancestors: Tensor) -> Tensor:
        num_particles, batch = ancestors.shape
        if state.dim() < 2 or state.shape[0] == 1:
            return state
        if state.shape[0] != num_particles or state.shape[1] not in (1, batch):
            raise FrameError(
                f"expected tensors in the state of the {self.role} with leading dimensions (particles, "
                f"data), {(num_particles, batch)}, after a frame, got shape {tuple(state.shape)}"
            )
        index = ancestors * batch + torch.arange(batch, device=ancestors.device)
        flat = state.expand(-1, batch, *state.shape[2:]).flatten(0, 1)
        return flat.index_select(0, index.flatten()).unflatten(0, (num_particles, batch))
