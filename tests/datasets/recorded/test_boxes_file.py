from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from whatwhere.datasets.recorded.boxes_file import read_table


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
