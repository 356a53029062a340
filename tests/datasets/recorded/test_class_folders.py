from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from whatwhere.datasets import ActionClips, ClassFolders, DataError


def animation(path: Path, *greys: int) -> None:
    """A film of flat frames of 12 x 8 pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = [Image.new("RGB", (12, 8), (grey, grey, grey)) for grey in greys]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def pictures(folder: Path, *greys: int) -> None:
    """The same as a folder of frames."""
    folder.mkdir(parents=True)
    for number, grey in enumerate(greys):
        Image.new("RGB", (12, 8), (grey, grey, grey)).save(folder / f"{number:03}.png")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in (0, 1, 2, 3, 10):
        animation(tmp_path / "up" / f"{number}.gif", *range(10 * number, 10 * number + 6 * (number + 2), 6))
    pictures(tmp_path / "down" / "anna", 90, 60, 30)
    pictures(tmp_path / "down" / "berta", 200, 100)
    (tmp_path / "down" / ".hidden").touch()
    return tmp_path


def test_videos_of_each_class_and_the_last_ones_are_held_out(folder: Path):
    source = ClassFolders(folder, (4, 6))
    assert source.classes == ("down", "up")
    assert source.names.tolist() == [
        *("down/anna", "down/berta"),
        *("up/0.gif", "up/1.gif", "up/2.gif", "up/3.gif", "up/10.gif"),
    ]
    assert source.labels.tolist() == [0, 0, 1, 1, 1, 1, 1]
    assert source.lengths.tolist() == [3, 2, 2, 3, 4, 5, 12]
    train, test = source.split()
    assert source.test_folder is None
    assert train.tolist() == [0, 2, 3, 4, 5]
    assert test.tolist() == [1, 6]
    assert ClassFolders(folder, (4, 6), share=0.5).split()[1].tolist() == [1, 5, 6]


@pytest.mark.parametrize("memory", [2**30, 400, 0])
def test_frames_are_those_of_the_video_kept_or_not(folder: Path, memory: int):
    source = ClassFolders(folder, (4, 6), memory=memory)
    assert sum(kept.nbytes for kept in source._kept.values()) <= memory
    found = source.frames(0, np.array([0, 2])).video
    assert found.shape == (2, 3, 4, 6)
    assert np.unique(found[0]).tolist() == [90]
    assert np.unique(found[1]).tolist() == [30]
    last = source.frames(6, np.array([1, 5])).video
    np.testing.assert_allclose(last.mean((1, 2, 3)), [106, 130], atol=4)  # of a palette


@pytest.mark.parametrize("names", [("train", "test"), ("Train", "Val")])
def test_folders_for_training_and_testing(tmp_path: Path, names: tuple[str, str]):
    train, test = (tmp_path / name for name in names)
    for path in (train / "a/1.gif", train / "b/1.gif", test / "a/2.gif", test / "b/0.gif", test / "b/1.gif"):
        animation(path, 0, 50)
    source = ClassFolders(tmp_path)
    assert source.test_folder == names[1]
    assert source.names.tolist() == [
        f"{place}/{name}"
        for place, name in zip(
            (names[0], names[1], names[0], names[1], names[1]),
            ("a/1.gif", "a/2.gif", "b/1.gif", "b/0.gif", "b/1.gif"),
            strict=True,
        )
    ]
    assert source.labels.tolist() == [0, 0, 1, 1, 1]
    rows = source.split()
    assert [each.tolist() for each in rows] == [[0, 2], [1, 3, 4]]
    batch = ActionClips(source, 2).batch(rows[0], [np.random.default_rng(row) for row in rows[0]])
    assert batch.video.shape == (2, 2, 3, 96, 128)
    assert batch.joints is None


def test_what_is_missing_is_named(tmp_path: Path):
    file = tmp_path / "only" / "1.gif"
    animation(file, 0, 50)
    with pytest.raises(DataError, match=r"1\.gif: is a file, no folder"):
        ClassFolders(file)
    with pytest.raises(DataError, match="no such folder"):
        ClassFolders(tmp_path / "nowhere")
    animation(tmp_path / "only" / "2.gif", 0, 50)
    with pytest.raises(DataError, match=r"several classes.*got .*: only\."):
        ClassFolders(tmp_path)
    with pytest.raises(DataError, match=r"got only, which holds 2 files and no folders\.$"):
        ClassFolders(tmp_path / "only")
    animation(tmp_path / "single" / "1.gif", 0, 50)
    with pytest.raises(DataError, match="`single` must have videos to train on and to test on"):
        ClassFolders(tmp_path)
    Image.new("RGB", (4, 4)).save(tmp_path / "single" / "2.gif")
    with pytest.raises(DataError, match=r"2\.gif: expected a video, got one frame"):
        ClassFolders(tmp_path)
    (tmp_path / "single" / "2.gif").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"2\.gif"):
        ClassFolders(tmp_path)


def test_videos_in_folders_of_a_class_are_refused(tmp_path: Path):
    for name in ("a", "b"):
        for person in ("anna", "berta"):
            animation(tmp_path / name / person / "1.gif", 0, 50)
    with pytest.raises(DataError, match="anna: expected"):
        ClassFolders(tmp_path)


def test_training_and_test_folders_must_have_the_same_classes(tmp_path: Path):
    for name in ("train/a", "train/b", "test/a"):
        animation(tmp_path / name / "1.gif", 0, 50)
    with pytest.raises(DataError, match="train: a, b and test: a"):
        ClassFolders(tmp_path)
