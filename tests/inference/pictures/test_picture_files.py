import math
import os
import stat
import sys
import weakref
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from whatwhere.datasets import read_video
from whatwhere.inference.pictures import draw_boxes, save_gif, save_mp4, save_picture, upscale
from whatwhere.inference.pictures.drawing import SLOT_COLOURS, WRONG


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


@pytest.mark.parametrize("name", ["picture.jpg", "PICTURE.JPEG"])
def test_a_picture_has_the_format_of_its_name(tmp_path: Path, name: str):
    picture = upscale(torch.linspace(0, 1, 64).reshape(1, 8, 8), 4)
    for shown in (picture, picture.convert("RGB")):
        save_picture(tmp_path / name, shown)
        with Image.open(tmp_path / name) as stored:
            assert (stored.format, stored.size) == ("JPEG", (32, 32))
            difference = np.array(stored.convert("L")).astype(int) - np.array(picture)
        assert np.abs(difference).max() < 10


@pytest.mark.parametrize("name", ["picture", "picture.bmp", "picture.gif"])
def test_names_of_other_formats_are_refused(tmp_path: Path, name: str):
    with pytest.raises(ValueError, match=r"`path` must end in `\.png` or `\.jpg` or `\.jpeg`, but got"):
        save_picture(tmp_path / name, black(2, 2))
    assert not os.listdir(tmp_path)


def shown(path: Path) -> list[tuple[int, npt.NDArray[np.uint8]]]:
    """How long each frame of an animation is shown, in milliseconds, and its pixels `(H, W, 3)`."""
    with Image.open(path) as stored:
        assert stored.info["loop"] == 0
        frames = []
        for number in range(stored.n_frames):
            stored.seek(number)
            frames.append((stored.info["duration"], np.array(stored.convert("RGB"))))
    return frames


@pytest.mark.parametrize(
    ("fps", "durations"),
    [(10, [100] * 4), (50, [20] * 4), (0.5, [2000] * 4), (0.1, [10000] * 4), (30, [30, 40, 30, 30])],
)
def test_gif_round_trip(tmp_path: Path, fps: float, durations: list[int]):
    """A frame is shown from the nearest hundredth of a second to its beginning to that to its end."""
    frames = [
        draw_boxes(black(20, 10), torch.tensor([[float(i), 2, 5, 5], [3.0, i, 4, 4]])) for i in range(4)
    ]
    path = tmp_path / "new" / "video.gif"
    save_gif(path, frames, fps)
    for frame, duration, (lasts, pixels) in zip(frames, durations, shown(path), strict=True):
        assert lasts == duration
        assert np.array_equal(pixels, np.array(frame))
    assert os.listdir(path.parent) == ["video.gif"]


def test_equal_frames_of_a_gif_stay_as_many_as_they_are(tmp_path: Path):
    grey = upscale(torch.linspace(0, 1, 256).reshape(1, 16, 16), 1)  # as many colours as there can be
    for still in (grey, black(7, 5)):
        frames = [still] * 3 + [Image.new("L", still.size, 90)] * 2 + [still]
        save_gif(tmp_path / "video.gif", frames, 10)
        for frame, (lasts, pixels) in zip(frames, shown(tmp_path / "video.gif"), strict=True):
            assert lasts == 100
            assert np.array_equal(pixels, np.array(frame.convert("RGB")))


