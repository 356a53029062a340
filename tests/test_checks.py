import math
import pickle
import subprocess
import sys
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest

from whatwhere import checks
from whatwhere.checks import FieldError, UserError

NAN, INF = math.nan, math.inf


@dataclass(frozen=True)
class Field:
    size: object


CASES = {
    "positive": (checks.positive, [1, 1e-300, 10**400, (1, 2)], [0, -1, NAN, INF, -INF, (1, 0), (NAN,)]),
    "not negative": (checks.not_negative, [0, 0.0, 3, (0, 0)], [-1e-300, NAN, INF, (0, -1)]),
    "finite": (checks.finite, [0, -1e300, -(10**400)], [NAN, INF, -INF, (0.0, NAN)]),
    "share": (checks.share, [0, 1, 0.5], [-1e-9, 1 + 1e-9, NAN, INF, -INF]),
    "seed": (checks.seed, [0, 2**63 - 1], [-1, 2**63, 2**70, NAN, INF]),
    "at least": (lambda of, name: checks.at_least(2, of, name), [2, 2.5], [1, 1.999, NAN, INF]),
    "whole": (checks.whole, [0, -3, np.int64(2), (1, 2)], [0.5, 2.0, True, NAN, "1", (1, 0.5)]),
    "open": (lambda of, name: checks.within("(0, 1)", of, name), [0.5], [0, 1, NAN]),
    "half open": (lambda of, name: checks.within("(0, 1]", of, name), [1, 1e-300], [0, 1.5, NAN, INF]),
    "infinity asked for": (lambda of, name: checks.within("(0, inf]", of, name), [1, INF], [0, NAN, -INF]),
    "large": (lambda of, name: checks.within(f"[{-(2**63)}, 0]", of, name), [-(2**63)], [-(2**63) - 1]),
    "not empty": (checks.not_empty, ["a", (1,)], ["", (), []]),
    "suffix": (
        lambda of, name: checks.suffix((".png", ".jpg"), of, name),
        ["a.png", "b/a.JPG"],
        ["a.gif", "png", "", ".png"],
    ),
    "one of": (lambda of, name: checks.one_of(("a", 1), of, name), ["a", 1, ("a", 1)], ["b", 2, ("a", "b")]),
}


@pytest.mark.parametrize("name", CASES)
def test_what_belongs_passes_and_what_does_not_is_refused(name: str):
    check, good, bad = CASES[name]
    for value in [None, *good]:
        check(Field(value), "size")
    for value in bad:
        with pytest.raises(FieldError, match=r"^`size` must ") as caught:
            check(Field(value), "size")
        assert caught.value.field == "size"
        assert caught.value.given == value or value != value


@dataclass(frozen=True)
class Choices:
    kind: Literal["a", "b"] | None = "a"
    sides: tuple[Literal[1, 2], ...] = ()
    either: Literal["x"] | Literal["y"] = "x"
    free: str = "anything"


def test_literals_are_checked_wherever_they_stand_in_a_type():
    checks.literals(Choices(None, (2, 1), "y"))
    for wrong, field in (
        (Choices(kind="c"), "kind"),
        (Choices(sides=(1, 3)), "sides"),
        (Choices(either="a"), "either"),
    ):
        with pytest.raises(FieldError, match=f"^`{field}` must be one of .*, got ") as caught:
            checks.literals(wrong)
        assert caught.value.field == field


@pytest.mark.parametrize("value", ["1", True, object(), [None]])
def test_what_is_no_number_is_refused(value: object):
    with pytest.raises(FieldError, match="`size` must be a number, got"):
        checks.positive(Field(value), "size")


@pytest.mark.parametrize(
    ("check", "value", "message"),
    [
        (checks.positive, 0, "`size` must be positive, got 0"),
        (checks.positive, NAN, "`size` must be positive and finite, got nan"),
        (checks.positive, (32, 0), "`size` must be positive, got (32, 0)"),
        (checks.not_negative, -1, "`size` must not be negative, got -1"),
        (checks.finite, INF, "`size` must be finite, got inf"),
        (checks.share, 1.5, "`size` must be in [0, 1], got 1.5"),
        (checks.share, NAN, "`size` must be in [0, 1], got nan"),
        (checks.seed, -1, "`size` must be at least 0 and less than 2**63, got -1"),
        (lambda of, name: checks.at_least(2, of, name), 1, "`size` must be at least 2, got 1"),
        (
            lambda of, name: checks.one_of(("a", "b"), of, name),
            "c",
            "`size` must be one of a, b, got 'c'",
        ),
    ],
)
def test_the_message_says_field_expected_and_given(check, value: object, message: str):
    with pytest.raises(FieldError) as caught:
        check(Field(value), "size")
    assert str(caught.value) == message
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, UserError)


def test_all_fields_and_values_named_are_looked_at():
    @dataclass
    class Two:
        a: float = 1
        b: float = -1

    checks.positive(Two(), "a")
    for arguments in ({"a": 1, "b": -1}, {"b": -1}):
        with pytest.raises(FieldError, match="`b`"):
            checks.positive(**arguments)
    with pytest.raises(FieldError, match="`b`"):
        checks.positive(Two(), "a", "b")


def test_ordered_fields():
    checks.ordered(first=1, frames=1, maximum=2.5)
    checks.ordered(first=3, frames=None, maximum=4)
    with pytest.raises(FieldError, match=r"^`first` must be at most `frames` = 2, got 3$"):
        checks.ordered(first=3, frames=2)
    with pytest.raises(FieldError, match="`b` must be at most `c` = 1, got 2"):
        checks.ordered(a=1, b=2, c=1)
    with pytest.raises(FieldError, match="`b` must be finite, got nan"):
        checks.ordered(a=1, b=NAN, c=1)


def test_an_error_of_a_field_of_a_field_and_in_another_process():
    error = FieldError("size", "must be positive", 0).inside("network").inside("air")
    assert str(error) == "`air.network.size` must be positive, got 0"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_importing_it_imports_nothing_heavy():
    code = "import sys, whatwhere.checks; print({'torch', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
