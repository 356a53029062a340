"""Generative models, their priors, and the components models and guides are built of."""

from .air import AIR, Scene, Slots
from .hart import HART, HARTTracks
from .ratm import RATM, RATMTracks
from .sequence_air import SequenceAIR
from .sqair import SQAIR, Frame
from .template_tracker import TemplateTracker
from .vrnn import VRNN, VRNNFrame

__all__ = [
    "AIR",
    "HART",
    "RATM",
    "SQAIR",
    "VRNN",
    "Frame",
    "HARTTracks",
    "RATMTracks",
    "Scene",
    "SequenceAIR",
    "Slots",
    "TemplateTracker",
    "VRNNFrame",
]
