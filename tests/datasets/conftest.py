import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from whatwhere.datasets import Digits, VideoData, load_mnist, make_glyphs


@pytest.fixture(scope="session")
def digits() -> Digits:
    return make_glyphs("train", 400, seed=3)


@pytest.fixture(scope="session")
def mnist_folder(real_data: Callable[[str], Path]) -> Path:
    return real_data("mnist")


@pytest.fixture(scope="session")
def mnist(mnist_folder: Path) -> Digits:
    return load_mnist("train", mnist_folder)


@pytest.fixture
def videos() -> VideoData:
    """Five random videos of two frames of 6 x 7 pixels with up to three objects."""
    rng = np.random.default_rng(0)
    return VideoData(
        rng.integers(0, 256, (5, 2, 1, 6, 7), dtype=np.uint8),
        rng.integers(0, 4, (5, 2)),
        rng.integers(-1, 10, (5, 3)),
        rng.uniform(0, 6, (5, 2, 3, 4)).astype(np.float32),
        rng.uniform(0, 1, (5, 2, 3)).astype(np.float32),
        rng.integers(0, 3, 5),
        np.array(["a", "zoë_walk", "", "person01_walking_d1_2", "b c"]),
        segments=rng.integers(0, 4, (5, 2, 6, 7), dtype=np.uint8),
    )


@pytest.fixture
def write_idx() -> Callable[[Path, np.ndarray], bytes]:
    """Writes an IDX file by its definition, compressed if the name ends in `.gz`; returns its content."""

    def write(path: Path, array: np.ndarray) -> bytes:
        header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
        content = header + array.tobytes()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
        return content

    return write
