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
    for number in range(5):
        animation(tmp_path / "up" / f"{number}.gif", *range(10 * number, 10 * number + 6 * (number + 2), 6))
    pictures(tmp_path / "down" / "anna", 90, 60, 30)
    animation(tmp_path / "down" / "berta.gif", 200, 100)
    (tmp_path / "down" / ".hidden").touch()
    return tmp_path


def test_videos_of_each_class_and_the_last_ones_are_held_out(folder: Path):
    source = ClassFolders(folder, (4, 6))
    assert source.names == ("down", "up")
    assert [path.name for path in source.paths] == [
        *("anna", "berta.gif"),
        *("0.gif", "1.gif", "2.gif", "3.gif", "4.gif"),
    ]
    assert source.labels.tolist() == [0, 0, 1, 1, 1, 1, 1]
    assert source.lengths.tolist() == [3, 2, 2, 3, 4, 5, 6]
    train, test = source.split()
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
    np.testing.assert_allclose(last.mean((1, 2, 3)), [46, 70], atol=4)  # of a palette


def test_folders_for_training_and_testing(tmp_path: Path):
    animation(tmp_path / "train" / "a" / "1.gif", 0, 50)
    animation(tmp_path / "train" / "b" / "1.gif", 0, 50)
    animation(tmp_path / "test" / "a" / "2.gif", 0, 50)
    animation(tmp_path / "test" / "b" / "0.gif", 0, 50)
    source = ClassFolders(tmp_path)
    assert [path.parent.parent.name for path in source.paths] == ["train", "test", "train", "test"]
    train, test = source.split()
    assert (train.tolist(), test.tolist()) == ([0, 2], [1, 3])
    batch = ActionClips(source, 2).batch(train, [np.random.default_rng(row) for row in train])
    assert batch.video.shape == (2, 2, 3, 96, 128)
    assert batch.joints is None


def test_what_is_missing_is_named(tmp_path: Path):
    with pytest.raises(DataError, match="no such folder"):
        ClassFolders(tmp_path / "nowhere")
    animation(tmp_path / "only" / "1.gif", 0, 50)
    animation(tmp_path / "only" / "2.gif", 0, 50)
    with pytest.raises(DataError, match=r"several classes.*got .*: only\."):
        ClassFolders(tmp_path)
    animation(tmp_path / "single" / "1.gif", 0, 50)
    with pytest.raises(DataError, match="`single` must have videos to train on and to test on"):
        ClassFolders(tmp_path)
    (tmp_path / "single" / "notes.txt").write_text("nothing")
    with pytest.raises(DataError, match=r"notes\.txt"):
        ClassFolders(tmp_path)
    (tmp_path / "single" / "notes.txt").unlink()
    Image.new("RGB", (4, 4)).save(tmp_path / "single" / "2.png")
    with pytest.raises(DataError, match=r"2\.png: expected a video, got one frame"):
        ClassFolders(tmp_path)


def test_training_and_test_folders_must_have_the_same_classes(tmp_path: Path):
    for name in ("train/a", "train/b", "test/a"):
        animation(tmp_path / name / "1.gif", 0, 50)
    with pytest.raises(DataError, match="train: a, b and test: a"):
        ClassFolders(tmp_path)
