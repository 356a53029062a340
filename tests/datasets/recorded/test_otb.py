import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from whatwhere.datasets import (
    ClipWindows,
    DataError,
    check,
    load_otb,
    load_video,
    otb_parts,
    save_video_parts,
)
from whatwhere.datasets.storage import store
from whatwhere.models.components.boxes import iou

RNG = np.random.default_rng(0)
SIZE = (6, 8)
LUMA = np.array([0.299, 0.587, 0.114])


def random_frames(count: int, height: int = 6, width: int = 8) -> np.ndarray:
    return RNG.integers(0, 256, (count, height, width, 3), np.uint8)


def numbered_frames(count: int) -> np.ndarray:
    """Grey pictures that tell which frame they are, of sequences of up to 999 frames."""
    levels = np.stack([np.arange(count) // 100, np.arange(count) % 100], axis=-1)
    return levels[:, None].astype(np.uint8)  # (T, 1, 2)


def write_frames(folder: Path, frames: np.ndarray, first: int = 1, digits: int = 4) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames, first):
        Image.fromarray(frame).save(folder / f"{number:0{digits}}.png", compress_level=0)


def write_sequence(
    folder: Path, frames: np.ndarray, boxes: list[str], first: int = 1, name: str = "groundtruth_rect.txt"
) -> Path:
    write_frames(folder / "img", frames, first)
    (folder / name).write_text("\n".join(boxes) + "\n")
    return folder


def channels_first(frames: np.ndarray) -> np.ndarray:
    return frames.transpose(0, 3, 1, 2)


@pytest.mark.parametrize("separator", [",", "\t", " ", ", ", "\t ", " , "])
def test_boxes_count_from_1_and_have_any_separator(tmp_path: Path, separator: str) -> None:
    frames = random_frames(3)
    lines = [
        separator.join(box) for box in (("1", "1", "8", "6"), ("3", "2", "2.5", "4"), ("2", "6", "1", "1"))
    ]
    data, skipped = load_otb(write_sequence(tmp_path / "Car", frames, lines), size=SIZE)
    assert skipped == []
    np.testing.assert_array_equal(data.video[0], channels_first(frames))
    expected = [[0, 0, 8, 6], [2, 1, 2.5, 4], [1, 5, 1, 1]]
    assert data.boxes is not None
    np.testing.assert_array_equal(data.boxes[0, :, 0], np.array(expected, np.float32))
    np.testing.assert_array_equal(data.count, [[1, 1, 1]])
    np.testing.assert_array_equal(data.visible, np.ones((1, 3, 1)))
    assert data.classes is None
    assert (data.groups.tolist(), data.names.tolist()) == ([0], ["Car"])  # type: ignore[union-attr]


def test_separators_may_change_and_lines_be_empty(tmp_path: Path) -> None:
    folder = write_sequence(tmp_path / "A", random_frames(3), [])
    (folder / "groundtruth_rect.txt").write_bytes(
        "\ufeff2,3,4,3\r\n2 3 4 2\r\n\r\n1\t3\t4\t2\r\n\r\n".encode()
    )
    data = load_otb(folder, size=SIZE).data
    np.testing.assert_array_equal(data.boxes[0, :, 0], [[1, 2, 4, 3], [1, 2, 4, 2], [0, 2, 4, 2]])  # type: ignore[index]


def test_sequences_become_one_size_and_one_length(tmp_path: Path) -> None:
    """Areas are averaged, boxes follow, and the ends of shorter sequences are black and without a target."""
    small, large = random_frames(2, 6, 8), random_frames(3, 18, 16)
    write_sequence(tmp_path / "Small", small, ["1,1,4,4", "3,4,2,1"])
    write_sequence(tmp_path / "Large", large, ["1,1,16,9", "5,4,6,9", "3,10,8,6"])
    write_sequence(tmp_path / ".hidden", small, ["1,1,4,4"] * 2)
    (tmp_path / "notes").mkdir()
    (tmp_path / "README.md").write_text("text")
    data = load_otb(tmp_path, size=(6, 4)).data
    assert data.names is not None
    assert data.names.tolist() == ["Large", "Small"]
    assert data.shape == (2, 3, 3, 6, 4)
    means = large.reshape(3, 6, 3, 4, 4, 3).mean((2, 4))
    np.testing.assert_allclose(data.video[0], channels_first(means), atol=1)
    means = small.reshape(2, 6, 1, 4, 2, 3).mean((2, 4))
    np.testing.assert_allclose(data.video[1, :2], channels_first(means), atol=1)
    assert not data.video[1, 2].any()
    assert data.boxes is not None
    np.testing.assert_allclose(data.boxes[0, :, 0], [[0, 0, 4, 3], [1, 1, 1.5, 3], [0.5, 3, 2, 2]])
    np.testing.assert_allclose(data.boxes[1, :, 0], [[0, 0, 2, 4], [1, 3, 1, 1], [0, 0, 0, 0]])
    np.testing.assert_array_equal(data.count, [[1, 1, 1], [1, 1, 0]])
    np.testing.assert_array_equal(data.visible, [[[1], [1], [1]], [[1], [1], [0]]])
    np.testing.assert_array_equal(data.groups, [0, 1])


def test_channels_are_one_or_three_whatever_the_files_have(tmp_path: Path) -> None:
    coloured, grey = random_frames(1), random_frames(1)[..., 0]
    write_sequence(tmp_path / "A", coloured, ["1,1,2,2"])
    write_sequence(tmp_path / "B", grey, ["1,1,2,2"])
    data = load_otb(tmp_path, size=SIZE).data
    np.testing.assert_array_equal(data.video[0], channels_first(coloured))
    np.testing.assert_array_equal(data.video[1], np.stack([grey] * 3, axis=1))
    data = load_otb(tmp_path, size=SIZE, grey=True).data
    assert data.shape == (2, 1, 1, *SIZE)
    np.testing.assert_allclose(data.video[0, :, 0], coloured @ LUMA, atol=0.51)
    np.testing.assert_array_equal(data.video[1, :, 0], grey)


def test_targets_of_one_sequence_are_clips_of_one_group(tmp_path: Path) -> None:
    write_sequence(tmp_path / "Fish", random_frames(1), ["1,1,2,2"])
    frames = random_frames(2)
    write_sequence(tmp_path / "Jogging", frames, ["1,1,2,2", "2,1,2,2"], name="groundtruth_rect.1.txt")
    write_sequence(tmp_path / "Jogging", frames, ["5,3,3,2", "5,4,3,2"], name="groundtruth_rect.2.txt")
    data = load_otb(tmp_path, size=SIZE).data
    assert data.names is not None
    assert data.groups is not None
    assert data.names.tolist() == ["Fish", "Jogging-1", "Jogging-2"]
    assert data.groups.tolist() == [0, 1, 1]
    np.testing.assert_array_equal(data.video[1], data.video[2])
    np.testing.assert_array_equal(data.video[1], channels_first(frames))
    np.testing.assert_array_equal(data.boxes[1, :, 0], [[0, 0, 2, 2], [1, 0, 2, 2]])  # type: ignore[index]
    np.testing.assert_array_equal(data.boxes[2, :, 0], [[4, 2, 3, 2], [4, 3, 3, 2]])  # type: ignore[index]


@pytest.mark.parametrize("empty", ["groundtruth_rect.1.txt", "groundtruth_rect1.txt"])
def test_empty_file_beside_that_of_the_target_is_left_alone(tmp_path: Path, empty: str) -> None:
    folder = tmp_path / "Human4"
    write_sequence(folder, random_frames(1), ["1,1,2,2"], name="groundtruth_rect.2.txt")
    (folder / empty).write_text("\n")
    assert load_otb(folder, size=SIZE).data.names.tolist() == ["Human4-2"]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "frames", "first", "last"),
    [("David", 770, 300, 770), ("football1", 81, 1, 74), ("Tiger1", 354, 6, 354), ("Freeman4", 297, 1, 283)],
)
def test_known_sequences_have_boxes_for_some_frames(
    tmp_path: Path, name: str, frames: int, first: int, last: int
) -> None:
    pictures = numbered_frames(frames)
    boxes = [f"1,1,{1 + number % 2},1" for number in range(first, last + 1)]
    data = load_otb(write_sequence(tmp_path / name, pictures, boxes), size=(1, 2), grey=True).data
    np.testing.assert_array_equal(data.video[0, :, 0], pictures[first - 1 : last])
    np.testing.assert_array_equal(data.boxes[0, :, 0, 2], [1 + n % 2 for n in range(first, last + 1)])  # type: ignore[index]


