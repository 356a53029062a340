"""Every option of every program is checked when a configuration is made, before anything is loaded."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from whatwhere.examples import air, hart, ratm, sqair, table1, vrnn
from whatwhere.inference.training import parse_config

CONFIGURATIONS: Mapping[str, type] = {
    f"{program.__name__.rpartition('.')[2]} {name}": command.config
    for program in (air, sqair, vrnn, ratm, hart)
    for name, command in program.COMMANDS.items()
} | {"table1": table1.Table1Config}
REQUIRED = {
    **{"checkpoint": Path("checkpoint.pt"), "output": Path("small.pt")},
    **{"video": Path("clip.gif"), "source": Path("pictures")},
}

MAY_BE_ZERO = {
    "black",
    *("warm_start.motion.particles", "warm_start.refit.particles"),
    *(
        "seed",
        "fold",
        "films",
        "patience",
        "pictures",
        "hold_steps",
        "hindsight",
        "refine_looks",
        "sketch_from",
        "segmented_from",
        "stay_logit",
        "size_logit",
        "look_gate",
        "momentum",
        "margin",
        "noise_std",
    ),
    *("anneal_from", "anneal_to", "exploration", "exploration_end", "return_probability"),
    *("difficulty", "parts", "faded", "first", "share", "rise", "price", "size_pull", "looks_rate"),
    *("relook", "far"),
    *("most_jitter", "imitation", "first_frame"),
    *("loss.decay", "loss.feature", "loss.classification", "loss.localisation"),
}
MAY_BE_NEGATIVE = {"stay_logit", "size_logit", "look_gate"}


def made(command: str) -> Any:
    """The configuration without options."""
    cls = CONFIGURATIONS[command]
    names = {field.name for field in fields(cls) if field.default is MISSING}
    return cls(**{name: REQUIRED[name] for name in names})


def scalars(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The dotted names of the fields that are no dataclasses, and their types."""
    hints = get_type_hints(type(config))
    for field in fields(config):
        value, hint = getattr(config, field.name), hints[field.name]
        if is_dataclass(value):
            yield from scalars(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, hint


def numbers(config: Any) -> Iterator[tuple[str, Any]]:
    """Those that are numbers, or several."""
    return ((name, hint) for name, hint in scalars(config) if {int, float} & leaves(hint))


def is_literal(hint: Any) -> bool:
    return get_origin(hint) is Literal or any(map(is_literal, get_args(hint)))


def leaves(hint: Any) -> set[Any]:
    return set().union(*map(leaves, get_args(hint))) if get_args(hint) else {hint}


def changed(config: Any, name: str, hint: Any, value: Any) -> Any:
    """The configuration with a value in a field, as often as the field has it."""
    first, _, rest = name.partition(".")
    if rest:
        return replace(config, **{first: changed(getattr(config, first), rest, hint, value)})
    kinds = next((each for each in (hint, *get_args(hint)) if get_origin(each) is tuple), None)
    count = len([kind for kind in get_args(kinds) if kind is not Ellipsis])
    return replace(config, **{first: value if kinds is None else (value,) * count})


def among(name: str, names: set[str]) -> bool:
    return name in names or name.rpartition(".")[2] in names


@pytest.mark.parametrize("command", CONFIGURATIONS)
def test_what_no_number_can_be_is_refused_by_name(command: str):
    config = made(command)
    wrong = []
    for name, hint in numbers(config):
        values: list[float] = [] if among(name, MAY_BE_NEGATIVE) else [-1]
        values += [] if among(name, MAY_BE_ZERO) else [0]
        values += [math.nan, math.inf] if float in leaves(hint) else []
        for value in values:
            message = refusal(config, name, hint, value)
            if message is None or name.rpartition(".")[2] not in message:
                wrong.append((name, value, message))
    assert not wrong


@pytest.mark.parametrize("command", CONFIGURATIONS)
def test_what_is_no_choice_is_refused_by_name_also_from_python(command: str):
    config = made(command)
    wrong = []
    for name, hint in scalars(config):
        if is_literal(hint):
            message = refusal(config, name, hint, "of no kind")
            if message is None or name.rpartition(".")[2] not in message or "of no kind" not in message:
                wrong.append((name, message))
    assert not wrong


def refusal(config: Any, name: str, hint: Any, value: Any) -> str | None:
    """What a configuration says against a value; None if it takes it."""
    try:
        changed(config, name, hint, value)
    except ValueError as error:
        return str(error)
    return None


def test_the_numbers_that_may_be_zero_are_fields():
    found = {name for command in CONFIGURATIONS for name, _ in numbers(made(command))}
    assert found | {name.rpartition(".")[2] for name in found} >= MAY_BE_ZERO


def refused(config: type, options: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line in which a command refuses its options."""
    needed = [f"--{f.name}={REQUIRED[f.name]}" for f in fields(config) if f.default is MISSING]
    with pytest.raises(SystemExit) as stop:
        parse_config(config, [*needed, *options])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize(
    ("command", "options", "field"),
    [
        ("air train", ["--data.image-size=8"], "image_size"),
        ("sqair train", ["--data.image-size=8"], "image_size"),
        ("vrnn train", ["--data.image-size=27"], "image_size"),
        ("ratm train", ["--data.source=digits", "--loss.patch=truth", "--data.image-size=30"], "image_size"),
        ("hart train", ["--data.source=clutter", "--data.image-size=15"], "image_size"),
        ("hart train", ["--data.source=clutter", "--data.sides", "0.4", "0.3"], "sides"),
        ("air train", ["--prior.count-ratio=2"], "count_ratio"),
        ("air train", ["--prior.final-count-ratio=1.01"], "final_count_ratio"),
        ("air train", ["--prior.anneal-from=.5", "--prior.anneal-to=.4"], "anneal_from"),
        ("air train", ["--exploration=2"], "exploration"),
        ("air train", ["--learning-rate=1e-4", "--final-learning-rate=1e-3"], "final_learning_rate"),
        ("air train", ["--data.source=glyphs", "--data.test-source=elsewhere"], "test_source"),
        ("air train", ["--data.source="], "source"),
        ("air sample", ["--output=x.tiff"], ".png"),
        ("air sample", ["--seed=9223372036854775808"], "seed"),
        ("sqair train", ["--particles=1"], "particles"),
        ("sqair train", ["--decay-parts"], "decay_parts"),
        ("sqair train", ["--data.return-probability=.5"], "return_probability"),
        ("sqair train", ["--first-frames=4", "--frames=3"], "first_frames"),
        ("sqair track", ["--fps=51"], "fps"),
        ("sqair track", ["--animation=gif", "--fps=51"], "fps"),
        ("sqair track", ["--animation=mp4", "--fps=1001"], "fps"),
        ("vrnn train", ["--network.strides", "1", "2"], "strides"),
        ("vrnn train", ["--device=banana"], "device"),
        ("vrnn generate", ["--device=mps"], "device"),
        ("ratm train", ["--momentum=1"], "momentum"),
        ("hart train", ["--data.source=a.h5", "--first-frames=4", "--data.min-frames=5"], "first_frames"),
        ("ratm train", ["--network.glimpse-size=1"], "glimpse_size"),
        ("ratm train", ["--loss.classifier=best.pt"], "classifier"),
        ("hart train", ["--data.difficulty=1.5"], "difficulty"),
        ("hart train", ["--data.also=clutter:7"], "also"),
        ("hart evaluate", ["--difficulty=1.5"], "difficulty"),
        ("hart track", ["--box", "1", "1", "5", "0"], "box"),
        ("hart track", ["--fps=51"], "fps"),
        ("hart track", ["--animation=mp4", "--fps=1001"], "fps"),
        ("table1", ["--rows"], "rows"),
        ("table1", ["--rows", "mlp-air", "mlp-air"], "rows"),
        ("table1", ["--probe.hidden=0"], "hidden"),
    ],
)
def test_what_cannot_be_is_refused_when_the_configuration_is_made(
    command: str, options: list[str], field: str, capsys: pytest.CaptureFixture[str]
):
    assert field in refused(CONFIGURATIONS[command], options, capsys)


def test_every_preset_passes_its_own_checks():
    for program in (air, sqair, vrnn, ratm, hart):
        for command in program.COMMANDS.values():
            for name in command.presets or {}:
                assert parse_config(command.config, ["--preset", name], presets=command.presets)
