"""Random streams that are a pure function of what they are for."""

import hashlib
from functools import lru_cache

import numpy as np


def stream(purpose: str, seed: int, index: int) -> np.random.Generator:
    """The random generator of item `index` of the data set `(purpose, seed)`.

    Philox is a counter-based generator: seed and index are its key, the purpose is the upper part of its
    counter, so streams of different items never overlap, and an item is the same whatever was drawn before
    it, in whichever process.

    Args:
        purpose: what is drawn, e.g. `"glyphs/train"`; different purposes are independent for one and the same
            seed.
        seed: 0 <= seed < 2^64.
        index: number of the item, 0 <= index < 2^64.

    Raises:
        ValueError: if `seed` or `index` is out of range.
    """
    for name, value in (("seed", seed), ("index", index)):
        if not 0 <= value < 2**64:
            raise ValueError(f"`{name}` must be in [0, 2^64), got {value}.")
    key = np.array([seed, index], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=_counter(purpose)))


@lru_cache(maxsize=64)
def _counter(purpose: str) -> np.ndarray:
    word = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "little")
    counter = np.array([0, 0, 0, word], dtype=np.uint64)
    counter.setflags(write=False)
    return counter
