"""What a video with labels is: in memory, on disk, and made as it is read.

`VideoData` holds videos in memory, `VideoStore` reads them from an HDF5 file, `GeneratedVideos` computes
them; all yield `VideoBatch`. Imports no other room of `datasets`. A new label of videos is added to `video`
and `schema`.
"""

from .generated_videos import GeneratedVideos, check_size
from .join import JoinedVideos
from .preview import contact_sheet
from .store import VideoStore, check, in_parts, load_video, part_length, save_video, save_video_parts
from .video import (
    FRAME_LABELS,
    LABEL_TYPES,
    VideoBatch,
    VideoData,
    as_indices,
    as_label,
    shape_problems,
    to_batch,
)

__all__ = [
    "FRAME_LABELS",
    "GeneratedVideos",
    "JoinedVideos",
    "LABEL_TYPES",
    "VideoBatch",
    "VideoData",
    "VideoStore",
    "as_indices",
    "as_label",
    "check",
    "check_size",
    "contact_sheet",
    "in_parts",
    "load_video",
    "part_length",
    "save_video",
    "save_video_parts",
    "shape_problems",
    "to_batch",
]
