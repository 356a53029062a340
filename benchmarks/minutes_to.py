"""Minutes to a given quality: when a run's held-out bound first reached a value, with all stages before.

    whatwhere-sqair train --preset mnist-fast --training.evaluate-every 100 --output runs/sqair-0
    python -m benchmarks.minutes_to --runs runs/sqair-0 --value 6617.6

It reads the logs of finished or running trainings of SQAIR. The bound is that of one posterior sample a
video, of the held-out videos that a run watches: log p(x) is greater, so that time to a value of log p(x) is
at most what is printed. Time is that of the run's own clock, `--training.clock`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

from whatwhere import checks
from whatwhere.examples.common.program import UsageError, exit_code
from whatwhere.examples.parts.warm_start_config import WarmStartConfig
from whatwhere.inference.training import parse_config, read_log


@dataclass(frozen=True)
class MinutesBenchmark:
    """Say when the held-out bound of runs first reached a value."""

    runs: tuple[Path, ...] = (Path("runs/sqair-mnist"),)
    """Folders of runs."""
    value: float = 6617.6
    """Nats of a whole video, by default log p(x) of the paper's MLP-SQAIR on ten frames of moving MNIST."""
    frames: int = 10
    """Frames of a video."""

    def __post_init__(self) -> None:
        checks.finite(self, "value")
        checks.positive(self, "frames")
        if not self.runs:
            raise ValueError("`runs` must be at least one, got none")


class Reached(NamedTuple):
    """The first evaluation with the value, or the best one."""

    minutes: float
    """Of training, all stages before included."""
    bound: float
    """Nats of a whole video."""
    stage: str
    """Name of the stage, empty for the training proper."""


def minutes_to(run: Path, value: float, frames: int) -> Reached | None:
    """When a run's bound first reached a value; if it did not, when it was best; None without evaluations."""
    best, before = None, 0.0
    stages = [run / "stages" / field.name for field in fields(WarmStartConfig)]
    for folder in [*(stage for stage in stages if (stage / "log.jsonl").exists()), run]:
        if not (folder / "log.jsonl").exists():
            continue
        records = read_log(folder / "log.jsonl")
        for record in records:
            if "bound_per_frame" not in record:
                continue
            bound = frames * float(record["bound_per_frame"])
            found = Reached((before + record["seconds"]) / 60, bound, "" if folder == run else folder.name)
            if bound >= value:
                return found
            if best is None or bound > best.bound:
                best = found
        before += max((record["seconds"] for record in records), default=0.0)
    return best


def report(options: MinutesBenchmark) -> int:
    """Print one line a run."""
    for run in options.runs:
        if not run.is_dir():
            raise UsageError(f"`runs`: expected folders of trainings, but there is no folder `{run}`")
        found = minutes_to(run, options.value, options.frames)
        if found is None:
            print(f"{run}: no held-out bound in its log yet")
            continue
        where = f"stage `{found.stage}`" if found.stage else "the training proper"
        said = "reached" if found.bound >= options.value else "not reached, best"
        print(f"{run}: {said} {found.bound:.1f} after {found.minutes:.1f} minutes, in {where}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program."""
    prog = "python -m benchmarks.minutes_to"
    return exit_code(
        prog, lambda: report(parse_config(MinutesBenchmark, argv, prog=prog, description=__doc__))
    )


if __name__ == "__main__":
    sys.exit(main())
