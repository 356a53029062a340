"""Pictures of where a model looked in a video to tell what goes on: glimpses in the colours of workers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from PIL import Image, ImageDraw, ImageOps
from torch import Tensor

from .drawing import Caption, default_factor, draw_boxes, font, grid, slot_colour, stack, upscale

__all__ = ["CloudVideo", "cloud_pages", "cloud_strip"]

_SIDE, _PAGE_SIDE, _LINE, _BAR = 128, 240, 3, 150
_MOST_CLASSES = 5  # on a page
_BLUE = (0, 114, 178)


class CloudVideo(NamedTuple):
    """A clip, and what a model made of it."""

    video: Tensor
    """Frames `(T, C, H, W)`, C = 1 or 3, in [0, 1]."""
    boxes: Tensor
    """Where it looked, `(T, G, 4)`, `(left, top, width, height)` in pixels."""
    crops: Tensor
    """What is there, `(T, G, C, h, w)`."""
    weights: Tensor
    """Whose it is, `(T, G, C)`, of each worker."""
    votes: Tensor
    """Logits after each frame, `(T, C, K)`, of each worker."""
    names: tuple[str, ...]
    """Of the classes."""
    truth: int | None = None
    """What goes on, where that is known."""
    counted: int | None = None
    """Frames whose votes count, the last ones seen; None for all."""

    @property
    def owners(self) -> Tensor:
        """The worker that has most of each glimpse, `(T, G)`."""
        return self.weights.argmax(-1)

    @property
    def opinions(self) -> Tensor:
        """Probabilities of the answer if each frame were the last, `(T, K)`."""
        votes, most = self.votes.mean(1), self.counted or len(self.votes)
        heard = [votes[max(0, t + 1 - most) : t + 1].mean(0) for t in range(len(votes))]
        return torch.stack(heard).softmax(-1)

    @property
    def answer(self) -> str:
        """What it told in the end."""
        return self.names[int(self.opinions[-1].argmax())]


def cloud_strip(clips: Sequence[CloudVideo], title: str = "") -> Image.Image:
    """Clips below one another, time from left to right: frames with glimpses, and below what was seen.

    A glimpse has the colour of the worker that has most of it.

    Args:
        clips: at least one, of one size and length, with one number of glimpses.
        title: a line above everything.

    Raises:
        ValueError: if there is none, or they differ.
    """
    if not clips or len({(each.video.shape, each.boxes.shape) for each in clips}) != 1:
        raise ValueError("`clips` must be at least one, all of one shape.")
    factor = default_factor(clips[0].video, _SIDE)
    rows = []
    for clip in clips:
        rows.append([stack([_frame(clip, t, factor), *_looks(clip, t)]) for t in range(len(clip.video))])
    heads = [Caption("", str(number)) for number in range(len(clips[0].video))]
    legend = [Caption(f"worker {c}", swatch=slot_colour(c)) for c in range(clips[0].weights.shape[-1])]
    return grid(rows, [_told(clip) for clip in clips], heads, title=title, legend=legend)


def cloud_pages(
    clip: CloudVideo, first: int = 0, numbers: Sequence[int] | None = None
) -> Iterator[Image.Image]:
    """Pages of an animation: a frame with glimpses, what was seen, and what the votes so far say.

    Args:
        clip: to be shown.
        first: number of its first frame.
        numbers: of its frames, where they do not follow each other.
    """
    factor = default_factor(clip.video, _PAGE_SIDE)
    for t in range(len(clip.video)):
        number = first + t if numbers is None else numbers[t]
        head = Caption(f"frame {number}", "" if clip.truth is None else f"true: {clip.names[clip.truth]}")
        shown = grid([[_frame(clip, t, factor)]], title="")
        yield stack([head, shown, *_looks(clip, t), _bars(clip, t)])


def _told(clip: CloudVideo) -> Caption:
    right = clip.truth is None or clip.names[clip.truth] == clip.answer
    note = "" if clip.truth is None else f"true: {clip.names[clip.truth]}"
    return Caption(clip.answer, note, wrong=not right)


def _frame(clip: CloudVideo, t: int, factor: int) -> Image.Image:
    colours = [slot_colour(int(owner)) for owner in clip.owners[t]]
    picture = upscale(clip.video[t], factor)
    return draw_boxes(picture, clip.boxes[t], colours=colours, factor=factor, line=_LINE)


def _looks(clip: CloudVideo, t: int) -> list[Image.Image]:
    """The crops of a frame side by side, framed in the colours of their workers."""
    side = _SIDE // clip.crops.shape[1]
    tiles = []
    for crop, owner in zip(clip.crops[t], clip.owners[t], strict=True):
        tile = upscale(crop, max(1, round((side - 2 * _LINE) / max(crop.shape[-2:])))).convert("RGB")
        tiles.append(ImageOps.expand(tile, _LINE, slot_colour(int(owner))))
    row = Image.new("RGB", (sum(tile.width for tile in tiles), tiles[0].height))
    left = 0
    for tile in tiles:
        row.paste(tile, (left, 0))
        left += tile.width
    return [row]


def _bars(clip: CloudVideo, t: int) -> Image.Image:
    """The classes that are most probable in the end, and how probable they are now."""
    shown = clip.opinions[-1].argsort(descending=True)[:_MOST_CLASSES].tolist()
    line = 17
    page = Image.new("RGB", (2 * _BAR, line * len(shown)), "white")
    pen = ImageDraw.Draw(page)
    for row, number in enumerate(shown):
        share = float(clip.opinions[t, number])
        pen.text((0, row * line), clip.names[number], fill=(32, 32, 32), font=font())
        pen.rectangle(
            (_BAR, row * line + 3, _BAR + int(share * (_BAR - 1)), row * line + line - 4), fill=_BLUE
        )
    return page
