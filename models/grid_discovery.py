"""What is new in a frame, all of it at once: each cell of a grid may hold an object."""

from __future__ import annotations

import pyro
from torch import Tensor

from .components.cells import Cells
from .components.presence_vectors import ExchangeablePresence
from .components.slots import Slots, slots_of, slots_present
from .discovery import NewObjects
from .priors.counts import NormalPrior, slots_law
from .priors.discovery import DiscoveryCountPrior, FixedCountPrior, FixedWherePrior
from .priors.flow import FlowPrior


class GridDiscovery(NewObjects):
    r"""New objects in the cells of a grid, in place of `ChainDiscovery`: no slot waits for the one before.

    The number of new objects has the same prior as in the chain, and any cells may hold them, see
    `ExchangeablePresence`; each is in its cell, and has its size, independent of the others. The statements
    of frame t are few, and as many for one object as for a hundred:

    1. `discovery/z_pres/t`, of all K cells, `(K,)`;
    2. `discovery/z_where/t`, of the N slots that the cells with an object are given in their order, in the
       cell, see `Cells`, `(N, 4)`; absent slots have no part in its density;
    3. `discovery/z_what/t`, `(N, W)`, and so for other variables, such as `discovery/z_depth/t`.

    Grids are those of SPAIR (Crawford and Pineau, *Spatially Invariant Unsupervised Object Detection with
    Convolutional Neural Networks*, 2019), SCALOR (Jiang et al., 2020) and SPACE (Lin et al., 2020), whose
    presences are relaxed to numbers between 0 and 1, and whose selection of the N most present is in no
    density; here they are 0 or 1, and all is.

    Args:
        cells: the grid, at least as many as slots.
        count_prior: distribution of the number of new objects, up to `max_count`.
        where_prior: sizes, as in frames, and places in cells.
        what_size: W, components of `z_what`, whose prior is a standard normal by default.
        what_prior: of appearances; with it `what_size` is not used.
        further: priors of other latent variables, by name, such as `z_depth`.
    """

    def __init__(
        self,
        cells: Cells,
        count_prior: DiscoveryCountPrior | FixedCountPrior,
        where_prior: FixedWherePrior,
        what_size: int = 50,
        what_prior: NormalPrior | FlowPrior | None = None,
        **further: NormalPrior,
    ) -> None:
        super().__init__(count_prior, where_prior, what_size, what_prior, **further)
        if len(cells) < self.max_count:
            raise ValueError(
                f"`cells` must be at least as many as slots, {self.max_count}, but are {len(cells)}."
            )
        self.cells = cells

    def forward(self, t: int, summary: Tensor, expectation: Tensor, free: Tensor, first: bool) -> Slots:
        """The statements of what is new in frame `t`; places come out as those of frames.

        Args:
            t: number of the frame.
            summary: of the propagated objects, which is not used.
            expectation: how many the prior expected to stay, `(..., 1)`.
            free: number of free slots, `(...)`; more cannot be discovered.
            first: whether it is the first frame, in which nothing is propagated.
        """
        counts = self.count_prior.log_probs(expectation, free, first=first)
        present = pyro.sample(f"discovery/z_pres/{t}", ExchangeablePresence(counts, len(self.cells)))
        chosen = self.cells.choose(present, self.max_count)
        laws = {"z_where": self.where_prior(summary, summary)}
        laws |= {name: prior.law for name, prior in self._others().items()}
        values = {}
        for name, law in laws.items():
            values[name] = pyro.sample(f"discovery/{name}/{t}", slots_law(law, chosen.z_pres))
        centres = chosen.of(self.cells.centres(values["z_where"]))
        values["z_where"] = self.cells.places(values["z_where"], centres)
        return slots_present(slots_of(chosen.z_pres, **values))

    def nothing(self, t: int, absent: Tensor) -> dict[str, Tensor]:
        """Values of the statements of frame `t` by which nothing is new, as of `ChainDiscovery`."""
        return {f"discovery/z_pres/{t}": absent.unsqueeze(-1).expand(*absent.shape, len(self.cells))}
