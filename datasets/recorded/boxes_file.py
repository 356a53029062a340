"""Tables of boxes, `boxes.csv`: which object is where in which frame of a video."""

import csv
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from ..opening.archive import open_archive
from ..opening.claims import as_data_error, naming
from ..opening.text import integer, number, read_text
from .archive_clips import find_array

TABLE = "boxes.csv"
"""What a table is called that lies beside its video."""
_COLUMNS = ("frame", "id", "x", "y", "w", "h")
# As the tables that programs write call them.
_WRITTEN = {"identity": "id", "left": "x", "top": "y", "width": "w", "height": "h"}
_DELIMITERS = (",", ";", "\t")
_CONSIDERED = "considered"  # the seventh column of MOTChallenge's tables, which is no text and 0 for no


class FrameBox(NamedTuple):
    """An object in a frame."""

    line: int
    """Where it stands in the table; the first line is 1."""
    frame: int
    """From 0."""
    identity: str
    """Which object it is."""
    box: tuple[float, float, float, float]
    """`(left, top, width, height)`, 0-based pixels."""


def read_objects(path: Path) -> dict[str, list[FrameBox]]:
    """The boxes of every object of a table, with the columns `frame,id,x,y,w,h` or as `tracks.csv` has them.

    A table of seven and more numbers without a line of names is one of the MOTChallenge, `gt.txt`, in which
    frames and pixels count from 1, and boxes whose seventh number is 0 are not to be considered.

    Raises:
        DataError: if the table cannot be read, or a line is not as it should be; the message names file and
            line.
    """
    objects: dict[str, dict[int, FrameBox]] = {}
    text = read_text(path)
    head = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=head.count)
    mot = _is_mot(head.split(delimiter))
    columns = (*_COLUMNS, _CONSIDERED) if mot else None
    rows = csv.DictReader(io.StringIO(text), columns, delimiter=delimiter, skipinitialspace=True)
    with as_data_error(f"{path}: cannot be read as a table"):
        names = [name.lower() for name in rows.fieldnames or ()]
        rows.fieldnames = [_WRITTEN.get(name, name) for name in names]
        missing = [column for column in _COLUMNS if column not in (rows.fieldnames or ())]
        if missing:
            raise DataError(f"{path}, line 1: expected the columns {','.join(_COLUMNS)}, no `{missing[0]}`.")
        videos = set()
        for row in rows:
            videos.add(row.get("video"))
            if len(videos) > 1:
                raise DataError(f"{path}: expected the boxes of one video, these are of several.")
            with naming(f"{path}, line {rows.line_num}"):
                box = _parse(rows.line_num, row)
                if box is not None and mot:
                    box = _from_mot(box, row)
                if box is not None:
                    _add(objects, box)
    return {identity: list(boxes.values()) for identity, boxes in objects.items()}


def read_table(path: Path) -> dict[str, list[FrameBox]]:
    """The boxes of every object of a table, or of an array of an archive, `FILE.npz/NAME`, with its columns.

    Raises:
        DataError: see `read_objects`.
    """
    found = find_array(path)
    if found is None or found.name is None:
        return read_objects(path)
    objects: dict[str, dict[int, FrameBox]] = {}
    with naming(found.archive), open_archive(found.archive) as archive:
        if found.name not in archive.names:
            raise DataError(f"expected an array `{found.name}`, found {sorted(archive.names)}.")
        rows = archive.read(found.name)
        if rows.ndim != 2 or rows.shape[1] != len(_COLUMNS) or rows.dtype.kind not in "iuf":
            raise DataError(f"`{found.name}` must have the columns {','.join(_COLUMNS)}, got {rows.shape}.")
        for line, (row, mark) in enumerate(zip(rows.astype(np.float64).tolist(), rows[:, 1], strict=True), 1):
            if np.isnan(row[2:]).all():
                continue
            if not np.isfinite(row).all() or row[0] < 0 or row[0] % 1 or min(row[4:]) <= 0:
                raise DataError(f"`{found.name}`, row {line}: expected a frame and a box, got {row}.")
            # Of the array's own type: a float64 does not tell large integers apart.
            identity = str(int(mark) if mark % 1 == 0 else mark)
            _add(objects, FrameBox(line, int(row[0]), identity, (row[2], row[3], row[4], row[5])))
    return {identity: list(boxes.values()) for identity, boxes in objects.items()}


def by_frame(objects: Mapping[str, list[FrameBox]]) -> dict[int, dict[str, npt.NDArray[np.float64]]]:
    """The boxes `(4,)` in each frame, by object."""
    frames: dict[int, dict[str, npt.NDArray[np.float64]]] = {}
    for identity, boxes in objects.items():
        for box in boxes:
            frames.setdefault(box.frame, {})[identity] = np.array(box.box)
    return frames


def _add(objects: dict[str, dict[int, FrameBox]], box: FrameBox) -> None:
    known = objects.setdefault(box.identity, {})
    if box.frame in known:
        before = known[box.frame].line
        raise DataError(f"`{box.identity}` is in frame {box.frame} on line {before} already.")
    known[box.frame] = box


def _is_mot(words: list[str]) -> bool:
    try:
        return len([float(word) for word in words]) > len(_COLUMNS)
    except ValueError:
        return False


def _from_mot(box: FrameBox, row: Mapping[str, str | None]) -> FrameBox | None:
    """A box of a MOTChallenge's table; None if it is not to be considered."""
    if box.frame == 0:
        raise DataError("expected a frame from 1 on, as in all tables of the MOTChallenge, got 0.")
    if float(row[_CONSIDERED] or 0) == 0:
        return None
    left, top, *sides = box.box
    return box._replace(frame=box.frame - 1, box=(left - 1, top - 1, sides[0], sides[1]))


def _parse(line: int, row: Mapping[str, str | None]) -> FrameBox | None:
    """The box that a row describes; None where it says that the object is absent."""
    words = [(row[column] or "").strip() for column in _COLUMNS]
    text = ",".join(words)[:100]
    if all(word.lower() in ("", "nan") for word in words[2:]):
        return None
    try:
        # As some programs write them: 3.0 for a frame, and 1,5 where columns are separated otherwise.
        frame, (left, top, width, height) = (
            integer(re.sub(r"\.0+$", "", words[0])),
            (number(word.replace(",", ".")) for word in words[2:]),
        )
    except ValueError:
        raise DataError(f"expected {','.join(_COLUMNS)}, a frame and four numbers, got {text!r}.") from None
    if frame < 0 or not words[1]:
        raise DataError(f"expected a frame that is not negative and an `id`, got {text!r}.")
    if min(width, height) <= 0:
        raise DataError(f"expected a box with an area, got {text!r}.")
    return FrameBox(line, frame, words[1], (left, top, width, height))
