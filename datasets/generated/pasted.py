"""Videos of objects that are cut out of a user's pictures and move over others: real looks, exact boxes.

Generated textures tell a tracker little about how the world looks, and annotated video is scarce; pictures
are not. An object here is a region of a picture, cut out along a random outline, since nothing is known of
what is in it. After Held, Thrun and Savarese, *Learning to Track at 100 FPS with Deep Regression Networks*,
2016, who train on still pictures with Laplace-distributed shifts and changes of size: small ones are common,
and large ones happen.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ..storage.generated_videos import Bytes, GeneratedVideos
from ..streams import stream
from .digit_images import Split
from .trajectories import reflect

Doubles = npt.NDArray[np.floating[Any]]
Floats = npt.NDArray[np.float32]

LEAST_SIDE = 16
"""Pixels that both sides of a picture must have."""

_GROUND = 1.6
"""Side of the ground over which the camera moves, in those of the frame."""
_OUTLINE = 64
_CORNERS = np.linspace(-np.pi, np.pi, _OUTLINE, endpoint=False)
"""Angles of an outline's corners."""
_SPEEDS = (0.3, 3.0)
"""Range of an object's own factor of motion."""
_TRIES = 4
"""Places of a picture that are looked at for one with contrast."""
_LOWEST_SHARE = 0.1
"""Of the target; where less than that can be seen it counts as absent."""
_NOISE = 2**18
"""Numbers of the table of noise, beyond those of a frame."""
_ROOM = 0.06
"""Share of the frame's sides that objects' middles keep from the border."""

_SHARES = ("occluders", "absences", "turning", "changing", "blurred", "grey")


