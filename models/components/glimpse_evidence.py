r"""Evidence of what was given: where does a frame look like the first glimpse of the object?

A recurrent tracker must keep in its state what the object looks like. This keeps the picture itself. Around
the object's box samples are taken at one stride on both axes, of which `looks` are made. In each frame the
surroundings of the expected place are compared with them in two ways: by normalised cross-correlation with
the first looks of the object alone, whose cells count less towards the border of the box; and by a filter
that was learned to tell the object from what is around it, and follows both (`ridge_filter`):

    surface = (ncc(X, first) + filter(X)) / 2
    shift = argmax (surface - penalty |d|^2),   |d| <= 1 in units of the reach
    score = ncc(X, first)(shift),   trust = sigmoid(20 (score - threshold))
    filter <- filter + rate trust (filter learned there - filter)

Where the score is low for some frames the object counts as lost: it is looked for at places around the last
one in turn, and taken up again only where the score is higher than was needed to go on.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .boxes import middles
from .correlation import normalised_cross_correlation
from .gaussian_read import HART_EPSILON, gaussian_read
from .gaussian_windows import GaussianWindow, SigmaRule, smooth_knee_sigma
from .looks import looks
from .ridge_filter import RidgeFilter, peak_at_corner

NUMBERS = 10
"""Numbers of `GlimpseEvidence`, see `Found.numbers`."""
MAPS = 2
"""Maps of `GlimpseEvidence`, see `GlimpseEvidence.maps`."""

_SAMPLES_PER_SIDE = 10.0
"""Samples along the side of a square as large as the box."""
_WEIGHT_WIDTH = 0.8
"""Standard deviation of the weights, in half sides of the box."""
_SCALES = (1.0, 0.9, 1.1)
"""Sizes that are compared at the best place, the present one first."""
_SWEEP = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1), (1, -1), (-1, 1))
"""Where a lost object is looked for, in turn, in units of the reach."""
_CONTEXT = 1.2
"""What a filter sees around a box, on both sides together, in sides of a square as large."""
_REGULARISATION = 0.01
_STEEPNESS = 20.0
"""Of the sigmoids of scores."""
_PATIENCE = 3
"""Frames with a low score after which an object counts as lost."""


class Memory(NamedTuple):
    """What is known of how objects look."""

    first: Tensor
    """Looks of the first glimpse as it is, and as if it were smaller and larger, `(3, B, F, n, n)`."""
    weights: Tensor
    """Of their cells, `(B, n, n)`."""
    filter: RidgeFilter
    """Tells the object from its surroundings, of transforms `(B, F, N, N // 2 + 1)`."""
    taper: Tensor
    """Weights of the surroundings for it, `(B, 1, N, N)`."""
    stride: Tensor
    """Pixels from sample to sample at the first size, `(B, 1)`."""
    features: Tensor
    """Mean of V1's maps over the first glimpse, of length 1, `(B, channels)`."""
    doubtful: Tensor
    """Frames in a row whose score was too low, `(B,)`, floating point."""


class Found(NamedTuple):
    """Where an object was found in a frame."""

    shift: Tensor
    """From the expected middle to that of the best place, `(B, 2)` in pixels; 0 where it is not trusted."""
    score: Tensor
    """Normalised cross-correlation there, `(B,)`, at most 1."""
    trust: Tensor
    """Weight of the best place, `(B,)` in [0, 1]."""
    growth: Tensor
    """How much larger it seems to be than expected, `(B, 1)` in [-1, 1], in tenths; near 0 where the score is
    below that at which lost objects are taken up: what is half hidden, or another thing, tells no size.
    """
    lost: Tensor
    """Whether the object counts as lost, `(B,)`, boolean."""
    numbers: Tensor
    """`(B, 10)`: the best place in units of the reach; score; what the filter answers there; the score at the
    expected place; how much the surface is above that of the best place elsewhere; trust; the scores of a
    smaller and a larger object less that of this size; the present size's logarithm.
    """
    centre: Tensor
    """Middle of where it was looked for, `(B, 2)` in pixels: the expected one, or another if it is lost."""
    surface: Tensor
    """How much all places are like the object, `(B, m, m)`."""


