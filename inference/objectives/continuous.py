r"""The gradient of reparameterised guide variables in an importance-weighted bound: three estimators.

Write $z_k = (c_k, d_k)$ for the draws of particle k: $c_k = T(\epsilon_k; \phi)$ reparameterised, $d_k$
discrete; $w_k = p_\theta(x, z_k) / q_\phi(z_k | x)$, $\tilde w_k = w_k / \sum_j w_j$, and $s_k$ for the
learning signal that the estimator of the discrete variables gives particle k (`VIMCO`: $L_K - L_{-k}$). Below
$\partial_\phi$ is the derivative in the parameters for given values z, $\partial_c$ that in the values for
given parameters, and d the total derivative, in which c moves with $\phi$ and d is held fixed. The model's
parameters always get $E[\sum_k \tilde w_k \partial_\theta \log p_\theta(x, z_k)]$; the guide's get

- `"pathwise"` (Burda et al., 2016, equation 8; with discrete variables Mnih and Rezende, 2016):

  $$ E \sum_k \Big[\tilde w_k \frac{d \log w_k}{d \phi} + s_k \frac{d \log q(d_k)}{d \phi}\Big] = \nabla_\phi
  L_K $$

  Unbiased. It contains $-\tilde w_k \partial_\phi \log q(c_k)$, whose variance remains where the guide is the
  posterior, and whose signal-to-noise ratio falls as $1 / \sqrt K$.

- `"stl"`, sticking the landing (Roeder, Wu and Duvenaud, 2017): that term is left out. Unbiased
  for K = 1, *biased* for K > 1, because under the normalised weights its expectation is not zero (Tucker et
  al., 2019). What it estimates is

  $$ \nabla_\phi L_K + E \sum_k \tilde w_k \partial_\phi \log q(c_k). $$

- `"dreg"`, doubly reparameterised (Tucker, Lawson, Gu and Maddison, 2019, section 3): that term is
  reparameterised once more. With discrete variables in between, of which the paper does not speak,

  $$ E \sum_k \Big[\tilde w_k^2 \, \partial_c \log w_k \frac{dc_k}{d\phi} + (s_k - \tilde w_k) \frac{d \log
  q(d_k)}{d\phi}\Big] = \nabla_\phi L_K. $$

  It follows from $E[f \partial_\phi \log q(c)] = E[\partial_c f \frac{dc}{d\phi} + f \, \partial_c \log q(d)
  \frac{dc}{d\phi}]$ for $f = L_K - \tilde w_k$, since $\partial_c f = \tilde w_k^2 \partial_c \log w_k$.
  Unbiased for every K, equal to `"stl"` for K = 1 and without discrete variables, and of vanishing variance
  where the guide is the posterior.

In a guide that draws one variable given another, detaching a distribution's parameters would cut the way
from the earlier *value* to the later density too, and give neither estimator: $\partial_c$ has to go through
the guide, $\partial_\phi$ must not go through the values. Both derivatives are taken in the graph of a single
run, which has a gate behind every draw of the guide:

1. With closed gates, the derivative in every draw of $-\sum_k \tilde w_k \log q(c_k)$ for `"stl"`, and of
   $-\sum_k \tilde w_k^2 \log q(c_k, d_k)$ for `"dreg"`. It goes through networks of the guide from draws to
   densities; the model and the parameters have no part in it, so it is a fraction of a backward pass.
2. With open gates, the surrogate: what was found, times the draws, and the terms with $p$ and $q(d_k)$, as
   with `"pathwise"`. For `"dreg"` a second gate, before the model's use of a draw, multiplies gradients by
   $\tilde w_k$: the model's parameters have the weight $\tilde w_k$, and the draws $\tilde w_k^2$. This needs
   what a plate of data promises: a draw is in the log-probability of its own particle and datum alone.

A factor in the guide (`pyro.factor(..., has_rsample=True)`) is no density of a draw: it is part of the
weight, and its derivative is kept in all three. A draw whose density is masked, as one made and then not
used, has no such term to be left out or reparameterised: it keeps the way through $(s_k - \tilde w_k) \log
q(d_k)$, by which it had a part in the decision, alone.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor

from .baselines import value_mask
from .errors import NoGradientError
from .layout import Layout, Site
from .log_weights import ScoredTraces, run_and_score
from .sites import needs_score
from .surrogates import pathwise, truncate, weighted

Continuous = Literal["pathwise", "stl", "dreg"]
"""Name of an estimator for reparameterised variables."""

CONTINUOUS = ("pathwise", "stl", "dreg")


class Draw(NamedTuple):
    """A scored draw, and the way to the surrogate of its gradient."""

    traces: ScoredTraces
    """Guide and model."""
    surrogate: Callable[[Tensor | None, float], Tensor]
    """Function of the learning signals, shape (K, B), or None for none, and of the weight floor; returns
    shape (B,). To be called once."""


def draw(
    continuous: Continuous,
    model: Callable[..., Any],
    guide: Callable[..., Any],
    layout: Layout,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    mask_score: bool,
) -> Draw:
    """Runs and scores guide and model, and prepares the gradient of their variables.

    Raises:
        NoGradientError: The guide has no reparameterised variable, and `continuous` is for those.
        ObjectiveError: Model and guide do not fit together.
    """
    if continuous == "pathwise":
        traces = run_and_score(model, guide, layout, args, kwargs, mask_score)
        return Draw(traces, lambda signal, floor: _pathwise(traces, signal, floor))
    gates = _Gates()
    with gates:
        traces = run_and_score(model, guide, layout, args, kwargs, mask_score)
    _check_any_reparameterised(traces, continuous)
    if not gates.drawn:  # without gradients, or there is nothing to learn
        return Draw(traces, lambda signal, floor: _pathwise(traces, signal, floor))
    return Draw(traces, lambda signal, floor: _gated(continuous, traces, gates, layout, signal, floor))


def _pathwise(traces: ScoredTraces, signal: Tensor | None, floor: float) -> Tensor:
    log_weight, _, log_score, _ = traces.log_weights()
    surrogate = pathwise(log_weight, floor)
    return surrogate if signal is None else surrogate + weighted(signal, log_score)


def _gated(
    continuous: Continuous,
    traces: ScoredTraces,
    gates: "_Gates",
    layout: Layout,
    signal: Tensor | None,
    floor: float,
) -> Tensor:
    log_weight, _, log_score, _ = traces.log_weights()
    log_p, log_q = traces.model.total("latent", "observed"), traces.guide.total("path")
    discrete, factor = traces.guide.total("score"), _factors(traces)
    assert log_p is not None
    assert log_q is not None
    weight = truncate(log_weight.detach().softmax(0), floor)
    moved = weight if continuous == "stl" else truncate(weight.square(), floor)
    sites = {site["name"]: site for site in traces.guide_sites if site["name"] in gates.drawn}
    inner = -weighted(moved, log_q)  # factors are in it, and the surrogate has them with the other weight
    surrogate = weighted(weight, log_p)
    if signal is not None:
        surrogate = surrogate + weighted(signal, log_score)
    if discrete is not None:
        surrogate = surrogate - weighted(weight, discrete)
        if continuous == "dreg":
            inner = inner - weighted(moved, discrete)
    if factor is not None:
        inner = inner + weighted(weight, factor)
        surrogate = surrogate - weighted(weight, factor)
    if inner.requires_grad:
        slopes = gates.slopes(inner, [site["value"] for site in sites.values()])
        for site, slope in zip(sites.values(), slopes, strict=True):
            if slope is not None:
                moves = _where_it_counts(slope, site) * gates.drawn[site["name"]]
                surrogate = surrogate + _per_datum(moves, site, layout)
    if continuous == "dreg":
        share = torch.where(moved == 0, 0.0, weight)
        gates.shares.update({name: _like_draw(share, site, layout) for name, site in sites.items()})
    return surrogate


def _factors(traces: ScoredTraces) -> Tensor | None:
    """Sum of the guide's reparameterised factors; shape (K, B), or None if there are none."""
    by_name = traces.guide.by_name()
    total: Tensor | None = None
    for site in traces.guide_sites:
        if site["is_observed"] and not needs_score(site):
            factor = by_name[site["name"]][0]
            total = factor if total is None else total + factor
    return total


