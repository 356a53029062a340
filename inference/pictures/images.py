"""Pictures of images: how a model explains each as a sum of objects, and what it imagines."""

from __future__ import annotations

from PIL import Image, ImageDraw
from torch import Tensor

from .drawing import (
    FAINT_INK,
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

__all__ = ["reconstruction_picture", "sample_picture"]

_EMPTY: Colour = (240, 240, 240)


def reconstruction_picture(
    images: Tensor,
    reconstructions: Tensor,
    boxes: Tensor,
    present: Tensor,
    true_counts: Tensor | None = None,
    objects: Tensor | None = None,
    factor: int | None = None,
    title: str = "one image per column, explained as a sum of objects",
) -> Image.Image:
    """What a model makes of images: one column for each.

    The rows are the image, the image with the inferred boxes, the reconstruction with the same boxes, and the
    objects one by one, each in the colour of its slot; a slot that has no object anywhere has no row. Columns
    whose count is wrong are framed in red and say what the count should be.

    Args:
        images: `(B, C, H, W)` in [0, 1].
        reconstructions: `(B, C, H, W)`, the model's mean image.
        boxes: `(B, N, 4)`, `(left, top, width, height)` in pixels.
        present: `(B, N)`, which slots hold an object.
        true_counts: `(B)`; without it no count is judged.
        objects: `(B, N, C, H, W)`, what each slot draws; without it there are no rows of objects.
        factor: by which images are enlarged; by default, to about 144 pixels.
        title: a line above everything.

    Raises:
        ValueError: if shapes do not agree.
    """
    _check_reconstruction(images, reconstructions, boxes, present, true_counts, objects)
    factor = factor or default_factor(images)
    inputs = [upscale(image, factor) for image in images]
    outputs = [upscale(image, factor) for image in reconstructions]
    rows: list[list[Image.Image | None]] = [list(inputs)]
    captions = [Caption("image", "what the model sees")]
    for name, pictures in (("inferred boxes", inputs), ("reconstruction", outputs)):
        found = zip(pictures, boxes, present, strict=True)
        rows.append([draw_boxes(picture, box, here, factor=factor) for picture, box, here in found])
        captions.append(
            Caption(name, "one colour per object" if pictures is inputs else "sum of its objects")
        )
    slots = () if objects is None else objects.unbind(1)
    for slot, drawn in enumerate(slots):
        if not (present[:, slot] > 0).any():
            continue
        alone = zip(drawn, present[:, slot].tolist(), strict=True)
        rows.append([_object_tile(image, here > 0, slot, factor) for image, here in alone])
        captions.append(Caption(f"object {slot + 1}", "drawn alone", slot_colour(slot)))
    counts = (present > 0).sum(-1).tolist()
    true = [None] * len(counts) if true_counts is None else true_counts.long().tolist()
    judged = [_count_caption(count, truth) for count, truth in zip(counts, true, strict=True)]
    return grid(rows, captions, judged, title=title)


def sample_picture(
    canvases: Tensor, columns: int = 8, factor: int | None = None, title: str = "samples from the prior"
) -> Image.Image:
    """Images a model imagines, in a grid.

    Args:
        canvases: `(M, C, H, W)` in [0, 1].
        columns: images in a row.
        factor: by which images are enlarged; by default, to about 144 pixels.
        title: a line above everything.

    Raises:
        ValueError: if there is no image, or `columns` is not positive.
    """
    if canvases.dim() != 4 or not len(canvases) or columns < 1:
        raise ValueError(
            "`canvases` must have shape (M, C, H, W) with M > 0 and `columns` be at least 1, "
            f"but got {tuple(canvases.shape)} and {columns}."
        )
    tiles = [upscale(image, factor or default_factor(canvases)) for image in canvases]
    return grid([tiles[start : start + columns] for start in range(0, len(tiles), columns)], title=title)


def _object_tile(image: Tensor, present: bool, slot: int, factor: int) -> Image.Image:
    """An object in a frame of its slot's colour, tinted if it is grey; an empty tile if it is absent."""
    height, width = image.shape[-2:]
    if not present:
        tile = Image.new("RGB", (width * factor, height * factor), _EMPTY)
        words = "no object"
        if text_width(words) < tile.width:
            centre = (tile.width // 2, tile.height // 2)
            ImageDraw.Draw(tile).text(centre, words, FAINT_INK, font(), anchor="mm")
        return tile
    if len(image) == 1:
        image = image * image.new_tensor(slot_colour(slot))[:, None, None] / 255
    frame = image.new_tensor([[0, 0, width, height]])
    return draw_boxes(upscale(image, factor), frame, colours=[slot_colour(slot)], factor=factor)


def _count_caption(count: int, truth: int | None) -> Caption:
    found = f"found {count}"
    if truth is None:
        return Caption(found)
    return (
        Caption(found, "✓ correct") if count == truth else Caption(found, f"✗ should be {truth}", wrong=True)
    )


def _check_reconstruction(
    images: Tensor,
    reconstructions: Tensor,
    boxes: Tensor,
    present: Tensor,
    true_counts: Tensor | None,
    objects: Tensor | None,
) -> None:
    if images.dim() != 4 or not len(images) or present.dim() != 2:
        raise ValueError(
            "`images` must have shape (B, C, H, W) with B > 0 and `present` (B, N), "
            f"but got {tuple(images.shape)} and {tuple(present.shape)}."
        )
    batch, slots = len(images), present.shape[1]
    expected = {
        "reconstructions": (reconstructions, images.shape),
        "boxes": (boxes, (batch, slots, 4)),
        "present": (present, (batch, slots)),
        "true_counts": (true_counts, (batch,)),
        "objects": (objects, (batch, slots, *images.shape[1:])),
    }
    for name, (value, shape) in expected.items():
        if value is not None and value.shape != shape:
            raise ValueError(f"`{name}` must have shape {tuple(shape)}, but got {tuple(value.shape)}.")
