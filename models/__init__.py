"""Generative models, their priors, and the components models and guides are built of."""

from .air import AIR, Scene, Slots
from .sqair import SQAIR, Frame

__all__ = ["AIR", "SQAIR", "Frame", "Scene", "Slots"]
