import tarfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from whatwhere.datasets import (
    KITTI_CLASSES,
    KITTI_SIZES,
    ClipWindows,
    DataError,
    KITTIClip,
    KITTIRecipe,
    check,
    drive_split,
    kitti_parts,
    kitti_tracks,
    kitti_windows,
    load_kitti,
    load_video,
    read_kitti_labels,
    save_video_parts,
    temporal_split,
    window_starts,
)
from whatwhere.datasets.storage import store
from whatwhere.models.components.boxes import iou

RNG = np.random.default_rng(0)
SIZE = (6, 20)
DONT_CARE = "0 -1 DontCare -1 -1 -10 1 2 3 4 -1000 -1000 -1000 -10 -1 -1 -1"


def label(
    frame: int,
    track: int,
    kind: str = "Car",
    truncated: int = 0,
    occluded: int = 0,
    corners: Sequence[float] = (1, 2, 5, 4),
) -> str:
    edges = " ".join(map(str, corners))
    return f"{frame} {track} {kind} {truncated} {occluded} -1.5 {edges} 1.5 1.6 3.5 -2 1.5 40 0.1"


def write_labels(path: Path, lines: Sequence[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in lines))
    return path


def write_frames(folder: Path, frames: dict[int, np.ndarray]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in frames.items():
        Image.fromarray(frame).save(folder / f"{number:06}.png")


def random_frames(numbers: Sequence[int], height: int = 6, width: int = 20) -> dict[int, np.ndarray]:
    return {number: RNG.integers(0, 256, (height, width, 3), np.uint8) for number in numbers}


def write_drive(root: Path, drive: int, lines: Sequence[str], frames: dict[int, np.ndarray]) -> None:
    write_labels(root / "label_02" / f"{drive:04}.txt", lines)
    write_frames(root / "image_02" / f"{drive:04}", frames)


def summary(clips: Sequence[KITTIClip]) -> list[tuple[int, int, int, int]]:
    return [(clip.track, clip.identity, clip.start, clip.stop) for clip in clips]


def test_a_line_is_read_as_described(tmp_path: Path) -> None:
    line = "7 12 Van 1 2 -1.793451 296.744956 161.752147 455.226042 292.372804 2 1.8 4.4 -4.5 1.8 13.4 -2.1"
    path = write_labels(tmp_path / "0000.txt", [DONT_CARE, "", line, label(7, 3, "Person")])
    van, sitting = read_kitti_labels(path)
    assert (van.line, van.frame, van.track, van.kind, van.truncated, van.occluded) == (3, 7, 12, "Van", 1, 2)
    assert van.box == pytest.approx((296.744956, 161.752147, 158.481086, 130.620657), abs=1e-9)
    assert (sitting.line, sitting.kind) == (4, "Person_sitting")


def test_occlusion_cuts_a_track_into_two_identities(tmp_path: Path) -> None:
    """Four lines: a region to leave out, and an object that is seen, largely hidden, and seen again."""
    lines = [DONT_CARE, label(0, 4), label(1, 4, occluded=2), label(2, 4, occluded=1, corners=(3, 2, 9, 6))]
    labels = read_kitti_labels(write_labels(tmp_path / "0003.txt", lines))
    first, second = kitti_tracks(labels, 3)
    assert summary([first, second]) == [(4, 0, 0, 1), (4, 1, 2, 3)]
    assert [first.name, second.name] == ["0003_4.0_000000", "0003_4.1_000002"]
    np.testing.assert_array_equal(second.boxes, [[3, 2, 6, 4]])
    assert list(second.lines) == [4]
    assert summary(kitti_tracks(labels, 3, max_occlusion=2)) == [(4, 0, 0, 3)]
    assert summary(kitti_tracks(labels, 3, max_occlusion=0)) == [(4, 0, 0, 1)]


def test_objects_are_chosen_by_class_size_and_truncation(tmp_path: Path) -> None:
    lines = [
        label(1, 0),
        label(0, 0, corners=(0, 0, 3, 9)),
        label(0, 1, "Tram", truncated=1),
        label(1, 1, "Tram", truncated=2),
        label(3, 1, "Tram"),
        label(0, 2, "Misc", occluded=3),
    ]
    labels = read_kitti_labels(write_labels(tmp_path / "0000.txt", lines))
    assert summary(kitti_tracks(labels, 0)) == [(0, 0, 0, 2), (1, 0, 0, 1), (1, 1, 3, 4)]
    assert summary(kitti_tracks(labels, 0, max_truncation=2)) == [(0, 0, 0, 2), (1, 0, 0, 2), (1, 1, 3, 4)]
    assert summary(kitti_tracks(labels, 0, max_truncation=0)) == [(0, 0, 0, 2), (1, 0, 3, 4)]
    assert summary(kitti_tracks(labels, 0, classes=["Tram"])) == [(1, 0, 0, 1), (1, 1, 3, 4)]
    assert summary(kitti_tracks(labels, 0, min_side=3))[0] == (0, 0, 0, 1)
    assert summary(kitti_tracks(labels, 0, min_side=2)) == summary(kitti_tracks(labels, 0))
    (hidden,) = kitti_tracks(labels, 0, classes=["Misc"], max_occlusion=3)
    assert (hidden.kind, hidden.start) == ("Misc", 0)


BAD_LINES = [
    (label(0, 1)[:-4], r"expected 17 columns, got 16"),
    (label(0, 1) + " 0.5", r"expected 17 columns, got 18"),
    (label(0, 1, "Dog"), r"`type` must be one of Car, .* or DontCare, got 'Dog'"),
    ("x" + label(0, 1), r"must be integers, got 'x0 1 Car 0 0'"),
    (label(0, 1).replace(" 1 Car", " 1.5 Car"), r"must be integers, got '0 1.5 Car 0 0'"),
    (label(0, 1, truncated=0.5), r"must be integers"),  # type: ignore[arg-type]
    (label(-1, 1), r"`frame` must not be negative, got -1"),
    (label(0, -1), r"`track` must not be negative, got -1"),
    (DONT_CARE.replace("0 -1 Dont", "0 3 Dont"), r"`track` must be -1 for DontCare, got 3"),
    (label(0, 1, truncated=3), r"`truncated` must be 0 to 2, got 3"),
    (label(0, 1, truncated=-1), r"`truncated` must be 0 to 2, got -1"),
    (label(0, 1, occluded=4), r"`occluded` must be 0 to 3, got 4"),
    (label(0, 1, occluded=-1), r"`occluded` must be 0 to 3, got -1"),
    (label(0, 1, corners=(1, 2, 1, 4)), r"the box .* `1 2 1 4` has no area"),
    (label(0, 1, corners=(1, 4, 3, 2)), r"the box .* has no area"),
    (label(0, 1).replace("-1.5", "x"), r"columns 6 to 17 must be numbers: .*got 'x'"),
    (
        label(0, 1, corners=(1, 2, float("inf"), 4)),
        r"must be numbers: .* at most 1e\+09, got 'inf'",
    ),
    (label(0, 1, corners=(-1.7e308, 2, 1.7e308, 4)), r"columns 6 to 17 must be numbers: .* got '-1.7e\+308'"),
    (label(0, 1).replace("0.1", "nan"), r"columns 6 to 17 must be numbers: .*got 'nan'"),
    (label(0, 1).replace("0 1", "9" * 5000 + " 1", 1), r"must be integers"),
    (label(0, 0), r"track 0 is in frame 0 on line 2 already"),
    (label(1, 0, "Van"), r"track 0 is a Van, but a Car before"),
]


@pytest.mark.parametrize(("line", "message"), BAD_LINES, ids=range(len(BAD_LINES)))
def test_bad_lines_are_refused_with_file_and_line(tmp_path: Path, line: str, message: str) -> None:
    path = write_labels(tmp_path / "0001.txt", [DONT_CARE, label(0, 0), line, label(2, 0)])
    with pytest.raises(DataError, match=r"0001\.txt, line 3: .*" + message):
        read_kitti_labels(path)


def test_unreadable_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.txt: no such file"):
        read_kitti_labels(tmp_path / "none.txt")
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"a\.txt: cannot be read"):
        read_kitti_labels(tmp_path / "a.txt")


