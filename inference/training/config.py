"""Configuration: frozen dataclasses, the command line made from them, and their form in a checkpoint.

    @dataclass(frozen=True)
    class Config:
        '''Train AIR.'''

        batch_size: int = 64
        '''Images in a batch.'''
        folder: Path = runtime_field(Path("runs/air"))
        '''Where the log and the checkpoint are written.'''
        training: TrainingConfig = TrainingConfig()
        '''The training loop.'''

    config = parse_config(Config, presets={"quick": Config(training=TrainingConfig(steps=100))})

gives `--batch-size`, `--folder`, `--training.steps`, ..., `--preset quick`, with the docstrings as help
texts. Fields may be `int`, `float`, `str`, `bool` (`--flag` and `--no-flag`), `Path`, `Literal[...]`, tuples
of those, `... | None` (written `none` on the command line), and dataclasses of such fields.

The help has a section for each nested dataclass. A class may name the options that most people need, as a
class variable `MOST_USED: ClassVar = ("output", "training.steps")`: they come first, and how a run is
carried out comes last.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import difflib
import inspect
import itertools
import re
import sys
import textwrap
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from ...checks import FieldError

__all__ = [
    "Difference",
    "differences",
    "field_docs",
    "from_primitives",
    "make_parser",
    "parse_config",
    "positional_field",
    "runtime_field",
    "source_field",
    "source_names",
    "to_primitives",
]

T = TypeVar("T")

_MISSING = dataclasses.MISSING
_NAMED = 3
_POSITIONAL = " alone"  # ends the parser's name of a value without its option
_SCALARS = (bool, int, float, str, Path)
_NEGATIVE_NUMBER = re.compile(r"-(\d[\d_]*\.?\d*|\.\d+)(e[-+]?\d+)?$|-inf(inity)?$|-nan$", re.IGNORECASE)


def runtime_field(default: Any) -> Any:
    """Declare a field that says how a run is carried out, not what is computed.

    Such fields (folders, devices, intervals of logs and checkpoints) may differ when a run is resumed.

    Args:
        default: the field's default value.
    """
    return dataclasses.field(default=default, metadata={"runtime": True})


def source_field(default: Any) -> Any:
    """Declare a field that says where data lie, or what generates them.

    It may differ when a run is resumed whose checkpoint has a record of its data: data may move, and the
    records say whether they are the same.

    Args:
        default: the field's default value.
    """
    return dataclasses.field(default=default, metadata={"source": True})


def positional_field(default: Any = _MISSING) -> Any:
    """Declare a field whose value may stand on the command line without its option: `track clip.mp4`.

    Args:
        default: the field's default value; none by default.
    """
    return dataclasses.field(default=default, metadata={"positional": True})


def field_docs(cls: type) -> dict[str, str]:
    """Return the docstring below each field of a dataclass, those it inherits included.

    Args:
        cls: a dataclass. Where its source is not available (a class typed at a prompt), it has no docstrings.

    Returns:
        the text by field name, on one line.
    """
    docs: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if dataclasses.is_dataclass(base):
            docs.update(_own_field_docs(base))
    return docs


def _own_field_docs(cls: type) -> dict[str, str]:
    try:
        module = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    except (OSError, TypeError):
        return {}
    body = module.body[0].body if module.body and isinstance(module.body[0], ast.ClassDef) else []
    return {
        field.target.id: " ".join(below.value.value.split())
        for field, below in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
        and isinstance(below.value.value, str)
    }


class _Leaf(NamedTuple):
    """One scalar or tuple field, found below any number of nested dataclasses."""

    path: tuple[str, ...]
    annotation: Any
    default: Any
    help: str
    runtime: bool
    about: str
    """What the dataclass that it is in is about."""
    positional: bool
    """Whether the value may stand alone, without the option."""

    @property
    def name(self) -> str:
        return ".".join(self.path)

    @property
    def option(self) -> str:
        return "--" + self.name.replace("_", "-")


def _default(field: dataclasses.Field[Any], instance: Any) -> Any:
    if instance is not _MISSING:
        return getattr(instance, field.name)
    factory: Any = field.default_factory
    return field.default if factory is _MISSING else factory()


def _leaves(
    cls: type, instance: Any = _MISSING, prefix: tuple[str, ...] = (), about: str = ""
) -> Iterator[_Leaf]:
    hints, docs = get_type_hints(cls), field_docs(cls)
    for field in dataclasses.fields(cls):
        if not field.init:
            continue
        annotation, path = hints[field.name], (*prefix, field.name)
        default = _default(field, instance)
        if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
            yield from _leaves(annotation, default, path, docs.get(field.name, ""))
        else:
            _check_supported(annotation, ".".join(path))
            runtime, positional = (bool(field.metadata.get(mark)) for mark in ("runtime", "positional"))
            yield _Leaf(path, annotation, default, docs.get(field.name, ""), runtime, about, positional)


def _optional(annotation: Any) -> tuple[Any, bool]:
    """Split `X | None` into `X` and True."""
    if get_origin(annotation) in (Union, types.UnionType):
        members = [member for member in get_args(annotation) if member is not type(None)]
        if len(members) == 1:
            return members[0], True
    return annotation, False


def _check_supported(annotation: Any, name: str) -> None:
    inner, _ = _optional(annotation)
    scalars = [a for a in get_args(inner) if a is not Ellipsis] if get_origin(inner) is tuple else [inner]
    if not scalars or not all(scalar in _SCALARS or get_origin(scalar) is Literal for scalar in scalars):
        raise TypeError(
            f"field `{name}` has type {annotation}; a configuration field is an int, float, str, bool, Path "
            "or Literal, a tuple of those, or a dataclass, and may be `| None`"
        )


def _tuple_types(annotation: Any, length: int) -> list[Any]:
    """Return the type of each element of a tuple with `length` elements."""
    arguments = get_args(annotation)
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return [arguments[0]] * length
    if len(arguments) != length:
        raise ValueError(f"expected {len(arguments)} values, got {length}")
    return list(arguments)


def _parse_scalar(annotation: Any, text: str) -> Any:
    if get_origin(annotation) is Literal:
        by_name = {str(choice): choice for choice in get_args(annotation)}
        if text not in by_name:
            raise ValueError(f"expected one of {', '.join(by_name)}, got {text!r}")
        return by_name[text]
    if annotation is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(f"expected true or false, got {text!r}")
        return text.lower() == "true"
    if annotation is Path:
        return _parse_path(text)
    try:
        return annotation(text)
    except ValueError:
        raise ValueError(f"expected {annotation.__name__}, got {text!r}") from None


def _parse_path(text: str) -> Path:
    """A path; the shell leaves a `~` behind `=` to the program."""
    if not text:
        raise ValueError("expected a path, got ''")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ValueError(f"expected a path of a user who has a home, got {text!r}") from None


def _parse(annotation: Any, given: Any) -> Any:
    """Convert what the command line holds, a string, a list of strings or a bool, into a field's value."""
    inner, optional = _optional(annotation)
    if isinstance(given, bool):
        return given
    if optional and given in ("none", ["none"]):
        return None
    if get_origin(inner) is tuple:
        kinds = _tuple_types(inner, len(given))
        return tuple(_parse_scalar(kind, text) for kind, text in zip(kinds, given, strict=True))
    return _parse_scalar(inner, given)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line: a usage text of forty options would hide what went wrong.

    What `float` reads is a value and not an option, `-1e0` and `-inf` included.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._negative_number_matcher = _NEGATIVE_NUMBER

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            meant = " or ".join(dict.fromkeys(name for word in unknown for name in self._like(word)))
            hint = f"; did you mean {meant}?" if meant else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return found

    def _like(self, word: str) -> list[str]:
        """Options that a word may stand for: written most alike, in whatever section they are."""
        if not word.startswith("--"):
            return []
        last = {name: name[2:].rpartition(".")[2] for name in self._option_string_actions if name[1] == "-"}
        wanted = word[2:].partition("=")[0].rpartition(".")[2]
        close = difflib.get_close_matches(wanted, sorted(set(last.values())), 1)
        return [name for name, own in last.items() if own in close]

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (--help lists the options)\n")


