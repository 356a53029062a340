"""Data sets in HDF5 files, whose contents `schema` defines: written atomically, read whole or in batches."""

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import h5py
import numpy as np
import numpy.typing as npt

from ..._version import __version__
from ...files import atomic_path, user_path
from ..errors import DataError
from ..opening.claims import LIMIT, check_claim, naming
from ..opening.hdf5 import open_file
from .schema import SCHEMA, SCHEMA_VERSION, Source
from .video import Indices, VideoBatch, VideoData, as_indices, to_batch

PART_BYTES = 64 * 1024**2
"""How much of a data set is in memory while its file is written part by part."""

# Random access reads a whole chunk for one video, while small chunks compress badly.
_CHUNK_BYTES = 16 * 1024
_MAX_CHUNK_BYTES = 1024 * 1024
_MAX_ATTRIBUTE_BYTES = 60_000


def save_video(
    path: str | os.PathLike[str],
    data: VideoData,
    *,
    generator: str = "",
    parameters: Mapping[str, Any] | None = None,
    seed: int | None = None,
) -> None:
    """Writes a data set; a file that was at `path` is replaced only once the new one is complete.

    Args:
        path: the file; its folder is made if need be.
        data: videos and labels.
        generator: what made the data, for instance the name of a recipe.
        parameters: its parameters; must be representable as JSON.
        seed: its seed, if it has one; 0 <= seed < 2^64.

    Raises:
        OSError: if the file cannot be written.
        TypeError: if `parameters` cannot be represented as JSON.
        ValueError: if `parameters` take more than 60 kB as JSON, more than HDF5 allows for an attribute.
    """
    save_video_parts(path, (data,), generator=generator, parameters=parameters, seed=seed)


def save_video_parts(
    path: str | os.PathLike[str],
    parts: Iterable[VideoData],
    *,
    generator: str = "",
    parameters: Mapping[str, Any] | None = None,
    seed: int | None = None,
) -> None:
    """Writes a data set that is too large for memory: `parts` are taken and written one after the other.

    Args:
        path: as in `save_video`.
        parts: consecutive parts of the data set, with the same labels and, but for the number of videos, the
            same shapes.
        generator: as in `save_video`.
        parameters: as in `save_video`.
        seed: as in `save_video`.

    Raises:
        OSError: if the file cannot be written.
        TypeError: if `parameters` cannot be represented as JSON.
        ValueError: as in `save_video`, or if there are no parts, or they do not fit together.
    """
    encoded = json.dumps(dict(parameters or {}))
    if len(encoded) > _MAX_ATTRIBUTE_BYTES:
        raise ValueError(
            f"`parameters` take {len(encoded)} bytes as JSON, at most {_MAX_ATTRIBUTE_BYTES} fit."
        )
    attributes: dict[str, Any] = {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "package_version": __version__,
        "generator": generator,
        "parameters": encoded,
    }
    if seed is not None:
        attributes["seed"] = np.uint64(seed)
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        for part in parts:
            _append(file, {"video": part.video, **part.labels()})
        if not len(file):
            raise ValueError("`parts` must be at least one, got none.")
        file.attrs.update(attributes)


