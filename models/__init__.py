"""Generative models, their priors, and the components models and guides are built of."""

from .air import AIR, Scene, Slots
from .ratm import RATM, RATMTracks
from .sqair import SQAIR, Frame

__all__ = ["AIR", "RATM", "SQAIR", "Frame", "RATMTracks", "Scene", "Slots"]
