"""Tracks of objects in CSV files, for evaluation by other programs.

The first line names the columns

    frame,identity,left,top,width,height

and every other line is one object in one frame. Frames count from 0. Boxes are in pixels of the frame,
0-based: the first pixel covers [0, 1), see `models.components.boxes`. Equal identities are the same object.
Where there are several videos, a column `video`, which counts from 0, comes first; columns `score` and `file`
may come last. Lines are in the order of videos, frames and identities.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...checks import UserError, at_least
from ...files import atomic_write
from ...models.components.slots import ABSENT
from .tracked_objects import ObjectsWriter, tracked_objects
from .tracking_metrics import Tracks

__all__ = ["TracksFileError", "TracksWriter", "read_tracks", "shortest", "tracks_writer", "write_tracks"]

_BOX = ("left", "top", "width", "height")
_COLUMNS = ("frame", "identity", *_BOX)
_INT64 = 2**63
_SHOWN = 60  # characters of a wrong value
_LARGEST = float(np.finfo(np.float32).max)


class TracksFileError(UserError, ValueError):
    """A file that does not hold tracks; the message names file and line."""


def write_tracks(
    path: str | os.PathLike[str],
    boxes: Tensor,
    present: Tensor,
    identities: Tensor,
    scores: Tensor | None = None,
) -> None:
    """Write the tracks of one video, or of several, atomically; the folder is created where it is missing.

    Real numbers have as few digits as give the same number in single precision when they are read.

    Args:
        path: the file.
        boxes: `(T, N, 4)`, or `(B, T, N, 4)` for a file with the column `video`; pixels.
        present: `(T, N)` or `(B, T, N)`, boolean or 0 and 1: which slots hold an object.
        identities: as `present`, integers; ignored where there is no object.
        scores: as `present`, real numbers, for instance the probability that the object is there; without
            them there is no such column.

    Raises:
        OSError: if the file cannot be written.
        ValueError: see `tracked_objects`.
    """
    with tracks_writer(path, videos=present.dim() == 3, scores=scores is not None) as writer:
        writer.write(boxes, present, identities, scores)


@contextmanager
def tracks_writer(
    path: str | os.PathLike[str],
    *,
    videos: bool = False,
    scores: bool = False,
    file_name: Callable[[int, int], str] | None = None,
) -> Iterator[TracksWriter]:
    """Write tracks part by part, so that those of a long video need not be in memory; atomically.

        with tracks_writer("tracks.csv") as writer:
            for part in parts:
                writer.write(*part.tracks, frame=part.start)

    Args:
        path: the file; its folder is created where it is missing. It changes when the block succeeds.
        videos: whether there is a column `video`; without it there is video 0 alone.
        scores: whether there is a column `score`.
        file_name: the name of the file that a frame is from, given the numbers of video and frame; it stands
            in a column `file` at the end.

    Raises:
        OSError: if the file cannot be written.
    """
    header = ["video"] * videos + [*_COLUMNS] + ["score"] * scores + ["file"] * (file_name is not None)
    with atomic_write(path) as file:
        file.write(",".join(header).encode() + b"\n")
        yield TracksWriter(file, videos, file_name)


class TracksWriter(ObjectsWriter):
    """What `tracks_writer` gives."""

    def __init__(
        self, file: BinaryIO, videos: bool, file_name: Callable[[int, int], str] | None = None
    ) -> None:
        self._file, self._videos, self._file_name = file, videos, file_name

    def write(self, boxes: Tensor, *args: Any, video: int = 0, **kwargs: Any) -> None:
        """Write a part of a video, or whole videos, see `ObjectsWriter`.

        Raises:
            ValueError: also if the file has no column `video`, and this is not video 0 alone.
        """
        found = tracked_objects(boxes, *args, video=video, **kwargs)
        last = video + (len(boxes) - 1 if boxes.dim() == 4 else 0)
        if last > 0 and not self._videos:
            raise ValueError(
                f"a file of tracks without a column `video` must be of video 0 alone, got video {last}; "
                "`tracks_writer` writes the column with `videos=True`."
            )
        keys = np.column_stack(found[:3] if self._videos else found[1:3])
        scores = [] if found.scores is None else [found.scores]
        numbers = np.column_stack([found.boxes, *scores])
        names: list[list[str]] = [[]] * len(keys)
        if self._file_name is not None:
            places = zip(found.videos.tolist(), found.frames.tolist(), strict=True)
            names = [[self._file_name(*place)] for place in places]
        rows = zip(keys.astype(str).tolist(), shortest(numbers), names, strict=True)
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(key + number + name for key, number, name in rows)
        self._file.write(text.getvalue().encode())


def read_tracks(
    path: str | os.PathLike[str],
    *,
    videos: int | None = None,
    frames: int | None = None,
    limit: int = 10_000_000,
) -> Tracks:
    """Read tracks, of this or of another program: lines and columns may be in any order.

    The objects of a frame fill the slots from the first, in the order of their identities, whichever slots
    they were written from. Columns of other names, `score` among them, are left alone.

    Args:
        path: the file.
        videos: B; by default one more than the greatest number in the file, which does not tell of videos
            without objects at the end.
        frames: T; by default likewise.
        limit: most places for objects, B T N, of 25 bytes each. A single line can claim any number of frames.

    Returns:
        Tracks with boxes in single precision and a boolean mask. B = 1 if there is no column `video`; N is
        the greatest number of objects in a frame. Where no object is, boxes are 0 and identities `ABSENT`.

    Raises:
        OSError: if the file cannot be read.
        TracksFileError: if it does not hold tracks, or those of more videos, frames or places than stated.
        ValueError: if a stated number is negative.
    """
    at_least(0, videos=videos, frames=frames, limit=limit)
    content = Path(path).read_bytes()
    try:
        objects, has_videos = _parse(content.decode("utf-8-sig"))
        if videos not in (None, 1) and not has_videos:
            raise TracksFileError(f"line 1: expected a column `video` in a file of {videos} videos.")
        return _slots(objects, videos if has_videos else 1, frames, limit)
    except UnicodeDecodeError as error:
        raise TracksFileError(f"{path}: expected text in UTF-8 ({error}).") from error
    except TracksFileError as error:
        raise TracksFileError(f"{path}, {error}") from error


class _Object(NamedTuple):
    """One line."""

    video: int
    frame: int
    identity: int
    line: int
    box: tuple[float, ...]


def _parse(text: str) -> tuple[list[_Object], bool]:
    """What the lines hold, and whether there is a column `video`."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        for name in ("video", *_COLUMNS):
            if header.count(name) != 1 and (name != "video" or name in header):
                raise ValueError(
                    f"expected the columns {','.join(_COLUMNS)}, got {_short(','.join(header)) or 'none'}"
                )
        objects = [_object(header, values, reader.line_num) for values in reader if values]
    except (ValueError, csv.Error) as error:
        raise TracksFileError(f"line {max(reader.line_num, 1)}: {error}.") from error
    return objects, "video" in header


