"""What happens in a video of an object in clutter: its objects, where they go, what is in front."""

import math
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .clutter_recipe import ClutterRecipe
from .digit_images import Digits
from .multi_object import Bytes, distinct, tight_box
from .textures import Floats
from .trajectories import Floats as Doubles
from .trajectories import reflect

Integers = npt.NDArray[np.int64]

_TRIES = 8  # to place something before the next best is taken
_LIGHT, _TINT = 0.4, 0.3  # bounds of the logarithms of the changes of brightness and of each channel
_BARS = (0.03, 0.07)  # half the width of an occluding bar
_PATCHES = ((0.05, 0.12), (0.08, 0.18))  # half the sides of an occluding patch
_TURN = 0.2  # of the camera in a frame, root mean square, in radians


class Ink(NamedTuple):
    """The opacities of a picture, and its box."""

    opacity: Floats
    """In [0, 1], without the empty margin, `(rows, columns)`."""
    middle: Doubles
    """Of the box, (y, x) in pixels of `opacity`."""
    size: Doubles
    """Of the box, (height, width): that of the pixels of at least half the greatest opacity."""

    @classmethod
    def of(cls, image: Bytes) -> "Ink":
        """The ink of a picture `(rows, columns)`, which must not be empty."""
        left, top, width, height = tight_box(image)
        crop = image[top : top + height, left : left + width]
        left, top, width, height = tight_box((crop >= crop.max() / 2).astype(np.uint8))
        size = np.array([height, width], dtype=np.float64)
        return cls(crop / np.float32(255), np.array([top, left]) + size / 2, size)

    def scale(self, side: float) -> float:
        """By how much it is enlarged for the longer side of the box to be `side` pixels."""
        return float(side / self.size.max())


