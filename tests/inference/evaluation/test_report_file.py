import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from whatwhere.inference.evaluation import write_json
from whatwhere.inference.evaluation.report_file import json_ready


class Part(NamedTuple):
    value: float
    counts: tuple[int, ...]


def test_reports_become_primitives_and_what_is_not_finite_none():
    report = {"part": Part(math.nan, (1, 2)), "curve": np.array([[0.5, np.inf]]), "name": "x", "none": None}
    assert json_ready(report) == {
        "part": {"value": None, "counts": [1, 2]},
        "curve": [[0.5, None]],
        "name": "x",
        "none": None,
    }


@dataclass
class Whole:
    part: Part
    rate: float


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (torch.tensor([[1.5, math.nan], [-math.inf, 2]]), [[1.5, None], [None, 2.0]]),
        (torch.tensor(3), 3),
        (np.float32(0.5), 0.5),
        (np.float32(math.inf), None),
        (np.float64(math.nan), None),
        (np.int64(7), 7),
        (np.bool_(True), True),
        (np.array(math.nan), None),
        (Whole(Part(1.0, ()), math.nan), {"part": {"value": 1.0, "counts": []}, "rate": None}),
        ({1: math.inf, "a": (True, "x")}, {"1": None, "a": [True, "x"]}),
        (Path("runs") / "a", str(Path("runs") / "a")),
    ],
)
def test_whatever_holds_numbers_can_be_written(value: Any, expected: Any, tmp_path: Path):
    write_json(tmp_path / "report.json", {"value": value})
    text = (tmp_path / "report.json").read_text()
    found = json.loads(text, parse_constant=lambda word: 1 / 0)["value"]
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize("value", [object(), 1j, {1, 2}, Part, b"x"])
def test_what_is_no_report_is_refused_and_the_file_left_as_it_was(value: Any, tmp_path: Path):
    (tmp_path / "report.json").write_text("old")
    with pytest.raises(TypeError, match="a report must be of numbers, words, lists and names, but has a "):
        write_json(tmp_path / "report.json", [value])
    assert (tmp_path / "report.json").read_text() == "old"


def test_files_are_strict_json(tmp_path):
    write_json(tmp_path / "folder" / "report.json", Part(-math.inf, (3,)))
    text = (tmp_path / "folder" / "report.json").read_text()
    assert json.loads(text, parse_constant=lambda word: 1 / 0) == {"value": None, "counts": [3]}
    assert text.endswith("}\n")
