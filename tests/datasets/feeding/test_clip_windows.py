from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from whatwhere.datasets import (
    ClipWindows,
    DataError,
    VideoBatch,
    VideoData,
    VideoStore,
    mirrored_boxes,
    save_video,
)

FRAMES, HEIGHT, WIDTH = 12, 3, 8


def clips(present: list[str]) -> VideoData:
    """Videos in whose frames marked `x` object 1 is present; object 0 is nowhere.

    A pixel's grey value tells its video, frame and column: 100 video + 8 frame + column.
    """
    here = np.array([[letter == "x" for letter in row.ljust(FRAMES, ".")] for row in present])
    number = np.arange(len(present))[:, None, None, None, None]
    frame, column = np.arange(FRAMES)[:, None, None, None], np.arange(WIDTH)
    video = np.broadcast_to(100 * number + 8 * frame + column, (len(present), FRAMES, 1, HEIGHT, WIDTH))
    boxes = np.zeros((len(present), FRAMES, 2, 4), np.float32)
    boxes[:, :, 1] = np.stack(np.broadcast_arrays(np.arange(FRAMES) / 2, 1.0, 2.0, 1.5), -1)
    boxes[~here] = 0
    return VideoData(
        video.astype(np.uint8),
        count=here.astype(np.int64),
        classes=np.tile([[-1, 4]], (len(present), 1)),
        boxes=boxes,
        visible=np.stack([0 * here, 0.5 * here], -1).astype(np.float32),
        groups=np.arange(len(present)) + 5,
        names=np.array([f"clip{number}" for number in range(len(present))]),
    )


