import errno
import struct
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from whatwhere.datasets import DataError, load_clips, open_frames, read_video, readable_anywhere
from whatwhere.datasets.opening import film_index, film_pictures

av = pytest.importorskip("av", reason="needs PyAV: pip install 'whatwhere[video]'")

FRAMES = np.random.default_rng(0).integers(0, 256, (3, 32, 48, 3), np.uint8)


@pytest.mark.parametrize("name", ["clip.avi", "clip.mp4"])
def test_metadata_need_not_be_utf8(tmp_path: Path, write_film: Callable[..., Path], name: str) -> None:
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "TITLE"
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height = 48, 32
        for pixels in FRAMES:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    content = path.read_bytes()
    assert b"TITLE" in content
    path.write_bytes(content.replace(b"TITLE", b"caf\xe9s"))
    assert read_video(path).shape == (3, 3, 32, 48)


def test_playlists_are_not_followed(tmp_path: Path, write_film: Callable[..., Path]) -> None:
    film = write_film(tmp_path / "secret.avi", FRAMES)
    lists = {
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{film}\n#EXT-X-ENDLIST\n",
        "concat": f"ffconcat version 1.0\nfile '{film.name}'\n",
    }
    for text in lists.values():
        for name in ("list.mp4", "list.mkv", "list.avi"):
            (tmp_path / name).write_text(text)
            with pytest.raises(DataError, match=rf"{name}, frame 0: cannot be read as a video"):
                read_video(tmp_path / name)


def test_frames_that_are_claimed_too_large_are_refused(
    tmp_path: Path, write_film: Callable[..., Path]
) -> None:
    path = write_film(tmp_path / "clip.avi", FRAMES, "rawvideo", "bgr24")
    content = path.read_bytes()
    for height, claimed in ((32, 16_000), (-32, -16_000)):  # from the bottom up
        sizes = struct.pack("<ii", 48, height)
        assert sizes in content
        content = content.replace(sizes, struct.pack("<ii", 16_000, claimed))
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"clip\.avi: a frame would take 977 MiB of memory, but only"):
        read_video(path)


def test_films_beyond_the_limit_are_refused_while_they_are_read(
    tmp_path: Path, write_film: Callable[..., Path]
) -> None:
    path = write_film(tmp_path / "clip.avi", FRAMES)
    with pytest.raises(DataError, match=r"clip\.avi: the video takes 9 KiB of memory, more than the limit"):
        load_clips(path, limit=9000)


def encode(
    path: Path, codec: str, frames: int = 60, file: dict[str, str] | None = None, **options: str
) -> Path:
    """A film of a square that moves, with the codec's own kinds of frames."""
    path.parent.mkdir(exist_ok=True)
    with av.open(str(path), "w", options=file or {}) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.options = 64, 48, "yuv420p", options
        for number in range(frames):
            pixels = np.full((48, 64, 3), 30, np.uint8)
            pixels[10:22, number : number + 8] = 220
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.avi", "mpeg4", {}),
        ("b.mp4", "libx264", {"bf": "3", "g": "20"}),
        ("open.mp4", "libx264", {"bf": "3", "g": "12", "x264-params": "open-gop=1"}),
        ("d.mkv", "mpeg4", {"bf": "2"}),
    ],
)
def test_reading_may_begin_anywhere(tmp_path: Path, name: str, codec: str, options: dict[str, str]) -> None:
    path = encode(tmp_path / name, codec, **options)
    index = film_index(path)
    assert index is not None
    in_order = [np.asarray(picture) for picture in film_pictures(path)]
    assert len(index.times) == len(in_order) == 60
    assert len(index.keys) > 2
    for start in (1, 11, 12, 13, 30, 59):
        found = [np.asarray(picture) for picture in film_pictures(path, start, index)]
        assert len(found) == 60 - start
        assert all((a == b).all() for a, b in zip(found, in_order[start:], strict=True))
    with pytest.raises(DataError, match="has 60 frames, fewer than the 61 asked for"):
        next(film_pictures(path, 60, index))


def test_films_that_do_not_tell_when_frames_are_shown_are_read_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = encode(tmp_path / "c.mpg", "mpeg1video", bf="2")
    monkeypatch.setattr("whatwhere.datasets.recorded.picture_clips.film_index", lambda path: None)
    frames = open_frames(path, channels=1)
    assert not frames.anywhere
    whole = np.stack(list(frames))
    assert frames.count() == len(whole) == 60
    np.testing.assert_array_equal(frames.window(17, 20), whole[17:20])
    copy = readable_anywhere(frames)
    assert copy.anywhere
    np.testing.assert_array_equal(copy.window(17, 20), whole[17:20])


def test_only_what_is_asked_for_is_decoded(tmp_path: Path) -> None:
    """Shortly before a window, not from the film's beginning."""
    path = encode(tmp_path / "long.mp4", "mpeg4", frames=120)
    frames = open_frames(path, channels=1)
    assert frames.keys is not None
    content = path.read_bytes()
    index = film_index(path)
    assert index is not None
    with av.open(str(path)) as container:
        key = [packet for packet in container.demux(video=0) if packet.is_keyframe][1]
        at, size = key.pos, key.size
    expected = frames.window(110, 112)
    path.write_bytes(content[:at] + bytes(size) + content[at + size :])  # damaged at frame 12
    np.testing.assert_array_equal(open_frames(path, channels=1).window(110, 112), expected)


@pytest.mark.parametrize(("name", "codec"), [("d.mkv", "mpeg4"), ("e.webm", "libvpx"), ("f.mp4", "mpeg4")])
def test_a_film_that_ends_early_is_warned_of(tmp_path: Path, name: str, codec: str) -> None:
    whole = encode(tmp_path / "whole" / name, codec, file={"movflags": "faststart"})
    assert len(list(film_pictures(whole))) == 60  # without a word
    with av.open(str(whole)) as container:
        at = sorted(packet.pos for packet in container.demux(video=0) if packet.size)[40]
    path = tmp_path / name
    path.write_bytes(whole.read_bytes()[:at])
    message = rf"{name}: ends early, after 40 frames of about 60 that it declares; it may be truncated"
    with pytest.warns(UserWarning, match=message):
        assert len(list(film_pictures(path))) == 40
    with pytest.warns(UserWarning, match=message):
        index = film_index(path)
    assert index is not None
    assert len(index.times) == 40
    assert len(list(film_pictures(path, 13, index))) == 27  # which is known by now


def test_a_matroska_film_with_no_duration_of_its_video_has_that_of_the_file(tmp_path: Path) -> None:
    whole = encode(tmp_path / "whole.mkv", "mpeg4")
    content = whole.read_bytes().replace(b"DURATION", b"LONGNESS")
    for end, words in ((len(content), []), (-300, ["ends early"])):
        (tmp_path / "d.mkv").write_bytes(content[:end])
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            list(film_pictures(tmp_path / "d.mkv"))
        assert [str(warning.message).split(": ")[1].split(",")[0] for warning in told] == words


@pytest.mark.parametrize("read", [read_video, film_index])
def test_reasons_are_told_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], object]
) -> None:
    path = tmp_path / "clip.mp4"
    path.write_text("no film")
    with pytest.raises(
        DataError, match=r"frame 0: cannot be read as a video \(Invalid data found when p[a-z ]*\)"
    ):
        read(path)

    def closed(*arguments: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("builtins.open", closed)
    with pytest.raises(
        DataError, match=r"clip\.mp4, frame 0: cannot be read as a video \(Permission denied\)"
    ):
        read(path)
