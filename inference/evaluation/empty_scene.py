"""What a model is worth that sees nothing at all: the least that one with objects must do better."""

from __future__ import annotations

import torch
from torch import Tensor

from ..local_parameters import local_parameters
from ..objectives.base import Program
from ..objectives.layout import Layout, Site
from ..objectives.log_weights import run_program, score_model
from ..objectives.reinforce import Reinforce
from ..objectives.sites import random_sites

__all__ = ["empty_scene_bound"]


@torch.no_grad()
def empty_scene_bound(model: Program, data: Tensor) -> Tensor:
    """The log-probability of data and of no object being there, log p(x, nothing): a bound on log p(x).

    No guide is needed: where nothing is, there is nothing else to draw. What is behind, if it is a random
    variable, is drawn from its prior: then its density does not count, and the bound holds on average.

    Args:
        model: one whose statements of presence are called `z_pres`, as `z_pres/0` or `discovery/z_pres/4/2`,
            and which masks what depends on them.
        data: its argument: B images or videos.

    Returns:
        `(B,)`, in nats.
    """
    plates = Reinforce()
    layout = Layout(1, plates.batch_plate, plates.max_plate_nesting)
    with local_parameters(model):
        trace = run_program(model, layout, (data,), {}, _absent)
    decisive = [site for site in random_sites(trace) if site["is_observed"] or _says_presence(site)]
    total = score_model(decisive, layout).total("latent", "observed")
    assert total is not None  # a model has statements
    return total[0]


def _says_presence(site: Site) -> bool:
    return "z_pres" in site["name"].split("/")


def _absent(site: Site) -> Tensor | None:
    if not _says_presence(site):
        return None
    some: Tensor = site["fn"].sample()
    return torch.zeros_like(some)
