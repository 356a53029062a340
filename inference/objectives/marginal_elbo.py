"""The ELBO with the number of objects summed out."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, final

import torch
from torch import Tensor

from .base import Estimate, MultiSampleELBO, Program
from .diagnostics import summarise
from .errors import NoGradientError
from .layout import Layout, Site
from .log_weights import LogWeights, run_program, score_guide, score_model
from .presence import ForcedGuide, all_present, check_chain, check_masked, forced_guide, is_presence, prefixes
from .sites import check_pair, common_scale, needs_score, random_sites, replay
from .surrogates import log_mean_exp, pathwise, truncate, weighted


class CountTerms(NamedTuple):
    """The terms of every number of objects n = 0..N; K particles, B data."""

    log_ratio: Tensor
    """log p(n, z, x) - sum_{i<n} log q(z^i), without log q(n); shape (N + 1, K, B)."""
    log_q_count: Tensor
    """log q(n | z); shape (N + 1, K, B)."""
    log_likelihood: Tensor
    """log p(x | n, z); shape (N + 1, K, B)."""
    scale: float
    """Scale of the batch plate."""
    drawn: Callable[[Site], Tensor | None]
    """What the guide drew."""


@final
class MarginalELBO(MultiSampleELBO):
    r"""Bound for a model with a variable number of objects, exactly marginalised over that number.

    For models like AIR, in which step i draws a presence variable `z_pres/i` and, if it and all before are
    one, the latent variables `name/i`. Given the latents the number of objects n has N + 1 values, so that

    $$ E_{z^{1:N}} \sum_{n=0}^N q(n) [\log p(n, z^{\le n}, x) - \log q(n) - \sum_{i<n} \log q(z^i)] $$

    needs one run of the guide with all presence variables one, and one run of the model with the N + 1
    patterns 1..10..0 in a new leading dimension. The value is the expectation over n of the sequentially
    sampled ELBO, and the gradient is the pathwise one: no score function, no baseline. It costs N + 1
    likelihoods and canvases.

    Requirements, beyond those of `MultiSampleELBO`:

    1. The guide's sites are `z_pres/0`, `name/0`, ..., `z_pres/1`, `name/1`, ... with the steps in order and
       any order within a step; sites without index come before. Presence sites are Bernoulli variables, all
       others are reparameterised.
    2. A presence site's probability is that of one more object given all before; what follows from the value
       of an earlier presence variable is expressed by masks, which are all true here. In the model each
       presence site but the first depends on those before by its mask or its probability.
    3. The model broadcasts: presence variables have shape (N + 1, 1, 1), all other latents (K, B, ...), and
       the log-probabilities of step i are masked by presence.

    With `bound="iwae"` the bound is tighter: the log-mean-exp over particles of weights with n summed out,

    $$ w_k = \sum_n p(n, z_k^{\le n}, x) / \prod_{i<n} q(z_k^i), \quad E[w] = p(x). $$

    It does not contain q(n), which is therefore regressed on the normalised terms of the weights, as in the
    wake phase of reweighted wake-sleep, given the latents as data; this runs the guide a second time, and its
    cross-entropy is added to the loss but not part of the bound.

    `log_weights` returns these weights whatever the bound is, for `log_marginal`.

    Args:
        presence: name of the presence variable without index.
        num_particles: K.
        bound: `"elbo"`, mean over particles, or `"iwae"`.
        **options: see `MultiSampleELBO`.

    Raises:
        PresenceError: (when evaluated) A requirement on names, order or distributions is not met.
        NoGradientError: (when evaluated) Another guide site is not reparameterised.
    """

    def __init__(
        self,
        presence: str = "z_pres",
        num_particles: int = 1,
        *,
        bound: Literal["elbo", "iwae"] = "elbo",
        **options: Any,
    ) -> None:
        super().__init__(num_particles, **options)
        if bound not in ("elbo", "iwae"):
            raise ValueError(f'`bound` must be "elbo" or "iwae", got {bound!r}')
        self.presence = presence
        self.bound = bound

    def _estimate(
        self, model: Program, guide: Program, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Estimate:
        terms = self._count_terms(model, guide, args, kwargs, self._layout(), needs_gradient=True)
        log_ratio, log_q_count = terms.log_ratio, terms.log_q_count
        q = log_q_count.detach().exp()
        cost = (log_ratio - log_q_count).detach()
        elbo = weighted(q, cost)
        log_likelihood = weighted(q, terms.log_likelihood.detach())
        if self.bound == "iwae":
            bound = log_mean_exp(log_ratio.detach().logsumexp(0))
            surrogate = pathwise(log_ratio.flatten(0, 1), self.weight_floor)
            regression = self._regress_count(guide, args, kwargs, terms) * terms.scale
        else:
            bound, regression = elbo.mean(0), None
            # sum_n grad q(n) = 0, so the mean may be subtracted: differences of nats instead of hundreds of
            # nats.
            signal = truncate(q * (cost - elbo), self.weight_floor)
            surrogate = weighted(truncate(q, self.weight_floor), log_ratio) + weighted(signal, log_q_count)
            surrogate = surrogate.mean(0)
        diagnostics = summarise(bound, elbo, log_likelihood, log_ratio.logsumexp(0))
        return Estimate(bound, surrogate, terms.scale, diagnostics, regression)

    def log_weights(
        self, model: Program, guide: Program, *args: Any, num_particles: int | None = None, **kwargs: Any
    ) -> LogWeights:
        """Draws particles and returns their log-weights with the number of objects summed out.

        `log_likelihood` is its mean over n, each weighted by its share of the particle's weight.

        Args:
            model: generative program.
            guide: inference program.
            *args: arguments of both.
            num_particles: K, by default that of the objective.
            **kwargs: keyword arguments of both.

        Raises:
            ValueError: `num_particles` is not positive.
        """
        terms = self._count_terms(model, guide, args, kwargs, self._layout(num_particles))
        log_weight = terms.log_ratio.logsumexp(0)
        log_likelihood = weighted(terms.log_ratio.softmax(0), terms.log_likelihood)
        return LogWeights(log_weight, log_likelihood, torch.zeros_like(log_weight), terms.scale)

    def _count_terms(
        self,
        model: Program,
        guide: Program,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        layout: Layout,
        needs_gradient: bool = False,
    ) -> CountTerms:
        """Runs the guide with all presence variables one, and the model with all patterns."""
        guide_trace = run_program(guide, layout, args, kwargs, all_present(self.presence, layout))
        guide_sites = random_sites(guide_trace)
        if needs_gradient:
            self._check_gradients(guide_sites)
        forced = self._forced_guide(guide_sites, layout)
        drawn, patterns = (
            replay(guide_trace),
            prefixes(forced.names, forced.log_q_count, -layout.particle_dim),
        )
        model_trace = run_program(
            model, layout, args, kwargs, lambda site: patterns.get(site["name"], drawn(site))
        )
        model_sites = random_sites(model_trace)
        check_pair(model_sites, guide_sites)
        check_chain(model_sites, self.presence, layout)
        scores = score_model(model_sites, layout, leading=1)
        check_masked(model_sites, scores)
        log_p, log_likelihood = scores.total("latent", "observed"), scores.total("observed")
        assert log_p is not None
        return CountTerms(
            log_p - forced.log_q_latents,
            forced.log_q_count,
            log_p.new_zeros(()).expand(log_p.shape)
            if log_likelihood is None
            else log_likelihood.expand(log_p.shape),
            common_scale(model_sites, guide_sites),
            drawn,
        )

    def _regress_count(
        self, guide: Program, args: tuple[Any, ...], kwargs: Mapping[str, Any], terms: CountTerms
    ) -> Tensor:
        """Returns the cross-entropy of q(n | z) relative to the weights of all (n, k); shape (B,)."""

        def fixed(site: Site) -> Tensor | None:
            value = terms.drawn(site)
            return None if value is None else value.detach()

        layout = self._layout()
        sites = random_sites(run_program(guide, layout, args, kwargs, fixed))
        log_q_count = self._forced_guide(sites, layout).log_q_count
        share = terms.log_ratio.detach().flatten(0, 1).softmax(0)
        return -weighted(truncate(share, self.weight_floor), log_q_count.flatten(0, 1))

    def _forced_guide(self, sites: Sequence[Site], layout: Layout) -> ForcedGuide:
        latents = [site for site in sites if not is_presence(site["name"], self.presence)]
        return forced_guide(sites, score_guide(latents, layout), self.presence, layout)

    def _check_gradients(self, guide_sites: Sequence[Site]) -> None:
        for site in guide_sites:
            if needs_score(site) and not is_presence(site["name"], self.presence):
                raise NoGradientError(
                    f"expected reparameterised guide sites besides `{self.presence}/i`, but `{site['name']}` "
                    f"is not, and summing out the number of objects gives it no gradient: use `VIMCO`"
                )
