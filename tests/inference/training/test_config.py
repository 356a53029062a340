import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Optional

import pytest

from whatwhere.inference.training import from_primitives, parse_config, runtime_field, to_primitives
from whatwhere.inference.training.config import Difference, differences, field_docs, make_parser


@dataclass(frozen=True)
class Loop:
    """The loop."""

    steps: int = 100
    """How many steps;
    on two lines."""
    folder: Path = runtime_field(Path("runs"))
    """Where."""


@dataclass(frozen=True)
class LongLoop(Loop):
    """Inherits two fields, and gives one of them another help text."""

    steps: int = 1000
    """Very many steps."""
    rate: float = 1e-3
    """The rate."""


@dataclass(frozen=True)
class Config:
    """A program.

    What it does in detail.
    """

    count: int
    """Required."""
    rate: float = 0.1
    """Half is 50%."""
    name: str = "air"
    flag: bool = True
    """A switch."""
    bound: Literal["elbo", "iwae"] = "elbo"
    particles: Literal[1, 5] = 5
    clip: float | None = None
    parts: Optional[tuple[int, ...]] = None  # noqa: UP045 - both forms are accepted
    size: tuple[int, float] = (2, 0.5)
    layers: tuple[int, ...] = (256, 128)
    loop: LongLoop = dataclasses.field(default_factory=lambda: LongLoop(rate=0.2))

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError(f"`count` must not be negative, got {self.count}")


def fails(capsys: pytest.CaptureFixture[str], *argv: str, cls: type = Config, **options: Any) -> str:
    with pytest.raises(SystemExit) as exit_:
        parse_config(cls, argv, prog="air", **options)
    captured = capsys.readouterr()
    assert exit_.value.code == 2
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def test_defaults_are_those_of_the_class_and_of_the_default_of_a_nested_one():
    assert parse_config(Config, ["--count", "3"]) == Config(3)
    assert parse_config(Config, ["--count", "3"]).loop.rate == 0.2


@pytest.mark.parametrize(
    ("argv", "changed"),
    [
        ("--rate 3", {"rate": 3.0}),
        ("--rate=-1e-3", {"rate": -1e-3}),
        ("--name x", {"name": "x"}),
        ("--no-flag", {"flag": False}),
        ("--flag", {"flag": True}),
        ("--bound iwae", {"bound": "iwae"}),
        ("--particles 1", {"particles": 1}),
        ("--clip 2.5", {"clip": 2.5}),
        ("--clip none", {"clip": None}),
        ("--parts 4 6 10", {"parts": (4, 6, 10)}),
        ("--parts none", {"parts": None}),
        ("--parts", {"parts": ()}),
        ("--size 3 4", {"size": (3, 4.0)}),
        ("--size -3 -4e0", {"size": (-3, -4.0)}),
        ("--size -1_000 -.5E+1", {"size": (-1000, -5.0)}),
        ("--rate -1e-3", {"rate": -1e-3}),
        ("--rate -inf", {"rate": -math.inf}),
        ("--layers 7", {"layers": (7,)}),
        ("--layers", {"layers": ()}),
        ("--loop.steps 7", {"loop": LongLoop(steps=7, rate=0.2)}),
        ("--loop.folder a/b", {"loop": LongLoop(folder=Path("a/b"), rate=0.2)}),
    ],
)
def test_every_type_is_read_from_the_command_line(argv, changed):
    config = parse_config(Config, ["--count", "3", *argv.split()])
    assert config == Config(3, **changed)
    for field in dataclasses.fields(Config):
        assert type(getattr(config, field.name)) is type(getattr(Config(3, **changed), field.name))


