"""Data that are computed from a recipe and a seed: digits and what is composed of them, balls, clutter.

A recipe is a frozen dataclass; a scene is a pure function of recipe, seed and index. MNIST is here as a
source of single digits. May import `storage`. A new generator is a file here, with the parts it shares
beside it.
"""

from .bouncing_balls import BouncingBalls, BouncingBallsRecipe, bouncing_ball_videos
from .clutter import ClutterVideos, clutter_videos
from .clutter_recipe import ClutterRecipe
from .coloured_balls import BALLS, ColouredBalls, ColouredBallsRecipe, coloured_ball_videos
from .digit_images import Digits
from .digits import load_digits
from .glyphs import make_glyphs
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
from .pasted import PastedRecipe, PastedVideos, pasted_videos
from .ratm_digits import MOTIONS, Billiard, DigitMotion, MomentumWalk, RatmDigitsRecipe, ReleasedWalk
from .relay import Relay, RelayRecipe, relay_videos
from .spmot import SpMOT, SpMOTRecipe, spmot_videos
from .textures import SILHOUETTES, make_silhouettes, make_textures
from .trajectories import Motion, MotionState

__all__ = [
    "BALLS",
    "Billiard",
    "BouncingBalls",
    "BouncingBallsRecipe",
    "ClutterRecipe",
    "ClutterVideos",
    "ColouredBalls",
    "ColouredBallsRecipe",
    "DigitMotion",
    "Digits",
    "MOTIONS",
    "MomentumWalk",
    "Motion",
    "MotionState",
    "MovingDigits",
    "MovingDigitsRecipe",
    "PastedRecipe",
    "PastedVideos",
    "PyroRecipe",
    "RECIPES",
    "RatmDigitsRecipe",
    "Recipe",
    "Relay",
    "RelayRecipe",
    "ReleasedWalk",
    "SILHOUETTES",
    "SpMOT",
    "SpMOTRecipe",
    "StaticSqairRecipe",
    "VideoRecipe",
    "bouncing_ball_videos",
    "clutter_videos",
    "coloured_ball_videos",
    "compose",
    "load_digits",
    "load_mnist",
    "make_glyphs",
    "make_silhouettes",
    "make_textures",
    "moving_digit_videos",
    "multi_object_images",
    "pasted_videos",
    "present",
    "relay_videos",
    "spmot_videos",
    "visible_count",
]
