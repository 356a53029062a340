from typing import Any, NamedTuple, TypedDict

import pytest
import torch
from torch import Tensor

from whatwhere.inference.training.structure import Primitives, mismatch


class Point(NamedTuple):
    x: float
    y: float


class Named(TypedDict):
    name: str


class Entry(Named, total=False):
    points: list[Point]


GOOD = [
    (3, int),
    (3, float),
    (3.5, float),
    ("a", str),
    (None, None),
    (None, str | None),
    ("a", str | None),
    (object(), Any),
    (torch.zeros(2), Tensor),
    ({"a": 1}, dict[str, int]),
    ([1, 2], list[int]),
    ((1, 2), tuple[int, ...]),
    ({"x": 1, "y": 2.0}, Point),
    ({"name": "a"}, Entry),
    ({"name": "a", "points": [{"x": 0, "y": 0}], "more": 3}, Entry),
    ({"a": [1, None, {"b": (True, "c")}]}, Primitives),
]
BAD = [
    (True, int, "`it` is a bool, not an int"),
    (3.5, int, "`it` is a float, not an int"),
    ("3", float, "`it` is a str, not a float"),
    (3, None, "`it` is an int, not None"),
    (3, str | None, "`it` is an int, not a str"),
    ([1.0], Tensor, "`it` is a list, not a dense Tensor"),
    (torch.zeros(2).to_sparse(), Tensor, "`it` is a Tensor, not a dense Tensor"),
    (torch.zeros(2, device="meta"), Tensor, "`it` is a Tensor, not a dense Tensor"),
    ([], dict[str, int], "`it` is a list, not a dict"),
    ({1: 1}, dict[str, int], "`it: key 1` is an int, not a str"),
    ({"a": {"b": "c"}}, dict[str, dict[str, int]], "`it.a.b` is a str, not an int"),
    ([1, "2"], list[int], "`it[1]` is a str, not an int"),
    ({"x": 1}, Point, "`it` lacks `y`"),
    ({}, Entry, "`it` lacks `name`"),
    ({"name": "a", "points": [{"x": 0}]}, Entry, "`it.points[0]` lacks `y`"),
    ({"a": [torch.zeros(1)]}, Primitives, "`it.a[0]` is a Tensor, not a number, text, list or dictionary"),
    ({"a": {1: 2}}, Primitives, "`it.a: key 1` is an int, not a str"),
]


@pytest.mark.parametrize(("value", "hint"), GOOD)
def test_what_has_the_structure(value: Any, hint: Any):
    assert mismatch(value, hint, "it") is None


@pytest.mark.parametrize(("value", "hint", "problem"), BAD)
def test_what_has_not_is_named(value: Any, hint: Any, problem: str):
    assert mismatch(value, hint, "it") == problem