@pytest.mark.parametrize(
    ("length", "frames", "starts"),
    [
        (25, 10, [0, 5, 10, 15]),
        (24, 10, [0, 5, 10]),
        (20, 10, [0, 5, 10]),
        (11, 10, [0]),
        (10, 10, [0]),
        (7, 10, [0]),
        (12, 5, [0, 3, 6]),
        (5, 2, [0, 1, 2, 3]),
    ],
)
def test_windows_overlap_by_half(length: int, frames: int, starts: list[int]) -> None:
    assert window_starts(length, frames) == starts


@pytest.mark.parametrize(
    ("length", "kept"), [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 6), (7, 7), (8, 6), (10, 8), (297, 238)]
)
def test_drives_are_cut_in_time(tmp_path: Path, length: int, kept: int) -> None:
    """80 % are for training, rounded, and a single last frame is too (of 7 frames 5.6, 6, all)."""
    labels = read_kitti_labels(write_labels(tmp_path / "0.txt", [label(t, 0) for t in range(length)]))
    clips = kitti_windows(kitti_tracks(labels, 0), 1000, cut=True)
    train, test = temporal_split(clips)
    found = [summary([clips[row] for row in rows]) for rows in (train, test)]
    assert found[0] == ([(0, 0, 0, kept)] if kept > 1 else [])
    assert found[1] == ([(0, 0, kept, length)] if kept < length else [])
    assert summary(kitti_windows(kitti_tracks(labels, 0), 1000, cut=False)) == (
        [(0, 0, 0, length)] if length > 1 else []
    )


