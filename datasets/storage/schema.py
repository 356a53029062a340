"""The schema of data sets in HDF5 files, and reading what is close to it.

A file has the datasets

- `video`: uint8 `(M, T, C, H, W)`, 0 black and 255 white;
- `count`, `classes`, `boxes`, `visible`, `groups`, `names`, `regions`, `segments` (each optional): the labels
  of `VideoData`, with its shapes and types; `names` are strings in UTF-8;

and the attributes `schema` (`"whatwhere/video"`), `schema_version` (1), `package_version`, `generator` (what
made the data), `parameters` (of the generator, JSON) and `seed` (absent if nothing was drawn).

Files that others wrote are read too, with or without attributes: pixels may be float32 or float64 in [0, 1],
which are rounded to the nearest of 256 grey values; a dataset `images` of shape (M, H, W) or (M, C, H, W), in
the place of `video`, holds still images (T = 1), and their labels may lack the axis T; labels may be of any
integer type, boxes and `visible` of any real type, `names` strings of a fixed length.
"""

import json
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from ..errors import DataError
from ..opening.claims import as_data_error
from ..opening.hdf5 import find_dataset, read_attributes, read_values
from .video import FRAME_LABELS, LABEL_TYPES, as_label, label_problems, shape_problems

SCHEMA = "whatwhere/video"
"""What the attribute `schema` says."""
SCHEMA_VERSION = 1
"""The version of the schema that is written, and the newest that is read."""

_BLOCK_BYTES = 32 * 1024**2


class Source:
    """An open file whose datasets are brought to the schema as they are read.

    Raises:
        DataError: if the attributes or the layout of the pixels are not as the schema says. The messages of
            this class name the dataset only.
    """

    def __init__(self, file: h5py.File) -> None:
        self.file = file
        self.attributes = read_attributes(file)
        _check_schema(self.attributes)
        datasets = {name: find_dataset(file, name) for name in ("video", "images")}
        present = {name: dataset for name, dataset in datasets.items() if dataset is not None}
        if len(present) != 1:
            with as_data_error("cannot be read, the file is damaged"):
                found = "both" if present else f"neither, only {sorted(map(str, file))}"
            raise DataError(f"expected a dataset `video` (or `images`, of still images), found {found}.")
        ((self.name, self.pixels),) = present.items()
        if self.pixels.dtype.newbyteorder("=") not in (np.uint8, np.float32, np.float64):
            raise DataError(f"`{self.name}` must be uint8, float32 or float64, got {self.pixels.dtype}.")
        self.shape = _five_dimensions(self.name, tuple(int(n) for n in self.pixels.shape or ()))
        for problem in shape_problems(self.shape):
            raise DataError(problem)

    @property
    def chunk_frames(self) -> int:
        """How many frames of a video are stored together, so that one cannot be read without the others."""
        chunks = self.pixels.chunks
        return chunks[1] if chunks and self.name == "video" else 1

    def read(self, start: int, stop: int, frames: slice = slice(None)) -> npt.NDArray[np.uint8]:
        """Videos `start` to `stop - 1` as bytes `(n, T, C, H, W)`, or only some consecutive frames of each.

        Raises:
            DataError: if they cannot be read, or are real numbers out of [0, 1].
        """
        with as_data_error(f"`{self.name}` cannot be read, the file is damaged"):
            if self.name == "images":  # whose second axis may be that of channels
                values = self.pixels[start:stop].reshape(-1, *self.shape[1:])[:, frames]
            else:
                values = self.pixels[start:stop, frames]
        if values.dtype == np.uint8:
            return values
        # Written so that NaN fails too.
        bad = ~((values >= 0) & (values <= 1))
        if bad.any():
            video = start + int(np.argwhere(bad)[0, 0])
            raise DataError(
                f"`{self.name}` must have real values in [0, 1], got {values[bad][0]} in number {video}."
            )
        return np.rint(values * 255).astype(np.uint8)

    def blocks(self) -> Iterator[tuple[slice, npt.NDArray[np.uint8]]]:
        """All videos with their numbers, in pieces, so that floats need not all be in memory at once."""
        row = int(np.prod(self.shape[1:])) * self.pixels.dtype.itemsize
        step = max(1, _BLOCK_BYTES // row)
        for start in range(0, self.shape[0], step):
            part = slice(start, min(start + step, self.shape[0]))
            yield part, self.read(part.start, part.stop)

    def labels(self) -> dict[str, npt.NDArray[Any]]:
        """The labels in the file, in the types of the schema.

        Raises:
            DataError: if one is not as the schema says.
        """
        arrays, problems = self.convertible_labels()
        for problem in problems + label_problems(arrays, self.shape):
            raise DataError(problem)
        return arrays

    def problems(self) -> list[str]:
        """All that is wrong with pixels, labels and parameters, found by reading every byte."""
        problems = []
        try:
            for _ in self.blocks():
                pass
        except DataError as error:
            problems.append(str(error))
        arrays, unreadable = self.convertible_labels()
        problems += unreadable + label_problems(arrays, self.shape)
        try:
            json.loads(self.attributes.get("parameters", "{}"))
        except (TypeError, ValueError, RecursionError) as error:
            problems.append(f"attribute `parameters` must be JSON ({error}).")
        return problems

    def convertible_labels(self) -> tuple[dict[str, npt.NDArray[Any]], list[str]]:
        """The labels whose types can be converted to the schema's, and what is wrong with the others."""
        arrays, problems = {}, []
        for name in LABEL_TYPES:
            try:
                if (dataset := find_dataset(self.file, name)) is not None:
                    arrays[name] = self._label(name, dataset)
            except DataError as error:
                problems.append(str(error))
        return arrays, problems

    def _label(self, name: str, dataset: h5py.Dataset) -> npt.NDArray[Any]:
        value = as_label(name, read_values(dataset, name))
        if self.name == "images" and value.ndim == FRAME_LABELS.get(name, 0) - 1:
            return value[:, None]
        return value


def _five_dimensions(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape (M, T, C, H, W) of pixels that are stored in `shape`."""
    if name == "video":
        if len(shape) != 5:
            raise DataError(
                "`video` must have 5 dimensions (videos, frames, channels, height, width), "
                f"got shape {shape}; still images belong into a dataset `images`."
            )
        return shape
    if len(shape) not in (3, 4):
        raise DataError(
            "`images` must have dimensions (images, height, width) or (images, channels, height, width), "
            f"got shape {shape}."
        )
    return (shape[0], 1, 1, *shape[1:]) if len(shape) == 3 else (shape[0], 1, *shape[1:])


def _check_schema(attributes: dict[str, Any]) -> None:
    schema = attributes.get("schema", SCHEMA)
    if schema != SCHEMA:
        raise DataError(f"attribute `schema` must be {SCHEMA!r}, got {schema!r}.")
    version = attributes.get("schema_version", SCHEMA_VERSION)
    if not isinstance(version, int) or not 1 <= version <= SCHEMA_VERSION:
        raise DataError(
            f"attribute `schema_version` must be a number from 1 to {SCHEMA_VERSION}, got {version!r}; "
            "a newer version of this package may be able to read the file."
        )
