import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from whatwhere.datasets import DataError, VideoData, count_videos, load_clips, open_frames, save_video

RNG = np.random.default_rng(0)
COLOURED = RNG.integers(0, 256, (37, 6, 8, 3), np.uint8)  # (T, H, W, C)
GREY = COLOURED[..., 0]
KINDS = ["folder", "clip.gif", "clip.avi", "clip.npz", "fortran.npz", "clip.h5"]


@pytest.fixture
def write(tmp_path: Path, write_film: Callable[..., Path]) -> Callable[[str, np.ndarray], Path]:
    """Stores frames `(T, H, W)` or `(T, H, W, 3)` in a file or folder of some kind."""

    def write(kind: str, frames: np.ndarray) -> Path:
        path = tmp_path / kind
        if kind == "folder":
            path.mkdir()
            for number, frame in enumerate(frames):
                Image.fromarray(frame).save(path / f"{number}.png")
        elif kind.endswith(".gif"):
            # Few colours, so that none is changed; a different first pixel, so that no two are joined.
            pictures = [Image.fromarray(frame) for frame in frames]
            pictures[0].save(path, save_all=True, append_images=pictures[1:])
        elif kind.endswith(".avi"):
            write_film(path, frames if frames.ndim == 4 else np.repeat(frames[..., None], 3, axis=-1))
        elif kind.endswith(".npz"):
            order: Any = "F" if kind.startswith("fortran") else "C"
            np.savez_compressed(path, video=np.asarray(frames, order=order))
        else:
            planes = frames[:, None] if frames.ndim == 3 else frames.transpose(0, 3, 1, 2)
            save_video(path, VideoData(np.ascontiguousarray(planes[None])))
        return path

    return write


