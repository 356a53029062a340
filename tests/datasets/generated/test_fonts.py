import re
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import ImageFont

from whatwhere.datasets.generated.fonts import FONTS, MASTER_EXTENT, MASTER_SIZE, masters, signed_distance


def family(font: str) -> str:
    """The family's name, of Computer Modern the collection's, as its files name single styles."""
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{font}.ttf"
    name = ImageFont.truetype(str(path)).getname()[0] or ""
    return "Computer Modern" if re.fullmatch(r"cm[a-z]+10", name) else name


def test_no_family_is_in_both_splits() -> None:
    families = {split: {family(font) for font in fonts} for split, fonts in FONTS.items()}
    assert families == {
        "train": {"DejaVu Sans", "Computer Modern"},
        "test": {"DejaVu Serif", "STIXGeneral"},
    }


def test_signed_distance_against_brute_force() -> None:
    rng = np.random.default_rng(0)
    ink = rng.random((13, 13)) < 0.3
    points = np.stack(np.meshgrid(np.arange(13), np.arange(13), indexing="ij"), -1).reshape(-1, 2)
    expected = np.empty(169)
    for i, point in enumerate(points):
        others = points[ink.ravel() != ink.ravel()[i]]
        nearest = np.sqrt(((others - point) ** 2).sum(1)).min()
        expected[i] = (nearest - 0.5) if ink.ravel()[i] else (0.5 - nearest)
    np.testing.assert_allclose(signed_distance(ink).ravel(), expected, rtol=1e-6)


@pytest.mark.parametrize("split", ["train", "test"])
def test_masters_are_centred_and_of_the_stated_extent(split: str) -> None:
    array = masters(split)
    assert array.shape == (len(FONTS[split]), 10, MASTER_SIZE, MASTER_SIZE)
    assert not array.flags.writeable
    for master in array.reshape(-1, MASTER_SIZE, MASTER_SIZE):
        rows, columns = (np.flatnonzero((master > 0).any(axis)) for axis in (1, 0))
        extents = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
        assert abs(max(extents) - MASTER_EXTENT) <= 1
        assert abs(rows[0] + rows[-1] - (MASTER_SIZE - 1)) <= 1
        assert abs(columns[0] + columns[-1] - (MASTER_SIZE - 1)) <= 1


def test_every_digit_of_a_font_has_its_own_picture() -> None:
    for split in FONTS:
        for font in masters(split):
            shapes = {tuple(np.packbits(master > 0)) for master in font}
            assert len(shapes) == 10