@pytest.mark.parametrize("name", ["David", "BlurCar3", "Other"])
def test_as_many_frames_as_boxes_belong_together_whatever_their_numbers(tmp_path: Path, name: str) -> None:
    pictures = numbered_frames(357)
    folder = write_sequence(tmp_path / name, pictures, ["1,1,1,1"] * 357, first=3)
    data = load_otb(folder, size=(1, 2), grey=True).data
    np.testing.assert_array_equal(data.video[0, :, 0], pictures)


def test_frames_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    pictures = numbered_frames(12)
    folder = write_sequence(tmp_path / "A", pictures[:0], ["1,1,1,1"] * 12)
    write_frames(folder / "img", pictures, digits=1)
    for path in list((folder / "img").iterdir()):
        path.rename(path.with_name(f"car2_{path.name}"))
    data = load_otb(folder, size=(1, 2), grey=True).data
    np.testing.assert_array_equal(data.video[0, :, 0], pictures)


@pytest.mark.parametrize(
    ("name", "frames", "boxes"),
    [
        ("Other", 5, 4),
        ("Other", 4, 5),
        ("Diving", 231, 214),
        ("Diving", 214, 215),
        ("David", 770, 770 - 299 + 1),
    ],
)
def test_other_numbers_of_frames_and_boxes_are_refused_with_both(
    tmp_path: Path, name: str, frames: int, boxes: int
) -> None:
    folder = write_sequence(tmp_path / name, numbered_frames(frames), ["1,1,1,1"] * boxes)
    message = rf"groundtruth_rect\.txt: {boxes} boxes, but there are {frames} frames"
    with pytest.raises(DataError, match=message):
        load_otb(folder, size=(1, 2))


