"""What the estimators of the importance-weighted bound have in common."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from .base import Estimate, MultiSampleELBO, Program
from .continuous import CONTINUOUS, Continuous, draw
from .diagnostics import summarise
from .log_weights import ScoredTraces, run_and_score
from .surrogates import log_mean_exp, truncate


class ImportanceWeighted(MultiSampleELBO):
    r"""Abstract importance-weighted bound with a pathwise and a score-function gradient.

    $$ L_K = E[\log \frac{1}{K} \sum_k w_k] $$

    A subclass says by which signal $s_k$ it multiplies $\nabla \log q_{disc}(z_k)$, the score of the discrete
    variables; `continuous` says what gradient the reparameterised ones get. The two are independent of each
    other.

    Args:
        num_particles: K.
        continuous: `"pathwise"`, `"stl"` (biased for K > 1) or `"dreg"`, see
            `whatwhere.inference.objectives.continuous`.
        **options: see `MultiSampleELBO`.

    Raises:
        NoGradientError: (when evaluated) The guide has no reparameterised site, and `continuous` is not
            `"pathwise"`.
    """

    def __init__(self, num_particles: int, *, continuous: Continuous = "pathwise", **options: Any) -> None:
        super().__init__(num_particles, **options)
        if continuous not in CONTINUOUS:
            raise ValueError(f"`continuous` must be one of {CONTINUOUS}, got {continuous!r}")
        self.continuous: Continuous = continuous

    @abstractmethod
    def _signal(self, log_weight: Tensor, draw_more: Callable[[int], Tensor]) -> Tensor | None:
        """Returns what the scores of the discrete variables are multiplied by.

        Args:
            log_weight: log-weights relative to the largest of each datum, for precision: differences of
                bounds of thousands of nats are taken; detached, shape (K, B).
            draw_more: draws that many further particles without gradient, and returns their log-weights,
                relative to the same; shape (n, B).

        Returns:
            Tensor of shape (K, B), or None if there are no such scores.
        """

    def _check(self, traces: ScoredTraces) -> None:
        """Refuses a guide that the estimator is not for."""

    def _estimate(
        self, model: Program, guide: Program, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Estimate:
        traces, surrogate_of = draw(
            self.continuous, model, guide, self._layout(), args, kwargs, self.mask_score
        )
        self._check(traces)
        log_weight, log_likelihood, _, scale = traces.log_weights()
        fixed = log_weight.detach()
        bound, largest = log_mean_exp(fixed), fixed.amax(0)

        @torch.no_grad()
        def draw_more(number: int) -> Tensor:
            more = run_and_score(model, guide, self._layout(number), args, kwargs, self.mask_score)
            return more.log_weights().log_weight - largest

        signal = self._signal(fixed - largest, draw_more)
        if signal is not None:
            signal = truncate(signal, self.weight_floor)
        surrogate = surrogate_of(signal, self.weight_floor)
        return Estimate(bound, surrogate, scale, summarise(bound, log_weight, log_likelihood, log_weight))
