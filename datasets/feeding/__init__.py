"""From stored videos to batches: order, preparation, windows of time, patches, changes, and who is held out.

May import `opening` and `storage`. A new way of drawing batches is a file here.
"""

from .action_clips import ActionBatch, ActionClips, ActionFrames, ActionSource, normalised_joints
from .augmentation import random_fading, random_parts
from .clip_windows import ClipWindows, mirrored_boxes
from .group_split import GroupSplit, leave_group_out, split_by_group
from .preparation import BACKGROUNDS, RUNNING, Preparation, PreparedVideo
from .schedule import BatchSchedule, ReadInPieces, schedule_for
from .target_patches import PatchBatch, TargetPatches

__all__ = [
    "BACKGROUNDS",
    "RUNNING",
    "Preparation",
    "PreparedVideo",
    "ReadInPieces",
    "ActionBatch",
    "ActionClips",
    "ActionFrames",
    "ActionSource",
    "BatchSchedule",
    "ClipWindows",
    "GroupSplit",
    "PatchBatch",
    "TargetPatches",
    "leave_group_out",
    "mirrored_boxes",
    "normalised_joints",
    "random_fading",
    "random_parts",
    "schedule_for",
    "split_by_group",
]
