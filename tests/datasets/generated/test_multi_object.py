from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from whatwhere.datasets import (
    RECIPES,
    Digits,
    PyroRecipe,
    Recipe,
    StaticSqairRecipe,
    VideoData,
    compose,
    make_glyphs,
    multi_object_images,
)
from whatwhere.datasets.generated import digits as digits_module
from whatwhere.datasets.generated import multi_object as module
from whatwhere.datasets.generated.mnist import FILES
from whatwhere.datasets.generated.multi_object import Scene, tight_box

recipes = pytest.mark.parametrize("recipe", [PyroRecipe(max_objects=3), StaticSqairRecipe(max_objects=3)])


def scenes(recipe: Recipe, digits: Digits, count: int, number: int = 40) -> list[Scene]:
    rng = np.random.default_rng(7)
    return [recipe.draw(digits, count, rng) for _ in range(number)]


def slow_box(image: np.ndarray) -> list[int]:
    """The tight box by looking at every pixel."""
    inked = [(y, x) for y in range(image.shape[0]) for x in range(image.shape[1]) if image[y, x] > 0]
    top, left = min(y for y, _ in inked), min(x for _, x in inked)
    return [left, top, max(x for _, x in inked) + 1 - left, max(y for y, _ in inked) + 1 - top]


def layers(scene: Scene) -> np.ndarray:
    """Every object alone on a canvas, pixel by pixel."""
    result = np.zeros((len(scene.sprites), *scene.image.shape), dtype=int)
    for layer, sprite in zip(result, scene.sprites, strict=True):
        for (row, column), value in np.ndenumerate(sprite.ink):
            layer[sprite.top + row, sprite.left + column] = value
    return result


def solid(height: int, width: int, number: int = 4) -> Digits:
    """Rectangles of ink instead of digits."""
    images = np.zeros((number, 28, 28), np.uint8)
    images[:, 3 : 3 + height, 2 : 2 + width] = 255
    return Digits(images, np.arange(number, dtype=np.uint8))


@recipes
def test_counts_are_uniform(recipe: Recipe, digits: Digits) -> None:
    # Redrawing what overlaps must not make full images rarer.
    data = compose(recipe, digits, 1200, seed=0)
    assert data.count is not None
    assert stats.chisquare(np.bincount(data.count[:, 0], minlength=4)).pvalue > 1e-3


def test_counts_keep_to_the_range(digits: Digits) -> None:
    data = compose(StaticSqairRecipe(min_objects=1, max_objects=2), digits, 100, seed=0)
    assert data.count is not None
    assert set(data.count.ravel()) == {1, 2}


@recipes
def test_labels_agree_with_each_other(recipe: Recipe, digits: Digits) -> None:
    data = compose(recipe, digits, 100, seed=1)
    assert data.video.shape == (100, 1, 1, 50, 50)
    assert data.count is not None
    assert data.classes is not None
    assert data.boxes is not None
    assert data.visible is not None
    present = np.arange(3) < data.count  # (M, N)
    np.testing.assert_array_equal(data.classes >= 0, present)
    np.testing.assert_array_equal(data.visible[:, 0], present)
    np.testing.assert_array_equal((data.boxes[:, 0] != 0).any(-1), present)


@recipes
def test_box_of_a_single_object_is_that_of_the_image(recipe: Recipe, digits: Digits) -> None:
    data = compose(type(recipe)(min_objects=1, max_objects=1), digits, 60, seed=2)  # type: ignore[call-arg]
    assert data.boxes is not None
    for image, box in zip(data.video[:, 0, 0], data.boxes[:, 0, 0], strict=True):
        assert box.tolist() == slow_box(image)


@recipes
def test_boxes_are_tight_around_each_object(recipe: Recipe, digits: Digits) -> None:
    for scene in scenes(recipe, digits, 3):
        for sprite, layer in zip(scene.sprites, layers(scene), strict=True):
            assert list(sprite.box()) == slow_box(layer)


