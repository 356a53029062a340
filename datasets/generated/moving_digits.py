"""Videos of several moving digits: SQAIR's moving multi-MNIST, and the version whose digits come and go."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ... import checks
from ..storage.generated_videos import GeneratedVideos, check_size
from ..storage.video import VideoBatch
from .digit_images import Digits, Split
from .digits import Source, load_digits
from .multi_object import Sprite, StaticSqairRecipe
from .tracks import Bytes, Tracks
from .trajectories import Floats, Motion, MotionState


class VideoRecipe(Protocol):
    """How videos are made of digits: `MovingDigitsRecipe` is SQAIR's way, `RatmDigitsRecipe` RATM's."""

    @property
    def max_objects(self) -> int:
        """Greatest number of digits in a video."""

    @property
    def image_size(self) -> int:
        """Side of the frames in pixels."""

    @property
    def frames(self) -> int:
        """Number of frames T."""

    @property
    def noise_std(self) -> float:
        """Standard deviation of the noise of the pixels, grey values being in [0, 1]."""

    def tracks(self, digits: Digits, rngs: Sequence[np.random.Generator]) -> Tracks:
        """Draws one video from each generator."""


@dataclass(frozen=True)
class MovingDigitsRecipe:
    """How a video of moving digits is made.

    The first frame is one of `StaticSqairRecipe`: digits that do not overlap, each its tight box of ink. From
    there every digit moves as `Motion` says, drawn at its rounded position; digits may pass over each other
    (joined by the elementwise maximum) and leave the frame on the right or at the bottom, where they are cut
    off, but they come back.

    With `intermittent`, digits appear and disappear: each is *on* from a uniform frame a in {1..T} to a
    uniform frame b in {a..T}. With `return_probability` it is on a second time, if the video is long enough:
    after at least one frame without it, from a uniform frame c in {b+2..T} to a uniform frame in {c..T}. It
    keeps moving while it is off. The appendix of the paper only says that digits appear and disappear at
    arbitrary times; the distribution is this project's.

    Source: section 4.1 and appendix F of Kosiorek et al. (2018), Sequential Attend, Infer, Repeat, and its
    code, which fixes what the paper leaves open.

    Raises:
        ValueError: if a number is impossible or numbers contradict each other.
    """

    min_objects: int = 0
    """Smallest number of digits in a video."""
    max_objects: int = 2
    """Greatest number of digits in a video; the number is uniform."""
    image_size: int = 50
    """Side of the frames in pixels."""
    frames: int = 10
    """Number of frames T."""
    motion: Motion = field(default_factory=Motion)
    """How the digits move."""
    intermittent: bool = False
    """Whether digits appear and disappear; without it all are on in all frames."""
    return_probability: float = 0.0
    """Probability that an intermittent digit is on a second time; 0.5 is recommended for rediscovery."""
    noise_std: float = 0.0
    """Standard deviation of Gaussian noise added to every pixel, grey values being in [0, 1]; the sum is
    clipped to [0, 1]. The original has none.
    """

    def __post_init__(self) -> None:
        self.first_frame  # noqa: B018  # its constructor checks the three numbers that both have
        check_frames(self)
        checks.share(self, "return_probability")
        if self.return_probability and not self.intermittent:
            raise ValueError(
                "`return_probability` needs `intermittent`: digits that are always on never return."
            )

    @property
    def first_frame(self) -> StaticSqairRecipe:
        """How the digits are placed in the first frame."""
        return StaticSqairRecipe(self.min_objects, self.max_objects, self.image_size)

    def tracks(self, digits: Digits, rngs: Sequence[np.random.Generator]) -> Tracks:
        """Draws one video from each generator.

        Raises:
            ValueError: if the digits of a video find no place in the first frame.
        """
        scenes = [_Scene.draw(self, digits, rng) for rng in rngs]
        first = np.array([(s.top, s.left) for scene in scenes for s in scene.sprites], dtype=np.float64)
        nothing = np.zeros((self.frames, 0, 2))
        motion = (np.concatenate([nothing[0], *(s.motion[i] for s in scenes)]) for i in range(3))
        noise = np.concatenate([nothing, *(scene.noise for scene in scenes)], axis=1)
        corners = self.motion.trajectory(first.reshape(-1, 2), MotionState(*motion), noise, self.image_size)
        on = np.concatenate([nothing[..., 0] > 0, *(scene.on for scene in scenes)], axis=1)
        return Tracks.of([scene.sprites for scene in scenes], corners, on)


class MovingDigits(GeneratedVideos):
    """Videos of moving digits, made when they are asked for: the interface of `VideoData` without its memory.

    Video `i` is a pure function of `(recipe, digits, seed, purpose, i)`: the same in whichever batch, process
    or order it is made. Recipes that differ in `noise_std` give the same scenes, and so do
    `MovingDigitsRecipe`s that differ in `intermittent`, seen when their digits are on.

    Labels, as in `VideoData`; the slots of a video are its digits in the order in which they were placed, so
    a slot is an *identity*: it is the same digit in all frames.

    - `count`: digits that are on, as published, so those that are out of the frame count too; see
      `visible_count` for the others.
    - `classes`: the digit's class, constant.
    - `boxes`: the top-left corner before rounding, not cut off at the frame's border: the ink is drawn at
      `round(left), round(top)` (halves to even, in float32) and fills `width x height`. Zeros while the digit
      is off, see `present`.
    - `visible`: the fraction of the digit's ink (sum of grey values) inside the frame, as drawn. Ink hidden
      by another digit counts as visible. 0 while the digit is off.

    Making videos costs little beside learning from them: a batch of 32 with the default recipe takes 4 ms on
    one core of a server (13 ms with noise, 15 ms for 100 frames, 8 ms for up to 5 digits in frames of 100 x
    100). A training step of SQAIR takes about 300 ms on such a machine, of which this is 1.5 % (4.5 % with
    noise). Reading the batch from a file that `save_video` wrote takes 2 ms, and the file has to be made
    first; taking it from memory takes 0.3 ms, and 1.5 GB for 60,000 videos. So this is the default way, and
    files are for other programs, or where 1 % matters.

    Args:
        recipe: how a video is made.
        digits: pictures of the digits.
        size: number of videos.
        seed: seed of the videos.
        purpose: data sets of different purposes are independent for one and the same seed.

    Raises:
        ValueError: if `size` is not positive, `seed` is not in [0, 2^64), or there are fewer digits than
            `recipe.max_objects`.
    """

    def __init__(
        self,
        recipe: VideoRecipe,
        digits: Digits,
        size: int,
        seed: int,
        *,
        purpose: str = "moving_digits",
    ) -> None:
        super().__init__((size, recipe.frames, 1, recipe.image_size, recipe.image_size), seed, purpose)
        if len(digits) < recipe.max_objects:
            raise ValueError(f"`digits` must have at least {recipe.max_objects} digits, got {len(digits)}.")
        self.recipe, self.digits = recipe, digits

    def _make(self, rngs: Sequence[np.random.Generator]) -> tuple[Bytes, dict[str, npt.NDArray[Any]]]:
        tracks = self.recipe.tracks(self.digits, rngs)
        video = np.zeros((len(rngs), *self.shape[1:]), dtype=np.uint8)
        tracks.paint(video[:, :, 0])
        if self.recipe.noise_std:
            for frames, rng in zip(video, rngs, strict=True):
                _add_noise(frames, self.recipe.noise_std, rng)
        return video, tracks.labels(len(rngs), self.recipe.max_objects, self.recipe.image_size)


def moving_digit_videos(
    recipe: VideoRecipe,
    split: Split,
    size: int,
    seed: int,
    *,
    source: Source = "mnist",
    folder: str | os.PathLike[str] | None = None,
) -> MovingDigits:
    """Videos of moving digits: training videos of training digits, test videos of test digits.

    Args:
        recipe: how a video is made.
        split: `"train"` or `"test"`.
        size: number of videos; the paper has 60,000 for training and 10,000 for testing.
        seed: seed of the videos, and of the glyphs if they are the source.
        source: `"mnist"` or `"glyphs"`, as in `load_digits`.
        folder: where the MNIST files are, as in `load_digits`.

    Raises:
        DataError: if the MNIST files cannot be found, fetched or read.
        ValueError: if an argument is not one of those above.
    """
    check_size(size, seed)
    digits = load_digits(source, split, seed=seed, folder=folder)
    return MovingDigits(recipe, digits, size, seed, purpose=f"moving_digits/{split}")


def present(batch: VideoBatch) -> Tensor:
    """Which slots hold an object in each frame `(B, T, N)`, boolean: those whose box has a width.

    Raises:
        ValueError: if the batch has no boxes.
    """
    if batch.boxes is None:
        raise ValueError("`batch` has no `boxes`, from which to tell which objects are present.")
    return batch.boxes[..., 2] > 0


def visible_count(batch: VideoBatch, threshold: float = 0.0) -> Tensor:
    """Number of objects in each frame `(B, T)`, int64, of which something is to be seen.

    Labels count objects outside the frame, as published; a model that sees one frame cannot.

    Args:
        batch: videos with the label `visible`.
        threshold: count what is visible to at least this fraction, in [0, 1]; with 0, what is visible at all.

    Raises:
        ValueError: if the batch has no such label, or `threshold` is out of range.
    """
    if batch.visible is None:
        raise ValueError("`batch` has no label `visible`, from which to count.")
    if not 0 <= threshold <= 1:
        raise ValueError(f"`threshold` must be in [0, 1], got {threshold}.")
    return ((batch.visible > 0) & (batch.visible >= threshold)).sum(-1)


def check_frames(recipe: VideoRecipe) -> None:
    """Refuses numbers of frames and noise that cannot be.

    Raises:
        ValueError: if `frames` is not positive, or `noise_std` is negative or not finite.
    """
    checks.at_least(1, recipe, "frames")
    checks.not_negative(recipe, "noise_std")


class _Scene(NamedTuple):
    """What is random in a video, except the noise of its pixels; it has n digits."""

    sprites: list[Sprite]
    """The digits, at their places in the first frame."""
    motion: MotionState
    """Arrays `(n, 2)`."""
    noise: Floats
    """Of the accelerations, `(T, n, 2)`."""
    on: npt.NDArray[np.bool_]
    """In which frames each digit is on, `(T, n)`."""

    @classmethod
    def draw(cls, recipe: MovingDigitsRecipe, digits: Digits, rng: np.random.Generator) -> "_Scene":
        count = int(rng.integers(recipe.min_objects, recipe.max_objects + 1))
        sprites = recipe.first_frame.draw(digits, count, rng).sprites
        motion = recipe.motion.draw(count, recipe.image_size, rng)
        noise = recipe.motion.draw_noise(count, recipe.frames, rng)
        on = np.ones((recipe.frames, count), dtype=bool)
        if recipe.intermittent:
            for digit in range(count):
                on[:, digit] = _intervals(recipe.frames, recipe.return_probability, rng)
        return cls(sprites, motion, noise, on)


def _intervals(frames: int, return_probability: float, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """In which frames an intermittent digit is on, `(T,)`."""
    on = np.zeros(frames, dtype=bool)
    first = int(rng.integers(frames))
    last = int(rng.integers(first, frames))
    on[first : last + 1] = True
    if rng.random() < return_probability and last + 2 < frames:
        first = int(rng.integers(last + 2, frames))
        last = int(rng.integers(first, frames))
        on[first : last + 1] = True
    return on


def _add_noise(frames: Bytes, std: float, rng: np.random.Generator) -> None:
    noise = rng.standard_normal(frames.shape, dtype=np.float32)
    noise *= np.float32(255 * std)
    noise += frames
    np.clip(np.rint(noise, out=noise), 0, 255, out=noise)
    frames[...] = noise
