from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from whatwhere.datasets import DataError, load_clips, open_frames


def large_gif(path: Path, frames: int, side: int) -> int:
    """A GIF whose frames after the first change one pixel of a large picture; its size."""
    header = b"GIF89a" + side.to_bytes(2, "little") * 2 + b"\x80\0\0" + bytes(3) + b"\xff" * 3
    picture = b"\x2c" + bytes(4) + b"\1\0\1\0" + b"\0" + b"\2\2\x44\1\0"
    path.write_bytes(header + picture * frames + b";")
    return path.stat().st_size


def test_small_files_with_many_large_frames_are_refused_before_they_fill_the_memory(tmp_path: Path) -> None:
    size = large_gif(tmp_path / "clip.gif", 120, 2000)
    assert size < 2000
    with pytest.raises(DataError, match=r"clip\.gif: the video would take 6\d.* MiB of memory, but only 1"):
        load_clips(tmp_path / "clip.gif")
    with pytest.raises(DataError, match=r"clip\.gif: the video takes .* more than the limit of 9.77 KiB"):
        load_clips(tmp_path / "clip.gif", size=(20, 20), limit=10_000)


def test_they_are_read_as_they_go(tmp_path: Path) -> None:
    large_gif(tmp_path / "clip.gif", 5, 1500)
    frames = list(open_frames(tmp_path / "clip.gif", size=(2, 2), channels=1))
    assert np.stack(frames).shape == (5, 1, 2, 2)


def test_huge_pictures_are_refused(tmp_path: Path) -> None:
    large_gif(tmp_path / "clip.gif", 1, 60_000)
    with pytest.raises(DataError, match=r"clip\.gif, frame 0: cannot be read as a GIF"):
        load_clips(tmp_path / "clip.gif")


def test_only_gifs_are_read(tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "50% x.gif", "PNG")
    with pytest.raises(DataError, match=r"50% x\.gif, frame 0: cannot be read as a GIF"):
        load_clips(tmp_path / "50% x.gif")
