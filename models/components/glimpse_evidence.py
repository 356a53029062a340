r"""Evidence of what was given: where does a frame look like the first glimpse of the object?

A recurrent tracker must keep in its state what the object looks like. This keeps the picture itself. Around
the object's box samples are taken at one stride on both axes, of which `looks` are made. In each frame the
surroundings of the expected place are compared with them in two ways: by normalised cross-correlation with
the first looks of the object alone, whose cells count less towards the border of the box; and by a filter
that was learned to tell the object from what is around it, and follows both (`ridge_filter`):

    surface = (ncc(X, first) + filter(X)) / 2
    shift = argmax (surface - penalty |d|^2),   |d| <= 1 in units of the reach
    score = ncc(X, first)(shift),   seen = (score + 3 filter(X)(shift)) / 4
    trust = sigmoid(20 max(score - threshold, seen - familiar))
    filter <- filter + rate trust (filter learned there - filter)

What turns or bends looks less and less like it did at first, but the filter has followed it, and tells better
whether it is there: of objects pasted in videos, some of them away for a while, `seen` is higher with one
that is there than with one that is away in 98.7 % of pairs, the score in 96.1 %. Where both are low for some
frames the object counts as lost: it is looked for at places around the last one in turn, and taken up again
only where the score is higher than was needed to go on: there, and more so elsewhere, where other things are.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .boxes import middles
from .constants import constant
from .correlation import bands, deviations, template_kernels, top_of_parabola
from .gaussian_read import HART_EPSILON, gaussian_read
from .gaussian_windows import GaussianWindow, SigmaRule, smooth_knee_sigma
from .looks import looks
from .ridge_filter import RidgeFilter, peak_at_corner

NUMBERS = 10
"""Numbers of `GlimpseEvidence`, see `Found.numbers`."""

_SAMPLES_PER_SIDE = 10.0
"""Samples along the side of a square as large as the box."""
_WEIGHT_WIDTH = 0.8
"""Standard deviation of the weights, in half sides of the box."""
_SCALES = (0.9, 1.0, 1.1)
"""Sizes that are compared at the best place."""
_ROUND = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1), (1, -1), (-1, 1))
"""Where a lost object is looked for, in turn, in units of the reach."""
_CONTEXT = 1.2
"""What a filter sees around a box, on both sides together, in sides of a square as large."""
_REGULARISATION = 0.01
_CORRELATION = 0.25
"""Part of the score in `seen`; that of the filter's answer is the rest."""
_STEEPNESS = 20.0
"""Of the sigmoids of scores."""
_PATIENCE = 3
"""Frames with a low score after which an object counts as lost."""


class Memory(NamedTuple):
    """What is known of how objects look."""

    first: Tensor
    """Makes numerators of the correlation with the first looks, of transforms `(B, F, N, N // 2 + 1)`."""
    rows: Tensor
    """`bands` of the weights of rows, `(B, 1, m, N)`."""
    columns: Tensor
    """Those of columns, likewise."""
    sizes: Tensor
    """Kernels of the first looks as if it were smaller, as it is, and larger, `(B, 3, F n^2)`."""
    filter: RidgeFilter
    """Tells the object from its surroundings, of transforms `(B, F, N, N // 2 + 1)`."""
    taper: Tensor
    """Weights of the surroundings for it, `(B, 1, N, N)`."""
    stride: Tensor
    """Pixels from sample to sample at the first size, `(B, 1)`."""
    doubtful: Tensor
    """Frames in a row whose score was too low, `(B,)`, integers; of a lost object they go round with
    the places where it is looked for."""


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


