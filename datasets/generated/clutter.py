"""Videos of an object to follow through clutter, on which trackers such as HART learn and are tested."""

import os
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from ..storage.generated_videos import Bytes, GeneratedVideos, check_size
from ..streams import stream
from .clutter_recipe import ClutterRecipe
from .clutter_scene import Ink, Integers, Paths, Scene
from .digit_images import Digits, Split
from .digits import Source, load_digits
from .textures import Floats, make_silhouettes, make_textures
from .trajectories import Floats as Doubles

_TEXTURES = 32  # of a data set, for scenes and as many for objects
_SKIN_SIDE = 64  # of an object's texture
_PIECES = 48  # shapes of the clutter
_PIECE_SIDES = (0.05, 0.16)  # as fractions of the frame's shorter side
_NOISE = 2**18  # places in the table at which the noise of a frame can begin


class ClutterVideos(GeneratedVideos):
    """Videos of an object in clutter, made when they are asked for, see `GeneratedVideos`.

    Video `i` is a pure function of `(recipe, digits, seed, purpose, i)`: the same in whichever batch, process
    or order it is made.

    Labels, as in `VideoData`; a slot is an *identity*: slot 0 is the target in all frames, the others its
    distractors.

    - `count`: objects of the video, constant, hidden or not.
    - `classes`: the class of the pictures; all objects of a video have the same.
    - `boxes`: the whole object's, real-valued, neither cut off at the frame's border nor where something
      hides it: pixel `k` covers `[k, k + 1)`, and the box ends where the object's ink falls to one half.
    - `visible`: the fraction of the object's ink (sum of opacities) that is inside the frame and neither
      behind another object nor behind an occluder; 1 for the target in the first frame.

    What a data set's videos have in common are 32 textures for scenes, as many for objects, the shapes of the
    clutter and a table of noise, in which each frame begins anywhere. They are functions of `(recipe, digits,
    seed, purpose)` and are made at construction, in 0.2 s for frames of 64 x 64.

    A batch of 16 videos of 30 frames of 64 x 64 takes 40 ms on one core of a server with the default recipe,
    75 ms at a difficulty of 1/2 and 95 ms at 1; with frames of 128 x 128, 115, 210 and 240 ms.

    Args:
        recipe: how a video is made.
        digits: silhouettes of the objects; each class must have one more than `recipe.max_distractors`.
        size: number of videos.
        seed: seed of the videos.
        purpose: data sets of different purposes are independent for one and the same seed.

    Raises:
        ValueError: if `size` is not positive, `seed` is not in [0, 2^64), a class has too few pictures, or a
            picture is empty.
    """

    def __init__(
        self, recipe: ClutterRecipe, digits: Digits, size: int, seed: int, *, purpose: str = "clutter"
    ) -> None:
        super().__init__((size, recipe.frames, recipe.channels, *recipe.size), seed, purpose)
        self.recipe, self.digits = recipe, digits
        self._supplies = _Supplies.of(recipe, digits, seed, purpose)

    def _make(self, rngs: Sequence[np.random.Generator]) -> tuple[Bytes, dict[str, npt.NDArray[Any]]]:
        recipe, supplies = self.recipe, self._supplies
        scenes = [Scene.draw(recipe, self.digits, supplies.members, rng) for rng in rngs]
        paths = Paths.of(recipe, scenes)
        videos, slots = len(rngs), 1 + recipe.max_distractors
        video = np.empty((videos, *self.shape[1:]), dtype=np.uint8)
        count = np.zeros((videos, recipe.frames), dtype=np.int64)
        classes = np.full((videos, slots), -1, dtype=np.int64)
        boxes = np.zeros((videos, recipe.frames, slots, 4), dtype=np.float32)
        visible = np.zeros((videos, recipe.frames, slots), dtype=np.float32)
        for i, scene in enumerate(scenes):
            n = len(scene.inks)
            path = Paths(*(values[:, i] for values in paths))
            count[i], classes[i, :n] = n, scene.label
            sizes = path.scale[:, :n, None] * [ink.size for ink in scene.inks]  # (T, n, 2)
            boxes[i, :, :n, :2] = (path.middle[:, :n] - sizes / 2)[..., ::-1]
            boxes[i, :, :n, 2:] = sizes[..., ::-1]
            visible[i, :, :n] = _paint(recipe, supplies, scene, path, video[i])
        return video, {"count": count, "classes": classes, "boxes": boxes, "visible": visible}


