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
    load_tld,
    load_video,
    save_video_parts,
    tld_parts,
)
from whatwhere.datasets.storage import store
from whatwhere.models.components.boxes import iou

Write = Callable[..., Path]

RNG = np.random.default_rng(0)
SIZE = (6, 8)
LINES = ["1,2,4,5.5", "NaN,NaN,NaN,NaN", "2,0,8,6", "-2,1,2,3"]
BOXES = [[1, 2, 3, 3.5], [0, 0, 0, 0], [2, 0, 6, 6], [-2, 1, 4, 2]]


def random_frames(count: int, height: int = 6, width: int = 8) -> np.ndarray:
    return RNG.integers(0, 256, (count, height, width, 3), np.uint8)


def write_boxes(folder: Path, lines: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "gt.txt").write_text("\n".join(lines) + "\n")
    return folder


def write_images(folder: Path, frames: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames, 1):
        Image.fromarray(frame).save(folder / f"{number:05}.png")


@pytest.mark.parametrize("layout", ["img", "beside", "film", "images and film"])
def test_frames_are_images_or_a_film(tmp_path: Path, write_film: Write, layout: str) -> None:
    """Corners become boxes, and frames without the target stay; images are preferred to a film."""
    folder, frames = write_boxes(tmp_path / "05_car", LINES), random_frames(4)
    if layout == "film":
        write_film(folder / "car.avi", frames)
    else:
        write_images(folder if layout == "beside" else folder / "img", frames)
    if layout == "images and film":
        write_film(folder / "car.avi", random_frames(4))
    (folder / "init.txt").write_text("1,2,4,5.5")
    data, skipped = load_tld(folder, size=SIZE)
    assert skipped == []
    np.testing.assert_array_equal(data.video[0], frames.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(data.boxes[0, :, 0], BOXES)  # type: ignore[index]
    np.testing.assert_array_equal(data.count, [[1, 0, 1, 1]])
    np.testing.assert_array_equal(data.visible, [[[1], [0], [1], [0.5]]])
    assert data.classes is None
    assert (data.groups.tolist(), data.names.tolist()) == ([0], ["05_car"])  # type: ignore[union-attr]


def test_sequences_become_one_size_and_one_length(tmp_path: Path, write_film: Write) -> None:
    film, images = random_frames(2, 12, 16), random_frames(4)
    write_film(write_boxes(tmp_path / "B", ["4,6,8,9", "0,0,16,12"]) / "b.avi", film)
    write_images(write_boxes(tmp_path / "A", LINES) / "img", images)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "README.md").write_text("text")
    data = load_tld(tmp_path, size=(6, 4)).data
    assert data.shape == (2, 4, 3, 6, 4)
    assert data.names.tolist() == ["A", "B"]  # type: ignore[union-attr]
    means = film.reshape(2, 6, 2, 4, 4, 3).mean((2, 4)).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(data.video[1, :2], means, atol=1)
    assert not data.video[1, 2:].any()
    np.testing.assert_allclose(data.boxes[0, :, 0], np.array(BOXES) * (0.5, 1, 0.5, 1))  # type: ignore[index]
    np.testing.assert_allclose(data.boxes[1, :2, 0], [[1, 3, 1, 1.5], [0, 0, 4, 6]])  # type: ignore[index]
    np.testing.assert_array_equal(data.count, [[1, 0, 1, 1], [1, 1, 0, 0]])
    assert ClipWindows(data, min_length=1).lengths.tolist() == [4, 2]
    grey = load_tld(tmp_path, size=(6, 4), grey=True).data
    luma = np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(grey.video[1, :2, 0], means.transpose(0, 2, 3, 1) @ luma, atol=1.5)


@pytest.mark.parametrize("layout", ["images", "film"])
@pytest.mark.parametrize("frames", [3, 5])
def test_other_numbers_of_frames_and_boxes_are_refused_with_both(
    tmp_path: Path, write_film: Write, layout: str, frames: int
) -> None:
    folder = write_boxes(tmp_path / "A", LINES)
    if layout == "film":
        write_film(folder / "a.avi", random_frames(frames))
    else:
        write_images(folder / "img", random_frames(frames))
    with pytest.raises(DataError, match=rf"A/gt\.txt: 4 boxes, but there are {frames} frames"):
        load_tld(folder, size=SIZE)


