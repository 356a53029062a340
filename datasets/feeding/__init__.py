"""From stored videos to batches: their order, windows of time, patches, random changes, and who is held out.

May import `storage`. A new way of drawing batches is a file here.
"""

from .augmentation import random_fading, random_parts
from .clip_windows import ClipWindows, mirrored_boxes
from .group_split import GroupSplit, leave_group_out, split_by_group
from .schedule import BatchSchedule
from .target_patches import PatchBatch, TargetPatches

__all__ = [
    "BatchSchedule",
    "ClipWindows",
    "GroupSplit",
    "PatchBatch",
    "TargetPatches",
    "leave_group_out",
    "mirrored_boxes",
    "random_fading",
    "random_parts",
    "split_by_group",
]
