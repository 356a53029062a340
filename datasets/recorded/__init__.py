"""Images and videos that somebody recorded: files and folders of a user, and published data sets.

`clips`, `folder`, `frames` and `video_file` read what a user has, `fitted` and `video_windows` make of it
what a model is trained on; each other file reads one published layout. All yield
`VideoData` or parts of it. May import `feeding` and `storage`. A reader of another data set is a file here.
"""

from ..opening import VIDEO_SUFFIXES, frame_rate
from .boxes_file import by_frame, read_table
from .class_folders import ClassFolders
from .clips import load_clips
from .fitted import FrameRecipe, middle_size, open_fitted, prepared, sample_clips, sample_frames, used_bits
from .folder import SizeError, UnreadableError, load_folder, load_images, load_pictures
from .frames import Frames, count_videos, open_frames
from .kitti import KITTI_SIZES, KITTIRecipe, kitti_parts, load_kitti
from .kitti_labels import (
    KITTI_CLASSES,
    KITTIClip,
    KITTILabel,
    drive_split,
    kitti_tracks,
    kitti_windows,
    read_kitti_labels,
    temporal_split,
    window_starts,
)
from .kth import KTH_ACTIONS, LOCOMOTION, KTHClip, KTHVideos, kth_parts, load_kth, read_kth_annotation
from .ntu import CROSS_SUBJECT, CROSS_VIEW, NTU_JOINTS, NTUActions, read_ntu_skeleton
from .nucla import NUCLA_ACTIONS, NUCLA_JOINTS, NUCLAActions, read_nucla_skeleton
from .otb import OTB_RANGES, load_otb, otb_parts
from .own_frames import frame_names, own_frames, video_name
from .scene_clips import SceneRecipe, load_scenes, scene_parts
from .silhouette_actions import SILHOUETTE_ENDS, SilhouetteActions
from .target_clips import TargetClips
from .target_folders import load_target_folders, target_folder_parts
from .tld import load_tld, tld_parts
from .video_file import read_video
from .video_windows import (
    Stretch,
    VideoWindows,
    WindowRecipe,
    held_in_time,
    readable_anywhere,
    visible_objects,
)
from .weizmann import WEIZMANN_ACTIONS, load_weizmann

__all__ = [
    "ClassFolders",
    "FrameRecipe",
    "Stretch",
    "VideoWindows",
    "WindowRecipe",
    "by_frame",
    "held_in_time",
    "middle_size",
    "open_fitted",
    "prepared",
    "read_table",
    "readable_anywhere",
    "sample_clips",
    "sample_frames",
    "used_bits",
    "visible_objects",
    "Frames",
    "KITTIClip",
    "KITTILabel",
    "KITTIRecipe",
    "KITTI_CLASSES",
    "KITTI_SIZES",
    "KTHClip",
    "KTHVideos",
    "KTH_ACTIONS",
    "LOCOMOTION",
    "OTB_RANGES",
    "SceneRecipe",
    "SizeError",
    "UnreadableError",
    "TargetClips",
    "VIDEO_SUFFIXES",
    "WEIZMANN_ACTIONS",
    "count_videos",
    "drive_split",
    "frame_names",
    "frame_rate",
    "kitti_parts",
    "kitti_tracks",
    "kitti_windows",
    "kth_parts",
    "load_clips",
    "load_folder",
    "load_images",
    "load_kitti",
    "load_kth",
    "load_otb",
    "load_pictures",
    "load_scenes",
    "load_target_folders",
    "load_tld",
    "load_weizmann",
    "open_frames",
    "own_frames",
    "otb_parts",
    "read_kitti_labels",
    "read_kth_annotation",
    "read_video",
    "scene_parts",
    "temporal_split",
    "target_folder_parts",
    "tld_parts",
    "video_name",
    "window_starts",
    "CROSS_SUBJECT",
    "CROSS_VIEW",
    "NTU_JOINTS",
    "NTUActions",
    "read_ntu_skeleton",
    "NUCLA_ACTIONS",
    "NUCLA_JOINTS",
    "NUCLAActions",
    "read_nucla_skeleton",
    "SILHOUETTE_ENDS",
    "SilhouetteActions",
]
