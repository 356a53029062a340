"""One run in a folder at a time: a lock of the operating system, which ends with its process."""

from __future__ import annotations

import errno
import os
import socket
import warnings
from pathlib import Path
from types import TracebackType

from ...checks import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["FolderLock", "FolderLockedError"]

_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


class FolderLockedError(UserError, RuntimeError):
    """Another run writes into the folder."""


class FolderLock:
    """Keeps a folder for this process within a `with` block; blocks may be inside each other.

    The lock is the system's, on a file `.lock` in the folder, so that of a process that was killed is free.
    The file says who has the lock and is removed with it. Where the file system knows no locks there is a
    warning, and no lock.

    Args:
        folder: it is created where it is missing.

    Raises:
        FolderLockedError: on entering, another process has the lock.
        OSError: on entering, the folder cannot be written to.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._path = Path(folder) / ".lock"
        self._descriptor: int | None = None
        self._depth = 0

    def __enter__(self) -> FolderLock:
        if self._depth == 0:
            self._descriptor = self._acquire()
        self._depth += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._depth -= 1
        if self._depth == 0 and self._descriptor is not None:
            self._release(self._descriptor)
            self._descriptor = None

    def renew(self) -> None:
        """Lock the folder that has the name now, should the one that was locked be removed or renamed.

        Raises:
            FolderLockedError: another process has locked it.
            OSError: it cannot be written to.
        """
        old = self._descriptor
        if self._depth > 0 and (old is None or not self._is_in_place(old)):
            self._descriptor = None
            if old is not None:
                os.close(old)
            self._descriptor = self._acquire()

    def _acquire(self) -> int:
        while True:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                self._lock(descriptor)
                if not self._is_in_place(descriptor):  # its holder has removed it since it was opened
                    os.close(descriptor)
                    continue
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
            except BaseException:
                os.close(descriptor)
                raise
            return descriptor

    def _lock(self, descriptor: int) -> None:
        try:
            _lock_file(descriptor)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
                raise FolderLockedError(
                    f"another run writes into `{self._path.parent}`{self._holder()}: wait for its end, or "
                    "choose another folder"
                ) from None
            if error.errno not in _UNSUPPORTED:
                raise
            warnings.warn(
                f"the file system of `{self._path.parent}` has no locks: see to it that no second run writes "
                "there",
                RuntimeWarning,
                stacklevel=2,
            )

    def _holder(self) -> str:
        try:
            name = self._path.read_text(errors="replace").strip()
        except OSError:
            return ""
        return f" ({name})" if name else ""

    def _is_in_place(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(descriptor))
        except OSError:
            return False

    def _release(self, descriptor: int) -> None:
        if fcntl is not None and self._is_in_place(descriptor):  # elsewhere an open file stays
            self._path.unlink(missing_ok=True)
        os.close(descriptor)


def _lock_file(descriptor: int) -> None:
    if fcntl is not None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    else:
        import msvcrt

        # Beyond the text that says who has the lock, which others read.
        os.lseek(descriptor, 1 << 20, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)