@dataclass(frozen=True)
class PastedRecipe:
    """How a video of pasted objects is made.

    The object to follow, the *target*, is in slot 0, and the only one with labels. Others, up to
    `max_distractors`, half of them from the same picture, pass behind it; an occluder passes before it. The
    camera moves over the ground, and half of the objects move with that, besides their own motion. In some
    videos the target is away for a while. A longer video begins with the shorter one, but for the rounding of
    a grey value in a million.

    Raises:
        ValueError: if a number is impossible or numbers contradict each other.
    """

    image_size: int | tuple[int, int] = 128
    """Side of the frames in pixels, or their (height, width); at least 16."""
    frames: int = 30
    """Number of frames T."""
    sides: tuple[float, float] = (0.08, 0.5)
    """Range of the longer side of the target in the first frame, in units of the frame's shorter one; drawn
    evenly in its logarithm."""
    aspect: float = 3.0
    """Greatest ratio of the longer to the shorter side at first."""
    shift: float = 0.06
    """Root mean square of a step of an object on each axis, in units of its sides; multiplied by a factor of
    0.3 to 3 that is the object's own."""
    growth: float = 0.01
    """That of the logarithm of its sides."""
    inertia: float = 0.8
    """How much of a step remains in the next one, in [0, 1)."""
    camera: float = 0.006
    """Root mean square of a step of the camera, in units of the frame's shorter side; 0 in a third of the
    videos."""
    max_distractors: int = 3
    """Greatest number of other objects; the number is uniform."""
    occluders: float = 0.35
    """Share of the videos with something that passes before the target."""
    absences: float = 0.15
    """Share of the videos in which the target is away for some frames."""
    turning: float = 0.3
    """Share of the objects that turn."""
    changing: float = 0.4
    """Share of the objects whose looks become, in part, those of a place beside."""
    blurred: float = 0.25
    """Share of the videos that are out of focus."""
    grey: float = 0.4
    """Share of the videos without colour."""
    brightness: float = 0.02
    """Root mean square of a step of the logarithm of an object's brightness."""
    noise_std: float = 0.02
    """Greatest standard deviation of the noise of a video."""

    def __post_init__(self) -> None:
        if len(self.size) != 2 or not all(isinstance(side, int) and side >= 16 for side in self.size):
            raise ValueError(
                "`image_size` must be a number of pixels or (height, width), at least 16, "
                f"got {self.image_size}"
            )
        if self.frames < 1 or self.max_distractors < 0:
            raise ValueError(
                "`frames` must be positive and `max_distractors` not negative, "
                f"got {self.frames} and {self.max_distractors}"
            )
        if not 0 < self.sides[0] <= self.sides[1] <= 1:
            raise ValueError(f"`sides` must be (least, greatest), both in (0, 1], got {self.sides}")
        if self.aspect < 1 or not 0 <= self.inertia < 1:
            raise ValueError(
                f"`aspect` must be at least 1 and `inertia` in [0, 1), got {self.aspect} and {self.inertia}"
            )
        for name in (*_SHARES, "shift", "growth", "camera", "brightness", "noise_std"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must be in [0, 1], got {getattr(self, name)}")

    @property
    def size(self) -> tuple[int, int]:
        """`(height, width)` of the frames in pixels."""
        return self.image_size if isinstance(self.image_size, tuple) else (self.image_size, self.image_size)


class PastedVideos(GeneratedVideos):
    """Videos of objects pasted over pictures, made when they are asked for.

    Labels: `boxes` and `visible` of the target, `count` 1 where it can be seen; a tenth of it must be.

    Args:
        recipe: how a video is made.
        pictures: `(H, W)` or `(H, W, 3)`, uint8, of any sizes of at least 16 pixels; see `load_pictures`.
        size: number of videos.
        seed: of the videos.
        purpose: data sets of different purposes are independent for one and the same seed.

    Raises:
        ValueError: if there are no pictures, one is too small or of another type, `size` is not positive, or
            `seed` not in [0, 2^64).
    """

    def __init__(
        self, recipe: PastedRecipe, pictures: Sequence[Bytes], size: int, seed: int, purpose: str = "pasted"
    ) -> None:
        super().__init__((size, recipe.frames, 3, *recipe.size), seed, purpose)
        if not pictures or min(min(picture.shape[:2]) for picture in pictures) < LEAST_SIDE:
            raise ValueError(
                f"`pictures` must be at least one, and of at least {LEAST_SIDE} x {LEAST_SIDE} pixels"
            )
        if others := {picture.dtype.name for picture in pictures} - {"uint8"}:
            raise ValueError(f"`pictures` must be of uint8, got {', '.join(sorted(others))}")
        self.recipe, self.pictures = recipe, pictures
        self._noise = stream(f"{purpose}/noise", seed, 0).standard_normal(
            _NOISE + 3 * recipe.size[0] * recipe.size[1], dtype=np.float32
        )

    def _make(self, rngs: Sequence[np.random.Generator]) -> tuple[Bytes, dict[str, npt.NDArray[Any]]]:
        made = [_clip(self.recipe, self.pictures, self._noise, rng) for rng in rngs]
        video = np.empty((len(rngs), *self.shape[1:]), dtype=np.uint8)
        boxes = np.zeros((len(rngs), self.recipe.frames, 1, 4), dtype=np.float32)
        visible = np.zeros(boxes.shape[:3], dtype=np.float32)
        for i, (frames, places, seen) in enumerate(made):
            video[i], there = frames, seen >= _LOWEST_SHARE
            boxes[i, there, 0], visible[i, there, 0] = places[there], seen[there]
        return video, {"count": (visible[..., 0] > 0).astype(np.int64), "boxes": boxes, "visible": visible}


def pasted_videos(
    recipe: PastedRecipe, pictures: Sequence[Bytes], split: Split, size: int, seed: int
) -> PastedVideos:
    """Videos made of the first nine tenths of pictures for training, and of the others for testing.

    Args:
        recipe: how a video is made.
        pictures: at least two, see `PastedVideos`; those that look alike should be neighbours.
        split: `"train"` or `"test"`.
        size: number of videos.
        seed: of the videos.

    Raises:
        ValueError: if an argument is not one of those above.
    """
    if split not in ("train", "test"):
        raise ValueError(f"`split` must be 'train' or 'test', got {split!r}")
    if len(pictures) < 2:
        raise ValueError(f"`pictures` must be at least two, one of them to test with, got {len(pictures)}")
    kept = len(pictures) - max(1, len(pictures) // 10)
    part = pictures[:kept] if split == "train" else pictures[kept:]
    return PastedVideos(recipe, part, size, seed, purpose=f"pasted/{split}")


class _Object(NamedTuple):
    """One thing that is pasted."""

    looks: Tensor
    """Two pictures `(2, 3, h, w)` in [0, 1], of which the first turns into the second by `mix`."""
    opacity: Tensor
    """`(h, w)`."""
    outline: Doubles
    """Corners in units of half the picture's sides from its middle, `(corners, 2)`, x before y."""
    middle: Doubles
    """`(T, 2)` in pixels of the frame."""
    sides: Doubles
    """Of the whole picture `(T, 2)`, in pixels."""
    angle: Doubles
    """`(T,)`, in radians."""
    mix: Doubles
    """`(T,)` in [0, 1]."""
    gain: Doubles
    """`(T,)`: brightness."""

    def boxes(self) -> Doubles:
        """The tight boxes of the outline, `(T, 4)`."""
        corners = self.outline * self.sides[:, None] / 2  # (T, corners, 2)
        cos, sin = np.cos(self.angle)[:, None], np.sin(self.angle)[:, None]
        x = cos * corners[..., 0] - sin * corners[..., 1] + self.middle[:, :1]
        y = sin * corners[..., 0] + cos * corners[..., 1] + self.middle[:, 1:]
        left, top = x.min(1), y.min(1)
        return np.stack([left, top, x.max(1) - left, y.max(1) - top], axis=-1)


def _clip(
    recipe: PastedRecipe, pictures: Sequence[Bytes], noise: Floats, rng: np.random.Generator
) -> tuple[Bytes, Doubles, Doubles]:
    """Frames `(T, 3, H, W)`, boxes of the target `(T, 4)`, and how much of it is seen `(T,)`."""
    frames = recipe.frames
    moving = rng.random() < 2 / 3
    pan = _walk(recipe, rng, 2, recipe.camera * min(recipe.size) * moving).cumsum(0)
    own = pictures[int(rng.integers(len(pictures)))]
    ground = _ground(recipe, pictures[int(rng.integers(len(pictures)))], pan, rng)
    longer = min(recipe.size) * np.exp(rng.uniform(*np.log(recipe.sides)))
    shape = np.array([longer / np.exp(rng.uniform(0, math.log(recipe.aspect))), longer])
    shape = shape[::-1] if rng.random() < 0.3 else shape
    things = []
    for _ in range(int(rng.integers(recipe.max_distractors + 1))):
        picture = own if rng.random() < 0.5 else pictures[int(rng.integers(len(pictures)))]
        things.append(_thing(recipe, picture, shape * np.exp(rng.normal(0, 0.2, 2)), pan, rng))
    target = _thing(recipe, own, shape, pan, rng)
    away = _away(recipe, rng)
    hidden = rng.random() < recipe.occluders
    picture = pictures[int(rng.integers(len(pictures)))]
    thing = _thing(recipe, picture, shape * np.exp(rng.normal(0, 0.4, 2)), pan, rng)

    video = ground
    for other in things:
        _paste(video, other, np.ones(frames))
    shown = _paste(video, target, 1.0 - away)
    seen = shown.sum((1, 2))
    if hidden:
        # Not over the target in the first frame, where it would be taken for it.
        first, other = target.boxes()[0], thing.boxes()[0]
        ends = np.minimum(other[:2] + other[2:], first[:2] + first[2:])
        if (ends <= np.maximum(other[:2], first[:2])).any():
            cover = _paste(video, thing, np.ones(frames))
            seen = (shown * (1 - cover)).sum((1, 2))
    area = target.opacity.mean(dtype=torch.float64).item() * target.sides.prod(1)
    share = np.clip(seen.double().numpy() / np.maximum(area, 1e-9), 0, 1)
    return _finished(recipe, video, noise, rng), target.boxes(), share


def _walk(recipe: PastedRecipe, rng: np.random.Generator, axes: int, scale: float) -> Doubles:
    """Steps `(T, axes)` with inertia and Laplace-distributed changes, whose root mean square is `scale`.

    The first is 0. They are drawn from a stream of their own, so that a longer video draws the same.
    """
    own = _own_stream(rng)
    changes = own.laplace(0, math.sqrt((1 - recipe.inertia**2) / 2), (recipe.frames, axes))
    steps = np.zeros_like(changes)
    for t in range(1, recipe.frames):
        steps[t] = recipe.inertia * steps[t - 1] + changes[t]
    return scale * steps


def _own_stream(rng: np.random.Generator) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=rng.integers(2**63)))


