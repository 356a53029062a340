"""Found objects as a data set in COCO's format, which `pycocotools` and tools for annotation read.

One JSON object with the lists `images`, `annotations` and `categories` (Lin et al., *Microsoft COCO: Common
Objects in Context*, 2014; <https://cocodataset.org/#format-data>). Every frame is an image, also one without
objects, and every object in it an annotation:

- `bbox` is left, top, width and height in pixels, 0-based, as everywhere in this package; `area` and
  `segmentation` are those of the box;
- `score` is how sure it is, where that is known; `track_id` is its identity, which counts from 0;
- images of videos have `video_id` and `frame_id`, the latter counted from 0, and there is a list `videos`.

Other identifiers count from 1, as COCO's. All objects are of one category.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from tempfile import TemporaryFile
from typing import Any, BinaryIO, NamedTuple

from torch import Tensor

from ..._version import __version__
from ...files import atomic_write
from .tracked_objects import ObjectsWriter, tracked_objects

__all__ = ["COCOImage", "COCOWriter", "coco_writer"]

_CATEGORY = {"id": 1, "name": "object", "supercategory": ""}


class COCOImage(NamedTuple):
    """What is said of an image besides its objects."""

    file_name: str
    """The file that it is, or what it is called."""
    height: int
    """In pixels."""
    width: int
    """In pixels."""


@contextmanager
def coco_writer(
    path: str | os.PathLike[str],
    image: Callable[[int, int], COCOImage],
    *,
    videos: tuple[str, ...] = (),
) -> Iterator[COCOWriter]:
    """Write found objects part by part, so that those of a long video need not be in memory; atomically.

    Args:
        path: the file; its folder is created where it is missing. It changes when the block succeeds.
        image: tells of a frame, given the numbers of video and frame.
        videos: their names, where frames are of videos; still images have none.

    Raises:
        OSError: if the file cannot be written.
    """
    with atomic_write(path) as file, TemporaryFile() as images:
        file.write(b'{"info": ' + _json({"description": f"found by whatwhere {__version__}"}))
        file.write(b', "licenses": [], "categories": ' + _json([_CATEGORY]))
        if videos:
            named = [{"id": number, "name": name} for number, name in enumerate(videos, 1)]
            file.write(b', "videos": ' + _json(named))
        file.write(b', "annotations": [')
        yield COCOWriter(file, images, image, bool(videos))
        file.write(b'], "images": [')
        images.seek(0)
        shutil.copyfileobj(images, file)
        file.write(b"]}\n")


class COCOWriter(ObjectsWriter):
    """What `coco_writer` gives; all frames must be written, also those without objects."""

    def __init__(
        self, file: BinaryIO, images: BinaryIO, image: Callable[[int, int], COCOImage], of_videos: bool
    ) -> None:
        self._file, self._images, self._image, self._of_videos = file, images, image, of_videos
        self._annotations = self._frames = 0

    def write(
        self,
        boxes: Tensor,
        present: Tensor,
        identities: Tensor,
        scores: Tensor | None = None,
        *,
        video: int = 0,
        frame: int = 0,
    ) -> None:
        """Write a part of a video, or whole videos, see `ObjectsWriter`."""
        found = tracked_objects(boxes, present, identities, scores, video=video, frame=frame)
        videos, frames = present.shape[:2] if present.dim() == 3 else (1, len(present))
        row = 0
        for place in product(range(video, video + videos), range(frame, frame + frames)):
            self._write_image(*place)
            while row < len(found.frames) and (found.videos[row], found.frames[row]) == place:
                score = None if found.scores is None else found.scores[row].item()
                self._write_annotation(found.boxes[row].tolist(), int(found.identities[row]), score)
                row += 1

    def _write_image(self, video: int, frame: int) -> None:
        entry: dict[str, Any] = {"id": self._frames + 1, **self._image(video, frame)._asdict()}
        if self._of_videos:
            entry |= {"video_id": video + 1, "frame_id": frame}
        self._images.write(b",\n" * (self._frames > 0) + _json(entry))
        self._frames += 1

    def _write_annotation(self, box: list[float], identity: int, score: float | None) -> None:
        left, top, width, height = box
        right, bottom = left + width, top + height
        entry = {
            "id": self._annotations + 1,
            "image_id": self._frames,
            "category_id": _CATEGORY["id"],
            "bbox": box,
            "area": width * height,
            "segmentation": [[left, top, right, top, right, bottom, left, bottom]],
            "iscrowd": 0,
            "track_id": identity,
        }
        if score is not None:
            entry["score"] = score
        self._file.write(b",\n" * (self._annotations > 0) + _json(entry))
        self._annotations += 1


def _json(value: Any) -> bytes:
    return json.dumps(value, allow_nan=False).encode()
