"""Where single digits come from: what multi-object images and videos are made of."""

import os
from typing import Literal

from .digit_images import Digits, Split
from .glyphs import make_glyphs
from .mnist import load_mnist

DEFAULT_GLYPHS = 10_000
"""Number of glyphs where none is asked for."""

Source = Literal["mnist", "glyphs"]


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