def _metavar(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return "{" + ",".join(str(choice) for choice in get_args(annotation)) + "}"
    return annotation.__name__.upper()


def _show(value: Any) -> str:
    if value is _MISSING:
        return "required"
    shown = " ".join(map(str, value)) if isinstance(value, tuple) else str(value).lower()
    return f"default: {shown if isinstance(value, bool | tuple | None) else value}"


def _add_option(parser: argparse._ActionsContainer, leaf: _Leaf) -> None:
    inner, _ = _optional(leaf.annotation)
    text = f"{leaf.help} ({_show(leaf.default)})".strip().replace("%", "%%")
    options: dict[str, Any] = {"dest": leaf.name, "default": None, "help": text}
    if inner is bool:
        options["action"] = argparse.BooleanOptionalAction
    elif get_origin(inner) is tuple:
        kinds = get_args(inner)
        variadic = kinds[-1] is Ellipsis or inner is not leaf.annotation
        options["nargs"] = "*" if variadic else len(kinds)
        options["metavar"] = _metavar(kinds[0]) if variadic else tuple(map(_metavar, kinds))
    else:
        options["metavar"] = _metavar(inner)
    parser.add_argument(leaf.option, **options)


def make_parser(
    cls: type,
    presets: Mapping[str, Any] | None = None,
    prog: str | None = None,
    description: str | None = None,
    preset: str | None = None,
) -> argparse.ArgumentParser:
    """Make the parser that `parse_config` uses, to print its help or to list its options.

    Args:
        cls: a dataclass; its fields become options, its nested dataclasses groups of options.
        presets: complete configurations by name, offered as `--preset NAME`.
        prog: the program's name in messages.
        description: the text above the options; the first paragraph of the docstring of `cls` by default.
        preset: name of the one whose values the help has as defaults.

    Raises:
        TypeError: a field's type has no form on the command line.
    """
    text = description or (inspect.getdoc(cls) or "").partition("\n\n")[0]
    leaves = list(_leaves(cls, (presets or {}).get(preset or "", _MISSING)))
    needed = [
        f"{leaf.name.upper()} " if leaf.positional else f"{leaf.option} {_metavar(leaf.annotation)} "
        for leaf in leaves
        if leaf.default is _MISSING
    ]
    parser = _Parser(
        prog=prog,
        usage=f"%(prog)s {''.join(needed)}[options]",
        description=text.replace("%", "%%"),
        allow_abbrev=False,
    )
    sections = _sections(leaves, getattr(cls, "MOST_USED", ()))
    groups = {
        title: parser.add_argument_group(title, parts[0].about or None) for title, parts in sections.items()
    }
    if presets:
        next(iter(groups.values()), parser).add_argument(
            "--preset", choices=sorted(presets), help="named defaults; options given beside it override them"
        )
    for leaf in leaves:
        if leaf.positional:
            again = f"as {leaf.option}"
            parser.add_argument(leaf.name + _POSITIONAL, nargs="?", metavar=leaf.name.upper(), help=again)
    for title, parts in sections.items():
        for leaf in parts:
            _add_option(groups[title], leaf)
    return parser


def _sections(leaves: Sequence[_Leaf], most_used: Sequence[str]) -> dict[str, list[_Leaf]]:
    """The options by the title under which the help has them, in its order."""
    by_name = {leaf.name: leaf for leaf in leaves}
    sections: dict[str, list[_Leaf]] = {}
    if most_used:
        sections["most used"] = [by_name[name]._replace(about="") for name in most_used]
    nested = any(len(leaf.path) > 1 for leaf in leaves)  # a training run's configuration has parts
    run: list[_Leaf] = []
    for leaf in leaves:
        if leaf.name in most_used:
            continue
        if most_used and leaf.runtime and len(leaf.path) == 1:
            run.append(leaf)
        else:
            own = "training" if nested and most_used else "options of this command"
            sections.setdefault(".".join(leaf.path[:-1]) or own, []).append(leaf)
    return {**sections, "how the run is carried out": run} if run else sections


def parse_config(
    cls: type[T],
    argv: Sequence[str] | None = None,
    *,
    presets: Mapping[str, T] | None = None,
    prog: str | None = None,
    description: str | None = None,
) -> T:
    """Read a configuration from the command line.

    A value that cannot be read, and a `ValueError` of the dataclass's own `__post_init__`, end the program
    with a message of one line and exit status 2.

    Args:
        cls: a dataclass; a field without a default becomes a required option.
        argv: the arguments; those of the process by default.
        presets: complete configurations by name. `--preset NAME` takes its values in place of the class's
            defaults; options given explicitly override them, wherever they stand.
        prog: the program's name in messages.
        description: the text above the options in the help.

    Returns:
        an instance of `cls`.

    Raises:
        TypeError: a field's type has no form on the command line.
    """
    argv = sys.argv[1:] if argv is None else argv
    first = _Parser(prog=prog, add_help=False, allow_abbrev=False)  # `--help` may stand before it
    first.add_argument("--preset")
    parser = make_parser(cls, presets, prog, description, first.parse_known_args(argv)[0].preset)
    given = vars(parser.parse_args(argv))
    preset = (presets or {}).get(given.get("preset") or "", _MISSING)
    values: dict[tuple[str, ...], Any] = {}
    for leaf in _leaves(cls, preset):
        text = given[leaf.name]
        if leaf.positional and (alone := given[leaf.name + _POSITIONAL]) is not None:
            if text is not None:
                parser.error(f"option {leaf.option} is given twice, also as {alone!r}")
            text = alone
        if text is None and leaf.default is _MISSING:
            parser.error(f"option {leaf.option} is required")
        try:
            values[leaf.path] = leaf.default if text is None else _parse(leaf.annotation, text)
        except ValueError as error:
            parser.error(f"option {leaf.option}: {error}")
    try:
        return _build(cls, values)
    except ValueError as error:
        parser.error(str(error))


def _build(cls: type[T], values: Mapping[tuple[str, ...], Any], prefix: tuple[str, ...] = ()) -> T:
    hints = get_type_hints(cls)
    arguments = {}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        if field.init:
            path = (*prefix, field.name)
            arguments[field.name] = (
                values[path] if path in values else _build(hints[field.name], values, path)
            )
    return _construct(cls, arguments, prefix)


def _construct(cls: type[T], arguments: Mapping[str, Any], path: Sequence[str]) -> T:
    """Make a dataclass that is the field `path` of another; its own errors tell so."""
    try:
        return cls(**arguments)
    except FieldError as error:
        raise error.inside(".".join(path)) if path else error from None
    except ValueError as error:
        raise ValueError(f"`{'.'.join(path)}`: {error}") if path else error from None


def to_primitives(config: Any) -> dict[str, Any]:
    """Turn a configuration into nested dictionaries of numbers, strings, booleans, lists and None.

    Args:
        config: an instance of a dataclass; a `Path` becomes a string and a tuple a list.

    Raises:
        TypeError: a field holds something else.
    """
    return {
        field.name: _primitive(getattr(config, field.name), field.name)
        for field in dataclasses.fields(config)
    }


def _primitive(value: Any, name: str) -> Any:
    if dataclasses.is_dataclass(value):
        return to_primitives(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple | list):
        return [_primitive(element, name) for element in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"field `{name}` holds a {type(value).__name__}, which a checkpoint cannot hold")


def from_primitives(cls: type[T], primitives: Mapping[str, Any]) -> T:
    """Rebuild a configuration from what `to_primitives` returned.

    Args:
        cls: the dataclass. A field that `primitives` lack takes its default.
        primitives: the nested dictionaries.

    Returns:
        an instance of `cls`.

    Raises:
        ValueError: a field is unknown, missing without a default, or has a value of another type.
    """
    return _from_primitives(cls, primitives, "")


def _from_primitives(cls: type[T], primitives: Mapping[str, Any], prefix: str) -> T:
    hints = get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}  # type: ignore[arg-type]
    unknown = sorted(set(primitives) - set(fields))
    if unknown:
        more = f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
        named = ", ".join(f"`{prefix}{name}`" for name in unknown[:_NAMED])
        raise ValueError(f"`{cls.__name__}` has no field {named}{more}")
    arguments = {}
    for name, field in fields.items():
        if name in primitives:
            arguments[name] = _restore(hints[name], primitives[name], prefix + name)
        elif field.default is _MISSING and field.default_factory is _MISSING:
            raise ValueError(f"field `{prefix}{name}` of `{cls.__name__}` is missing")
    return _construct(cls, arguments, prefix.split(".")[:-1])


