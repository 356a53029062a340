"""Records of the data that programs train and evaluate on, see `DataRecord`."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from whatwhere.datasets import GeneratedVideos, VideoData, VideoStore, VideoWindows
from whatwhere.examples.common.sources import Sources
from whatwhere.inference.training import CheckpointError, DataRecord, load_checkpoint

__all__ = ["record_of", "records_of", "require_recorded"]

_SAMPLED = 16


Recorded = VideoData | VideoStore | VideoWindows | GeneratedVideos
"""What there are records of."""


def records_of(config: Sources, train: Recorded, test: Recorded) -> dict[str, DataRecord]:
    """What is compared when a run is resumed or evaluated.

    Args:
        config: says where the data are from.
        train: what is trained on.
        test: what is held out.
    """
    held_out = config.test_source or config.source
    return {"train": record_of(config.source, train), "test": record_of(held_out, test)}


def record_of(source: str, data: Recorded) -> DataRecord:
    """Take down data: of those from a path the labels and the first frames of some videos too.

    Args:
        source: the whole path, or the name of what generates them; see `whole_source`.
        data: images or videos.
    """
    if isinstance(data, GeneratedVideos) or not os.path.isabs(source):
        return DataRecord.of(source, data.shape)
    rows = np.unique(np.linspace(0, len(data) - 1, _SAMPLED, dtype=np.int64))
    if isinstance(data, VideoWindows):  # whose labels are made with them
        sampled = data.subset(rows)
        return DataRecord.of(source, data.shape, sampled.labels(), sampled.video[:, 0])
    sample = np.stack([_first_frame(data, int(row)) for row in rows])
    return DataRecord.of(source, data.shape, data.labels(), sample)


def _first_frame(data: VideoData | VideoStore, row: int) -> npt.NDArray[np.uint8]:
    return data.video[row, 0] if isinstance(data, VideoData) else data.frames(row, 1)[0]


def require_recorded(checkpoint: Path, **data: DataRecord) -> None:
    """Refuse to evaluate a checkpoint on data that have changed without a word since it was trained.

    Args:
        checkpoint: the file.
        data: what there is now, by what it is for, for example `test`. Other data, of which a user knows that
            they are others, need no such check.

    Raises:
        CheckpointError: names the changes.
    """
    try:
        load_checkpoint(checkpoint).require_data(data)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; to evaluate on others, name them with `--data`") from error
