"""Decisions that are taken for SQAIR's guide while it learns, see `inference.objectives.TaughtELBO`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..models.priors.counts import ABSENT_LOGIT


def hold_objects(site: dict[str, Any]) -> Tensor | None:
    """Presence in videos in which nothing enters or leaves: what the first frame has stays, nothing is new.

    Args:
        site: a statement of `SQAIRGuide`.

    Returns:
        presence after the first frame: 1 for what can be propagated and 0 for what is discovered. None for
        all other statements, which the guide decides itself.
    """
    phase, _, rest = str(site["name"]).partition("/z_pres/")
    if not rest or rest.split("/")[0] == "0":
        return None
    logits = _logits(site["fn"])
    if phase == "discovery":
        return torch.zeros_like(logits)
    return (logits > ABSENT_LOGIT).to(logits.dtype)


def _logits(presence: Any) -> Tensor:
    """Of a Bernoulli, whatever masks and expands it."""
    while not hasattr(presence, "logits"):
        presence = presence.base_dist
    logits: Tensor = presence.logits
    return logits