@recipes
def test_compose_stores_what_the_recipe_draws(
    recipe: Recipe, digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Scene] = []
    draw = type(recipe).draw

    def recorded(self: Recipe, *arguments: Any) -> Scene:
        drawn.append(draw(self, *arguments))
        return drawn[-1]

    monkeypatch.setattr(type(recipe), "draw", recorded)
    data = compose(recipe, digits, 30, seed=0)
    assert data.classes is not None
    assert data.boxes is not None
    for i, scene in enumerate(drawn):
        np.testing.assert_array_equal(data.video[i, 0, 0], scene.image)
        for slot, sprite in enumerate(scene.sprites):
            assert data.classes[i, slot] == sprite.label
            assert data.boxes[i, 0, slot].tolist() == list(sprite.box())


def test_pyro_images_are_sums_that_fit_a_byte(digits: Digits) -> None:
    for scene in scenes(PyroRecipe(), digits, 2):
        total = layers(scene).sum(0)
        assert total.max() <= 255
        np.testing.assert_array_equal(scene.image, total)


def test_pyro_ink_may_overlap_where_the_sum_is_small() -> None:
    faint = Digits(np.full((1, 28, 28), 100, np.uint8), np.zeros(1, np.uint8))
    overlaps = [(layers(scene) > 0).sum(0).max() for scene in scenes(PyroRecipe(), faint, 2, 60)]
    assert max(overlaps) == 2
    thick = Digits(np.full((1, 28, 28), 200, np.uint8), np.zeros(1, np.uint8))
    assert {(layers(scene) > 0).sum(0).max() for scene in scenes(PyroRecipe(), thick, 2, 60)} == {1}


def test_pyro_sides_and_places_have_the_stated_distributions() -> None:
    drawn = [scene.sprites[0] for scene in scenes(PyroRecipe(), solid(28 - 3, 28 - 2), 1, 4000)]
    sides = np.array([sprite.ink.shape[0] for sprite in drawn])
    values, observed = np.unique(sides, return_counts=True)
    # side = k exactly if 28 / (k + 1) < c <= 28 / k
    exact = [stats.norm(1.3, 0.1).cdf(28 / k) - stats.norm(1.3, 0.1).cdf(28 / (k + 1)) for k in values]
    often = observed > 20
    expected = np.append(np.array(exact)[often], 1 - np.array(exact)[often].sum()) * len(drawn)
    assert stats.chisquare(np.append(observed[often], observed[~often].sum()), expected).pvalue > 1e-3
    for offset in ("top", "left"):
        places = np.array([getattr(sprite, offset) for sprite in drawn])[sides == 21]
        assert places.max() == 28
        assert stats.chisquare(np.bincount(places, minlength=29)).pvalue > 1e-3


def test_pyro_digits_are_interpolated() -> None:
    ramp = np.tile(np.arange(28, dtype=np.uint8) * 8, (1, 28, 1))
    recipe = PyroRecipe(shrink_mean=4 / 3, shrink_std=0.0)
    ((sprite,),) = (scene.sprites for scene in scenes(recipe, Digits(ramp, np.zeros(1, np.uint8)), 1, 1))
    # A cubic filter keeps a ramp, away from its ends: pixel i is centred at (i + 1/2) 4/3 - 1/2.
    expected = 8 * ((np.arange(21) + 0.5) * 4 / 3 - 0.5)
    np.testing.assert_allclose(sprite.ink[:, 3:-3], np.tile(expected[3:-3], (21, 1)), atol=0.51)


def test_static_digits_do_not_overlap_and_keep_their_size(digits: Digits) -> None:
    for scene in scenes(StaticSqairRecipe(), digits, 2):
        covered = np.zeros((50, 50), int)
        for sprite in scene.sprites:
            left, top, width, height = sprite.box()
            assert (left, top, height, width) == (sprite.left, sprite.top, *sprite.ink.shape)
            covered[top : top + height, left : left + width] += 1
        assert covered.max() == 1
        np.testing.assert_array_equal(scene.image, layers(scene).max(0))
        assert not scene.image[covered == 0].any()