class Videos(Protocol):
    """Videos of one shape, wherever they are: in memory, in a file, or made when they are asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """`(M, T, C, H, W)`."""

    def subset(self, indices: Indices) -> VideoData:
        """Those at `indices`, in memory."""


def in_parts(data: Videos) -> Iterator[VideoData]:
    """All videos in order, for `save_video_parts`: as many at a time as `PART_BYTES` hold."""
    step = part_length(data.shape)
    for start in range(0, data.shape[0], step):
        yield data.subset(range(start, min(start + step, data.shape[0])))


def part_length(shape: tuple[int, ...]) -> int:
    """How many videos of `shape` = (M, T, C, H, W) `PART_BYTES` hold, at least 1."""
    return max(1, PART_BYTES // math.prod(shape[1:]))


def load_video(path: str | os.PathLike[str], *, limit: float = LIMIT) -> VideoData:
    """Reads a whole data set into memory.

    Args:
        path: the file.
        limit: most bytes that its videos may have, 8 GiB; a `VideoStore` reads what is larger.

    Raises:
        DataError: if the file cannot be read or breaks the schema, or the videos are larger; the message
            names file, dataset and problem.
    """
    with naming(path), open_file(path) as file:
        source = Source(file)
        check_claim(f"`{source.name}`", math.prod(source.shape), os.path.getsize(file.filename), limit)
        labels = source.labels()
        video = np.empty(source.shape, dtype=np.uint8)
        for part, block in source.blocks():
            video[part] = block
        return VideoData(video, **labels)


class VideoStore:
    """A data set that stays in its file, for data larger than memory; a batch is read when it is asked for.

    It can be pickled and shared with worker processes, forked or spawned: each opens the file for itself.
    Layout and labels are checked at construction, pixels when they are read.

    Raises:
        DataError: if the file cannot be read or breaks the schema; the message names file, dataset and
            problem.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = user_path(path)
        with naming(path), open_file(path) as file:
            source = Source(file)
            self.shape, self.chunk_frames = source.shape, source.chunk_frames
            self._labels = source.labels()
        self._source: Source | None = None
        self._process = 0

    def __len__(self) -> int:
        return self.shape[0]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_source": None}

    def labels(self) -> dict[str, npt.NDArray[Any]]:
        """The labels that exist, by name; they are in memory."""
        return dict(self._labels)

    def close(self) -> None:
        """Closes the file; the next batch opens it again."""
        if self._source is not None and self._process == os.getpid():
            self._source.file.close()
        self._source = None

    def batch(self, indices: Indices) -> VideoBatch:
        """The videos at `indices` as tensors on the CPU, grey values in [0, 1].

        Raises:
            IndexError: if an index is out of range.
            DataError: if the pixels cannot be read or are out of range.
        """
        return to_batch(*self._read(as_indices(indices, len(self))))

    def subset(self, indices: Indices) -> VideoData:
        """The videos at `indices` as bytes in memory, in that order.

        Raises:
            IndexError: if an index is out of range.
            DataError: if `indices` is empty, or the pixels cannot be read or are out of range.
        """
        video, labels = self._read(as_indices(indices, len(self)))
        return VideoData(video, **labels)

    def frames(self, index: int, stop: int | None = None, start: int = 0) -> npt.NDArray[np.uint8]:
        """The frames of one video, `start` to `stop - 1`, as bytes `(T, C, H, W)`; all of them by default.

        Raises:
            IndexError: if `index` is out of range.
            DataError: if the pixels cannot be read or are out of range.
        """
        (row,) = as_indices([index], len(self)).tolist()
        with naming(self.path):
            return self._open().read(row, row + 1, slice(start, stop))[0]

    def _read(
        self, where: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.uint8], dict[str, npt.NDArray[Any]]]:
        unique, inverse = np.unique(where, return_inverse=True)
        video = np.empty((len(unique), *self.shape[1:]), dtype=np.uint8)
        with naming(self.path):
            source = self._open()
            # One by one: h5py's selection of a list of rows takes ten times as long.
            for row, index in enumerate(unique.tolist()):
                video[row] = source.read(index, index + 1)[0]
        return video[inverse], {name: value[where] for name, value in self._labels.items()}

    def _open(self) -> Source:
        # A handle that came with a fork belongs to the parent.
        if self._source is None or self._process != os.getpid():
            self._source, self._process = Source(open_file(self.path)), os.getpid()
        return self._source


class Report(NamedTuple):
    """What `check` found in a file."""

    path: str
    """The file."""
    problems: list[str]
    """What is wrong with it, each with the name of the dataset; empty if it is valid."""
    shapes: dict[str, tuple[int, ...]]
    """Shapes of the datasets that could be read, `video` as `(M, T, C, H, W)`."""
    attributes: dict[str, Any]
    """Attributes of the file."""

    def __str__(self) -> str:
        lines = [f"{self.path}: {'not valid' if self.problems else 'valid'}"]
        lines += [f"  problem: {problem}" for problem in self.problems]
        lines += [f"  {name}: {shape}" for name, shape in self.shapes.items()]
        lines += [f"  {name} = {value}" for name, value in self.attributes.items()]
        return "\n".join(lines)


def check(path: str | os.PathLike[str]) -> Report:
    """Reads every byte of a file and reports all that is wrong with it; bad data raise nothing."""
    try:
        with naming(path), open_file(path) as file:
            source = Source(file)
            labels, _ = source.convertible_labels()
            shapes = {"video": source.shape, **{name: value.shape for name, value in labels.items()}}
            return Report(str(path), source.problems(), shapes, source.attributes)
    except DataError as error:
        return Report(str(path), [str(error).removeprefix(f"{path}: ")], {}, {})


def _append(file: h5py.File, arrays: dict[str, npt.NDArray[Any]]) -> None:
    """Adds videos and labels to those that are in the file, or makes the datasets if there are none."""
    if not len(file):
        for name, value in arrays.items():
            pixels = name == "video"
            file.create_dataset(
                name,
                data=_storable(value),
                maxshape=(None, *value.shape[1:]),
                chunks=_chunks(value.shape) if pixels else True,
                compression="gzip" if pixels else None,
                compression_opts=4 if pixels else None,
            )
        return
    found, expected = ({name: x.shape[1:] for name, x in y.items()} for y in (arrays, file))
    if found != expected:
        raise ValueError(f"`parts` must be alike: the first has {expected} for a video, another {found}.")
    for name, value in arrays.items():
        start = len(file[name])
        file[name].resize(start + len(value), axis=0)
        file[name][start:] = _storable(value)


def _storable(value: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Strings of any length, which a later part may need, in the place of numpy's strings of one length."""
    return value.astype(h5py.string_dtype()) if value.dtype.kind == "U" else value


def _chunks(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Chunks of several small videos, or of some frames of one large video."""
    frame = int(np.prod(shape[2:]))
    video = frame * shape[1]
    videos = max(1, min(shape[0], _CHUNK_BYTES // video))
    frames = max(1, min(shape[1], _MAX_CHUNK_BYTES // frame))
    return (videos, frames, *shape[2:])
