"""Where data come from: generated data have names, everything else is a path."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from whatwhere import checks
from whatwhere.checks import FieldError
from whatwhere.datasets import DataError, Frames
from whatwhere.datasets.recorded.archive_clips import find_array
from whatwhere.inference.training import whole_source

Config = TypeVar("Config", bound=Any)


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
            name, colon, folder = given.partition(":")
            named = bool(colon) and name in generated  # as `pasted:FOLDER`
            whole = f"{name}:{whole_source(folder, ())}" if named else whole_source(given, generated)
            object.__setattr__(data, field, whole)


def require_shape(
    source: str,
    found: Sequence[int],
    expected: Sequence[int] | None,
    whose: str = "the model was trained on",
    hint: str = "",
) -> None:
    """Refuse frames of another size or number of channels.

    Args:
        source: where they are from.
        found: their channels, height and width.
        expected: what these must be.
        whose: what expects that.
        hint: what to do.

    Raises:
        DataError: if they are otherwise.
    """
    if expected is None or tuple(found) != tuple(expected):
        raise DataError(
            f"`{source}` has frames of (channels, height, width) = {tuple(found)}, but {whose} "
            f"{None if expected is None else tuple(expected)}{hint}"
        )


def with_image_shape(config: Config, train: Sequence[int], test: Sequence[int] | None = None) -> Config:
    """A configuration with the shape of the frames that it is to be trained on.

    Args:
        config: has `data`, whose names messages tell, and `network.image_shape`.
        train: channels, height and width of the frames to train on.
        test: those of the held-out frames, where there are any.

    Raises:
        DataError: if they differ from each other or from what the configuration says, or cannot be shown.
    """
    source, held_out = config.data.source, config.data.test_source or config.data.source
    channels, height, width = train
    if channels not in (1, 3):
        raise DataError(f"`{source}` has frames of {channels} channels: expected 1 (grey) or 3 (colours)")
    if test is not None:
        require_shape(held_out, test, train, f"`{source}` has")
    if config.network.image_shape is not None:
        require_shape(source, train, config.network.image_shape, "`network.image_shape` is")
        return config
    changed: Config = replace(config, network=replace(config.network, image_shape=(channels, height, width)))
    return changed


def in_stored(frames: Frames, boxes: Tensor) -> Tensor:
    """Boxes `(..., 4)` in frames that may be resized, in pixels of those that are stored.

    `Frames.in_source` gives those of the user's own frames, of which clips that were cut show a part.
    """
    height, width = (old / new for old, new in zip(frames.stored_size, frames.size, strict=True))
    return boxes * torch.tensor([width, height], dtype=boxes.dtype).repeat(2)


def existing_path(source: str, generated: Collection[str]) -> Path:
    """The path of data that are not generated; a `~` in front is the user's home.

    Args:
        source: the path.
        generated: names that could have been given instead.

    Raises:
        DataError: if there is nothing.
    """
    path = Path(source).expanduser()
    if not path.exists() and find_array(path) is None:
        names = ", ".join(f"`{name}`" for name in generated)
        raise DataError(f"`{source}` is neither {names}, nor the path of a folder or file")
    return path