def test_missing_frames_end_a_sequence_if_asked_for(tmp_path: Path) -> None:
    """Frames are those of their numbers: nothing is paired with the box of another frame."""
    pictures, boxes = numbered_frames(400), [f"1,1,{1 + number % 2},1" for number in range(471)]
    for name, kept, length, first in (
        ("Other", range(150), 150, 0),
        ("Gap", [*range(20), *range(21, 400)], 20, 0),
        ("David", range(302), 3, 299),
        ("BlurCar3", range(2, 10), 8, 2),
    ):
        folder = tmp_path / name
        lines = boxes[:357] if name == "BlurCar3" else boxes
        write_sequence(folder, pictures[:0], lines)
        for number in kept:
            write_frames(folder / "img", pictures[number : number + 1], first=number + 1)
        with pytest.raises(DataError, match="boxes, but there are"):
            load_otb(folder, size=(1, 2))
        data = load_otb(folder, size=(1, 2), grey=True, skip_missing=True).data
        np.testing.assert_array_equal(data.video[0, :, 0], pictures[first : first + length])
        np.testing.assert_array_equal(data.boxes[0, :, 0, 2], [1 + n % 2 for n in range(length)])  # type: ignore[index]
    folder = write_sequence(tmp_path / "all" / "David", pictures, [*boxes, *boxes][:770])
    data = load_otb(folder, size=(1, 2), grey=True, skip_missing=True).data
    np.testing.assert_array_equal(data.video[0, :, 0], pictures)
    folder = write_sequence(tmp_path / "Late", pictures[:3], boxes[:6], first=2)
    with pytest.raises(DataError, match="6 boxes, but there are 3 frames"):
        load_otb(folder, size=(1, 2), skip_missing=True)
    folder = write_sequence(tmp_path / "More", pictures[:7], boxes[:6])
    with pytest.raises(DataError, match="6 boxes, but there are 7 frames"):
        load_otb(folder, size=(1, 2), skip_missing=True)


