from pathlib import Path

import numpy as np
import pytest

from whatwhere.datasets import (
    ClipWindows,
    DataError,
    JoinedVideos,
    VideoData,
    VideoStore,
    check,
    load_video,
    save_video,
    save_video_parts,
)
from whatwhere.datasets.storage import store


def make(videos: int, frames: int, slots: int = 1, seed: int = 0, **labels: np.ndarray | None) -> VideoData:
    """Random videos of 6 x 7 pixels, each of which shows its objects up to a random frame and ends there."""
    rng = np.random.default_rng(seed)
    video = rng.integers(1, 256, (videos, frames, 3, 6, 7), np.uint8)
    boxes = rng.uniform(1, 3, (videos, frames, slots, 4)).astype(np.float32)
    visible = rng.uniform(0.1, 1, (videos, frames, slots)).astype(np.float32)
    for row, length in enumerate(rng.integers(min(3, frames), frames + 1, videos)):
        for value in (video, boxes, visible):
            value[row, length:] = 0
    found: dict = {
        "count": (boxes[..., 2] > 0).sum(-1),
        "classes": rng.integers(0, 9, (videos, slots)),
        "boxes": boxes,
        "visible": visible,
        "groups": rng.integers(0, 4, videos),
        "segments": rng.integers(0, slots + 1, (videos, frames, 6, 7), np.uint8),
        "names": np.array([f"{seed}-{row}" for row in range(videos)]),
    }
    found.update(labels)
    return VideoData(video, **found)


def write(folder: Path, *all_data: VideoData) -> list[Path]:
    paths = [folder / f"{number}.h5" for number in range(len(all_data))]
    for path, data in zip(paths, all_data, strict=True):
        save_video(path, data)
    return paths


def join(folder: Path, *all_data: VideoData) -> VideoData:
    path = folder / "joined.h5"
    save_video_parts(path, JoinedVideos(write(folder, *all_data)).parts())
    assert check(path).problems == []
    return load_video(path)


def test_frames_and_slots_are_the_most_and_the_rest_is_empty(tmp_path: Path) -> None:
    parts = [make(4, 3, 2, seed=1), make(2, 6, 1, seed=2), make(3, 5, 3, seed=3)]
    joined = join(tmp_path, *parts)
    assert joined.shape == (9, 6, 3, 6, 7)
    start = 0
    for part in parts:
        (videos, frames), slots = part.shape[:2], part.boxes.shape[2]  # type: ignore[union-attr]
        rows = slice(start, start + videos)
        np.testing.assert_array_equal(joined.video[rows, :frames], part.video)
        assert not joined.video[rows, frames:].any()
        for name in ("count", "boxes", "visible"):
            value, whole = part.labels()[name], joined.labels()[name][rows]
            kept = whole[:, :frames] if name == "count" else whole[:, :frames, :slots]
            np.testing.assert_array_equal(kept, value)
            assert not whole[:, frames:].any()
            assert name == "count" or not whole[:, :, slots:].any()
        np.testing.assert_array_equal(joined.segments[rows, :frames], part.segments)  # type: ignore[index]
        assert not joined.segments[rows, frames:].any()  # type: ignore[index]
        np.testing.assert_array_equal(joined.classes[rows, :slots], part.classes)  # type: ignore[index]
        assert (joined.classes[rows, slots:] == -1).all()  # type: ignore[index]
        np.testing.assert_array_equal(joined.names[rows], part.names)  # type: ignore[index]
        start += videos


def test_groups_of_two_files_are_never_one(tmp_path: Path) -> None:
    groups = [np.array([7, 3, 7, 20]), None, np.array([3, 3, 0])]
    parts = [make(len(g) if g is not None else 2, 3, seed=k, groups=g) for k, g in enumerate(groups)]
    paths = write(tmp_path, *parts)
    joined = JoinedVideos(paths)
    assert [rows.tolist() for rows in joined.groups] == [[1, 0, 1, 2], [3, 3], [5, 5, 4]]
    assert joined.left_out == []
    assert join(tmp_path, *parts).groups.tolist() == [1, 0, 1, 2, 3, 3, 5, 5, 4]  # type: ignore[union-attr]


