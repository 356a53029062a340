import dataclasses
import math
import pickle
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from whatwhere.datasets import Digits, VideoData, make_silhouettes
from whatwhere.datasets.generated import ClutterRecipe, ClutterVideos, clutter_videos
from whatwhere.datasets.generated import digits as digits_module
from whatwhere.datasets.generated.clutter import _paint, resampling
from whatwhere.datasets.generated.clutter_recipe import HARDEST
from whatwhere.datasets.generated.clutter_scene import Paths, Scene
from whatwhere.datasets.streams import stream
from whatwhere.models.components.boxes import iou

PLAIN = ClutterRecipe()
HARD = ClutterRecipe.of_difficulty(1)
# Everything that moves and hides, in colours that are constant.
FLAT = dataclasses.replace(
    HARD,
    max_distractors=3,
    overhang=0.4,
    likeness=0.0,
    texture=0.0,
    background=0.0,
    clutter=0,
    appearance_drift=0.0,
    noise_std=0.0,
)


@pytest.fixture(scope="module")
def shapes() -> Digits:
    return make_silhouettes("train", 400, seed=3)


def made(recipe: ClutterRecipe, shapes: Digits, number: int, seed: int = 0) -> VideoData:
    return ClutterVideos(recipe, shapes, number, seed).subset(range(number))


def boxes_of(data: VideoData) -> np.ndarray:
    assert data.boxes is not None
    return data.boxes.astype(float)


def visible_in(data: VideoData) -> np.ndarray:
    assert data.visible is not None
    return data.visible.astype(float)


def scenes_of(recipe: ClutterRecipe, shapes: Digits, number: int, seed: int = 0) -> list[Scene]:
    """What is random about the first videos of a data set."""
    members = [np.flatnonzero(shapes.labels == label) for label in range(10)]
    return [Scene.draw(recipe, shapes, members, stream("clutter", seed, i)) for i in range(number)]


