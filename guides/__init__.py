"""Approximate posteriors: one file per generative model, with the same statements.

May import `models`. The guide of a new model is a file here.
"""

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
