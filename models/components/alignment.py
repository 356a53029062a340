r"""Alignment of a picture with an image by Gauss-Newton steps, given a normal prior of the place.

The energy of a place z, a `z_where` with coords (s, t), for a picture g and an observed image I is

$$ E(z) = \frac{1}{2 \sigma^2} \int |I(s u + t) - g(u)|^2 + \frac12 \sum_k \frac{(z_k - m_k)^2}{\tau_k^2}, $$

the negative log-posterior of z if all else is known. With the residual $r(u) = I(s u + t) - g(u)$, whose
derivative in z is that of the picture where the two agree, $J = \partial r / \partial z \approx (u \odot
\nabla g / s, \nabla g / s) \, \partial (s, t) / \partial z$ (Lucas and Kanade, 1981; that the gradient may be
the template's, which is computed once, is Baker and Matthews, 2004), a step solves the *normal equations*

$$ (J J^T / \sigma^2 + \Lambda) \, \Delta z = -(J r / \sigma^2 + \Lambda (z - m)), \quad \Lambda = diag(1 /
\tau^2), $$

in which the prior is one more observation. Sizes that have limits stay within them: one that is at its limit
and would go beyond is left out of the equations; a width that goes by the height is cut after them. The
matrix on the left is the curvature of E at its minimum, so `N(z, (J J^T / sigma^2 + Lambda)^-1)` is the
Laplace approximation of the posterior.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .attention import crop
from .constants import constant
from .networks import LocScale
from .template_matching import sample_area
from .windows import SquashedWindows

MOST_SAMPLES = 2.5
"""Greatest shift of a step in samples of the glimpse: linearisation holds no further."""

MOST_SIZE = 0.25
"""Greatest change of a size logit in a step."""

OUTLIER = 0.7
"""Residuals are clipped here: what is another object's must not pull."""


class NormalEquations(NamedTuple):
    """`matrix @ step = right`."""

    matrix: Tensor
    """Curvature of the energy, `(R, D, D)`."""
    right: Tensor
    """Minus its gradient, `(R, D)`."""

    def solve(self) -> Tensor:
        """The step, `(R, D)`."""
        step: Tensor = torch.linalg.solve_ex(self.matrix, self.right.unsqueeze(-1))[0]
        return step.squeeze(-1)

    def without(self, fixed: Tensor) -> NormalEquations:
        """The same where some components `(R, D)`, 0 or 1, do not change."""
        free = 1 - fixed
        matrix = self.matrix * free.unsqueeze(-1) * free.unsqueeze(-2) + torch.diag_embed(fixed)
        return NormalEquations(matrix, self.right * free)


def normal_equations(
    jacobian: Tensor, residual: Tensor, weight: Tensor, precision: Tensor, where: Tensor, prior: LocScale
) -> NormalEquations:
    """Those of a weighted least-squares problem with a normal prior.

    Args:
        jacobian: derivative of each residual, `(R, D, P)`.
        residual: times its weight, `(R, P)`.
        weight: of each residual, `(R, P)`.
        precision: of a residual of weight 1, `(R,)`.
        where: the present value, `(R, D)`.
        prior: of the value, `(R, D)`.
    """
    prior_precision = prior.scale.square().reciprocal()
    scaled = jacobian * precision[:, None, None]
    matrix = (scaled * weight.unsqueeze(1)) @ jacobian.mT + torch.diag_embed(prior_precision)
    gradient = (scaled @ residual.unsqueeze(-1)).squeeze(-1) + prior_precision * (where - prior.loc)
    return NormalEquations(matrix, -gradient)


class Aligned(NamedTuple):
    """Where pictures fit best."""

    where: Tensor
    """`z_where`, `(R, 4)`."""
    curvature: Tensor
    """Of the energy there, `(R, 4, 4)`: the inverse covariance of the Laplace approximation."""
    seen: Tensor
    """Crop of the observation there, `(R, C + 1, h, w)`."""
    area: Tensor
    """Area of a sample of the crop in pixels, `(R,)`."""


def align(
    observed: Tensor,
    template: Tensor,
    where: Tensor,
    prior: LocScale,
    windows: SquashedWindows,
    scale: float,
    steps: int = 3,
) -> Aligned:
    """Move pictures to the nearest minimum of the energy.

    Args:
        observed: observation `(R, C + 1, H, W)`, see `template_matching.observe`.
        template: pictures g `(R, C, h, w)`.
        where: first `z_where`, `(R, 4)`; a minimum is found from a few samples away.
        prior: m and tau, `(R, 4)`.
        windows: what `z_where` means.
        scale: sigma, standard deviation of the pixels.
        steps: number of steps.
    """
    size = template.shape[-2], template.shape[-1]
    basis, where = _basis(template), windows.within(where)
    for step in range(steps + 1):
        coords = windows(where)
        seen = crop(observed, coords, size)
        area = sample_area(coords, observed, template)
        weight = seen[:, -1:]
        residual = (seen[:, :-1] - weight * template).clamp(-OUTLIER, OUTLIER)
        slope = windows.slope(coords)
        equations = normal_equations(
            basis * (slope / coords[:, :2].repeat(1, 2)).unsqueeze(-1),
            residual.flatten(1),
            weight.expand_as(residual).flatten(1),
            area / scale**2,
            where,
            prior,
        )
        if step < steps:
            pitch = coords[:, :2] * constant((2 / (size[1] - 1), 2 / (size[0] - 1)), coords)
            most = torch.cat([torch.full_like(pitch, MOST_SIZE), MOST_SAMPLES * pitch / slope[:, 2:]], dim=-1)
            move = equations.solve()
            if windows.limited:
                # A size at its limit that would go beyond stays, and the rest goes where it fits best then.
                beyond = (windows.within(where + move) == where) & (move != 0)
                move = equations.without(beyond.to(where.dtype)).solve()
            where = windows.within(where + move.clamp(-most, most))
    return Aligned(where, equations.matrix, seen, area)


def _basis(template: Tensor) -> Tensor:
    """Derivatives of a picture in its own coordinates, times the position for the sizes, `(R, 4, C h w)`."""
    height, width = template.shape[-2:]
    padded = F.pad(template, (1, 1, 1, 1))
    along_x = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) * ((width - 1) / 4)
    along_y = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) * ((height - 1) / 4)
    v, u = (torch.linspace(-1, 1, n, device=template.device, dtype=template.dtype) for n in (height, width))
    moves = [u * along_x, v.unsqueeze(-1) * along_y, along_x, along_y]
    return torch.stack([move.flatten(1) for move in moves], dim=1)