def joined(path: Path, most: int = 5, **options: Any) -> np.ndarray:
    return np.concatenate(list(open_frames(path, **options).blocks(most)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frames", [GREY, COLOURED], ids=["grey", "coloured"])
@pytest.mark.parametrize(
    "options",
    [{}, {"channels": 1}, {"channels": 3}, {"size": (3, 4)}, {"size": (9, 5), "channels": 1}],
    ids=str,
)
def test_frames_are_those_of_a_whole_video(
    write: Callable[..., Path], kind: str, frames: np.ndarray, options: Any
) -> None:
    if frames.ndim == 3 and options.get("channels") == 1 and "size" not in options:
        options = {}
    path = write(kind, frames)
    video = open_frames(path, **options)
    expected = load_clips(path, **options).video[0]
    np.testing.assert_array_equal(joined(path, **options), expected)
    np.testing.assert_array_equal(np.stack(list(video)), expected)
    assert (video.channels, *video.size) == expected.shape[1:]
    assert video.stored_size == (6, 8)
    assert video.length in (37, None)
    if "channels" not in options:
        assert video.length == 37


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_are_of_the_size_asked_for_and_can_be_read_again(
    write: Callable[..., Path], kind: str
) -> None:
    video = open_frames(write(kind, GREY), channels=1)
    for most, lengths in ((16, [16, 16, 5]), (37, [37]), (100, [37]), (1, [1] * 37)):
        assert [len(block) for block in video.blocks(most)] == lengths
    next(video.blocks(3))
    assert sum(len(block) for block in video.blocks(3)) == 37
    with pytest.raises(ValueError, match="`most` must be at least 1, got 0"):
        video.blocks(0)


@pytest.mark.parametrize("kind", KINDS)
def test_frames_stop_where_asked(write: Callable[..., Path], kind: str) -> None:
    path = write(kind, GREY)
    video = open_frames(path, stop=4)
    np.testing.assert_array_equal(np.stack(list(video))[:, 0], load_clips(path).video[0, :4, 0])
    assert video.length == 4
    assert len(joined(path, stop=100)) == 37


@pytest.mark.parametrize("kind", ["folder", "clip.gif", "clip.npz", "clip.h5"])
def test_memory_does_not_grow_with_the_length(tmp_path: Path, write: Callable[..., Path], kind: str) -> None:
    count = 1600 if kind == "clip.h5" else 300  # its chunks hold 256 such frames
    frames = RNG.integers(0, 256, (count, 64, 64), np.uint8)
    if kind == "clip.gif":
        frames //= 64  # so that encoding it is quick
    path = write(kind, frames)
    for options in ({}, {"channels": 3, "size": (32, 32)}):
        list(open_frames(path, stop=2, **options))  # imports
        tracemalloc.start()
        try:
            read = sum(len(block) for block in open_frames(path, **options).blocks(8))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert read == count
        assert peak < frames.nbytes / 2


def test_the_clip_of_a_data_set_ends_before_its_padding(tmp_path: Path) -> None:
    video = np.zeros((4, 50, 1, 4, 5), np.uint8)
    count = np.zeros((4, 50), np.int64)
    boxes = np.zeros((4, 50, 1, 4), np.float32)
    video[0, :3] = 9
    video[1, :35], count[1, :40], boxes[1, :40] = 7, 1, (1, 1, 2, 2)  # a black frame with an object is one
    video[2, 20, 0, 3, 4] = 1  # black ones before a bright one too
    data = VideoData(video, count=count, boxes=boxes)
    save_video(tmp_path / "clips.h5", data)
    np.savez(tmp_path / "clips.npz", video=video, count=count, boxes=boxes)
    for name in ("clips.h5", "clips.npz"):
        for number, length in enumerate((3, 40, 21, 50)):
            clip = open_frames(tmp_path / name, video=number)
            assert clip.length == length
            np.testing.assert_array_equal(np.stack(list(clip)), video[number, :length])
            assert clip.labels["boxes"].shape == (length, 1, 4)
            assert clip.labels["count"].sum() == count[number].sum()
        with pytest.raises(DataError, match=rf"{name}: expected a video 4, there are 4"):
            open_frames(tmp_path / name, video=4)


def test_labels_are_those_of_the_frames(tmp_path: Path, videos: VideoData) -> None:
    save_video(tmp_path / "clips.h5", videos)
    for number in range(len(videos)):
        clip = open_frames(tmp_path / "clips.h5", video=number, size=(12, 7), stop=1)
        assert clip.labels.keys() == videos.labels().keys()
        assert clip.labels["names"] == videos.labels()["names"][number]
        np.testing.assert_array_equal(clip.labels["classes"], videos.labels()["classes"][number])
        np.testing.assert_allclose(
            clip.labels["boxes"], videos.labels()["boxes"][number, :1] * (1, 2, 1, 2), rtol=1e-6
        )
        twice = videos.labels()["segments"][number, :1].repeat(2, axis=-2)
        np.testing.assert_array_equal(clip.labels["segments"], twice)


def test_a_folder_of_folders_has_several_videos(tmp_path: Path) -> None:
    for name, length in (("a10", 2), ("a9", 3)):
        (tmp_path / name).mkdir()
        for number in range(length):
            Image.fromarray(GREY[number]).save(tmp_path / name / f"{number}.png")
    assert [open_frames(tmp_path, video=number).length for number in (0, 1)] == [3, 2]
    with pytest.raises(DataError, match="expected a video 2, there are 2"):
        open_frames(tmp_path, video=2)


def test_folders_of_videos_within_a_folder_are_not_frames(tmp_path: Path) -> None:
    (tmp_path / "jump").mkdir()
    pictures = [Image.fromarray(frame) for frame in GREY]
    pictures[0].save(tmp_path / "jump" / "a.gif", save_all=True, append_images=pictures[1:])
    with pytest.raises(DataError, match=r"jump: expected PNG, .*, got 1 videos; these are a source by"):
        open_frames(tmp_path)


def test_the_first_frame_of_another_size_is_named(write: Callable[..., Path]) -> None:
    path = write("folder", GREY)
    Image.fromarray(GREY[0, :3]).save(path / "20.png")
    video = open_frames(path)
    with pytest.raises(DataError, match=r"20\.png: 8 x 3 pixels, but 0\.png has 8 x 6"):
        list(video)
    assert joined(path, size=(6, 8)).shape == (37, 1, 6, 8)


def test_what_goes_wrong_while_reading_is_named(write: Callable[..., Path], tmp_path: Path) -> None:
    path = write("folder", GREY)
    (path / "30.png").write_bytes((path / "30.png").read_bytes()[:70])
    with pytest.raises(DataError, match=r"30\.png: cannot be read"):
        list(open_frames(path))
    values = np.zeros((20, 6, 8))
    values[11, 1, 2] = np.nan
    np.savez(tmp_path / "values.npz", video=values)
    with pytest.raises(DataError, match=r"values\.npz: .* real values in \[0, 1\], got nan in frame 11"):
        list(open_frames(tmp_path / "values.npz"))


def test_large_chunks_are_read_once_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with h5py.File(tmp_path / "clips.h5", "w") as file:
        file.create_dataset("video", data=GREY[None, :, None], chunks=(1, 37, 1, 6, 8), compression="gzip")
    reads = []
    read = h5py.Dataset.__getitem__

    def counting(self: h5py.Dataset, where: Any, *more: Any) -> Any:
        reads.append(where)
        return read(self, where, *more)

    video = open_frames(tmp_path / "clips.h5")
    monkeypatch.setattr(h5py.Dataset, "__getitem__", counting)
    np.testing.assert_array_equal(np.stack(list(video))[:, 0], GREY)
    assert len(reads) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_impossible_wishes_are_refused(write: Callable[..., Path], kind: str) -> None:
    path = write(kind, COLOURED)
    for options in ({"size": (0, 4)}, {"channels": 5}, {"stop": 0}, {"video": -1}):
        with pytest.raises(ValueError, match="must"):
            open_frames(path, **options)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=rf"{path.name}: .*cannot be turned into 2"):
        open_frames(path, channels=2)
    with pytest.raises(DataError, match="expected a video 1, there are 1"):
        open_frames(path, video=1)
    with pytest.raises(DataError, match="no such file or folder"):
        open_frames(path.with_name("none.gif"))


def test_home_is_found(tmp_path: Path, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    write("clip.npz", GREY)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_frames("~/clip.npz").length == load_clips("~/clip.npz").shape[1] == 37


def test_videos_are_counted_without_reading_them(tmp_path: Path):
    video = np.zeros((3, 2, 1, 8, 9), np.uint8)
    np.savez(tmp_path / "a.npz", video=video)
    np.savez(tmp_path / "b.npz", video=video[0, :, 0])
    save_video(tmp_path / "c.h5", VideoData(video), generator="test")
    for folder in ("d/1", "d/2", "e"):
        (tmp_path / folder).mkdir(parents=True)
        Image.fromarray(video[0, 0, 0]).save(tmp_path / folder / "0.png")
    assert [count_videos(tmp_path / name) for name in ("a.npz", "b.npz", "c.h5", "d", "e")] == [3, 1, 3, 2, 1]
    with pytest.raises(DataError, match="no such file"):
        count_videos(tmp_path / "f")
    (tmp_path / "g.txt").touch()
    with pytest.raises(DataError, match=r"g.txt: expected"):
        count_videos(tmp_path / "g.txt")


@pytest.mark.parametrize("name", ["clip.avi", "clip.gif", "clip.npz", "clip.h5"])
def test_a_folder_may_be_called_like_a_file(tmp_path: Path, name: str):
    folder = tmp_path / name
    folder.mkdir()
    for number in range(3):
        Image.new("L", (20, 8), 40 * number).save(folder / f"{number}.png")
    frames = joined(folder, size=(16, 10))
    assert frames.shape == (3, 1, 16, 10)
    assert (
        frames[:, 0].reshape(3, -1).min(1).tolist()
        == frames[:, 0].reshape(3, -1).max(1).tolist()
        == [0, 40, 80]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_is_a_video_of_its_own(write: Callable[..., Path], kind: str) -> None:
    part = open_frames(write(kind, GREY), channels=1).part(10, 27)
    assert part.count() == part.length == 17
    whole = np.concatenate(list(part.blocks(4)))
    if kind != "clip.avi":  # whose colours are compressed
        assert (whole[:, 0] == GREY[10:27]).all()
    assert len(whole) == 17
    assert (part.window(12, 99) == whole[12:]).all()
    with pytest.raises(DataError, match="has 17 frames, no part 5 to 18"):
        part.part(5, 18)


def test_boxes_of_a_part_are_those_of_its_frames(tmp_path: Path) -> None:
    boxes = RNG.random((1, 37, 2, 4), np.float32) * 2 + 1
    save_video(tmp_path / "clip.h5", VideoData(GREY[None, :, None], boxes=boxes))
    assert (open_frames(tmp_path / "clip.h5").part(10, 27).labels["boxes"] == boxes[0, 10:27]).all()
