"""Pictures of single digits: what multi-object images and videos are made of."""

import os
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from .errors import DataError

DEFAULT_GLYPHS = 10_000
"""Number of glyphs where none is asked for."""

Split = Literal["train", "test"]
Source = Literal["mnist", "glyphs"]


@dataclass(frozen=True, eq=False)
class Digits:
    """Pictures of single digits, from MNIST or any source of the same form.

    Raises:
        DataError: if a field has a wrong type, shape or value.
    """

    images: npt.NDArray[np.uint8]
    """White ink on black `(n, 28, 28)`, uint8."""
    labels: npt.NDArray[np.uint8]
    """The digit in each picture `(n,)`, uint8 in 0..9."""

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.shape[1:] != (28, 28) or not len(self.images):
            raise DataError(
                "`images` must be uint8 of shape (n, 28, 28), n > 0, "
                f"got {self.images.dtype} of {self.images.shape}."
            )
        if self.labels.dtype != np.uint8 or self.labels.shape != self.images.shape[:1]:
            raise DataError(
                f"`labels` must be uint8 of shape ({len(self.images)},) to agree with `images`, "
                f"got {self.labels.dtype} of {self.labels.shape}."
            )
        if self.labels.max() > 9:
            raise DataError(f"`labels` must be digits 0 to 9, got {self.labels.max()}.")

    def __len__(self) -> int:
        return len(self.images)


def load_digits(
    source: Source,
    split: Split,
    *,
    size: int | None = None,
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
) -> Digits:
    """Digits of one split of a source.

    Args:
        source: `"mnist"`, handwritten digits, found or downloaded by `load_mnist`; or `"glyphs"`, warped
            digits of the fonts that come with Matplotlib, which need no file and no network.
        split: `"train"` or `"test"`: different writers, or different fonts.
        size: number of digits; default all of MNIST, or `DEFAULT_GLYPHS`.
        seed: seed of the glyphs; MNIST has none.
        folder: where the MNIST files are; default as in `load_mnist`.

    Raises:
        DataError: if the MNIST files cannot be found, fetched or read.
        ValueError: if an argument is not one of those above.
    """
    # The sources import `Digits` from here.
    from .glyphs import make_glyphs
    from .mnist import load_mnist

    if size is not None and size < 1:
        raise ValueError(f"`size` must be at least 1, got {size}.")
    if source == "glyphs":
        return make_glyphs(split, DEFAULT_GLYPHS if size is None else size, seed)
    if source != "mnist":
        raise ValueError(f"`source` must be 'mnist' or 'glyphs', got {source!r}.")
    digits = load_mnist(split, folder)
    if size is not None and size > len(digits):
        raise ValueError(
            f"`size` must be at most the {len(digits)} digits of MNIST's split {split!r}, got {size}."
        )
    return digits if size is None else Digits(digits.images[:size], digits.labels[:size])
