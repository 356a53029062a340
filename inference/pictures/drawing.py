"""Pictures of images, boxes and objects, pixel by pixel.

A picture is a `PIL.Image.Image`. Images are enlarged by whole factors without smoothing, so every pixel
of the model is a crisp square, and boxes are drawn exactly on its grid: pixel `i` covers `[i, i + 1)`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

__all__ = [
    "FAINT_INK",
    "LONGEST_NUMBER",
    "SLOT_COLOURS",
    "WRONG",
    "Caption",
    "Colour",
    "default_factor",
    "draw_boxes",
    "font",
    "grid",
    "slot_colour",
    "stack",
    "text_width",
    "upscale",
]

Colour = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""

SLOT_COLOURS: tuple[Colour, ...] = (
    (86, 180, 233),  # sky blue
    (230, 159, 0),  # orange
    (0, 158, 115),  # bluish green
    (204, 121, 167),  # reddish purple
    (240, 228, 66),  # yellow
    (0, 114, 178),  # blue
)
"""Colours of the slots, in order; colour-blind people can tell them apart too.

They are those of Okabe and Ito, *Color Universal Design*, 2008, without black, which does not show on dark
images, and without vermillion, which is too near to `WRONG`.
"""

WRONG: Colour = (200, 16, 46)
"""Marks what is wrong; never the colour of a slot."""

FAINT_INK: Colour = (118, 118, 118)
"""Remarks."""

LONGEST_NUMBER = "0000000"
"""Of a frame, for which pages of a film have room."""

_PAPER: Colour = (255, 255, 255)
_INK: Colour = (32, 32, 32)
_TEXT_SIZE = 13
_LINE_HEIGHT = 17
_CAPTION_WIDTH = 100  # a caption of two or three words is not broken, however small the tiles
_TILE_SIZE = 144  # about the side of a tile where the caller gives no factor


class Caption(NamedTuple):
    """The words beside a row or above a column."""

    text: str
    """What it is; `\\n` starts a new line."""
    note: str = ""
    """A further remark, in a fainter ink below."""
    swatch: Colour | None = None
    """A small square of this colour goes before the text."""
    wrong: bool = False
    """Write it in the colour `WRONG`, and frame the column with it."""


def slot_colour(slot: int) -> Colour:
    """The colour of a slot; beyond the sixth they repeat."""
    return SLOT_COLOURS[slot % len(SLOT_COLOURS)]


def upscale(image: Tensor, factor: int) -> Image.Image:
    """Show an image, each of its pixels as a square of `factor` pixels.

    Args:
        image: `(C, H, W)`, grey (C = 1) or red, green and blue (C = 3), uint8, or in [0, 1]; what lies
            outside is shown as the nearer of 0 and 1, NaN as 0.
        factor: at least 1.

    Returns:
        A picture of `W factor` by `H factor` pixels, in mode `L` or `RGB`.

    Raises:
        ValueError: if the shape is another, or the factor is not positive.
    """
    if image.dim() != 3 or image.shape[0] not in (1, 3) or not image.numel():
        raise ValueError(
            f"`image` must have shape (C, H, W) with 1 or 3 channels, but got {tuple(image.shape)}."
        )
    if factor < 1:
        raise ValueError(f"`factor` must be a whole number of at least 1, but got {factor}.")
    image = image.detach().cpu()
    if image.dtype != torch.uint8:
        image = (image.float().nan_to_num(0, 1, 0).clamp(0, 1) * 255).round().byte()
    pixels = image.permute(1, 2, 0).numpy()
    if factor > 1:
        pixels = pixels.repeat(factor, axis=0).repeat(factor, axis=1)
    return Image.fromarray(pixels[..., 0] if len(image) == 1 else pixels)


def default_factor(images: Tensor, side: int = _TILE_SIZE) -> int:
    """The factor that enlarges images `(..., H, W)` to about `side` pixels."""
    return max(1, round(side / max(images.shape[-2:])))


def draw_boxes(
    picture: Image.Image,
    boxes: Tensor,
    present: Tensor | None = None,
    colours: Sequence[Colour] = SLOT_COLOURS,
    factor: int = 1,
    line: int | None = None,
) -> Image.Image:
    """Draw the outlines of boxes into a copy of a picture, one colour for each slot.

    The outline lies inside the box, its outer edge on the box's own, rounded to the nearest pixel of the
    picture. What is outside the picture is cut off, so a box that continues there has an open side. Later
    slots are drawn over earlier ones. Boxes that are not finite or have no area are left out.

    Args:
        picture: an image enlarged by `factor`.
        boxes: `(N, 4)`, `(left, top, width, height)` in pixels of the image before it was enlarged.
        present: `(N)`; boxes of slots where it is 0 are not drawn. All are if it is not given.
        colours: of the slots, repeated when there are more slots.
        factor: by which the image was enlarged.
        line: width of the outline in pixels of the picture.

    Returns:
        A picture in mode `RGB`.

    Raises:
        ValueError: if shapes do not agree.
    """
    if boxes.dim() != 2 or boxes.shape[1] != 4 or (present is not None and present.shape != boxes.shape[:1]):
        raise ValueError(
            "`boxes` must have shape (N, 4) and `present` (N), but got "
            f"{tuple(boxes.shape)} and {None if present is None else tuple(present.shape)}."
        )
    line = line or max(1, round(factor / 2))
    pixels = np.array(picture.convert("RGB"))
    here = [True] * len(boxes) if present is None else (present > 0).tolist()
    for slot, box in enumerate(boxes.detach().cpu().double().numpy()):
        if here[slot] and np.isfinite(box).all() and (box[2:] > 0).all():
            for strip in _outline(box * factor, picture.size, line):
                pixels[strip] = colours[slot % len(colours)]
    return Image.fromarray(pixels)


def grid(
    rows: Sequence[Sequence[Image.Image | None]],
    row_captions: Sequence[str | Caption] | None = None,
    column_captions: Sequence[str | Caption] | None = None,
    padding: int = 8,
    title: str = "",
    dividers: Collection[int] = (),
    legend: Sequence[Caption] = (),
    room_for: str = "",
) -> Image.Image:
    """Lay out tiles of equal size in rows, with captions.

    Args:
        rows: rows of tiles; `None` leaves a place empty, and a row may be shorter than the first.
        row_captions: words to the left of each row.
        column_captions: words above each column; lines much wider than a tile are broken between words.
        padding: pixels between tiles and around everything.
        title: a line above everything.
        dividers: columns before which there is a vertical line, in a gap of `2 padding` pixels more.
        legend: what the colours mean, captions of a single line with their swatches; they follow each other
            in a line below the title.
        room_for: the picture is so wide that this could be the title too, for pictures whose titles differ.

    Returns:
        A picture in mode `RGB` on white.

    Raises:
        ValueError: if there is no tile, tiles differ in size, captions are not as many as rows or columns, or
            there is no column to a divider.
    """
    width, height = _tile_size(rows)
    columns = max(map(len, rows))
    if not set(dividers) <= set(range(columns)):
        raise ValueError(f"`dividers` must be columns from 0 to {columns - 1}, but are {sorted(dividers)}.")
    beside = _captions("row_captions", row_captions, len(rows))
    above = _captions("column_captions", column_captions, columns)
    above = [_broken(caption, max(width, _CAPTION_WIDTH)) for caption in above]
    cell = max([width, *(_extent(caption)[0] for caption in above)])
    pitch = cell + padding, max([height, *(_extent(caption)[1] for caption in beside)]) + padding
    margin = max((_extent(caption)[0] + 2 * padding for caption in beside), default=padding)
    head = padding + (_LINE_HEIGHT + padding) * (bool(title) + bool(legend))
    top = head + max((_extent(caption)[1] + padding // 2 for caption in above), default=0)
    lefts = [
        margin + column * pitch[0] + 2 * padding * sum(divider <= column for divider in dividers)
        for column in range(columns)
    ]
    places = list(accumulate((_extent(entry)[0] + 3 * padding for entry in legend), initial=padding))
    page_width = max(
        lefts[-1] + pitch[0],
        *(text_width(words, bold=True) + 2 * padding for words in (title, room_for)),
        places[-1] - 2 * padding,
    )
    page = Image.new("RGB", (page_width, top + len(rows) * pitch[1]), _PAPER)
    pen = ImageDraw.Draw(page)
    pen.text((padding, padding), title, _INK, font(bold=True))
    for place, entry in zip(places, legend, strict=False):
        _write(pen, entry, (place, head - _LINE_HEIGHT - padding))
    for divider in dividers:
        x = lefts[divider] - 3 * padding // 2 - 1
        pen.rectangle((x, head, x + 1, page.height - padding - 1), fill=FAINT_INK)
    for left, caption in zip(lefts, above, strict=False):
        _write(pen, caption, (left, top - padding // 2 - _extent(caption)[1]))
        if caption.wrong:
            gap = max(1, padding // 2 - 1)
            corners = (left - gap, head - gap, left + cell + gap - 1, page.height - gap - 1)
            pen.rectangle(corners, outline=WRONG, width=2)
    for row, tiles in enumerate(rows):
        y = top + row * pitch[1]
        if beside:
            _write(pen, beside[row], (padding, y + max(0, (height - _extent(beside[row])[1]) // 2)))
        for column, tile in enumerate(tiles):
            if tile is not None:
                page.paste(tile, (lefts[column], y))
    return page


def stack(parts: Sequence[Image.Image | Caption], padding: int = 4) -> Image.Image:
    """Pictures and words below one another, the narrower ones in the middle, on white.

    Args:
        parts: at least one.
        padding: pixels between them.

    Returns:
        A picture in mode `RGB`, as wide as the widest part.
    """
    sizes = [_extent(part) if isinstance(part, Caption) else part.size for part in parts]
    width = max(size[0] for size in sizes)
    page = Image.new("RGB", (width, sum(size[1] + padding for size in sizes) - padding), _PAPER)
    pen, y = ImageDraw.Draw(page), 0
    for part, size in zip(parts, sizes, strict=True):
        corner = ((width - size[0]) // 2, y)
        if isinstance(part, Caption):
            _write(pen, part, corner)
        else:
            page.paste(part, corner)
        y += size[1] + padding
    return page


def _outline(box: npt.NDArray[np.float64], size: tuple[int, int], line: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of a box's four sides in a picture of `size` (width, height); a tiny box is a dot."""
    left, top = np.floor(box[:2] + 0.5).tolist()
    right, bottom = np.maximum(np.floor(box[:2] + box[2:] + 0.5), (left + 1, top + 1)).tolist()
    for first_row, last_row, first_column, last_column in (
        (top, min(top + line, bottom), left, right),
        (max(bottom - line, top), bottom, left, right),
        (top, bottom, left, min(left + line, right)),
        (top, bottom, max(right - line, left), right),
    ):
        yield _inside(first_row, last_row, size[1]), _inside(first_column, last_column, size[0])


