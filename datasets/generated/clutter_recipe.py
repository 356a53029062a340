"""How videos of an object in clutter are made, from plain to hard."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ... import checks

HARDEST: Mapping[str, Any] = {
    "sides": (0.18, 0.35),
    "speed": 0.03,
    "overhang": 0.25,
    "min_distractors": 2,
    "max_distractors": 4,
    "likeness": 0.5,
    "texture": 0.7,
    "contrast": 0.25,
    "background": 0.35,
    "clutter": 20,
    "camera_speed": 0.02,
    "occluders": 3,
    "scale_drift": 0.02,
    "appearance_drift": 0.03,
    "noise_std": 0.04,
}
"""What the hardest videos have; the easiest ones are the defaults of `ClutterRecipe`."""

_GREATEST = {
    "speed": 0.25,
    "inertia": 1,
    "overhang": 0.5,
    "likeness": 1,
    "texture": 1,
    "contrast": 0.5,
    "background": 1,
    "camera_speed": 1,
    "scale_drift": 0.2,
    "appearance_drift": 0.5,
    "noise_std": 1,
}  # of fields that are from 0 to there


@dataclass(frozen=True)
class ClutterRecipe:
    """How a video of an object in clutter is made; the defaults are a plain object on a plain ground.

    The object to follow, the *target*, is in slot 0. It and its distractors are different pictures of one
    class, each with its own colours and texture; they pass in front of and behind each other in an order
    that is drawn once. Behind them is a ground of random fields and small shapes, which a camera flies over;
    before them are bars and patches, which do not move. In the first frame the target is wholly visible: what
    could hide it is elsewhere, or behind it.

    Lengths are fractions of the frame's shorter side, so a speed of 0.01 is 0.64 pixels per frame in frames
    of 64 x 64; colours are in [0, 1]. A longer video begins with the shorter one, but for the rounding of a
    grey value in a million.

    - Motion: the velocity of an object is `inertia` times that of the frame before plus a random change,
      whose size keeps the root mean square at `speed` on each axis. Its middle is mirrored so far from the
      border that no more than `overhang` of its first box is outside.
    - Size: multiplied each frame by a factor within 1 - `scale_drift` and 1 + `scale_drift`, which itself
      drifts, and mirrored at the ends of `sides`.
    - Appearance: the logarithms of an object's brightness and of each colour channel are random walks with
      steps of `appearance_drift` and of half of it, mirrored at +-0.4 and +-0.3; and its texture turns into
      another one in about 1 / `appearance_drift` frames, then back.
    - Camera: it flies at `camera_speed` in a direction that turns slowly. Objects and occluders do not move
      with the ground.

    `of_difficulty` makes recipes between the defaults and `HARDEST`:

    | level            | 0         | 1/2        | 1         |
    |------------------|-----------|------------|-----------|
    | sides            | 0.25-0.35 | 0.215-0.35 | 0.18-0.35 |
    | speed            | 0.01      | 0.02       | 0.03      |
    | overhang         | 0         | 0.125      | 0.25      |
    | distractors      | 0         | 1-2        | 2-4       |
    | likeness         | 0         | 0.25       | 0.5       |
    | texture          | 0         | 0.35       | 0.7       |
    | contrast         | 0.4       | 0.325      | 0.25      |
    | background       | 0         | 0.175      | 0.35      |
    | clutter          | 0         | 10         | 20        |
    | camera_speed     | 0         | 0.01       | 0.02      |
    | occluders        | 0         | 2          | 3         |
    | scale_drift      | 0         | 0.01       | 0.02      |
    | appearance_drift | 0         | 0.015      | 0.03      |
    | noise_std        | 0         | 0.02       | 0.04      |

    Over 30 frames, the first box for ever has a mean overlap of 0.42, 0.24 and 0.17 with the target's, and
    its true box of the frame before has 0.89, 0.78 and 0.68; of the target 1, 0.93 and 0.84 is visible.

    The benchmark is this project's; Kosiorek, Bewley and Posner (2017) train on real video only.

    Raises:
        ValueError: if a number is impossible or numbers contradict each other.
    """

    image_size: int | tuple[int, int] = 64
    """Side of the frames in pixels, or their (height, width); at least 16."""
    channels: int = 3
    """1 for grey frames, 3 for colour."""
    frames: int = 30
    """Number of frames T."""
    sides: tuple[float, float] = (0.25, 0.35)
    """Range of the longer side of an object's box, in all frames; at most 0.5."""
    speed: float = 0.01
    """Root mean square of an object's velocity on each axis, per frame."""
    inertia: float = 0.9
    """How much of the velocity remains from frame to frame, in [0, 1]."""
    overhang: float = 0.0
    """Fraction of its first box by which an object may leave the frame on each side, in [0, 0.5]: the middle
    stays inside. As its size drifts it may be a little more or less.
    """
    min_distractors: int = 0
    """Smallest number of distractors."""
    max_distractors: int = 0
    """Greatest number of distractors; the number is uniform."""
    likeness: float = 0.0
    """How much of the target's colours the distractors have, in [0, 1]."""
    texture: float = 0.0
    """How much of an object's second colour its texture shows, in [0, 1]."""
    contrast: float = 0.4
    """Least difference between an object's first colour and the mean of the ground, in some channel, before
    the colour drifts and distractors become like the target; at most 0.5, which every ground leaves room for.
    """
    background: float = 0.0
    """Amplitude of each of the two random fields of the ground, in [0, 1]."""
    clutter: int = 0
    """Number of small shapes on a frame's area of the ground."""
    camera_speed: float = 0.0
    """By how much the ground moves, per frame."""
    occluders: int = 0
    """Number of bars and patches in front; one that finds no place beside the target's first box is left out.
    """
    scale_drift: float = 0.0
    """Greatest relative change of an object's size per frame."""
    appearance_drift: float = 0.0
    """How fast brightness, colours and texture of an object change; see the class."""
    noise_std: float = 0.0
    """Standard deviation of Gaussian noise added to every value of every pixel; the sum is clipped."""

    def __post_init__(self) -> None:
        frame = self.image_size if isinstance(self.image_size, tuple) else (self.image_size,) * 2
        if len(frame) != 2 or not all(isinstance(side, int) and side >= 16 for side in frame):
            raise ValueError(
                "`image_size` must be a number of pixels or (height, width), at least 16, "
                f"got {self.image_size}."
            )
        if self.channels not in (1, 3):
            raise ValueError(f"`channels` must be 1 or 3, got {self.channels}.")
        checks.at_least(1, self, "frames")
        if not (len(self.sides) == 2 and 0.05 <= self.sides[0] <= self.sides[1] <= 0.5):
            raise ValueError(f"`sides` must be (least, greatest), both in [0.05, 0.5], got {self.sides}.")
        checks.finite(self, "min_distractors", "max_distractors")
        if not 0 <= self.min_distractors <= self.max_distractors:
            raise ValueError(
                "expected 0 <= `min_distractors` <= `max_distractors`, "
                f"got {self.min_distractors} and {self.max_distractors}."
            )
        checks.not_negative(self, "clutter", "occluders")
        for name, greatest in _GREATEST.items():
            if not 0 <= getattr(self, name) <= greatest:
                raise ValueError(f"`{name}` must be in [0, {greatest}], got {getattr(self, name)}.")

    @classmethod
    def of_difficulty(cls, level: float, **changes: Any) -> "ClutterRecipe":
        """The recipe between the defaults and `HARDEST`, see the table above.

        Args:
            level: 0 for the easiest videos, 1 for the hardest; numbers in between are interpolated, whole
                ones rounded.
            changes: fields that are to be otherwise, e.g. `image_size`.

        Raises:
            ValueError: if `level` is not in [0, 1], or the recipe is impossible.
        """
        if not 0 <= level <= 1:
            raise ValueError(f"`level` must be in [0, 1], got {level}.")
        easiest = cls()
        between = {name: _between(getattr(easiest, name), hard, level) for name, hard in HARDEST.items()}
        return cls(**{**between, **changes})

    @property
    def size(self) -> tuple[int, int]:
        """`(height, width)` of the frames in pixels."""
        return self.image_size if isinstance(self.image_size, tuple) else (self.image_size, self.image_size)

    @property
    def unit(self) -> int:
        """The frames' shorter side in pixels, of which lengths are fractions."""
        return min(self.size)

    @property
    def ground_side(self) -> int:
        """Side of the ground in pixels; it is a square that is repeated for ever.

        It is half as large again as the frame, but grows less beyond frames of 341 pixels: larger textures
        would cost too much memory, so such a frame shows some of the ground twice.
        """
        longest = max(self.size)
        return 32 * math.ceil(max(min(1.5 * longest, 512), longest / 2) / 32)


def _between(easy: Any, hard: Any, level: float) -> Any:
    if isinstance(easy, tuple):
        return tuple(_between(*ends, level) for ends in zip(easy, hard, strict=True))
    value = easy + level * (hard - easy)
    return int(value + 0.5) if isinstance(easy, int) else value