class GlimpseEvidence(nn.Module):
    """Looks for the first glimpse of objects in frames. Nothing in it is learned, and no gradient passes.

    Args:
        samples: n, along the sides of the looks; a box is no longer than that.
        reach: greatest shift, in samples; a square as large as the box has 10.
        penalty: of a shift as far as the reach.
        rate: of the filter's running mean.
        threshold: score of places that are half trusted.
        familiar: the same of a quarter of the score and three of the filter's answer; one of both is enough.
        retake: score of places that are half trusted where the object was lost, and for its size.
        elsewhere: the same of places further away, at which lost objects are looked for.
        sigma: width of the Gaussians that samples are taken with, given the stride.
    """

    _places: Tensor
    _neighbours: Tensor
    _cells: Tensor
    _cost: Tensor
    _near: Tensor
    _sweep: Tensor
    _needed: Tensor
    _after: Tensor
    _label: Tensor

    def __init__(
        self,
        samples: int = 17,
        reach: int = 9,
        penalty: float = 0.15,
        rate: float = 0.05,
        threshold: float = 0.4,
        familiar: float = 0.15,
        retake: float = 0.5,
        elsewhere: float = 0.8,
        sigma: SigmaRule = smooth_knee_sigma,
    ) -> None:
        super().__init__()
        if samples < 3 or reach < 1:
            raise ValueError(f"`samples` must be at least 3 and `reach` positive, got {samples} and {reach}")
        self.samples, self.reach = samples, reach
        self.penalty, self.rate, self.sigma = penalty, rate, sigma
        self.threshold, self.familiar, self.retake = threshold, familiar, retake
        side, extent = 2 * reach + 1, self.extent
        row, column = torch.arange(side).repeat_interleave(side), torch.arange(side).repeat(side)
        places = torch.stack([column, row], dim=-1) - reach
        far = places.square().sum(-1) / reach**2
        apart = (places[:, None] - places).square().sum(-1)
        low, high = (
            ((column + d).clamp(0, side - 1) + side * row, column + side * (row + d).clamp(0, side - 1))
            for d in (-1, 1)
        )
        here = column + side * row
        moved = (torch.arange(extent) + places[..., None]).remainder(extent)  # (m^2, 2, N)
        cells = extent * moved[:, 1, :, None] + moved[:, 0, None, :]
        peak = peak_at_corner(extent, _SAMPLES_PER_SIDE / 16).roll(reach)
        sweep = reach * torch.tensor([_ROUND[0]] * _PATIENCE + [*_ROUND])
        for name, value in (
            ("_places", places.float()),
            ("_neighbours", torch.stack([*low, here, here, *high], dim=-1)),
            ("_cells", cells.flatten(1)),
            ("_cost", (penalty * far).masked_fill(far > 1, torch.inf)),
            ("_near", apart < (_SAMPLES_PER_SIDE / 4) ** 2),
            ("_sweep", sweep.float()),
            ("_needed", torch.where(sweep.any(1, keepdim=True), elsewhere, retake)),
            ("_after", torch.tensor([*range(1, len(sweep)), _PATIENCE])),
            # Real: `Module.to` of a type drops what is imaginary.
            ("_label", torch.view_as_real(torch.fft.rfft2(peak[:, None] * peak))),
        ):
            self.register_buffer(name, value, persistent=False)

    @property
    def extent(self) -> int:
        """N, samples along the sides of the surroundings."""
        return self.samples + 2 * self.reach

    @torch.no_grad()
    def start(self, frame: Tensor, box: Tensor) -> Memory:
        """What the first glimpse tells.

        Args:
            frame: the first one, `(B, C, H, W)`.
            box: of the object in it, `(B, 4)`, in pixels.
        """
        extent = box[:, 2:]
        stride = torch.maximum(
            extent.prod(-1, keepdim=True).sqrt() / _SAMPLES_PER_SIDE,
            extent.amax(-1, keepdim=True) / (self.samples - 1),
        )
        strides = stride / constant(_SCALES, stride)[:, None, None]
        seen = self._looks(frame, middles(box), strides, self.samples)
        half = extent / (2 * stride)
        cells = torch.arange(self.samples, device=box.device, dtype=box.dtype) - (self.samples - 1) / 2
        cover = (half[:, :, None] + 0.5 - cells.abs()).clamp(0, 1)
        falling = (-0.5 * (cells / (_WEIGHT_WIDTH * half[:, :, None])).square()).exp()
        columns, rows = F.normalize(cover * falling, p=1, dim=-1).unbind(1)
        weights = rows[:, :, None] * columns[:, None, :]
        cells = torch.arange(self.extent, device=box.device, dtype=box.dtype) - (self.extent - 1) / 2
        distance = cells / (half + _CONTEXT * _SAMPLES_PER_SIDE / 2)[:, :, None]
        across, down = (torch.pi / 2 * distance.clamp(-1, 1)).cos().square().unbind(1)
        taper = (down[:, :, None] * across[:, None, :])[:, None]
        kernels = template_kernels(seen, weights)[0]
        first = torch.fft.rfft2(kernels[1], s=(self.extent, self.extent)).conj().resolve_conj()
        sizes = kernels.transpose(0, 1).flatten(2)
        down, across = (bands(each, self.extent)[:, None].contiguous() for each in (rows, columns))
        region = self._surroundings(frame, middles(box), stride)
        learned = RidgeFilter.learned(torch.fft.rfft2(region * taper), torch.view_as_complex(self._label))
        doubtful = torch.zeros_like(box[:, 0], dtype=torch.long)
        return Memory(first, down, across, sizes, learned, taper, stride, doubtful)

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
        centre = torch.addcmul(expected, self._sweep[memory.doubtful], stride)
        region = self._surroundings(frame, centre, stride)
        answers, product = self._answers(region, memory)
        deviation = deviations(region, memory.rows, memory.columns).flatten(1)
        scores = product / deviation  # (B, m^2), as all of them
        surface = (scores + answers) / 2
        best = (surface - self._cost).argmax(1)
        at = best[:, None]
        moved = self._moved(region, at)
        inner = slice(self.reach, self.reach + self.samples)
        seen = moved[..., inner, inner].flatten(1)[:, :, None]
        sizes = memory.sizes @ seen / deviation.gather(1, at)[:, :, None]
        # Three values each on both axes, and over sizes. around.shape = (B, 3, 2), sizes.shape = (B, 3, 1)
        around = surface.gather(1, self._neighbours[best]).unflatten(1, (3, 2))
        low, here, high = torch.cat([around, sizes], dim=2).unbind(1)
        tops = top_of_parabola(low, here, high)
        place = self._places[best] + tops[:, :2].clamp(-0.5, 0.5)
        height, score, answer = here[:, :1], here[:, 2:], answers.gather(1, at)
        excess = self._excess(score, answer, memory)
        trust = (_STEEPNESS * excess).sigmoid()
        sure = (_STEEPNESS * (score - self.retake)).sigmoid()
        doubtful = self._after[memory.doubtful] * (excess[:, 0] < 0)
        there = RidgeFilter.learned(torch.fft.rfft2(moved * memory.taper), torch.view_as_complex(self._label))
        second = surface.masked_fill(self._near[best], -1.0).amax(1, keepdim=True)
        middle = len(self._places) // 2
        numbers = [place / self.reach, score, answer, scores[:, middle : middle + 1]]
        numbers += [height - second, trust, sizes[:, ::2, 0] - score, size]
        found = Found(
            shift=torch.addcmul(centre - expected, place, stride) * trust,
            score=score[:, 0],
            trust=trust[:, 0],
            growth=tops[:, 2:] * sure,
            lost=doubtful >= _PATIENCE,
            numbers=torch.cat(numbers, dim=-1),
        )
        learned = memory.filter.towards(there, self.rate * found.trust)
        return found, memory._replace(filter=learned, doubtful=doubtful)

    def _looks(self, frame: Tensor, middle: Tensor, stride: Tensor, samples: int) -> Tensor:
        """Looks of squares of samples, `(..., B, F, samples, samples)`."""
        centre = (middle - 0.5).expand(*stride.shape[:-1], 2)
        window = GaussianWindow(centre, stride.expand_as(centre), self.sigma(stride).expand_as(centre))
        colours = gaussian_read(frame, window, (samples, samples), HART_EPSILON)
        return looks(colours)

    def _surroundings(self, frame: Tensor, middle: Tensor, stride: Tensor) -> Tensor:
        """Looks `(B, F, N, N)` around an object, without their means."""
        seen = self._looks(frame, middle, stride, self.extent)
        return seen - seen.mean(dim=(-2, -1), keepdim=True)

    def _answers(self, region: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """What the filter answers at all places, and the numerators of their scores, both `(B, m^2)`."""
        spectra = torch.fft.rfft2(torch.cat([region * memory.taper, region], dim=1))
        tapered, plain = spectra.chunk(2, dim=1)
        answer = memory.filter.answer(tapered, _REGULARISATION)
        both = torch.stack([answer, (memory.first * plain).sum(dim=1)], dim=1)
        side = 2 * self.reach + 1
        at_places = torch.fft.irfft2(both, s=(self.extent, self.extent))[..., :side, :side]
        answers, product = at_places.flatten(2).unbind(1)
        return answers, product

    def _excess(self, score: Tensor, answer: Tensor, memory: Memory) -> Tensor:
        """How far what is at the best place is above what is half trusted, `(B, 1)`."""
        known = torch.maximum(score - self.threshold, answer.lerp(score, _CORRELATION) - self.familiar)
        lost = (memory.doubtful >= _PATIENCE)[:, None]
        return torch.where(lost, score - self._needed[memory.doubtful], known)

    def _moved(self, region: Tensor, at: Tensor) -> Tensor:
        """Regions `(B, F, N, N)` so moved, periodically, that places `(B, 1)` come to their middle."""
        moved = region.flatten(2).gather(2, self._cells[at].expand(-1, region.shape[1], -1))
        return moved.view_as(region)
