"""Actions as silhouettes, with what stands for joints: the ends of the silhouette."""

import numpy as np
import numpy.typing as npt

from ..feeding.action_clips import ActionFrames
from ..storage.video import VideoData

SILHOUETTE_ENDS = ("top", "left", "right", "lowest left", "lowest right")
"""What stands for joints."""
_MIRRORED = (0, 2, 1, 4, 3)


class SilhouetteActions:
    """The Weizmann actions at a part of their size, as a source of clips: `ActionSource`.

    Joints are not known. In their place each frame has the ends of its silhouette, see `SILHOUETTE_ENDS`:
    pixels that are farthest up, left and right, the middle one where there are several, and of the lowest row
    those farthest left and right.

    Args:
        data: as `load_weizmann` gives it: the action is the class of the first object, and frames in which no
            object is are no part of the video.
        reduce: frames are averaged over squares of so many pixels; it divides height and width.

    Raises:
        ValueError: if there are no classes or boxes, or `reduce` does not divide the frames.
    """

    def __init__(self, data: VideoData, reduce: int = 2) -> None:
        if data.classes is None or data.boxes is None:
            raise ValueError("`data` must have the labels `classes` and `boxes`.")
        height, width = data.shape[3:]
        if reduce < 1 or height % reduce or width % reduce:
            raise ValueError(f"`reduce` must divide {height} and {width}, got {reduce}.")
        here = data.boxes[:, :, 0, 2] > 0
        self.labels = data.classes[:, 0]
        self.names = np.arange(len(data)).astype(str) if data.names is None else data.names
        self.lengths: npt.NDArray[np.int64] = data.shape[1] - here[:, ::-1].argmax(1)
        self.shape = (data.shape[2], height // reduce, width // reduce)
        pooled = data.video.reshape(*data.shape[:3], height // reduce, reduce, width // reduce, reduce)
        self._video = np.rint(pooled.mean(axis=(4, 6), dtype=np.float32)).astype(np.uint8)

    def frames(self, index: int, numbers: npt.NDArray[np.int64]) -> ActionFrames:
        """See `ActionSource.frames`."""
        video = self._video[index, numbers]
        return ActionFrames(video, np.stack([ends(frame[0] >= 128) for frame in video])[:, None], _MIRRORED)


def ends(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """The ends of a silhouette `(H, W)`, `(5, 2)`, x and y; NaN where it is empty."""
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return np.full((len(SILHOUETTE_ENDS), 2), np.nan, np.float32)
    bottom = columns[rows == rows.max()]
    return np.array(
        [
            (np.median(columns[rows == rows.min()]), rows.min()),
            (columns.min(), np.median(rows[columns == columns.min()])),
            (columns.max(), np.median(rows[columns == columns.max()])),
            (bottom.min(), rows.max()),
            (bottom.max(), rows.max()),
        ],
        np.float32,
    )
