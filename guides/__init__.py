"""Approximate posteriors: one module per generative model."""

from .air import AIRBaseline, AIRGuide
from .sequence_air import SequenceAIRGuide
from .sqair import Discovery, Propagation, SQAIRGuide
from .vrnn import VRNNGuide

__all__ = [
    "AIRBaseline",
    "AIRGuide",
    "Discovery",
    "Propagation",
    "SQAIRGuide",
    "SequenceAIRGuide",
    "VRNNGuide",
]
