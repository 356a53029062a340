"""Is it good? What programs print of an assessment, and what they know of a checkpoint's training."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

from whatwhere.inference.evaluation import Assessment, Known
from whatwhere.inference.training import load_checkpoint


def known_of(checkpoint: Path, image_shape: Sequence[int] | None) -> Known:
    """What is known of a checkpoint's training; little where it was never evaluated.

    Args:
        checkpoint: the file.
        image_shape: channels, height and width of the frames it was trained on.
    """
    pixels = None if image_shape is None else math.prod(image_shape)
    return Known.of(load_checkpoint(checkpoint).metrics, pixels)


def print_assessment(assessment: Assessment, remarks: Iterable[str]) -> None:
    """The numbers, and what to change, a sentence each.

    Args:
        assessment: has the numbers.
        remarks: those of the assessment, or some.
    """
    for line in assessment.lines():
        print(line)
    for remark in remarks:
        print(f"to change        {remark}")


def warn_of_unknown(path: Path, reasons: Sequence[Sequence[str]]) -> None:
    """Warn of images or videos that a model does not know.

    Args:
        path: of them.
        reasons: of each, why it is not what the model knows; nothing of those that are.
    """
    unknown = {number: ", and ".join(why) for number, why in enumerate(reasons) if why}
    if unknown:
        number, reason = next(iter(unknown.items()))
        one = len(reasons) == 1
        what = f"`{path}` is" if one else f"{len(unknown)} of {len(reasons)} videos of `{path}` are"
        which = f": {reason}" if one else f"; of video {number}, {reason}"
        warnings.warn(f"{what} not what the model knows, so what is found means little{which}", stacklevel=2)
