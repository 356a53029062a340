"""The objectives that AIR can be trained with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from whatwhere.inference.objectives import (
    NVIL,
    OVIS,
    VIMCO,
    MarginalELBO,
    MultiSampleELBO,
    Reinforce,
    ReweightedWakeSleep,
    SQAIRSignal,
)
from whatwhere.inference.objectives.continuous import Continuous

Estimator = Literal["marginal", "vimco", "ovis", "nvil", "reinforce", "wake_sleep", "sqair_code"]

COMPARING = ("vimco", "ovis", "wake_sleep", "sqair_code")
"""Estimators that compare particles, of which they need several."""
CONTINUOUS = ("vimco", "ovis", "sqair_code")
"""Estimators that leave a choice for continuous variables."""


def check_continuous(estimator: Estimator, continuous: Continuous) -> None:
    """Refuse a choice for continuous variables to estimators that leave none.

    Raises:
        ValueError: if that is so.
    """
    if continuous != "pathwise" and estimator not in CONTINUOUS:
        raise ValueError(
            f"`continuous` = {continuous} is for `estimator` {', '.join(CONTINUOUS)}, got {estimator}: "
            "use one of them, or `continuous` = pathwise"
        )


def make_objective(
    estimator: Estimator, particles: int, continuous: Continuous = "pathwise"
) -> MultiSampleELBO:
    """The objective of a name; losses are means over the batch.

    Raises:
        ValueError: if the estimator leaves no choice for continuous variables and `continuous` makes one, or
            it compares particles and there is only one.
    """
    check_continuous(estimator, continuous)
    classes: dict[str, Callable[..., MultiSampleELBO]] = {
        "marginal": MarginalELBO,
        "vimco": VIMCO,
        "ovis": OVIS,
        "nvil": NVIL,
        "reinforce": Reinforce,
        "wake_sleep": ReweightedWakeSleep,
        "sqair_code": SQAIRSignal,
    }
    options = {"continuous": continuous} if estimator in CONTINUOUS else {}
    return classes[estimator](num_particles=particles, reduction="mean", **options)