def averaged(opacity: np.ndarray, y: np.ndarray, x: np.ndarray, fine: int) -> np.ndarray:
    """Means over squares of `fine` x `fine` samples of a picture, interpolated down to 0 around it."""
    samples = ndimage.map_coordinates(np.pad(opacity, 1), np.broadcast_arrays(y + 0.5, x + 0.5), order=1)
    rows, columns = samples.shape
    return np.asarray(samples.reshape(rows // fine, fine, columns // fine, fine).mean((1, 3)))


@pytest.mark.parametrize(
    "recipe",
    [
        dataclasses.replace(FLAT, frames=4),
        dataclasses.replace(FLAT, frames=3, image_size=(90, 130), channels=1, speed=0.1),
    ],
)
def test_boxes_reproduce_every_pixel_and_what_is_visible(recipe: ClutterRecipe, shapes: Digits) -> None:
    """Every object drawn by its label alone, by dense sampling; each pixel of it under what is in front."""
    number, margin, fine = 5, 24, 6
    data = made(recipe, shapes, number)
    boxes, visible = boxes_of(data), visible_in(data)
    height, width = recipe.size
    y, x = (((np.arange((n + 2 * margin) * fine) + 0.5) / fine - margin) for n in recipe.size)
    y = y[:, None]
    inside = slice(margin, margin + height), slice(margin, margin + width)
    for video, scene in enumerate(scenes_of(recipe, shapes, number)):
        front, colours = np.zeros((height, width)), np.zeros((recipe.channels, height, width))
        for occluder, paint in zip(scene.occluders, scene.occluder_colours, strict=True):
            (a, b), (c, d) = occluder.axes
            down, across = (np.arange(n) + 0.5 - m for n, m in zip(recipe.size, occluder.middle, strict=True))
            first, second = (p * down[:, None] + q * across for p, q in ((a, b), (c, d)))
            ends = zip((first, second), occluder.half, strict=True)
            ink = np.prod([np.clip(0.5 + half - abs(u), 0, 1) for u, half in ends], axis=0)
            colours += paint[0][:, None, None] * ink * (1 - front)
            front += ink * (1 - front)
        for frame in range(recipe.frames):
            covered, canvas = front.copy(), colours.copy()
            for slot in scene.order:
                ink = scene.inks[slot]
                left, top, wide, high = boxes[video, frame, slot]
                low = ink.middle - ink.size / 2
                source = (y - top) / high * ink.size[0] + low[0], (x - left) / wide * ink.size[1] + low[1]
                opacity = averaged(ink.opacity, *source, fine)
                shown = opacity[inside] * (1 - covered)
                assert visible[video, frame, slot] == pytest.approx(shown.sum() / opacity.sum(), abs=0.01)
                canvas += scene.colours[slot, 0][:, None, None] * shown
                covered += shown
            canvas += scene.ground[0][:, None, None] * (1 - covered)
            difference = abs(data.video[video, frame] - np.rint(255 * canvas))
            assert difference.max() < 4
            assert difference.mean() < 0.1
    present = boxes[..., 2] > 0
    assert (visible[present] < 0.3).any(), "some must be hidden"
    assert (boxes[present][:, :2] < -2).any(), "some must be cut off by the frame"


@pytest.mark.parametrize("scale", [0.6, 1.7])
def test_resampling_takes_means_of_a_linear_interpolation(scale: float) -> None:
    edges = 0.3 + (np.arange(30) - 8) / scale
    weights = resampling(edges, 9)
    assert weights.shape == (29, 9)
    # Between the outer pixels' middles, weights add up to 1, and reproduce a ramp.
    inner = (edges[:-1] >= 0.5) & (edges[1:] <= 8.5)
    assert inner.sum() >= 3
    np.testing.assert_allclose(weights.sum(1)[inner], 1, atol=1e-5)
    middles = (edges[1:] + edges[:-1]) / 2
    np.testing.assert_allclose((weights @ (np.arange(9) + 0.5))[inner], middles[inner], atol=1e-5)
    # A hat has the area of its pixel, and reaches half a pixel beyond it.
    np.testing.assert_allclose(weights.sum(0), scale, atol=1e-5)
    far = (edges[1:] <= -0.5) | (edges[:-1] >= 9.5)
    assert not weights[far].any()
    assert (weights[~far].max(1) > 0).all()
    grid = edges[:-1, None] + (np.arange(1000) + 0.5) / 1000 / scale
    exact = np.maximum(1 - abs(grid[..., None] - np.arange(9) - 0.5), 0).mean(1)
    np.testing.assert_allclose(weights, exact, atol=1e-3)


@pytest.mark.parametrize("size", [64, 112])
def test_ink_fills_the_boxes(shapes: Digits, size: int) -> None:
    """What is nearer to the target's colour than to the ground is as large as its box, to a pixel."""
    recipe = dataclasses.replace(PLAIN, frames=6, image_size=size)
    data = made(recipe, shapes, 60)
    boxes = boxes_of(data)[:, :, 0]
    beyond = []
    for video, scene in enumerate(scenes_of(recipe, shapes, 60)):
        ground, colour = scene.ground[0], scene.colours[0, 0]
        channel = abs(colour - ground).argmax()
        shown = abs(data.video[video, :, channel] / 255 - ground[channel]) > abs(colour - ground)[channel] / 2
        for frame in range(6):
            left, top, width, height = boxes[video, frame]
            rows, columns = (np.flatnonzero(shown[frame].any(axis)) for axis in (1, 0))
            beyond += [top - rows.min(), left - columns.min()]
            beyond += [rows.max() + 1 - top - height, columns.max() + 1 - left - width]
    # A pixel of the pictures is about 0.9 and 1.6 pixels of these frames; narrow tips are fainter than that.
    pixel = max(1, size / 70)
    assert abs(np.median(beyond)) < 0.15 * pixel
    assert np.quantile(np.abs(beyond), 0.98) < pixel
    assert np.max(np.abs(beyond)) < 1.4 * pixel


@pytest.mark.parametrize(
    "recipe",
    [
        HARD,
        dataclasses.replace(
            HARD, image_size=16, max_distractors=9, min_distractors=9, occluders=12, frames=2
        ),
        dataclasses.replace(HARD, image_size=(40, 100), sides=(0.5, 0.5), overhang=0.5, frames=2),
    ],
)
def test_the_target_begins_wholly_visible(recipe: ClutterRecipe, shapes: Digits) -> None:
    data = made(recipe, shapes, 30)
    visible = visible_in(data)
    np.testing.assert_allclose(visible[:, 0, 0], 1, atol=1e-5)
    assert visible[:, 0, 1:].min() < 0.9, "others need not be"
    assert visible.min() >= 0
    assert visible.max() <= 1


def test_sizes_drift_within_their_bounds(shapes: Digits) -> None:
    recipe = dataclasses.replace(PLAIN, scale_drift=0.02, frames=60, min_distractors=1, max_distractors=1)
    sizes = boxes_of(made(recipe, shapes, 40))[..., 2:]
    ratio = sizes[:, 1:] / sizes[:, :-1]
    np.testing.assert_allclose(ratio[..., 0], ratio[..., 1], rtol=1e-5)
    assert 0.98 - 1e-5 <= ratio.min() < 0.982
    assert 1.018 < ratio.max() <= 1.02 + 1e-5
    assert abs(np.log(ratio)).mean() > 0.008
    sides = sizes.max(-1) / 64
    assert sides.min() >= 0.25 - 1e-5
    assert sides.max() <= 0.35 + 1e-5
    assert stats.kstest(sides[:, 0].ravel(), stats.uniform(0.25, 0.1).cdf).pvalue > 1e-3
    # It goes on in one direction for some time: ten frames take it much farther than chance would.
    assert abs(np.log(sides[:, 10:] / sides[:, :-10])).mean() > 4 * abs(np.log(ratio)).mean()
    constant = boxes_of(made(dataclasses.replace(recipe, scale_drift=0.0), shapes, 5))[..., 2:]
    np.testing.assert_allclose(constant, constant[:, :1].repeat(60, 1), rtol=1e-6)


def test_objects_move_as_defined(shapes: Digits) -> None:
    """Velocity with momentum; a middle beyond a wall is mirrored, which turns the direction round."""
    recipe = dataclasses.replace(HARD, overhang=0.2, speed=0.08, frames=40, channels=1, scale_drift=0.0)
    scenes = scenes_of(recipe, shapes, 8)
    boxes = boxes_of(made(recipe, shapes, 8))
    mirrors = 0
    for video, scene in enumerate(scenes):
        changes = scene.changes[:, 2:].reshape(40, len(scene.inks), 6)
        for slot in range(len(scene.inks)):
            for axis in range(2):
                size = boxes[video, 0, slot, 3 - axis]
                low, high = 0.3 * size, 64 - 0.3 * size
                place, direction = scene.middle[slot, axis], 1
                velocity = 0.08 * 64 * math.sqrt(12) * (scene.start[slot, axis] - 0.5)
                for frame in range(40):
                    if frame:
                        push = math.sqrt(12) * (changes[frame, slot, axis] - 0.5)
                        velocity = 0.9 * velocity + math.sqrt(1 - 0.81) * 0.08 * 64 * push
                        place += direction * velocity
                        if not low <= place <= high:
                            place, direction = 2 * (low if place < low else high) - place, -direction
                            mirrors += 1
                    middle = boxes[video, frame, slot, 1 - axis] + size / 2
                    assert middle == pytest.approx(place, abs=1e-3)
    assert mirrors > 100


def test_speed_and_momentum_are_those_of_the_recipe(shapes: Digits) -> None:
    recipe = ClutterRecipe(speed=0.004, inertia=0.8, frames=20, sides=(0.05, 0.05))
    paths = Paths.of(recipe, scenes_of(recipe, shapes, 500))
    moves = np.diff(paths.middle[:, :, 0], axis=0)
    free = (np.minimum(paths.middle, 64 - paths.middle)[:, :, 0] > 8).all((0, 2))
    moves = moves[:, free] / 64
    assert math.sqrt((moves**2).mean()) == pytest.approx(0.004, rel=0.04)
    assert math.sqrt((moves[0] ** 2).mean()) == pytest.approx(0.004, rel=0.1)
    assert math.sqrt((moves[-1] ** 2).mean()) == pytest.approx(0.004, rel=0.1)
    assert np.corrcoef(moves[1:].ravel(), moves[:-1].ravel())[0, 1] == pytest.approx(0.8, abs=0.02)


def test_the_middle_stays_inside(shapes: Digits) -> None:
    for overhang in (0.0, 0.5):
        recipe = dataclasses.replace(PLAIN, overhang=overhang, speed=0.2, max_distractors=2)
        boxes = boxes_of(made(recipe, shapes, 30))
        present = boxes[..., 2] > 0
        outside = -np.minimum(boxes[..., :2], 64 - boxes[..., :2] - boxes[..., 2:])
        share = (outside / np.maximum(boxes[..., 2:], 1))[present]
        assert overhang - 0.02 < share.max() <= overhang + 1e-5


def test_the_ground_moves_by_the_stated_drift(shapes: Digits) -> None:
    recipe = dataclasses.replace(
        PLAIN,
        camera_speed=0.05,
        background=0.3,
        clutter=30,
        sides=(0.05, 0.05),
        frames=6,
        image_size=(64, 80),
    )
    paths = Paths.of(recipe, scenes_of(recipe, shapes, 6))
    flights = np.diff(paths.camera, axis=0)
    np.testing.assert_allclose(np.hypot(*flights.T), 0.05 * 64, rtol=1e-9)
    video = made(recipe, shapes, 6).video.astype(float)
    for clip in range(6):
        for frame in range(5):
            before, after = video[clip, frame], video[clip, frame + 1, :, 6:-6, 6:-6]
            errors = np.array(
                [
                    [
                        np.square(before[:, 6 + y : y + 58, 6 + x : x + 74] - after).mean()
                        for x in range(-6, 7)
                    ]
                    for y in range(-6, 7)
                ]
            )
            found = np.array(np.unravel_index(errors.argmin(), errors.shape)) - 6
            assert abs(found - flights[frame, clip]).max() < 0.75
            assert errors.min() < 0.2 * np.median(errors)


def test_a_camera_flies_over_the_border_of_the_ground(shapes: Digits) -> None:
    """The ground is periodic: a flight around it ends where it began."""
    recipe = dataclasses.replace(PLAIN, background=0.5, clutter=5, sides=(0.05, 0.05), frames=1)
    videos = ClutterVideos(recipe, shapes, 4, 0)
    scene = scenes_of(recipe, shapes, 1)[0]
    path = Paths(*(values[:, 0] for values in Paths.of(recipe, [scene])))
    frames = []
    for shift in (0.0, 1.5 * recipe.ground_side, recipe.ground_side - 1e-9, -5.0 * recipe.ground_side):
        moved, video = path._replace(camera=path.camera + shift), np.empty((1, 3, 64, 64), np.uint8)
        _paint(recipe, videos._supplies, scene, moved, video)
        frames.append(video.astype(int))
    assert abs(frames[1] - frames[0]).mean() > 10
    assert abs(frames[2] - frames[0]).max() <= 1
    assert abs(frames[3] - frames[0]).max() <= 1


def test_the_ground_has_the_stated_amplitude_and_clutter(shapes: Digits) -> None:
    bare = dataclasses.replace(PLAIN, sides=(0.05, 0.05), frames=1)
    scenes = scenes_of(bare, shapes, 40)
    means = np.stack([scene.ground[0] for scene in scenes])[:, :, None, None] * 255
    for amplitude in (0.1, 0.2):
        video = made(dataclasses.replace(bare, background=amplitude), shapes, 40).video[:, 0]
        change = abs(video - means) / 255
        # Leave out the target.
        assert 1.2 * amplitude < np.quantile(change, 0.99) <= 2 * amplitude + 0.01
    video = made(dataclasses.replace(bare, clutter=6, image_size=128), shapes, 40).video[:, 0]
    pieces = [ndimage.label((abs(v - m) > 3).any(0))[1] - 1 for v, m in zip(video, means, strict=True)]
    # Some hide others, but pieces that are cut off by the frame count too.
    assert 4.5 < np.mean(pieces) < 8
    assert np.std(pieces) > 1


def test_the_target_has_its_distractors(shapes: Digits) -> None:
    recipe = dataclasses.replace(PLAIN, min_distractors=1, max_distractors=3, frames=2)
    data = made(recipe, shapes, 300)
    assert data.count is not None
    assert data.classes is not None
    boxes = boxes_of(data)
    count = data.count[:, 0]
    assert stats.chisquare(np.bincount(count - 2, minlength=3)).pvalue > 1e-3
    np.testing.assert_array_equal(data.count[:, 1], count)
    here = np.arange(4) < count[:, None]
    np.testing.assert_array_equal(data.classes >= 0, here)
    np.testing.assert_array_equal(boxes[:, 1, :, 2] > 0, here)
    assert not boxes[~here[:, None].repeat(2, 1)].any()
    same = data.classes == data.classes[:, :1]
    np.testing.assert_array_equal(same, here)
    assert (
        stats.chisquare(
            np.bincount(data.classes[:, 0], minlength=8), 300 * np.bincount(shapes.labels) / 400
        ).pvalue
        > 1e-3
    )
    for scene in scenes_of(recipe, shapes, 50):
        pictures = {ink.opacity.tobytes() for ink in scene.inks}
        assert len(pictures) == len(scene.inks), "another instance"
        assert len({tuple(c) for c in scene.colours[:, 0]}) == len(scene.inks), "in another colour"
        assert len({tuple(s) for s in scene.skins.reshape(-1, 3)}) == 2 * len(scene.inks), "and texture"


def test_the_order_is_any(shapes: Digits) -> None:
    recipe = dataclasses.replace(PLAIN, min_distractors=2, max_distractors=2, sides=(0.1, 0.1), frames=1)
    places = [scene.order.index(0) for scene in scenes_of(recipe, shapes, 300)]
    assert stats.chisquare(np.bincount(places, minlength=3)).pvalue > 1e-3


def test_colours_are_apart_from_the_ground_and_like_the_targets(shapes: Digits) -> None:
    recipe = dataclasses.replace(PLAIN, min_distractors=2, max_distractors=2, frames=1)
    for channels, contrast in ((1, 0.5), (3, 0.4)):
        own = dataclasses.replace(recipe, channels=channels, contrast=contrast)
        for scene in scenes_of(own, shapes, 200):
            gap = abs(scene.colours[:, 0] - scene.ground[0]).max(-1)
            assert gap.min() >= contrast - 1e-12
            assert scene.colours.min() >= 0
            assert scene.colours.max() <= 1
    unlike, half, same = (
        np.stack([s.colours for s in scenes_of(dataclasses.replace(recipe, likeness=x), shapes, 20)])
        for x in (0.0, 0.5, 1.0)
    )
    np.testing.assert_array_equal(unlike[:, 0], half[:, 0])
    np.testing.assert_allclose(half[:, 1:], (unlike[:, 1:] + unlike[:, :1]) / 2)
    np.testing.assert_allclose(same[:, 1:], unlike[:, :1].repeat(2, 1))


def inner_colours(recipe: ClutterRecipe, shapes: Digits, number: int) -> list[np.ndarray]:
    """Colours of the pixels in the middle of each target, where it is opaque: `(T, C, n)`."""
    data = made(recipe, shapes, number)
    found = []
    for video, box in zip(data.video, boxes_of(data)[:, :, 0], strict=True):
        middle = np.floor(box[:, :2] + box[:, 2:] / 2).astype(int)
        cuts = [v[:, y - 2 : y + 3, x - 2 : x + 3] for v, (x, y) in zip(video, middle, strict=True)]
        found.append(np.stack(cuts).reshape(len(video), recipe.channels, -1) / 255)
    return found


def test_textures_are_between_two_colours(shapes: Digits) -> None:
    solid = Digits(shapes.images[shapes.labels == 2], shapes.labels[shapes.labels == 2])
    recipe = dataclasses.replace(PLAIN, image_size=128, frames=3)
    shares = {}
    for texture in (0.0, 0.5, 1.0):
        own = dataclasses.replace(recipe, texture=texture)
        shares[texture] = []
        for pixels, scene in zip(inner_colours(own, solid, 30), scenes_of(own, solid, 30), strict=True):
            first, second = scene.colours[0]
            share = (
                (pixels - first[:, None]).transpose(0, 2, 1)
                @ (second - first)
                / ((second - first) ** 2).sum()
            )
            line = first[:, None] + (second - first)[:, None] * share[:, None]
            assert abs(pixels - line).max() < 1.5 / 255
            shares[texture].append(share.ravel())
    limits = {texture: (np.min(share), np.max(share)) for texture, share in shares.items()}
    for texture, (low, high) in limits.items():
        assert low > -0.02
        assert texture - 0.1 < high < texture + 0.02
    assert np.mean([share.std() for share in shares[1.0]]) > 0.1


def test_appearance_drifts(shapes: Digits) -> None:
    solid = Digits(shapes.images[shapes.labels == 2], shapes.labels[shapes.labels == 2])
    recipe = dataclasses.replace(PLAIN, image_size=128, texture=1.0, speed=0.0, frames=61)
    still = inner_colours(recipe, solid, 3)
    assert max(abs(np.diff(pixels, axis=0)).max() for pixels in still) < 1e-9
    drifting = dataclasses.replace(recipe, appearance_drift=0.05)
    paths = Paths.of(drifting, scenes_of(drifting, solid, 200))
    steps = np.diff(np.log(paths.gain), axis=0)
    # Brightness and one channel have steps of 1 and 1/2, two channels share the brightness.
    assert steps.std() == pytest.approx(0.05 * math.sqrt(1.25), rel=0.05)
    shared = (steps[..., 0] * steps[..., 1]).mean()
    assert shared == pytest.approx(0.05**2, rel=0.1)
    assert abs(np.log(paths.gain)).max() <= 0.7
    assert abs(np.log(paths.gain)).max() > 0.5
    assert (paths.gain[0] == 1).all()
    assert paths.mix[0].max() == 0
    assert paths.mix[20].mean() > 0.85, "the other texture after 1 / 0.05 frames"
    assert paths.mix[40].mean() < 0.2, "and back after another 20"
    assert paths.mix.min() >= 0
    assert paths.mix.max() <= 1
    # The pixels follow: where gains and mix are known, colours are those of two pictures.
    changes: list[float] = []
    for pixels, gain, mix in zip(
        inner_colours(drifting, solid, 3),
        paths.gain.swapaxes(0, 1)[:3, :, 0],
        paths.mix.T[0, :3],
        strict=True,
    ):
        basis = np.stack([1 - mix, mix], axis=1)
        for channel in range(3):
            shown = pixels[:, channel]
            unclipped = (shown < 0.99).all(0)
            values = (shown / gain[:, channel, None])[:, unclipped]
            fit = basis @ np.linalg.lstsq(basis, values, rcond=None)[0]
            assert abs(fit - values).max(initial=0) < 4 / 255
            changes.append(values.std(0).max(initial=0))
    assert np.median(changes) > 0.05, "two different pictures"


def test_noise_has_its_deviation(shapes: Digits) -> None:
    recipe = dataclasses.replace(PLAIN, noise_std=0.05, frames=3)
    noisy, plain = (
        made(r, shapes, 20).video.astype(float) for r in (recipe, dataclasses.replace(recipe, noise_std=0.0))
    )
    noise = (noisy - plain)[(plain > 60) & (plain < 195)]
    assert noise.std() == pytest.approx(0.05 * 255, rel=0.01)
    assert abs(noise.mean()) < 0.1
    first, second = ((noisy - plain)[:, frame].ravel() for frame in (0, 1))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.02


def baselines(recipe: ClutterRecipe, shapes: Digits) -> tuple[float, float, float]:
    """Overlap with the first box and with the one before, and what is visible of the target."""
    data = made(recipe, shapes, 80)
    boxes = torch.from_numpy(boxes_of(data)[:, :, 0])
    static, before = iou(boxes, boxes[:, :1]).mean(), iou(boxes[:, 1:], boxes[:, :-1]).mean()
    return float(static), float(before), float(visible_in(data)[:, :, 0].mean())


def test_difficulty_rises(shapes: Digits) -> None:
    levels = (0.0, 0.25, 0.5, 0.75, 1.0)
    recipes = [ClutterRecipe.of_difficulty(level) for level in levels]
    assert recipes[0] == ClutterRecipe()
    assert {name: getattr(recipes[-1], name) for name in HARDEST} == HARDEST
    for easier, harder in pairwise(recipes):
        assert harder.sides[0] < easier.sides[0]
        assert harder.contrast < easier.contrast
        for name in HARDEST.keys() - {"sides", "contrast"}:
            value, other = getattr(harder, name), getattr(easier, name)
            assert value >= other if isinstance(value, int) else value > other
    ends = np.array([baselines(recipe, shapes) for recipe in recipes[::2]])
    assert (np.diff(ends, axis=0) < -0.02).all()
    # Standard errors are about 0.015, 0.004 and 0.01.
    np.testing.assert_allclose(ends[:, 0], [0.42, 0.24, 0.17], atol=0.06)
    np.testing.assert_allclose(ends[:, 1], [0.89, 0.78, 0.68], atol=0.02)
    np.testing.assert_allclose(ends[:, 2], [1, 0.93, 0.84], atol=0.04)


def test_the_table_of_difficulties_is_true() -> None:
    rows = [line.split("|")[1:-1] for line in (ClutterRecipe.__doc__ or "").splitlines() if "    | " in line]
    assert [cell.strip() for cell in rows[0]] == ["level", "0", "1/2", "1"]
    assert len(rows) == len(HARDEST)  # a line above it, and one for the two numbers of distractors
    for column, level in ((1, 0.0), (2, 0.5), (3, 1.0)):
        recipe = ClutterRecipe.of_difficulty(level)
        for row in rows[1:]:
            name, told = row[0].strip(), [float(number) for number in row[column].split("-")]
            if name == "distractors":
                value = sorted({recipe.min_distractors, recipe.max_distractors})
            else:
                value = list(np.atleast_1d(getattr(recipe, name)))
            assert value == pytest.approx(told)


def test_levels_take_changes() -> None:
    recipe = ClutterRecipe.of_difficulty(0.5, image_size=(100, 128), occluders=0)
    assert recipe.size == (100, 128)
    assert recipe.unit == 100
    assert recipe.occluders == 0
    assert recipe.speed == pytest.approx(0.02)
    for level in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=r"`level` must be in \[0, 1\], got"):
            ClutterRecipe.of_difficulty(level)


@pytest.mark.parametrize(
    "recipe", [PLAIN, dataclasses.replace(HARD, image_size=(40, 56), channels=1, frames=9)]
)
def test_videos_are_a_pure_function_of_their_index(recipe: ClutterRecipe, shapes: Digits) -> None:
    videos = ClutterVideos(recipe, shapes, 12, 5)
    whole = videos.subset(range(12))
    assert whole.shape == (12, recipe.frames, recipe.channels, *recipe.size)
    order = np.random.default_rng(0).permutation(12)
    for part in (order[:5], order[5:6], order[6:], [3, 3, 11]):
        assert_same(videos.subset(part), whole.subset(part))
    assert_same(ClutterVideos(recipe, shapes, 99, 5).subset(range(12)), whole)
    assert_same(pickle.loads(pickle.dumps(videos)).subset(range(12)), whole)
    for other in (ClutterVideos(recipe, shapes, 12, 6), ClutterVideos(recipe, shapes, 12, 5, purpose="x")):
        assert (other.subset(range(12)).video != whole.video).any((2, 3, 4)).all()


def assert_same(a: VideoData, b: VideoData) -> None:
    np.testing.assert_array_equal(a.video, b.video)
    assert a.labels().keys() == b.labels().keys() == {"count", "classes", "boxes", "visible"}
    for name, value in a.labels().items():
        np.testing.assert_array_equal(value, b.labels()[name])


def test_a_longer_video_begins_with_the_shorter_one(shapes: Digits) -> None:
    short, long = (made(dataclasses.replace(HARD, frames=frames), shapes, 6) for frames in (8, 20))
    np.testing.assert_array_equal(boxes_of(long)[:, :8], boxes_of(short))
    np.testing.assert_allclose(visible_in(long)[:, :8], visible_in(short), atol=1e-6)
    difference = abs(long.video[:, :8].astype(int) - short.video)
    assert difference.max() <= 1
    assert difference.mean() < 1e-4


def test_a_batch_is_the_subset_as_tensors(shapes: Digits) -> None:
    videos = ClutterVideos(dataclasses.replace(HARD, frames=3), shapes, 8, 0)
    batch, data = videos.batch(torch.tensor([7, 2])), videos.subset([7, 2]).batch([0, 1])
    assert len(videos) == 8
    for found, expected in zip(batch, data, strict=True):
        if found is not None:
            assert expected is not None
            assert found.dtype == expected.dtype
            assert torch.equal(found, expected)
    assert len(videos.batch([]).video) == 0
    with pytest.raises(IndexError, match=r"\[0, 8\), got 8 to 8"):
        videos.batch([8])


def test_large_frames_repeat_the_ground(shapes: Digits) -> None:
    recipe = ClutterRecipe.of_difficulty(1, image_size=(24, 700), frames=2, sides=(0.05, 0.05))
    assert recipe.ground_side == 512
    data = made(recipe, shapes, 1)
    assert data.video.shape == (1, 2, 3, 24, 700)


@pytest.mark.parametrize("source", ["silhouettes", "glyphs"])
def test_splits_have_their_own_objects_and_textures(source: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits_module, "DEFAULT_GLYPHS", 120)
    recipe = dataclasses.replace(HARD, frames=2)
    train, test = (clutter_videos(recipe, split, 3, 0, source=source) for split in ("train", "test"))  # type: ignore[arg-type]
    assert (train.subset(range(3)).video != test.subset(range(3)).video).any((1, 2, 3, 4)).all()
    for one in train.digits.images[:50]:
        assert (test.digits.images != one).any((1, 2)).all()
    for field in ("fields", "skins"):
        ours, theirs = getattr(train._supplies, field), getattr(test._supplies, field)
        assert (abs(ours[:, None] - theirs).mean((2, 3)) > 0.05).all()


def test_unknown_splits_and_sources_are_refused() -> None:
    with pytest.raises(ValueError, match="`split` must be 'train' or 'test', got 'valid'"):
        clutter_videos(PLAIN, "valid", 1, 0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"`source` must be .*got 'shapes'"):
        clutter_videos(PLAIN, "train", 1, 0, source="shapes")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`size` must be at least 1, got 0"):
        clutter_videos(PLAIN, "train", 0, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size": 15}, r"`image_size` must be .* at least 16, got 15"),
        ({"image_size": (64, 8)}, r"at least 16, got \(64, 8\)"),
        ({"image_size": (64, 64, 3)}, r"at least 16, got \(64, 64, 3\)"),
        ({"image_size": 64.0}, "at least 16, got 64.0"),
        ({"channels": 2}, "`channels` must be 1 or 3, got 2"),
        ({"frames": 0}, "`frames` must be at least 1, got 0"),
        ({"sides": (0.3, 0.2)}, r"`sides` must be .*got \(0.3, 0.2\)"),
        ({"sides": (0.3, 0.6)}, r"\[0.05, 0.5\], got \(0.3, 0.6\)"),
        ({"sides": (math.nan, 0.3)}, r"`sides` must be .*got \(nan, 0.3\)"),
        ({"sides": (0.3,)}, r"`sides` must be .*got \(0.3,\)"),
        ({"min_distractors": 1}, "`min_distractors` <= `max_distractors`, got 1 and 0"),
        ({"min_distractors": -1}, "got -1 and 0"),
        ({"clutter": -1}, "`clutter` must not be negative, got -1"),
        ({"occluders": -2}, "`occluders` must not be negative, got -2"),
        ({"speed": 0.3}, r"`speed` must be in \[0, 0.25\], got 0.3"),
        ({"speed": math.nan}, "`speed` must be in .* got nan"),
        ({"inertia": 1.1}, r"`inertia` must be in \[0, 1\], got 1.1"),
        ({"overhang": 0.6}, r"`overhang` must be in \[0, 0.5\], got 0.6"),
        ({"likeness": -0.1}, r"`likeness` must be in \[0, 1\], got -0.1"),
        ({"texture": 2.0}, r"`texture` must be in \[0, 1\], got 2.0"),
        ({"contrast": 0.6}, r"`contrast` must be in \[0, 0.5\], got 0.6"),
        ({"background": math.inf}, r"`background` must be in \[0, 1\], got inf"),
        ({"camera_speed": -1.0}, r"`camera_speed` must be in \[0, 1\], got -1.0"),
        ({"scale_drift": 0.3}, r"`scale_drift` must be in \[0, 0.2\], got 0.3"),
        ({"appearance_drift": 1.0}, r"`appearance_drift` must be in \[0, 0.5\], got 1.0"),
        ({"noise_std": 2.0}, r"`noise_std` must be in \[0, 1\], got 2.0"),
    ],
)
def test_impossible_recipes_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClutterRecipe(**arguments)


def test_impossible_data_sets_are_refused(shapes: Digits) -> None:
    with pytest.raises(ValueError, match="`size` must be at least 1, got 0"):
        ClutterVideos(PLAIN, shapes, 0, 0)
    with pytest.raises(ValueError, match="`seed` must be in"):
        ClutterVideos(PLAIN, shapes, 1, -1)
    few = Digits(shapes.images[:3], np.array([4, 4, 6], np.uint8))
    with pytest.raises(ValueError, match=r"at least 2 pictures of each class.*got 1 of class 6"):
        ClutterVideos(dataclasses.replace(PLAIN, max_distractors=1), few, 1, 0)
    made(PLAIN, few, 1)
    empty = Digits(shapes.images[:3].copy(), shapes.labels[:3])
    empty.images[1] = 0
    with pytest.raises(ValueError, match="picture 1 is empty"):
        ClutterVideos(PLAIN, empty, 1, 0)
