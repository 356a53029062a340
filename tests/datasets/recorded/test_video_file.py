import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from whatwhere.datasets import VIDEO_SUFFIXES, DataError, read_video

av = pytest.importorskip("av", reason="needs PyAV: pip install 'whatwhere[video]'")

Write = Callable[..., Path]

RNG = np.random.default_rng(0)
COLOURED = RNG.integers(0, 256, (6, 32, 48, 3), np.uint8)  # (T, H, W, C)
GREY = RNG.integers(0, 256, (6, 32, 48), np.uint8)
LUMA = np.array([0.299, 0.587, 0.114])


def smooth(frames: int) -> np.ndarray:
    """A grey pattern that moves, without the detail that lossy codecs drop."""
    y, x = np.mgrid[:64, :96]
    waves = [127 + 90 * np.sin((x + 2 * y + 5 * frame) / 20) for frame in range(frames)]
    return np.stack(waves).astype(np.uint8)


@pytest.mark.parametrize("name", ["a.avi", "a.mkv"])
def test_lossless_files_keep_their_pixels(tmp_path: Path, write_film: Write, name: str) -> None:
    coloured = read_video(write_film(tmp_path / name, COLOURED))
    assert coloured.dtype == np.uint8
    np.testing.assert_array_equal(coloured, COLOURED.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(read_video(write_film(tmp_path / name, GREY)), GREY[:, None])


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("a.avi", "mpeg4", "yuv420p"),
        ("a.mp4", "mpeg4", "yuv420p"),
        ("a.mov", "mpeg4", "yuv420p"),
        ("a.mpg", "mpeg1video", "yuv420p"),
        ("a.mpeg", "mpeg1video", "yuv420p"),
        ("a.mkv", "mjpeg", "yuvj420p"),
        ("a.webm", "libvpx", "yuv420p"),
    ],
)
def test_usual_formats_are_decoded_to_the_full_range_of_grey(
    tmp_path: Path, write_film: Write, name: str, codec: str, pix_fmt: str
) -> None:
    """Every frame is there once and in order; without the change of range errors would be about 16."""
    assert Path(name).suffix in VIDEO_SUFFIXES
    frames = smooth(12)
    video = read_video(write_film(tmp_path / name, frames, codec, pix_fmt))
    assert video.shape == (12, 1, 64, 96)
    errors = np.abs(video[:, 0].astype(int) - frames).mean((1, 2))
    assert errors.max() < 4


def test_channels_are_those_asked_for(tmp_path: Path, write_film: Write) -> None:
    coloured, grey = (write_film(tmp_path / f"{x.ndim}.avi", x) for x in (COLOURED, GREY))
    luma = read_video(coloured, channels=1)
    assert luma.shape == (6, 1, 32, 48)
    np.testing.assert_allclose(luma[:, 0], COLOURED @ LUMA, atol=0.51)
    np.testing.assert_array_equal(read_video(grey, channels=1)[:, 0], GREY)
    np.testing.assert_array_equal(read_video(grey, channels=3), np.stack([GREY] * 3, axis=1))
    np.testing.assert_array_equal(read_video(coloured, channels=3), COLOURED.transpose(0, 3, 1, 2))


def test_one_coloured_frame_makes_the_video_coloured(tmp_path: Path, write_film: Write) -> None:
    frames = np.stack([GREY] * 3, axis=-1)
    frames[4, 3, 2] = (1, 2, 3)
    path = write_film(tmp_path / "a.avi", frames)
    np.testing.assert_array_equal(read_video(path), frames.transpose(0, 3, 1, 2))
    assert read_video(path, stop=4).shape == (4, 1, 32, 48)


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (0, 6), (2, 5), (5, 6), (3, None), (0, None)])
def test_start_and_stop_are_those_of_a_slice(
    tmp_path: Path, write_film: Write, start: int, stop: int | None
) -> None:
    video = read_video(write_film(tmp_path / "a.avi", GREY), start=start, stop=stop)
    np.testing.assert_array_equal(video[:, 0], GREY[start:stop])


def test_resizing_averages_areas(tmp_path: Path, write_film: Write) -> None:
    path = write_film(tmp_path / "a.avi", COLOURED)
    means = COLOURED.reshape(6, 8, 4, 24, 2, 3).mean((2, 4))
    np.testing.assert_allclose(read_video(path, size=(8, 24)), means.transpose(0, 3, 1, 2), atol=1)


