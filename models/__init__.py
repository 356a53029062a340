"""Generative models and deterministic trackers, one file each.

`priors` are what a generative model says before it looks, `components` what models and guides are built of.
A new model is a file here, its inference half one of the same name in `guides`.
"""

from .air import AIR, Scene, Slots, sum_present
from .background import Background, BackgroundState, BackgroundVAE, CameraBackground, StaticBackground
from .correlation_filter import CorrelationFilterTracker, FilterTracks
from .discovery import ChainDiscovery, DiscoveryPrior, appear
from .glimpse_clouds import (
    Clouds,
    Glance,
    GlimpseClouds,
    PoseHead,
    location_gate,
    ntu_glimpse_clouds,
    small_glimpse_clouds,
)
from .grid_discovery import GridDiscovery
from .hart import HART, HARTTracks, kitti_hart, kth_hart, small_hart
from .hart_cell import HARTCell, HARTFrame, HARTState
from .layered_decoder import LayeredDecoder
from .object_decoder import ObjectDecoder
from .ratm import (
    RATM,
    AbsoluteAttention,
    BoxStart,
    FrameShareStart,
    KTHWindows,
    LearnedStart,
    PaperWindows,
    RATMAttention,
    RATMTracks,
    ResidualAttention,
    WindowRule,
    random_box,
)
from .sequence_air import SequenceAIR, of_one_frame
from .sqair import (
    SQAIR,
    Frame,
    LatentEncoder,
    LinearGlimpseDecoder,
    SceneDecoder,
    State,
    sizes_of_videos,
)
from .template_tracker import TemplateTracker, TemplateTracks
from .vrnn import VRNN, NormalHead, TransposedConvDecoder, VRNNDynamics, VRNNFrame, VRNNState, glorot_weights

__all__ = [
    "LayeredDecoder",
    "ObjectDecoder",
    "Background",
    "BackgroundState",
    "BackgroundVAE",
    "CameraBackground",
    "ChainDiscovery",
    "DiscoveryPrior",
    "GridDiscovery",
    "StaticBackground",
    "AIR",
    "AbsoluteAttention",
    "BoxStart",
    "Clouds",
    "CorrelationFilterTracker",
    "FilterTracks",
    "Frame",
    "FrameShareStart",
    "Glance",
    "GlimpseClouds",
    "HART",
    "HARTCell",
    "HARTFrame",
    "HARTState",
    "HARTTracks",
    "KTHWindows",
    "LatentEncoder",
    "LearnedStart",
    "LinearGlimpseDecoder",
    "NormalHead",
    "PaperWindows",
    "PoseHead",
    "RATM",
    "RATMAttention",
    "RATMTracks",
    "ResidualAttention",
    "SQAIR",
    "Scene",
    "SceneDecoder",
    "SequenceAIR",
    "Slots",
    "State",
    "TemplateTracker",
    "TemplateTracks",
    "TransposedConvDecoder",
    "VRNN",
    "VRNNDynamics",
    "VRNNFrame",
    "VRNNState",
    "WindowRule",
    "appear",
    "glorot_weights",
    "kitti_hart",
    "kth_hart",
    "location_gate",
    "ntu_glimpse_clouds",
    "of_one_frame",
    "random_box",
    "sizes_of_videos",
    "small_glimpse_clouds",
    "small_hart",
    "sum_present",
]