def test_labels_that_not_all_have_are_left_out(tmp_path: Path) -> None:
    bare = make(2, 3, 1, seed=1, classes=None, names=None, groups=None)
    other = make(3, 4, 1, seed=2, visible=None)
    paths = write(tmp_path, bare, other)
    joined = JoinedVideos(paths)
    assert joined.left_out == ["classes", "visible", "names"]
    assert joined.shape == (5, 4, 3, 6, 7)
    assert len(joined) == 5
    assert joined.paths == paths
    assert set(join(tmp_path, bare, other).labels()) == {"count", "boxes", "groups", "segments"}
    none = [VideoData(part.video) for part in (bare, other)]
    assert join(tmp_path, *none).labels().keys() == {"groups"}


def test_windows_of_the_joined_file_are_those_of_its_parts(tmp_path: Path) -> None:
    parts = [make(5, 12, 2, seed=1), make(4, 30, seed=2), make(6, 7, seed=3)]
    join(tmp_path, *parts)
    with_all = ClipWindows(VideoStore(tmp_path / "joined.h5"), mirror=True, reverse=True)
    start = 0
    for number, part in enumerate(parts):
        alone = ClipWindows(part, mirror=True, reverse=True)
        own, rows = np.arange(len(part)), np.arange(start, start + len(part))
        np.testing.assert_array_equal(with_all.lengths[rows], alone.lengths)
        whole = with_all.batch(rows, 8, np.random.default_rng(number))
        window = alone.batch(own, 8, np.random.default_rng(number))
        clip, expected = with_all.clips(rows), alone.clips(own)
        for found, wanted in ((whole, window), (clip, expected)):
            np.testing.assert_array_equal(found.video, wanted.video)
            np.testing.assert_array_equal(found.count, wanted.count)
            np.testing.assert_array_equal(found.boxes[:, :, 0], wanted.boxes[:, :, 0])  # type: ignore[index]
        start += len(part)


def test_parts_are_small_and_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three of the longest videos fit into a part, whichever file a part is from."""
    first, last = (
        make(7, 2, seed=1, groups=np.arange(7)[::-1].copy()),
        make(4, 5, seed=2, groups=np.arange(4)),
    )
    paths = write(tmp_path, first, last)
    monkeypatch.setattr(store, "PART_BYTES", 3 * 5 * 3 * 6 * 7)
    joined = JoinedVideos(paths)
    parts = list(joined.parts())
    assert [len(part) for part in parts] == [3, 3, 1, 3, 1]
    names = np.concatenate([part.names for part in parts])  # type: ignore[arg-type]
    assert names.tolist() == [f"1-{row}" for row in range(7)] + [f"2-{row}" for row in range(4)]
    groups = np.concatenate([part.groups for part in parts])  # type: ignore[arg-type]
    assert groups.tolist() == [6, 5, 4, 3, 2, 1, 0, 7, 8, 9, 10]
    assert [part.names.tolist() for part in joined.parts()] == [p.names.tolist() for p in parts]  # type: ignore[union-attr]


def test_one_file_is_itself_with_consecutive_groups(tmp_path: Path) -> None:
    data = make(5, 3, 2)
    joined = join(tmp_path, data)
    np.testing.assert_array_equal(joined.video, data.video)
    for name in data.labels().keys() - {"groups"}:
        np.testing.assert_array_equal(joined.labels()[name], data.labels()[name])


def test_frames_of_another_kind_are_refused_with_both_files(tmp_path: Path) -> None:
    first, large, grey = (tmp_path / f"{name}.h5" for name in ("first", "large", "grey"))
    save_video(first, make(1, 3))
    save_video(large, VideoData(np.zeros((1, 3, 3, 8, 7), np.uint8)))
    save_video(grey, VideoData(np.zeros((1, 3, 1, 6, 7), np.uint8)))
    message = r"large\.h5: frames of 7 x 8 pixels and 3 channels, but .*first\.h5 has 7 x 6 pixels and 3 ch"
    with pytest.raises(DataError, match=message):
        JoinedVideos([first, first, large])
    with pytest.raises(DataError, match=r"grey\.h5: .* and 1 channel, but .*first\.h5 has .* and 3 channels"):
        JoinedVideos([first, grey])
    with pytest.raises(DataError, match=r"none\.h5: no such file"):
        JoinedVideos([first, tmp_path / "none.h5"])
    with pytest.raises(ValueError, match="`paths` must be at least one file"):
        JoinedVideos([])