def clutter_videos(
    recipe: ClutterRecipe,
    split: Split,
    size: int,
    seed: int,
    *,
    source: Source | Literal["silhouettes"] = "silhouettes",
    folder: str | os.PathLike[str] | None = None,
) -> ClutterVideos:
    """Videos of an object in clutter, with other objects and textures for training than for testing.

    Args:
        recipe: how a video is made.
        split: `"train"` or `"test"`.
        size: number of videos.
        seed: seed of the videos, of their textures, and of the silhouettes or glyphs if they are the source.
        source: `"silhouettes"`, see `make_silhouettes`; or `"glyphs"` or `"mnist"`, as in `load_digits`,
            whose thin strokes show little of a texture.
        folder: where the MNIST files are, as in `load_digits`.

    Raises:
        DataError: if the MNIST files cannot be found, fetched or read.
        ValueError: if an argument is not one of those above.
    """
    check_size(size, seed)
    if source == "silhouettes":
        digits = make_silhouettes(split, seed=seed)
    else:
        digits = load_digits(source, split, seed=seed, folder=folder)
    return ClutterVideos(recipe, digits, size, seed, purpose=f"clutter/{split}")


class _Supplies(NamedTuple):
    """What the videos of a data set have in common."""

    members: list[Integers]
    """The numbers of the pictures of each class."""
    fields: Floats
    """Periodic textures of scenes, `(M, S, S)` in [0, 1]."""
    skins: Floats
    """Textures of objects, as `fields`."""
    pieces: list[Floats]
    """Opacities of the shapes of the clutter, `(rows, 1, columns)` each."""
    noise: Floats
    """Noise of grey values in 0..255, with 1/2 added, so that cutting off the fraction rounds."""

    @classmethod
    def of(cls, recipe: ClutterRecipe, digits: Digits, seed: int, purpose: str) -> "_Supplies":
        members = [np.flatnonzero(digits.labels == label) for label in range(10)]
        for label, pictures in enumerate(members):
            if 0 < len(pictures) <= recipe.max_distractors:
                raise ValueError(
                    f"`digits` must have at least {1 + recipe.max_distractors} pictures of each class, one "
                    f"more than `max_distractors`, got {len(pictures)} of class {label}."
                )
        if (empty := np.flatnonzero(~digits.images.any((1, 2)))).size:
            raise ValueError(f"`digits` must have ink in every picture, but picture {empty[0]} is empty.")
        rng = stream(f"{purpose}/supplies", seed, 0)
        inks = [Ink.of(digits.images[pick]) for pick in rng.integers(len(digits), size=_PIECES)]
        sides = recipe.unit * rng.uniform(*_PIECE_SIDES, _PIECES)
        noise = rng.standard_normal(_NOISE + recipe.channels * recipe.size[0] * recipe.size[1], np.float32)
        return cls(
            members,
            make_textures(f"{purpose}/fields", _TEXTURES, recipe.ground_side, seed),
            make_textures(f"{purpose}/skins", _TEXTURES, _SKIN_SIDE, seed),
            [_piece(ink, side) for ink, side in zip(inks, sides, strict=True)],
            noise * np.float32(255 * recipe.noise_std) + np.float32(0.5),
        )


class _Cels(NamedTuple):
    """The pictures of one object in the T frames of a video, and where they belong."""

    ink: Floats
    """Colours times opacity, 0..255, and last the opacity, 0..1, of a patch of the frame that holds the whole
    object: `(T, rows, C + 1, columns)`; what is outside the frame is 0.
    """
    places: list[list[int]]
    """First and last rows and columns of the frame that show it, and the same of the patch, `(T, 8)`."""
    total: Doubles
    """Sum of the opacity, that outside the frame too, `(T,)`."""


def resampling(edges: Doubles, size: int) -> Floats:
    """Weights of the `size` source pixels of a row in target pixels between `edges`.

    Source pixel `k` covers `[k, k + 1)`. The source is interpolated linearly between the middles of its
    pixels, and down to 0 outside, and what a target pixel gets is the mean of that over its extent: right for
    enlarging and for reducing.

    Args:
        edges: of n target pixels in pixels of the source, equally spaced, `(..., n + 1)`.
        size: number of source pixels.

    Returns:
        `(..., n, size)` float32.
    """
    spacing = (edges[..., 1] - edges[..., 0]).astype(np.float32)
    # The integral of a hat of half width 1 up to v, less 1/2.
    v = edges.astype(np.float32)[..., None] - (np.arange(size, dtype=np.float32) + np.float32(0.5))
    np.clip(v, -1, 1, out=v)
    half = np.abs(v)
    half *= np.float32(-0.5)
    half += 1
    v *= half
    weights = v[..., 1:, :] - v[..., :-1, :]
    weights /= spacing[..., None, None]
    return weights


