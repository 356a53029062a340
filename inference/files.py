"""Files that a reader finds whole, whenever the writer is killed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

__all__ = ["atomic_write"]


@contextmanager
def atomic_write(path: str | Path) -> Iterator[BinaryIO]:
    """Write a binary file so that `path` holds either its old content or all of the new one.

    The content goes to a temporary file in the same folder, is forced to the disk, and then takes the name
    `path` in one operation of the file system. The temporary file has a fixed name (`.NAME.tmp`), so what a
    killed process leaves behind is overwritten by the next writer; two processes must not write one file.

    Args:
        path: the file to write; its folder is created where it is missing.

    Yields:
        the open temporary file. If the block raises, `path` is left as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _force_rename_to_disk(path.parent)


def _force_rename_to_disk(folder: Path) -> None:
    if os.name != "posix":  # elsewhere a folder cannot be opened
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
