"""Approximate posteriors: one module per generative model."""

from .air import AIRBaseline, AIRGuide

__all__ = ["AIRBaseline", "AIRGuide"]
