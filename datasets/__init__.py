"""Generated and real data, how they are stored, and in which order they are fed to training."""

from .augmentation import random_fading, random_parts
from .bouncing_balls import BouncingBalls, BouncingBallsRecipe, bouncing_ball_videos
from .clip_windows import ClipWindows, mirrored_boxes
from .clips import load_clips
from .clutter import ClutterVideos, clutter_videos
from .clutter_recipe import ClutterRecipe
from .digits import Digits, load_digits
from .errors import DataError
from .folder import load_folder, load_images
from .generated import GeneratedVideos
from .glyphs import make_glyphs
from .group_split import GroupSplit, leave_group_out, split_by_group
from .join import JoinedVideos
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
from .mnist import load_mnist
from .moving_digits import (
    MovingDigits,
    MovingDigitsRecipe,
    VideoRecipe,
    moving_digit_videos,
    present,
    visible_count,
)
from .multi_object import RECIPES, PyroRecipe, Recipe, StaticSqairRecipe, compose, multi_object_images
from .otb import OTB_RANGES, load_otb, otb_parts
from .preview import contact_sheet
from .ratm_digits import MOTIONS, Billiard, DigitMotion, MomentumWalk, RatmDigitsRecipe, ReleasedWalk
from .scene_clips import SceneRecipe, load_scenes, scene_parts
from .schedule import BatchSchedule
from .store import VideoStore, check, in_parts, load_video, save_video, save_video_parts
from .target_clips import TargetClips
from .target_patches import PatchBatch, TargetPatches
from .textures import SILHOUETTES, make_silhouettes, make_textures
from .tld import load_tld, tld_parts
from .trajectories import Motion, MotionState
from .video import VideoBatch, VideoData
from .video_file import VIDEO_SUFFIXES, read_video
from .weizmann import WEIZMANN_ACTIONS, load_weizmann

__all__ = [
    "VideoBatch",
    "VideoData",
    "DataError",
    "BatchSchedule",
    "VideoStore",
    "load_video",
    "save_video",
    "save_video_parts",
    "in_parts",
    "check",
    "JoinedVideos",
    "PatchBatch",
    "TargetPatches",
    "load_images",
    "load_folder",
    "load_clips",
    "read_video",
    "VIDEO_SUFFIXES",
    "ClipWindows",
    "mirrored_boxes",
    "GroupSplit",
    "leave_group_out",
    "split_by_group",
    "KTH_ACTIONS",
    "LOCOMOTION",
    "KTHClip",
    "KTHVideos",
    "read_kth_annotation",
    "load_kth",
    "kth_parts",
    "KITTI_SIZES",
    "KITTIRecipe",
    "kitti_parts",
    "load_kitti",
    "KITTI_CLASSES",
    "KITTIClip",
    "KITTILabel",
    "drive_split",
    "kitti_tracks",
    "kitti_windows",
    "read_kitti_labels",
    "temporal_split",
    "window_starts",
    "OTB_RANGES",
    "load_otb",
    "otb_parts",
    "TargetClips",
    "load_tld",
    "tld_parts",
    "SceneRecipe",
    "load_scenes",
    "scene_parts",
    "WEIZMANN_ACTIONS",
    "load_weizmann",
    "Digits",
    "load_digits",
    "load_mnist",
    "make_glyphs",
    "RECIPES",
    "Recipe",
    "PyroRecipe",
    "StaticSqairRecipe",
    "compose",
    "multi_object_images",
    "GeneratedVideos",
    "ClutterRecipe",
    "ClutterVideos",
    "clutter_videos",
    "SILHOUETTES",
    "make_silhouettes",
    "make_textures",
    "Motion",
    "MotionState",
    "VideoRecipe",
    "MovingDigitsRecipe",
    "MovingDigits",
    "moving_digit_videos",
    "present",
    "random_fading",
    "random_parts",
    "visible_count",
    "MOTIONS",
    "DigitMotion",
    "MomentumWalk",
    "ReleasedWalk",
    "Billiard",
    "RatmDigitsRecipe",
    "BouncingBallsRecipe",
    "BouncingBalls",
    "bouncing_ball_videos",
    "contact_sheet",
]
