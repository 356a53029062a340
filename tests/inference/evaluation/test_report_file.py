import json
import math
from typing import NamedTuple

import numpy as np

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


def test_files_are_strict_json(tmp_path):
    write_json(tmp_path / "folder" / "report.json", Part(-math.inf, (3,)))
    text = (tmp_path / "folder" / "report.json").read_text()
    assert json.loads(text, parse_constant=lambda word: 1 / 0) == {"value": None, "counts": [3]}
    assert text.endswith("}\n")