def shown(batch: VideoBatch, row: int) -> list[int]:
    """The numbers of the frames in a window of the video 0."""
    first = (batch.video[row, :, 0, 0, 0] * 255).round().int().tolist()
    last = max([i for i, boxes in enumerate(batch.boxes[row]) if boxes.any()], default=-1)  # type: ignore[arg-type]
    return [value // 8 for value in first[: last + 1]]


def exact_distribution(present: str, least: int, most: int) -> dict[tuple[int, ...], float]:
    """Probability of every window by enumeration."""
    end = present.rindex("x") + 1
    here = [i for i, letter in enumerate(present) if letter == "x"]
    starts = [i for i in here if end - i >= least] or here[:1]
    table: Counter[tuple[int, ...]] = Counter()
    for start in starts:
        for length in range(least, most + 1):
            window = tuple(range(start, min(start + length, end)))
            table[window] += 1 / len(starts) / (most + 1 - least)  # type: ignore[assignment]
    return dict(table)


@pytest.mark.parametrize(
    ("present", "least", "most"),
    [
        ("xxxxxxxx", 3, 5),  # cut by the end
        ("xxx", 5, 7),  # shorter than the least
        ("..xxxx", 3, 3),
        ("xx..xxx", 2, 4),  # a gap, at which no window starts
        (".......xx", 5, 9),  # no start leaves enough frames
        ("xxxxxxxxxxxx", 1, 2),  # without padding
    ],
)
def test_windows_have_the_documented_distribution(present: str, least: int, most: int) -> None:
    windows = ClipWindows(clips([present]), slot=1, min_length=least)
    draws = 2000
    rows = windows.batch([0] * draws, most, np.random.default_rng(0))
    # A window whose last frames lie in a gap is told by its grey values, not by its boxes.
    found: Counter[tuple[int, ...]] = Counter()
    for row in range(draws):
        grey = (rows.video[row, :, 0, 0, 1] * 255).round().int().tolist()  # column 1 is never 0
        found[tuple((value - 1) // 8 for value in grey if value)] += 1
    expected = exact_distribution(present, least, most)
    assert found.keys() == expected.keys()
    for window, probability in expected.items():
        spread = np.sqrt(draws * probability * (1 - probability))
        assert abs(found[window] - draws * probability) <= 4.5 * spread, window


def test_windows_are_pieces_of_their_videos_with_their_labels() -> None:
    data = clips(["xxxxxxxx", "xxxxxxxxxx"])
    windows = ClipWindows(data, slot=1)
    indices = [1, 0, 1]
    batch = windows.batch(indices, 7, np.random.default_rng(3))
    assert batch.video.shape == (3, 7, 1, HEIGHT, WIDTH)
    assert batch.video.dtype == torch.float32
    assert data.boxes is not None
    for name in ("count", "boxes", "visible"):
        assert getattr(batch, name).shape[1] == 7
    assert batch.groups is not None
    assert batch.groups.tolist() == [6, 5, 6]
    assert batch.classes is not None
    assert batch.classes.tolist() == [[-1, 4]] * 3
    for row, index in enumerate(indices):
        assert batch.count is not None
        length = int(batch.count[row].sum())
        assert 5 <= length <= 7
        assert batch.count[row].tolist() == [1] * length + [0] * (7 - length)
        grey = (batch.video[row] * 255).round().numpy()
        start = int((grey[0, 0, 0, 0] - 100 * index) // 8)
        np.testing.assert_array_equal(grey[:length], data.video[index, start : start + length])
        for name in ("boxes", "visible"):
            value = getattr(batch, name)[row].numpy()
            np.testing.assert_array_equal(value[:length], data.labels()[name][index, start : start + length])
            assert not value[length:].any()
        assert not grey[length:].any()


def test_a_store_gives_the_windows_of_the_data_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = clips(["xxxxxxxx", "xxx", "..xxxxx"])
    save_video(tmp_path / "data.h5", data)
    read: list[int | None] = []
    original = VideoStore.frames

    def frames(self: VideoStore, index: int, stop: int | None = None) -> Any:
        read.append(stop)
        return original(self, index, stop)

    monkeypatch.setattr(VideoStore, "frames", frames)
    lazy, whole = (ClipWindows(x, slot=1, mirror=True) for x in (VideoStore(tmp_path / "data.h5"), data))
    assert read == [8, 3, 7]  # padding is neither read nor kept
    assert lazy.lengths.tolist() == whole.lengths.tolist() == [8, 3, 7]
    assert lazy.shape == whole.shape == data.shape
    assert len(lazy) == 3
    for a, b in zip(
        lazy.batch([0, 1, 2], 6, np.random.default_rng(1)),
        whole.batch([0, 1, 2], 6, np.random.default_rng(1)),
        strict=True,
    ):
        assert a is b is None or torch.equal(a, b)


def test_equal_generators_give_equal_windows_and_others_do_not() -> None:
    windows = ClipWindows(clips(["x" * 12] * 4), slot=1, mirror=True, reverse=True)
    first, second, other = (
        windows.batch([0, 1, 2, 3], 8, np.random.default_rng(seed)).video for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_whole_clips_are_as_long_as_the_longest_chosen() -> None:
    data = clips(["xxxxxxxx", "xxx", "..xxx.x"])
    windows = ClipWindows(data, slot=1, mirror=True, reverse=True)
    batch = windows.clips([1, 2])
    np.testing.assert_array_equal((batch.video[1] * 255).round(), data.video[2, :7])
    np.testing.assert_array_equal((batch.video[0, :3] * 255).round(), data.video[1, :3])
    assert not batch.video[0, 3:].any()
    assert batch.count is not None
    assert batch.count.tolist() == [[1, 1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 1, 0, 1]]
    assert windows.clips([]).video.shape == (0, 0, 1, HEIGHT, WIDTH)


def test_mirrored_windows_exchange_left_and_right_of_pixels_and_boxes() -> None:
    data = clips(["xxxx..x"])
    segments = (data.video[:, :, 0] > 99).astype(np.uint8)
    data = replace(data, segments=segments)
    mirrored = plain = 0
    batch = ClipWindows(data, slot=1, min_length=7, mirror=True).batch([0] * 400, 7, np.random.default_rng(0))
    assert batch.boxes is not None
    assert data.boxes is not None
    expected = data.boxes[0, :7].copy()
    turned = expected.copy()
    for frame in (0, 1, 2, 3, 6):
        left, top, width, height = expected[frame, 1].tolist()
        turned[frame, 1] = 8 - (left + width), top, width, height  # the right border becomes the left one
    for row in range(400):
        grey = (batch.video[row] * 255).round().numpy()
        if np.array_equal(grey, data.video[0, :7]):
            plain += 1
            np.testing.assert_array_equal(batch.boxes[row], expected)
        else:
            mirrored += 1
            np.testing.assert_array_equal(grey, data.video[0, :7, ..., ::-1])
            np.testing.assert_array_equal(batch.boxes[row], turned)
        np.testing.assert_array_equal(batch.segments[row], grey[:, 0] > 99)  # type: ignore[index]
    assert abs(mirrored - plain) < 4.5 * 20


def test_mirroring_twice_changes_nothing() -> None:
    boxes = np.random.default_rng(0).integers(0, 20, (5, 3, 4)).astype(np.float32)
    boxes[0, 0] = 0
    once = mirrored_boxes(boxes, 30)
    assert not once[0, 0].any()
    np.testing.assert_array_equal(mirrored_boxes(once, 30), boxes)


def test_reversed_windows_begin_with_the_last_frame_that_shows_the_object() -> None:
    windows = ClipWindows(clips(["xx..xx"]), slot=1, min_length=3, reverse=True)
    batch = windows.batch([0] * 800, 5, np.random.default_rng(0))
    found = {tuple(shown(batch, row)) for row in range(800)}
    # Of frames 0-2, 0-3, 0-4, 1-3, 1-4 and 1-5; `shown` leaves out what follows the object's last frame.
    forward = {(0, 1), (0, 1, 2, 3, 4), (1,), (1, 2, 3, 4), (1, 2, 3, 4, 5)}
    assert found == forward | {window[::-1] for window in forward}


def test_what_cannot_be_followed_is_refused() -> None:
    data = clips(["xxxxx", "xxxxx"])
    with pytest.raises(DataError, match=r"video 1 \(clip1\) has no frame that shows object 1"):
        ClipWindows(clips(["xxx", ""]), slot=1)
    with pytest.raises(DataError, match=r"video 0 \(clip0\) has no frame that shows object 0"):
        ClipWindows(data)
    with pytest.raises(ValueError, match=r"`slot` must be in \[0, 2\).*got 2"):
        ClipWindows(data, slot=2)
    with pytest.raises(ValueError, match="`source` must have the label `boxes`"):
        ClipWindows(VideoData(data.video))
    with pytest.raises(ValueError, match="`min_length` must be at least 1, got 0"):
        ClipWindows(data, slot=1, min_length=0)
    windows = ClipWindows(data, slot=1)
    with pytest.raises(ValueError, match="`length` must be at least `min_length`, 5, got 4"):
        windows.batch([0], 4, np.random.default_rng(0))
    with pytest.raises(IndexError, match=r"\[0, 2\), got 2 to 2"):
        windows.batch([2], 5, np.random.default_rng(0))


def test_only_boxes_are_needed() -> None:
    data = clips(["xxxxx"])
    batch = ClipWindows(VideoData(data.video, boxes=data.boxes), slot=1).batch(
        [0], 6, np.random.default_rng(0)
    )
    assert batch.count is None
    assert batch.boxes is not None
    assert (batch.boxes[0, :, 1, 2] > 0).tolist() == [True] * 5 + [False]


def test_a_single_frame_is_one_of_those_that_show_the_object():
    windows = ClipWindows(clips(["x.xx.", "..x"]), slot=1, min_length=1)
    drawn = [windows.frame(0, np.random.default_rng(seed)) for seed in range(60)]
    numbers = Counter(int(frame.image[0, 0, 0]) // 8 for frame in drawn)
    assert set(numbers) == {0, 2, 3}
    assert min(numbers.values()) > 8
    for frame in drawn:
        assert frame.box.tolist() == [frame.image[0, 0, 0] // 8 / 2, 1.0, 2.0, 1.5]
    assert windows.frame(1, np.random.default_rng(0)).image[0, 0, 0] == 100 + 16
    with pytest.raises(IndexError):
        windows.frame(2, np.random.default_rng(0))


def test_bytes_are_the_same_frames():
    grey, levels = (
        ClipWindows(clips(["xxxx", "xx"]), slot=1, min_length=1, as_bytes=as_bytes)
        for as_bytes in (False, True)
    )
    for draw in (
        lambda source: source.clips([0, 1]),
        lambda source: source.batch([0], 3, np.random.default_rng(0)),
    ):
        assert draw(levels).video.dtype == torch.uint8
        torch.testing.assert_close(draw(levels).video / 255, draw(grey).video)
        assert torch.equal(draw(levels).boxes, draw(grey).boxes)
