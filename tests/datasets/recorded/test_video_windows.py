from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from whatwhere.datasets import (
    DataError,
    FrameRecipe,
    Frames,
    Preparation,
    Stretch,
    VideoData,
    VideoWindows,
    WindowRecipe,
    held_in_time,
    in_parts,
    load_video,
    open_fitted,
    open_frames,
    save_video_parts,
)

LENGTH, HEIGHT, WIDTH = 40, 24, 32


def place(t: int) -> tuple[int, int]:
    """Left and top of the object in frame t."""
    return (3 * t) % 26, (2 * t) % 18


@pytest.fixture
def video(tmp_path: Path) -> Frames:
    """A bright object of 4 x 5 on grey values that tell the frame."""
    pixels = np.zeros((LENGTH, HEIGHT, WIDTH), np.uint8)
    for t in range(LENGTH):
        left, top = place(t)
        pixels[t] = t
        pixels[t, top : top + 5, left : left + 4] = 255
    np.savez(tmp_path / "film.npz", video=pixels)
    return open_frames(tmp_path / "film.npz")


OBJECTS = {t: {"a": np.array([*place(t), 4, 5], float)} for t in range(LENGTH)}


def windows(video: Frames, start: int = 0, stop: int = LENGTH, objects: Any = OBJECTS, **options: Any):
    return VideoWindows([Stretch(video, start, stop, objects)], WindowRecipe(**options))


def times(data: VideoData) -> list[list[int]]:
    return [[int(frame.min()) for frame in clip] for clip in data.video]


def test_every_frame_begins_a_window(video: Frames) -> None:
    found = windows(video, 5, 20, frames=4)
    assert found.shape == (12, 4, 1, HEIGHT, WIDTH)
    data = found.subset(range(len(found)))
    assert times(data) == [[t, t + 1, t + 2, t + 3] for t in range(5, 17)]
    assert data.names is not None
    assert data.names[0] == "film.npz@5-9"


def test_frames_apart_and_windows_apart(video: Frames) -> None:
    found = windows(video, frames=3, every=4, stride=10)
    assert times(found.subset(range(len(found)))) == [[0, 4, 8], [10, 14, 18], [20, 24, 28], [30, 34, 38]]


@pytest.mark.parametrize("options", [{}, {"cut": "activity"}, {"cut": "tiles"}, {"mirror": True}])
def test_what_is_cut_out_is_where_its_region_says(video: Frames, options: dict[str, Any]) -> None:
    found = windows(video, frames=2, crop=(10, 12), **options)
    whole = np.stack(list(video))
    rows = np.arange(0, len(found), 3)
    data = found.subset(rows)
    assert data.regions is not None
    mirrored = 0
    for clip, (left, top, width, height) in zip(data.video, data.regions.astype(int), strict=True):
        assert (abs(width), height) == (12, 10)
        left, clip = (left + width, clip[..., ::-1]) if width < 0 else (left, clip)
        mirrored += width < 0
        t = int(clip[0].min())
        np.testing.assert_array_equal(clip, whole[t : t + 2, :, top : top + 10, left : left + 12])
    assert (mirrored > 0) == ("mirror" in options)
    if "mirror" in options:
        assert 0.3 < mirrored / len(rows) < 0.7


def test_boxes_are_those_of_what_is_seen(video: Frames) -> None:
    """The bright pixels of each frame, whichever part and whichever way round."""
    found = windows(video, frames=3, crop=(12, 14), mirror=True)
    data = found.subset(range(0, len(found), 2))
    assert data.boxes is not None
    assert data.count is not None
    assert data.visible is not None
    seen = 0
    for clip, boxes, count, visible in zip(data.video, data.boxes, data.count, data.visible, strict=True):
        for frame, box, number, share in zip(clip[:, 0], boxes, count, visible, strict=True):
            bright = np.argwhere(frame == 255)
            if len(bright) < 0.3 * 20:
                assert not number
                assert not box.any()
                continue
            (top, left), (bottom, right) = bright.min(0), bright.max(0) + 1
            np.testing.assert_allclose(box[0], [left, top, right - left, bottom - top])
            assert number == 1
            assert share[0] == pytest.approx(len(bright) / 20)
            seen += 1
    assert seen > 50