def test_preset_gives_defaults_that_explicit_options_override_wherever_they_stand():
    presets = {"small": Config(1, rate=0.5, flag=False, loop=LongLoop(steps=5, folder=Path("small")))}
    parse = lambda *argv: parse_config(Config, argv, presets=presets)  # noqa: E731
    assert parse("--preset", "small") == presets["small"]
    expected = Config(1, rate=0.7, flag=True, loop=LongLoop(steps=5, folder=Path("other")))
    options = ["--rate", "0.7", "--loop.folder", "other", "--flag"]
    assert parse("--preset", "small", *options) == expected
    assert parse(*options, "--preset", "small") == expected
    assert parse("--count", "2") == Config(2)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("", "option --count is required"),
        ("--count 1.5", "option --count: expected int, got '1.5'"),
        ("--count -1", "`count` must not be negative, got -1"),
        ("--count 1 --rate x", "option --rate: expected float, got 'x'"),
        ("--count 1 --bound vae", "option --bound: expected one of elbo, iwae, got 'vae'"),
        ("--count 1 --layers 3 x", "option --layers: expected int, got 'x'"),
        ("--count 1 --size 3", "argument --size: expected 2 arguments"),
        ("--count 1 --loop.steps none", "option --loop.steps: expected int, got 'none'"),
        ("--count 1 --step 3", "unrecognized arguments: --step 3; did you mean --loop.steps? (--help"),
        ("--count 1 --xyz 3", "unrecognized arguments: --xyz 3 (--help"),
        ("--count 1 --steps=3", "unrecognized arguments: --steps=3; did you mean --loop.steps? (--help"),
        ("--count 1 --lop.rate 3", "arguments: --lop.rate 3; did you mean --rate or --loop.rate? (--help"),
        ("--cuont 1 --count 1", "unrecognized arguments: --cuont 1; did you mean --count? (--help"),
        ("--count 1 -3 -x", "unrecognized arguments: -3 -x (--help"),
        ("--count 1 --preset big", "argument --preset: invalid choice: 'big'"),
    ],
)
def test_errors_are_one_line(argv, message, capsys):
    line = fails(capsys, *argv.split(), presets={"small": Config(1)})
    assert line.startswith("air: error: ")
    assert message in line


def test_help_has_the_docstring_of_every_field_and_its_default():
    text = " ".join(make_parser(Config, prog="air").format_help().split())
    assert "A program." in text
    assert "in detail" not in text
    assert "--count INT Required. (required)" in text
    assert "--rate FLOAT Half is 50%. (default: 0.1)" in text
    assert "--flag, --no-flag A switch. (default: true)" in text
    assert "--bound {elbo,iwae} (default: elbo)" in text
    assert "--clip FLOAT (default: none)" in text
    assert "--size INT FLOAT (default: 2 0.5)" in text
    assert "--loop.steps INT Very many steps. (default: 1000)" in text
    assert "--loop.rate FLOAT The rate. (default: 0.2)" in text
    assert "--loop.folder PATH Where. (default: runs)" in text


@pytest.mark.parametrize("argv", ["--help --preset small", "--preset=small -h", "--preset small --rate x -h"])
def test_help_has_the_values_of_the_preset_as_defaults(argv, capsys):
    presets = {"small": Config(7, rate=0.5, loop=LongLoop(steps=5)), "large": Config(8)}
    with pytest.raises(SystemExit) as ended:
        parse_config(Config, argv.split(), presets=presets, prog="air")
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert text.startswith("usage: air [options]")
    for told in ("--count INT Required. (default: 7)", "Half is 50%. (default: 0.5)", "steps. (default: 5)"):
        assert told in text
    unset = " ".join(make_parser(Config, presets).format_help().split())
    assert "--count INT Required. (required)" in unset


def test_field_docs_are_inherited_and_overridden():
    assert field_docs(Loop) == {"steps": "How many steps; on two lines.", "folder": "Where."}
    assert field_docs(LongLoop) == {"steps": "Very many steps.", "folder": "Where.", "rate": "The rate."}


def test_class_without_source_has_no_docs():
    made = dataclasses.make_dataclass("Made", [("x", int, 3)])
    assert field_docs(made) == {}
    assert parse_config(made, ["--x", "4"]).x == 4


@pytest.mark.parametrize("annotation", [dict, int | str, list[int], tuple[list[int], ...], Config | None])
def test_types_without_a_form_on_the_command_line_are_refused(annotation):
    cls = dataclasses.make_dataclass("Bad", [("field", annotation)])
    with pytest.raises(TypeError, match="field `field` has type"):
        make_parser(cls)