def _restore(annotation: Any, value: Any, name: str) -> Any:
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation) and isinstance(value, Mapping):
        return _from_primitives(annotation, value, name + ".")
    inner, optional = _optional(annotation)
    if value is None and optional:
        return None
    if get_origin(inner) is tuple and isinstance(value, list | tuple):
        kinds = _tuple_types(inner, len(value))
        return tuple(_restore(kind, element, name) for kind, element in zip(kinds, value, strict=True))
    if get_origin(inner) is Literal and value in get_args(inner):
        return value
    accepted: dict[Any, Callable[[Any], bool]] = {
        bool: lambda v: isinstance(v, bool),
        int: lambda v: isinstance(v, int) and not isinstance(v, bool),
        float: lambda v: isinstance(v, int | float) and not isinstance(v, bool),
        str: lambda v: isinstance(v, str),
        Path: lambda v: isinstance(v, str | Path),
    }
    if inner in accepted and accepted[inner](value):
        return inner(value)
    raise ValueError(f"field `{name}`: expected {getattr(inner, '__name__', inner)}, got {value!r}")


class Difference(NamedTuple):
    """A field in which two configurations differ."""

    field: str
    """Dotted name, for example `training.seed`."""
    first: Any
    """Its value in the first configuration; the string "absent" where it has no such field."""
    second: Any
    """Its value in the second configuration."""


