"""Every recipe refuses numbers that are none, whichever field has them."""

import dataclasses
import math
from typing import Any

import pytest

from whatwhere.datasets import (
    BatchSchedule,
    Billiard,
    BouncingBallsRecipe,
    ClutterRecipe,
    ColouredBallsRecipe,
    KITTIRecipe,
    MomentumWalk,
    Motion,
    MovingDigitsRecipe,
    PyroRecipe,
    RatmDigitsRecipe,
    RelayRecipe,
    ReleasedWalk,
    SceneRecipe,
    SpMOTRecipe,
    StaticSqairRecipe,
)

MADE: list[Any] = [
    Billiard(),
    BouncingBallsRecipe(),
    ClutterRecipe(),
    ColouredBallsRecipe(),
    KITTIRecipe(),
    MomentumWalk(),
    Motion(),
    MovingDigitsRecipe(),
    PyroRecipe(),
    RatmDigitsRecipe(),
    RelayRecipe(),
    ReleasedWalk(),
    SceneRecipe(),
    SpMOTRecipe(),
    StaticSqairRecipe(),
    BatchSchedule(100, 10, 0),
]


def numbers(value: Any) -> bool:
    values = value if isinstance(value, tuple) else (value,)
    return all(isinstance(each, int | float) and not isinstance(each, bool) for each in values)


CASES = [
    pytest.param(made, field.name, bad, id=f"{type(made).__name__}-{field.name}-{bad}")
    for made in MADE
    for field in dataclasses.fields(made)
    if numbers(getattr(made, field.name))
    for bad in (math.nan, math.inf, -math.inf)
]


@pytest.mark.parametrize(("made", "name", "bad"), CASES)
def test_numbers_that_are_none_are_refused(made: Any, name: str, bad: float) -> None:
    value = getattr(made, name)
    changed = (*value[:-1], bad) if isinstance(value, tuple) else bad
    with pytest.raises(ValueError, match=r"must|expected"):
        dataclasses.replace(made, **{name: changed})