class GlimpseEvidence(nn.Module):
    """Looks for the first glimpse of objects in frames. Nothing in it is learned, and no gradient passes.

    Args:
        samples: n, along the sides of the looks; a box is no longer than that.
        reach: greatest shift, in samples; a square as large as the box has 10.
        penalty: of a shift as far as the reach.
        rate: of the filter's running mean.
        threshold: score of places that are half trusted.
        retake: the same where the object is lost, and for its size.
        sigma: width of the Gaussians that samples are taken with, given the stride.
    """

    _offsets: Tensor
    _far: Tensor
    _sweep: Tensor
    _label: Tensor

    def __init__(
        self,
        samples: int = 17,
        reach: int = 9,
        penalty: float = 0.15,
        rate: float = 0.05,
        threshold: float = 0.2,
        retake: float = 0.5,
        sigma: SigmaRule = smooth_knee_sigma,
    ) -> None:
        super().__init__()
        if samples < 3 or reach < 1:
            raise ValueError(f"`samples` must be at least 3 and `reach` positive, got {samples} and {reach}")
        self.samples, self.reach = samples, reach
        self.penalty, self.rate = penalty, rate
        self.threshold, self.retake, self.sigma = threshold, retake, sigma
        steps = torch.arange(-reach, reach + 1.0)
        self.register_buffer("_offsets", steps, persistent=False)
        self.register_buffer("_far", (steps[:, None] ** 2 + steps**2) / reach**2, persistent=False)
        peak = peak_at_corner(self.extent, _SAMPLES_PER_SIDE / 16)
        self.register_buffer("_label", torch.fft.rfft2(peak[:, None] * peak), persistent=False)
        self.register_buffer("_sweep", torch.tensor(_SWEEP, dtype=torch.float), persistent=False)

    @property
    def extent(self) -> int:
        """N, samples along the sides of the surroundings."""
        return self.samples + 2 * self.reach

    @torch.no_grad()
    def start(self, frame: Tensor, box: Tensor, maps: Tensor) -> Memory:
        """What the first glimpse tells.

        Args:
            frame: the first one, `(B, C, H, W)`.
            box: of the object in it, `(B, 4)`, in pixels.
            maps: V1's, of a glimpse of that box, `(B, channels, r, c)`.
        """
        extent = box[:, 2:]
        stride = torch.maximum(
            extent.prod(-1, keepdim=True).sqrt() / _SAMPLES_PER_SIDE,
            extent.amax(-1, keepdim=True) / (self.samples - 1),
        )
        strides = stride / stride.new_tensor(_SCALES)[:, None, None]
        first = self._looks(frame, middles(box), strides, self.samples)
        half = extent / (2 * stride)
        cells = torch.arange(self.samples, device=box.device, dtype=box.dtype) - (self.samples - 1) / 2
        cover = (half[:, :, None] + 0.5 - cells.abs()).clamp(0, 1)
        falling = (-0.5 * (cells / (_WEIGHT_WIDTH * half[:, :, None])).square()).exp()
        across, down = (cover * falling).unbind(1)
        weights = down[:, :, None] * across[:, None, :]
        features = F.normalize(maps.mean((2, 3)).to(box.dtype), dim=1)
        cells = torch.arange(self.extent, device=box.device, dtype=box.dtype) - (self.extent - 1) / 2
        distance = cells / (half + _CONTEXT * _SAMPLES_PER_SIDE / 2)[:, :, None]
        across, down = (torch.pi / 2 * distance.clamp(-1, 1)).cos().square().unbind(1)
        taper = (down[:, :, None] * across[:, None, :])[:, None]
        region = self._looks(frame, middles(box), stride, self.extent)
        learned = RidgeFilter.learned(_spectra(region, taper), self._label)
        return Memory(first, weights, learned, taper, stride, features, torch.zeros_like(box[:, 0]))

    def first_numbers(self, like: Tensor) -> Tensor:
        """Those of a first glimpse, which is where it was said to be, `(B, 10)`."""
        numbers = like.new_zeros(len(like), NUMBERS)
        numbers[:, 2:7] = like.new_ones(5)  # score, answer, score at rest, margin, trust
        return numbers

    @torch.no_grad()
    def forward(self, frame: Tensor, expected: Tensor, size: Tensor, memory: Memory) -> tuple[Found, Memory]:
        """Look for the object in a frame.

        Args:
            frame: `(B, C, H, W)`.
            expected: its middle, `(B, 2)`, in pixels.
            size: logarithm of its present size in units of the first, `(B, 1)`.
            memory: of what was seen.
        """
        stride = memory.stride * size.exp()
        lost = memory.doubtful >= _PATIENCE
        turn = (memory.doubtful - _PATIENCE).clamp(min=0).remainder(len(_SWEEP)).long()
        centre = expected + self._sweep[turn] * (self.reach * stride) * lost[:, None]
        region = self._looks(frame, centre, stride, self.extent)
        scores = normalised_cross_correlation(region, memory.first, memory.weights)  # (3, B, m, m)
        answers = self._answers(region, memory)
        surface = (scores[0] + answers) / 2
        side = 2 * self.reach + 1
        wanted = (surface - self.penalty * self._far).masked_fill(self._far > 1, -2.0)
        best = wanted.flatten(1).argmax(1, keepdim=True)
        row, column = torch.div(best, side, rounding_mode="floor"), best % side
        score, smaller, larger = scores.flatten(2).gather(2, best.expand(3, -1, -1))[..., 0]
        place = torch.cat([self._refined(surface, row, column, axis) for axis in (2, 1)], dim=-1)
        needed = torch.where(lost, self.retake, self.threshold)
        trust = (_STEEPNESS * (score - needed)).sigmoid()
        found = centre + place * stride
        doubtful = torch.where(score < needed, memory.doubtful + 1, 0.0)
        there = RidgeFilter.learned(
            _spectra(_shifted(region, row - self.reach, column - self.reach), memory.taper), self._label
        )
        x, y = (self._offsets - place[:, :1]).square(), (self._offsets - place[:, 1:]).square()
        away = y[:, :, None] + x[:, None]
        second = surface.masked_fill(away < (_SAMPLES_PER_SIDE / 4) ** 2, -1.0).flatten(1).amax(1)
        answer, height = answers.flatten(1).gather(1, best)[:, 0], surface.flatten(1).gather(1, best)[:, 0]
        at_rest = scores[0, :, self.reach, self.reach]
        numbers = torch.stack(
            [
                *(place / self.reach).unbind(-1),
                *(score, answer, at_rest, height - second, trust),
                *(smaller - score, larger - score, size[:, 0]),
            ],
            dim=-1,
        )
        memory = memory._replace(filter=memory.filter.towards(there, self.rate * trust), doubtful=doubtful)
        shift, lost = (found - expected) * trust[:, None], doubtful >= _PATIENCE
        sure = (_STEEPNESS * (score - self.retake)).sigmoid()
        growth = (_top(smaller, score, larger) * sure)[:, None]
        return Found(shift, score, trust, growth, lost, numbers, centre, surface), memory

    @torch.no_grad()
    def maps(self, found: Found, window: Tensor, maps: Tensor, size: Tensor, memory: Memory) -> Tensor:
        """Evidence for each cell of a window around the place that was found.

        Args:
            found: see `forward`.
            window: its box, `(B, 4)`, in pixels.
            maps: V1's, of its glimpse, `(B, channels, r, c)`.
            size: see `forward`.
            memory: of what was seen.

        Returns:
            `(B, 2, r, c)`: the score of an object there, and how much its features are like the first ones.
        """
        rows, columns = maps.shape[-2:]
        reach = self.reach * memory.stride * size.exp()  # (B, 1), half of the surface's side in pixels
        middle = (middles(window) - found.centre) / reach
        across, down = (
            _cell_middles(count, maps) * window[:, 2 + axis, None] / reach + middle[:, axis, None]
            for axis, count in ((0, columns), (1, rows))
        )
        grid = torch.stack(
            [across[:, None, :].expand(-1, rows, -1), down[:, :, None].expand(-1, -1, columns)], dim=-1
        )
        score = F.grid_sample(found.surface[:, None], grid.to(found.surface), "bilinear", "zeros", True)
        likeness = torch.einsum("bcij,bc->bij", F.normalize(maps.to(score.dtype), dim=1), memory.features)
        return torch.cat([score, likeness[:, None]], dim=1)

    def _looks(self, frame: Tensor, middle: Tensor, stride: Tensor, samples: int) -> Tensor:
        """Looks of squares of samples, `(..., B, F, samples, samples)`."""
        spacing = torch.broadcast_tensors(stride, middle)[0]
        window = GaussianWindow(middle.expand_as(spacing) - 0.5, spacing, self.sigma(spacing))
        colours = gaussian_read(frame, window, (samples, samples), HART_EPSILON)
        return looks(colours)

    def _answers(self, region: Tensor, memory: Memory) -> Tensor:
        """What the filter answers at the places of the scores, `(B, m, m)`."""
        extent, side = self.extent, 2 * self.reach + 1
        spectra = memory.filter.answer(_spectra(region, memory.taper), _REGULARISATION)
        answers = torch.fft.irfft2(spectra, s=(extent, extent)).roll((self.reach, self.reach), (-2, -1))
        return answers[:, :side, :side]

    def _refined(self, surface: Tensor, row: Tensor, column: Tensor, axis: int) -> Tensor:
        """The best place between samples, on one axis: the top of the parabola through three scores."""
        last = surface.shape[-1] - 1
        batch = torch.arange(len(surface), device=surface.device)[:, None]
        low, middle, high = (
            surface[batch, (row + d * (axis == 1)).clamp(0, last), (column + d * (axis == 2)).clamp(0, last)]
            for d in (-1, 0, 1)
        )
        return (column if axis == 2 else row) - self.reach + _top(low, middle, high).clamp(-0.5, 0.5)


