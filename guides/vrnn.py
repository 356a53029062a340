"""The variational recurrent neural network: the inference half.

The posterior of each frame's vector sees the frame and what the recurrent network knows of the past; its mean
is relative to that of the prior (Maddison et al., *Filtering Variational Objectives*, 2017, released code).
"""

from __future__ import annotations

from functools import partial

import pyro
import pyro.distributions as dist
from torch import Tensor

from ..models.components.frames import Frames
from ..models.components.inputs import require_pixels
from ..models.components.programs import Program
from ..models.components.slots import concatenate
from ..models.vrnn import NormalHead, VRNNDynamics, VRNNState


class VRNNGuide(Program):
    """Approximate posterior of `models.VRNN`: `q(z_t | z_{<t}, x_{<=t})`.

        z_t ~ Normal(mu_p(o_t) + mu_q([o_t, psi_x(x_t)]), sigma_q([o_t, psi_x(x_t)]))

    Args:
        dynamics: the model's.
        posterior: from `[o_t, psi_x(x_t)]`, `(..., J + E)`, to the difference of the mean from that of the
            prior, and the standard deviation.
    """

    def __init__(self, dynamics: VRNNDynamics, posterior: NormalHead) -> None:
        super().__init__()
        self.dynamics = dynamics
        self.posterior = posterior

    def forward(self, video: Tensor) -> list[Tensor]:
        """Sample the latent vectors `(..., Z)` of each frame of videos `(B, T, C, H, W)` in [0, 1].

        Raises:
            ValueError: if the video has another shape, or is not floating point.
        """
        vectors: list[Tensor] = self.unroll(video).run()
        return vectors

    def unroll(self, video: Tensor) -> Frames:
        """The same, frame by frame; the state is a `models.vrnn.VRNNState`."""
        require_pixels("video", video, "BT", self.dynamics.image_shape, dtype=self.dynamics.dtype)
        features = self.dynamics.frame_encoder(video).unbind(1)  # each frame once
        before = [self.dynamics.black(), *features[:-1]]
        steps = (partial(self.step, t, *seen) for t, seen in enumerate(zip(before, features, strict=True)))
        return Frames.of_data(len(video), self.dynamics.initial_state(), steps)

    def step(self, t: int, before: Tensor, now: Tensor, state: VRNNState) -> tuple[Tensor, VRNNState]:
        """One frame.

        Args:
            t: number of the frame, from 0.
            before: features of the frame before, `(..., E)`.
            now: features of this frame, `(B, E)`.
            state: of the frame before.
        """
        recurrent = self.dynamics(before, state)
        prior = self.dynamics.prior(recurrent.hidden)
        shift, scale = self.posterior(concatenate(recurrent.hidden, now))
        z = pyro.sample(f"z/{t}", dist.Normal(prior.loc + shift, scale).to_event(1))
        return z, VRNNState(recurrent, self.dynamics.latent_encoder(z))
