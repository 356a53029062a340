"""The part of the ELBO that a discrete choice can influence."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ...models.components.provisional import Provisional
from .layout import Site
from .log_weights import ScoredTraces


@torch.no_grad()
def downstream_costs(traces: ScoredTraces) -> dict[str, Tensor]:
    r"""Returns, for every guide site to be scored, the terms of log w that its value can influence.

    In the score-function gradient of the ELBO, $E[R_i \nabla \log q(z_i | z_{<i})]$, a term of $R_i$ that is
    a function only of what the guide drew before $z_i$ has expectation zero, since $E[\nabla \log q(z_i |
    z_{<i})] = 0$; it is left out to reduce variance. Which terms these are follows from the order of
    execution, for any pair:

    - log q of a guide site that ran before site i, unless it is a `Provisional` draw on which site i or
      a later one decides;
    - log p of a model site, if all latent variables that the model had met up to there, that site included,
      were drawn by the guide before site i. (That it ran before site i in the model is not enough: if the
      guide draws in another order, a variable met early by the model may have been drawn after, and because
      of, $z_i$.)

    What remains are a final piece of the model's statements and a final piece of the guide's.

    Args:
        traces: scored traces of guide and model.

    Returns:
        For each site name the cost R_i, detached; shape (K, B). A factor, which is not a draw itself, gets
        all terms.
    """
    guide_sites = _provisional_last(traces.guide_sites)
    order = {site["name"]: index for index, site in enumerate(guide_sites)}
    guide_tails = _tail_sums(guide_sites, traces.guide.by_name())
    model_tails = _tail_sums(traces.model_sites, traces.model.by_name())
    known_from = _known_from(traces.model_sites, order)
    costs = {}
    for group in traces.guide.groups:
        if group.role != "score":
            continue
        for name in group.names:
            index = 0 if guide_sites[order[name]]["is_observed"] else order[name]
            start = bisect_left(known_from, index)
            costs[name] = (
                model_tails[start] - guide_tails[index] if start < len(known_from) else -guide_tails[index]
            )
    return costs


def _provisional_last(guide_sites: Sequence[Site]) -> list[Site]:
    """Moves draws behind the statement that decides whether they are used."""
    order = {site["name"]: index for index, site in enumerate(guide_sites)}

    def known(site: Site) -> tuple[int, bool]:
        late = isinstance(site["fn"], Provisional)
        return order[site["fn"].decision.name if late else site["name"]], late

    return sorted(guide_sites, key=known)


def _tail_sums(sites: Sequence[Site], scores: Mapping[str, tuple[Tensor, Tensor]]) -> Tensor:
    """Returns for every site the sum of its own and all later log-probabilities; shape (sites, K, B)."""
    return torch.stack([scores[site["name"]][0] for site in sites]).flip(0).cumsum(0).flip(0)


def _known_from(model_sites: Sequence[Site], order: Mapping[str, int]) -> list[int]:
    """Returns for every model site the guide's index of the last draw that it can depend on."""
    latest, result = -1, []
    for site in model_sites:
        latest = max(latest, order.get(site["name"], -1) if not site["is_observed"] else -1)
        result.append(latest)
    return result
