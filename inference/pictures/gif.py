"""Animated GIF with one palette for all frames.

Pillow chooses a palette for each frame, so that what stands still changes its colour from frame to frame, and
merges equal frames, so that a player counts fewer of them. Here colours and frames stay what they are.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import GifImagePlugin, Image

from .drawing import SLOT_COLOURS, WRONG

__all__ = ["write_gif"]

Codes = npt.NDArray[np.int32]
"""Colours as integers, red times 2^16 plus green times 2^8 plus blue."""

_COLOURS = 256  # that the format can hold
_LOOKED_AT = 128  # frames that a palette is chosen by
_KEPT = ((255, 255, 255), *SLOT_COLOURS, WRONG)  # paper and marks are never approximated
_SAMPLE = 1 << 18  # pixels that stand for all pixels of those frames
_AT_ONCE = 1 << 14  # colours that are compared with the palette at a time
_REPEAT_FOR_EVER = b"!\xff\x0bNETSCAPE2.0\x03\x01\0\0\0"


def write_gif(file: BinaryIO, frames: Iterable[Image.Image], durations: Iterable[int]) -> None:
    """Write pictures of equal size as an animation that repeats for ever.

    Up to 256 colours, of 128 frames or more with those of marks, are kept exactly. Of more, the palette is
    chosen by the first 128 frames, and others are shown as the nearest in it; but colours of marks are kept.

    Args:
        file: opened for writing, can be wound back.
        frames: at least one; 128 are held in memory, however many there are.
        durations: how long each is shown, in hundredths of a second.
    """
    remaining = iter(frames)
    start = list(islice(remaining, _LOOKED_AT))
    palette = _Palette(start)
    size = start[0].size
    header = b"GIF89a" + struct.pack("<HHBBB", *size, 0xF7, 0, 0)  # 0xF7: a palette of 256 for all frames
    file.write(header + bytes(3 * _COLOURS) + _REPEAT_FOR_EVER)
    shown: npt.NDArray[np.uint8] | None = None
    for frame, duration in zip(chain(start, remaining), durations, strict=False):
        pixels = palette.indices(frame)
        file.writelines(_frame(pixels, shown, palette.transparent, duration))
        shown = pixels
    file.write(b";")
    file.seek(len(header))
    file.write(palette.bytes())


class _Palette:
    """Colours by index: chosen at first if the frames have too many, and else collected as they come."""

    def __init__(self, frames: Sequence[Image.Image]) -> None:
        self._index = np.full(1 << 24, -1, np.int16)  # of each colour that was met
        self._colours: Codes = np.zeros(0, np.int32)
        self._capacity = _COLOURS
        # Of those that may come after these frames, marks shall find room.
        later = _packed(np.array(_KEPT)) if len(frames) == _LOOKED_AT else np.zeros(0, np.int32)
        distinct: Codes = np.zeros(0, np.int32)
        for frame in frames:
            distinct = np.union1d(distinct, _codes(frame))
            if len(np.union1d(distinct, later)) > _COLOURS:
                chosen = _chosen(frames, distinct)
                self._capacity = len(chosen)
                self._learn(chosen)
                break

    @property
    def transparent(self) -> int | None:
        """An index that is no colour, if one is left."""
        return _COLOURS - 1 if len(self._colours) < _COLOURS else None

    def indices(self, frame: Image.Image) -> npt.NDArray[np.uint8]:
        """The frame `(H, W)` as indices."""
        codes = _codes(frame)
        self._learn(np.unique(codes[self._index[codes] < 0]))
        return self._index[codes].astype(np.uint8)

    def bytes(self) -> bytes:
        """Red, green and blue of all 256 entries."""
        return _channels(self._colours).astype(np.uint8).tobytes().ljust(3 * _COLOURS, b"\0")

    def _learn(self, codes: Codes) -> None:
        """Give colours that have no index yet one of their own, as long as there are any, or the nearest."""
        room = self._capacity - len(self._colours)
        known = len(self._colours)
        self._colours = np.append(self._colours, codes[:room])
        self._index[codes[:room]] = np.arange(known, len(self._colours))
        for first in range(room, len(codes), _AT_ONCE):
            others = codes[first : first + _AT_ONCE]
            mine, theirs = (_channels(x).astype(np.float32) for x in (self._colours, others))
            # |a - b|^2 without |b|^2, which is the same for all entries
            self._index[others] = ((mine**2).sum(-1) - 2 * theirs @ mine.T).argmin(-1)


def _chosen(frames: Sequence[Image.Image], some: Codes) -> Codes:
    """At most 255 colours: those of marks and, by median cut of a sample and of `some`, others."""
    width, height = frames[0].size
    step = len(frames) * width * height // _SAMPLE | 1  # odd, so that it meets all columns
    sample = np.concatenate([some, *(_codes(frame).ravel()[::step] for frame in frames)])
    kept = _packed(np.array(_KEPT))
    others = sample[~np.isin(sample, kept)]
    picture = Image.fromarray(_channels(others).astype(np.uint8)[None])
    cut = picture.quantize(_COLOURS - 1 - len(kept), Image.Quantize.MEDIANCUT)
    return np.union1d(kept, _packed(np.array(cut.convert("RGB"))))


def _frame(
    pixels: npt.NDArray[np.uint8],
    before: npt.NDArray[np.uint8] | None,
    transparent: int | None,
    duration: int,
) -> Iterator[bytes]:
    """What differs from the frame before: the smallest rectangle, transparent where it is equal."""
    left, top, right, bottom = 0, 0, pixels.shape[1], pixels.shape[0]
    extra = {}
    if before is not None:
        changed = pixels != before
        rows, columns = (np.flatnonzero(changed.any(axis)) for axis in (1, 0))
        left, right = (columns[0], columns[-1] + 1) if len(columns) else (0, 1)
        top, bottom = (rows[0], rows[-1] + 1) if len(rows) else (0, 1)
        if transparent is not None:
            pixels = np.where(changed, pixels, np.uint8(transparent))
            extra = {"transparency": transparent}
    picture = Image.fromarray(np.ascontiguousarray(pixels[top:bottom, left:right]))
    yield from GifImagePlugin.getdata(
        picture, (int(left), int(top)), duration=10 * duration, disposal=1, **extra
    )


def _codes(frame: Image.Image) -> Codes:
    return _packed(np.asarray(frame.convert("RGB")))


def _packed(channels: npt.NDArray[np.integer]) -> Codes:
    """Colours `(..., 3)` as integers `(...)`."""
    red, green, blue = np.moveaxis(channels.astype(np.int32), -1, 0)
    return red << 16 | green << 8 | blue


def _channels(codes: Codes) -> npt.NDArray[np.int32]:
    """Integers `(...)` as colours `(..., 3)`."""
    return codes[..., None] >> np.array([16, 8, 0]) & 255
