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

    No guide is needed: where nothing is, there is nothing else to draw.

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
    total = score_model(random_sites(trace), layout).total("latent", "observed")
    assert total is not None  # a model has statements
    return total[0]


def _absent(site: Site) -> Tensor | None:
    if "z_pres" not in site["name"].split("/"):
        return None
    some: Tensor = site["fn"].sample()
    return torch.zeros_like(some)
