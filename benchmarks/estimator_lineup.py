"""The gradient estimators that are compared, by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast, get_args

from whatwhere.examples.air import COMPARING, CONTINUOUS, Estimator, make_objective
from whatwhere.inference.objectives import MultiSampleELBO
from whatwhere.inference.objectives.continuous import Continuous

CONTENDERS = (
    "marginal",
    "reinforce",
    "nvil",
    "vimco",
    "vimco-stl",
    "vimco-dreg",
    "ovis",
    "ovis-dreg",
    "wake_sleep",
    "sqair_code",
)
"""Estimators of `whatwhere-air`, with the option for continuous variables behind a hyphen."""

BASELINE = "vimco"
"""What costs are compared with."""

FOR_ELBO = ("marginal", "reinforce", "nvil")
"""Estimators of the gradient of the ELBO, the same for any number of particles; all without bias."""


class Contender(NamedTuple):
    """What a name stands for."""

    estimator: Estimator
    """Option `--estimator` of `whatwhere-air`."""
    continuous: Continuous
    """Option `--continuous`."""

    def particles(self, several: int) -> int:
        """Particles in training: `several` where the estimator compares them, else one."""
        return several if self.estimator in COMPARING else 1

    def objective(self, particles: int) -> MultiSampleELBO:
        """The objective."""
        return make_objective(self.estimator, particles, self.continuous)


def contender(name: str) -> Contender:
    """Read a name.

    Raises:
        ValueError: it is none.
    """
    estimator, hyphen, continuous = name.partition("-")
    known, options = get_args(Estimator), get_args(Continuous)[1:]
    is_plain = estimator in known and not hyphen
    if not is_plain and not (estimator in CONTINUOUS and continuous in options):
        raise ValueError(
            f"expected an estimator of {', '.join(known)}, those of {', '.join(CONTINUOUS)} also with `-stl` "
            f"or `-dreg` behind, got `{name}`"
        )
    return Contender(cast(Estimator, estimator), cast(Continuous, continuous or "pathwise"))


def check_contenders(names: Sequence[str]) -> None:
    """Refuse names that are none, and a list without the baseline.

    Raises:
        ValueError: of a name.
    """
    for name in names:
        contender(name)
    if BASELINE not in names or len(set(names)) < len(names):
        raise ValueError(
            f"`contenders` must have `{BASELINE}`, which costs are compared with, and each but once, got "
            f"{' '.join(names)}"
        )


def unbiased_of(name: str, group: str) -> tuple[str, ...]:
    """Other contenders whose gradient of a group has the expectation that this one's is compared with.

    Args:
        name: of the contender.
        group: of parameters; `decoder` is the model's, all others are the guide's.

    Returns:
        Names; none where nothing is known: the guide of `wake_sleep` follows an objective of its own.
    """
    if name in FOR_ELBO:
        known: tuple[str, ...] = FOR_ELBO
    elif name == "wake_sleep" and group != "decoder":
        known = ()
    else:
        known = ("vimco", "vimco-dreg", "ovis", "ovis-dreg", *(["wake_sleep"] if group == "decoder" else []))
    return tuple(other for other in known if other != name)


def claims_no_bias(name: str, group: str) -> bool:
    """Whether an estimator is to have no bias for its bound, for a group of parameters."""
    return (
        name in FOR_ELBO
        or group == "decoder"  # whose gradient is the same for all estimators of a bound
        or name in ("vimco", "vimco-dreg", "ovis", "ovis-dreg")
    )
