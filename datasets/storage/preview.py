"""Pictures of data sets, to look at."""

import math

import numpy as np
from PIL import Image, ImageDraw

from ..opening.claims import check_claim
from .video import VideoData

BOX_COLOURS = ("#ff5000", "#00c8ff", "#a0ff00", "#ff40c0", "#ffe000")
"""Colours of the boxes of the first, second, ... object; they are used again from the first."""

_GAP = 4
_GAP_COLOUR = "#404040"


def contact_sheet(data: VideoData, *, zoom: int = 3) -> Image.Image:
    """All frames side by side, with the boxes of the objects and the counts.

    Still images fill a square grid; of videos there is one to a row, time running from left to right. Boxes
    are cut off at the border of the frame, drawn just outside the pixels that they contain, and not where
    nothing of the object is visible.

    Args:
        data: what to show; take a `subset` of what is too much for one picture.
        zoom: pixels of the picture to each pixel of a frame, along each side.

    Raises:
        DataError: if the picture would take more than 8 GiB.
        ValueError: if `zoom` is not positive.
    """
    if zoom < 1:
        raise ValueError(f"`zoom` must be at least 1, got {zoom}.")
    videos, frames, _, height, width = data.video.shape
    columns = frames if frames > 1 else math.ceil(math.sqrt(videos))
    rows = math.ceil(videos * frames / columns)
    pitch = width * zoom + _GAP, height * zoom + _GAP
    side = columns * pitch[0] + _GAP, rows * pitch[1] + _GAP
    check_claim("the picture", 3 * side[0] * side[1], 3 * side[0] * side[1])
    sheet = Image.new("RGB", side, _GAP_COLOUR)
    draw = ImageDraw.Draw(sheet)
    for number in range(videos * frames):
        video, frame = divmod(number, frames)
        row, column = divmod(number, columns)
        left, top = _GAP + column * pitch[0], _GAP + row * pitch[1]
        picture = _picture(data.video[video, frame])
        sheet.paste(picture.resize((width * zoom, height * zoom), Image.Resampling.NEAREST), (left, top))
        _draw_labels(draw, data, video, frame, (left, top), zoom)
    return sheet


def _picture(pixels: np.ndarray) -> Image.Image:
    """One frame `(C, H, W)` as RGB; of two channels the first, of four the first three."""
    if len(pixels) < 3:
        return Image.fromarray(pixels[0]).convert("RGB")
    return Image.fromarray(np.ascontiguousarray(pixels[:3].transpose(1, 2, 0)))


def _draw_labels(
    draw: ImageDraw.ImageDraw, data: VideoData, video: int, frame: int, corner: tuple[int, int], zoom: int
) -> None:
    height, width = data.video.shape[3:]
    if data.boxes is not None:
        for slot, box in enumerate(data.boxes[video, frame]):
            if data.visible is not None and data.visible[video, frame, slot] == 0:
                continue
            # What is outside the frame would be drawn over its neighbours.
            start = np.maximum(box[:2], 0) * zoom
            end = np.minimum(box[:2] + box[2:], (width, height)) * zoom
            if (end > start).all():
                colour = BOX_COLOURS[slot % len(BOX_COLOURS)]
                outline = np.concatenate([corner + start - 1, corner + end])
                draw.rectangle(outline.tolist(), outline=colour)
    if data.count is not None:
        draw.text((corner[0] + 2, corner[1]), str(data.count[video, frame]), fill="#00ff00")
