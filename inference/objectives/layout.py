"""Where particles and data lie among the dimensions of a trace."""

from typing import Any, NamedTuple

from torch import Tensor

from ...models.components.plates import Plate
from .errors import SiteOutsidePlateError, SiteShapeError

Site = dict[str, Any]
"""One sample statement as Pyro records it in a trace."""

PARTICLES = "particles"
"""Name of the plate that an objective opens around model and guide."""


class Placement(NamedTuple):
    """The vectorised plates around one site."""

    batch_dim: int
    """Dimension of the batch plate, counted from the right: -1 is the last."""
    batch_size: int
    """Number of data in the batch plate."""
    inner: tuple[tuple[int, int], ...]
    """`(dimension, size)` of every other vectorised plate; these are summed."""


class Layout(NamedTuple):
    """The dimensions that every log-probability of a model/guide pair must have."""

    num_particles: int
    """K, the number of particles."""
    batch_plate: str
    """Name of the plate of independent data."""
    max_plate_nesting: int
    """Number of dimensions which the plates of the model itself take; the particles come to their left."""

    @property
    def particle_dim(self) -> int:
        """Dimension of the particle plate, counted from the right."""
        return -self.max_plate_nesting - 1

    def particle_plate(self) -> Any:
        """Returns the plate of independent particles, to be opened around model and guide."""
        return Plate(PARTICLES, self.num_particles, dim=self.particle_dim)

    def place(self, site: Site, owner: str) -> Placement:
        """Finds the plates of a site.

        Args:
            site: a sample statement of a trace.
            owner: `"model"` or `"guide"`, for the message of an error.

        Raises:
            SiteOutsidePlateError: The site is outside the batch plate or the particle plate, or the batch
                plate is a sequential loop.
        """
        batch_dim, batch_size, particles, inner = 0, 0, False, []
        for frame in site["cond_indep_stack"]:
            if frame.dim is None:
                continue
            if frame.name == self.batch_plate:
                batch_dim, batch_size = frame.dim, frame.size
            elif frame.name == PARTICLES:
                particles = True
            else:
                inner.append((frame.dim, frame.size))
        if not batch_dim or not particles:
            self._refuse(site, owner)
        return Placement(batch_dim, batch_size, tuple(inner))

    def _refuse(self, site: Site, owner: str) -> None:
        plates = [f"`{frame.name}`" for frame in site["cond_indep_stack"] if frame.name != PARTICLES]
        raise SiteOutsidePlateError(
            f"expected every site inside the vectorised plate `{self.batch_plate}`, but {owner} site "
            f"`{site['name']}` is in {', '.join(plates) or 'no plate'}: its log-probability belongs to no "
            f"single datum, and the weights would be those of the whole batch. Open "
            f'`pyro.plate("{self.batch_plate}", batch_size, dim=-1)` around it, or name the plate of the '
            f"data in `batch_plate`"
        )

    def reduce(self, log_prob: Tensor, site: Site, placement: Placement, leading: int = 0) -> Tensor:
        """Sums a log-probability over everything but particles and data.

        Args:
            log_prob: log-probability of a site, broadcastable to its plates.
            site: the site, for the message of an error.
            placement: the plates of the site.
            leading: number of dimensions allowed to the left of the plates; they are kept.

        Returns:
            Tensor of shape (..., K, B).

        Raises:
            SiteShapeError: A dimension belongs to no plate, or has another size than its plate.
        """
        shape = log_prob.shape
        rank = self.max_plate_nesting + 1
        if rank == 2 and not placement.inner and shape == (self.num_particles, placement.batch_size):
            return log_prob
        sizes = {
            self.particle_dim: self.num_particles,
            placement.batch_dim: placement.batch_size,
            **dict(placement.inner),
        }
        target = [sizes.get(dim, 1) for dim in range(-rank, 0)]
        plates, front = shape[-rank:], shape[:-rank]
        fits = (
            all(got in (1, want) for got, want in zip(reversed(plates), reversed(target), strict=False))
            and len(front) <= leading
        )
        if not fits:
            raise SiteShapeError(
                f"expected the log-probability of site `{site['name']}` to be broadcastable to "
                f"{tuple(target)}, the plates around it, got {tuple(shape)}: declare the other dimensions as "
                f"a plate or by `.to_event()`, and check `max_plate_nesting={self.max_plate_nesting}`"
            )
        log_prob = log_prob.expand(*front, *target)
        if placement.inner:
            log_prob = log_prob.sum([dim for dim, _ in placement.inner], keepdim=True)
        return log_prob.reshape(*front, self.num_particles, placement.batch_size)
