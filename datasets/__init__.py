"""Generated and real data, how they are stored, and in which order they are fed to training."""

from .digits import Digits, load_digits
from .errors import DataError
from .glyphs import make_glyphs
from .mnist import load_mnist
from .multi_object import RECIPES, PyroRecipe, Recipe, StaticSqairRecipe, compose, multi_object_images
from .schedule import BatchSchedule
from .video import VideoBatch, VideoData

__all__ = [
    "VideoBatch",
    "VideoData",
    "DataError",
    "BatchSchedule",
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
]
