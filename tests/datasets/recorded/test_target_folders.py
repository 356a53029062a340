from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from whatwhere.datasets import DataError, load_target_folders, target_folder_parts

FRAMES = np.random.default_rng(0).integers(0, 256, (4, 20, 30, 3), np.uint8)
SIZE = (20, 30)


def write(folder: Path, lines: list[str], images: str = ".", count: int = 4) -> Path:
    (folder / images).mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(FRAMES[:count], 1):
        Image.fromarray(frame).save(folder / images / f"{number:08}.png")
    (folder / "groundtruth.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize("images", [".", "img", "color"])
def test_boxes_and_frames(tmp_path: Path, images: str) -> None:
    lines = [f"{number}.5,2,10,8" for number in range(4)]
    data, skipped = load_target_folders(write(tmp_path / "a", lines, images), size=SIZE)
    assert not skipped
    np.testing.assert_array_equal(data.video[0], FRAMES.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(data.boxes[0, :, 0], [[n + 0.5, 2, 10, 8] for n in range(4)])  # type: ignore[index]
    assert data.names.tolist() == ["a"]  # type: ignore[union-attr]


def test_polygons_become_the_boxes_around_them(tmp_path: Path) -> None:
    corners = [(3, 9), (12.5, 2), (15, 7), (6, 14)]
    lines = [",".join(f"{x},{y}" for x, y in corners[turn:] + corners[:turn]) for turn in range(3)]
    lines.append("3 2 9 2 5 12")  # a triangle
    data = load_target_folders(write(tmp_path / "a", lines), size=SIZE).data
    assert data.boxes is not None
    np.testing.assert_array_equal(data.boxes[0, :3, 0], [[3, 2, 12, 12]] * 3)
    np.testing.assert_array_equal(data.boxes[0, 3, 0], [3, 2, 6, 10])


def test_pixels_may_count_from_1(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", ["1,1,10,8"] * 4)
    data = load_target_folders(folder, size=SIZE, origin=1).data
    np.testing.assert_array_equal(data.boxes[0, :, 0], [[0, 0, 10, 8]] * 4)  # type: ignore[index]


@pytest.mark.parametrize(
    ("name", "text", "there"),
    [
        ("absence.label", "0\n0\n1\n0\n", [1, 1, 0, 1]),
        ("full_occlusion.txt", "0,1,0,1", [1, 0, 1, 0]),
        ("out_of_view.txt", "0,0,0,1\n", [1, 1, 1, 0]),
        ("cover.label", "8\n8\n8\n8\n", [1, 1, 1, 1]),
    ],
)
def test_targets_are_absent_where_a_file_says_so(
    tmp_path: Path, name: str, text: str, there: list[int]
) -> None:
    folder = write(tmp_path / "a", ["1,1,10,8"] * 4)
    (folder / name).write_text(text)
    data = load_target_folders(folder, size=SIZE).data
    assert data.count.tolist() == [there]  # type: ignore[union-attr]


def test_lines_without_a_target(tmp_path: Path) -> None:
    lines = ["1,1,10,8", "nan,nan,nan,nan", "0,0,0,0", "nan," * 7 + "nan"]
    data = load_target_folders(write(tmp_path / "a", lines), size=SIZE).data
    assert data.count.tolist() == [[1, 0, 0, 0]]  # type: ignore[union-attr]


def test_sequences_lie_in_folders_of_categories_too(tmp_path: Path) -> None:
    for name in ("cat/cat-2", "cat/cat-1", "dog/dog-1"):
        write(tmp_path / name, ["1,1,10,8"] * 4, "img")
    (tmp_path / "cat" / ".hidden").mkdir()
    data = load_target_folders(tmp_path, size=SIZE).data
    assert data.names.tolist() == ["cat-1", "cat-2", "dog-1"]  # type: ignore[union-attr]
    assert data.groups.tolist() == [0, 1, 2]  # type: ignore[union-attr]
    (part,) = target_folder_parts(tmp_path, size=SIZE, sequences=["dog-1"])
    assert part.names.tolist() == ["dog-1"]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["1,1,2,2", "1,1,2,2,3"], r"groundtruth\.txt, line 2: expected 4 numbers of a box, or 6, 8"),
        (["1,1,2,2", "m0,0,1,1,4"], r"groundtruth\.txt, line 2: expected a box or a polygon, got a mask"),
        (["1,1,2,2", "1,1,2,x"], r"groundtruth\.txt, line 2: expected 4 numbers.* got 'x'"),
        (["1,1,2,2"], r"groundtruth\.txt: 1 boxes, but there are 4 frames"),
        (["0,0,0,0"] * 4, r"groundtruth\.txt, line 1: the target must be in the first frame"),
        (["99,99,2,2"] * 4, r"groundtruth\.txt, line 1: .* outside the 30 x 20 pixels"),
        ([""], r"groundtruth\.txt: expected lines of boxes or polygons"),
    ],
)
def test_bad_sequences_are_refused_or_left_out(tmp_path: Path, lines: list[str], message: str) -> None:
    write(tmp_path / "bad", lines)
    write(tmp_path / "good", ["1,1,10,8"] * 4)
    with pytest.raises(DataError, match=message):
        load_target_folders(tmp_path, size=SIZE)
    data, skipped = load_target_folders(tmp_path, size=SIZE, skip_bad=True)
    assert data.names.tolist() == ["good"]  # type: ignore[union-attr]
    assert len(skipped) == 1


def test_files_of_absence_must_fit(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", ["1,1,10,8"] * 4)
    for text in ("0,0,0", "0,0,0,2"):
        (folder / "out_of_view.txt").write_text(text)
        with pytest.raises(DataError, match=r"out_of_view\.txt: expected 4 times 0 or 1"):
            load_target_folders(folder, size=SIZE)
    for image in folder.glob("*.png"):
        image.unlink()
    (folder / "out_of_view.txt").unlink()
    with pytest.raises(DataError, match="a: expected image files in img/, color/ or beside"):
        load_target_folders(folder, size=SIZE)
