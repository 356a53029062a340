r"""How a camera has moved from one frame to the next, by phase correlation.

With transforms $F_a$ and $F_b$ of two frames, made coarse and faded out at their borders, and a low pass w

$$ y = \mathcal F^{-1} \left( w \frac{F_b \bar F_a}{|F_b \bar F_a|} \right) $$

has its top where the second frame, moved back by so much, is most like the first: most of what is in a frame
stands still, and moves with the camera. All frequencies count alike, which makes a narrow peak of it. On a
ground without texture the peak is that of a thing that moves by itself; so an eighth of the frame, more than
such things are, must be nearer to what it was before if that is moved, or else the camera stands still.

Source: Kuglin & Hines, *The Phase Correlation Image Alignment Method*, 1975.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import Size
from .correlation import top_of_parabola

_CUT_OFF = 1 / 6
"""Standard deviation of the low pass, in samples' frequencies: coarse frames have little beyond."""
_FADED = 0.25
"""Share of a side, at both ends, over which frames are faded out: more, and what moves in the middle counts
more than the ground around it."""
_CLEAR = 0.2
"""Height of a peak, in that of a frame with itself, below which frames have nothing in common: those of two
scenes have less than 0.16, jerks and blur leave 0.26.
"""
_LEAST_AREA = 1 / 8
"""Share of the frame that must be better explained by the motion."""
_GREY_LEVEL = 1 / 255
"""Difference of brightness that counts."""


class CameraMotion(nn.Module):
    """Finds how far the whole frame has moved. Nothing in it is learned, and no gradient passes.

    Args:
        samples: n, along the sides of coarse frames.
        farthest: greatest shift, in sides of a frame.
    """

    _fade: Tensor
    _low_pass: Tensor
    _places: Tensor
    _neighbours: Tensor
    _far: Tensor

    def __init__(self, samples: int = 64, farthest: float = 0.25) -> None:
        super().__init__()
        if samples < 32 or not 0 < farthest < 0.5:
            expected = "`samples` must be at least 32 and `farthest` in (0, 0.5)"
            raise ValueError(f"{expected}, got {samples} and {farthest}")
        self.samples = n = samples
        fade = (torch.arange(1, n + 1).minimum(torch.arange(n, 0, -1)) / (_FADED * n)).clamp(max=1.0)
        fade = (torch.pi / 2 * fade).sin().square()
        down, across = torch.fft.fftfreq(n)[:, None], torch.fft.rfftfreq(n)
        low_pass = (-0.5 * (down.square() + across.square()) / _CUT_OFF**2).exp()
        self._clear = _CLEAR * float(torch.fft.irfft2(low_pass, s=(n, n))[0, 0])
        steps = torch.fft.fftfreq(n, 1 / n)  # in the order of transforms: 0, 1, ... and at the end -1
        places = torch.cartesian_prod(steps, steps).flip(-1)  # x and y, row by row
        number = torch.arange(n * n).view(n, n)
        neighbours = [number.roll(by, axis) for by in (1, -1) for axis in (1, 0)]
        for name, value in (
            ("_fade", fade[:, None] * fade),
            ("_low_pass", low_pass),
            ("_places", places / n),
            ("_neighbours", torch.stack(neighbours, dim=-1).view(n * n, 4)),
            ("_far", torch.where(places.abs().amax(-1) > farthest * n, -torch.inf, 0.0)),
        ):
            self.register_buffer(name, value, persistent=False)

    @torch.no_grad()
    def coarse(self, frames: Tensor) -> Tensor:
        """What is kept of frames `(..., C, H, W)`: their brightness in few samples, `(..., n, n)`."""
        n = self.samples
        # Of a large frame every k-th pixel is enough. No copy is made of all colours of a video.
        down, across = (max(1, side // (4 * n)) for side in frames.shape[-2:])
        colours = frames[..., ::down, ::across].unbind(-3)
        grey = colours[0].to(self._fade.dtype, copy=True)
        for colour in colours[1:]:
            grey += colour
        grey /= len(colours) * (1 if frames.is_floating_point() else 255)
        flat = grey.flatten(0, -3)[:, None]
        samples = F.interpolate(flat, (n, n), mode="bilinear", antialias=True)
        return samples.view(*grey.shape[:-2], n, n)

    @torch.no_grad()
    def forward(self, scenes: Tensor, size: Size) -> Tensor:
        """How far what stands still has moved from each frame to the next, x and y in pixels.

        It is 0 where it is less than half a sample, `size / (2 n)`, or explains too little of a frame.

        Args:
            scenes: `coarse` frames in their order, `(B, T, n, n)`.
            size: height and width of the frames.

        Returns:
            `(B, T - 1, 2)`.
        """
        n = self.samples
        spectra = torch.fft.rfft2((scenes - scenes.mean(dim=(-2, -1), keepdim=True)) * self._fade)
        whitened = self._low_pass * (spectra[:, 1:] * spectra[:, :-1].conj()).sgn()
        surface = torch.fft.irfft2(whitened, s=(n, n)).flatten(-2)
        height, best = (surface + self._far).max(dim=-1, keepdim=True)
        at = best.squeeze(-1)
        low, high = surface.gather(-1, self._neighbours[at]).chunk(2, dim=-1)
        within = top_of_parabola(low, height, high).clamp(-0.5, 0.5)
        shift = torch.add(self._places[at], within, alpha=1 / n)
        # A camera that moves by less than half a sample is one that stands still: noise moves the top as far,
        # and what follows it would drift.
        moves = (at > 0) & (height[..., 0] > self._clear) & (self._explained(scenes, at) >= _LEAST_AREA)
        x, y = (shift * moves[..., None]).unbind(-1)
        return torch.stack([size[1] * x, size[0] * y], dim=-1)

    def along(self, video: Tensor, before: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The same for a video, whose frames are looked at all at once.

        Args:
            video: `(B, T, C, H, W)`.
            before: the `coarse` frame before the first, `(B, n, n)`; by default the first itself.

        Returns:
            The motion to each frame from the one before, `(B, T, 2)`, and the last coarse frame.
        """
        scenes = self.coarse(video)
        first = scenes[:, :1] if before is None else before[:, None]
        moved = self(torch.cat([first, scenes], dim=1), (video.shape[-2], video.shape[-1]))
        return moved, scenes[:, -1]

    def _explained(self, scenes: Tensor, at: Tensor) -> Tensor:
        """Share of the next frame that is nearer to this one moved to places `(B, T - 1)` than to itself."""
        n = self.samples
        now, before = scenes[:, 1:].flatten(-2), scenes[:, :-1].flatten(-2)
        here = torch.arange(n, device=at.device)
        rows, columns = (here - (at // n)[..., None]) % n, (here - (at % n)[..., None]) % n
        moved = before.gather(-1, (n * rows[..., :, None] + columns[..., None, :]).flatten(-2))
        nearer = (now - moved).abs() + _GREY_LEVEL < (now - before).abs()
        return nearer.to(scenes.dtype).mean(dim=-1)
