"""Losses of labelled videos: trackers' boxes, places, appearances, and classes.

`objective` makes an objective of a tracker and its losses, in the form that `training` drives;
`tracking_losses` has HART's. May import `training`. A loss that needs a label is added here.
"""

from .objective import (
    ClassificationLoss,
    ClassifierDiagnostics,
    ClassifierObjective,
    FeatureLoss,
    FrameLoss,
    LocalisationLoss,
    PixelLoss,
    SupervisedObjective,
    Tracks,
    Truth,
    WeightDecay,
    video_means,
)
from .tracking_losses import (
    AdaptiveWeights,
    AttentiveTracks,
    FixedWeights,
    GeneralizedOverlapLoss,
    HARTObjective,
    MaskLoss,
    OverlapLoss,
    WindowLoss,
    coverage,
    hart_losses,
    negative_log,
    time_means,
)

__all__ = [
    "AdaptiveWeights",
    "AttentiveTracks",
    "ClassificationLoss",
    "ClassifierDiagnostics",
    "ClassifierObjective",
    "FeatureLoss",
    "FixedWeights",
    "FrameLoss",
    "GeneralizedOverlapLoss",
    "HARTObjective",
    "LocalisationLoss",
    "MaskLoss",
    "OverlapLoss",
    "PixelLoss",
    "SupervisedObjective",
    "Tracks",
    "Truth",
    "WeightDecay",
    "WindowLoss",
    "coverage",
    "hart_losses",
    "negative_log",
    "time_means",
    "video_means",
]
