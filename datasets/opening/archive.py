"""Arrays of `.npz` archives, whole or row by row."""

import math
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from ..errors import DataError
from .claims import LIMIT, as_data_error, check_claim

_BLOCK_BYTES = 2**20


class Header(NamedTuple):
    """What an archive claims of an array."""

    shape: tuple[int, ...]
    fortran: bool
    """The first axis runs fastest."""
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """How many bytes its values have."""
        return math.prod(self.shape) * self.dtype.itemsize


class Archive:
    """An `.npz` archive that is open.

    Messages of its errors do not name the file.
    """

    def __init__(self, file: zipfile.ZipFile, size: int) -> None:
        self._file, self._size = file, size
        self._members = {
            info.filename.removesuffix(".npy"): info for info in file.infolist() if not info.is_dir()
        }

    @property
    def names(self) -> list[str]:
        """The names of the arrays."""
        return list(self._members)

    def header(self, name: str) -> Header:
        """Shape and type of an array.

        Raises:
            DataError: if they cannot be read, or the file cannot hold such an array.
        """
        with self._opened(name) as (_, header):
            return header

    def read(self, name: str, limit: float = LIMIT) -> npt.NDArray[Any]:
        """An array.

        Args:
            name: what it is called.
            limit: most bytes that it may have.

        Raises:
            DataError: if it cannot be read, or is larger.
        """
        with self._opened(name) as (stream, header):
            check_claim(f"`{name}`", header.nbytes, self._size, limit)
            flat = np.empty(math.prod(header.shape), header.dtype)
            _fill(stream, flat)
            return flat.reshape(header.shape, order="F" if header.fortran else "C")

    def rows(self, name: str, depth: int, start: int, stop: int) -> Iterator[npt.NDArray[Any]]:
        """Rows `start` to `stop - 1` of an array, each read when it is asked for.

        An array of which the first axis runs fastest is copied to a temporary file.

        Args:
            name: what the array is called.
            depth: how many of the first axes are those of rows.
            start: the first row, counted over all these axes.
            stop: the one to stop before.

        Raises:
            DataError: if they cannot be read.
        """
        with self._opened(name) as (stream, header):
            if header.fortran and len(header.shape) > 1:
                yield from _fortran_rows(stream, header, depth, start, stop)
                return
            _skip(stream, start * math.prod(header.shape[depth:]) * header.dtype.itemsize)
            for _ in range(start, stop):
                row = np.empty(math.prod(header.shape[depth:]), header.dtype)
                _fill(stream, row)
                yield row.reshape(header.shape[depth:])

    @contextmanager
    def _opened(self, name: str) -> Iterator[tuple[IO[bytes], Header]]:
        """The stream of an array's values, and what it claims."""
        info = self._members[name]
        with as_data_error(f"`{name}` cannot be read from an .npz archive"):
            check_claim(f"`{name}`", info.file_size, info.compress_size, math.inf)
            with self._file.open(info) as stream:
                header = _read_header(stream, name)
                if header.nbytes > info.file_size:
                    raise DataError(
                        f"`{name}` claims shape {header.shape} of {header.dtype}, {header.nbytes} bytes, but "
                        f"has {info.file_size}."
                    )
                yield stream, header


@contextmanager
def open_archive(path: str | os.PathLike[str]) -> Iterator[Archive]:
    """An `.npz` archive.

    Raises:
        DataError: if it cannot be read. The message does not name the file.
    """
    with as_data_error("cannot be read from an .npz archive"), open(path, "rb") as stream:
        if stream.read(len(npy.MAGIC_PREFIX)) == npy.MAGIC_PREFIX:
            raise DataError("expected an .npz archive, found a single array.")
        size = stream.seek(0, os.SEEK_END)
        with zipfile.ZipFile(stream) as file:
            yield Archive(file, size)


def read_archive(
    path: Path, choose: Callable[[list[str]], list[str]] = list, limit: float = LIMIT
) -> dict[str, npt.NDArray[Any]]:
    """Arrays of an `.npz` archive by name: those that `choose` picks from the names, in its order.

    Raises:
        DataError: if they cannot be read, or are larger than `limit` bytes. The message does not name the
            file.
    """
    with open_archive(path) as archive:
        arrays: dict[str, npt.NDArray[Any]] = {}
        for name in choose(archive.names):
            arrays[name] = archive.read(name, limit)
            limit -= arrays[name].nbytes
        return arrays


def _read_header(stream: IO[bytes], name: str) -> Header:
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    version = npy.read_magic(stream)
    if version not in readers:
        raise DataError(f"`{name}` must have the .npy format 1.0 or 2.0, got {version[0]}.{version[1]}.")
    header = Header(*readers[version](stream))
    if any(isinstance(length, bool) or length < 0 for length in header.shape):
        raise DataError(f"`{name}` must have lengths of axes, got shape {header.shape}.")
    if header.dtype.hasobject:
        raise DataError(f"`{name}` cannot be read from an .npz archive, it holds Python objects.")
    return header


def _fill(stream: IO[bytes], values: npt.NDArray[Any]) -> None:
    """Reads values into a contiguous array of one axis."""
    rest = memoryview(values.view(np.uint8).data) if values.nbytes else memoryview(b"")
    while rest:
        read = stream.read(min(len(rest), _BLOCK_BYTES))
        if not read:
            raise EOFError("the file is truncated")
        rest[: len(read)] = read
        rest = rest[len(read) :]


def _skip(stream: IO[bytes], size: int) -> None:
    while size and (read := stream.read(min(size, _BLOCK_BYTES))):
        size -= len(read)


def _fortran_rows(
    stream: IO[bytes], header: Header, depth: int, start: int, stop: int
) -> Iterator[npt.NDArray[Any]]:
    with tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(stream, copy, _BLOCK_BYTES)
        copy.flush()
        values = np.memmap(copy, header.dtype, "r", 0, header.shape, "F")
        for row in range(start, stop):
            yield np.array(values[np.unravel_index(row, header.shape[:depth])])
