"""Several data sets in HDF5 files become one."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from .store import VideoStore, part_length
from .video import FRAME_LABELS, LABEL_TYPES, VideoData

# Which axis of a label is that of the slots for objects.
_SLOT_AXES = {"classes": 1, "boxes": 2, "visible": 2}


class JoinedVideos:
    """The videos of several files, one file after the other, with frames of one size.

    - T is the greatest of the files: shorter videos end with black frames without objects, see `VideoData`.
    - N, the number of slots for objects, is the greatest too: what is added is empty.
    - Labels that not all files have are left out.
    - `groups` count from 0, file by file, and in each file in the order of its own groups, so that no two
      files share one. A file without groups is one group.

    Only labels are in memory; frames are read part by part.

    Args:
        paths: the files, at least one.

    Raises:
        DataError: if a file cannot be read or breaks the schema, or two files have frames of different size
            or number of channels; the message names both.
        ValueError: if there are no files.
    """

    def __init__(self, paths: Sequence[str | os.PathLike[str]]) -> None:
        if not paths:
            raise ValueError("`paths` must be at least one file, got none.")
        self._stores = [VideoStore(path) for path in paths]
        first = self._stores[0]
        for store in self._stores[1:]:
            if store.shape[2:] != first.shape[2:]:
                raise DataError(
                    f"{store.path}: frames of {_frame(store)}, but {first.path} has {_frame(first)}."
                )
        videos, frames = sum(map(len, self._stores)), max(store.shape[1] for store in self._stores)
        self.shape: tuple[int, ...] = (videos, frames, *first.shape[2:])
        """`(M, T, C, H, W)`: number of videos, frames, channels, height, width."""
        labels = [store.labels() for store in self._stores]
        having = {name: sum(name in each for each in labels) for name in LABEL_TYPES if name != "groups"}
        self._kept = [name for name, files in having.items() if files == len(labels)]
        self.left_out = [name for name, files in having.items() if 0 < files < len(labels)]
        """The labels that some files have and others have not."""
        self._slots = max(
            (each[name].shape[axis] for each in labels for name, axis in _SLOT_AXES.items() if name in each),
            default=0,
        )
        self.groups = _distinct_groups(self._stores)
        """The groups of each file's videos; int64, `(M,)` for a file of M videos."""

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def paths(self) -> list[Path]:
        """The files."""
        return [store.path for store in self._stores]

    def parts(self) -> Iterator[VideoData]:
        """All videos in order, for `save_video_parts`: as many at a time as `PART_BYTES` hold.

        Raises:
            DataError: if pixels cannot be read or are out of range.
        """
        step = part_length(self.shape)
        for store, groups in zip(self._stores, self.groups, strict=True):
            for start in range(0, len(store), step):
                rows = np.arange(start, min(start + step, len(store)))
                yield self._padded(store.subset(rows), groups[rows])
            store.close()

    def _padded(self, data: VideoData, groups: npt.NDArray[np.int64]) -> VideoData:
        """Videos of the joined length and their labels, with the joined groups."""
        video = np.zeros((len(data), *self.shape[1:]), np.uint8)
        video[:, : data.shape[1]] = data.video
        labels = {name: self._padded_label(name, data.labels()[name]) for name in self._kept}
        return VideoData(video, **labels, groups=groups)

    def _padded_label(self, name: str, value: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if value.ndim == 1:
            return value
        shape = list(value.shape)
        if name in FRAME_LABELS:
            shape[1] = self.shape[1]
        if name in _SLOT_AXES:
            shape[_SLOT_AXES[name]] = self._slots
        padded = np.full(shape, -1 if name == "classes" else 0, value.dtype)
        padded[tuple(map(slice, value.shape))] = value
        return padded


def _frame(store: VideoStore) -> str:
    channels, height, width = store.shape[2:]
    return f"{width} x {height} pixels and {channels} channel{'s' * (channels > 1)}"


def _distinct_groups(stores: Sequence[VideoStore]) -> list[npt.NDArray[np.int64]]:
    """The groups of each file's videos `(M,)`, int64, consecutive over all files."""
    groups, start = [], 0
    for store in stores:
        own = store.labels().get("groups", np.zeros(len(store), np.int64))
        found, places = np.unique(own, return_inverse=True)
        groups.append(start + places.astype(np.int64))
        start += len(found)
    return groups
