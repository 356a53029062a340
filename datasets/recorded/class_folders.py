"""A user's own videos of which it is known what goes on in each: a folder for each class."""

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ... import checks
from ...files import user_path
from ..errors import DataError
from ..feeding.action_clips import ActionFrames
from ..feeding.group_split import Rows
from .frames import Frames, open_frames
from .picture_clips import picture_clips

_TRAIN, _TEST = "train", ("test", "val", "valid", "validation")


class ClassFolders:
    """Videos in a folder for each class, as a source of clips: `ActionSource`.

        FOLDER/jump/anna.mp4    FOLDER/jump/berta.mp4    FOLDER/run/anna.gif    ...

    The folder of a class holds videos as any folder that `open_frames` opens: files, or a folder of frames
    for each. Where there are a folder `train` and one `test`, or else `val`, with such folders in each, those
    are for training and for testing; otherwise the last videos of each class are held out, in the order of
    their names.

    All videos are read once, to know how long they are, and their frames, resized to `size`, are kept as far
    as there is `memory`; the others are read again whenever they are needed.

    Args:
        folder: where the folders of the classes are.
        size: height and width of the frames.
        channels: 1 or 3.
        share: of the videos of each class that is held out, at least one.
        memory: bytes of frames to keep.

    Raises:
        DataError: if there are fewer than two classes, a class has nothing to train on or nothing to test on,
            or a video cannot be read or has one frame; the message names the file or folder.
        RuntimeError: if there is a video file and PyAV is not installed.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        size: tuple[int, int] = (96, 128),
        channels: int = 3,
        share: float = 0.2,
        memory: int = 2**30,
    ) -> None:
        checks.at_least(1, size=size)
        checks.within("(0, 1)", share=share)
        checks.not_negative(memory=memory)
        root = user_path(folder)
        if not root.is_dir():
            raise DataError(f"{folder}: {'is a file, no folder' if root.exists() else 'no such folder'}.")
        parts = _parts(root)
        classes = [sorted(_folders(part)) for part in parts]
        if len(classes[0]) < 2 or classes[0] != classes[-1]:
            found = " and ".join(map(_found, parts, classes))
            raise DataError(
                f"{folder}: expected a folder for each of several classes, with videos in it, got {found}."
            )
        self.classes = tuple(classes[0])
        """Their names."""
        self.test_folder = parts[1].name if len(parts) == 2 else None
        """Name of the folder of what is held out; None where it is a share of each class."""
        self.shape = (channels, *size)
        self._paths: list[Path] = []
        labels, held_out = [], []
        for label, name in enumerate(self.classes):
            videos = [[clip.path for clip in picture_clips(part / name)] for part in parts]
            if len(parts) == 1:
                last = max(1, round(share * len(videos[0])))
                videos = [videos[0][:-last], videos[0][-last:]]
            if not all(videos):
                raise DataError(f"{folder}: `{name}` must have videos to train on and to test on.")
            for test, paths in enumerate(videos):
                self._paths += paths
                labels += len(paths) * [label]
                held_out += len(paths) * [bool(test)]
        self.labels: npt.NDArray[np.int64] = np.array(labels, np.int64)
        self.names = np.array([path.relative_to(root).as_posix() for path in self._paths])
        self._held_out = np.array(held_out)
        self._kept: dict[int, npt.NDArray[np.uint8]] = {}
        self.lengths: npt.NDArray[np.int64] = np.zeros(len(labels), np.int64)
        for index in range(len(labels)):
            memory -= self._first_reading(index, memory)

    def split(self) -> tuple[Rows, Rows]:
        """The videos to train on, and those to test on; ascending indices."""
        return np.flatnonzero(~self._held_out), np.flatnonzero(self._held_out)

    def frames(self, index: int, numbers: npt.NDArray[np.int64]) -> ActionFrames:
        """See `ActionSource.frames`.

        Raises:
            DataError: if the video cannot be read any more, or has fewer frames.
        """
        if index in self._kept:
            return ActionFrames(self._kept[index][numbers])
        start, stop = int(numbers[0]), int(numbers[-1]) + 1
        opened = self._open(index)
        window = opened.window(start, stop)
        if len(window) < stop - start:
            raise DataError(f"{opened.path}: has fewer frames than before.")
        return ActionFrames(window[numbers - start])

    def _open(self, index: int) -> Frames:
        channels, height, width = self.shape
        return open_frames(self._paths[index], size=(height, width), channels=channels)

    def _first_reading(self, index: int, memory: int) -> int:
        """Learn how long a video is, and keep it if it has no more bytes than that; how many it has then."""
        opened = self._open(index)
        blocks: list[npt.NDArray[np.uint8]] | None = []
        for block in opened.blocks():
            self.lengths[index] += len(block)
            if blocks is not None:
                blocks.append(block)
                if self.lengths[index] * block[0].nbytes > memory:
                    blocks = None
        if self.lengths[index] < 2:
            raise DataError(f"{opened.path}: expected a video, got one frame.")
        if blocks is None:
            return 0
        self._kept[index] = np.concatenate(blocks)
        return self._kept[index].nbytes


def _parts(root: Path) -> list[Path]:
    """The folder itself, or those in it for training and for testing."""
    folders = {path.name.lower(): path for path in _folders(root).values()}
    tests = [folders[name] for name in _TEST if name in folders]
    return [folders[_TRAIN], tests[0]] if _TRAIN in folders and tests else [root]


def _found(part: Path, classes: list[str]) -> str:
    """The folders in one, in words."""
    if classes:
        return f"{part.name}: {', '.join(classes)}"
    count = sum(path.name[0] != "." for path in part.iterdir())
    return f"{part.name}, which holds {count} file{'s' * (count != 1)} and no folders"


def _folders(root: Path) -> dict[str, Path]:
    """By name, but for hidden ones."""
    return {path.name: path for path in root.iterdir() if path.is_dir() and path.name[0] != "."}
