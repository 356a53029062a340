from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from whatwhere.datasets import DataError
from whatwhere.datasets.recorded.boxes_file import read_table
from whatwhere.inference.evaluation import mot_writer


def identities(folder: Path, marks: npt.NDArray[np.generic]) -> list[str]:
    """Those of a table with an object for each mark, a row each."""
    rows = np.ones((len(marks), 6), marks.dtype)
    rows[:, 1] = marks
    np.savez(folder / "film.npz", table=rows)
    return list(read_table(folder / "film.npz" / "table"))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64, np.uint64])
def test_numbers_of_objects_are_not_rounded(tmp_path: Path, dtype: type[np.generic]) -> None:
    marks = np.array([0, 7, 1234561, 1234562], dtype)
    assert identities(tmp_path, marks) == ["0", "7", "1234561", "1234562"]


def test_integers_are_told_apart_where_floats_are_not(tmp_path: Path) -> None:
    """Of neighbours above 2^53 two have one float64."""
    marks = 2**53 + np.arange(4)
    assert identities(tmp_path, marks) == [str(mark) for mark in marks.tolist()]


def test_fractions_are_written_as_they_are(tmp_path: Path) -> None:
    marks = np.array([0.1, -2.5], np.float32)
    assert identities(tmp_path, marks) == ["0.1", "-2.5"]


def test_tables_of_the_motchallenge_count_from_one(tmp_path: Path) -> None:
    path = tmp_path / "gt.txt"
    path.write_text("1,7,11,21,30,40,1,1,0.9\n3,7,12.5,21,30,40,1,1,0.5\n3,8,1,1,5,5,0,1,1\n")
    objects = read_table(path)
    assert {name: [box[1:] for box in boxes] for name, boxes in objects.items()} == {
        "7": [(0, "7", (10, 20, 30, 40)), (2, "7", (11.5, 20, 30, 40))]
    }
    path.write_text("0,7,11,21,30,40,1,-1,-1,-1\n")
    with pytest.raises(DataError, match=r"gt.txt, line 1: expected a frame from 1 on"):
        read_table(path)
    path.write_text("1,7,11,21,30,40\n")  # of six numbers it could be any table
    with pytest.raises(DataError, match="expected the columns"):
        read_table(path)


def test_tracks_written_for_the_motchallenge_can_be_read_again(tmp_path: Path) -> None:
    boxes = torch.tensor([[[10.0, 20.0, 30.0, 40.0]], [[11.25, 20.0, 30.0, 40.0]]])
    with mot_writer(tmp_path / "tracks.txt") as writer:
        writer.write(boxes, torch.ones(2, 1), torch.full((2, 1), 3))
    (track,) = read_table(tmp_path / "tracks.txt").values()
    assert [box.frame for box in track] == [0, 1]
    assert [list(box.box) for box in track] == boxes[:, 0].tolist()
