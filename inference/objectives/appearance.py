"""What objects look like, learned where it is known where they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ...models.components.likelihood import GaussianImage
from ...models.components.networks import LocScale
from ...models.components.slots import slots_of, slots_present
from .diagnostics import Diagnostics


class Looks(Protocol):
    """What discovery of a guide offers: parameters of `z_what` of objects whose places are given."""

    def looks(self, image: Tensor, present: Tensor, z_where: Tensor) -> LocScale:
        """Parameters `(N, B, W)` from images `(B, C, H, W)`, presence `(N, B)` and places `(N, B, 4)`."""


class AppearanceELBO(nn.Module):
    r"""ELBO of single frames in which number and places of the objects are given.

    With given places $w_i$ of n objects,

    $$ E_q [\log p(x | w_{1:n}, z_{1:n})] - \sum_i KL[q(z_i | x, w_i) \| p(z)], $$

    the KL from a normal in closed form, that from a learned prior estimated. What else slots have, as depths,
    is part of $z_i$: drawn after the appearance, by what `guide` has as `further`. Only encoder and decoder
    of glimpses are run, so that a step costs a tenth of one in which objects are looked for, and they are
    what takes longest to learn. Places are drawn anew in every step, from the normals by which a guide found
    them: it will not find them more exactly later on.

    Args:
        guide: has the method `looks`, as the discovery of SQAIR's guide, and where `further` is given its
            attribute `further`, a `guides.FurtherLatents`.
        decoder: draws a frame from `z_pres`, `z_where`, `z_what` and what else there is, all with slots
            `(B, N, .)`.
        likelihood_scale: standard deviation of the pixels, divided by the square root of the weight of the
            likelihood: of a frame that stands for T of them in which an object looks the same, it is T.
        prior: of appearances, with the method `divergence`, as `models.priors.NormalPrior` and `FlowPrior`.
        further: likewise of further latent variables, by name.
    """

    def __init__(
        self,
        guide: nn.Module,
        decoder: Callable[..., Tensor],
        likelihood_scale: float,
        prior: nn.Module,
        further: Mapping[str, nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.guide: Any = guide
        self.decoder = decoder
        self.likelihood_scale = likelihood_scale
        self.prior: Any = prior
        self.further: Any = nn.ModuleDict(further or {})

    def forward(
        self, images: Tensor, present: Tensor, loc: Tensor, scale: Tensor
    ) -> tuple[Tensor, Diagnostics]:
        """The loss, and diagnostics.

        Args:
            images: `(B, C, H, W)` in [0, 1].
            present: presence of the objects, `(B, N)`.
            loc: means of their `z_where`, `(B, N, 4)`.
            scale: standard deviations, likewise.
        """
        z_where = loc + scale * torch.randn_like(scale)
        by_slot = present.movedim(-1, 0), z_where.movedim(-2, 0)
        look: LocScale = self.guide.looks(images, *by_slot)
        drawn = {"z_what": _drawn(look)}
        divergence = self.prior.divergence(look, drawn["z_what"])
        if self.further:
            for name, law in self.guide.further.laws(images, *by_slot, drawn["z_what"]).items():
                drawn[name] = _drawn(law)
                divergence = divergence + self.further[name].divergence(law, drawn[name])
        by_frame = {name: value.movedim(0, -2) for name, value in drawn.items()}
        slots = slots_present(slots_of(present, z_where=z_where, **by_frame))
        log_likelihood = GaussianImage(self.decoder(*slots), self.likelihood_scale).log_prob(images)
        kl = (divergence * by_slot[0]).sum(0)
        bound = (log_likelihood - kl).mean()
        values = (bound, log_likelihood.mean(), kl.mean(), torch.ones_like(bound))
        return -bound, Diagnostics(*(value.detach() for value in values))


def _drawn(law: LocScale) -> Tensor:
    return law.loc + law.scale * torch.randn_like(law.scale)
