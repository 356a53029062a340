"""Files that a reader finds whole, whenever the writer is killed; and what video files need."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from .checks import MissingPackageError

__all__ = ["atomic_path", "atomic_write", "import_av", "user_path"]


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside `path`, whose file takes the name `path` when the block succeeds.

    The content is forced to the disk and then renamed in one operation of the file system, so `path`
    holds either its old content or all of the new one. The temporary file has a fixed name
    (`.NAME.tmp`): what a killed process leaves behind is overwritten by the next writer, and two
    processes must not write one file.

    Args:
        path: the file to write; its folder is created where it is missing. An existing file keeps its
            permissions.

    Yields:
        the temporary path; there is no file yet. If the block raises, `path` is left as it was.

    Raises:
        OSError: the folder cannot be written to.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        yield temporary
        _force_to_disk(temporary)
        if target.exists():
            temporary.chmod(target.stat().st_mode & 0o777)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # elsewhere a folder cannot be opened
        _force_to_disk(target.parent)


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a binary file for writing; `path` changes only when the block succeeds, see `atomic_path`."""
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        yield file


def user_path(path: str | os.PathLike[str]) -> Path:
    """The path, `~` at its beginning being the user's home; shells leave it alone in `--output=~/x`."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # no such user
        return Path(path)


def import_av() -> Any:
    """PyAV, which reads and writes video files, and need not be installed.

    Raises:
        MissingPackageError: if it is not.
    """
    try:
        import av
    except ImportError as error:
        raise MissingPackageError("video files need PyAV: pip install 'whatwhere[video]'.") from error
    return av


def _force_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
