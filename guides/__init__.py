"""Approximate posteriors: one file per generative model, with the same statements.

SQAIR's consists of `propagation.py` and `discovery.py`, which share `looking.py`.
May import `models`. The guide of a new model is a file here.
"""

from .air import AIRBaseline, AIRGuide
from .discovery import Discovery
from .looking import WhatEncoder
from .propagation import Propagation
from .sequence_air import SequenceAIRGuide
from .sqair import SQAIRGuide
from .vrnn import VRNNGuide

__all__ = [
    "AIRBaseline",
    "AIRGuide",
    "Discovery",
    "Propagation",
    "SQAIRGuide",
    "SequenceAIRGuide",
    "VRNNGuide",
    "WhatEncoder",
]