def slow_clips(
    present: dict[int, set[int]], frames: int, cut: bool
) -> set[tuple[int, tuple[int, ...], bool]]:
    """Object, frames, and whether it is held out, of each clip, step by step from the published procedure."""
    runs: list[list[int]] = []
    for frame in sorted(present):
        if runs and runs[-1][-1] == frame - 1:
            runs[-1].append(frame)
        else:
            runs.append([frame])
    parts = []
    for run in runs:
        border = round(0.8 * len(run)) if cut else len(run)
        border += len(run) - border == 1
        parts += [(run[:border], False), (run[border:], True)]
    found = set()
    for part, held_out in parts:
        windows = [part]
        if len(part) > frames:
            windows = [part[i : i + frames] for i in range(0, len(part), frames - frames // 2)]
            windows = [window for window in windows if len(window) == frames]
        for window in windows:
            for track in present[window[0]] if window else ():
                shown: list[int] = []
                for frame in window:
                    if track not in present[frame]:
                        break
                    shown.append(frame)
                if len(shown) > 1:
                    found.add((track, tuple(shown), held_out))
    return found


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("frames", [2, 3, 5, 8])
def test_clips_are_those_of_the_published_procedure(tmp_path: Path, frames: int, cut: bool) -> None:
    for case in range(5):
        rng = np.random.default_rng(case)
        shown = rng.random((60, 4)) < (0.9, 0.7, 0.5, 0.3)
        shown[rng.random(60) < 0.05] = False
        present = {frame: {*np.flatnonzero(row).tolist()} for frame, row in enumerate(shown) if row.any()}
        pairs = [(frame, track) for frame, tracks in present.items() for track in tracks]
        corners = {(frame, track): (frame, track, frame + 1.5, track + 2) for frame, track in pairs}
        rng.shuffle(pairs)
        lines = [label(*pair, corners=corners[tuple(pair)]) for pair in pairs]  # type: ignore[index]
        labels = read_kitti_labels(write_labels(tmp_path / f"{case}.txt", lines))
        clips = kitti_windows(kitti_tracks(labels, 0), frames, cut=cut)
        found = [(clip.track, tuple(range(clip.start, clip.stop)), clip.held_out) for clip in clips]
        assert len(set(found)) == len(found)
        assert set(found) == slow_clips(present, frames, cut)
        assert [clip.start for clip in clips] == sorted(clip.start for clip in clips)
        for clip in clips:
            expected = [(frame, clip.track, 1.5, 2) for frame in range(clip.start, clip.stop)]
            np.testing.assert_array_equal(clip.boxes, expected)
            assert [lines[line - 1].split()[0] for line in clip.lines] == [str(box[0]) for box in expected]


def test_drives_are_left_out_whole() -> None:
    groups = np.array([3, 0, 3, 7, 0])
    train, test = drive_split(groups, [3, 7])
    assert (train.tolist(), test.tolist()) == ([1, 4], [0, 2, 3])
    for chosen in ([], [1], [0, 1], [0, 3, 7]):
        with pytest.raises(ValueError, match=r"`test` must be some of the drives \[0, 3, 7\]"):
            drive_split(groups, chosen)


LINES = [
    *(label(t, 5, corners=(1 + t, 1, 4 + t, 4)) for t in range(2, 8)),
    *(label(t, 9, "Pedestrian", corners=(10, 2, 12, 2.5 + t / 2)) for t in range(4)),
    label(5, 9, "Pedestrian", occluded=1, corners=(0, 0, 20, 6)),
    label(6, 9, "Pedestrian", occluded=1, corners=(0, 0, 20.5, 6)),
]
"""A car in frames 2 to 7, a pedestrian in frames 0 to 3, 5 and 6; windows of 4 begin at 0, 2, 4."""


@pytest.mark.parametrize("layout", ["benchmark", "training", "one folder each"])
def test_clips_have_their_frames_and_boxes(tmp_path: Path, layout: str) -> None:
    frames = random_frames(range(8))
    if layout == "one folder each":
        write_labels(tmp_path / "0012" / "label_02.txt", LINES)
        write_frames(tmp_path / "0012" / "image_02", frames)
    else:
        write_drive(tmp_path / "training" if layout == "training" else tmp_path, 12, LINES, frames)
    (tmp_path / "README.md").write_text("text")
    data, skipped = load_kitti(tmp_path, KITTIRecipe(frames=4, size=SIZE))
    assert skipped == []
    assert data.names is not None
    assert data.boxes is not None
    clips = [("9.0", 0, 4), ("5.0", 2, 6), ("9.0", 2, 4), ("5.0", 4, 8)]
    assert data.names.tolist() == [f"0012_{track}_{start:06}" for track, start, _ in clips]
    for row, (track, start, stop) in enumerate(clips):
        length = stop - start
        for place, frame in enumerate(range(start, stop)):
            np.testing.assert_array_equal(data.video[row, place], frames[frame].transpose(2, 0, 1))
            box = (1 + frame, 1, 3, 3) if track == "5.0" else (10, 2, 2, 0.5 + frame / 2)
            np.testing.assert_array_equal(data.boxes[row, place, 0], box)
        assert not data.video[row, length:].any()
        assert not data.boxes[row, length:].any()
        np.testing.assert_array_equal(data.count[row], [1] * length + [0] * (4 - length))  # type: ignore[index]
        np.testing.assert_array_equal(data.visible[row, :, 0], data.count[row])  # type: ignore[index]
    assert [KITTI_CLASSES[kind] for kind in data.classes[:, 0]] == ["Pedestrian", "Car", "Pedestrian", "Car"]  # type: ignore[index]
    assert data.groups.tolist() == [12] * 4  # type: ignore[union-attr]
    assert ClipWindows(data).lengths.tolist() == [4, 4, 2, 4]


def test_recipes_choose_clips(tmp_path: Path) -> None:
    write_drive(tmp_path, 0, LINES, random_frames(range(8)))

    def names(**options: Any) -> list[str]:
        data = load_kitti(tmp_path, KITTIRecipe(size=SIZE, **options)).data
        return data.names.tolist()  # type: ignore[union-attr]

    # 8 frames, of which 6 are for training.
    assert names(frames=4, part="train") == ["0000_9.0_000000", "0000_5.0_000002", "0000_9.0_000002"]
    assert names(frames=4, part="test") == ["0000_5.0_000006"]
    assert names(frames=4, classes=("Pedestrian",)) == ["0000_9.0_000000", "0000_9.1_000005"]
    assert names(frames=30, max_occlusion=0, classes=("Pedestrian",)) == ["0000_9.0_000000"]
    assert names(frames=30, min_side=1, classes=("Pedestrian",)) == ["0000_9.0_000001", "0000_9.1_000005"]
    lines = [label(t, 5, truncated=2 if t == 3 else 0) for t in range(6)]
    write_labels(tmp_path / "label_02" / "0000.txt", lines)
    assert names(frames=6) == ["0000_5.0_000000", "0000_5.1_000004"]
    assert names(frames=6, max_truncation=2) == ["0000_5.0_000000"]
    with pytest.raises(DataError, match="expected clips in 1 drives, the labels have none"):
        names(classes=("Tram",))


def test_frames_and_boxes_are_resized(tmp_path: Path) -> None:
    """Also where the labels are of larger frames than those at hand, and drives differ in size."""
    lines = [label(t, 0, corners=(4, 2, 20, 6)) for t in range(2)]
    full, half = random_frames(range(2)), random_frames(range(2), 3, 10)
    write_drive(tmp_path, 2, lines, full)
    write_drive(tmp_path, 3, lines, half)
    recipe = KITTIRecipe(size=(3, 5))
    sizes = {3: (6, 20)}
    data = load_kitti(tmp_path, recipe, label_sizes=sizes).data
    assert data.groups.tolist() == [2, 3]  # type: ignore[union-attr]
    for row, (frames, rows, columns) in enumerate(((full, 2, 4), (half, 1, 2))):
        for place in range(2):
            means = frames[place].reshape(3, rows, 5, columns, 3).mean((1, 3)).transpose(2, 0, 1)
            np.testing.assert_allclose(data.video[row, place], means, atol=1)
    np.testing.assert_allclose(data.boxes, np.broadcast_to([1, 1, 4, 2], (2, 2, 1, 4)))  # type: ignore[arg-type]
    np.testing.assert_array_equal(data.visible, np.ones((2, 2, 1)))
    message = (
        r"0003\.txt, line 1: the box .* `4 2 20 6` is not inside the 10 x 3 pixels .* give `label_sizes`"
    )
    with pytest.raises(DataError, match=message):
        load_kitti(tmp_path, recipe)
    grey = load_kitti(tmp_path, KITTIRecipe(size=SIZE, grey=True), label_sizes=sizes).data
    luma = full[0] @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(grey.video[0, 0, 0], luma, atol=0.51)


def test_default_size_is_that_of_hart(tmp_path: Path) -> None:
    write_drive(tmp_path, 0, [label(t, 0) for t in range(2)], random_frames(range(2)))
    assert load_kitti(tmp_path).data.shape == (1, 2, 3, 187, 621)


@pytest.mark.parametrize(
    ("corners", "is_bad"),
    [
        ((0, 0, 20, 6), False),
        ((-0.9, 0, 20.9, 6.9), False),
        ((0, -1.1, 20, 6), True),
        ((0, 0, 21.1, 6), True),
        ((0, 0, 20, 7.1), True),
    ],
)
def test_boxes_must_be_inside_the_frame(tmp_path: Path, corners: tuple[float, ...], is_bad: bool) -> None:
    """All of a drive are looked at; the published ones are less than a pixel outside."""
    lines = [label(0, 0), label(1, 0), label(50, 1, corners=corners)]
    write_drive(tmp_path, 0, lines, random_frames(range(2)))
    recipe = KITTIRecipe(size=SIZE)
    if is_bad:
        with pytest.raises(DataError, match=r"0000\.txt, line 3: the box"):
            load_kitti(tmp_path, recipe)
    else:
        assert len(load_kitti(tmp_path, recipe).data) == 1


def test_visible_is_the_part_inside(tmp_path: Path) -> None:
    lines = [label(0, 0, corners=(-0.5, 0, 1.5, 2)), label(1, 0, corners=(0, 0, 20, 6))]
    write_drive(tmp_path, 0, lines, random_frames(range(2)))
    data = load_kitti(tmp_path, KITTIRecipe(size=SIZE)).data
    np.testing.assert_allclose(data.visible, [[[0.75], [1]]])  # type: ignore[arg-type]


def test_frames_are_known_by_their_numbers(tmp_path: Path) -> None:
    """Those without objects may be missing; a clip that lacks one is an error, or left out."""
    frames = random_frames([0, 1, 2, 3, 5, 6, 7, 40])
    write_drive(tmp_path, 1, LINES, frames)
    recipe = KITTIRecipe(frames=4, size=SIZE)
    message = r"0001/000004\.png: no such file, but .*0001\.txt, line 3, has an object in it"
    with pytest.raises(DataError, match=message) as raised:
        load_kitti(tmp_path, recipe)
    data, skipped = load_kitti(tmp_path, recipe, skip_missing=True)
    assert skipped == []
    assert data.names.tolist() == ["0001_9.0_000000", "0001_9.0_000002"]  # type: ignore[union-attr]
    np.testing.assert_array_equal(data.video[1, 1], frames[3].transpose(2, 0, 1))
    write_labels(tmp_path / "label_02" / "0002.txt", LINES)
    again, _ = load_kitti(tmp_path, recipe, skip_missing=True)
    np.testing.assert_array_equal(again.video, data.video)
    write_frames(tmp_path / "image_02" / "0002", random_frames(range(8)))
    data, skipped = load_kitti(tmp_path, recipe, skip_bad=True)
    assert skipped == [str(raised.value)]
    assert set(data.groups.tolist()) == {2}  # type: ignore[union-attr]


def test_without_any_frame_nothing_can_be_made(tmp_path: Path) -> None:
    write_labels(tmp_path / "label_02" / "0000.txt", LINES)
    with pytest.raises(DataError, match=r"image_02/0000/000000\.png: no such file"):
        load_kitti(tmp_path)
    with pytest.raises(DataError, match="expected clips in 1 drives, none of 4 can be used"):
        load_kitti(tmp_path, KITTIRecipe(frames=4), skip_missing=True)


def test_bad_drives_and_clips_are_refused_or_left_out(tmp_path: Path) -> None:
    for drive in range(4):
        write_drive(tmp_path, drive, LINES, random_frames(range(8)))
    recipe = KITTIRecipe(frames=4, size=SIZE)
    whole = load_kitti(tmp_path, recipe).data
    write_labels(tmp_path / "label_02" / "0000.txt", [*LINES, "text"])
    (tmp_path / "image_02" / "0001" / "000001.png").write_bytes(b"text")
    write_frames(tmp_path / "image_02" / "0002", random_frames([7], 7, 20))
    (tmp_path / "image_02" / "0003" / "000009.jpg").write_bytes(b"text")
    with pytest.raises(DataError, match=r"0000\.txt, line 13: expected 17 columns, got 1"):
        load_kitti(tmp_path, recipe)
    data, skipped = load_kitti(tmp_path, recipe, skip_bad=True)
    assert len(skipped) == 3
    assert "0000.txt, line 13" in skipped[0]
    assert "0001/000001.png: cannot be read as an image" in skipped[1]
    assert "0002/000007.png: 20 x 7 pixels, but 000004.png has 20 x 6" in skipped[2]
    kept = [5, 6, 7, 8, 9, 10, 12, 13, 14, 15]
    np.testing.assert_array_equal(data.video, whole.video[kept])
    for name, value in whole.labels().items():
        np.testing.assert_array_equal(data.labels()[name], value[kept])


def test_two_files_of_one_frame_are_refused(tmp_path: Path) -> None:
    write_drive(tmp_path, 0, LINES, random_frames(range(8)))
    Image.new("RGB", (20, 6)).save(tmp_path / "image_02" / "0000" / "000003.jpg")
    with pytest.raises(DataError, match=r"000003\.png: is frame 3, like 000003\.jpg"):
        load_kitti(tmp_path, KITTIRecipe(size=SIZE))


def test_frames_are_decoded_once_for_a_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects share frames, and windows overlap: no more than one window is remembered."""
    from whatwhere.datasets.recorded import target_clips

    lines = [label(t, track) for track in range(3) for t in range(20)]
    write_drive(tmp_path, 0, lines, random_frames(range(20)))
    decoded: dict[str, int] = defaultdict(int)
    original = target_clips.read_image

    def count(path: Path, *arguments: Any) -> np.ndarray:
        decoded[path.name] += 1
        return original(path, *arguments)

    monkeypatch.setattr(target_clips, "read_image", count)
    data = load_kitti(tmp_path, KITTIRecipe(frames=6, size=SIZE)).data
    assert len(data) == 3 * 5
    assert sorted(decoded) == [f"{number:06}.png" for number in range(18)]
    assert max(decoded.values()) == 1


def test_parts_are_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for drive in range(2):
        write_drive(tmp_path / "in", drive, LINES, random_frames(range(8)))
    recipe = KITTIRecipe(frames=4, size=SIZE)
    whole = load_kitti(tmp_path / "in", recipe).data
    monkeypatch.setattr(store, "PART_BYTES", 3 * 4 * 3 * 6 * 20)
    assert [len(part) for part in kitti_parts(tmp_path / "in", recipe)] == [3, 3, 2]
    save_video_parts(tmp_path / "out.h5", kitti_parts(tmp_path / "in", recipe))
    assert check(tmp_path / "out.h5").problems == []
    again = load_video(tmp_path / "out.h5")
    np.testing.assert_array_equal(again.video, whole.video)
    for name, value in whole.labels().items():
        np.testing.assert_array_equal(again.labels()[name], value)


def test_folders_without_drives_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none: no such folder"):
        load_kitti(tmp_path / "none")
    write_labels(tmp_path / "label_02" / "readme.txt", [])
    with pytest.raises(DataError, match=r"expected label_02/0000\.txt, or 0000/label_02\.txt"):
        load_kitti(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 1}, "`frames` must be at least 2, got 1"),
        ({"part": "validation"}, "`part` must be all, train or test, got 'validation'"),
        ({"size": (0, 1)}, "`size` must be two positive numbers"),
        ({"classes": ("Car", "Dog")}, "`classes` must be some of Car, .*, got 'Dog'"),
        ({"classes": ()}, "`classes` must be some of Car, .*, got none"),
    ],
)
def test_impossible_recipes_are_refused(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KITTIRecipe(**options)


def test_real_labels(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    """All 21 files are read; the numbers of rows are those that a search of the lines finds."""
    with tarfile.open(real_data("kitti_tracking") / "label_02_all21.tar.gz") as archive:
        for member in archive.getmembers():
            content = archive.extractfile(member)
            if content is not None and member.name.startswith("label_02/"):
                (tmp_path / Path(member.name).name).write_bytes(content.read())
    paths = sorted(tmp_path.glob("*.txt"))
    assert [path.stem for path in paths] == [f"{drive:04}" for drive in range(21)]
    tracks, rows, identities = {}, 0, 0
    for drive, path in enumerate(paths):
        labels = read_kitti_labels(path)
        rows += len(labels)
        identities += len({label.track for label in labels})
        tracks[drive] = kitti_tracks(labels, drive)
        height, width = KITTI_SIZES[drive]
        left, top, *sides = np.array([label.box for label in labels]).T
        assert min(left.min(), top.min()) >= 0
        assert (left + sides[0]).max() <= width + 1
        assert (top + sides[1]).max() <= height
        if drive != 18:  # where no object is near the right border
            assert width - (left + sides[0]).max() <= 1
    assert (rows, identities) == (65301 - 18039, 917)
    kept = sum(len(track.boxes) for several in tracks.values() for track in several)
    assert kept == 37292
    clips = [clip for several in tracks.values() for clip in kitti_windows(several, 60, cut=True)]
    train, test = temporal_split(clips)
    assert len(clips) == len(train) + len(test)
    assert len(train) > 5 * len(test) > 500
    static = []
    for row in test:
        truth = torch.from_numpy(clips[row].boxes)
        static += iou(truth[:1], truth).tolist()
    assert 0.2 < np.mean(static) < 0.5


def test_real_frames(real_data: Callable[[str], Path]) -> None:
    """The ten consecutive frames, halved after they were labelled, give five clips."""
    folder = real_data("kitti_tracking")
    recipe = KITTIRecipe(frames=10)
    data, skipped = load_kitti(folder, recipe, label_sizes=KITTI_SIZES, skip_missing=True)
    assert skipped == []
    assert data.names is not None
    assert data.boxes is not None
    assert data.shape == (5, 10, 3, 187, 621)
    assert set(data.groups.tolist()) == {5}  # type: ignore[union-attr]
    assert data.count.sum(1).tolist() == [6, 10, 4, 10, 4]  # type: ignore[union-attr]
    assert (data.classes == KITTI_CLASSES.index("Car")).all()
    expected = {}
    for line in (folder / "0005" / "boxes.csv").read_text().splitlines()[1:]:
        frame, track, *box = line.split(",")[:6]
        expected[int(frame), int(track)] = [float(number) for number in box]
    factors = np.array([1, 187 / 188] * 2)
    for row, name in enumerate(data.names):
        track, start = int(name.split("_")[1].split(".")[0]), int(name.split("_")[2])
        for place in range(data.count[row].sum()):  # type: ignore[index]
            box = np.array(expected[start + place, track]) * factors
            np.testing.assert_allclose(data.boxes[row, place, 0], box, atol=0.35)
    assert data.visible[data.count == 1].min() > 0.99  # type: ignore[index]
    with pytest.raises(DataError, match="give `label_sizes`"):
        load_kitti(folder, recipe, skip_missing=True)
