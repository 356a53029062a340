"""Where data come from: generated data have names, everything else is a path."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Protocol

from whatwhere import checks
from whatwhere.checks import FieldError
from whatwhere.datasets import DataError
from whatwhere.inference.training import whole_source


class Sources(Protocol):
    """A configuration of data."""

    @property
    def source(self) -> str:
        """Name or path of the data to train on."""

    @property
    def test_source(self) -> str | None:
        """Path of the data that are held out, where they are not a part of the others."""


def settle_sources(data: Sources, generated: Collection[str]) -> None:
    """Make paths whole, that is absolute and without a `~`, so that they lead to the same from every folder.

    Refuses what is no source, and held-out data beside generated ones, which have their own.

    Args:
        data: the configuration, which is being made; the fields are declared with `source_field`.
        generated: names of generated data.

    Raises:
        FieldError: if that is so.
    """
    checks.not_empty(data, "source", "test_source")
    if data.source in generated and data.test_source is not None:
        raise FieldError("test_source", f"is for paths; `{data.source}` has held-out data", data.test_source)
    for field in ("source", "test_source"):
        if (given := getattr(data, field)) is not None:
            object.__setattr__(data, field, whole_source(given, generated))


def existing_path(source: str, generated: Collection[str]) -> Path:
    """The path of data that are not generated; a `~` in front is the user's home.

    Args:
        source: the path.
        generated: names that could have been given instead.

    Raises:
        DataError: if there is nothing.
    """
    path = Path(source).expanduser()
    if not path.exists():
        names = ", ".join(f"`{name}`" for name in generated)
        raise DataError(f"`{source}` is neither {names}, nor the path of a folder or file")
    return path
