import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from whatwhere.inference.training import FolderLock, FolderLockedError, folder_lock

pytest.importorskip("fcntl")

HOLD = (
    "import sys, time; from whatwhere.inference.training.folder_lock import FolderLock\n"
    "with FolderLock(sys.argv[1]): print('locked', flush=True); time.sleep(100)"
)


def refused(folder: Path) -> str:
    with pytest.raises(FolderLockedError) as caught, FolderLock(folder):
        pass
    return str(caught.value)


def test_a_folder_is_one_runs_at_a_time(tmp_path: Path):
    folder = tmp_path / "run"
    with FolderLock(folder):
        message = refused(folder)
        assert f"another run writes into `{folder}` (process {os.getpid()} on " in message
        assert "\n" not in message
    assert list(folder.iterdir()) == []
    with FolderLock(folder):
        pass


def test_blocks_may_be_inside_each_other(tmp_path: Path):
    lock = FolderLock(tmp_path)
    with lock:
        with lock:
            refused(tmp_path)
        refused(tmp_path)
    with FolderLock(tmp_path):
        pass


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path):
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        assert f"(process {other.pid} on " in refused(tmp_path)
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert (tmp_path / ".lock").exists()
    with FolderLock(tmp_path):
        refused(tmp_path)


def test_a_folder_made_anew_is_locked_anew(tmp_path: Path):
    folder = tmp_path / "run"
    with FolderLock(folder) as lock:
        shutil.rmtree(folder)
        # Another run has not found ours.
        with FolderLock(folder), pytest.raises(FolderLockedError):
            lock.renew()
        lock.renew()
        refused(folder)
        lock.renew()
        refused(folder)


def test_a_file_system_without_locks_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def no_locks(descriptor: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(folder_lock, "_lock_file", no_locks)
    with pytest.warns(RuntimeWarning, match="has no locks"), FolderLock(tmp_path):
        assert (tmp_path / ".lock").exists()
    assert list(tmp_path.iterdir()) == []