class Occluder(NamedTuple):
    """A turned rectangle in front of everything, in pixels."""

    middle: Doubles
    """(y, x)."""
    angle: float
    """Of the axis of the first half side, from the y axis towards the x axis."""
    half: tuple[float, float]
    """Half the sides; the second is infinite for a bar."""

    @property
    def axes(self) -> Doubles:
        """Unit vectors (y, x) along the sides, `(2, 2)`."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return np.array([[cos, sin], [-sin, cos]])

    def is_apart(self, middle: Doubles, half: Doubles) -> bool:
        """Whether one of its sides separates it from an upright box of that middle and those half sides."""
        axes = self.axes
        gap = abs(axes @ (middle - self.middle)) - abs(axes) @ half
        return bool((gap > self.half).any())


class Scene(NamedTuple):
    """What is random in one video of n objects and C channels; pairs are (y, x), lengths are pixels."""

    label: int
    """Class of all objects."""
    inks: list[Ink]
    """Of the objects, the target first."""
    middle: Doubles
    """Of their boxes in the first frame, `(n, 2)`."""
    side: Doubles
    """Longer sides of their boxes in the first frame, `(n,)`."""
    order: list[int]
    """The objects from front to back."""
    colours: Doubles
    """First and second colour of the objects `(n, 2, C)`, in [0, 1]; both textures have the same ones."""
    skins: Doubles
    """The first and the second texture of the objects: number, and place within it, `(n, 2, 3)` in [0, 1)."""
    ground: Doubles
    """Mean colour of the ground, and the directions in which its fields change it, `(3, C)`."""
    fields: Doubles
    """The two fields, and the textures of the occluders: number, and place within it, `(2 + m, 3)` in
    [0, 1).
    """
    pieces: Doubles
    """Clutter: number of the shape, place on the ground, and colour, `(p, 3 + C)` in [0, 1)."""
    occluders: list[Occluder]
    """What is in front."""
    occluder_colours: Doubles
    """First and second colour of each, `(m, 2, C)`."""
    start: Doubles
    """Velocities of the objects and drift of their sizes before the first step, `(n, 3)` in [0, 1)."""
    camera: Doubles
    """Where it begins as a fraction of the ground, and the direction of its flight, `(3,)` in [0, 1)."""
    changes: Doubles
    """What is random about each frame: `(T, 2 + n (5 + C))` in [0, 1)."""

    @classmethod
    def draw(
        cls, recipe: ClutterRecipe, digits: Digits, members: Sequence[Integers], rng: np.random.Generator
    ) -> "Scene":
        """Draws a video.

        Args:
            recipe: how it is made.
            digits: pictures of the objects.
            members: numbers of the pictures of each class.
            rng: where random numbers come from.
        """
        n = 1 + int(rng.integers(recipe.min_distractors, recipe.max_distractors, endpoint=True))
        label = int(digits.labels[rng.integers(len(digits))])
        picks = members[label][distinct(len(members[label]), n, rng)]
        inks = [Ink.of(digits.images[pick]) for pick in picks]
        side = recipe.unit * rng.uniform(*recipe.sides, n)
        middle, order = _places(recipe, inks, side, rng)
        ground = rng.random((3, recipe.channels))
        ground[0] = 0.2 + 0.6 * ground[0]
        ground[1:] = 2 * ground[1:] - 1
        occluders = _occluders(recipe, middle[0], _half(inks, side)[0] + _soft(inks, side)[0], rng)
        clutter = round(recipe.clutter * recipe.ground_side**2 / (recipe.size[0] * recipe.size[1]))
        return cls(
            label,
            inks,
            middle,
            side,
            order,
            _colours(recipe, n, ground[0], rng),
            rng.random((n, 2, 3)),
            ground,
            rng.random((2 + len(occluders), 3)),
            rng.random((clutter, 3 + recipe.channels)),
            occluders,
            rng.random((len(occluders), 2, recipe.channels)),
            rng.random((n, 3)),
            rng.random(3),
            # Last, and frame by frame, so that a longer video begins with the shorter one.
            rng.random((recipe.frames, 2 + n * (5 + recipe.channels))),
        )


class Paths(NamedTuple):
    """How the objects of B videos move and change in T frames.

    N is the greatest number of objects; what is said of those that a video does not have means nothing.
    """

    middle: Doubles
    """Of their boxes, (y, x) in pixels, `(T, B, N, 2)`."""
    scale: Doubles
    """Pixels of the frame for one of the picture, `(T, B, N)`."""
    gain: Doubles
    """Factor of each channel of their colours, `(T, B, N, C)`."""
    mix: Doubles
    """Weight of the second texture, `(T, B, N)` in [0, 1]."""
    camera: Doubles
    """Top left of the frame on the ground, (y, x) in pixels, `(T, B, 2)`."""
    noise: Doubles
    """Where the noise of the frame begins, `(T, B)` in [0, 1)."""

    @classmethod
    def of(cls, recipe: ClutterRecipe, scenes: Sequence[Scene]) -> "Paths":
        """Those of these scenes."""
        channels, slots = recipe.channels, 1 + recipe.max_distractors
        low, high, first = (np.ones((len(scenes), slots, 3)) for _ in range(3))  # y, x, log of the scale
        high += 1
        start = np.zeros((len(scenes), slots, 3))
        common = np.zeros((recipe.frames, len(scenes), 2))
        changes = np.zeros((recipe.frames, len(scenes), slots, 5 + channels))
        camera = np.zeros((len(scenes), 3))
        for i, scene in enumerate(scenes):
            n = len(scene.inks)
            inset = (1 - 2 * recipe.overhang) * _half(scene.inks, scene.side)
            longer = np.array([ink.size.max() for ink in scene.inks])
            low[i, :n, :2], high[i, :n, :2] = inset, recipe.size - inset
            first[i, :n, :2] = scene.middle
            ends = (np.log(side / longer) for side in (*np.multiply(recipe.unit, recipe.sides), scene.side))
            low[i, :n, 2], high[i, :n, 2], first[i, :n, 2] = ends
            start[i, :n] = scene.start
            common[:, i] = scene.changes[:, :2]
            changes[:, i, :n] = scene.changes[:, 2:].reshape(recipe.frames, n, 5 + channels)
            camera[i] = scene.camera
        moved = reflect(first + _moves(recipe, start, changes[..., :3]), low, high)
        # A row is about the step to its frame, and there is none to the first one.
        steps = recipe.appearance_drift * changes[..., 3:]
        steps[0] = 0
        normed = math.sqrt(12) * (steps - recipe.appearance_drift / 2)
        normed[0] = 0
        light = reflect(normed[..., :1].cumsum(0), -_LIGHT, _LIGHT)
        tint = reflect(0.5 * normed[..., 1:-1].cumsum(0), -_TINT, _TINT)
        turns = _TURN * math.sqrt(12) * (common[..., 0] - 0.5)
        angle = 2 * np.pi * camera[:, 2] + turns.cumsum(0)
        flight = recipe.camera_speed * recipe.unit * np.stack([np.sin(angle), np.cos(angle)], axis=-1)
        flight[0] = recipe.ground_side * camera[:, :2]
        return cls(
            moved[..., :2],
            np.exp(moved[..., 2]),
            np.exp(light + tint),
            reflect(2 * steps[..., -1].cumsum(0), 0, 1),
            flight.cumsum(0),
            common[..., 1],
        )


def _moves(recipe: ClutterRecipe, start: Doubles, changes: Doubles) -> Doubles:
    """How far places and logarithms of sizes have moved since the first frame, if nothing mirrored them."""
    uniform = math.sqrt(12) * (changes - 0.5)
    step = math.sqrt(1 - recipe.inertia**2) * recipe.speed * recipe.unit
    velocity = recipe.speed * recipe.unit * math.sqrt(12) * (start[..., :2] - 0.5)
    limit = math.log1p(recipe.scale_drift)
    rate = limit * (2 * start[..., 2] - 1)
    moves = np.zeros_like(changes)
    for frame in range(1, len(changes)):
        velocity = recipe.inertia * velocity + step * uniform[frame, ..., :2]
        rate = np.clip(0.9 * rate + 0.25 * limit * uniform[frame, ..., 2], -limit, limit)
        moves[frame, ..., :2], moves[frame, ..., 2] = velocity, rate
    return moves.cumsum(0)


def _half(inks: Sequence[Ink], side: Doubles) -> Doubles:
    """Half the sides of boxes whose longer side is `side`, `(n, 2)`."""
    return np.array([ink.size * (ink.scale(s) / 2) for ink, s in zip(inks, side, strict=True)])


def _soft(inks: Sequence[Ink], side: Doubles) -> Doubles:
    """How far ink reaches beyond its box, with a pixel to spare, `(n, 1)`."""
    reach = [np.concatenate([ink.middle, ink.opacity.shape - ink.middle]) for ink in inks]
    return np.array(
        [
            [1 + ink.scale(s) * (0.5 + (r - np.tile(ink.size / 2, 2)).max())]
            for ink, s, r in zip(inks, side, reach, strict=True)
        ]
    )


def _places(
    recipe: ClutterRecipe, inks: Sequence[Ink], side: Doubles, rng: np.random.Generator
) -> tuple[Doubles, list[int]]:
    """Where objects begin, and their order from front to back; nothing hides the target, which is first."""
    n = len(inks)
    half, soft = _half(inks, side), _soft(inks, side)
    inset = (1 - 2 * recipe.overhang) * half
    inset[0] = half[0] + soft[0]
    places = inset + rng.random((_TRIES, n, 2)) * (recipe.size - 2 * inset)
    target = places[0, 0]
    apart = (abs(places - target) > half + half[0] + soft + soft[0]).any(-1)  # (tries, n)
    # The first try that is apart from the target; where there is none, the first one, behind the target.
    middle = places[apart.argmax(0), np.arange(n)]
    middle[0] = target
    depth = rng.random(n)
    depth[1:] += ~apart.any(0)[1:]
    return middle, np.argsort(depth).tolist()


def _occluders(
    recipe: ClutterRecipe, middle: Doubles, half: Doubles, rng: np.random.Generator
) -> list[Occluder]:
    """Occluders apart from a box."""
    occluders: list[Occluder] = []
    for _ in range(recipe.occluders):
        bar, angle = rng.random() < 0.5, np.pi * rng.random()
        width, short, long = (recipe.unit * rng.uniform(*ends) for ends in (_BARS, *_PATCHES))
        sides = (width, np.inf) if bar else (short, long)
        tries = (Occluder(place * recipe.size, angle, sides) for place in rng.random((_TRIES, 2)))
        occluders.extend(islice((one for one in tries if one.is_apart(middle, half)), 1))
    return occluders


def _colours(recipe: ClutterRecipe, n: int, ground: Doubles, rng: np.random.Generator) -> Doubles:
    """First and second colours of objects, `(n, 2, C)`."""
    colours = rng.random((n, 2, recipe.channels))
    # One channel of the first colour is uniform on what is far enough from the ground, on both sides of it.
    channel = rng.integers(recipe.channels, size=n)
    below = np.maximum(ground - recipe.contrast, 0)[channel]
    above = np.maximum(1 - ground - recipe.contrast, 0)[channel]
    value = rng.random(n) * (below + above)
    far = np.where(value < below, value, value - below + ground[channel] + recipe.contrast)
    colours[np.arange(n), 0, channel] = far
    colours[1:] += recipe.likeness * (colours[0] - colours[1:])
    return colours
