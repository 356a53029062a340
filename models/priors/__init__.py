"""Priors of presence, place and appearance: what a new generative model reuses, or replaces.

`counts`: how many objects there are in an image; `discovery`: how many are new in a frame of a video, and
where; `propagation`: which ones stay, and how they change; `motion`
and `looks`: how they move, and that they look as they did; `relational`: that they know of each other;
`flow`: what objects look like. May import `models.components`. A new prior is a class in one of these files,
given to a model's constructor.
"""

from ..components.presence_vectors import IMPOSSIBLE
from .counts import (
    ABSENT_LOGIT,
    CategoricalCount,
    CountPrior,
    GeometricCount,
    NormalPrior,
    harmless,
    hazard_logits,
    log_probs_of_hazards,
    present_or_standard,
    slot_presence,
    slots_law,
)
from .discovery import (
    MIN_SCALE,
    DiscoveryCountPrior,
    DiscoveryWherePrior,
    FixedCountPrior,
    FixedWherePrior,
    expected_propagation,
)
from .flow import Flow, FlowPrior
from .further import WithFurther
from .looks import LooksPrior, StaticLooksPrior, StickyLooksPrior, WithLooks
from .motion import MotionPrior
from .propagation import (
    GuidedPropagationPrior,
    Propagation,
    PropagationPrior,
    RecurrentPropagationPrior,
    further_of,
)
from .relational import RelationalPropagationPrior

__all__ = [
    "WithFurther",
    "RelationalPropagationPrior",
    "LooksPrior",
    "PropagationPrior",
    "further_of",
    "ABSENT_LOGIT",
    "CategoricalCount",
    "CountPrior",
    "DiscoveryCountPrior",
    "DiscoveryWherePrior",
    "FixedCountPrior",
    "FixedWherePrior",
    "Flow",
    "FlowPrior",
    "GeometricCount",
    "GuidedPropagationPrior",
    "IMPOSSIBLE",
    "MIN_SCALE",
    "MotionPrior",
    "NormalPrior",
    "Propagation",
    "RecurrentPropagationPrior",
    "StaticLooksPrior",
    "StickyLooksPrior",
    "WithLooks",
    "expected_propagation",
    "harmless",
    "hazard_logits",
    "log_probs_of_hazards",
    "present_or_standard",
    "slot_presence",
    "slots_law",
]
