"""HDF5 files of which nothing outside is read."""

import errno
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ...files import user_path
from ..errors import DataError
from .claims import LIMIT, as_data_error, check_claim

HDF5_SUFFIXES = (".h5", ".hdf5")
"""Ends of the names of HDF5 files."""

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_LINKS = 16  # links to links, after which they are taken for a circle
_ATTRIBUTE_VALUES = 1000


def open_file(path: str | os.PathLike[str]) -> h5py.File:
    """The file, opened for reading; a block of the user's own bytes may come before its contents.

    Raises:
        DataError: if there is none, it is no HDF5 file, locked, truncated or damaged. The message does not
            name the file.
    """
    path = user_path(path)
    if not path.is_file():
        raise DataError("expected an HDF5 file, found a folder." if path.is_dir() else "no such file.")
    with as_data_error("cannot be opened"):
        if not _has_signature(path):
            raise DataError("not an HDF5 file.")
    try:
        return h5py.File(path, "r")
    except PermissionError as error:
        raise DataError("cannot be read, permission denied.") from error
    except BlockingIOError as error:
        raise DataError("is locked: another program is writing to it.") from error
    except Exception as error:  # whatever the library makes of damaged data
        if getattr(error, "errno", None) in (errno.EAGAIN, errno.EACCES) or "unable to lock" in str(error):
            raise DataError("is locked: another program is writing to it.") from error
        reason = str(error).partition("(")[2].removesuffix(")") or error  # without what h5py was about to do
        raise DataError(f"cannot be opened, the file is truncated or damaged ({reason}).") from error


def find_dataset(file: h5py.File, name: str) -> h5py.Dataset | None:
    """A dataset whose values are all in the file itself; None if nothing has this name.

    Raises:
        DataError: if it is no dataset; is, or would be, read from another file; if a filter is missing that
            it was compressed with; or if the file is too small for it. The message does not name the file.
    """
    with as_data_error(f"`{name}` cannot be read, the file is damaged"):
        found = _follow(file, file, name, _LINKS)
        if found is None:
            return None
        if not isinstance(found, h5py.Dataset):
            raise DataError(f"`{name}` must be a dataset with values.")
        if found.is_virtual or found.external:
            raise DataError(f"`{name}` is stored in other files, which are not read.")
        _check_filters(found, name)
        stored = Path(file.filename).stat().st_size
        check_claim(f"`{name}`", math.prod(found.shape or ()) * found.dtype.itemsize, stored, math.inf)
        if found.chunks:
            check_claim(f"A chunk of `{name}`", math.prod(found.chunks) * found.dtype.itemsize, stored)
        return found


def read_values(dataset: h5py.Dataset, name: str, limit: float = LIMIT) -> np.ndarray:
    """All values of a dataset that `find_dataset` has found; texts of any length become numpy's bytes.

    Raises:
        DataError: if there are none, they cannot be read, or take more than `limit` bytes. The message does
            not name the file.
    """
    if dataset.shape is None:
        raise DataError(f"`{name}` must be a dataset with values.")
    stored = Path(dataset.file.filename).stat().st_size
    check_claim(f"`{name}`", math.prod(dataset.shape) * dataset.dtype.itemsize, stored, limit)
    with as_data_error(f"`{name}` cannot be read, the file is damaged"):
        values = np.asarray(dataset[()])
    if not h5py.check_string_dtype(dataset.dtype):
        return values
    longest = max(map(len, values.flat), default=0) if values.dtype.hasobject else values.itemsize
    check_claim(f"`{name}`", 4 * longest * values.size, stored, limit)
    return values.astype(np.bytes_)


def read_attributes(file: h5py.File) -> dict[str, Any]:
    """The attributes of a file as Python's values; those of one element as that, long ones not at all.

    Raises:
        DataError: if the file is too damaged to list them. The message does not name it.
    """
    with as_data_error("the attributes cannot be read, the file is damaged"):
        return dict(_attributes(file))


def _attributes(file: h5py.File) -> Iterator[tuple[str, Any]]:
    for name in file.attrs:
        try:
            if file.attrs.get_id(name).get_space().get_simple_extent_npoints() > _ATTRIBUTE_VALUES:
                value: Any = "(too long to be read)"
            else:
                value = file.attrs[name]
        except Exception as error:  # a type that neither h5py nor numpy has, or damaged data
            value = f"(cannot be read: {error})"
        yield _readable(name), _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.item() if value.size == 1 else value.tolist())
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return _readable(value) if isinstance(value, str) else value


def _readable(text: str) -> str:
    """Text that can be printed: what is not UTF-8 in the file h5py keeps as surrogates."""
    return str(text).encode(errors="replace").decode()


def _check_filters(dataset: h5py.Dataset, name: str) -> None:
    properties = dataset.id.get_create_plist()
    for number in range(properties.get_nfilters()):
        code, _, _, title = properties.get_filter(number)
        if not h5py.h5z.filter_avail(code):
            called = title.decode(errors="replace") or f"number {code}"
            raise DataError(f"`{name}` is compressed by the filter {called}, which is not installed.")


def _follow(file: h5py.File, group: h5py.Group, path: str, links: int) -> Any:
    """What is at a path, by way of links within the file only; None if nothing is."""
    here: Any = file if path.startswith("/") else group
    for name in (part for part in path.split("/") if part not in ("", ".")):
        encoded = name.encode(errors="surrogateescape")
        # Not `name in here`, which would open the file that a link leads to.
        if not isinstance(here, h5py.Group) or not here.id.links.exists(encoded):
            return None
        kind = here.id.links.get_info(encoded).type
        if kind == h5py.h5l.TYPE_HARD:
            here = here[name]
        elif kind == h5py.h5l.TYPE_SOFT and links:
            inside = here.id.links.get_val(encoded).decode(errors="surrogateescape")
            here = _follow(file, here, inside, links - 1)
        else:
            where = "in a circle" if kind == h5py.h5l.TYPE_SOFT else "to another file, which is not read"
            raise DataError(f"`{name}` is a link {where}.")
    return here


def _has_signature(path: Path) -> bool:
    """Whether the signature is at byte 0, 512, 1024, 2048, ..., after which the contents begin."""
    size, place = path.stat().st_size, 0
    with open(path, "rb") as stream:
        while place < size:
            stream.seek(place)
            if stream.read(len(_SIGNATURE)) == _SIGNATURE:
                return True
            place = 2 * place or 512
    return False
