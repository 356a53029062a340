"""What is behind the objects of a video, inferred: the guide's side of `models.background`.

The background is inferred before the objects, and from the frame alone. Objects are added to it, so what they
have to explain is the frame without it; their part of the guide sees nothing else.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import pyro
import pyro.distributions as dist
import torch.nn.functional as F
from torch import Tensor, nn

from ..models.background import BackgroundVAE, StaticBackground
from ..models.components.networks import LocScale, initialise
from ..models.priors.discovery import MIN_SCALE


class Behind(NamedTuple):
    """What is seen of the background of videos."""

    images: Tensor
    """What objects are looked for in front of, `(B, T, C, H, W)`; no gradient is taken through it."""
    codes: Any = ()
    """What the statements need."""


class BackgroundGuide(Protocol):
    """Infers a background with the statements that `models.background.Background` makes."""

    def look(self, video: Tensor) -> Behind:
        """Look at all frames of videos `(B, T, C, H, W)`, whatever the number of particles."""

    def start(self, batch_size: int) -> Any:
        """The state before the first frame, as the model's."""

    def step(self, t: int, codes: Any, state: Any) -> Any:
        """The statements of frame `t`; returns the next state."""


class StaticBackgroundGuide(nn.Module):
    """Knows the camera's image: there is nothing to infer.

    Args:
        background: the model's.
    """

    def __init__(self, background: StaticBackground) -> None:
        super().__init__()
        self.background = background

    def look(self, video: Tensor) -> Behind:
        """The image, in every frame."""
        image, _ = self.background.step(0, ())
        return Behind(image.detach().expand_as(video))

    def start(self, batch_size: int) -> tuple[()]:
        """Nothing is carried."""
        return ()

    def step(self, t: int, codes: Any, state: tuple[()]) -> tuple[()]:
        """There is no statement."""
        return state


class BackgroundVAEGuide(nn.Module):
    """A code in each frame, given the frame; objects are looked for in front of the image of its mean.

    Args:
        background: the model's.
        features: network from frames `(..., C, H, W)` to `(..., F)`.
        feature_size: F.
    """

    def __init__(self, background: BackgroundVAE, features: nn.Module, feature_size: int) -> None:
        super().__init__()
        self.background = background
        self.features = features
        self.readout = nn.Linear(feature_size, 2 * background.size)
        initialise(self.features, self.readout)

    def look(self, video: Tensor) -> Behind:
        """Parameters of the codes `(B, T, Z)`, and the images of their means."""
        loc, raw_scale = self.readout(self.features(video)).chunk(2, dim=-1)
        codes = LocScale(loc, F.softplus(raw_scale) + MIN_SCALE)
        return Behind(self.background.image(loc.detach()).detach(), codes)

    def start(self, batch_size: int) -> tuple[()]:
        """Nothing is carried."""
        return ()

    def step(self, t: int, codes: LocScale, state: tuple[()]) -> tuple[()]:
        """The statement of frame `t`, `background/z/t`."""
        pyro.sample(f"background/z/{t}", dist.Normal(codes.loc[:, t], codes.scale[:, t]).to_event(1))
        return state