def _object(header: list[str], values: list[str], line: int) -> _Object:
    if len(values) != len(header):
        raise ValueError(f"expected {len(header)} values, got {len(values)}")
    named = dict(zip(header, values, strict=True))
    video, frame = (_integer(name, named.get(name, "0"), 0) for name in ("video", "frame"))
    identity = _integer("identity", named["identity"], -_INT64)
    return _Object(video, frame, identity, line, tuple(_real(name, named[name]) for name in _BOX))


def _integer(name: str, text: str, least: int) -> int:
    try:
        value = int(_plain(text))
    except ValueError:
        raise ValueError(f"`{name}` must be an integer, got {_short(text)!r}") from None
    if not least <= value < _INT64:
        raise ValueError(f"`{name}` must be in [{least}, {_INT64}), got {_short(text)}")
    return value


def _real(name: str, text: str) -> float:
    try:
        value = float(_plain(text))
    except ValueError:
        raise ValueError(f"`{name}` must be a number, got {_short(text)!r}") from None
    if not abs(value) <= _LARGEST:  # written so that NaN fails too
        raise ValueError(f"`{name}` must be finite in single precision, got {_short(text)}")
    if name in ("width", "height") and value < 0:
        raise ValueError(f"`{name}` must not be negative, got {_short(text)}")
    return value


def _plain(text: str) -> str:
    """Python would also read `1_0` as 10."""
    if "_" in text:
        raise ValueError
    return text


def _short(text: str) -> str:
    """A damaged file may hold values of any length."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _slots(objects: list[_Object], videos: int | None, frames: int | None, limit: int) -> Tracks:
    """Put objects into slots of `videos` and `frames`, or of as many as there are; at most `limit` places."""
    slots: dict[tuple[int, int], list[_Object]] = {}
    for item in sorted(objects):
        for name, number, stated in (("video", item.video, videos), ("frame", item.frame, frames)):
            if stated is not None and number >= stated:
                raise TracksFileError(f"line {item.line}: `{name}` must be less than {stated}, got {number}.")
        others = slots.setdefault((item.video, item.frame), [])
        if others and others[-1].identity == item.identity:
            raise TracksFileError(
                f"line {item.line}: identity {item.identity} is in this frame already, "
                f"in line {others[-1].line}."
            )
        others.append(item)
    shape = (
        max((video + 1 for video, _ in slots), default=0) if videos is None else videos,
        max((frame + 1 for _, frame in slots), default=0) if frames is None else frames,
        max(map(len, slots.values()), default=0),
    )
    if math.prod(shape) > limit:
        last = max(objects, key=lambda item: (item.video + 1) * (item.frame + 1))
        raise TracksFileError(
            f"line {last.line}: frame {last.frame} of video {last.video} takes {math.prod(shape)} places for "
            f"objects, {shape[0]} videos x {shape[1]} frames x {shape[2]}; the limit is {limit}."
        )
    tracks = Tracks(
        torch.zeros(*shape, 4),
        torch.zeros(shape, dtype=torch.bool),
        torch.full(shape, ABSENT, dtype=torch.int64),
    )
    for (video, frame), items in slots.items():
        part = video, frame, slice(len(items))
        tracks.boxes[part] = torch.tensor([item.box for item in items])
        tracks.present[part] = True
        tracks.identities[part] = torch.tensor([item.identity for item in items])
    return tracks


def shortest(numbers: npt.NDArray[np.float32]) -> list[list[str]]:
    """Rows of numbers with the fewest digits that give them back, without exponents."""
    return [[np.format_float_positional(number, trim="-") for number in row] for row in numbers]
