import re
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from whatwhere.datasets import (
    DataError,
    SceneRecipe,
    check,
    load_scenes,
    load_video,
    save_video_parts,
    scene_parts,
)
from whatwhere.datasets.storage import store

SIZE = (6, 8)
HEADER = "frame,id,x,y,w,h"


def random_frames(count: int, height: int = 6, width: int = 8) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, height, width, 3), np.uint8)


def write_images(folder: Path, frames: np.ndarray, first: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames, first):
        Image.fromarray(frame).save(folder / f"{number:06}.png", compress_level=0)


def write_scene(
    folder: Path, frames: np.ndarray, rows: Iterable[str], images: str = "img", first: int = 0
) -> Path:
    write_images(folder / images, frames, first)
    (folder / "boxes.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    return folder


def channels_first(frames: np.ndarray) -> np.ndarray:
    return frames.transpose(0, 3, 1, 2)


def rows_of(identity: object, frames: Iterable[int], box: str = "1,1,4,3") -> list[str]:
    return [f"{frame},{identity},{box}" for frame in frames]


@pytest.mark.parametrize(("frames", "min_frames"), [(7, 3), (4, 4), (50, 1), (5, 2)])
def test_objects_are_cut_where_frames_lack_them_and_into_windows(
    tmp_path: Path, frames: int, min_frames: int
) -> None:
    """Which frames each clip has, from the objects' presence written as text."""
    rng = np.random.default_rng(frames)
    pictures, length = random_frames(40), 40
    present = {name: rng.random(length) < 0.85 for name in ("3", "12", "red car")}
    rows = [
        f"{frame},{name},{place},{frame / 40},2,3"
        for frame in range(length)
        for place, (name, there) in enumerate(present.items())
        if there[frame]
    ]
    rng.shuffle(rows)
    expected = {}
    for place, (name, there) in enumerate(present.items()):
        text = "".join("x" if each else "-" for each in there)
        for match in re.finditer(f"x{{1,{frames}}}", text):
            if len(match[0]) >= min_frames:
                expected[f"scene/{name}@{match.start()}-{match.end()}"] = (place, match.start(), match.end())
    recipe = SceneRecipe(frames, min_frames, SIZE)
    data, skipped = load_scenes(write_scene(tmp_path / "scene", pictures, rows), recipe)
    assert skipped == []
    assert data.names is not None
    assert data.boxes is not None
    assert set(data.names.tolist()) == set(expected)
    assert len(data) == len(expected)
    assert data.shape[1] == max(stop - start for _, start, stop in expected.values())
    starts = [expected[name][1] for name in data.names.tolist()]
    assert starts == sorted(starts)
    for row, name in enumerate(data.names.tolist()):
        place, start, stop = expected[name]
        np.testing.assert_array_equal(data.video[row, : stop - start], channels_first(pictures[start:stop]))
        assert not data.video[row, stop - start :].any()
        boxes = [[place, frame / 40, 2, 3] for frame in range(start, stop)]
        np.testing.assert_allclose(data.boxes[row, : stop - start, 0], boxes, rtol=1e-6)
        assert not data.boxes[row, stop - start :].any()
        assert data.count[row].sum() == stop - start  # type: ignore[index]
    assert data.classes is None


def test_frames_are_resized_and_boxes_with_them(tmp_path: Path) -> None:
    pictures = random_frames(5, 12, 16)
    folder = write_scene(tmp_path / "a", pictures, rows_of(0, range(5), "12,-3,8,6"))
    data = load_scenes(folder, SceneRecipe(size=(6, 4))).data
    means = pictures.reshape(5, 6, 2, 4, 4, 3).mean((2, 4))
    np.testing.assert_allclose(data.video[0], channels_first(means), atol=1)
    assert data.boxes is not None
    np.testing.assert_allclose(data.boxes[0, :, 0], [[3, -1.5, 2, 3]] * 5)
    np.testing.assert_allclose(data.visible, np.full((1, 5, 1), 4 * 3 / 48))
    grey = load_scenes(folder, SceneRecipe(size=(12, 16), grey=True)).data
    assert grey.shape == (1, 5, 1, 12, 16)
    np.testing.assert_allclose(grey.video[0, :, 0], pictures @ (0.299, 0.587, 0.114), atol=0.51)


def test_scenes_are_groups_and_their_folders_have_several_layouts(tmp_path: Path) -> None:
    frames = {name: random_frames(count) for name, count in (("a", 5), ("b", 6), ("c", 7))}
    write_scene(tmp_path / "c", frames["c"], rows_of(1, range(7)), images="img")
    write_scene(tmp_path / "b", frames["b"], rows_of(1, range(6)) + rows_of(0, range(6)), images=".")
    write_scene(tmp_path / "a", frames["a"], rows_of(4, range(280, 285)), images="image_02", first=280)
    (tmp_path / "notes").mkdir()
    (tmp_path / "README.md").write_text("text")
    recipe = SceneRecipe(size=SIZE)
    data = load_scenes(tmp_path, recipe).data
    assert data.names is not None
    assert data.groups is not None
    assert data.names.tolist() == ["a/4@280-285", "b/1@0-6", "b/0@0-6", "c/1@0-7"]
    assert data.groups.tolist() == [0, 1, 1, 2]
    for row, name in enumerate("abbc"):
        np.testing.assert_array_equal(data.video[row, : len(frames[name])], channels_first(frames[name]))
    chosen = load_scenes(tmp_path, recipe, sequences=["c", "a"]).data
    assert (chosen.names.tolist(), chosen.groups.tolist()) == (["a/4@280-285", "c/1@0-7"], [0, 1])  # type: ignore[union-attr]
    with pytest.raises(DataError, match=r"expected a sequence 'd', there are a, b, c\."):
        load_scenes(tmp_path, recipe, sequences=["a", "d"])


def test_columns_have_any_order_and_others_are_left_alone(tmp_path: Path) -> None:
    pictures = random_frames(6)
    folder = write_scene(tmp_path / "a", pictures, [])
    lines = ["type,h, w,x,y,id,frame"] + [f"Car,3,2,1,{frame}.5, 7,{frame}" for frame in range(5)]
    (folder / "boxes.csv").write_bytes(("\ufeff" + "\r\n".join(lines)).encode())
    data = load_scenes(folder, SceneRecipe(size=SIZE)).data
    assert data.names.tolist() == ["a/7@0-5"]  # type: ignore[union-attr]
    np.testing.assert_array_equal(data.boxes[0, :, 0], [[1, t + 0.5, 2, 3] for t in range(5)])  # type: ignore[index]
    np.testing.assert_array_equal(data.video[0], channels_first(pictures[:5]))  # the sixth has no box


def test_small_objects_are_absent(tmp_path: Path) -> None:
    """In pixels of the files, not of the resized frames, and either side counts."""
    boxes = ["1,1,4,4"] * 6 + ["1,1,3.9,4"] + ["1,1,4,4"] * 5 + ["1,1,5,3.9"] + ["1,1,4,5"] * 4
    rows = [f"{frame},0,{box}" for frame, box in enumerate(boxes)]
    folder = write_scene(tmp_path / "a", random_frames(len(rows), 12, 16), rows)
    data = load_scenes(folder, SceneRecipe(size=SIZE, min_side=4)).data
    assert data.names.tolist() == ["a/0@0-6", "a/0@7-12"]  # type: ignore[union-attr]  # the last has 4 frames
    with pytest.raises(DataError, match=r"expected clips in 1 scenes, 3 are shorter than 7 frames"):
        load_scenes(folder, SceneRecipe(size=SIZE, min_side=4, min_frames=7))
    with pytest.raises(DataError, match=r"expected clips in 1 scenes, there is none"):
        load_scenes(folder, SceneRecipe(size=SIZE, min_side=40))


def test_a_video_file_is_as_good_as_images(tmp_path: Path, write_film: Callable[..., Path]) -> None:
    pictures = random_frames(30, 16, 16)
    rows = rows_of("a", range(3, 29)) + rows_of("b", range(10, 16), "4,5,6,7")
    write_film(tmp_path / "film" / "street.avi", pictures)
    (tmp_path / "film" / "boxes.csv").write_text("\n".join([HEADER, *rows]))
    write_scene(tmp_path / "images" / "film", pictures, rows)
    recipe = SceneRecipe(frames=12, size=(8, 16))
    film = load_scenes(tmp_path / "film", recipe).data
    images = load_scenes(tmp_path / "images", recipe).data
    assert film.names.tolist() == ["film/a@3-15", "film/b@10-16", "film/a@15-27"]  # type: ignore[union-attr]
    np.testing.assert_array_equal(film.video, images.video)
    for name, value in images.labels().items():
        np.testing.assert_array_equal(film.labels()[name], value)
    (tmp_path / "film" / "boxes.csv").write_text("\n".join([HEADER, *rows_of("a", range(20, 31))]))
    with pytest.raises(DataError, match=r"street\.avi: has 30 frames, fewer than the 31"):
        load_scenes(tmp_path / "film", recipe)
    write_film(tmp_path / "film" / "again.avi", pictures)
    with pytest.raises(DataError, match=r"one video file, found again\.avi, street\.avi"):
        load_scenes(tmp_path / "film", recipe)


def test_frame_0_may_be_image_1(tmp_path: Path) -> None:
    pictures = random_frames(6)
    folder = write_scene(tmp_path / "a", pictures, rows_of(0, range(6)), first=1)
    data = load_scenes(folder, SceneRecipe(size=SIZE, first_number=1)).data
    np.testing.assert_array_equal(data.video[0], channels_first(pictures))
    with pytest.raises(
        DataError, match=r"line 2: frame 0 must be image number 0, but there are 1 to 6 in .*img; another"
    ):
        load_scenes(folder, SceneRecipe(size=SIZE))
    (folder / "img" / "000003.png").unlink()
    with pytest.raises(DataError, match=r"line 4: frame 2 must be image number 3, .* 1 to 6 in .*img\.$"):
        load_scenes(folder, SceneRecipe(size=SIZE, first_number=1))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["0,1,2,3,4"], r"line 2: expected frame,id,x,y,w,h, a frame and four numbers, got '0,1,2,3,4,'"),
        (["0,1,1,1,2,2", "1.5,1,1,1,2,2"], "line 3: expected frame,id,x,y,w,h, a frame and four numbers"),
        (["0,1,1,one,2,2"], "line 2: expected frame,id,x,y,w,h, a frame and four numbers"),
        (["-1,1,1,1,2,2"], "line 2: expected a frame that is not negative"),
        (["0,,1,1,2,2"], "line 2: expected a frame that is not negative and an `id`"),
        (["0,1,1,1,0,2"], "line 2: expected a box with an area"),
        (["0,1,1,1,2,-2"], "line 2: expected a box with an area"),
        (["0,1,nan,1,2,2"], "line 2: expected .* four numbers, got '0,1,nan,1,2,2'"),
        (["0,1,1,inf,2,2"], "line 2: expected .* four numbers, got '0,1,1,inf,2,2'"),
        (["0,1,1,1,2,2", "0,2,1,1,2,2", "0,1,3,1,2,2"], "line 4: `1` is in frame 0 on line 2 already"),
        (rows_of(1, range(5), "9,1,2,2"), "line 2: the box .* is outside the 8 x 6 pixels"),
    ],
)
def test_bad_tables_are_refused_with_the_line(tmp_path: Path, rows: list[str], message: str) -> None:
    folder = write_scene(tmp_path / "a", random_frames(5), rows)
    with pytest.raises(DataError, match=r"boxes\.csv, " + message):
        load_scenes(folder, SceneRecipe(size=SIZE))


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "; "])
def test_tables_as_other_programs_write_them(tmp_path: Path, delimiter: str) -> None:
    point = "," if ";" in delimiter else "."
    lines = [["frame", "id", "x", "y", "w", "h", "note"]]
    for frame in range(5):
        lines.append([f"{frame}.0", "cat", f"1{point}5", "1.0", "4", "3", "x"])
        lines.append([f"{frame}.0", "dog", *(["2", "1", "4", "3"] if frame < 4 else ["NaN"] * 4), ""])
        lines.append([f"{frame}", "bird", "", "", "", "", ""])
    folder = write_scene(tmp_path / "a", random_frames(5), [])
    (folder / "boxes.csv").write_text("\r\n".join(map(delimiter.join, lines)), encoding="utf-8-sig")
    data = load_scenes(folder, SceneRecipe(min_frames=1, size=SIZE)).data
    assert data.names is not None
    assert data.names.tolist() == ["a/cat@0-5", "a/dog@0-4"]
    np.testing.assert_array_equal(data.boxes[0, :, 0], [[1.5, 1, 4, 3]] * 5)  # type: ignore[index]