def test_tiles_cover_the_frame(video: Frames) -> None:
    found = windows(video, frames=1, crop=(10, 12), cut="tiles")
    assert len(found) == LENGTH * 9
    data = found.subset(range(9))
    covered = np.zeros((HEIGHT, WIDTH), bool)
    assert data.regions is not None
    for left, top, width, height in data.regions.astype(int):
        covered[top : top + height, left : left + width] = True
    assert covered.all()


def test_activity_is_in_three_of_four_cuts(tmp_path: Path) -> None:
    pixels = np.zeros((30, 40, 60), np.uint8)
    pixels[:, 30, 50] = 200
    np.savez(tmp_path / "dot.npz", video=pixels)
    video = open_frames(tmp_path / "dot.npz")
    shares = {}
    for cut in ("random", "activity"):
        found = windows(video, 0, 30, None, frames=1, crop=(8, 10), cut=cut)
        shares[cut] = (found.subset(range(len(found))).video.max((1, 2, 3, 4)) > 0).mean()
    assert len(found) == 30 * 16
    assert 0.7 < shares["activity"] < 0.85
    assert shares["random"] < 0.12


def test_motion_is_in_three_of_four_cuts(tmp_path: Path) -> None:
    """A grey spot moves over stripes, in noise of sixteen times its sum, but a tenth of its energy."""
    rng = np.random.default_rng(0)
    pixels = np.zeros((40, 40, 60), np.uint8) + np.where(np.arange(60) % 2, 200, 50).astype(np.uint8)
    pixels = pixels + rng.integers(0, 2, pixels.shape).astype(np.uint8)
    for t in range(40):
        pixels[t, 30, 10 + t] = 125
    np.savez(tmp_path / "spot.npz", video=pixels)
    video = open_frames(tmp_path / "spot.npz")
    shares = {}
    for cut in ("random", "activity", "motion"):
        found = windows(video, 0, 40, None, frames=1, crop=(8, 10), cut=cut)
        shares[cut] = (found.subset(range(len(found))).video == 125).any((1, 2, 3, 4)).mean()
    assert 0.6 < shares["motion"] < 0.8
    assert max(shares["random"], shares["activity"]) < 0.12


def test_windows_are_a_pure_function_of_their_number(video: Frames) -> None:
    found = windows(video, frames=2, crop=(9, 9), mirror=True)
    rows = [7, 150, 7, 3, 99]
    batch = found.batch(rows)
    other = windows(video, frames=2, crop=(9, 9), mirror=True)
    for row, index in enumerate(rows):
        np.testing.assert_array_equal(batch.video[row], other.batch([index]).video[0])
    assert batch.boxes is not None


def test_few_frames_are_in_memory(video: Frames, monkeypatch: pytest.MonkeyPatch) -> None:
    module = "whatwhere.datasets.recorded.video_windows"
    monkeypatch.setattr(f"{module}._MIXED", 3)
    monkeypatch.setattr(f"{module}.MEMORY", 3 * 6 * HEIGHT * WIDTH)
    found = windows(video, frames=2)
    assert found.pieces[0] == 4  # with the one that its windows reach over, and no more than 6
    assert sum(found.pieces) == len(found) == LENGTH - 1
    for start in range(0, LENGTH - 10, 3):
        found.batch(range(start, start + 8))
        assert sum(len(piece) for piece in found._cache.values()) <= 5 * 6


def test_the_end_of_each_video_is_held_out(video: Frames) -> None:
    train, test = held_in_time([video, video], 0.25, [OBJECTS, None])
    assert [(each.start, each.stop) for each in train + test] == [(0, 30), (0, 30), (30, 40), (30, 40)]
    assert not VideoWindows(train, WindowRecipe()).labelled