def _paint(recipe: ClutterRecipe, supplies: _Supplies, scene: Scene, path: Paths, video: Bytes) -> Doubles:
    """Draws frames `(T, C, H, W)` of a path without its axis B.

    Everything is laid from front to back, each thing under what is there already: so what an object adds to
    the opacity of the canvas is what is seen of it.

    Returns:
        The visible fraction of each object `(T, n)`.
    """
    (height, width), channels = recipe.size, recipe.channels
    front = _front(recipe, supplies, scene)
    cels = [_cels(recipe, supplies, scene, path, slot) for slot in range(len(scene.inks))]
    ground = _ground(recipe, supplies, scene)
    camera = path.camera % recipe.ground_side
    corners, parts = camera.astype(np.int64).tolist(), (camera % 1).tolist()
    noises = (path.noise * _NOISE).astype(np.int64).tolist()
    # A frame at a time, in buffers that stay in the processor's cache: all at once takes twice as long.
    across = np.empty((height + 1, channels, width), dtype=np.float32)
    other, frame, rest = np.empty_like(across), np.empty_like(across[1:]), np.empty_like(across[1:])
    for t, ((top, left), (down, right)) in enumerate(zip(corners, parts, strict=True)):
        canvas = front.copy()
        for slot in scene.order:
            y0, y1, x0, x1, p0, p1, q0, q1 = cels[slot].places[t]
            ink, under = cels[slot].ink[t, p0:p1, :, q0:q1], canvas[y0:y1, :, x0:x1]
            ink *= 1 - under[:, channels:]
            under += ink
        if t == 0 or recipe.camera_speed:  # bilinear, first along rows and then along columns
            window = ground[top : top + height + 1, :, left : left + width + 1]
            np.multiply(window[:, :, :-1], 1 - right, out=across)
            np.multiply(window[:, :, 1:], right, out=other)
            across += other
            np.multiply(across[:-1], 1 - down, out=frame)
            np.multiply(across[1:], down, out=rest)
            frame += rest
        np.multiply(frame, 1 - canvas[:, channels:], out=rest)
        rest += canvas[:, :channels]
        rest += supplies.noise[noises[t] : noises[t] + rest.size].reshape(rest.shape)
        np.clip(rest, 0, 255, out=rest)
        video[t] = rest.swapaxes(0, 1)
    seen = [cel.ink[:, :, channels].sum((1, 2), dtype=np.float64) / cel.total for cel in cels]
    return np.clip(np.stack(seen, axis=1), 0, 1)


def _cels(recipe: ClutterRecipe, supplies: _Supplies, scene: Scene, path: Paths, slot: int) -> _Cels:
    ink, channels, frames = scene.inks[slot], recipe.channels, recipe.frames
    (down, across), places = _windows(recipe, ink, path.middle[:, slot], path.scale[:, slot])
    opacity, colours = ink.opacity, scene.colours[slot]
    skins = [
        _coloured(opacity, _cut(supplies.skins, place, opacity.shape), colours, recipe.texture)
        for place in scene.skins[slot]
    ]
    if recipe.appearance_drift:
        # Both textures in one product, below each other, as their weights are beside each other.
        mix = path.mix[:, slot, None, None].astype(np.float32)
        down = np.concatenate([down * (1 - mix), down * mix], axis=2)
        picture = np.concatenate(skins)
    else:
        picture = skins[0]
    lines = down.reshape(-1, len(picture)) @ picture.reshape(len(picture), -1)
    lines = lines.reshape(frames, -1, lines.shape[1])
    gain = np.concatenate([path.gain[:, slot], np.ones((frames, 1))], axis=1).astype(np.float32)
    lines *= gain.repeat(opacity.shape[1], axis=1)[:, None]
    patch = lines.reshape(frames, -1, opacity.shape[1]) @ across.swapaxes(1, 2)
    return _Cels(
        patch.reshape(frames, -1, channels + 1, patch.shape[2]),
        places,
        path.scale[:, slot] ** 2 * opacity.sum(dtype=np.float64),
    )


