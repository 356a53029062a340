"""Videos in which two digits are marked, one at the beginning and one at the end: who sees both can tell.

What happens in such a video, whether the two are of one class, is told by no frame, and by no picture that is
too small for digits: it takes a glimpse that is at the mark when it is shown, and a memory.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from ... import checks
from ..storage.generated_videos import Bytes, GeneratedVideos
from .digit_images import Digits, Split
from .digits import Source, load_digits
from .multi_object import MAX_ATTEMPTS, Sprite, tight_box
from .tracks import Tracks
from .trajectories import Floats, reflect

_DIFFERENCES = 5


@dataclass(frozen=True)
class RelayRecipe:
    """How a video of the relay is made.

    Digits of one height move at constant velocities, and are mirrored at the borders. One of them is marked
    by a circle in the first `marked_frames` frames, another one in as many frames at the end; between these
    nothing is marked. The class of the first is uniform. With `task` = same, the second has its class with
    probability one half, and else one of the other nine; the answer is 1 where they are of one class, else 0.
    With `task` = difference, the answer is uniform: their difference modulo 5. In both, the class of the
    second is uniform, and independent of the answer, as is that of the first: who sees one of them only is
    right as often as by chance. The others have uniform classes.

    While a digit is marked no other is nearer than `clearance`, and the place of the second is at least
    `apart` from where the first was marked.

    Raises:
        ValueError: if a number is impossible or numbers contradict each other.
    """

    task: Literal["same", "difference"] = "same"
    """What is asked."""
    image_size: int = 128
    """Side of the frames in pixels."""
    frames: int = 8
    """Number of frames T."""
    marked_frames: int = 2
    """Frames in which each of the two is marked."""
    digits: int = 8
    """Number of digits in a video."""
    ink: int = 14
    """Their height in pixels."""
    radius: int = 11
    """Of the circle, in pixels; it is one pixel wide."""
    speed: float = 2.0
    """Greatest speed, in pixels per frame; speeds are uniform, and so are directions."""
    apart: float = 48.0
    """Least distance of the two marked places, in pixels."""
    clearance: float = 18.0
    """Least distance of a marked digit from others, from centre to centre, in pixels."""

    def __post_init__(self) -> None:
        checks.one_of(("same", "difference"), self, "task")
        checks.at_least(1, self, "image_size", "frames", "marked_frames", "ink", "radius")
        checks.at_least(2, self, "digits")
        checks.not_negative(self, "speed", "apart", "clearance")
        if self.ink > 28 or 2 * self.marked_frames > self.frames:
            raise ValueError(
                "`ink` must be at most 28, and `frames` at least twice `marked_frames`, "
                f"got {self.ink}, {self.frames} and {self.marked_frames}."
            )
        if self.room <= 0:
            raise ValueError(f"`image_size` must be at least {2 * self.reach + 2}, got {self.image_size}.")

    @property
    def classes(self) -> int:
        """Number of answers."""
        return 2 if self.task == "same" else _DIFFERENCES

    @property
    def reach(self) -> int:
        """How near to the border a centre may be, in pixels."""
        return max(self.radius + 1, 14)  # a digit is at most 28 wide

    @property
    def room(self) -> int:
        """Side of the square of centres, in pixels."""
        return self.image_size - 1 - 2 * self.reach

    def answers(self, classes: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
        """The answers `(M,)`, int64, given the label `classes` `(M, N)`."""
        first, second = classes[:, 0].astype(np.int64), classes[:, 1].astype(np.int64)
        return (first == second).astype(np.int64) if self.task == "same" else (first - second) % _DIFFERENCES

    def marks(self, boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Where the mark is in each frame, `(M, T, 2)`, x and y in pixels; NaN where nothing is marked.

        Args:
            boxes: the label, `(M, T, N, 4)`.
        """
        middles = (boxes[..., :2] + (boxes[..., 2:] - 1) / 2).astype(np.float32)
        places = np.full_like(middles[:, :, 0], np.nan)
        places[:, : self.marked_frames] = middles[:, : self.marked_frames, 0]
        places[:, -self.marked_frames :] = middles[:, -self.marked_frames :, 1]
        return places

    def draw_classes(self, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """The classes of all digits of a video; the first two are marked."""
        classes = rng.integers(0, 10, self.digits)
        if self.task == "difference":
            classes[1] = (classes[0] - rng.integers(_DIFFERENCES) + _DIFFERENCES * rng.integers(2)) % 10
        else:
            classes[1] = (classes[0] + rng.integers(2) * rng.integers(1, 10)) % 10
        return classes

    def draw_centres(self, rng: np.random.Generator) -> Floats:
        """Centres of the digits in all frames `(T, N, 2)`, y before x, in pixels.

        Raises:
            ValueError: if the marked digits find no place.
        """
        times = np.arange(self.frames)[:, None, None]
        for _ in range(MAX_ATTEMPTS):
            start = rng.uniform(0, self.room, (self.digits, 2))
            angle, speed = rng.uniform(0, 2 * np.pi, self.digits), rng.uniform(0, self.speed, self.digits)
            path = start + times * (speed * np.stack([np.sin(angle), np.cos(angle)]))[None].swapaxes(1, 2)
            centres = self.reach + reflect(path, 0, self.room)
            if self._allows(centres):
                return centres
        raise ValueError(
            f"found no place for marked digits {self.apart:g} pixels from each other and {self.clearance:g} "
            f"from others in {MAX_ATTEMPTS} scenes of {self.image_size} x {self.image_size} pixels."
        )

    def _allows(self, centres: Floats) -> bool:
        first, last = centres[: self.marked_frames], centres[-self.marked_frames :]
        ways = last[None, :, 1] - first[:, None, 0]
        if np.hypot(ways[..., 0], ways[..., 1]).min() < self.apart:
            return False
        for part, slot in ((first, 0), (last, 1)):
            ways = np.delete(part, slot, axis=1) - part[:, slot, None]
            if np.hypot(ways[..., 0], ways[..., 1]).min() < self.clearance:
                return False
        return True


class Relay(GeneratedVideos):
    """Videos of the relay, made when they are asked for, see `GeneratedVideos`.

    Labels, as in `VideoData`; a slot is an identity. The first slot is the digit that is marked at first, the
    second the one that is marked at last, see `RelayRecipe.answers` and `RelayRecipe.marks`.

    - `count`: digits in the video, constant.
    - `classes`: the digit's class.
    - `boxes`: the ink at its place before rounding, see `MovingDigits`.
    - `visible`: 1; that ink may be hidden by other ink does not count.

    Args:
        recipe: how a video is made.
        digits: pictures of the digits.
        size: number of videos.
        seed: seed of the videos.
        purpose: data sets of different purposes are independent for one and the same seed.

    Raises:
        ValueError: if `size` is not positive, `seed` is not in [0, 2^64), or there are classes of which
            `digits` has none.
    """

    def __init__(
        self, recipe: RelayRecipe, digits: Digits, size: int, seed: int, *, purpose: str = "relay"
    ) -> None:
        super().__init__((size, recipe.frames, 1, recipe.image_size, recipe.image_size), seed, purpose)
        self.recipe, self.digits = recipe, digits
        self._of_class = [np.flatnonzero(digits.labels == each) for each in range(10)]
        self._inks: dict[int, Bytes] = {}
        if missing := [each for each, rows in enumerate(self._of_class) if not len(rows)]:
            raise ValueError(f"`digits` must be of all ten classes, got none of {missing}.")

    def _make(self, rngs: Sequence[np.random.Generator]) -> tuple[Bytes, dict[str, npt.NDArray[Any]]]:
        recipe = self.recipe
        scenes = [self._draw(rng) for rng in rngs]
        nothing = np.zeros((recipe.frames, 0, 2))
        corners = np.concatenate([nothing, *(scene.corners for scene in scenes)], axis=1)
        on = np.ones(corners.shape[:2], dtype=bool)
        tracks = Tracks.of([scene.sprites for scene in scenes], corners, on)
        video = np.zeros((len(rngs), *self.shape[1:]), dtype=np.uint8)
        tracks.paint(video[:, :, 0])
        labels = tracks.labels(len(rngs), recipe.digits, recipe.image_size)
        for frames, places in zip(video[:, :, 0], recipe.marks(np.rint(labels["boxes"])), strict=True):
            for frame, place in zip(frames, places, strict=True):
                if not np.isnan(place[0]):
                    _draw_circle(frame, place, recipe.radius)
        return video, labels

    def _draw(self, rng: np.random.Generator) -> "_Scene":
        classes = self.recipe.draw_classes(rng)
        rows = [self._of_class[each] for each in classes]
        picks = [int(rows[i][rng.integers(len(rows[i]))]) for i in range(len(rows))]
        sprites = [
            Sprite(self._ink(pick), 0, 0, int(each)) for pick, each in zip(picks, classes, strict=True)
        ]
        sizes = np.array([sprite.ink.shape for sprite in sprites])
        return _Scene(sprites, self.recipe.draw_centres(rng) - (sizes - 1) / 2)

    def _ink(self, pick: int) -> Bytes:
        if pick not in self._inks:
            self._inks[pick] = _resized(self.digits.images[pick], self.recipe.ink)
        return self._inks[pick]


def relay_videos(
    recipe: RelayRecipe,
    split: Split,
    size: int,
    seed: int,
    *,
    source: Source = "mnist",
    folder: str | os.PathLike[str] | None = None,
) -> Relay:
    """Videos of the relay: training videos of training digits, test videos of test digits.

    Args:
        recipe: how a video is made.
        split: `"train"` or `"test"`.
        size: number of videos.
        seed: seed of the videos, and of the glyphs if they are the source.
        source: `"mnist"` or `"glyphs"`, as in `load_digits`.
        folder: where the MNIST files are, as in `load_digits`.

    Raises:
        DataError: if the MNIST files cannot be found, fetched or read.
        ValueError: if an argument is not one of those above.
    """
    digits = load_digits(source, split, seed=seed, folder=folder)
    return Relay(recipe, digits, size, seed, purpose=f"relay/{split}")


class _Scene(NamedTuple):
    """What is random in a video."""

    sprites: list[Sprite]
    """The digits; their places are in `corners`."""
    corners: Floats
    """Of the ink in all frames, `(T, N, 2)`."""


def _resized(picture: Bytes, height: int) -> Bytes:
    """The ink of a picture, resized to a height; at most 28 pixels wide."""
    left, top, width, tall = tight_box(picture)
    ink = Image.fromarray(picture[top : top + tall, left : left + width])
    side = min(max(round(width * height / tall), 1), 28)
    return np.asarray(ink.resize((side, height), Image.Resampling.BILINEAR))


def _draw_circle(frame: Bytes, centre: npt.NDArray[np.float32], radius: int) -> None:
    """A white circle, one pixel wide; `centre` is x and y."""
    left, top = (int(np.floor(x)) - radius - 1 for x in centre)
    side = 2 * radius + 4
    window = frame[top : top + side, left : left + side]
    rows, columns = np.ogrid[top : top + window.shape[0], left : left + window.shape[1]]
    window[abs(np.hypot(rows - centre[1], columns - centre[0]) - radius) <= 0.5] = 255