def test_what_does_not_fit_is_refused(video: Frames) -> None:
    with pytest.raises(DataError, match=r"a window takes 41 frames, but there are 40 in a row .*has 40\)\."):
        windows(video, frames=41)
    train, _ = held_in_time([video.part(0, 2)], 0.1, [None], least=3)
    with pytest.raises(DataError, match=r"takes 3 frames, .* 0 in a row \(the video has 2\): too few"):
        VideoWindows(train, WindowRecipe(frames=3))
    with pytest.raises(DataError, match=r"frames of \(24, 32\) are smaller than `crop` = \(25, 9\)"):
        windows(video, crop=(25, 9))


def test_clips_in_a_file_lead_back_to_the_users_frames(tmp_path: Path, video: Frames) -> None:
    """Frames are enlarged twice, cut and mirrored; boxes found in the clips are those of the first video."""
    recipe = FrameRecipe(scale=2.0)
    large = open_fitted(video.path, recipe)
    assert large.size == (48, 64)
    objects = {t: {name: 2 * box for name, box in each.items()} for t, each in OBJECTS.items()}
    found = windows(large, frames=3, crop=(30, 40), stride=5, mirror=True, objects=objects)
    save_video_parts(tmp_path / "clips.h5", in_parts(found))
    data = load_video(tmp_path / "clips.h5")
    assert data.boxes is not None
    assert data.names is not None
    checked = 0
    for number, name in enumerate(data.names):
        clip = open_frames(tmp_path / "clips.h5", video=number)
        first = int(name.partition("@")[2].partition("-")[0])
        for t in range(3):
            if data.visible is not None and data.visible[number, t, 0] == 1:
                back = clip.in_source(data.boxes[number, t, 0])
                np.testing.assert_allclose(back, OBJECTS[first + t]["a"], atol=1e-4)
                np.testing.assert_allclose(clip.from_source(back), data.boxes[number, t, 0], atol=1e-3)
                checked += 1
    assert checked > 20


def test_frames_of_a_film_are_prepared_wherever_reading_begins(tmp_path: Path) -> None:
    for t in range(20):
        pixels = np.full((20, 30), 90, np.uint8)
        pixels[5:9, t : t + 4] = 30
        Image.fromarray(pixels).save(tmp_path / f"{t}.png")
    video = open_fitted(tmp_path, FrameRecipe(prepare=Preparation("median", "dark", normalise=True)))
    assert video.channels == 1
    whole = np.stack(list(video))
    assert (whole[7, 0, 5:9, 7:11] > 250).all()
    assert whole[7, 0].sum() == whole[7, 0, 5:9, 7:11].sum()
    np.testing.assert_array_equal(video.window(7, 9), whole[7:9])


def test_a_running_ground_is_that_of_where_reading_begins(tmp_path: Path) -> None:
    """Light falls by 1 a frame over 60, so that frame 5 is 25 brighter than the median of all."""
    for t in range(60):
        pixels = np.full((20, 30), 150 - t, np.uint8)
        pixels[5:9, t % 26 : t % 26 + 4] = 240
        Image.fromarray(pixels).save(tmp_path / f"{t:02}.png")
    video = open_fitted(tmp_path, FrameRecipe(prepare=Preparation("running", "bright")))
    whole = np.stack(list(video))
    assert whole[12:45, :, 12:].max() <= 2  # a sample of 48 leaves out every fifth frame
    assert whole[30, 0, 5:9, 4:8].min() > 110
    np.testing.assert_array_equal(video.window(31, 40), whole[31:40])


def test_a_size_is_told_in_one_way() -> None:
    with pytest.raises(ValueError, match="`resize` and `scale` are two ways"):
        FrameRecipe(resize=(3, 4), scale=0.5)


def test_an_unknown_cut_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`cut` must be one of random, .* tiles, got 'activty'"):
        WindowRecipe(cut="activty")  # type: ignore[arg-type]
