"""Files that a reader finds whole, whenever the writer is killed; and what video files need."""

from __future__ import annotations

import errno
import itertools
import os
import platform
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from .checks import MissingPackageError

__all__ = ["atomic_path", "atomic_write", "import_av", "locked", "user_path"]


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside `path`, whose file takes the name `path` when the block succeeds.

    The content is forced to the disk and then renamed in one operation of the file system, so `path`
    holds either its old content or all of the new one. Every writer has a temporary file of its own
    (`.NAME.*.tmp`); what killed processes of this machine left behind is removed by the next writer.

    Args:
        path: the file to write, `~` being the user's home; its folder is created where it is missing. An
            existing file keeps its permissions. Of a symbolic link, the file that it leads to is written.

    Yields:
        the temporary path; there is no file yet. If the block raises, `path` is left as it was, and so are
        the folders that it is in.

    Raises:
        OSError: the folder cannot be written to, or `path` is a folder, a device or a pipe.
    """
    target = Path(os.path.realpath(user_path(path)))
    if target.exists() and not target.is_file():
        what = "a folder" if target.is_dir() else "no regular file"
        raise OSError(f"cannot write `{path}`: it is {what}")
    made = [folder for folder in target.parents if not folder.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_left_over(target)
    temporary = target.with_name(f"{_temporary_prefix(target)}{os.getpid()}-{next(_COUNTER)}.tmp")
    try:
        yield temporary
        _force_to_disk(temporary)
        if target.exists():
            with suppress(OSError):  # some network file systems have no permissions
                temporary.chmod(target.stat().st_mode & 0o777)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        with suppress(OSError):  # others have put something there
            for folder in made:
                folder.rmdir()
        raise
    with suppress(OSError):  # the file is in place; not every system can do this with a folder
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


@contextmanager
def locked(path: str | os.PathLike[str]) -> Iterator[None]:
    """Let one process at a time into the block; others wait. Where there are no locks of files, all go on.

    Args:
        path: a file that has no other use; it is created where it is missing, and stays.
    """
    with open(path, "ab") as file:
        with suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)  # until the file is closed
        yield


_COUNTER = itertools.count()
_UNABLE = (errno.EBADF, errno.EINVAL, errno.ENOTSUP, errno.EROFS)


def _temporary_prefix(target: Path) -> str:
    # Not all of a long name, and of the machine what tells its processes from those of others.
    machine = zlib.crc32(platform.node().encode())
    return f".{target.name[:50]}.{machine:08x}-"


def _remove_left_over(target: Path) -> None:
    prefix = _temporary_prefix(target)
    if os.name != "posix":  # where asking for a process would end it
        return
    with suppress(OSError):
        for name in os.listdir(target.parent):
            found = re.fullmatch(re.escape(prefix) + r"([0-9]+)-[0-9]+\.tmp", name)
            if found and not _is_running(int(found[1])):
                (target.parent / name).unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    return True


def _force_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNABLE:
            raise
    finally:
        os.close(descriptor)
