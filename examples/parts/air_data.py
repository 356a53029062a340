"""The images that AIR is trained and evaluated on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch

from whatwhere import checks
from whatwhere.datasets import (
    RECIPES,
    DataError,
    PyroRecipe,
    StaticSqairRecipe,
    VideoData,
    VideoWindows,
    held_in_time,
    load_images,
    multi_object_images,
)
from whatwhere.datasets.opening import HDF5_SUFFIXES
from whatwhere.examples.common.recorded import (
    RecordedConfig,
    held_out_windows,
    objects_of,
    open_recorded,
    window_split,
)
from whatwhere.examples.common.sources import existing_path, settle_sources
from whatwhere.inference.evaluation import Images
from whatwhere.inference.training import source_field

GENERATED = ("glyphs", "mnist")
"""Names of generated images."""


@dataclass(frozen=True)
class DataConfig(RecordedConfig):
    """Where the images come from, and what is made of them."""

    source: str = source_field("glyphs")
    """`glyphs` (digits drawn from fonts, no download), `mnist`, or the path of images: a folder, an HDF5
    file, or the frames of a video, see `whatwhere.datasets.load_clips`.
    """
    test_source: str | None = source_field(None)
    """Held-out images, where `source` is a path; without it the last tenth of `source` is held out."""
    recipe: Literal["pyro", "static_sqair"] = "pyro"
    """How digits are put together: Pyro's multi-MNIST, or the first frames of SQAIR's moving digits."""
    max_objects: int = 2
    """Most digits in a generated image; the number is uniform from 0."""
    image_size: int = 50
    """Side of generated images, in pixels; images of a folder are resized to it where nothing else is said
    about their size, and nothing else is done to them.
    """
    train_images: int = 60_000
    """Generated training images."""
    test_images: int = 10_000
    """Generated held-out images, made from other digits than the training images."""
    seed: int = 0
    """Seed of generated images; it is not the seed of training, so that all runs see the same data."""

    def __post_init__(self) -> None:
        checks.literals(self)
        super().__post_init__()
        settle_sources(self, GENERATED)
        checks.positive(self, "max_objects", "image_size", "train_images", "test_images")
        checks.seed(self, "seed")
        if self.source in GENERATED:
            self.how_made()

    def how_made(self) -> PyroRecipe | StaticSqairRecipe:
        """How generated images are made."""
        return RECIPES[self.recipe](max_objects=self.max_objects, image_size=self.image_size)


class Split(NamedTuple):
    """Training images and held-out images."""

    train: VideoData | VideoWindows
    test: VideoData | VideoWindows


def load_data(config: DataConfig) -> Split:
    """Load or generate training and held-out images."""
    if config.source in GENERATED:
        return Split(*(_generate(config, split) for split in ("train", "test")))
    path = existing_path(config.source, GENERATED)
    if config.changes or not (path.is_dir() or path.suffix in HDF5_SUFFIXES):
        return Split(*window_split(config, config.source, config.test_source, 1))
    data = load_still_images(config.source, config)
    if config.test_source is not None:
        return Split(data, load_still_images(config.test_source, config))
    held_out = max(1, len(data) // 10)
    if len(data) <= held_out:
        raise DataError(f"`{config.source}` has {len(data)} image, too few to hold one out")
    cut = len(data) - held_out
    return Split(data.subset(range(cut)), data.subset(range(cut, len(data))))


def _generate(config: DataConfig, split: Literal["train", "test"]) -> VideoData:
    size = config.train_images if split == "train" else config.test_images
    source: Literal["glyphs", "mnist"] = "mnist" if config.source == "mnist" else "glyphs"
    return multi_object_images(config.how_made(), split, size, config.seed, source=source)


def load_still_images(source: str, config: DataConfig) -> VideoData | VideoWindows:
    """Read still images from a path; windows of all, if anything is done to them."""
    path = existing_path(source, GENERATED)
    if config.changes:
        config = replace(config, boxes=None)
        videos = open_recorded(config, source)
        known = [objects_of(config, source, video) for video in videos]
        return held_out_windows(config, held_in_time(videos, 0.0, known)[0], 1)
    return load_images(path, size=(config.image_size, config.image_size) if path.is_dir() else None)


def held_out(data: VideoData | VideoWindows, device: torch.device, batch_size: int = 200) -> Iterator[Images]:
    """Batches of images with their labels, in order."""
    for start in range(0, len(data), batch_size):
        batch = data.batch(range(start, min(start + batch_size, len(data)))).to(device)
        count = None if batch.count is None else batch.count[:, 0]
        boxes = None if batch.boxes is None else batch.boxes[:, 0]
        yield Images(batch.images, count, boxes)
