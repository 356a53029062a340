"""Approximate posteriors: one file per generative model, with the same statements.

SQAIR's consists of `propagation.py` and `discovery.py`, which share `looking.py`.
May import `models`. The guide of a new model is a file here.
"""

from .air import AIRBaseline, AIRGuide
from .background import (
    BackgroundGuide,
    BackgroundVAEGuide,
    Behind,
    CameraBackgroundGuide,
    StaticBackgroundGuide,
)
from .discovery import Discovery
from .evidence_air import EvidenceAIRGuide
from .evidence_discovery import EvidenceDiscovery
from .explaining_away import ExplainingDiscovery
from .further import FurtherLatents
from .grid_discovery import GridDiscovery, GridFeatures, ObjectMap
from .looking import WhatEncoder
from .looks import Looks, StaticLooks, StickyLooks
from .propagation import Propagation
from .refined_looks import RefinedLooks
from .second_look import SecondLook
from .sequence_air import SequenceAIRGuide
from .slot_discovery import SlotDiscovery
from .sqair import SQAIRGuide
from .teacher import hold_objects
from .tracking import TrackingPropagation, is_seen
from .vrnn import VRNNGuide

__all__ = [
    "GridDiscovery",
    "GridFeatures",
    "ObjectMap",
    "FurtherLatents",
    "Looks",
    "BackgroundGuide",
    "BackgroundVAEGuide",
    "CameraBackgroundGuide",
    "Behind",
    "SlotDiscovery",
    "StaticBackgroundGuide",
    "AIRBaseline",
    "AIRGuide",
    "Discovery",
    "EvidenceAIRGuide",
    "EvidenceDiscovery",
    "ExplainingDiscovery",
    "RefinedLooks",
    "Propagation",
    "SQAIRGuide",
    "SecondLook",
    "SequenceAIRGuide",
    "StaticLooks",
    "StickyLooks",
    "TrackingPropagation",
    "VRNNGuide",
    "WhatEncoder",
    "hold_objects",
    "is_seen",
]