def test_static_digits_are_distinct_pictures() -> None:
    for scene in scenes(StaticSqairRecipe(max_objects=3), solid(9, 9, number=3), 3, 20):
        assert sorted(sprite.label for sprite in scene.sprites) == [0, 1, 2]


def test_static_grey_values_are_stretched() -> None:
    images = np.zeros((1, 28, 28), np.uint8)
    images[0, 10, 10:13] = [30, 60, 120]
    for scene in scenes(StaticSqairRecipe(), Digits(images, np.zeros(1, np.uint8)), 1, 5):
        np.testing.assert_allclose(scene.sprites[0].ink, [[255 / 4, 255 / 2, 255]], atol=0.5)


def test_static_place_of_one_digit_is_a_rounded_uniform() -> None:
    drawn = [scene.sprites[0] for scene in scenes(StaticSqairRecipe(image_size=28), solid(20, 22), 1, 2000)]
    for places, room in (([s.top for s in drawn], 8), ([s.left for s in drawn], 6)):
        expected = np.full(room + 1, 1 / room)
        expected[[0, -1]] /= 2  # half as much is rounded to an end
        assert stats.chisquare(np.bincount(places), expected * len(drawn)).pvalue > 1e-3


@pytest.mark.parametrize("tries", [1, 2])
def test_static_redraws_follow_the_five_redraw_rule(tries: int) -> None:
    assert StaticSqairRecipe().max_redraws == 5
    # The first of two squares is accepted with the probability that the second finds a place in `tries`
    # attempts, which favours the corners more, the fewer the attempts are.
    side, size = 10, 28
    axis = np.full(size - side + 1, 1 / (size - side))
    axis[[0, -1]] /= 2
    meets = np.abs(np.arange(len(axis))[:, None] - np.arange(len(axis))) < side
    overlap = np.outer(meets @ axis, meets @ axis)
    exact = np.outer(axis, axis) * (1 - overlap**tries)
    exact /= exact.sum()
    recipe = StaticSqairRecipe(image_size=size, max_redraws=tries)
    first = [scene.sprites[0] for scene in scenes(recipe, solid(side, side), 2, 4000)]
    observed = np.zeros_like(exact)
    np.add.at(observed, ([s.top for s in first], [s.left for s in first]), 1)
    # Places that leave the second square about as much room form a class.
    kind = np.digitize(overlap, [0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1 - 1e-9])
    counts, expected = (np.bincount(kind.ravel(), x.ravel()) for x in (observed, exact * len(first)))
    assert counts[-1] == 0, "there is no room for the second square"
    assert stats.chisquare(counts[:-1], expected[:-1]).pvalue > 1e-3


@recipes
def test_images_are_a_pure_function_of_their_index(recipe: Recipe, digits: Digits) -> None:
    whole = compose(recipe, digits, 40, seed=5)
    parts = [compose(recipe, digits, 10, seed=5, start=start) for start in (30, 10, 0, 20)]
    for part, start in zip(parts, (30, 10, 0, 20), strict=True):
        assert_same(part, whole.subset(range(start, start + 10)))
    other = compose(recipe, digits, 40, seed=6)
    assert (other.video != whole.video).any()


def assert_same(a: VideoData, b: VideoData) -> None:
    np.testing.assert_array_equal(a.video, b.video)
    for name, value in a.labels().items():
        np.testing.assert_array_equal(value, b.labels()[name])


def test_splits_take_their_own_digits(tmp_path: Path, write_idx: Callable[[Path, np.ndarray], bytes]) -> None:
    rng = np.random.default_rng(0)
    for labels, names in (((0, 1), FILES["train"]), ((8, 9), FILES["test"])):
        write_idx(tmp_path / names[0], rng.integers(0, 256, (6, 28, 28), np.uint8))
        write_idx(tmp_path / names[1], rng.choice(labels, 6).astype(np.uint8))
    for split, allowed in (("train", {-1, 0, 1}), ("test", {-1, 8, 9})):
        data = multi_object_images(StaticSqairRecipe(1, 1, 60), split, 30, 0, folder=tmp_path)  # type: ignore[arg-type]
        assert data.classes is not None
        assert set(data.classes.ravel()) <= allowed


