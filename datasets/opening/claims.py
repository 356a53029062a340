"""What a file says that it holds, against what it can hold; and what decoders say about damaged data."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from ...checks import UserError
from ..errors import DataError

LIMIT = 8 * 2**30
"""Bytes that are read into memory at once, unless another limit is given: 8 GiB."""

DEFLATE_RATIO = 1100
"""More than deflate reaches, which PNG, HDF5, gzip and zip use; its best is 1032."""

UNSUSPICIOUS = 64 * 2**20
"""So many bytes of memory may be claimed by a file of any size: 64 MiB."""


def check_claim(
    what: str,
    claimed: int,
    stored: int,
    limit: float = LIMIT,
    ratio: float = DEFLATE_RATIO,
    unsuspicious: int = UNSUSPICIOUS,
) -> None:
    """Refuses data that are too large for memory, or for the file that claims to hold them.

    Call it with sizes from a file's header, before anything of that size is made.

    Args:
        what: takes the memory, for the message.
        claimed: bytes that it takes in memory.
        stored: bytes of the file, or of its part, that it is read from.
        limit: most bytes that are read into memory at once; `math.inf` for what is read bit by bit.
        ratio: of `claimed` to `stored`, that no file of this kind exceeds.
        unsuspicious: up to which the ratio does not matter.

    Raises:
        DataError: if `claimed` is too great; the message does not name the file.
    """
    if claimed > max(ratio * stored, unsuspicious):
        raise DataError(
            f"{what} would take {in_words(claimed)} of memory, but only {in_words(stored)} are stored; the "
            "file is damaged or misleading."
        )
    if claimed > limit:
        raise DataError(
            f"{what} takes {in_words(claimed)} of memory, more than the limit of {in_words(limit)}."
        )


def in_words(size: float) -> str:
    """A number of bytes for people to read, with three digits."""
    if size < 1024:
        return f"{size:,} bytes"
    for unit in ("KiB", "MiB", "GiB"):
        size /= 1024
        if size < 1024:
            return f"{size:.3g} {unit}"
    return f"{size / 1024:.3g} TiB"


@contextmanager
def as_data_error(what: str) -> Iterator[None]:
    """Turns whatever a decoder raises on damaged data into a `DataError`: `what` and the decoder's reason.

    Decoders raise what their authors did not foresee: `struct.error`, `TypeError`, `AttributeError`, ...
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DataError(f"{what} ({reason}).") from error


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Lets the `DataError` of a block begin with the path of the file it is about."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
