r"""How a camera has moved from one frame to the next, by phase correlation.

With transforms $F_a$ and $F_b$ of two frames, made coarse and faded out at their borders, and a low pass w

$$ y = \mathcal F^{-1} \left( w \frac{F_b \bar F_a}{|F_b \bar F_a|} \right) $$

has its top where the second frame, moved back by so much, is most like the first: most of what is in a frame
stands still, and moves with the camera. All frequencies count alike, which makes a narrow peak of it.

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
        if samples < 8 or not 0 < farthest < 0.5:
            expected = "`samples` must be at least 8 and `farthest` in (0, 0.5)"
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
    def spectrum(self, frames: Tensor) -> Tensor:
        """What is kept of frames `(..., C, H, W)`: `(..., n, n // 2 + 1)`, complex."""
        # Every k-th pixel of a large frame is enough: frequencies that this takes for others hardly count.
        step = max(1, min(frames.shape[-2:]) // (2 * self.samples))
        grey = frames[..., ::step, ::step].to(self._fade.dtype).mean(dim=-3)
        coarse = F.interpolate(grey.flatten(0, -3)[:, None], (self.samples, self.samples), mode="bilinear")
        coarse = coarse.unflatten(0, grey.shape[:-2]).squeeze(-3)
        return torch.fft.rfft2((coarse - coarse.mean(dim=(-2, -1), keepdim=True)) * self._fade)

    @torch.no_grad()
    def forward(self, before: Tensor, now: Tensor, size: Size) -> Tensor:
        """How far what stands still has moved, x and y in pixels, `(..., 2)`; 0 if nothing is alike.

        Args:
            before: the `spectrum` of frames.
            now: that of the next ones.
            size: height and width of the frames.
        """
        whitened = self._low_pass * (now * before.conj()).sgn()
        surface = torch.fft.irfft2(whitened, s=(self.samples, self.samples)).flatten(-2)
        height, best = (surface + self._far).max(dim=-1, keepdim=True)
        at = best.squeeze(-1)
        low, high = surface.gather(-1, self._neighbours[at]).chunk(2, dim=-1)
        within = top_of_parabola(low, height, high).clamp(-0.5, 0.5)
        shift = torch.add(self._places[at], within, alpha=1 / self.samples)
        # A camera that moves by less than half a sample is one that stands still: noise moves the top as far,
        # and what follows it would drift.
        moves = (best > 0) & (height > self._clear)
        return shift * shift.new_tensor([size[1], size[0]]) * moves

    def along(self, video: Tensor, before: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The same for all frames of a video at once, which takes less time than one by one.

        Args:
            video: `(B, T, C, H, W)`.
            before: the `spectrum` of the frame before the first, `(B, ...)`; by default the first itself.

        Returns:
            The motion to each frame from the one before, `(B, T, 2)`, and the spectrum of the last.
        """
        spectra = self.spectrum(video)
        first = spectra[:, 0] if before is None else before
        earlier = torch.cat([first[:, None], spectra[:, :-1]], dim=1)
        return self(earlier, spectra, (video.shape[-2], video.shape[-1])), spectra[:, -1]
