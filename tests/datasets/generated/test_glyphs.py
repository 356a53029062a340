import numpy as np
import pytest
from scipy import stats

from whatwhere.datasets import Digits, make_glyphs


@pytest.fixture(scope="module")
def train() -> Digits:
    return make_glyphs("train", 1500)


@pytest.fixture(scope="module")
def test() -> Digits:
    return make_glyphs("test", 1000)


def test_a_glyph_is_a_pure_function_of_its_index(train: Digits) -> None:
    # The sequence is drawn in chunks: parts begin elsewhere and have other sizes.
    for start, size in ((0, 1), (7, 30), (255, 3), (700, 300)):
        part = make_glyphs("train", size, start=start)
        np.testing.assert_array_equal(part.images, train.images[start : start + size])
        np.testing.assert_array_equal(part.labels, train.labels[start : start + size])


def test_seed_and_split_give_different_glyphs(train: Digits, test: Digits) -> None:
    other = make_glyphs("train", 100, seed=1)
    assert (other.labels != train.labels[:100]).any()
    assert (test.labels[:100] != train.labels[:100]).any()
    assert len({image.tobytes() for image in train.images}) == len(train)


def test_labels_are_uniform(train: Digits) -> None:
    assert stats.chisquare(np.bincount(train.labels, minlength=10)).pvalue > 1e-3


def test_ink_fills_the_box_of_mnist_and_keeps_from_the_border(train: Digits, test: Digits) -> None:
    for digits in (train, test):
        strong = digits.images >= 128
        rows, columns = np.any(strong, axis=2), np.any(strong, axis=1)
        height = 28 - rows.argmax(1) - rows[:, ::-1].argmax(1)
        width = 28 - columns.argmax(1) - columns[:, ::-1].argmax(1)
        longer = np.maximum(height, width)
        assert longer.min() >= 15
        assert longer.max() <= 21
        assert longer.mean() == pytest.approx(18.5, abs=0.5)
        border = np.ones((28, 28), bool)
        border[2:-2, 2:-2] = False
        assert not digits.images[:, border].any()
        assert digits.images.max((1, 2)).min() > 200


def test_mass_is_in_the_middle(train: Digits) -> None:
    mass = train.images.astype(float)
    grid = np.arange(28) - 13.5
    total = mass.sum((1, 2))
    x, y = (mass * grid).sum((1, 2)) / total, (mass * grid[:, None]).sum((1, 2)) / total
    # Where the box would touch the margin it goes first.
    assert np.quantile(np.abs(x), 0.9) < 0.3
    assert np.quantile(np.abs(y), 0.9) < 0.3
    assert max(np.abs(x).max(), np.abs(y).max()) < 4


def test_edges_are_anti_aliased(train: Digits) -> None:
    grey = (train.images > 0) & (train.images < 255)
    assert 0.1 < grey.sum() / (train.images > 0).sum() < 0.8


def test_strokes_weigh_about_what_mnist_weighs(train: Digits, mnist: Digits) -> None:
    assert train.images.mean() == pytest.approx(mnist.images.mean(), rel=0.2)


def test_digits_of_unseen_fonts_are_recognised_by_the_nearest_mean(train: Digits, test: Digits) -> None:
    means = np.stack([train.images[train.labels == digit].mean(0) for digit in range(10)]).reshape(10, -1)
    flat = test.images.reshape(len(test), -1).astype(float)
    nearest = ((flat[:, None] - means) ** 2).sum(-1).argmin(1)
    assert (nearest == test.labels).mean() > 0.75


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("validation",), "`split` must be"),
        (("train", 0), "`size` must be at least 1"),
        (("train", 1, -1), "`seed` must be in"),
    ],
)
def test_bad_arguments_are_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_glyphs(*arguments)


def test_negative_start_is_refused() -> None:
    with pytest.raises(ValueError, match="`index` must be in"):
        make_glyphs("train", 1, start=-1)
