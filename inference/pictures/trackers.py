"""Pictures of how one object is tracked: boxes and glimpses frame by frame, and overlap over time.

Frames count from 0. The predicted box and the true one keep their colours in all pictures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ...models.components.boxes import iou
from ..evaluation.overlaps import SUCCESS_THRESHOLDS, Floats, Overlaps
from ..evaluation.trackers import spread_frames
from .drawing import (
    LONGEST_NUMBER,
    SLOT_COLOURS,
    Caption,
    Colour,
    default_factor,
    draw_boxes,
    grid,
    stack,
    upscale,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "ATTENTION",
    "PREDICTED",
    "TRUE",
    "TrackedVideo",
    "annotated_frames",
    "iou_plot",
    "success_plot",
    "tracking_strips",
]

ATTENTION, PREDICTED, TRUE = SLOT_COLOURS[:3]
"""Colours of the attention window, the predicted and the true box."""

_HEAT: Colour = (213, 94, 0)
_PREDICTED_LINE, _THIN_LINE = 3, 2
_STRIP_SIDE, _PAGE_SIDE = 160, 240  # about the side of a frame, side by side and alone
_LINE_COLOURS: tuple[Colour, ...] = (PREDICTED, (0, 114, 178), TRUE, (204, 121, 167), (90, 90, 90))
_LINE_STYLES = ("-", "--", "-.", ":")
_DOTS_PER_INCH = 150

Curve = Overlaps | Sequence[Overlaps]
"""Overlaps of one tracker, or of several trainings of it on the same clips."""


class TrackedVideo(NamedTuple):
    """One video, and what a tracker made of it."""

    video: Tensor
    """Frames `(T, C, H, W)`, C = 1 or 3, in [0, 1], or uint8."""
    boxes: Tensor
    """Predicted boxes `(T, 4)`, `(left, top, width, height)` in pixels."""
    truth: Tensor | None = None
    """True boxes `(T, 4)`."""
    present: Tensor | None = None
    """Frames in which the object is there, `(T,)`, boolean or 0 and 1; all by default."""
    glimpses: Tensor | None = None
    """What the tracker saw, `(T, C, h, w)`, in [0, 1]."""
    attention: Tensor | None = None
    """Where it looked, boxes `(T, 4)`, if that is not the predicted box."""
    heat: Tensor | None = None
    """Soft masks `(T, h, w)` in [0, 1] of the attention window, or else the predicted box."""


def tracking_strips(
    videos: Sequence[TrackedVideo],
    labels: Sequence[str | Caption] | None = None,
    frames: Sequence[int] | None = None,
    columns: int = 8,
    factor: int | None = None,
    title: str = "",
) -> Image.Image:
    """Videos below one another, time from left to right, with boxes and what was seen.

    Each frame has its number above and, where the true box is known, the intersection over union below, in
    red if it is 0.00. Below that are the soft mask, the brighter the nearer to 1, and the glimpse, framed in
    the colour of the window it was read from.

    Args:
        videos: at least one. They may differ in length and size.
        labels: words to the left of each.
        frames: numbers of the frames to be shown; a video shows those that it has. By default, each shows
            `columns` frames that are evenly spread from its first to its last.
        columns: see `frames`.
        factor: by which frames are enlarged; by default, to about 160 pixels.
        title: a line above everything.

    Raises:
        ValueError: if there is no video or no frame, or shapes do not agree.
    """
    if not videos:
        raise ValueError("`videos` must be at least one.")
    if frames is not None and (not frames or min(frames) < 0):
        raise ValueError(f"`frames` must be at least one, none negative, but are {list(frames)}.")
    rows: list[list[Image.Image]] = []
    for number, tracked in enumerate(videos):
        _check(f"videos[{number}]", tracked)
        length = len(tracked.video)
        chosen = spread_frames(length, columns) if frames is None else [t for t in frames if t < length]
        size = factor or default_factor(tracked.video, _STRIP_SIDE)
        rows.append([_tile(tracked, t, size) for t in chosen])
    if not any(rows):
        raise ValueError(f"`frames` must be some of the videos' frames, but are {frames}.")
    # Videos can differ in size, and words can be wider than frames.
    width, height = (max(sides) for sides in zip(*(tile.size for row in rows for tile in row), strict=True))
    tiles = [[_padded(tile, (width, height)) for tile in row] for row in rows]
    return grid(tiles, labels, title=title, legend=_legend(videos))


def annotated_frames(
    tracked: TrackedVideo, factor: int | None = None, title: str = "", first: int = 0
) -> Iterator[Image.Image]:
    """One picture for each frame, for `save_gif`: the frame with boxes; beside it soft mask and glimpse.

    A line above has the number of the frame and, where the true box is known, the intersection over union.
    Pictures are of equal size, with frames at the same place, those of parts of a long video too. They are
    drawn as they are asked for, so that a film need not fit into memory.

    Args:
        tracked: the video, or a part of it.
        factor: by which frames are enlarged; by default, to about 240 pixels.
        title: goes before the number of the frame.
        first: number of the first frame.

    Raises:
        ValueError: if there is no frame, or shapes do not agree.
    """
    _check("tracked", tracked)
    return _pages(tracked, factor or default_factor(tracked.video, _PAGE_SIDE), title, first)


def _pages(tracked: TrackedVideo, factor: int, title: str, first: int) -> Iterator[Image.Image]:
    def line(number: int | str, overlap: str) -> str:
        return ", ".join(filter(None, (title, f"frame {number}", overlap)))

    legend = _legend([tracked])
    longest = line(LONGEST_NUMBER, "" if tracked.truth is None else "not there")
    for t in range(len(tracked.video)):
        frame = _frame(tracked, t, factor)
        tile = _row([frame, *_seen(tracked, t, frame.size)])
        words = line(first + t, _overlap_words(tracked, t))
        yield grid([[tile]], title=words, legend=legend, room_for=longest)


def iou_plot(curves: Mapping[str, Curve], title: str = "") -> Image.Image:
    """Intersection over union over time, mean over the clips that still last.

    The legend has the mean over the frames of a clip and over clips. A panel below shows how many clips last,
    unless all have the same frames.

    Args:
        curves: by name, for instance `TrackerReport.curves`; of several trainings, their mean is drawn and
            a band from the least to the greatest.
        title: above the plot.

    Raises:
        ValueError: if there is no curve, or trainings under one name differ in length.
    """
    runs = _runs(curves)
    counts = {tuple(run.clips_by_frame.tolist()): None for group in runs.values() for run in group}
    ragged = any(len(set(count)) > 1 for count in counts)
    figure = _figure(4.8 if ragged else 3.8)
    top: Axes
    top, *below = figure.subplots(
        1 + ragged, 1, sharex=True, squeeze=False, height_ratios=[4, 1][: 1 + ragged]
    )[:, 0]
    for number, (name, group) in enumerate(runs.items()):
        values = np.stack([run.by_frame for run in group])
        _draw_curve(top, np.arange(values.shape[1]), values, number, f"{name} ({_spoken(group, 'mean')})")
    top.set_ylabel("intersection over union")
    for panel in below:
        for count in counts:
            panel.fill_between(range(len(count)), count, step="mid", color="0.85", linewidth=0)
        panel.set_ylabel("clips")
        panel.set_ylim(bottom=0)
    lowest = figure.axes[-1]
    lowest.set_xlabel("frame")
    lowest.locator_params(axis="x", integer=True)
    return _drawn(figure, title)


def success_plot(curves: Mapping[str, Curve], title: str = "") -> Image.Image:
    """Success curves, see `success_curve`, and the areas under them.

    Args:
        curves: as for `iou_plot`.
        title: above the plot.

    Raises:
        ValueError: if there is no curve, or trainings under one name differ in length.
    """
    figure = _figure(3.8)
    axes: Axes = figure.subplots()
    for number, (name, group) in enumerate(_runs(curves).items()):
        values = np.stack([run.success for run in group])
        label = f"{name} (AUC {_spoken(group, 'auc')})"
        _draw_curve(axes, np.array(SUCCESS_THRESHOLDS), values, number, label)
    axes.set_xlabel("threshold")
    axes.set_ylabel("share of frames with IoU above it")
    return _drawn(figure, title)


def _tile(tracked: TrackedVideo, t: int, factor: int) -> Image.Image:
    """A frame, its number above and below it the overlap and the glimpse."""
    frame = _frame(tracked, t, factor)
    parts: list[Image.Image | Caption] = [Caption(str(t)), frame]
    if tracked.truth is not None:
        words = _overlap_words(tracked, t)
        parts.append(Caption("", words, wrong=words == "IoU 0.00"))
    parts += _seen(tracked, t, frame.size)
    return stack(parts)


def _frame(tracked: TrackedVideo, t: int, factor: int) -> Image.Image:
    picture = upscale(tracked.video[t], factor)
    if tracked.attention is not None:
        window = tracked.attention[t : t + 1]
        picture = draw_boxes(picture, window, colours=[ATTENTION], factor=factor, line=_THIN_LINE)
    predicted = tracked.boxes[t : t + 1]
    picture = draw_boxes(picture, predicted, colours=[PREDICTED], factor=factor, line=_PREDICTED_LINE)
    if tracked.truth is not None and _is_present(tracked, t):
        # Thinner and above, so that both are seen where they coincide.
        true = tracked.truth[t : t + 1]
        picture = draw_boxes(picture, true, colours=[TRUE], factor=factor, line=_THIN_LINE)
    return picture


def _seen(tracked: TrackedVideo, t: int, size: tuple[int, int]) -> list[Image.Image]:
    """The soft mask and the glimpse, as far as there are any, as large as fit into `size`."""
    seen = []
    if tracked.heat is not None:
        shades = tracked.heat[t].detach().cpu().clamp(0, 1) * torch.tensor(_HEAT)[:, None, None] / 255
        seen.append(_framed(shades, _HEAT, size))
    if tracked.glimpses is not None:
        colour = PREDICTED if tracked.attention is None else ATTENTION
        seen.append(_framed(tracked.glimpses[t], colour, size))
    return seen


def _framed(image: Tensor, colour: Colour, size: tuple[int, int]) -> Image.Image:
    """An image `(C, h, w)` as large as fits into `size` (width, height), in a frame."""
    height, width = image.shape[-2:]
    picture = upscale(image, max(1, min(size[0] // width, size[1] // height))).convert("RGB")
    picture.thumbnail(size, Image.Resampling.BOX)  # where it is larger than the frame
    edge = torch.tensor([[0, 0, *picture.size]])
    return draw_boxes(picture, edge, colours=[colour], line=_THIN_LINE)


def _row(pictures: Sequence[Image.Image], padding: int = 8) -> Image.Image:
    """Pictures side by side, the lower ones in the middle, on white."""
    height = max(picture.height for picture in pictures)
    width = sum(picture.width + padding for picture in pictures) - padding
    page, left = Image.new("RGB", (width, height), "white"), 0
    for picture in pictures:
        page.paste(picture, (left, (height - picture.height) // 2))
        left += picture.width + padding
    return page


def _overlap_words(tracked: TrackedVideo, t: int) -> str:
    if tracked.truth is None:
        return ""
    if not _is_present(tracked, t):
        return "not there"
    boxes = (boxes[t].detach().cpu().double() for boxes in (tracked.boxes, tracked.truth))
    return f"IoU {iou(*boxes).item():.2f}"


def _is_present(tracked: TrackedVideo, t: int) -> bool:
    return tracked.present is None or bool(tracked.present[t] != 0)


def _legend(videos: Sequence[TrackedVideo]) -> list[Caption]:
    entries = [Caption("predicted box", swatch=PREDICTED)]
    if any(tracked.truth is not None for tracked in videos):
        entries.append(Caption("true box", swatch=TRUE))
    if any(tracked.attention is not None for tracked in videos):
        entries.append(Caption("attention window", swatch=ATTENTION))
    if any(tracked.heat is not None for tracked in videos):
        entries.append(Caption("soft mask", swatch=_HEAT))
    return entries


def _padded(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """White left and right of a picture and below it."""
    width, height = size
    left = (width - picture.width) // 2
    border = (left, 0, width - picture.width - left, height - picture.height)
    return ImageOps.expand(picture, border, "white")


def _check(name: str, tracked: TrackedVideo) -> None:
    if tracked.video.dim() != 4 or not len(tracked.video):
        raise ValueError(
            f"`{name}.video` must have shape (T, C, H, W) with T > 0, but has {tuple(tracked.video.shape)}."
        )
    frames = len(tracked.video)
    shapes: dict[str, tuple[int | str, ...]] = {
        "boxes": (frames, 4),
        "truth": (frames, 4),
        "present": (frames,),
        "glimpses": (frames, "C", "h", "w"),
        "attention": (frames, 4),
        "heat": (frames, "h", "w"),
    }
    for field, shape in shapes.items():
        value = getattr(tracked, field)
        if value is not None and (
            value.dim() != len(shape)
            or any(isinstance(b, int) and a != b for a, b in zip(value.shape, shape, strict=True))
        ):
            raise ValueError(
                f"`{name}.{field}` must have shape ({', '.join(map(str, shape))}), "
                f"but has {tuple(value.shape)}."
            )


def _runs(curves: Mapping[str, Curve]) -> dict[str, list[Overlaps]]:
    runs = {name: [curve] if isinstance(curve, Overlaps) else list(curve) for name, curve in curves.items()}
    if not runs or not all(runs.values()):
        raise ValueError("`curves` must be at least one, each of at least one training.")
    for name, group in runs.items():
        if len(lengths := {run.by_clip.shape[1] for run in group}) > 1:
            raise ValueError(f"`curves[{name!r}]` must be of equal length, but are {sorted(lengths)} frames.")
    return runs


def _spoken(group: Sequence[Overlaps], measure: str) -> str:
    return f"{np.mean([getattr(run, measure) for run in group]):.3f}"


def _figure(height: float) -> Figure:
    # Importing it takes a second, which a program that draws no plot need not wait.
    from matplotlib.figure import Figure

    return Figure(figsize=(6.4, height), dpi=_DOTS_PER_INCH, layout="constrained")


def _draw_curve(axes: Axes, x: npt.NDArray[Any], values: Floats, number: int, label: str) -> None:
    """The mean of rows, and a band between the least and the greatest if they are several."""
    colour = tuple(part / 255 for part in _LINE_COLOURS[number % len(_LINE_COLOURS)])
    style = _LINE_STYLES[number % len(_LINE_STYLES)]
    marker = "o" if len(x) == 1 else ""
    axes.plot(x, values.mean(0), style, color=colour, label=label, linewidth=1.8, marker=marker)
    if len(values) > 1:
        axes.fill_between(x, values.min(0), values.max(0), color=colour, alpha=0.25, linewidth=0)


def _drawn(figure: Figure, title: str) -> Image.Image:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.axes[0].set_ylim(-0.02, 1.02)
    figure.legend(
        loc="outside upper center", ncols=2, frameon=False, fontsize="small", title=title or None
    )  # there it hides no curve
    for panel in figure.axes:
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(color="0.92")
        panel.set_axisbelow(True)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.array(canvas.buffer_rgba())[..., :3])