def test_primitives_survive_json_and_return_as_the_same_configuration():
    config = Config(3, clip=1.0, parts=(4, 6), size=(1, 2.0), loop=LongLoop(folder=Path("a/b")))
    primitives = json.loads(json.dumps(to_primitives(config)))
    assert primitives["loop"] == {"steps": 1000, "folder": "a/b", "rate": 0.001}
    assert primitives["size"] == [1, 2.0]
    restored = from_primitives(Config, primitives)
    assert restored == config
    assert isinstance(restored.loop.folder, Path)
    assert isinstance(restored.size, tuple)


@pytest.mark.parametrize(
    ("primitives", "message"),
    [
        ({}, "field `count` of `Config` is missing"),
        ({"count": "3"}, "field `count`: expected int, got '3'"),
        ({"count": True}, "field `count`: expected int, got True"),
        ({"count": 3, "bound": "vae"}, "field `bound`: expected .*Literal.*, got 'vae'"),
        ({"count": 3, "size": [1]}, "expected 2 values, got 1"),
        ({"count": 3, "loop": {"step": 3}}, r"`LongLoop` has no field `loop\.step`"),
        ({"count": 3, "loop": {"steps": None}}, r"field `loop\.steps`: expected int, got None"),
        ({"count": -3}, "must not be negative"),
    ],
)
def test_primitives_of_another_form_are_refused(primitives, message):
    with pytest.raises(ValueError, match=message):
        from_primitives(Config, primitives)


def test_missing_primitives_take_the_default():
    assert from_primitives(Config, {"count": 2, "loop": {"steps": 3}}) == Config(2, loop=LongLoop(steps=3))


def test_configuration_that_holds_an_object_has_no_primitives():
    with pytest.raises(TypeError, match="field `name` holds a object"):
        to_primitives(Config(1, name=object()))  # type: ignore[arg-type]


def test_differences_name_nested_fields_with_both_values():
    first = Config(1, size=(1, 2.0), loop=LongLoop(rate=0.5, folder=Path("a")))
    second = Config(2, size=(1, 2.0), loop=LongLoop(rate=0.25, folder=Path("b")))
    expected = [
        Difference("count", 1, 2),
        Difference("loop.folder", "a", "b"),
        Difference("loop.rate", 0.5, 0.25),
    ]
    assert sorted(differences(first, second)) == expected
    assert sorted(differences(to_primitives(first), second)) == expected
    assert sorted(differences(to_primitives(first), second, ignore_runtime=True)) == [
        expected[0],
        expected[2],
    ]
    assert differences(first, first) == []


def test_differences_show_fields_that_only_one_has_and_take_nan_as_equal():
    assert differences({"a": 1, "n": float("nan")}, {"b": 2, "n": float("nan")}) == [
        Difference("a", 1, "absent"),
        Difference("b", "absent", 2),
    ]
    assert differences({"a": 1}, {"a": 1.0}) == []
    assert differences({"a": None}, {"a": "absent"}) == [Difference("a", None, "absent")]


@dataclass(frozen=True)
class Sectioned:
    """Do something."""

    MOST_USED: ClassVar = ("loop.rate", "output")

    output: Path = runtime_field(Path("out"))
    """Folder."""
    device: str = runtime_field("cpu")
    """Device."""
    depth: int = 1
    """Depth."""
    loop: LongLoop = LongLoop()
    """How fast."""


def test_help_has_sections_with_the_most_used_options_first():
    text = make_parser(Sectioned, {"quick": Sectioned()}).format_help()
    places = [
        text.index(part)
        for part in (
            "most used:",
            "--preset",
            "--loop.rate",
            "--output",
            "training:",
            "--depth",
            "loop:",
            "How fast.",
            "--loop.steps",
            "how the run is carried out:",
            "--device",
        )
    ]
    assert places == sorted(places)
    assert text.count("--loop.rate") == 1
