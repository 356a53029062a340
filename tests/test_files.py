import contextlib
import os
import stat
import sys
from pathlib import Path

import pytest

from whatwhere.files import atomic_path, atomic_write, import_av


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


def test_left_over_of_a_killed_writer_is_replaced(tmp_path: Path):
    path = tmp_path / "file"
    (tmp_path / ".file.tmp").write_bytes(b"a long left-over")
    with atomic_write(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_missing_pyav_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    module = object()
    monkeypatch.setitem(sys.modules, "av", module)
    assert import_av() is module
    monkeypatch.setitem(sys.modules, "av", None)  # as if it were not installed
    with pytest.raises(RuntimeError, match=r"^video files need PyAV: pip install 'whatwhere\[video\]'\.$"):
        import_av()