@pytest.mark.parametrize("colours", [2, 254, 255, 256])
def test_up_to_256_colours_of_a_gif_are_exact_whenever_they_come(tmp_path: Path, colours: int):
    """More frames than a palette is chosen by, in which single pixels change."""
    generator = np.random.default_rng(colours)
    codes = generator.choice(1 << 24, colours, replace=False)
    palette = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], -1).astype(np.uint8)
    indices = np.zeros((200, 6, 9), int)
    for t in range(1, 200):
        indices[t] = indices[t - 1]
        y, x = generator.integers([6, 9], size=(t % 4, 2)).T
        indices[t, y, x] = generator.integers(colours * t // 199 + 1, size=t % 4) % colours
    pixels = palette[indices]
    save_gif(tmp_path / "video.gif", map(Image.fromarray, pixels), 10)
    assert np.array_equal(np.stack([frame for _, frame in shown(tmp_path / "video.gif")]), pixels)


def test_marks_that_come_late_keep_their_colours(tmp_path: Path):
    """After 128 frames of 256 colours, among which there is none of theirs."""
    pixels = np.zeros((130, 16, 16, 3), np.uint8)
    pixels[..., 0] = np.arange(256).reshape(16, 16)
    pixels[129, 0, :3] = (*SLOT_COLOURS[:2], WRONG)
    save_gif(tmp_path / "video.gif", map(Image.fromarray, pixels), 10)
    found = np.stack([frame for _, frame in shown(tmp_path / "video.gif")])
    assert np.array_equal(found[129, 0, :3], pixels[129, 0, :3])
    assert abs(found.astype(int) - pixels).max() < 8  # the others are near


def test_colours_of_a_gif_do_not_change_from_frame_to_frame(tmp_path: Path):
    """Noise of 10,000 colours; what stands still, marks and a photograph, looks the same in all frames."""
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (9, 40, 30, 3), dtype=np.uint8)
    pixels[:, :20] = pixels[0, :20]
    pixels[:, 0, :3] = (*SLOT_COLOURS[:2], WRONG)
    save_gif(tmp_path / "video.gif", map(Image.fromarray, pixels), 10)
    found = np.stack([frame for _, frame in shown(tmp_path / "video.gif")])
    assert np.array_equal(found[:, 0, :3], pixels[:, 0, :3])
    assert (found[:, :20] == found[0, :20]).all()
    # each the nearest of all that there are
    palette = np.unique(found.reshape(-1, 3), axis=0).astype(int)
    assert 200 < len(palette) <= 256
    distances = ((pixels.reshape(-1, 1, 3).astype(int) - palette) ** 2).sum(-1)
    chosen = ((pixels.astype(int) - found) ** 2).sum(-1).reshape(-1)
    assert np.array_equal(chosen, distances.min(1))
    assert chosen.mean() < 900  # 256 colours of a cube are some 30 grey values apart


def test_what_stands_still_takes_no_room_in_a_gif(tmp_path: Path):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))
    moved = noise.copy()
    moved.paste((255, 0, 0), (3, 5, 5, 8))
    sizes = []
    for frames in ([noise], [noise] * 50, [noise, moved] * 25):
        save_gif(tmp_path / "video.gif", frames, 10)
        sizes.append((tmp_path / "video.gif").stat().st_size)
    assert sizes[0] > 2000
    assert sizes[1] - sizes[0] < 49 * 40
    assert sizes[2] - sizes[0] < 49 * 60


@pytest.mark.parametrize("name", ["video.gif", "video.mp4"])
def test_films_are_written_as_they_come(tmp_path: Path, name: str):
    if name.endswith("mp4"):
        pytest.importorskip("av", reason="needs PyAV: pip install 'whatwhere[video]'")
    given, gone, most = 0, [], 0

    def frames() -> Iterator[Image.Image]:
        nonlocal given, most
        for given in range(1, 401):
            frame = Image.new("RGB", (16, 16), (given % 256, 0, 0))
            weakref.finalize(frame, gone.append, given)
            most = max(most, given - len(gone))
            yield frame

    save = save_gif if name.endswith("gif") else save_mp4
    save(tmp_path / name, frames(), 10)
    written = shown(tmp_path / name) if name.endswith("gif") else read_video(tmp_path / name)
    assert len(written) == 400
    assert most < 140


def test_a_frame_of_another_size_leaves_the_film_as_it_was(tmp_path: Path):
    path = tmp_path / "video.gif"
    path.write_bytes(b"old")
    frames = (black(3 + (number == 2), 2) for number in range(5))
    with pytest.raises(ValueError, match="the first has 3 x 2 and number 2 4 x 2"):
        save_gif(path, frames, 10)
    assert path.read_bytes() == b"old"
    with pytest.raises(ValueError, match="at most 65535 pixels along a side"):
        save_gif(path, [Image.new("L", (65536, 1))], 10)
    assert os.listdir(tmp_path) == ["video.gif"]


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
