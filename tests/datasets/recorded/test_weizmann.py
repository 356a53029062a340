from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from whatwhere.datasets import WEIZMANN_ACTIONS, DataError, load_weizmann
from whatwhere.models.components.boxes import ink_boxes

HEAD = "sequence,frame,x,y,w,h"


def silhouettes(lengths: dict[str, int]) -> tuple[dict[str, np.ndarray], list[str]]:
    """A filled rectangle in each frame, and the rows of its boxes."""
    rng = np.random.default_rng(0)
    masks, rows = {}, []
    for name, length in lengths.items():
        masks[name] = np.zeros((length, 144, 180), bool)
        for frame in range(length):
            left, top = rng.integers(0, 170), rng.integers(0, 134)
            width, height = rng.integers(1, 181 - left), rng.integers(1, 145 - top)
            masks[name][frame, top : top + height, left : left + width] = True
            rows.append(f"{name},{frame},{left},{top},{width},{height}")
    return masks, rows


LENGTHS = {"lena_walk2": 3, "ada_wave1": 2, "lena_walk1": 1, "lena_bend": 4}
MASKS, ROWS = silhouettes(LENGTHS)


def write(folder: Path, masks: dict[str, np.ndarray], rows: list[str], head: str = HEAD) -> Path:
    np.savez(folder / "silhouettes_packed.npz", **{k: np.packbits(v, axis=-1) for k, v in masks.items()})
    (folder / "boxes_from_masks.csv").write_text("\n".join([head, *rows]) + "\n")
    return folder


def test_sequences_are_read_with_their_boxes(tmp_path: Path) -> None:
    data = load_weizmann(write(tmp_path, MASKS, ROWS[::-1]))
    assert data.names is not None
    assert data.names.tolist() == ["ada_wave1", "lena_bend", "lena_walk1", "lena_walk2"]
    assert data.shape == (4, 4, 1, 144, 180)
    table = {tuple(row.split(",")[:2]): [int(x) for x in row.split(",")[2:]] for row in ROWS}
    assert data.count is not None
    assert data.boxes is not None
    assert data.visible is not None
    for row, name in enumerate(data.names.tolist()):
        length = LENGTHS[name]
        np.testing.assert_array_equal(data.video[row, :length, 0], 255 * MASKS[name].astype(int))
        assert not data.video[row, length:].any()
        assert data.boxes[row, :length, 0].tolist() == [table[name, str(i)] for i in range(length)]
        assert not data.boxes[row, length:].any()
        assert data.count[row].tolist() == [1] * length + [0] * (4 - length)
        assert data.visible[row, :, 0].tolist() == [1] * length + [0] * (4 - length)
    assert data.groups is not None
    assert data.groups.tolist() == [0, 1, 1, 1]
    assert data.classes is not None
    actions = [WEIZMANN_ACTIONS[number] for (number,) in data.classes.tolist()]
    assert actions == ["wave1", "bend", "walk", "walk"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (ROWS[1:], "expected 3 boxes of `lena_walk2`, none is of frame 0"),
        ([*ROWS, ROWS[2]], "line 12: frame 2 of `lena_walk2` has a box already"),
        ([*ROWS, "lena_walk2,3,1,1,1,1"], "line 12: `lena_walk2` has 3 silhouettes, got a box of frame 3"),
        (["lena_walk2,-1,1,1,1,1", *ROWS], "line 2: `lena_walk2` has 3 silhouettes, got a box of frame -1"),
        ([*ROWS, "bob_walk,0,1,1,1,1"], "line 12: there are no silhouettes of `bob_walk`"),
        (["lena_walk2,0,1,1,1", *ROWS], "line 2: expected a name and five integers, got lena_walk2,0,1,1,1"),
        (["lena_walk2,0,1,1,1,x", *ROWS], "line 2: expected a name and five integers"),
        (["lena_walk2,0,1,1,1,2,3", *ROWS], "line 2: expected a name and five integers"),
        (["lena_walk2,0,1,1,0,2", *ROWS], "line 2: the box of `lena_walk2` must be inside 180 x 144 pixels"),
        (["lena_walk2,0,1,1,2,0", *ROWS], "line 2: the box"),
        (["lena_walk2,0,-1,1,2,2", *ROWS], "line 2: the box"),
        (["lena_walk2,0,179,1,2,2", *ROWS], "line 2: the box"),
        (["lena_walk2,0,1,143,2,2", *ROWS], "line 2: the box .* got 1,143,2,2"),
    ],
)
def test_bad_boxes_are_refused_with_their_line(tmp_path: Path, rows: list[str], message: str) -> None:
    with pytest.raises(DataError, match=rf"boxes_from_masks\.csv: {message}"):
        load_weizmann(write(tmp_path, MASKS, rows))


