import contextlib
import errno
import os
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from whatwhere.files import atomic_path, atomic_write, import_av, locked, user_path


def test_content_appears_only_at_the_end(tmp_path: Path):
    path = tmp_path / "new" / "file"
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"new")
        assert temporary.parent == path.parent
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_failure_leaves_the_old_content_and_nothing_else(tmp_path: Path, error: type[BaseException]):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with contextlib.suppress(error), atomic_path(path) as temporary:
        temporary.write_bytes(b"half")
        raise error
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_failure_leaves_no_folder_that_was_not_there(tmp_path: Path):
    def fail(path: Path, other: Path | None = None) -> None:
        with atomic_write(path) as file, atomic_write(path.with_name("beside")):
            file.write(b"half")
            if other is not None:
                other.touch()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail(tmp_path / "new" / "deep" / "file")
    assert not any(tmp_path.iterdir())
    with pytest.raises(RuntimeError):
        fail(tmp_path / "new" / "deep" / "file", tmp_path / "new" / "of another")
    assert [path.name for path in tmp_path.rglob("*")] == ["new", "of another"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(RuntimeError):
        fail(tmp_path / "empty" / "file")
    assert (tmp_path / "empty").is_dir()


def test_permissions_are_those_of_an_ordinary_file(tmp_path: Path):
    ordinary, path = tmp_path / "ordinary", tmp_path / "file"
    ordinary.touch()
    with atomic_path(path) as temporary:
        temporary.touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(ordinary.stat().st_mode)
    os.chmod(path, 0o640)
    with atomic_path(path) as temporary:
        temporary.touch()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_old_content_is_there_until_the_new_one_is_complete(tmp_path: Path):
    path = tmp_path / "new folder" / "file"
    for content in (b"first", b"second"):
        before = path.read_bytes() if path.exists() else None
        with atomic_write(path) as file:
            file.write(content)
            file.flush()
            assert (path.read_bytes() if path.exists() else None) == before
        assert path.read_bytes() == content
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


def test_a_failed_write_leaves_the_old_content_and_nothing_else(tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write_half() -> None:
        with atomic_write(path) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


KILLED = """
import os, sys
from whatwhere.files import atomic_write
with atomic_write(sys.argv[1]) as file:
    file.write(b"half")
    os._exit(9)
"""


def test_what_killed_writers_left_over_is_removed(tmp_path: Path):
    path = tmp_path / "file"
    assert subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False).returncode == 9
    assert len(list(tmp_path.iterdir())) == 1
    assert not path.exists()
    other = tmp_path / ".file.other-1.tmp"  # a machine's of which nothing is known here
    other.touch()
    with atomic_write(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"
    assert sorted(tmp_path.iterdir()) == [other, path]


def test_several_writers_of_one_file_do_not_disturb_each_other(tmp_path: Path):
    path = tmp_path / "file"
    with atomic_write(path) as first:
        first.write(b"first")
        with atomic_write(path) as second:
            second.write(b"second")
        assert path.read_bytes() == b"second"
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_the_content_is_on_the_disk_before_the_file_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    events: list[str] = []
    sync, replace = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        events.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        assert events[-1] == "folder" or os.fstat(descriptor).st_size == 3
        sync(descriptor)

    def rename(source: Path, target: Path) -> None:
        events.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", rename)
    with atomic_write(tmp_path / "file") as file:
        file.write(b"new")
    assert events == ["file", "rename", "folder"]


@pytest.mark.parametrize("name", ["pipe", "folder", "device"])
def test_only_regular_files_are_replaced(tmp_path: Path, name: str):
    path = tmp_path / name
    if name == "pipe":
        os.mkfifo(path)
    elif name == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/null")
    before = path.stat()
    with pytest.raises(OSError, match=rf"cannot write `.*{name}`: it is (no regular file|a folder)"):  # noqa: SIM117
        with atomic_write(path):
            pytest.fail("work was begun")
    assert path.stat().st_ino == before.st_ino
    assert list(tmp_path.iterdir()) == [path]


def test_an_empty_name_is_refused():
    with pytest.raises(OSError, match="cannot write ``: it is a folder"), atomic_write(""):
        pytest.fail("work was begun")


def test_the_target_of_a_link_is_written(tmp_path: Path):
    (tmp_path / "other").mkdir()
    target, link = tmp_path / "other" / "file", tmp_path / "link"
    link.symlink_to(target)
    for content in (b"new", b"newer"):
        with atomic_write(link) as file:
            file.write(content)
        assert link.is_symlink()
        assert target.read_bytes() == content
    assert sorted(tmp_path.rglob("*")) == [link, target.parent, target]


def test_home_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with atomic_write("~/file") as file:
        file.write(b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert user_path("~no-such-user/x") == Path("~no-such-user/x")


@pytest.mark.parametrize("code", [errno.EBADF, errno.EINVAL])
def test_systems_that_cannot_force_or_change_permissions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
):
    path = tmp_path / "file"
    path.touch()

    def unable(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", unable)
    monkeypatch.setattr(Path, "chmod", unable)
    with atomic_write(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"


def test_a_full_disk_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"), atomic_write(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_forced_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sync = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with atomic_write(tmp_path / "file") as file:
        file.write(b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


def test_one_at_a_time_is_in_a_locked_block(tmp_path: Path):
    inside: list[int] = []

    def work(number: int) -> None:
        with locked(tmp_path / "lock"):
            inside.append(number)
            time.sleep(0.01)
            assert inside.pop() == number

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert not inside


def test_missing_pyav_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    module = object()
    monkeypatch.setitem(sys.modules, "av", module)
    assert import_av() is module
    monkeypatch.setitem(sys.modules, "av", None)  # as if it were not installed
    with pytest.raises(RuntimeError, match=r"^video files need PyAV: pip install 'whatwhere\[video\]'\.$"):
        import_av()
