"""Videos and their labels: in memory as bytes, and as a batch of tensors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..errors import DataError

Indices = Tensor | npt.NDArray[np.integer] | Sequence[int]


class VideoBatch(NamedTuple):
    """A batch of videos with the labels that exist; still images are videos of one frame.

    N is the greatest number of objects in the data set. Boxes are pixels, 0-based, of the frame they are in.
    """

    video: Tensor
    """Frames `(B, T, C, H, W)`, float32 in [0, 1], or uint8 from sources that are asked for bytes."""
    count: Tensor | None = None  # type: ignore[assignment]  # shadows the method `tuple.count`
    """Number of objects in each frame `(B, T)`, int64."""
    classes: Tensor | None = None
    """Class of each object `(B, N)`, int64; -1 where there is no object."""
    boxes: Tensor | None = None
    """`(left, top, width, height)` of each object `(B, T, N, 4)`, float32; zeros where there is no object."""
    visible: Tensor | None = None
    """Fraction of each object inside the frame `(B, T, N)`, float32 in [0, 1]; 0 where there is no object."""
    groups: Tensor | None = None
    """Who or what each video shows `(B,)`, int64, see `VideoData.groups`."""
    segments: Tensor | None = None
    """1 + the number of the object that is seen at each pixel, 0 for none, `(B, T, H, W)`, uint8."""

    @property
    def images(self) -> Tensor:
        """The frames `(B, C, H, W)` of a batch of still images.

        Raises:
            ValueError: if the videos have more than one frame.
        """
        frames = self.video.shape[1]
        if frames != 1:
            raise ValueError(f"`images` is for still images (T = 1), got videos of T = {frames} frames.")
        return self.video[:, 0]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "VideoBatch":
        """The same batch on `device`."""
        move = (None if x is None else x.to(device, non_blocking=non_blocking) for x in self)
        return VideoBatch(*move)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class VideoData:
    """A whole data set in memory, as bytes: a quarter of the memory of floats, converted batch by batch.

    M is the number of videos, T of frames, N the greatest number of objects; everything is a numpy array. The
    fields are checked at construction, not copied.

    Videos shorter than T end with black frames without objects: `count` and `visible` are 0 there and boxes
    are zeros. A frame without its object does not count, so no length is stored beside them.

    Raises:
        DataError: if a field has a wrong type, shape or value; the message names the field.
    """

    video: npt.NDArray[np.uint8]
    """Frames `(M, T, C, H, W)`, uint8, 0 black and 255 white; 1 <= C <= 4."""
    count: npt.NDArray[np.int64] | None = None
    """Number of objects in each frame `(M, T)`, int64."""
    classes: npt.NDArray[np.int64] | None = None
    """Class of each object `(M, N)`, int64; -1 where there is no object."""
    boxes: npt.NDArray[np.float32] | None = None
    """`(left, top, width, height)` `(M, T, N, 4)`, float32, 0-based pixels; zeros where no object is."""
    visible: npt.NDArray[np.float32] | None = None
    """Fraction of each object inside the frame `(M, T, N)`, float32 in [0, 1]."""
    groups: npt.NDArray[np.int64] | None = None
    """Who or what each video shows (a person, a drive) `(M,)`, int64, not negative: a split that leaves a
    group out holds out all of its videos.
    """
    names: npt.NDArray[np.str_] | None = None
    """What each video is called `(M,)`, for people to read. Batches do not have it."""
    regions: npt.NDArray[np.float32] | None = None
    """The part of the user's own frames that each video shows: `(left, top, width, height)` in their pixels,
    `(M, 4)`, float32; of a mirrored video `left` is its right side, and `width` negative. What is found in a
    video that was cut out, or made smaller, is so brought back to where it came from. Batches do not have it.
    """
    segments: npt.NDArray[np.uint8] | None = None
    """1 + the number of the object that is seen at each pixel, 0 for none, `(M, T, H, W)`, uint8."""

    def __post_init__(self) -> None:
        problems = video_problems(self.video) or label_problems(self.labels(), self.video.shape)
        if problems:
            raise DataError(problems[0])

    def __len__(self) -> int:
        return len(self.video)

    @property
    def shape(self) -> tuple[int, ...]:
        """`(M, T, C, H, W)`: number of videos, frames, channels, height, width."""
        return self.video.shape

    def labels(self) -> dict[str, npt.NDArray[Any]]:
        """The labels that exist, by name."""
        named = {name: getattr(self, name) for name in LABEL_TYPES}
        return {name: value for name, value in named.items() if value is not None}

    def subset(self, indices: Indices) -> "VideoData":
        """The videos at `indices`, in that order.

        Raises:
            DataError: if `indices` is empty.
            IndexError: if an index is out of range.
        """
        where = as_indices(indices, len(self))
        return VideoData(self.video[where], **{name: value[where] for name, value in self.labels().items()})

    def batch(self, indices: Indices) -> VideoBatch:
        """The videos at `indices` as tensors on the CPU, grey values divided by 255.

        Raises:
            IndexError: if an index is out of range.
        """
        where = as_indices(indices, len(self))
        return to_batch(self.video[where], {name: value[where] for name, value in self.labels().items()})


LABEL_TYPES: dict[str, type[np.generic]] = {
    "count": np.int64,
    "classes": np.int64,
    "boxes": np.float32,
    "visible": np.float32,
    "groups": np.int64,
    "names": np.str_,
    "regions": np.float32,
    "segments": np.uint8,
}
"""The labels, and the types they have in memory."""

FRAME_LABELS = {"count": 2, "boxes": 4, "visible": 3, "segments": 4}
"""The labels that every frame of a video has, in their second axis, and how many axes they have."""

_CONVERTIBLE: dict[type[np.generic], tuple[str, str]] = {
    np.int64: ("iu", "integers"),
    np.uint8: ("iu", "integers"),
    np.float32: ("iuf", "real numbers"),
    np.str_: ("US", "text"),
}
"""Kinds of numpy types that become a label of each type, and what they are called."""


def as_indices(indices: Indices, size: int) -> npt.NDArray[np.int64]:
    """`indices` as a one-dimensional int64 array, each in [0, size).

    Raises:
        IndexError: if `indices` is not one-dimensional, not of integers, or out of range.
    """
    array = np.asarray(indices)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise IndexError(
            f"`indices` must be a one-dimensional list of integers, got {array.dtype} of shape {array.shape}."
        )
    array = array.astype(np.int64, copy=False)
    if array.size and (array.min() < 0 or array.max() >= size):
        raise IndexError(f"`indices` must be in [0, {size}), got {array.min()} to {array.max()}.")
    return array


def to_batch(
    video: npt.NDArray[np.uint8], labels: dict[str, npt.NDArray[Any]], as_bytes: bool = False
) -> VideoBatch:
    """Tensors of bytes `(B, T, C, H, W)`, divided by 255 unless asked for as bytes, and of their labels."""
    frames = torch.from_numpy(video)
    if not as_bytes:
        frames = frames.to(torch.float32).div_(255)
    tensors = {name: torch.from_numpy(value) for name, value in labels.items() if name in VideoBatch._fields}
    return VideoBatch(frames, **tensors)


def as_label(name: str, value: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """`value` in the type that the label `name` has in memory; text may be UTF-8.

    Raises:
        DataError: if it is of another kind.
    """
    dtype = LABEL_TYPES[name]
    kinds, wanted = _CONVERTIBLE[dtype]
    if value.dtype.kind not in kinds:
        raise DataError(f"`{name}` must be {wanted}, got {value.dtype}.")
    if value.dtype.kind == "S":
        try:
            return np.char.decode(value, "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"`{name}` must be UTF-8 ({error}).") from error
    if dtype == np.int64 and value.size and value.max() > np.iinfo(np.int64).max:
        raise DataError(f"`{name}` must be less than 2^63, got {value.max()}.")
    if dtype == np.uint8 and value.size and not 0 <= value.min() <= value.max() <= 255:
        raise DataError(f"`{name}` must be in [0, 255], got {value.min()} to {value.max()}.")
    # What overflows becomes infinite, and is reported as that.
    with np.errstate(over="ignore"):
        return value.astype(dtype)


def video_problems(video: object) -> list[str]:
    """What keeps `video` from being the frames of a data set; empty if nothing does."""
    if not isinstance(video, np.ndarray) or video.dtype != np.uint8:
        kind = video.dtype if isinstance(video, np.ndarray) else type(video).__name__
        return [f"`video` must be a numpy array of uint8, got {kind}."]
    return shape_problems(video.shape)


def shape_problems(shape: tuple[int, ...]) -> list[str]:
    """What is wrong with `shape` as the shape of `video`; empty if nothing is."""
    if len(shape) != 5:
        return [
            f"`video` must have 5 dimensions (videos, frames, channels, height, width), got shape {shape}."
        ]
    if 0 in shape:
        return [f"`video` is empty: shape {shape} (videos, frames, channels, height, width)."]
    if shape[2] > 4:
        return [
            f"`video` must have 1 to 4 channels, got {shape[2]}: in shape {shape} the channels are the third "
            "dimension, before height and width."
        ]
    return []


def label_problems(labels: dict[str, npt.NDArray[Any]], shape: tuple[int, ...]) -> list[str]:
    """What is wrong with `labels` of a video of `shape` = (M, T, C, H, W); empty if nothing is."""
    videos, frames, _, height, width = shape
    slots = next(
        (str(labels[name].shape[axis]) for name, axis in _SLOT_AXES if _has_axis(labels, name, axis)), "N"
    )
    expected = {
        "count": f"({videos}, {frames})",
        "classes": f"({videos}, {slots})",
        "boxes": f"({videos}, {frames}, {slots}, 4)",
        "visible": f"({videos}, {frames}, {slots})",
        "groups": f"({videos},)",
        "names": f"({videos},)",
        "regions": f"({videos}, 4)",
        "segments": f"({videos}, {frames}, {height}, {width})",
    }
    problems = []
    for name, value in labels.items():
        wanted = np.dtype(LABEL_TYPES[name])
        if not isinstance(value, np.ndarray) or not _has_type(value, wanted):
            kind = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
            problems.append(f"`{name}` must be a numpy array of {wanted.name}, got {kind}.")
        elif str(value.shape) != expected[name]:
            problems.append(
                f"`{name}` must have shape {expected[name]} to agree with `video`, got {value.shape}."
            )
        else:
            problems.extend(_value_problems(name, value))
    if not problems and slots != "N":
        for name, what in (("count", "objects in a frame"), ("segments", "objects")):
            if name in labels and labels[name].max(initial=0) > int(slots):
                problems.append(f"`{name}` has {labels[name].max()} {what}, the other labels only {slots}.")
    return problems


_SLOT_AXES = (("classes", 1), ("boxes", 2), ("visible", 2))


def _has_axis(labels: dict[str, npt.NDArray[Any]], name: str, axis: int) -> bool:
    return isinstance(labels.get(name), np.ndarray) and labels[name].ndim > axis


def _has_type(value: npt.NDArray[Any], dtype: np.dtype[Any]) -> bool:
    # Text may have any length, which belongs to numpy's type.
    return value.dtype.kind == "U" if dtype.kind == "U" else value.dtype == dtype


def _value_problems(name: str, value: npt.NDArray[Any]) -> list[str]:
    if not value.size:
        return []
    if name in ("count", "groups") and value.min() < 0:
        return [f"`{name}` must not be negative, got {value.min()}."]
    if name == "classes" and value.min() < -1:
        return [f"`classes` must be at least -1 (no object), got {value.min()}."]
    if name in ("boxes", "visible", "regions") and not np.isfinite(value).all():
        return [f"`{name}` must be finite, got NaN or infinity."]
    if name == "boxes" and value[..., 2:].min() < 0:
        return [f"`boxes` must have widths and heights that are not negative, got {value[..., 2:].min():g}."]
    if name == "regions" and (not value[:, 2].all() or value[:, 3].min() <= 0):
        return ["`regions` must have widths other than 0 and positive heights."]
    if name == "visible" and (value.min() < 0 or value.max() > 1):
        return [f"`visible` must be in [0, 1], got {value.min():g} to {value.max():g}."]
    return []