def test_a_table_may_name_its_video_if_there_is_one(tmp_path: Path) -> None:
    lines = ["video,frame,id,x,y,w,h", *(f"3,{frame},cat,1,1,4,3" for frame in range(5))]
    folder = write_scene(tmp_path / "a", random_frames(5), [])
    (folder / "boxes.csv").write_text("\n".join(lines))
    data = load_scenes(folder, SceneRecipe(min_frames=1, size=SIZE)).data
    assert data.names is not None
    assert data.names.tolist() == ["a/cat@0-5"]


def test_missing_files_are_named(tmp_path: Path) -> None:
    folder = write_scene(tmp_path / "a", random_frames(5), rows_of(1, range(5)))
    (folder / "boxes.csv").write_text("frame,x,y,w,h\n0,1,1,2,2\n")
    with pytest.raises(DataError, match=r"boxes\.csv, line 1: expected the columns .*, no `id`"):
        load_scenes(folder)
    (folder / "boxes.csv").write_bytes(b"")
    with pytest.raises(DataError, match=r"boxes\.csv, line 1: expected the columns .*, no `frame`"):
        load_scenes(folder)
    (folder / "boxes.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"boxes\.csv: cannot be read \("):
        load_scenes(folder)
    (folder / "boxes.csv").unlink()
    with pytest.raises(DataError, match=r"boxes\.csv: no such file"):
        load_scenes(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="expected a folder of frames and boxes"):
        load_scenes(tmp_path / "empty")
    (tmp_path / "empty" / "boxes.csv").write_text(HEADER + "\n")
    with pytest.raises(DataError, match="expected image files, or one video file, found neither"):
        load_scenes(tmp_path / "empty")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"frames": 4}, "`frames` must be at least `min_frames`, 5, got 4"),
        ({"min_frames": 0}, "`min_frames` must be at least 1, got 0"),
        ({"size": (0, 3)}, "`size` must be two positive"),
    ],
)
def test_recipes_are_checked(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SceneRecipe(**arguments)


def test_parts_are_the_whole_without_what_is_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "in"
    for name in "abcd":
        write_scene(folder / name, random_frames(6), rows_of(0, range(6)) + rows_of(1, range(5)))
    (folder / "b" / "boxes.csv").write_text("nothing\n")
    (folder / "c" / "img" / "000005.png").write_bytes(b"")  # only the first object is in it
    recipe = SceneRecipe(size=SIZE)
    whole, skipped = load_scenes(folder, recipe, skip_bad=True)
    assert whole.names.tolist() == ["a/0@0-6", "a/1@0-5", "c/1@0-5", "d/0@0-6", "d/1@0-5"]  # type: ignore[union-attr]
    assert whole.groups.tolist() == [0, 0, 2, 3, 3]  # type: ignore[union-attr]
    assert len(skipped) == 2
    monkeypatch.setattr(store, "PART_BYTES", 2 * 6 * 3 * 6 * 8)
    found: list[str] = []
    parts = list(scene_parts(folder, recipe, on_bad=found.append))
    assert [len(part) for part in parts] == [2, 2, 1]
    assert found == skipped
    save_video_parts(tmp_path / "out.h5", parts)
    assert check(tmp_path / "out.h5").problems == []
    again = load_video(tmp_path / "out.h5")
    np.testing.assert_array_equal(again.video, whole.video)
    for name, value in whole.labels().items():
        np.testing.assert_array_equal(again.labels()[name], value)
    with pytest.raises(DataError, match=r"b/boxes\.csv, line 1"):
        list(scene_parts(folder, recipe))


def test_real_scenes(real_data: Callable[[str], Path]) -> None:
    """Pedestrians of a static camera differ from the picture that it has without them."""
    folder = real_data("pets2009_s2l1")
    data, skipped = load_scenes(folder, SceneRecipe(size=(72, 96), grey=True))
    assert skipped == []
    assert data.boxes is not None
    assert data.count is not None
    table = np.loadtxt(folder / "boxes.csv", delimiter=",", skiprows=1)
    present = data.count == 1
    assert 0 <= len(table) - present.sum() < 5 * 20  # what is left out is shorter than 5 frames each
    assert np.isclose(np.median(data.boxes[present][..., 0, 3]), np.median(table[:, 5]) / 4, rtol=0.02)
    background = np.median(data.video[present][::30, 0], axis=0)
    moving = np.abs(data.video[:, :, 0].astype(float) - background)
    inside, whole = [], []
    for row, frame in np.argwhere(present)[::7]:
        left, top, width, height = data.boxes[row, frame, 0].round().astype(int)
        inside.append(moving[row, frame, max(top, 0) : top + height, max(left, 0) : left + width].mean())
        whole.append(moving[row, frame].mean())
    assert np.mean(inside) > 4 * np.mean(whole)


def test_tables_as_programs_write_them_are_read(tmp_path: Path) -> None:
    rows = rows_of(0, range(3), "1,2,4,3")
    scene = write_scene(tmp_path / "scene", random_frames(3), rows)
    expected = load_scenes(tmp_path, SceneRecipe(frames=3, min_frames=2, size=SIZE)).data.boxes
    table = scene / "boxes.csv"
    for header in ("Frame,ID,X,Y,W,H", "frame,identity,left,top,width,height,score"):
        table.write_text("\n".join([header, *(f"{row},0.5" if "score" in header else row for row in rows)]))
        found = load_scenes(tmp_path, SceneRecipe(frames=3, min_frames=2, size=SIZE)).data.boxes
        np.testing.assert_array_equal(found, expected)
    table.write_text("video,frame,identity,left,top,width,height\n0,0,0,1,2,4,3\n1,0,0,1,2,4,3\n")
    with pytest.raises(DataError, match="the boxes of one video"):
        load_scenes(tmp_path, SceneRecipe(frames=3, min_frames=2, size=SIZE))