@pytest.mark.parametrize(
    ("number", "line", "message"),
    [
        (1, "1,1,NaN,4", r"line 2: expected 4 numbers, or 4 times NaN"),
        (1, "1,1,4", r"line 2: expected 4 numbers, got 3"),
        (1, "1,1,4,x", r"line 2: expected 4 numbers.* got 'x'"),
        (1, "4,1,4,3", r"line 2: the box .* `4 1 0 2` has no area"),
        (1, "1,4,4,3", r"line 2: the box .* has no area"),
        (1, "0,0,0,0", r"line 2: the box .* has no area"),
        (1, "8,0,9,3", r"line 2: the box .* is outside the 8 x 6 pixels"),
        (1, "0,-3,9,0", r"line 2: the box .* is outside the 8 x 6 pixels"),
        (0, "NaN,NaN,NaN,NaN", r"line 1: the target must be in the first frame"),
    ],
)
def test_bad_lines_are_refused_with_file_and_line(
    tmp_path: Path, number: int, line: str, message: str
) -> None:
    folder = write_boxes(tmp_path / "A", [*LINES[:number], line, *LINES[number + 1 :]])
    write_images(folder / "img", random_frames(4))
    with pytest.raises(DataError, match=r"A/gt\.txt, " + message):
        load_tld(folder, size=SIZE)


def test_bad_sequences_are_refused_or_left_out(tmp_path: Path, write_film: Write) -> None:
    whole = random_frames(4)
    for name in ("good", "damaged", "no frames", "two films", "no boxes", "film"):
        write_boxes(tmp_path / name, LINES)
    write_images(tmp_path / "good" / "img", whole)
    write_images(tmp_path / "damaged" / "img", whole)
    (tmp_path / "damaged" / "img" / "00003.png").write_bytes(b"text")
    for name in ("a.avi", "b.MPG"):
        write_film(tmp_path / "two films" / "film.avi", whole).rename(tmp_path / "two films" / name)
    write_images(tmp_path / "no boxes" / "img", whole)
    (tmp_path / "no boxes" / "gt.txt").unlink()
    (tmp_path / "film" / "a.mp4").write_bytes(b"text")
    messages = {
        "damaged": r"00003\.png: cannot be read as an image",
        "no frames": r"no frames: expected image files, or one video file, found neither",
        "two films": r"two films: expected image files, or one video file, found a\.avi, b\.MPG",
        "no boxes": r"gt\.txt: no such file",
        "film": r"a\.mp4, frame 0: cannot be read as a video",
    }
    for name, message in messages.items():
        with pytest.raises(DataError, match=message):
            load_tld(tmp_path / name, size=SIZE)
        with pytest.raises(DataError, match="none of the 1"):
            load_tld(tmp_path / name, size=SIZE, skip_bad=True)
    data, skipped = load_tld(tmp_path, size=SIZE, skip_bad=True)
    assert data.names.tolist() == ["good"]  # type: ignore[union-attr]
    assert data.groups.tolist() == [2]  # type: ignore[union-attr]
    assert len(skipped) == len(messages)
    assert all(any(str(tmp_path / name) in problem for problem in skipped) for name in messages)


def test_folders_without_sequences_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none: no such folder"):
        load_tld(tmp_path / "none")
    with pytest.raises(DataError, match="expected a folder of frames and boxes"):
        load_tld(tmp_path)
    with pytest.raises(ValueError, match="`size` must be two positive numbers"):
        load_tld(tmp_path, size=(-1, 4))


def test_parts_are_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "ABC":
        write_images(write_boxes(tmp_path / "in" / name, LINES) / "img", random_frames(4))
    whole = load_tld(tmp_path / "in", size=SIZE).data
    monkeypatch.setattr(store, "PART_BYTES", 1)
    assert [len(part) for part in tld_parts(tmp_path / "in", size=SIZE)] == [1, 1, 1]
    save_video_parts(tmp_path / "out.h5", tld_parts(tmp_path / "in", size=SIZE))
    assert check(tmp_path / "out.h5").problems == []
    again = load_video(tmp_path / "out.h5")
    np.testing.assert_array_equal(again.video, whole.video)
    for name, value in whole.labels().items():
        np.testing.assert_array_equal(again.labels()[name], value)


def test_real_sequences(real_data: Callable[[str], Path]) -> None:
    pytest.importorskip("av", reason="needs PyAV: pip install 'whatwhere[video]'")
    folder = real_data("tld")
    data, skipped = load_tld(folder, size=(60, 80), grey=True)
    assert skipped == []
    assert data.names is not None
    assert data.boxes is not None
    assert data.visible is not None
    assert data.names.tolist() == ["01_david", "04_pedestrian2", "05_pedestrian3"]
    assert data.count.sum(1).tolist() == [761, 266, 156]  # type: ignore[union-attr]
    lengths = data.video.any((2, 3, 4)).sum(1)  # padding alone is black
    assert lengths.tolist() == [761, 338, 184]
    np.testing.assert_allclose(data.boxes[0, 0, 0], np.array([165, 93, 51, 54]) / 4)
    present = data.boxes[:, :, 0, 2] > 0
    inside = data.visible[..., 0][present]
    assert inside.min() > 0.4
    assert (inside == 1).mean() > 0.95
    truth, shown = torch.from_numpy(data.boxes[:, :, 0]), torch.from_numpy(present)
    following = shown[:, 1:] & shown[:, :-1]
    assert iou(truth[:, :-1], truth[:, 1:])[following].mean() > 0.75
    assert iou(truth[:, :1], truth)[shown].mean() < 0.25
