"""Gradient estimators of AIR against each other: signal, noise, bias and cost; and trainings of equal time.

    python -m benchmarks.estimators gradients --output runs/estimators
    python -m benchmarks.estimators train --minutes 2 --seeds 0 1 2 --output runs/estimators/training

`gradients` draws the gradient of one batch again and again, at the parameters of a checkpoint, with every
estimator and several numbers of particles. `train` trains AIR with every estimator for the same processor
time; what is finished in its folder is kept. See `docs/benchmarks.md`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from whatwhere.examples.common.program import Command, run_program

from . import estimator_gradients, estimator_training

COMMANDS = {
    "gradients": Command(estimator_gradients.GradientsConfig, estimator_gradients.main),
    "train": Command(estimator_training.TrainingComparison, estimator_training.run),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command."""
    return run_program("benchmarks.estimators", __doc__ or "", COMMANDS, argv)


if __name__ == "__main__":
    sys.exit(main())
