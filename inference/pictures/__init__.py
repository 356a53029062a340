"""Pictures and films of what was found: `drawing` has the parts, each other file one kind of model.

May import `evaluation`. Pictures are `PIL` images until `picture_files` writes them. A picture of a new kind
of model is a file here.
"""

from .clouds import CloudVideo, cloud_pages, cloud_strip
from .drawing import (
    Caption,
    default_factor,
    draw_boxes,
    font,
    grid,
    slot_colour,
    stack,
    upscale,
)
from .images import reconstruction_picture, sample_picture
from .picture_files import PICTURE_FORMATS, save_gif, save_mp4, save_picture
from .trackers import TrackedVideo, annotated_frames, iou_plot, success_plot, tracking_strips
from .videos import draw_paths, draw_tracks, film_strip, overlay_pictures, tracking_pictures

__all__ = [
    "Caption",
    "CloudVideo",
    "PICTURE_FORMATS",
    "TrackedVideo",
    "annotated_frames",
    "cloud_pages",
    "cloud_strip",
    "default_factor",
    "draw_boxes",
    "draw_paths",
    "draw_tracks",
    "film_strip",
    "font",
    "grid",
    "iou_plot",
    "overlay_pictures",
    "reconstruction_picture",
    "sample_picture",
    "save_gif",
    "save_mp4",
    "save_picture",
    "slot_colour",
    "stack",
    "success_plot",
    "tracking_pictures",
    "tracking_strips",
    "upscale",
]