def test_transparency_is_laid_over_black(tmp_path: Path, write_film: Write) -> None:
    alpha = RNG.integers(0, 256, (*GREY.shape, 1), np.uint8)
    path = write_film(tmp_path / "a.mkv", np.concatenate([COLOURED, alpha], -1), pix_fmt="bgra")
    expected = COLOURED * (alpha / 255)
    np.testing.assert_allclose(read_video(path), expected.transpose(0, 3, 1, 2), atol=1)


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_orientation_is_followed(tmp_path: Path, write_film: Write, rotation: int) -> None:
    frames = smooth(2)
    path = write_film(tmp_path / "a.mp4", frames, "mpeg4", "yuv420p", rotation=rotation)
    video = read_video(path)[:, 0]
    upright = np.rot90(frames, rotation // 90, axes=(1, 2))
    assert video.shape == upright.shape
    assert np.abs(video.astype(int) - upright).mean() < 4


def test_too_few_frames_are_refused_with_both_numbers(tmp_path: Path, write_film: Write) -> None:
    path = write_film(tmp_path / "a.avi", GREY)
    with pytest.raises(DataError, match=r"a\.avi: has 6 frames, fewer than the 7 asked for"):
        read_video(path, stop=7)
    with pytest.raises(DataError, match=r"a\.avi: has 6 frames, fewer than the 7 asked for"):
        read_video(path, start=6)


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.avi", {}), ("a.mp4", {}), ("a.mp4", {"movflags": "faststart"}), ("a.mkv", {})],
    ids=["avi", "mp4", "faststart", "mkv"],
)
def test_truncated_files_are_refused_or_shorter(
    tmp_path: Path, write_film: Write, name: str, options: dict[str, str]
) -> None:
    """What can be read of them are the first frames; where the end is within a frame it is told."""
    path = write_film(tmp_path / name, smooth(20), "mpeg4", "yuv420p", **options)
    whole, content = read_video(path), path.read_bytes()
    refused = 0
    for length in np.linspace(0, len(content) - 60, 23).astype(int):
        path.write_bytes(content[:length])
        try:
            video = read_video(path)
        except DataError as error:
            refused += str(error).startswith(str(path))
        else:
            np.testing.assert_array_equal(video, whole[: len(video)])
    assert refused >= (1 if name == "a.mkv" else 15)


def test_the_frame_at_which_a_file_ends_is_named(tmp_path: Path, write_film: Write) -> None:
    """Frames of raw pixels have known places: 4 of them, and a part of the next, are kept."""
    frames = RNG.integers(0, 256, (8, 64, 64, 3), np.uint8)
    path = write_film(tmp_path / "a.avi", frames, "rawvideo", "bgr24")
    content = path.read_bytes()
    bottom_row = np.ascontiguousarray(frames[4, :, :, ::-1])[-1].tobytes()
    top_row = np.ascontiguousarray(frames[4, :, :, ::-1])[0].tobytes()
    places = [content.find(row) for row in (bottom_row, top_row)]
    assert min(places) > 0
    path.write_bytes(content[: max(places)])
    np.testing.assert_array_equal(read_video(path, stop=4), frames[:4].transpose(0, 3, 1, 2))
    with pytest.raises(DataError, match=r"a\.avi, frame 4: cannot be read, the file is truncated"):
        read_video(path)


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.avi: no such file"):
        read_video(tmp_path / "none.avi")
    path = tmp_path / "a.avi"
    for content in (b"", b"text", RNG.bytes(5000)):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"a\.avi.*: cannot be read as a video"):
            read_video(path)
    with pytest.raises(DataError, match=r"frame 0: cannot be read as a video"):
        read_video(tmp_path)


def test_sound_alone_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        stream.layout = "mono"
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    with pytest.raises(DataError, match=r"a\.avi: expected a video, found none in the file"):
        read_video(path)


def test_names_are_never_taken_for_protocols(tmp_path: Path, write_film: Write) -> None:
    film = write_film(tmp_path / "a.avi", GREY)
    path = film.rename(tmp_path / "concat:a%03d.avi")
    np.testing.assert_array_equal(read_video(path)[:, 0], GREY)


def test_missing_pyav_says_what_to_install(
    tmp_path: Path, write_film: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_film(tmp_path / "a.avi", GREY)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(RuntimeError, match=r"pip install 'whatwhere\[video\]'"):
        read_video(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (0, 4)}, "`size` must be"),
        ({"size": (4,)}, "`size` must be"),
        ({"channels": 2}, "`channels` must be 1 or 3, got 2"),
        ({"start": -1}, "`start` must not be negative"),
        ({"start": 2, "stop": 2}, "`stop` beyond it, got 2 and 2"),
    ],
)
def test_impossible_arguments_are_refused(tmp_path: Path, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_video(tmp_path / "a.avi", **options)


def test_real_films_have_all_their_frames(real_data: Callable[[str], Path]) -> None:
    video = read_video(real_data("tld") / "04_pedestrian2" / "pedestrian2.mpg", channels=1, size=(60, 80))
    assert video.shape == (338, 1, 60, 80)
