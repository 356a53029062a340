"""What a model is worth that sees nothing at all: the least that one with objects must do better."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...models.components.frames import Frames
from ..local_parameters import local_parameters
from ..objectives.base import Program
from ..objectives.layout import Layout, Site
from ..objectives.log_weights import run_program, score_guide, score_model
from ..objectives.reinforce import Reinforce
from ..objectives.sites import random_sites

__all__ = ["empty_scene_bound"]


@torch.no_grad()
def empty_scene_bound(model: Program, data: Tensor, guide: Program | None = None) -> Tensor:
    """The log-probability of data and of no object being there, log p(x, nothing): a bound on log p(x).

    Where nothing is, there is nothing else to draw. What is behind, if it is a random variable, is drawn from
    its prior, or as the guide says: the density of the prior over that of what it is drawn from counts, and
    the bound holds on average.

    Args:
        model: one whose statements of presence are called `z_pres`, as `z_pres/0` or `discovery/z_pres/4/2`,
            and which masks what depends on them; those of the background are called `background/...`.
        data: its argument: B images or videos.
        guide: infers the background of the data, if the model has one.

    Returns:
        `(B,)`, in nats.
    """
    plates = Reinforce()
    layout = Layout(1, plates.batch_plate, plates.max_plate_nesting)
    behind: dict[str, Site] = {}
    background = getattr(guide, "background", None)
    if background is not None:
        with local_parameters(background):
            inferred = run_program(_background_of, layout, (background, data), {})
        behind = {site["name"]: site for site in random_sites(inferred)}

    def choose(site: Site) -> Tensor | None:
        known = behind.get(site["name"])
        return _absent(site) if known is None else known["value"]

    with local_parameters(model):
        trace = run_program(model, layout, (data,), {}, choose)
    counts = [
        site
        for site in random_sites(trace)
        if site["is_observed"] or _says_presence(site) or site["name"] in behind
    ]
    total = score_model(counts, layout).total("latent", "observed")
    assert total is not None  # a model has statements
    if behind:
        proposed = score_guide(list(behind.values()), layout).total("path", "score")
        assert proposed is not None
        total = total - proposed
    return total[0]


def _says_presence(site: Site) -> bool:
    return "z_pres" in site["name"].split("/")


def _background_of(guide: Any, video: Tensor) -> None:
    """The statements of a background's guide alone, without those of objects."""
    _, codes = guide.look(video)
    steps = (
        lambda state, t=t: (None, guide.step(t, codes, state))  # the state is the background's
        for t in range(video.shape[1])
    )
    Frames.of_data(len(video), guide.start(len(video)), steps).run()


def _absent(site: Site) -> Tensor | None:
    if not _says_presence(site):
        return None
    some: Tensor = site["fn"].sample()
    return torch.zeros_like(some)
