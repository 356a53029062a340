"""Mixing fixed decisions into a guide's, while it learns."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def explore(logits: Tensor, share: Tensor, towards: float = 0.5) -> Tensor:
    """Logits of `p = e c + (1 - e) sigmoid(logits)`, exact for e = 0 too.

    A share e of the decisions is taken by a coin of probability c instead of the network. The mixture is the
    guide's distribution, so bounds stay bounds, and weights exact.

    Args:
        logits: any shape.
        share: e, a scalar in [0, 1).
        towards: c, in [0, 1]: 1/2 is a fair coin, 1 is always "present".
    """
    rest = torch.log1p(-share)
    present = torch.logaddexp((share * towards).log(), rest + F.logsigmoid(logits))
    return present - torch.logaddexp((share * (1 - towards)).log(), rest + F.logsigmoid(-logits))