def test_targets_may_be_partly_outside_or_absent(tmp_path: Path) -> None:
    lines = ["1,1,2,2", "-1,1,4,3", "7,5,4,4", "0,0,0,0", "NaN,NaN,NaN,NaN", "-3,-2,20,20"]
    data = load_otb(write_sequence(tmp_path / "Biker", random_frames(6), lines), size=SIZE).data
    absent = [0, 0, 0, 0]
    expected = [[0, 0, 2, 2], [-2, 0, 4, 3], [6, 4, 4, 4], absent, absent, [-4, -3, 20, 20]]
    np.testing.assert_array_equal(data.boxes[0, :, 0], expected)  # type: ignore[index]
    np.testing.assert_array_equal(data.count[0], [1, 1, 1, 0, 0, 1])  # type: ignore[index]
    np.testing.assert_allclose(data.visible[0, :, 0], [1, 0.5, 0.25, 0, 0, 48 / 400])  # type: ignore[index]
    assert data.video[0, 3].any()
    clips = ClipWindows(data)
    assert clips.lengths.tolist() == [6]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1,1,2", r"line 2: expected 4 numbers, got 3: '1,1,2'"),
        ("1 1 2 2 5", r"line 2: expected 4 numbers, got 5"),
        ("1,1,two,2", r"line 2: expected 4 numbers, or 4 times NaN: .*got 'two'"),
        ("1,1,,2", r"line 2: expected 4 numbers"),
        ("1,1,inf,2", r"line 2: expected 4 numbers, or 4 times NaN: .*got '(inf|NaN)'"),
        ("-1.7e308,1,1.7e308,2", r"line 2: expected 4 numbers.* at most 1e\+09, got '-1.7e308'"),
        ("1,1,NaN,2", r"line 2: expected 4 numbers, or 4 times NaN: .*got '(inf|NaN)'"),
        ("1,1,0,2", r"line 2: the box .* `0 0 0 2` has no area"),
        ("1,1,2,-2", r"line 2: the box .* has no area"),
        ("9,1,2,2", r"line 2: the box .* `8 0 2 2` is outside the 8 x 6 pixels"),
        ("-1,1,2,2", r"line 2: the box .* is outside"),
        ("1,-4,2,5", r"line 2: the box .* is outside"),
    ],
)
def test_bad_lines_are_refused_with_file_and_line(tmp_path: Path, line: str, message: str) -> None:
    folder = write_sequence(tmp_path / "A", random_frames(3), ["1,1,2,2", line, "1,1,2,2"])
    with pytest.raises(DataError, match=r"A/groundtruth_rect\.txt, " + message):
        load_otb(folder, size=SIZE)


@pytest.mark.parametrize("line", ["0,0,0,0", "NaN NaN NaN NaN"])
def test_first_frame_must_show_the_target(tmp_path: Path, line: str) -> None:
    folder = write_sequence(tmp_path / "A", random_frames(2), [line, "1,1,2,2"])
    with pytest.raises(
        DataError, match=r"groundtruth_rect\.txt, line 1: the target must be in the first frame"
    ):
        load_otb(folder, size=SIZE)


def damage(folder: Path, what: str) -> None:
    """Makes a sequence of 3 frames unusable."""
    if what == "no img":
        (folder / "img").rename(folder / "other")
    elif what == "no frames":
        for path in (folder / "img").iterdir():
            path.unlink()
    elif what == "no boxes":
        (folder / "groundtruth_rect.txt").unlink()
    elif what == "empty boxes":
        (folder / "groundtruth_rect.txt").write_text(" \n")
    elif what == "no text":
        (folder / "groundtruth_rect.txt").write_bytes(b"\xff\xfe\x00\x01")
    elif what == "unreadable frame":
        (folder / "img" / "0002.png").write_bytes(b"text")
    elif what == "truncated frame":
        path = folder / "img" / "0002.png"
        path.write_bytes(path.read_bytes()[:60])
    elif what == "other size":
        Image.fromarray(random_frames(1, 7, 8)[0]).save(folder / "img" / "0003.png")
    elif what == "no number":
        (folder / "img" / "0003.png").rename(folder / "img" / "third.png")
    elif what == "same number":
        Image.fromarray(random_frames(1)[0]).save(folder / "img" / "003.png")
    else:
        (folder / "img" / "0003.png").rename(folder / "img" / "0004.png")


DAMAGE = {
    "no img": r"img: no such folder",
    "no frames": r"img: expected image files, there is none",
    "no boxes": r"groundtruth_rect\.txt: no such file",
    "empty boxes": r"groundtruth_rect\.txt: expected lines of four numbers, there is none",
    "no text": r"groundtruth_rect\.txt: cannot be read",
    "unreadable frame": r"0002\.png: cannot be read as an image",
    "truncated frame": r"0002\.png: cannot be read as an image",
    "other size": r"0003\.png: 8 x 7 pixels, but 0001\.png has 8 x 6",
    "no number": r"third\.png: the name of a frame must end with its number",
    "same number": r"003\.png: is frame 3, like 0003\.png|0003\.png: is frame 3, like 003\.png",
    "gap": r"img: no frame 3, but 0004\.png",
}