def _top(low: Tensor, middle: Tensor, high: Tensor) -> Tensor:
    """Where the parabola through values at -1, 0 and 1 has its top, at most there; or else the higher end."""
    bend = low - 2 * middle + high
    top = (low - high) / (2 * bend.clamp(max=-1e-6))
    return torch.where(bend < -1e-6, top, (high - low).sign()).clamp(-1, 1)


def _spectra(region: Tensor, taper: Tensor) -> Tensor:
    return torch.fft.rfft2((region - region.mean(dim=(-2, -1), keepdim=True)) * taper)


def _shifted(region: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Regions `(B, F, N, N)` so moved, periodically, that a place `(B, 1)` off their middle comes there."""
    steps = torch.arange(region.shape[-1], device=region.device)
    rows, columns = ((steps + by) % region.shape[-1] for by in (down, across))
    batch = torch.arange(len(region), device=region.device)[:, None, None, None]
    channels = torch.arange(region.shape[1], device=region.device)[:, None, None]
    return region[batch, channels, rows[:, None, :, None], columns[:, None, None, :]]


def _cell_middles(count: int, like: Tensor) -> Tensor:
    """Middles of `count` cells of a side, from -1/2 to 1/2."""
    return (torch.arange(count, device=like.device, dtype=torch.float32) + 0.5) / count - 0.5