def _cut(picture: Bytes, size: tuple[int, int], rng: np.random.Generator) -> tuple[int, int]:
    """A place `(top, left)` of a part of a picture, that of most contrast of a few."""
    places = [
        (int(rng.integers(picture.shape[0] - size[0] + 1)), int(rng.integers(picture.shape[1] - size[1] + 1)))
        for _ in range(_TRIES)
    ]
    return max(places, key=lambda at: float(picture[at[0] : at[0] + size[0], at[1] : at[1] + size[1]].std()))


def _part(picture: Bytes, at: tuple[int, int], size: tuple[int, int], shown: tuple[int, int]) -> Tensor:
    """A part of a picture, `(3, *shown)` in [0, 1], by bilinear interpolation without aliasing."""
    part = picture[at[0] : at[0] + size[0], at[1] : at[1] + size[1]]
    planes = part.transpose(2, 0, 1) if part.ndim == 3 else part[None]
    pixels = torch.from_numpy(planes.astype(np.float32) / 255)[None]
    resized = F.interpolate(pixels, size=shown, mode="bilinear", antialias=True, align_corners=False)[0]
    return resized.expand(3, -1, -1)


def _ground(recipe: PastedRecipe, picture: Bytes, pan: Doubles, rng: np.random.Generator) -> Tensor:
    """What the camera sees of a part of a picture, `(T, 3, H, W)`."""
    height, width = recipe.size
    share = rng.uniform(0.4, 1) * min(picture.shape[0] / height, picture.shape[1] / width)
    size = max(8, int(share * height)), max(8, int(share * width))
    top, left = (
        int(rng.integers(whole - part + 1)) for whole, part in zip(picture.shape, size, strict=False)
    )
    ground = _part(picture, (top, left), size, (round(_GROUND * height), round(_GROUND * width)))
    room = np.array([width, height]) * (_GROUND - 1) / 2
    place = reflect(pan + rng.uniform(-room, room), -room, room)  # of the camera's middle
    zoom = np.exp(reflect(_walk(recipe, rng, 1, 0.3 * recipe.growth).cumsum(0)[:, 0], -0.2, 0.0))
    video = torch.empty(recipe.frames, 3, height, width)
    for t, frame in enumerate(video):
        # Bilinear, first along columns and then along rows.
        above, below, part = _pixels(ground.shape[1], height, place[t, 1], zoom[t])
        rows = ground[:, above].lerp_(ground[:, below], part[:, None])
        before, behind, part = _pixels(ground.shape[2], width, place[t, 0], zoom[t])
        torch.lerp(rows[..., before], rows[..., behind], part, out=frame)
    return video


