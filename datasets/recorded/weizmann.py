"""The Weizmann actions as silhouettes: white people on black ground, with the box around each.

Source: Blank, Gorelick, Shechtman, Irani and Basri (2005), Actions as Space-Time Shapes.
"""

import csv
import io
import os
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from ...files import user_path
from ..errors import DataError
from ..opening.archive import read_archive
from ..opening.claims import as_data_error, naming
from ..opening.text import integer, read_text
from ..storage.video import VideoData

WEIZMANN_ACTIONS = ("bend", "jack", "jump", "pjump", "run", "side", "skip", "walk", "wave1", "wave2")
"""All actions; their places in this tuple are their classes."""

SIZE = (144, 180)
"""Height and width of the frames."""

_SILHOUETTES, _BOXES = "silhouettes_packed.npz", "boxes_from_masks.csv"
_COLUMNS = ["sequence", "frame", "x", "y", "w", "h"]
_BYTES = -(-SIZE[1] // 8)  # of a row of pixels


def load_weizmann(folder: str | os.PathLike[str]) -> VideoData:
    """The silhouettes of all people and actions: one channel of 144 x 180 pixels, each 0 or 255.

    The folder holds `silhouettes_packed.npz`, with an array `(T, 144, 23)`, uint8, for each sequence, of
    which the bits are the pixels from left to right (the last four of each row are none), and
    `boxes_from_masks.csv`, a table `sequence,frame,x,y,w,h` of boxes in 0-based pixels.

    Labels, as in `VideoData`; the sequences are sorted by name.

    - `boxes`: one object, the person; the tight box around its silhouette.
    - `count` and `visible`: 1 in the frames of a sequence; T is the length of the longest, and the others end
      with black frames without a person.
    - `classes`: the action's place in `WEIZMANN_ACTIONS`.
    - `groups`: the person, from 0 in the order of their names.
    - `names`: person and action, `daria_bend`; a person's second sequence of an action is `lena_walk2`.

    Raises:
        DataError: if a file is missing or cannot be used, or the two do not belong together; the message
            names the file, and the line or sequence.
    """
    archive, table = user_path(folder) / _SILHOUETTES, user_path(folder) / _BOXES
    for path in (archive, table):
        if not path.is_file():
            raise DataError(f"{path}: no such file.")
    text = read_text(table, "utf-8")
    with naming(archive):
        packed = read_archive(archive, sorted)
        _check_silhouettes(packed)
        people = [_person_and_action(name) for name in packed]
    lengths = {name: len(bits) for name, bits in packed.items()}
    with naming(table):
        tracks = _read_boxes(text, lengths)
    video = np.zeros((len(packed), max(lengths.values()), 1, *SIZE), np.uint8)
    boxes = np.zeros((*video.shape[:2], 1, 4), np.float32)
    for row, (name, bits) in enumerate(packed.items()):
        video[row, : len(bits), 0] = 255 * np.unpackbits(bits, axis=-1, count=SIZE[1])
        boxes[row, : len(bits), 0] = tracks[name]
    present = boxes[..., 2] > 0
    names = sorted({person for person, _ in people})
    return VideoData(
        video,
        count=present.sum(-1),
        classes=np.array([[WEIZMANN_ACTIONS.index(action)] for _, action in people], np.int64),
        boxes=boxes,
        visible=present.astype(np.float32),
        groups=np.array([names.index(person) for person, _ in people], np.int64),
        names=np.array(list(packed)),
    )


def _check_silhouettes(packed: Mapping[str, npt.NDArray[np.uint8]]) -> None:
    if not packed:
        raise DataError("expected silhouettes, the archive is empty.")
    for name, bits in packed.items():
        if bits.dtype != np.uint8 or bits.shape[1:] != (SIZE[0], _BYTES) or not len(bits):
            raise DataError(
                f"`{name}` must be uint8 of shape (T, {SIZE[0]}, {_BYTES}), got {bits.dtype} of {bits.shape}."
            )


def _person_and_action(name: str) -> tuple[str, str]:
    person, _, action = name.partition("_")
    for candidate in (action, action[:-1] if action[-1:].isdecimal() else ""):
        if person and candidate in WEIZMANN_ACTIONS:
            return person, candidate
    raise DataError(f"`{name}` must be PERSON_ACTION, the action one of {', '.join(WEIZMANN_ACTIONS)}.")


def _read_boxes(text: str, lengths: Mapping[str, int]) -> dict[str, npt.NDArray[np.float32]]:
    """The boxes `(T, 4)` of each sequence, one for each of its frames."""
    tracks: dict[str, npt.NDArray[np.float32]] = {
        name: np.zeros((length, 4), np.float32) for name, length in lengths.items()
    }
    rows = csv.reader(io.StringIO(text))
    with as_data_error("cannot be read as a table"):
        head = next(rows, [])
        if head != _COLUMNS:
            raise DataError(f"expected columns {','.join(_COLUMNS)}, got {','.join(head)}.")
        for row in rows:
            try:
                _add_box(tracks, row)
            except DataError as error:
                raise DataError(f"line {rows.line_num}: {error}") from None
    for name, boxes in tracks.items():
        missing = np.flatnonzero(boxes[:, 2] == 0)
        if len(missing):
            raise DataError(f"expected {len(boxes)} boxes of `{name}`, none is of frame {missing[0]}.")
    return tracks


def _add_box(tracks: Mapping[str, npt.NDArray[np.float32]], row: list[str]) -> None:
    try:
        name, frame, left, top, width, height = row[0], *map(integer, row[1:])
    except (ValueError, IndexError):
        raise DataError(f"expected a name and five integers, got {','.join(row)}.") from None
    if name not in tracks:
        raise DataError(f"there are no silhouettes of `{name}`.")
    if not 0 <= frame < len(tracks[name]):
        raise DataError(f"`{name}` has {len(tracks[name])} silhouettes, got a box of frame {frame}.")
    if tracks[name][frame, 2]:
        raise DataError(f"frame {frame} of `{name}` has a box already.")
    inside = min(left, top) >= 0 and left + width <= SIZE[1] and top + height <= SIZE[0]
    if not inside or min(width, height) < 1:
        raise DataError(
            f"the box of `{name}` must be inside {SIZE[1]} x {SIZE[0]} pixels, "
            f"got {left},{top},{width},{height}."
        )
    tracks[name][frame] = left, top, width, height
