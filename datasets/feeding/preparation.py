"""What is done to the frames of a user's video before a model sees them: objects become bright on black.

A model that draws objects on a dark ground cannot know anything of a street or of a bright dish. What it
sees instead is how far pixels are from the ground that is seen where no object is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from ... import checks
from ..errors import DataError
from ..opening.picture import image_array, read_image

__all__ = ["BACKGROUNDS", "RUNNING", "PreparedVideo", "Preparation"]

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

BACKGROUNDS = ("none", "median", "running", "first", "local")
"""Grounds that have a name; others are pictures."""
_EXPECTED = f"`background` must be one of {', '.join(BACKGROUNDS)}, or the path of a picture"

RUNNING = 15
"""Frames of a sample whose median is a running ground."""

_NOISE = 3.0  # standard deviations of the ground's noise that are taken for black
_OBJECT = 6.0  # ... that only objects exceed
_BRIGHT = 0.95  # share of the pixels of objects that are no brighter than white
_LEAST_CONTRAST = 16.0  # grey values from black to white: less would be noise that is made visible
_FOR_NOISE = 10**6
_TILES = 6  # of a frame's height and width, of which each has one local ground
_FAINT = 0.25  # of the contrast of the brightest pixels of objects
_CLEAR = 20.0  # times more pixels of objects on one side of the ground that tell the polarity


@dataclass(frozen=True)
class Preparation:
    """How frames are prepared; by default nothing is done to them.

        y = 255 (d - black) / (white - black), cut to [0, 255],
        d = x - ground (bright), ground - x (dark), or |x - ground| (both)

    The numbers `black` and `white` and the polarity are found once, on training frames, by `settled`; a
    model keeps them. The ground is each video's own.

    Raises:
        ValueError: if a level is not in [0, 255], or `white` is not above `black`.
    """

    background: str = field(default="none", metadata={"source": True})
    """The ground: `none`, black, or white for dark objects, or, for `both`, the median of a frame; of a
    static camera the `median` of up to 48 frames from all over the video, the `running` one of the nearest 15
    of these, where light changes slowly (what stays for 8 of them, a sixth of the video, is ground; where
    frames are so large that a sample has 15 at most, it is the median), its `first` frame, or the path of a
    picture of the empty scene; `local`, of every frame itself, what most pixels of a sixth of its width and
    height have.
    """
    polarity: Literal["bright", "dark", "both", "auto"] = "bright"
    """Whether objects are brighter than the ground, darker, or either; `auto` looks at training frames."""
    normalise: bool = False
    """Make the ground's noise black, and white what 95 % of the pixels of objects do not exceed."""
    black: float | None = None
    """Grey value of d that becomes black; by default found if `normalise`, and else 0."""
    white: float | None = None
    """Grey value of d that becomes white; by default found if `normalise`, and else 255."""

    def __post_init__(self) -> None:
        checks.literals(self)
        checks.within("[0, 255)", self, "black")
        checks.within("(0, 255]", self, "white")
        if self.black is not None and self.white is not None and self.white <= self.black:
            raise ValueError(f"`white` must be above `black` = {self.black}, got {self.white}")
        if self.background not in BACKGROUNDS:
            if not self.background:
                raise ValueError(f"{_EXPECTED}, got ''")
            whole = str(Path(self.background).expanduser().absolute())
            object.__setattr__(self, "background", whole)

    @property
    def changes(self) -> bool:
        """Whether anything is done to frames."""
        return self != Preparation() and self != Preparation(black=0.0, white=255.0)

    def settled(self, sample: Bytes) -> Preparation:
        """The same with the polarity and levels that frames `(n, C, H, W)` of a training video have.

        Raises:
            DataError: if the picture of the background cannot be read, or has another shape.
        """
        return self.of(sample, range(len(sample))).preparation if self.unsettled else self

    @property
    def unsettled(self) -> bool:
        """Whether there is anything to find out about a video."""
        levels = self.normalise and (self.black is None or self.white is None)
        return self.changes and (self.polarity == "auto" or levels)

    def _settled(self, sample: Bytes, ground: Floats | None) -> Preparation:
        """The same, given the ground of the sample."""
        signed = self._signed(sample, ground)
        middle, noise = _middle_and_noise(signed)
        polarity = self.polarity if self.polarity != "auto" else _polarity(signed - middle, noise)
        chosen = replace(self, polarity=polarity)
        if not self.normalise:
            return chosen
        d = _turned(chosen._signed(sample, ground), polarity)
        middle = _middle_and_noise(d)[0] if polarity != "both" else abs(middle)
        black, white = self.black, self.white
        if black is None:
            most = (255.0 if white is None else white) - _LEAST_CONTRAST
            black = round(max(0.0, min(middle + _NOISE * noise, most)), 2)
        if white is not None:
            return replace(chosen, black=black)
        objects = d[d > max(black, middle + _OBJECT * noise)]
        found = float(np.quantile(objects, _BRIGHT)) if objects.size else 255.0
        least = black + max(_LEAST_CONTRAST, _OBJECT * noise)
        return replace(chosen, black=black, white=round(min(255.0, max(found, least)), 2))

    def contrast(self, sample: Bytes) -> float:
        """How many standard deviations of the ground's noise are from black to white in frames of a video."""
        prepared = self.of(sample, range(len(sample)))
        settled, ground = prepared.preparation, _ground_at(prepared.ground, np.arange(len(sample)))
        noise = _middle_and_noise(settled._signed(sample, ground))[1]
        return ((255.0 if settled.white is None else settled.white) - (settled.black or 0.0)) / noise

    def of(self, sample: Bytes, places: Sequence[int] | None = None) -> PreparedVideo:
        """What is done to the frames of a video.

        Args:
            sample: `(n, C, H, W)`: some frames from all over the video, the first one first.
            places: their numbers in the video, ascending; a running ground needs them.

        Raises:
            DataError: as `settled`.
            ValueError: if a running ground is not told the places, or of others than the sample's.
        """
        if self.background == "running" and (places is None or len(places) != len(sample)):
            given = "none" if places is None else len(places)
            raise ValueError(f"a running ground needs the `places` of {len(sample)} frames, got {given}")
        numbers = np.arange(len(sample)) if places is None else np.asarray(places)
        ground = self._ground(sample, numbers)
        settled = self._settled(sample, _ground_at(ground, numbers)) if self.unsettled else self
        return PreparedVideo(settled, ground)

    def _ground(self, sample: Bytes, numbers: npt.NDArray[np.integer]) -> Floats | RunningGround | None:
        """The ground of a video, `(C, H, W)` or as it changes; None where every frame has its own."""
        if self.background in ("none", "local"):
            return None
        if self.background == "running":
            return RunningGround.of(sample, numbers)
        if self.background == "median":
            return np.median(sample, axis=0).astype(np.float32)
        if self.background == "first":
            return sample[0].astype(np.float32)
        channels, *size = sample.shape[1:]
        try:
            picture = read_image(Path(self.background), None, grey=channels == 1)
        except DataError as error:
            raise DataError(f"{error} {_EXPECTED}.") from error
        picture = image_array(Image.fromarray(picture), (size[0], size[1]), grey=channels == 1)
        planes = picture.transpose(2, 0, 1) if picture.ndim == 3 else picture[None]
        if len(planes) not in (1, channels):
            raise DataError(f"{self.background}: expected {channels} channels, got {len(planes)}.")
        return np.broadcast_to(planes, sample.shape[1:]).astype(np.float32)

    def _signed(self, frames: Bytes, ground: Floats | None) -> Floats:
        """How much brighter than the ground, of all or of each, pixels are."""
        pixels = frames.astype(np.float32)
        if ground is not None:
            return pixels - ground
        if self.background == "local":
            return pixels - _local_ground(pixels)
        if self.polarity in ("both", "auto"):
            return pixels - np.median(pixels, axis=(-2, -1), keepdims=True)
        return pixels - (255.0 if self.polarity == "dark" else 0.0)


