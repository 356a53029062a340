"""What is behind the objects of a video, inferred: the guide's side of `models.background`.

The background is inferred before the objects, and from the video alone. Objects are added to it, so what they
have to explain is the frame without it; their part of the guide sees nothing else.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import pyro
import pyro.distributions as dist
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models.background import BackgroundVAE, CameraBackground, StaticBackground
from ..models.components.contrast import Contrast
from ..models.components.correlation import fast_length
from ..models.components.networks import LocScale, initialise
from ..models.priors.discovery import MIN_SCALE

_FAR = 3.0
"""Times the median deviation beyond which a pixel shows an object."""
_GREY_LEVEL = 1 / 255


class Behind(NamedTuple):
    """What is seen of the background of videos."""

    objects: Tensor
    """What is in front of it, where objects are looked for, `(B, T, C', H, W)`; no gradient of the background
    is taken through it.
    """
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
        """Frames without the image."""
        image, _ = self.background.step(0, ())
        return Behind(video - image.detach())

    def start(self, batch_size: int) -> tuple[()]:
        """Nothing is carried."""
        return ()

    def step(self, t: int, codes: Any, state: tuple[()]) -> tuple[()]:
        """There is no statement."""
        return state


class CameraBackgroundGuide(nn.Module):
    """Finds the part of a camera's image to which the mean of a video's frames has the least squared error.

    Of all places at once, by the Fourier transform; and again without the pixels that are far from what they
    should be there, since an object that stands still pulls where the image has little texture. A view is
    known for sure, as good as always: q has one.

    Args:
        background: the model's.
        contrast: how objects stand out from it, the model's decoder's.
    """

    def __init__(self, background: CameraBackground, contrast: Contrast = Contrast()) -> None:  # noqa: B008
        super().__init__()
        self.background = background
        self.contrast = contrast

    @torch.no_grad()
    def look(self, video: Tensor) -> Behind:
        """Contrasts of the frames to their part of the image, `(B, T, 2 C, H, W)`, and the views, `(B,)`."""
        view = self.views(video.mean(1))
        return Behind(self.contrast.of(video, self.background.part(view).unsqueeze(-4)), view)

    def views(self, images: Tensor) -> Tensor:
        """Where images `(B, C, H, W)` fit best, `(B,)`."""
        if self.background.views == 1:
            return torch.zeros(len(images), dtype=torch.int64, device=images.device)
        first = self._nearest(images, torch.ones_like(images[:1, :1]))
        off = (images - self.background.part(first)).abs().mean(1, keepdim=True)
        usual = off.flatten(1).median(-1).values[:, None, None, None]
        return self._nearest(images, (off <= _FAR * usual + _GREY_LEVEL).to(images.dtype))

    def _nearest(self, images: Tensor, weights: Tensor) -> Tensor:
        """The view of least squared error, of pixels with weights `(B, 1, H, W)`, or `(1, 1, H, W)`."""
        whole = self.background.image()
        middle = whole.mean()
        whole, images = whole - middle, (images - middle) * weights
        # The squared error of a place is |image|^2 + |part|^2 - 2 <image, part>; the first is that of all.
        energy = whole.square().sum(0, keepdim=True)
        ways = [(images, weights)]
        if self.background.mirror:
            ways.append((images.flip(-1), weights.flip(-1)))
        errors = [_correlation(energy, weight) - 2 * _correlation(whole, each) for each, weight in ways]
        return torch.stack(errors, dim=1).flatten(1).argmin(-1)

    def start(self, batch_size: int) -> tuple[()]:
        """Nothing is carried."""
        return ()

    def step(self, t: int, codes: Tensor, state: tuple[()]) -> tuple[()]:
        """The statement of the first frame, `background/view/0`."""
        if t == 0 and self.background.views > 1:
            pyro.sample("background/view/0", dist.Delta(codes))
        return state


def _correlation(whole: Tensor, images: Tensor) -> Tensor:
    """Products of images `(B, C, H, W)` with parts of one `(C, H', W')`: `(B, H' - H + 1, W' - W + 1)`."""
    height, width = whole.shape[-2:]
    size = fast_length(height), fast_length(width)
    spectra = torch.fft.rfft2(whole, s=size) * torch.fft.rfft2(images, s=size).conj()
    down, across = images.shape[-2:]
    return torch.fft.irfft2(spectra.sum(1), s=size)[..., : height - down + 1, : width - across + 1]


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
        """Parameters of the codes `(B, T, Z)`, and frames without the images of their means."""
        loc, raw_scale = self.readout(self.features(video)).chunk(2, dim=-1)
        codes = LocScale(loc, F.softplus(raw_scale) + MIN_SCALE)
        return Behind(video - self.background.image(loc.detach()).detach(), codes)

    def start(self, batch_size: int) -> tuple[()]:
        """Nothing is carried."""
        return ()

    def step(self, t: int, codes: LocScale, state: tuple[()]) -> tuple[()]:
        """The statement of frame `t`, `background/z/t`."""
        pyro.sample(f"background/z/{t}", dist.Normal(codes.loc[:, t], codes.scale[:, t]).to_event(1))
        return state
