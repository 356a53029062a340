"""Generative models, their priors, and the components models and guides are built of."""

from .air import AIR, Scene, Slots

__all__ = ["AIR", "Scene", "Slots"]