@pytest.mark.parametrize("split", ["train", "test"])
def test_glyphs_of_the_split_are_used(split: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits_module, "DEFAULT_GLYPHS", 3)
    pictures = make_glyphs(split, 3, seed=1).images
    data = multi_object_images(PyroRecipe(1, 1, 40, 1.0, 0.0), split, 20, seed=1, source="glyphs")
    assert data.boxes is not None
    seen = set()
    for image, box in zip(data.video[:, 0, 0], data.boxes[:, 0, 0].astype(int), strict=True):
        ink = image[box[1] : box[1] + box[3], box[0] : box[0] + box[2]]
        seen |= {i for i, picture in enumerate(pictures) if np.array_equal(ink, module._crop(picture))}
        assert seen
    assert seen == {0, 1, 2}


def test_splits_have_different_counts_and_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits_module, "DEFAULT_GLYPHS", 10)
    train, test = (multi_object_images(PyroRecipe(), s, 50, 0, source="glyphs") for s in ("train", "test"))
    assert train.count is not None
    assert test.count is not None
    assert (train.count != test.count).any()


def test_recipes_by_name() -> None:
    assert {name: recipe().max_objects for name, recipe in RECIPES.items()} == {"pyro": 2, "static_sqair": 2}
    assert isinstance(RECIPES["pyro"](), PyroRecipe)


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.integers(0, 1)))
def test_tight_box_against_brute_force(image: np.ndarray) -> None:
    assert list(tight_box(image)) == (slow_box(image) if image.any() else [0, 0, 0, 0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PyroRecipe(min_objects=3), "`min_objects` <= `max_objects`.*got 3 and 2"),
        (lambda: PyroRecipe(min_objects=-1), "got -1 and 2"),
        (lambda: StaticSqairRecipe(max_objects=0), "got 0 and 0"),
        (lambda: PyroRecipe(image_size=21), "`image_size` must exceed the digits' side, 21, got 21"),
        (lambda: PyroRecipe(shrink_mean=0.0), "`shrink_mean` must be positive"),
        (lambda: PyroRecipe(shrink_mean=40.0), r"`shrink_mean` must be in \(0, 28\], got 40"),
        (lambda: PyroRecipe(shrink_std=1e9), "`shrink_std` must be in"),
        (lambda: PyroRecipe(image_size=50.5), "`image_size` must be a whole number, got 50.5"),  # type: ignore[arg-type]
        (lambda: StaticSqairRecipe(image_size=50.5), "`image_size` must be a whole number"),  # type: ignore[arg-type]
        (lambda: StaticSqairRecipe(image_size=27), "`image_size` must be at least 28"),
        (lambda: StaticSqairRecipe(max_redraws=0), "`max_redraws` must be at least 1"),
    ],
)
def test_impossible_recipes_are_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_the_smallest_digits_have_a_pixel() -> None:
    recipe = PyroRecipe(shrink_mean=28.0, shrink_std=0.5)
    (scene,) = scenes(recipe, solid(28 - 3, 28 - 2), 1, 1)
    assert scene.sprites[0].ink.shape == (1, 1)


@pytest.mark.parametrize("recipe", [PyroRecipe(image_size=28), StaticSqairRecipe(image_size=28)])
def test_objects_without_room_are_refused(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ATTEMPTS", 20)
    with pytest.raises(ValueError, match="found no place for 2 digits in 20 images of 28 x 28"):
        recipe.draw(solid(25, 25), 2, np.random.default_rng(0))


def test_too_few_digits_are_refused(digits: Digits) -> None:
    with pytest.raises(ValueError, match="`digits` must have at least 2 digits, got 1"):
        StaticSqairRecipe().draw(solid(9, 9, number=1), 2, np.random.default_rng(0))
    with pytest.raises(ValueError, match="`size` must be at least 1"):
        compose(PyroRecipe(), digits, 0, 0)