def test_tables_of_other_columns_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"masks\.csv: expected columns sequence,frame,x,y,w,h, got frame,id"):
        load_weizmann(write(tmp_path, MASKS, ROWS, "frame,id,x,y,w,h"))
    (tmp_path / "boxes_from_masks.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"masks\.csv: cannot be read \("):
        load_weizmann(tmp_path)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "expected silhouettes, the archive is empty"),
        (
            {"lena_bend": np.zeros((3, 144, 180), np.uint8)},
            r"`lena_bend` must be uint8 of shape \(T, 144, 23\)",
        ),
        ({"lena_bend": np.zeros((3, 144, 23), bool)}, "got bool"),
        ({"lena_bend": np.zeros((0, 144, 23), np.uint8)}, r"got uint8 of \(0, 144, 23\)"),
        ({"lena_bend": np.zeros(3, np.uint8)}, r"got uint8 of \(3,\)"),
        ({"lena_swim": np.zeros((3, 144, 23), np.uint8)}, "`lena_swim` must be PERSON_ACTION.*bend, jack"),
        ({"bend": np.zeros((3, 144, 23), np.uint8)}, "`bend` must be PERSON_ACTION"),
        ({"_bend": np.zeros((3, 144, 23), np.uint8)}, "`_bend` must be PERSON_ACTION"),
        ({"lena_bend": np.array([{}])}, "`lena_bend` cannot be read from an .npz archive"),
    ],
)
def test_bad_archives_are_refused(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    write(tmp_path, MASKS, ROWS)
    np.savez(tmp_path / "silhouettes_packed.npz", **arrays)
    with pytest.raises(DataError, match=rf"silhouettes_packed\.npz: .*{message}"):
        load_weizmann(tmp_path)


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    for name in ("silhouettes_packed.npz", "boxes_from_masks.csv"):
        (write(tmp_path, MASKS, ROWS) / name).unlink()
        with pytest.raises(DataError, match=rf"{name}: no such file"):
            load_weizmann(tmp_path)
    write(tmp_path, MASKS, ROWS)
    (tmp_path / "silhouettes_packed.npz").write_bytes(b"text")
    with pytest.raises(DataError, match=r"packed\.npz: cannot be read from an \.npz archive"):
        load_weizmann(tmp_path)


def test_real_silhouettes_have_tight_boxes(real_data: Callable[[str], Path]) -> None:
    data = load_weizmann(real_data("weizmann"))
    assert data.shape == (93, 146, 1, 144, 180)
    assert data.count is not None
    assert data.boxes is not None
    assert data.groups is not None
    assert data.classes is not None
    assert data.names is not None
    lengths = data.count.sum(1)
    assert (lengths.sum(), lengths.min(), lengths.max()) == (5687, 28, 146)
    assert np.unique(data.groups).tolist() == list(range(9))
    people = [name.split("_")[0] for name in data.names.tolist()]
    assert len(set(zip(people, data.groups.tolist(), strict=True))) == 9
    numbers = np.bincount(data.classes[:, 0]).tolist()
    assert numbers == [10 if action in ("run", "skip", "walk") else 9 for action in WEIZMANN_ACTIONS]
    for row, length in enumerate(lengths.tolist()):
        pixels = data.video[row]
        assert ((pixels == 0) | (pixels == 255)).all()
        assert not pixels[length:].any()
        tight = ink_boxes(torch.from_numpy(pixels[:length]), 0)
        np.testing.assert_array_equal(data.boxes[row, :length, 0], tight)
