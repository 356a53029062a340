"""What is behind the objects of a video: an image of the camera, or a code of few numbers in every frame.

Objects are added to it, see `sqair.SceneDecoder`. What a background can draw, no object has to; so it must
not be able to draw objects: it stays as it is, or has a handful of numbers to change by.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Protocol

import pyro
import pyro.distributions as dist
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import checks
from .components.networks import LocScale, SubPixelGlimpseDecoder
from .components.recurrent import GRU
from .priors.discovery import MIN_SCALE

DARKEST = 0.01
"""Images are given within [0.01, 0.99]: beyond, logits are too large to learn from."""

_FIRST_CHANGES = 0.1
"""Factor of the weights by which a code changes the image, at first."""


class Background(Protocol):
    """The model's side; the guide's is `guides.background.BackgroundGuide`.

    It has `image_shape`, channels, height and width of frames, if they are not the decoder's.
    """

    def start(self, batch_size: int) -> Any:
        """The state before the first of B videos: tensors `(B, .)` in any nesting, or nothing, `()`.

        After a frame its tensors have all leading axes of what was drawn, see `components.frames`.
        """

    def step(self, t: int, state: Any) -> tuple[Tensor, Any]:
        """The statements of frame `t`, `background/VARIABLE/t`, if there are any.

        Returns:
            the image, `(..., C, H, W)`, and the next state.
        """


class StaticBackground(nn.Module):
    """An image that is learned, the same in every frame and every video: of a camera that stands still.

    There is no statement. It starts best from the median of frames over time, in which whatever moves is not.

    Args:
        image: `(C, H, W)`, floating point, grey values in [0, 1].

    Raises:
        ValueError: if it is of other values.
    """

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(_logits(image))

    def start(self, batch_size: int) -> tuple[()]:
        """Nothing is carried."""
        return ()

    def step(self, t: int, state: tuple[()]) -> tuple[Tensor, tuple[()]]:
        """The image, `(C, H, W)`."""
        return self.logits.sigmoid(), state


class CameraBackground(nn.Module):
    r"""An image that is learned, of a camera that stands still, of which each video shows a part.

    Which part is the statement `background/view/0`, one number, uniform over all places where a frame fits
    into the image, and over both directions if videos may be mirrored:

    $$ view = (m (H' - H + 1) + y) (W' - W + 1) + x, $$

    with top y, left x, and m = 1 where left and right are exchanged. Frames as large as the image, if they
    are not mirrored, have one view, and no statement.

    Objects are drawn as contrasts to it, see `components.Contrast`: they may be darker.

    Args:
        image: `(C, H', W')`, grey values in [0, 1], to start from; see `StaticBackground`.
        size: height and width of frames, H and W.
        mirror: whether videos may be mirrored.

    Raises:
        ValueError: if frames are larger than the image, or its values are not in [0, 1].
    """

    def __init__(self, image: Tensor, size: tuple[int, int], mirror: bool = False) -> None:
        super().__init__()
        channels, *whole = image.shape
        if size[0] > whole[0] or size[1] > whole[1]:
            raise ValueError(f"frames must be no larger than the camera's image, {tuple(whole)}, got {size}")
        self.logits = nn.Parameter(_logits(image))
        self.image_shape = (channels, *size)
        self.places = whole[0] - size[0] + 1, whole[1] - size[1] + 1
        self.mirror = mirror
        self.views = self.places[0] * self.places[1] * (1 + self.mirror)

    def start(self, batch_size: int) -> Tensor:
        """The first view, of all that there may be, `(B,)`."""
        return torch.zeros(batch_size, dtype=torch.int64, device=self.logits.device)

    def step(self, t: int, state: Tensor) -> tuple[Tensor, Tensor]:
        """The statement of the first frame, the part of the image `(..., C, H, W)`, and the view."""
        if t == 0 and self.views > 1:
            everywhere = self.logits.new_zeros(self.views)
            state = pyro.sample("background/view/0", dist.Categorical(logits=everywhere))
        return self.part(state), state

    def image(self) -> Tensor:
        """All of it, `(C, H', W')`."""
        return self.logits.sigmoid()

    def part(self, view: Tensor) -> Tensor:
        """What is seen in some views, `(...)`: `(..., C, H, W)`."""
        if self.views == 1:
            return self.image()
        _, height, width = self.image_shape
        mirrored, top, left = self.corner(view)
        rows = top.unsqueeze(-1) + torch.arange(height, device=view.device)
        columns = torch.arange(width, device=view.device)
        columns = torch.where(mirrored.unsqueeze(-1), columns.flip(0), columns) + left.unsqueeze(-1)
        seen = self.image()[:, rows.unsqueeze(-1), columns.unsqueeze(-2)]  # (C, ..., H, W)
        return seen.movedim(0, -3)

    def corner(self, view: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Whether views are mirrored, and their top and left, each `(...)`."""
        place = view % (self.places[0] * self.places[1])
        return view >= self.places[0] * self.places[1], place // self.places[1], place % self.places[1]


class BackgroundState(NamedTuple):
    """What a background that changes carries from frame to frame."""

    z: Tensor
    """Its code, `(..., Z)`."""
    hidden: Tensor
    """State of the recurrent network that predicts the next, `(..., D)`."""


class BackgroundVAE(nn.Module):
    r"""An image that changes by a code of few numbers in each frame, as light does.

    With the statement `background/z/t`, `z_0 ~ N(0, I)`, and then, as in SCALOR (Jiang et al., *SCALOR:
    Generative World Models with Scalable Object Representations*, 2020),

    $$ z_t \sim N(z_{t-1} + m(h_t), s(h_t)^2), \quad h_t = GRU(z_{t-1}, h_{t-1}); $$

    the image is `sigmoid(l + decoder(z_t))` with a learned image l, where SCALOR has the decoder alone.

    Args:
        image: what it starts from, `(C, H, W)`, grey values in [0, 1]; see `StaticBackground`.
        size: Z.
        hidden: D.
        decoder: from codes `(..., Z)` to images `(..., C, H', W')` at least as large as the image, by default
            sub-pixel convolutions.
    """

    def __init__(
        self, image: Tensor, size: int = 10, hidden: int = 32, decoder: nn.Module | None = None
    ) -> None:
        super().__init__()
        checks.at_least(1, size=size, hidden=hidden)
        self.size = size
        self.logits = nn.Parameter(_logits(image))
        self.rnn = GRU(size, hidden)
        self.readout = nn.Linear(hidden, 2 * size)
        if decoder is None:
            decoder = _decoder(size, image.shape)
        self.decoder = decoder

    def start(self, batch_size: int) -> BackgroundState:
        """Nothing is known of the frame before the first."""
        z = self.rnn.initial.new_zeros(batch_size, self.size)
        return BackgroundState(z, self.rnn.initial_state(z))

    def step(self, t: int, state: BackgroundState) -> tuple[Tensor, BackgroundState]:
        """The statement of frame `t`, and its image, `(..., C, H, W)`."""
        law = LocScale(torch.zeros_like(state.z), torch.ones_like(state.z))
        hidden = state.hidden
        if t > 0:
            hidden = self.rnn(state.z, hidden)
            change, raw_scale = self.readout(hidden).chunk(2, dim=-1)
            law = LocScale(state.z + change, F.softplus(raw_scale) + MIN_SCALE)
        z = pyro.sample(f"background/z/{t}", dist.Normal(*law).to_event(1))
        return self.image(z), BackgroundState(z, hidden.expand(*z.shape[:-1], -1))

    def image(self, z: Tensor) -> Tensor:
        """The image of codes `(..., Z)`, `(..., C, H, W)`."""
        height, width = self.logits.shape[-2:]
        return (self.logits + self.decoder(z)[..., :height, :width]).sigmoid()


def _logits(image: Tensor) -> Tensor:
    if not image.is_floating_point():
        raise ValueError(f"`image` must be floating point in [0, 1], but got {image.dtype}.")
    if not bool(((image >= 0) & (image <= 1)).all()):
        low, high = (float(end) for end in image.aminmax())
        raise ValueError(f"`image` must be in [0, 1], but goes from {low:g} to {high:g}.")
    return image.clamp(DARKEST, 1 - DARKEST).logit()


def _decoder(size: int, shape: torch.Size) -> nn.Module:
    channels, height, width = shape
    padded = channels, 8 * math.ceil(height / 8), 8 * math.ceil(width / 8)
    decoder = SubPixelGlimpseDecoder(size, padded, (64,), (16, 16, 16), (2, 2, 2))
    last = decoder.convolutions[-1]
    assert isinstance(last, nn.Conv2d)
    last.weight.data.mul_(_FIRST_CHANGES)
    return decoder