def _pixels(ground: int, frame: int, place: float, zoom: float) -> tuple[Tensor, Tensor, Tensor]:
    """The two pixels of the ground that one of the frame lies between, and where, on one axis."""
    at = (torch.arange(frame) - (frame - 1) / 2) * zoom + place + (ground - 1) / 2
    at = at.clamp(0, ground - 1)
    first = at.long().clamp(max=ground - 2)
    return first, first + 1, (at - first).float()


def _outline(rng: np.random.Generator) -> Doubles:
    """Radii of a closed outline at `_CORNERS`: a rounded rectangle, or a circle bent by waves.

    It touches all sides of the square from -1 to 1.
    """
    x, y = np.cos(_CORNERS), np.sin(_CORNERS)
    power = rng.uniform(2, 8)
    radius = (np.abs(x) ** power + np.abs(y) ** power) ** (-1 / power)
    waves = [rng.normal(0, 0.25 / k) * np.cos(k * _CORNERS + rng.uniform(0, 2 * np.pi)) for k in range(2, 5)]
    if rng.random() < 0.6:
        radius = np.clip(1 + sum(waves), 0.3, None)
    return radius


def _thing(
    recipe: PastedRecipe, picture: Bytes, shape: Doubles, pan: Doubles, rng: np.random.Generator
) -> _Object:
    """An object of a picture, with sides `(width, height)` at first, and where it goes."""
    frames, frame = recipe.frames, np.array(recipe.size[::-1], dtype=np.float64)
    speed = np.exp(rng.uniform(*np.log(_SPEEDS)))
    steps = _walk(recipe, rng, 2, recipe.shift * speed) * shape
    if rng.random() < 0.5:
        steps = steps - np.diff(pan, axis=0, prepend=pan[:1])
    start = rng.uniform(0.15, 0.85, 2) * frame
    middle = reflect(steps.cumsum(0) + start, _ROOM * frame, (1 - _ROOM) * frame)
    grown = _walk(recipe, rng, 1, recipe.growth * speed).cumsum(0)
    bent = _walk(recipe, rng, 1, 0.5 * recipe.growth * speed).cumsum(0) * np.array([1, -1])
    sides = shape * np.exp(reflect(grown, -0.7, 0.7) + reflect(bent, -0.3, 0.3))
    turn = 0.02 * (rng.random() < recipe.turning)
    angle = reflect(_walk(recipe, rng, 1, turn).cumsum(0)[:, 0], -0.5, 0.5)
    pace = rng.uniform(0.01, 0.05) * (rng.random() < recipe.changing)
    mix = reflect(pace * np.arange(frames), 0.0, rng.uniform(0.3, 1))
    gain = np.exp(reflect(_walk(recipe, rng, 1, recipe.brightness).cumsum(0)[:, 0], -0.4, 0.4))

    zoom = np.exp(rng.uniform(0, 1))  # pixels of the picture for one of the frame
    down, across = (
        int(np.clip(zoom * n, 8, most)) for n, most in zip(shape[::-1], picture.shape, strict=False)
    )
    size = down, across
    shown = max(4, math.ceil(shape[1])), max(4, math.ceil(shape[0]))
    at = _cut(picture, size, rng)
    offsets = (rng.uniform(-0.5, 0.5, 2) * size).tolist()
    top, left = (
        int(np.clip(place + offset, 0, most - part))
        for place, offset, most, part in zip(at, offsets, picture.shape, size, strict=False)
    )
    looks = torch.stack([_part(picture, place, size, shown) for place in (at, (top, left))])
    radius = _outline(rng)
    corners = radius[:, None] * np.stack([np.cos(_CORNERS), np.sin(_CORNERS)], axis=-1)
    low, high = corners.min(0), corners.max(0)
    # The outline's box is the picture.
    corners = (corners - (low + high) / 2) / ((high - low) / 2)
    return _Object(looks, _filled(corners, shown), corners, middle, sides, angle, mix, gain)