@pytest.mark.parametrize("what", DAMAGE)
def test_bad_sequences_are_refused_or_left_out(tmp_path: Path, what: str) -> None:
    for name in ("A", "B", "C"):
        write_sequence(tmp_path / name, random_frames(3), ["1,1,2,2"] * 3)
    whole = load_otb(tmp_path, size=SIZE).data
    damage(tmp_path / "B", what)
    with pytest.raises(DataError, match=DAMAGE[what]) as raised:
        load_otb(tmp_path, size=SIZE)
    assert str(tmp_path / "B") in str(raised.value)
    data, skipped = load_otb(tmp_path, size=SIZE, skip_bad=True)
    assert skipped == [str(raised.value)]
    np.testing.assert_array_equal(data.video, whole.video[[0, 2]])
    assert data.names.tolist() == ["A", "C"]  # type: ignore[union-attr]
    assert data.groups.tolist() == [0, 2]  # type: ignore[union-attr]
    for name in ("A", "C"):
        damage(tmp_path / name, what)
    with pytest.raises(DataError, match="none of the 3"):
        load_otb(tmp_path, size=SIZE, skip_bad=True)


def test_folders_without_sequences_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none: no such folder"):
        load_otb(tmp_path / "none")
    (tmp_path / "notes").mkdir()
    with pytest.raises(DataError, match="expected a folder of frames and boxes"):
        load_otb(tmp_path)
    for size in ((0, 4), (4,)):
        with pytest.raises(ValueError, match="`size` must be two positive numbers"):
            load_otb(tmp_path, size=size)  # type: ignore[arg-type]


def test_parts_are_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bad sequences, at the end of a part too, leave no gap; the file is that of the whole."""
    for name, count in zip("ABCDEF", (2, 3, 2, 1, 2, 3), strict=True):
        write_sequence(tmp_path / "in" / name, random_frames(count), ["1,1,2,2"] * count)
    for name in "BF":
        (tmp_path / "in" / name / "img" / "0003.png").write_bytes(b"")
    whole, skipped = load_otb(tmp_path / "in", size=SIZE, skip_bad=True)
    monkeypatch.setattr(store, "PART_BYTES", 2 * 3 * 3 * 6 * 8)
    found: list[str] = []
    parts = list(otb_parts(tmp_path / "in", size=SIZE, on_bad=found.append))
    assert [len(part) for part in parts] == [2, 2]
    assert found == skipped
    assert len(found) == 2
    save_video_parts(tmp_path / "out.h5", otb_parts(tmp_path / "in", size=SIZE, on_bad=found.append))
    assert check(tmp_path / "out.h5").problems == []
    again = load_video(tmp_path / "out.h5")
    np.testing.assert_array_equal(again.video, whole.video)
    for name, value in whole.labels().items():
        np.testing.assert_array_equal(again.labels()[name], value)


def test_real_sequences(real_data: Callable[[str], Path]) -> None:
    folder = real_data("otb")
    data, skipped = load_otb(folder, size=(60, 80), skip_missing=True)
    assert skipped == []
    assert data.names is not None
    assert data.boxes is not None
    assert data.visible is not None
    assert data.names.tolist() == ["Basketball", "Couple", "Crossing", "Diving", "Football1"]
    lengths = data.count.sum(1)  # type: ignore[union-attr]
    assert lengths.tolist() == [150, 140, 120, 215, 74]
    for row, (name, length) in enumerate(zip(data.names, lengths, strict=True)):
        with Image.open(folder / name / "img" / "0001.jpg") as image:
            width, height = image.size
        with open(folder / name / "boxes.csv", newline="") as stream:
            table = np.array([[float(word) for word in line[2:]] for line in list(csv.reader(stream))[1:]])
        factors = np.array([80 / width, 60 / height] * 2)
        np.testing.assert_allclose(data.boxes[row, :length, 0], table * factors, atol=1e-4)
        assert (data.visible[row, :length] == 1).all()
        assert (data.video[row, :length].std((1, 2, 3)) > 20).all()
    truth = torch.from_numpy(data.boxes[:, :, 0])
    present = truth[..., 2] > 0
    following = present[:, 1:]
    assert iou(truth[:, :-1], truth[:, 1:])[following].mean() > 0.75
    assert iou(truth[:, :1], truth)[present].mean() < 0.2