def _windows(
    recipe: ClutterRecipe, ink: Ink, middle: Doubles, scale: Doubles
) -> tuple[list[Floats], list[list[int]]]:
    """The weights `(T, pixels, source pixels)` along both axes that put ink into a patch, and its places."""
    shape, size = np.array(ink.opacity.shape), np.array(recipe.size)
    first = np.floor(middle - (ink.middle + 0.5) * scale[:, None]).astype(np.int64)  # (T, 2)
    sides = np.ceil((shape + 1) * scale.max()).astype(np.int64) + 1
    weights = []
    for axis in range(2):
        pixels = first[:, axis, None] + np.arange(sides[axis] + 1)
        edges = (pixels - middle[:, axis, None]) / scale[:, None] + ink.middle[axis]
        weights.append(resampling(edges, int(shape[axis])))
        weights[axis][(pixels[:, :-1] < 0) | (pixels[:, :-1] >= size[axis])] = 0
    inside = np.stack([np.clip(first, 0, size), np.clip(first + sides, 0, size)], axis=2)  # (T, 2, 2)
    places = np.concatenate([inside, inside - first[:, :, None]], axis=1)
    return weights, places.reshape(-1, 8).tolist()


def _front(recipe: ClutterRecipe, supplies: _Supplies, scene: Scene) -> Floats:
    """The occluders, `(H, C + 1, W)`, as the ink of `_Cels`."""
    (height, width), channels = recipe.size, recipe.channels
    front = np.zeros((height, channels + 1, width), dtype=np.float32)
    rows, columns = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)
    looks = zip(scene.occluders, scene.fields[2:], scene.occluder_colours, strict=True)
    for occluder, place, colours in looks:
        opacity = np.ones((height, width), dtype=np.float32)
        for (y, x), half in zip(occluder.axes.tolist(), occluder.half, strict=True):
            if half < np.inf:
                middle = y * (occluder.middle[0] - 0.5) + x * (occluder.middle[1] - 0.5)
                depth = 0.5 + half - abs(y * rows + (x * columns - np.float32(middle)))
                opacity *= np.clip(depth, 0, 1, out=depth)
        ink = _coloured(opacity, _cut(supplies.fields, place, recipe.size), colours, recipe.texture)
        ink *= 1 - front[:, channels:]
        front += ink
    return front


def _ground(recipe: ClutterRecipe, supplies: _Supplies, scene: Scene) -> Floats:
    """Grey values 0..255 of the ground, `(S + H + 1, C, S + W + 1)`: a frame can begin anywhere on it."""
    side, (height, width) = recipe.ground_side, recipe.size
    ground = np.empty((side, recipe.channels, side), dtype=np.float32)
    ground[...] = 255 * scene.ground[0, :, None]
    for place, direction in zip(scene.fields[:2], scene.ground[1:], strict=True):
        if recipe.background:
            field = _cut(supplies.fields, place, (side, side))
            amplitude = (255 * recipe.background * direction).astype(np.float32)
            ground += (2 * field - 1)[:, None] * amplitude[:, None]
    for number, y, x, *colour in scene.pieces.tolist():
        opacity = supplies.pieces[int(number * _PIECES)]
        top, left = int(y * (side - len(opacity))), int(x * (side - opacity.shape[2]))
        under = ground[top : top + len(opacity), :, left : left + opacity.shape[2]]
        under += opacity * (np.array(colour, np.float32)[:, None] * np.float32(255) - under)
    np.clip(ground, 0, 255, out=ground)
    rows, columns = np.arange(side + height + 1) % side, np.arange(side + width + 1) % side
    return ground.take(rows, axis=0).take(columns, axis=2)


def _cut(textures: Floats, place: Doubles, size: Sequence[int]) -> Floats:
    """A part of one of the periodic textures, `size`."""
    side = textures.shape[1]
    number, top, left = (place * (len(textures), side, side)).astype(np.int64).tolist()
    rows, columns = (np.arange(first, first + n) % side for first, n in zip((top, left), size, strict=True))
    return textures[number].take(rows, axis=0).take(columns, axis=1)


def _coloured(opacity: Floats, texture: Floats, colours: Doubles, strength: float) -> Floats:
    """Ink `(rows, C + 1, columns)` as that of `_Cels`, of the first of two colours where `texture` is 0."""
    first, change = (255 * np.array([colours[0], strength * (colours[1] - colours[0])])).astype(np.float32)
    ink = np.empty((len(opacity), len(first) + 1, opacity.shape[1]), dtype=np.float32)
    ink[:, :-1] = (first[:, None] + texture[:, None] * change[:, None]) * opacity[:, None]
    ink[:, -1] = opacity
    return ink


def _piece(ink: Ink, side: float) -> Floats:
    """The opacity of a picture whose box is to be `side` pixels, `(rows, 1, columns)`."""
    scale = ink.scale(side)
    down, across = (resampling(np.arange(-1, np.ceil(n * scale) + 1) / scale, n) for n in ink.opacity.shape)
    return (down @ ink.opacity @ across.T)[:, None]
