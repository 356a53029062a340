from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from whatwhere.datasets import DataError, Digits, load_digits, make_glyphs
from whatwhere.datasets.generated.mnist import FILES

IMAGES, LABELS = np.zeros((2, 28, 28), np.uint8), np.zeros(2, np.uint8)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES.astype(float), LABELS, "`images` must be uint8"),
        (IMAGES[:, :27], LABELS, r"\(2, 27, 28\)"),
        (IMAGES[:0], LABELS[:0], "n > 0"),
        (IMAGES, LABELS[:1], r"`labels` must be uint8 of shape \(2,\)"),
        (IMAGES, LABELS.astype(int), "got int64"),
        (IMAGES, LABELS + 10, "got 10"),
    ],
)
def test_bad_digits_are_refused(images: np.ndarray, labels: np.ndarray, message: str) -> None:
    assert len(Digits(IMAGES, LABELS)) == 2
    with pytest.raises(DataError, match=message):
        Digits(images, labels)


def test_glyphs_are_a_source() -> None:
    loaded, made = load_digits("glyphs", "test", size=5, seed=4), make_glyphs("test", 5, 4)
    np.testing.assert_array_equal(loaded.images, made.images)
    np.testing.assert_array_equal(loaded.labels, made.labels)


def test_mnist_is_a_source(tmp_path: Path, write_idx: Callable[[Path, np.ndarray], bytes]) -> None:
    images = np.arange(4 * 784).astype(np.uint8).reshape(4, 28, 28)
    write_idx(tmp_path / FILES["test"][0], images)
    write_idx(tmp_path / FILES["test"][1], np.arange(4).astype(np.uint8))
    assert len(load_digits("mnist", "test", folder=tmp_path)) == 4
    three = load_digits("mnist", "test", size=3, folder=tmp_path)
    np.testing.assert_array_equal(three.images, images[:3])
    assert three.labels.tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="at most the 4 digits"):
        load_digits("mnist", "test", size=5, folder=tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("omniglot", "train"), "`source` must be 'mnist' or 'glyphs', got 'omniglot'"),
        (("glyphs", "validation"), "`split` must be 'train' or 'test', got 'validation'"),
    ],
)
def test_unknown_names_are_refused(arguments: tuple[Any, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_digits(*arguments)


def test_size_must_be_positive() -> None:
    with pytest.raises(ValueError, match="`size` must be at least 1, got 0"):
        load_digits("glyphs", "train", size=0)