def differences(first: Any, second: Any, *, ignore_runtime: bool = False) -> list[Difference]:
    """Name the fields in which two configurations differ.

    Args:
        first: a dataclass instance, or the nested dictionaries of `to_primitives`.
        second: likewise.
        ignore_runtime: leave out fields declared with `runtime_field` (known from the dataclasses among the
            two).

    Returns:
        the differing fields, in the order of `first`; values in their primitive form.
    """
    values_first, values_second = _flatten(first), _flatten(second)
    ignored = _marked_names(first, "runtime") | _marked_names(second, "runtime") if ignore_runtime else set()
    found = []
    for name in {**values_first, **values_second}:
        a, b = values_first.get(name, "absent"), values_second.get(name, "absent")
        if repr(a) != repr(b) and name not in ignored and a != b:
            found.append(Difference(name, a, b))
    return found


def _flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    primitives = to_primitives(config) if dataclasses.is_dataclass(config) else config
    flat: dict[str, Any] = {}
    for name, value in primitives.items():
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat


def source_names(config: Any) -> set[str]:
    """The dotted names of the fields that are declared with `source_field`."""
    return _marked_names(config, "source")


def _marked_names(config: Any, mark: str, prefix: str = "") -> set[str]:
    if not dataclasses.is_dataclass(config):
        return set()
    names = set()
    for field in dataclasses.fields(config):
        if field.metadata.get(mark):
            names.add(prefix + field.name)
        names |= _marked_names(getattr(config, field.name), mark, f"{prefix}{field.name}.")
    return names
