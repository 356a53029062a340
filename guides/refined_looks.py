r"""Looks that are corrected by what the decoder's own picture leaves of the frame.

An encoder that sees a glimpse once is a compromise of all glimpses: of the squared error a quarter need not
be, with the same decoder and as many nats (the *amortisation gap*; Cremer et al., *Inference Suboptimality
in Variational Autoencoders*, 2018), and looks that stay as they were drawn first pay for it in every frame
of a video. So the encoder proposes a normal of mean $\mu$ and variances $v$, and its mean takes a few steps
up

$$ f(\mu) = - \frac{n}{2 \sigma^2} | x - o - y(\mu) |^2 + \log p(\mu), \qquad
   \mu \leftarrow \mu + \alpha \, v \odot \nabla f(\mu), $$

where o is what other objects draw, y the picture of this one, their sum clipped as the canvas is, and n the
number of frames that a look is drawn for. Steps along $v \odot \nabla f$ are those of the natural gradient
of the ELBO in a normal's mean (Hoffman et al., *Stochastic Variational Inference*, 2013, section 2.3),
since at its optimum v is the inverse of the curvature of f, component by component; and $\alpha$ is where
the parabola through value and slope at $\mu$ and the value of a trial step is highest.

Means that are found so are parameters of q like any network's output: weights are exact. They are *found,
not learned*: no gradient goes to the mean that the encoder proposed, only to its variances. At the end of a
step that was too long for some direction the gradient points to where the step came from, and an encoder
that follows it runs away: from 260 nats a digit of ten frames to 329 in a minute, and to 306 where the
steps are differentiated, as in Kim et al., *Semi-Amortized Variational Autoencoders*, 2018; without it they
fell to 248.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .. import checks
from ..models.components.attention import clip_straight_through
from ..models.components.networks import LocScale
from ..models.priors.flow import FlowPrior

_TRIAL, _LONGEST = 0.5, 1.0  # of a step in which all components were independent


@dataclass(frozen=True)
class RefinedLooks:
    """Moves the mean of `z_what` to where the picture fits best, see the module."""

    decoder: Any
    """The model's, an `models.object_decoder.ObjectDecoder`: `glimpses`, `place`, and `clamp`."""
    steps: int = 3
    """Number of steps."""
    scale: float = 0.3
    """Standard deviation of the pixels, the likelihood's."""
    frames: float = 10.0
    """N, the number of frames that a look is drawn for: one where looks are drawn anew in each."""
    prior: FlowPrior | None = None
    """The model's prior of looks; by default a standard normal."""

    def __post_init__(self) -> None:
        checks.at_least(1, self, "steps")
        checks.positive(self, "scale", "frames")

    def __call__(
        self, image: Tensor, others: Tensor, z_where: Tensor, loc: Tensor, scale: Tensor
    ) -> LocScale:
        """The parameters of `z_what` with another mean.

        Args:
            image: `(R, C, H, W)`.
            others: what other objects draw in it, `(R, C H W)`.
            z_where: place of the object, `(R, 4)`.
            loc: mean that the encoder says, `(R, W)`.
            scale: standard deviations, likewise.
        """
        # Copies, since what was made in inference mode can take no part in a gradient.
        with torch.inference_mode(False):
            x, o, where, moved, spread = (
                tensor.detach().clone() for tensor in (image.flatten(-3), others, z_where, loc, scale)
            )
            for _ in range(self.steps):
                moved = moved + self._step(x, o, where, moved, spread.square())
        return LocScale(moved, scale)

    def _step(self, x: Tensor, others: Tensor, z_where: Tensor, loc: Tensor, variance: Tensor) -> Tensor:
        with torch.enable_grad():
            start = loc.detach().requires_grad_()
            value = self._fit(x, others, z_where, start)
            (gradient,) = torch.autograd.grad(value.sum(), start)
        with torch.no_grad():
            direction = variance * gradient
            slope = (gradient * direction).sum(-1)
            trial = self._fit(x, others, z_where, loc + _TRIAL * direction)
            curvature = 2 * (_TRIAL * slope + value - trial) / _TRIAL**2
            length = torch.where(curvature > 0, slope / curvature, _LONGEST).clamp(max=_LONGEST)
            return length.unsqueeze(-1) * direction

    def _fit(self, x: Tensor, others: Tensor, z_where: Tensor, z_what: Tensor) -> Tensor:
        """F of rows, `(R,)`."""
        canvas = others + self.decoder.place(self.decoder.glimpses(z_what), z_where).flatten(-3)
        if self.decoder.clamp:
            canvas = clip_straight_through(canvas, 0.0, 1.0)
        error = (x - canvas).square().sum(-1)
        prior = -z_what.square().sum(-1) / 2 if self.prior is None else self.prior.log_prob(z_what)
        return prior - self.frames / (2 * self.scale**2) * error
