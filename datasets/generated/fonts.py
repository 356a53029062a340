"""Outlines of the digits 0 to 9 in the fonts that come with Matplotlib."""

from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

FONTS = {
    "train": (
        "DejaVuSans",
        "DejaVuSans-Bold",
        "DejaVuSans-Oblique",
        "DejaVuSans-BoldOblique",
        "cmr10",
        "cmb10",
        "cmti10",
        "cmss10",
        "cmtt10",
    ),
    "test": (
        "DejaVuSerif",
        "DejaVuSerif-Bold",
        "DejaVuSerif-Italic",
        "DejaVuSerif-BoldItalic",
        "STIXGeneral",
        "STIXGeneralBol",
        "STIXGeneralItalic",
        "STIXGeneralBolIta",
    ),
}
"""Fonts of the two splits. No family is in both: training has DejaVu Sans and Computer Modern, test has
DejaVu Serif and STIX General. Matplotlib's other fonts have no digits, other signs in their place, old-style
figures whose 0 and 1 look like letters (`cmmi10`), or a dotted 0 that looks like an 8 when small (DejaVu Sans
Mono)."""

MASTER_SIZE = 96
"""Side of a master in pixels."""
MASTER_EXTENT = 64
"""Longer side of the digit in the middle of a master, in pixels."""

_TYPE_SIZE = 300


@lru_cache(maxsize=2)
def masters(split: str) -> npt.NDArray[np.float32]:
    """Signed distance to the outline of every digit of every font of a split.

    Any stroke weight can be cut from it by a threshold.

    Returns:
        `(fonts, 10, MASTER_SIZE, MASTER_SIZE)` float32: distance in pixels, positive in the ink. The digit is
        in the middle, its longer side is `MASTER_EXTENT`. The array is shared and read-only.
    """
    distances = [[signed_distance(_ink(font, digit)) for digit in range(10)] for font in FONTS[split]]
    array = np.array(distances, dtype=np.float32)
    array.setflags(write=False)
    return array


def signed_distance(ink: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Euclidean distance of each pixel's centre to the border of the ink, positive inside.

    The border is taken half a pixel outside the centres of the outermost pixels of ink. `ink` must have both.
    """
    return np.where(ink, _distance_to(~ink) - 0.5, 0.5 - _distance_to(ink)).astype(np.float32)


def _distance_to(target: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    # Exact and separable: the squared distance is minimised along each row, then along each column.
    far = np.float32(4 * sum(target.shape) ** 2)
    squared = np.where(target, np.float32(0), far)
    for _ in range(2):
        steps = np.arange(squared.shape[1], dtype=np.float32)
        parabola = (steps[:, None] - steps) ** 2
        squared = (squared[:, None, :] + parabola).min(-1).T
    return np.sqrt(squared)


def _ink(font: str, digit: int) -> npt.NDArray[np.bool_]:
    path = str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{font}.ttf")
    # Drawn large and reduced: at the final size, hinting would move the outline by up to two pixels.
    large = Image.new("L", (5 * _TYPE_SIZE, 5 * _TYPE_SIZE))
    font_face = ImageFont.truetype(path, _TYPE_SIZE)
    ImageDraw.Draw(large).text((2 * _TYPE_SIZE, 2 * _TYPE_SIZE), str(digit), font=font_face, fill=255)
    left, top, right, bottom = large.getbbox()
    half = max(right - left, bottom - top) / 2 * MASTER_SIZE / MASTER_EXTENT
    x, y = (left + right) / 2, (top + bottom) / 2
    frame = (x - half, y - half, x + half, y + half)
    return np.asarray(large.resize((MASTER_SIZE, MASTER_SIZE), Image.Resampling.BOX, box=frame)) >= 128
