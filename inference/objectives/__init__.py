"""Multi-sample variational objectives.

A bound (ELBO, importance-weighted) with a gradient estimator, for a model and a guide whose variables lie in
a plate of independent data. Each is a `pyro.infer.ELBO`, usable with `pyro.infer.SVI`, and makes a
`torch.nn.Module` of a model/guide pair, usable with `torch.optim`.

| class          | bound | discrete variables             | bias | particles |
|----------------|-------|--------------------------------|------|-----------|
| `IWAE`         | L_K   | none allowed                   | no   | K >= 1    |
| `VIMCO`        | L_K   | score function, leave-one-out  | no   | K >= 2    |
| `OVIS`         | L_K   | score function, least variance | no, for gamma = 1 | K >= 2 |
| `NVIL`         | ELBO  | score function, learned baseline | no | K >= 1    |
| `MarginalELBO` | ELBO  | number of objects summed out   | no   | K >= 1    |
| `Reinforce`    | ELBO or L_K | score function           | no   | K >= 1    |
| `SQAIRSignal`  | L_K   | score function                 | yes  | K >= 2    |
| `FIVO`         | that of a particle filter | score function | yes, where resampled | K >= 2 |
| `ReweightedWakeSleep` | L_K, for the model | an objective of its own for the guide | see there | K >= 2 |
| `TaughtELBO`   | ELBO  | a teacher decides, the guide imitates | other decisions have no gradient | K >= 1 |

`AppearanceELBO` and `TrackLikelihood` are for parts of a model: encoder and decoder of glimpses where places
are known, and a prior of motion where tracks are.

The reparameterised variables have the pathwise gradient; `IWAE`, `VIMCO`, `OVIS` and `SQAIRSignal` take
`continuous="dreg"` (doubly reparameterised, unbiased) or `"stl"` (sticking the landing, biased for K > 1).
"""

from ..local_parameters import local_parameters
from .appearance import AppearanceELBO
from .base import Estimate, MultiSampleELBO
from .diagnostics import Diagnostics
from .errors import (
    BaselineError,
    DreamError,
    FrameError,
    MissingSiteError,
    NoGradientError,
    ObjectiveError,
    PresenceError,
    SiteOutsidePlateError,
    SiteShapeError,
    TooFewParticlesError,
    UnequalScaleError,
    UnsupportedSiteError,
)
from .fivo import FIVO
from .frame_weights import FrameLogWeights, frame_log_weights
from .importance_weighted import ImportanceWeighted
from .iwae import IWAE
from .log_weights import LogWeights
from .marginal_elbo import MarginalELBO
from .module import ObjectiveModule
from .nvil import NVIL
from .ovis import OVIS
from .reinforce import Reinforce
from .sqair_signal import SQAIRSignal
from .substitute import Substitute
from .taught import TaughtELBO
from .track_likelihood import TrackDiagnostics, TrackLikelihood
from .vimco import VIMCO
from .wake_sleep import ReweightedWakeSleep

__all__ = [
    "AppearanceELBO",
    "BaselineError",
    "Diagnostics",
    "DreamError",
    "Estimate",
    "FIVO",
    "FrameError",
    "FrameLogWeights",
    "IWAE",
    "ImportanceWeighted",
    "LogWeights",
    "MarginalELBO",
    "MissingSiteError",
    "MultiSampleELBO",
    "NVIL",
    "NoGradientError",
    "OVIS",
    "ObjectiveError",
    "ObjectiveModule",
    "PresenceError",
    "Reinforce",
    "ReweightedWakeSleep",
    "SQAIRSignal",
    "SiteOutsidePlateError",
    "SiteShapeError",
    "Substitute",
    "TaughtELBO",
    "TooFewParticlesError",
    "TrackDiagnostics",
    "TrackLikelihood",
    "UnequalScaleError",
    "UnsupportedSiteError",
    "VIMCO",
    "frame_log_weights",
    "local_parameters",
]