def _inside(start: float, stop: float, length: int) -> slice:
    """What of a range is from 0 to `length`."""
    return slice(int(min(max(start, 0), length)), int(min(max(stop, 0), length)))


def _tile_size(rows: Sequence[Sequence[Image.Image | None]]) -> tuple[int, int]:
    sizes = {tile.size for tiles in rows for tile in tiles if tile is not None}
    if len(sizes) != 1:
        raise ValueError(f"`rows` must hold tiles of one size, but got {sorted(sizes) or 'no tile'}.")
    return sizes.pop()


def _captions(name: str, captions: Sequence[str | Caption] | None, count: int) -> list[Caption]:
    if captions is None:
        return []
    if len(captions) != count:
        raise ValueError(f"`{name}` must be {count}, but are {len(captions)}.")
    return [Caption(caption) if isinstance(caption, str) else caption for caption in captions]


@lru_cache
def font(bold: bool = False) -> Any:
    """The font of all words."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, _TEXT_SIZE)


def text_width(text: str, bold: bool = False) -> int:
    """How wide a line is in that font, in pixels."""
    return math.ceil(font(bold).getlength(text))


def _lines(caption: Caption) -> list[tuple[str, bool]]:
    """The lines of a caption, and whether each belongs to its text (rather than to the note)."""
    lines = [(line, True) for line in caption.text.split("\n")] if caption.text else []
    return lines + ([(line, False) for line in caption.note.split("\n")] if caption.note else [])


def _indent(caption: Caption) -> int:
    return _LINE_HEIGHT if caption.swatch else 0


def _extent(caption: Caption) -> tuple[int, int]:
    """Width and height of a caption in pixels."""
    lines = _lines(caption)
    width = max((text_width(line, bold) for line, bold in lines), default=0)
    return width + _indent(caption), max(len(lines), int(caption.swatch is not None)) * _LINE_HEIGHT


def _broken(caption: Caption, width: int) -> Caption:
    """The caption with new lines where words would pass `width` pixels."""
    width -= _indent(caption)
    text, note = (
        "\n".join(_wrapped(line, width, bold) for line in words.split("\n"))
        for words, bold in ((caption.text, True), (caption.note, False))
    )
    return caption._replace(text=text, note=note)


def _wrapped(line: str, width: int, bold: bool) -> str:
    lines: list[str] = []
    for word in line.split():
        if lines and text_width(f"{lines[-1]} {word}", bold) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return "\n".join(lines)


def _write(pen: Any, caption: Caption, corner: tuple[int, int]) -> None:
    x, y = corner
    if caption.swatch:
        pen.rectangle((x, y + 2, x + _TEXT_SIZE - 2, y + _TEXT_SIZE), fill=caption.swatch)
    for line, bold in _lines(caption):
        ink = WRONG if caption.wrong else _INK if bold else FAINT_INK
        pen.text((x + _indent(caption), y), line, ink, font(bold))
        y += _LINE_HEIGHT
