"""Approximate posteriors: one file per generative model, with the same statements.

SQAIR's consists of `propagation.py` and `discovery.py`, which share `what_encoder.py` and `draws.py`.
May import `models`. The guide of a new model is a file here.
"""

from .air import AIRBaseline, AIRGuide
from .discovery import Discovery
from .propagation import Propagation
from .sequence_air import SequenceAIRGuide
from .sqair import SQAIRGuide
from .vrnn import VRNNGuide
from .what_encoder import WhatEncoder

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
