import math

import numpy as np
import pytest
from scipy import ndimage, stats

from whatwhere.datasets import SILHOUETTES, make_silhouettes, make_textures


@pytest.fixture(scope="module")
def textures() -> np.ndarray:
    return np.asarray(make_textures("some", 60, 64, 0))


@pytest.fixture(scope="module")
def silhouettes() -> tuple[np.ndarray, np.ndarray]:
    made = make_silhouettes("train", 1200)
    return made.images, made.labels


def test_a_texture_is_a_pure_function_of_its_index(textures: np.ndarray) -> None:
    np.testing.assert_array_equal(make_textures("some", 7, 64, 0), textures[:7])
    for other in (make_textures("other", 7, 64, 0), make_textures("some", 7, 64, 1)):
        assert (abs(other - textures[:7]).mean((1, 2)) > 0.05).all()


def test_textures_are_grey_values_around_a_half(textures: np.ndarray) -> None:
    assert textures.shape == (60, 64, 64)
    assert textures.dtype == np.float32
    assert textures.min() >= 0
    assert textures.max() <= 1
    assert abs(textures.mean((1, 2)) - 0.5).max() < 0.15
    assert textures.std((1, 2)).min() > 0.15


def test_textures_continue_at_the_other_side(textures: np.ndarray) -> None:
    for axis in (1, 2):
        steps = abs(np.diff(textures, axis=axis, append=textures.take([0], axis)))
        inner = steps.take(range(63), axis).mean((1, 2))
        seam = steps.take(63, axis).mean(1)
        # Neighbouring pixels are alike, so a single seam scatters.
        assert (seam / inner).mean() == pytest.approx(1, abs=0.1)
        assert (seam < 3 * inner).all()


def test_half_of_the_textures_are_clouds_and_the_others_have_a_wavelength(textures: np.ndarray) -> None:
    power = abs(np.fft.fft2(textures - textures.mean((1, 2), keepdims=True))) ** 2
    waves = np.fft.fftfreq(64) * 64
    frequency = np.hypot(waves[:, None], waves)
    slow = (power * (frequency < 4)).sum((1, 2)) / power.sum((1, 2))
    clouds = slow > 0.5
    assert stats.binomtest(int(clouds.sum()), 60, 0.5).pvalue > 1e-3
    assert (slow[~clouds] < 0.25).all()
    peaks = frequency.ravel()[power[~clouds].reshape(-1, 64 * 64).argmax(1)]
    assert peaks.min() >= 6 * math.exp(-0.5)
    assert peaks.max() <= 20 * math.exp(0.5)
    assert peaks.max() > 2 * peaks.min()
    turns = np.exp(2j * np.arctan2(waves[:, None], waves))
    directed = abs((power * turns).sum((1, 2)) / power.sum((1, 2)))[~clouds]
    assert ((directed < 0.45) | (directed > 0.65)).all()
    assert stats.binomtest(int((directed > 0.5).sum()), len(directed), 0.5).pvalue > 1e-3


def test_silhouettes_are_a_pure_function_of_their_index(silhouettes: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = silhouettes
    # They are drawn in chunks, of which the last one is shorter.
    for size in (1, 300):
        part = make_silhouettes("train", size)
        np.testing.assert_array_equal(part.images, images[:size])
        np.testing.assert_array_equal(part.labels, labels[:size])
    for other in (make_silhouettes("train", 300, seed=1), make_silhouettes("test", 300)):
        assert (other.images != images[:300]).any((1, 2)).all()
        assert (other.labels != labels[:300]).any()


def test_silhouettes_are_of_all_classes_and_fill_their_box(
    silhouettes: tuple[np.ndarray, np.ndarray],
) -> None:
    images, labels = silhouettes
    assert stats.chisquare(np.bincount(labels, minlength=len(SILHOUETTES))).pvalue > 1e-3
    inked = images >= 128
    spans = [np.flatnonzero(inked[i].any(axis)) for i in range(len(images)) for axis in (0, 1)]
    low, high = (np.array([end(span) for span in spans]).reshape(-1, 2) for end in (min, max))
    longer = (high - low + 1).max(1)
    assert longer.min() >= 17, "a narrow tip may be fainter than a half"
    assert longer.max() <= 20
    assert np.median(longer) >= 19
    assert abs((low + high) / 2 - 13.5).max() <= 2


def test_a_ring_has_a_hole_and_other_silhouettes_are_of_one_piece(
    silhouettes: tuple[np.ndarray, np.ndarray],
) -> None:
    images, labels = silhouettes
    for image, label in zip(images, labels, strict=True):
        assert ndimage.label(image >= 64, np.ones((3, 3)))[1] == 1
        holes = ndimage.label(image < 64)[1] - 1
        assert holes == (SILHOUETTES[label] == "ring")


@pytest.mark.parametrize(
    ("name", "turns"), [("triangle", 3), ("square", 4), ("three lobes", 3), ("five lobes", 5)]
)
def test_silhouettes_have_the_symmetry_of_their_class(
    silhouettes: tuple[np.ndarray, np.ndarray], name: str, turns: int
) -> None:
    """Their outline is a wave of so many periods around the middle, in any direction."""
    images, labels = silhouettes
    rows, columns = np.indices((28, 28)) - 13.5
    angle = np.arctan2(rows, columns)
    own = images[labels == SILHOUETTES.index(name)].astype(float)
    middle = [ndimage.center_of_mass(image) for image in own]
    moved = np.stack(
        [ndimage.shift(i, (13.5 - y, 13.5 - x), order=1) for i, (y, x) in zip(own, middle, strict=True)]
    )
    moments = np.stack(
        [
            (moved * np.hypot(rows, columns) ** k * np.exp(1j * k * angle)).sum((1, 2))
            / moved.sum((1, 2))
            / 8**k
            for k in (3, 4, 5)
        ]
    )
    assert abs(moments).mean(1).argmax() == turns - 3
    phase = np.angle(moments[turns - 3]) / (2 * np.pi) % 1
    assert stats.kstest(phase, "uniform").pvalue > 1e-3


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="`size` must be at least 1, got 0"):
        make_textures("some", 0, 64, 0)
    with pytest.raises(ValueError, match="`side` must be at least 2, got 1"):
        make_textures("some", 1, 1, 0)
    with pytest.raises(ValueError, match="`seed` must be in"):
        make_textures("some", 1, 8, -1)
    with pytest.raises(ValueError, match="`size` must be at least 1, got 0"):
        make_silhouettes("train", 0)
    with pytest.raises(ValueError, match="`split` must be 'train' or 'test', got 'valid'"):
        make_silhouettes("valid")  # type: ignore[arg-type]