def _where_it_counts(slope: Tensor, site: Site) -> Tensor:
    """Zero for draws whose log-probability is masked: there is no density to be reparameterised once more."""
    mask = value_mask(site)
    if isinstance(mask, bool):
        return slope if mask else torch.zeros_like(slope)
    return slope.masked_fill(~mask, 0.0)


def _per_datum(values: Tensor, site: Site, layout: Layout) -> Tensor:
    """Sums over everything but the data; returns shape (B,)."""
    batch_dim = values.dim() - site["fn"].event_dim + layout.place(site, "guide").batch_dim
    return values.sum([dim for dim in range(values.dim()) if dim != batch_dim])


def _like_draw(share: Tensor, site: Site, layout: Layout) -> Tensor:
    """Gives a tensor of shape (K, B) the dimensions of a draw; other plates' and events' are of size 1."""
    value, event_dim = site["value"], site["fn"].event_dim
    shape = [1] * value.dim()
    shape[layout.particle_dim - event_dim], shape[layout.place(site, "guide").batch_dim - event_dim] = (
        share.shape
    )
    return share.reshape(shape)


def _check_any_reparameterised(traces: ScoredTraces, continuous: Continuous) -> None:
    if all(needs_score(site) or site["is_observed"] for site in traces.guide_sites):
        raise NoGradientError(
            f'expected at least one reparameterised guide site, because `continuous="{continuous}"` is an '
            f'estimator for those, got none: use `continuous="pathwise"`, which leaves discrete sites to the '
            f"score function alone"
        )


class _Gates(Messenger):
    """Puts a gate behind every reparameterised draw, before the program goes on and a trace records it.

    While the gates are open a gradient goes through; while they are closed none does. A model that is
    replayed is given what is behind the gate of the guide, and has another, which multiplies gradients.
    """

    def __init__(self) -> None:
        super().__init__()
        self.open = True
        self.drawn: dict[str, Tensor] = {}
        """The draws themselves, in front of their gates, by the name of the site."""
        self.shares: dict[str, Tensor] = {}
        """What the model's gates multiply by; those without an entry leave gradients as they are."""

    def _pyro_post_sample(self, msg: Any) -> None:
        value, name = msg["value"], msg["name"]
        if msg["is_observed"] or not value.requires_grad:
            return
        if name in self.drawn:
            msg["value"] = _ModelGate.apply(value, self, name)
        else:
            self.drawn[name] = value
            msg["value"] = _Gate.apply(value, self)

    def slopes(self, of: Tensor, behind: list[Tensor]) -> tuple[Tensor | None, ...]:
        """Derivatives of the sum of `of` in values behind the gates, each with the others fixed."""
        self.open = False
        try:
            return torch.autograd.grad(of.sum(), behind, retain_graph=True, allow_unused=True)
        finally:
            self.open = True


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, gates: _Gates) -> Tensor:
        ctx.gates = gates
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None]:
        return grad if ctx.gates.open else None, None


class _ModelGate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, gates: _Gates, name: str) -> Tensor:
        ctx.gates, ctx.name = gates, name
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        share = ctx.gates.shares.get(ctx.name)
        return grad if share is None else grad * share, None, None