def _filled(corners: Doubles, size: tuple[int, int]) -> Tensor:
    """How much of each of `size` cells is inside a closed line of `corners`, roughly, `(h, w)`."""
    y, x = (2 * (np.arange(n) + 0.5) / n - 1 for n in size)
    angles, radii = np.arctan2(corners[:, 1], corners[:, 0]), np.hypot(*corners.T)
    order = np.argsort(angles)
    border = np.interp(np.arctan2(y[:, None], x), angles[order], radii[order], period=2 * np.pi)
    inside = (border - np.hypot(y[:, None], x)) * min(size) / 2
    return torch.from_numpy(np.clip(inside + 0.5, 0, 1).astype(np.float32))


def _away(recipe: PastedRecipe, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """In which frames the target is away, `(T,)`; not in the first three."""
    start, length = int(rng.integers(3, 24)), int(rng.integers(3, 10))
    time = np.arange(recipe.frames)
    chosen = rng.random() < recipe.absences
    return (time >= start) & (time < start + length) & chosen


def _paste(video: Tensor, thing: _Object, shown: Doubles) -> Tensor:
    """Paste an object into frames `(T, 3, H, W)` where it is `shown`; its opacity there, `(T, H, W)`."""
    frames, _, height, width = video.shape
    # Only a square around the object is drawn.
    reach = math.ceil(float(np.hypot(*thing.sides.T).max()) / 2) + 1
    corner = np.floor(thing.middle).astype(np.int64) - reach
    side = 2 * reach + 1
    cos, sin = np.cos(thing.angle), np.sin(thing.angle)
    # From pixels of the square to units of half the picture's sides.
    turn = np.stack([np.stack([cos, sin], -1), np.stack([-sin, cos], -1)], axis=1)
    turn = turn / (thing.sides[:, :, None] / 2)
    offset = corner + side / 2 - thing.middle
    theta = np.concatenate([turn * side / 2, turn @ offset[..., None]], axis=-1)
    mix, gain = (torch.from_numpy(x).float()[:, None, None, None] for x in (thing.mix, thing.gain))
    colours = (thing.looks[0].lerp(thing.looks[1], mix) if thing.mix.any() else thing.looks[:1]) * gain
    layers = torch.cat([colours.clamp(0, 1), thing.opacity.expand(frames, 1, -1, -1)], dim=1)
    grid = F.affine_grid(torch.from_numpy(theta).float(), [frames, 4, side, side], align_corners=False)
    colour, opacity = F.grid_sample(layers, grid, "bilinear", "border", False).split([3, 1], dim=1)
    inside = (grid.abs() <= 1).all(-1)
    opacity = opacity[:, 0] * inside * torch.from_numpy(shown).float()[:, None, None]
    painted = torch.zeros(frames, height, width)
    for t, (left, top) in enumerate(corner.tolist()):
        x0, x1, y0, y1 = max(left, 0), min(left + side, width), max(top, 0), min(top + side, height)
        if x0 >= x1 or y0 >= y1:
            continue
        rows, columns = slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)
        alpha = opacity[t, rows, columns]
        under = video[t, :, y0:y1, x0:x1]
        under += alpha * (colour[t, :, rows, columns] - under)
        painted[t, y0:y1, x0:x1] = alpha
    return painted


def _finished(recipe: PastedRecipe, video: Tensor, noise: Floats, rng: np.random.Generator) -> Bytes:
    """What the camera adds: focus, colour, noise; as bytes."""
    blurred, grey = rng.random() < recipe.blurred, rng.random() < recipe.grey
    strength = rng.uniform(0, 255 * recipe.noise_std)
    own = _own_stream(rng)
    if blurred:
        for axis in (2, 3):
            pad = (0, 0, 1, 1) if axis == 2 else (1, 1, 0, 0)
            padded, length = F.pad(video, pad, mode="replicate"), video.shape[axis]
            video = (video + padded.narrow(axis, 0, length) + padded.narrow(axis, 2, length)) / 3
    if grey:
        video = video.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    finished = np.empty(video.shape, dtype=np.uint8)
    for frame, pixels in zip(finished, video.numpy(), strict=True):
        start = int(own.integers(_NOISE))
        grain = noise[start : start + frame.size].reshape(frame.shape)
        frame[...] = np.clip(255 * pixels + strength * grain + 0.5, 0, 255)
    return finished
