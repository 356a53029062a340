"""Pictures of videos: objects that are followed, frame by frame, and frames side by side.

An object has the colour of its identity, in whichever slot it is. Frames count from 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from PIL import Image, ImageDraw
from torch import Tensor

from ...models.components.boxes import middles
from ..evaluation.tracking_metrics import Tracks
from .drawing import (
    LONGEST_NUMBER,
    Caption,
    Colour,
    default_factor,
    draw_boxes,
    font,
    grid,
    slot_colour,
    text_width,
    upscale,
)

__all__ = ["draw_paths", "draw_tracks", "film_strip", "overlay_pictures", "tracking_pictures"]

_TILE_SIZE = 240  # about the side of a frame that is shown alone
_LEAST_SIDE_WITH_NUMBERS = 96
_OUTLINE = (0, 0, 0)


def draw_tracks(
    picture: Image.Image, boxes: Tensor, present: Tensor, identities: Tensor, factor: int = 1
) -> Image.Image:
    """Draw the boxes of objects into a copy of a frame, and their identities beside them.

    The colour is that of `slot_colour` for the identity, so from the seventh on colours repeat. The identity
    is written above the box or, where there is no room, below or inside it; frames less than 96 pixels high
    or wide have no room at all.

    Args:
        picture: a frame enlarged by `factor`.
        boxes: `(N, 4)`, `(left, top, width, height)` in pixels of the frame before it was enlarged.
        present: `(N)`, which slots hold an object; others are not drawn.
        identities: `(N)`, integers.
        factor: by which the frame was enlarged.

    Returns:
        A picture in mode `RGB`.

    Raises:
        ValueError: if shapes do not agree.
    """
    if identities.shape != present.shape:
        raise ValueError(
            f"`identities` must have the shape {tuple(present.shape)} of `present`, "
            f"but have {tuple(identities.shape)}."
        )
    names = identities.tolist()
    colours = [slot_colour(name) for name in names]
    drawn = draw_boxes(picture, boxes, present, colours, factor)
    if min(picture.size) < _LEAST_SIDE_WITH_NUMBERS:
        return drawn
    pen = ImageDraw.Draw(drawn)
    corners = (boxes.detach().cpu().double() * factor).tolist()
    for box, here, name, colour in zip(corners, (present > 0).tolist(), names, colours, strict=True):
        if here and _is_visible(box, picture.size):
            extent = pen.textbbox((0, 0), str(name), font(bold=True), stroke_width=1)
            place = _beside(box, (extent[2] - extent[0], extent[3] - extent[1]), picture.size, factor)
            corner = place[0] - extent[0], place[1] - extent[1]
            pen.text(corner, str(name), colour, font(bold=True), stroke_width=1, stroke_fill=_OUTLINE)
    return drawn


def draw_paths(
    picture: Image.Image, tracks: Tracks, factor: int = 1, colour: Colour | None = None
) -> Image.Image:
    """Draw where objects go into a copy of a frame: a dot in the middle of each box, and lines between them.

    Args:
        picture: a frame enlarged by `factor`.
        tracks: boxes `(T, N, 4)` in pixels of the frame before it was enlarged, `present` and `identities`
            `(T, N)`. A line joins what has the same identity in two frames, one after the other.
        factor: by which the frame was enlarged.
        colour: of all; by default that of each identity, see `slot_colour`.

    Returns:
        A picture in mode `RGB`.

    Raises:
        ValueError: if shapes do not agree.
    """
    _check_tracks("boxes", tracks, len(tracks.boxes))
    drawn = picture.convert("RGB")
    pen, radius = ImageDraw.Draw(drawn), max(1, factor // 3)
    before: dict[int, list[float]] = {}
    centres = (middles(tracks.boxes.detach().cpu().double()) * factor).tolist()
    for places, here, names in zip(
        centres, (tracks.present > 0).tolist(), tracks.identities.tolist(), strict=True
    ):
        now = {name: place for name, place, is_here in zip(names, places, here, strict=True) if is_here}
        for name, (x, y) in now.items():
            ink = slot_colour(name) if colour is None else colour
            if name in before:
                pen.line([*before[name], x, y], ink, max(1, radius // 2))
            pen.ellipse([x - radius, y - radius, x + radius, y + radius], ink)
        before = now
    return drawn


def overlay_pictures(
    video: Tensor, boxes: Tensor, present: Tensor, identities: Tensor, factor: int | None = None
) -> Iterator[Image.Image]:
    """The frames themselves with their objects, for a film: see `draw_tracks`, and `tracking_pictures`.

    Args:
        video: `(T, C, H, W)`, C = 1 or 3, in [0, 1], or uint8.
        boxes: `(T, N, 4)`, `(left, top, width, height)` in pixels.
        present: `(T, N)`, which slots hold an object.
        identities: `(T, N)`, integers; ignored where there is no object.
        factor: by which frames are enlarged; by default small ones are, to about 240 pixels.

    Raises:
        ValueError: if shapes do not agree, or there is no frame.
    """
    _check_video("video", video)
    tracks = Tracks(boxes, present, identities)
    _check_tracks("boxes", tracks, len(video))
    return _overlaid(video, tracks, factor or default_factor(video, _TILE_SIZE))


def tracking_pictures(
    video: Tensor,
    boxes: Tensor,
    present: Tensor,
    identities: Tensor,
    canvas: Tensor | None = None,
    captions: Sequence[str] | None = None,
    names: tuple[str, str] = ("input", "reconstruction"),
    factor: int | None = None,
    first: int = 0,
) -> Iterator[Image.Image]:
    """One picture for each frame: the frame with its objects and, beside it, what the model makes of it.

    A line above has the number of the frame and that of its objects. Pictures are of equal size, with frames
    at the same place, as `save_gif` needs them; those of parts of a long video too, if their longest captions
    are the same. They are drawn as they are asked for, so that a film need not fit into memory.

    Args:
        video: `(T, C, H, W)`, C = 1 or 3, in [0, 1]; what lies outside is shown as the nearer of the two.
        boxes: `(T, N, 4)`, `(left, top, width, height)` in pixels.
        present: `(T, N)`, which slots hold an object.
        identities: `(T, N)`, integers; ignored where there is no object.
        canvas: `(T, C, H, W)`, the model's mean frames, shown with the same boxes.
        captions: a remark on each frame.
        names: of `video` and `canvas`, written above them.
        factor: by which frames are enlarged; by default, to about 240 pixels.
        first: number of the first frame.

    Raises:
        ValueError: if shapes do not agree, or there is no frame.
    """
    _check_video("video", video)
    tracks = Tracks(boxes, present, identities)
    _check_tracks("boxes", tracks, len(video))
    if canvas is not None and canvas.shape != video.shape:
        raise ValueError(
            f"`canvas` must have the shape {tuple(video.shape)} of `video`, but has {tuple(canvas.shape)}."
        )
    if captions is not None and len(captions) != len(video):
        raise ValueError(f"`captions` must be {len(video)}, but are {len(captions)}.")
    return _pages(
        tracks,
        [video] if canvas is None else [video, canvas],
        None if canvas is None else names,
        captions or [""] * len(video),
        factor or default_factor(video, _TILE_SIZE),
        first,
    )


def _pages(
    tracks: Tracks,
    shown: Sequence[Tensor],
    heads: Sequence[str] | None,
    remarks: Sequence[str],
    factor: int,
    first: int,
) -> Iterator[Image.Image]:
    longest = max(
        (_title(LONGEST_NUMBER, 10, remark) for remark in remarks), key=lambda x: text_width(x, True)
    )
    for t, (remark, boxes, here, names) in enumerate(zip(remarks, *tracks, strict=True)):
        pictures = (upscale(frames[t], factor) for frames in shown)
        tiles = [draw_tracks(picture, boxes, here, names, factor) for picture in pictures]
        title = _title(first + t, int((here > 0).sum()), remark)
        yield grid([tiles], None, heads, title=title, room_for=longest)


def film_strip(
    rows: Sequence[Tensor],
    labels: Sequence[str | Caption],
    tracks: Sequence[Tracks | None] | None = None,
    marks: Mapping[int, str] | None = None,
    factor: int | None = None,
    title: str = "",
) -> Image.Image:
    """Videos below one another, time from left to right, with the numbers of the frames above.

    Args:
        rows: videos `(T, C, H, W)`, C = 1 or 3, in [0, 1]; what lies outside is shown as the nearer of the
            two. They start at the same time, and their lengths may differ.
        labels: words to the left of each row.
        tracks: objects to be drawn into each row, in fields without the axis B, or `None` for a row without.
        marks: words above some frames, by number; a vertical line separates them from the frames before, for
            instance `{3: "generated"}` where a model goes on by itself after three frames.
        factor: by which frames are enlarged; by default, to about 144 pixels.
        title: a line above everything.

    Raises:
        ValueError: if there is no row or no frame, frames differ in size, labels or tracks do not fit the
            rows, or a mark is on no frame.
    """
    marks = marks or {}
    overlays = [None] * len(rows) if tracks is None else tracks
    if not rows or not len(rows) == len(labels) == len(overlays):
        raise ValueError(
            "`rows`, `labels` and `tracks` must be equally many, at least one, "
            f"but are {len(rows)}, {len(labels)} and {len(overlays)}."
        )
    for number, (row, overlay) in enumerate(zip(rows, overlays, strict=True)):
        _check_video(f"rows[{number}]", row)
        if overlay is not None:
            _check_tracks(f"tracks[{number}]", overlay, len(row))
    factor = factor or default_factor(rows[0])
    tiles = [_frames(row, overlay, factor) for row, overlay in zip(rows, overlays, strict=True)]
    heads = [Caption(marks.get(number, ""), str(number)) for number in range(max(map(len, rows)))]
    if not set(marks) <= set(range(len(heads))):
        raise ValueError(f"`marks` must be on frames from 0 to {len(heads) - 1}, but are on {sorted(marks)}.")
    return grid(tiles, labels, heads, title=title, dividers=[number for number in marks if number > 0])


def _title(number: int | str, count: int, remark: str) -> str:
    aside = f" ({remark})" if remark else ""
    return f"frame {number}{aside}: {count} object{'' if count == 1 else 's'}"


def _frames(video: Tensor, tracks: Tracks | None, factor: int) -> list[Image.Image]:
    """The frames of a video, enlarged, with objects if there are any to be drawn."""
    if tracks is None:
        return [upscale(frame, factor) for frame in video]
    return list(_overlaid(video, tracks, factor))


def _overlaid(video: Tensor, tracks: Tracks, factor: int) -> Iterator[Image.Image]:
    for frame, boxes, here, names in zip(video, *tracks, strict=True):
        yield draw_tracks(upscale(frame, factor), boxes, here, names, factor)


def _is_visible(box: list[float], size: tuple[int, int]) -> bool:
    """Whether a box has an area that reaches into a picture of `size` (width, height)."""
    left, top, width, height = box
    if not all(map(math.isfinite, box)) or min(width, height) <= 0:
        return False
    return left < size[0] and top < size[1] and left + width > 0 and top + height > 0


def _beside(box: list[float], extent: tuple[int, int], size: tuple[int, int], factor: int) -> tuple[int, int]:
    """The left top corner of a text of some extent (width, height) that belongs to a box in a picture."""
    left, top = (math.floor(x + 0.5) for x in box[:2])
    bottom = math.floor(box[1] + box[3] + 0.5)
    x = min(max(left, 0), size[0] - extent[0])
    if top >= extent[1]:
        return x, top - extent[1]
    if bottom + extent[1] <= size[1]:
        return x, bottom
    inset = max(1, factor)
    return min(x + inset, size[0] - extent[0]), max(top, 0) + inset


def _check_video(name: str, video: Tensor) -> None:
    if video.dim() != 4 or not len(video):
        raise ValueError(f"`{name}` must have shape (T, C, H, W) with T > 0, but has {tuple(video.shape)}.")


def _check_tracks(name: str, tracks: Tracks, frames: int) -> None:
    boxes, present, identities = tracks
    shape = (frames, *present.shape[1:])
    if present.dim() != 2 or {present.shape, identities.shape} != {shape} or boxes.shape != (*shape, 4):
        raise ValueError(
            f"`{name}` must have shape ({frames}, N, 4), and `present` and `identities` ({frames}, N), "
            f"but have {', '.join(str(tuple(x.shape)) for x in tracks)}."
        )
