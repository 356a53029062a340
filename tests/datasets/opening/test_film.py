import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from whatwhere.datasets import DataError, load_clips, read_video

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
