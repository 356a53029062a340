import math
import os
import stat
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from whatwhere.datasets import read_video
from whatwhere.inference.pictures import draw_boxes, save_gif, save_mp4, save_picture, upscale


def black(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height))


def test_png_round_trip_creates_folders_and_replaces(tmp_path: Path):
    path = tmp_path / "new" / "folder" / "picture.png"
    for channels in (1, 3):
        picture = upscale(torch.rand(channels, 7, 5), 3)
        save_picture(path, picture)
        with Image.open(path) as stored:
            assert (stored.format, stored.mode) == ("PNG", picture.mode)
            assert np.array_equal(np.array(stored), np.array(picture))
    assert os.listdir(path.parent) == ["picture.png"]


def test_a_failed_write_keeps_the_old_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "picture.png"
    save_picture(path, black(2, 2))
    before = path.read_bytes()

    def fail(*args: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match=r"cannot write the picture `.*picture\.png`: disk full"):
        save_picture(path, black(3, 3))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["picture.png"]


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot write the picture `.*file/picture\.png`"):
        save_picture(tmp_path / "file" / "picture.png", black(2, 2))
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(OSError, match=r"cannot write the picture `.*folder\.png`"):
        save_picture(tmp_path / "folder.png", black(2, 2))
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.png"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_named(tmp_path: Path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(OSError, match="cannot write the picture"):
        save_picture(tmp_path / "picture.png", black(2, 2))


@pytest.mark.parametrize("name", ["picture", "picture.jpg", "picture.gif"])
def test_the_name_of_a_picture_ends_in_png(tmp_path: Path, name: str):
    with pytest.raises(ValueError, match=r"`path` must end in `\.png`"):
        save_picture(tmp_path / name, black(2, 2))


@pytest.mark.parametrize(("fps", "duration"), [(10, 100), (50, 20), (0.5, 2000), (30, 30)])
def test_gif_round_trip(tmp_path: Path, fps: float, duration: int):
    frames = [
        draw_boxes(black(20, 10), torch.tensor([[float(i), 2, 5, 5], [3.0, i, 4, 4]])) for i in range(4)
    ]
    path = tmp_path / "new" / "video.gif"
    save_gif(path, frames, fps)
    with Image.open(path) as stored:
        assert (stored.n_frames, stored.info["loop"]) == (4, 0)
        for i, frame in enumerate(frames):
            stored.seek(i)
            assert stored.info["duration"] == duration
            assert np.array_equal(np.array(stored.convert("RGB")), np.array(frame))
    assert os.listdir(path.parent) == ["video.gif"]


def test_a_gif_of_grey_frames_that_stand_still_lasts_as_long(tmp_path: Path):
    frame = upscale(torch.linspace(0, 1, 256).reshape(1, 16, 16), 1)
    save_gif(tmp_path / "video.gif", [frame] * 5, 10)
    with Image.open(tmp_path / "video.gif") as stored:
        total = 0
        for i in range(stored.n_frames):
            stored.seek(i)
            total += stored.info["duration"]
            assert np.array_equal(np.array(stored.convert("L")), np.array(frame))
    assert total == 500


def test_save_gif_refuses_what_is_no_animation(tmp_path: Path):
    path = tmp_path / "video.gif"
    with pytest.raises(ValueError, match="`frames` must be pictures of equal size, but got none"):
        save_gif(path, [], 10)
    with pytest.raises(ValueError, match="`frames` must be pictures of equal size"):
        save_gif(path, [black(2, 3), black(3, 2)], 10)
    for fps in (0, -1, 51, math.nan):
        with pytest.raises(ValueError, match="`fps` must be in"):
            save_gif(path, [black(2, 3)], fps)
    with pytest.raises(ValueError, match=r"`path` must end in `\.gif`"):
        save_gif(tmp_path / "video.png", [black(2, 3)], 10)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("size", [(30, 20), (31, 21)])
def test_mp4_holds_the_frames_in_order_at_their_rate(tmp_path: Path, size: tuple[int, int]):
    av = pytest.importorskip("av", reason="needs PyAV: pip install 'whatwhere[video]'")
    shades = [0, 250, 60, 120, 180]
    path = tmp_path / "new" / "video.mp4"
    save_mp4(path, [Image.new("RGB", size, (shade, shade, 250 - shade)) for shade in shades], 12.5)
    assert os.listdir(path.parent) == ["video.mp4"]
    video = read_video(path)
    width, height = size
    assert video.shape == (5, 3, height + height % 2, width + width % 2)
    for frame, shade in zip(video, shades, strict=True):
        middle = np.median(frame[:, :height, :width], axis=(1, 2))
        assert np.abs(middle - [shade, shade, 250 - shade]).max() <= 6
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == Fraction(25, 2)


def test_save_mp4_refuses_what_is_no_film(tmp_path: Path):
    path = tmp_path / "video.mp4"
    with pytest.raises(ValueError, match="`frames` must be pictures of equal size, but got none"):
        save_mp4(path, [], 10)
    with pytest.raises(ValueError, match="`fps` must be in"):
        save_mp4(path, [black(2, 3)], 0)
    with pytest.raises(ValueError, match=r"`path` must end in `\.mp4`"):
        save_mp4(tmp_path / "video.gif", [black(2, 3)], 10)
    assert not os.listdir(tmp_path)


def test_save_mp4_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(RuntimeError, match=r"pip install 'whatwhere\[video\]'"):
        save_mp4(tmp_path / "video.mp4", [black(2, 3)], 10)
    assert not os.listdir(tmp_path)
