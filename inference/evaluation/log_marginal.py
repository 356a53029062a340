"""Estimates of the log-evidence with many particles, for evaluation."""

import math
from typing import Any

import torch
from torch import Tensor

from ...checks import at_least
from ..local_parameters import local_parameters
from ..objectives import MultiSampleELBO, Reinforce
from ..objectives.base import Program


@torch.inference_mode()
def log_marginal(
    model: Program,
    guide: Program,
    *args: Any,
    num_particles: int = 1000,
    chunk_size: int = 50,
    objective: MultiSampleELBO | None = None,
    **kwargs: Any,
) -> Tensor:
    r"""Estimates log p(x) of every datum by importance sampling.

    $$ \log \hat p(x) = \log \frac{1}{K} \sum_{k=1}^K \frac{p(x, z_k)}{q(z_k | x)}, \quad z_k \sim q(z | x) $$

    $\hat p(x)$ is unbiased, its logarithm is a lower bound in expectation that rises with K. The sum is
    accumulated over chunks of particles as a running log-sum-exp, so that memory grows with `chunk_size`, not
    with K, and the result depends on the chunks only through rounding. Not to be confused with the ELBO (the
    mean of the logarithms); numbers are comparable at equal K only.

    Parameters are those of the modules themselves, not looked up in Pyro's parameter store. A subsampling
    scale has no meaning for one datum, and is ignored.

    Args:
        model: generative program.
        guide: inference program.
        *args: arguments of both, the data.
        num_particles: K.
        chunk_size: particles that are drawn at once; the last chunk may be smaller.
        objective: its weights are used. By default every variable is sampled; `MarginalELBO` sums the number
            of objects out, which needs fewer particles. Another batch plate or plate nesting is given by it,
            too.
        **kwargs: keyword arguments of model and guide.

    Returns:
        Estimates in nats; shape (B,). An inference tensor: it takes no part in gradients.

    Raises:
        ValueError: `num_particles` or `chunk_size` is not positive.
        ObjectiveError: Model and guide do not fit together.
    """
    at_least(1, num_particles=num_particles, chunk_size=chunk_size)
    weights_of = (objective or Reinforce()).log_weights
    total: Tensor | None = None
    with local_parameters(model, guide):
        for start in range(0, num_particles, chunk_size):
            particles = min(chunk_size, num_particles - start)
            log_weight = weights_of(model, guide, *args, num_particles=particles, **kwargs).log_weight
            chunk = log_weight.logsumexp(0)
            total = chunk if total is None else torch.logaddexp(total, chunk)
    assert total is not None
    return total - math.log(num_particles)
