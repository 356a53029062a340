"""Files that others wrote, opened with suspicion: pictures, films, archives of arrays, HDF5 files.

What a file claims to hold is compared with its size before memory is taken, no decoder is started but the
one that is meant, and whatever is wrong becomes a `DataError` that names the file. Imports no other room of
`datasets`. A new kind of file is opened by a file here.
"""

from .animation import ANIMATION_RATIO, ANIMATION_SUFFIXES, animation_pictures
from .archive import Archive, open_archive, read_archive
from .claims import LIMIT, as_data_error, check_claim, naming
from .film import VIDEO_SUFFIXES, FilmIndex, film_index, film_pictures, frame_rate
from .hdf5 import HDF5_SUFFIXES, find_dataset, open_file, read_attributes, read_values
from .picture import (
    IMAGE_KINDS,
    IMAGE_SUFFIXES,
    Picture,
    eight_bits,
    grey_by_mode,
    image_array,
    is_image,
    open_image,
    read_image,
    without_colour,
)

__all__ = [
    "ANIMATION_RATIO",
    "ANIMATION_SUFFIXES",
    "Archive",
    "FilmIndex",
    "animation_pictures",
    "film_index",
    "IMAGE_KINDS",
    "IMAGE_SUFFIXES",
    "LIMIT",
    "Picture",
    "VIDEO_SUFFIXES",
    "as_data_error",
    "check_claim",
    "eight_bits",
    "naming",
    "HDF5_SUFFIXES",
    "open_file",
    "find_dataset",
    "read_attributes",
    "read_values",
    "film_pictures",
    "frame_rate",
    "grey_by_mode",
    "image_array",
    "is_image",
    "open_archive",
    "open_image",
    "read_archive",
    "read_image",
    "without_colour",
]
