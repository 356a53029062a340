"""Checks of configurations and arguments: one line that says which field, what was expected, what came.

    def __post_init__(self) -> None:
        checks.positive(self, "steps", "learning_rate")
        checks.at_least(2, self, "particles")
        checks.share(self, "exploration", "dropout")
        checks.within("(0, 1]", self, "count_ratio")
        checks.ordered(self, "first_frames", "frames")
        checks.literals(self)

Every check takes an object and names of its fields, or values by name: `checks.positive(steps=steps)`. A
field that is None is not given, and passes; of a tuple or list every element must pass. NaN never passes,
infinity only where it is asked for.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

__all__ = [
    "FieldError",
    "MissingPackageError",
    "UserError",
    "at_least",
    "finite",
    "literals",
    "not_empty",
    "not_negative",
    "one_of",
    "ordered",
    "positive",
    "seed",
    "share",
    "suffix",
    "whole",
    "within",
]


class UserError(Exception):
    """Something that its user can mend: an option, a file, the machine. Programs show the message alone."""


class MissingPackageError(UserError, RuntimeError):
    """An optional package is needed and not installed; the message says how to install it."""


class FieldError(UserError, ValueError):
    """A field or an argument has a value that it must not have.

    Args:
        field: its name; dotted where it is a field of a field.
        expected: what its value must be, for example `must be positive`.
        given: its value.

    Attributes:
        field, expected, given: as above.
    """

    def __init__(self, field: str, expected: str, given: object) -> None:
        super().__init__(field, expected, given)
        self.field, self.expected, self.given = field, expected, given

    def __str__(self) -> str:
        given = self.given if isinstance(self.given, Real) else repr(self.given)
        return f"`{self.field}` {self.expected}, got {given}"

    def inside(self, field: str) -> FieldError:
        """The same error, of a field of `field`."""
        return FieldError(f"{field}.{self.field}", self.expected, self.given)


def positive(of: object = None, /, *names: str, **values: Any) -> None:
    """Require finite numbers greater than 0."""
    _within("(0, inf)", "must be positive", of, names, values)


def not_negative(of: object = None, /, *names: str, **values: Any) -> None:
    """Require finite numbers that are at least 0."""
    _within("[0, inf)", "must not be negative", of, names, values)


def finite(of: object = None, /, *names: str, **values: Any) -> None:
    """Require numbers other than NaN and the infinities."""
    _within("(-inf, inf)", "must be finite", of, names, values)


def share(of: object = None, /, *names: str, **values: Any) -> None:
    """Require numbers in [0, 1], for example probabilities."""
    within("[0, 1]", of, *names, **values)


def seed(of: object = None, /, *names: str, **values: Any) -> None:
    """Require what every random generator takes as a seed: not negative, below 2**63."""
    _within(f"[0, {2**63})", "must be at least 0 and less than 2**63", of, names, values)


def at_least(minimum: float, of: object = None, /, *names: str, **values: Any) -> None:
    """Require finite numbers that are not less than `minimum`."""
    _within(f"[{minimum}, inf)", f"must be at least {minimum}", of, names, values)


def whole(of: object = None, /, *names: str, **values: Any) -> None:
    """Require integers, of Python or NumPy."""
    for name, all_of_it, value in _each(of, names, values):
        if not isinstance(value, Integral) or isinstance(value, bool):
            raise FieldError(name, "must be a whole number", all_of_it)


def within(interval: str, of: object = None, /, *names: str, **values: Any) -> None:
    """Require numbers in an interval.

    Args:
        interval: as in mathematics, `(0, 1]` for instance, with a bracket at an end that belongs to it.
        of: an object.
        names: fields of it.
        values: or values by name.
    """
    _within(interval, f"must be in {interval}", of, names, values)


def one_of(choices: Collection[object], of: object = None, /, *names: str, **values: Any) -> None:
    """Require one of some values."""
    for name, whole, value in _each(of, names, values):
        if value not in choices:
            raise FieldError(name, f"must be one of {', '.join(map(str, choices))}", whole)


def literals(of: object) -> None:
    """Require one of its values of every field of a dataclass that is declared as a `Literal`, or several."""
    for name, annotation in get_type_hints(type(of)).items():
        if choices := [value for literal in _literals(annotation) for value in get_args(literal)]:
            one_of(choices, of, name)


def not_empty(of: object = None, /, *names: str, **values: Any) -> None:
    """Require at least one element, or one character."""
    for name, value in _named(of, names, values).items():
        if value is not None and len(value) == 0:
            raise FieldError(name, "must not be empty", value)


def suffix(endings: Collection[str], of: object = None, /, *names: str, **values: Any) -> None:
    """Require paths of files whose names end in one of some ways, `.png` for example; capitals or not."""
    for name, value in _named(of, names, values).items():
        if value is not None and Path(value).suffix.lower() not in endings:
            raise FieldError(name, f"must end in {' or '.join(map(repr, endings))}", str(value))


def ordered(of: object = None, /, *names: str, **values: Any) -> None:
    """Require that numbers do not decrease from one field to the next, for example a least and a greatest."""
    given = [(name, value) for name, value in _named(of, names, values).items() if value is not None]
    finite(**dict(given))
    for (name, value), (following, limit) in itertools.pairwise(given):
        if not value <= limit:
            raise FieldError(name, f"must be at most `{following}` = {limit}", value)


def _literals(annotation: Any) -> list[Any]:
    """The `Literal`s that a type is, or consists of: `tuple[Literal["a"], ...] | None`."""
    if get_origin(annotation) is Literal:
        return [annotation]
    return [literal for part in get_args(annotation) for literal in _literals(part)]


def _named(of: object, names: tuple[str, ...], values: Mapping[str, Any]) -> dict[str, Any]:
    return {**{name: getattr(of, name) for name in names}, **values}


def _each(of: object, names: tuple[str, ...], values: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Name, value and, of a value that has elements, each element."""
    for name, value in _named(of, names, values).items():
        if value is not None:
            for element in value if isinstance(value, tuple | list) else [value]:
                yield name, value, element


def _within(
    interval: str, expected: str, of: object, names: tuple[str, ...], values: Mapping[str, Any]
) -> None:
    low, high = (_bound(text) for text in interval[1:-1].split(","))
    for name, whole, value in _each(of, names, values):
        if not isinstance(value, Real) or isinstance(value, bool):
            raise FieldError(name, "must be a number", whole)
        number: Any = value
        above = number >= low if interval[0] == "[" else number > low
        below = number <= high if interval[-1] == "]" else number < high
        if not (above and below):
            not_finite = value != value or value in (math.inf, -math.inf)
            also = " and finite" if not_finite and low > -math.inf and high == math.inf else ""
            raise FieldError(name, expected + also, whole)


def _bound(text: str) -> float:
    """An integer stays one: as a float it might be rounded."""
    return int(text) if text.strip().lstrip("-").isdigit() else float(text)