@dataclass(frozen=True, eq=False)
class PreparedVideo:
    """Prepares the frames of one video."""

    preparation: Preparation
    """How, with all numbers."""
    ground: Floats | RunningGround | None
    """`(C, H, W)`, or as it changes; None where every frame has its own."""

    def __call__(self, frames: Bytes, start: int = 0) -> Bytes:
        """The frames `(n, C, H, W)`, prepared.

        Args:
            frames: as they are in the video.
            start: number of the first of them there.
        """
        prepare = self.preparation
        if not prepare.changes:
            return frames
        ground = _ground_at(self.ground, np.arange(start, start + len(frames)))
        d = _turned(prepare._signed(frames, ground), prepare.polarity)
        black, white = prepare.black or 0.0, 255.0 if prepare.white is None else prepare.white
        return np.rint(((d - black) * (255.0 / (white - black))).clip(0, 255)).astype(np.uint8)


class RunningGround(NamedTuple):
    """A ground that changes in the course of a video."""

    medians: Bytes
    """`(m, C, H, W)`."""
    places: npt.NDArray[np.integer]
    """Numbers of the frames of which they are the ground, `(m,)`."""

    @classmethod
    def of(cls, sample: Bytes, places: npt.NDArray[np.integer]) -> RunningGround:
        """The medians of all `RUNNING` frames in a row of a sample, or of all frames if it has fewer."""
        number = min(RUNNING, len(sample))
        starts = range(len(sample) - number + 1)
        medians = [np.median(sample[i : i + number], axis=0).round().astype(np.uint8) for i in starts]
        return cls(np.stack(medians), places[number // 2 :][: len(starts)])

    def at(self, numbers: npt.NDArray[np.integer]) -> Floats:
        """Linearly between the medians before and after; before the first and after the last, theirs."""
        place = np.interp(numbers, self.places, np.arange(len(self.places)))
        before = place.astype(int)
        after = np.minimum(before + 1, len(self.places) - 1)
        share = (place - before).astype(np.float32)[:, None, None, None]
        return (1 - share) * self.medians[before] + share * self.medians[after]


def _ground_at(ground: Floats | RunningGround | None, numbers: npt.NDArray[np.integer]) -> Floats | None:
    return ground.at(numbers) if isinstance(ground, RunningGround) else ground


def _turned(signed: Floats, polarity: str) -> Floats:
    if polarity == "both":
        return np.abs(signed)
    return -signed if polarity == "dark" else signed


def _middle_and_noise(values: Floats) -> tuple[float, float]:
    """Median, and the distance from it within which 68 % are, a normal's standard deviation: of some values.

    Where a third of a scene is objects, the latter is still that of the ground.
    """
    some = values.ravel()[:: max(1, values.size // _FOR_NOISE)]
    middle = float(np.median(some))
    # Grey values are rounded, and so their distances would be.
    spread = some - middle + np.random.default_rng(0).uniform(-0.5, 0.5, some.shape)
    return middle, max(float(np.quantile(np.abs(spread), 0.6827)), 0.5)


def _polarity(difference: Floats, noise: float) -> Literal["bright", "dark", "both"]:
    """On which side of the ground objects are.

    Pixels count, not how far they are off: of those in black and those in white none may be lost. But faint
    ones do not, as there are around what a ground of the frame itself has been taken from.
    """
    off = np.abs(difference)
    objects = off[off > _OBJECT * noise]
    least = max(_OBJECT * noise, _FAINT * float(np.quantile(objects, _BRIGHT))) if objects.size else 0.0
    above, below = (int((side > least).sum()) for side in (difference, -difference))
    if above > _CLEAR * below or above + below == 0:
        return "bright"
    return "dark" if below > _CLEAR * above else "both"


def _local_ground(pixels: Floats) -> Floats:
    """The medians of tiles of each frame `(n, C, H, W)`, with linear transitions between their middles.

    An object that fills a tile is not taken for ground: of each tile and those around it the median counts.
    """
    height, width = pixels.shape[-2:]
    edges = [np.linspace(0, side, min(_TILES, side) + 1).round().astype(int) for side in (height, width)]
    rows = [slice(a, b) for a, b in zip(edges[0][:-1], edges[0][1:], strict=True)]
    columns = [slice(a, b) for a, b in zip(edges[1][:-1], edges[1][1:], strict=True)]
    medians = np.stack(
        [np.stack([np.median(pixels[..., r, c], (-2, -1)) for c in columns], -1) for r in rows], -2
    )
    # A ground that rises evenly does so beyond the border, too.
    beyond = np.pad(medians, [(0, 0), (0, 0), (1, 1), (1, 1)], "reflect", reflect_type="odd")
    n, m = len(rows), len(columns)
    medians = np.median([beyond[..., i : i + n, j : j + m] for i in range(3) for j in range(3)], 0)
    down, across = (
        _between(side, (edge[:-1] + edge[1:] - 1) / 2)
        for side, edge in zip((height, width), edges, strict=True)
    )
    return (down @ medians.astype(np.float32) @ across.T).astype(np.float32)


def _between(side: int, middles: npt.NDArray[np.float64]) -> Floats:
    """Weights `(side, n)` by which values at n places are interpolated; beyond the outer ones they go on."""
    return np.stack(
        [np.interp(np.arange(side), middles, unit) for unit in np.eye(len(middles))], axis=-1
    ).astype(np.float32)
