"""What it costs to discover more objects: one after the other in a chain, or all at once in a grid.

    python -m benchmarks.discovery --threads 1 --output discovery.json

measures the statements of a first frame, of guide and model, forward and backward, at the sizes of the
authors' MLP-SQAIR, for several numbers of slots, all of which are computed. Kernels are counted too: their
number tells how many steps follow each other, and does not depend on what else the machine does.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import pyro
import torch
from pyro import poutine
from torch import Tensor

from whatwhere import checks
from whatwhere.examples.sqair import NetworkConfig, PriorConfig, build
from whatwhere.inference.training import keep_freed_memory

from .air import settle
from .footprint import Step, count_operations
from .harness import measure
from .machine import describe_machine
from .report import conditions, markdown_table, milliseconds, run_benchmark, timing_fields
from .sqair import moving_digits

Kind = Literal["chain", "grid"]
KINDS: tuple[Kind, ...] = get_args(Kind)

NETWORK = NetworkConfig(image_shape=(1, 50, 50))
PRIOR = PriorConfig(where="fixed")


@dataclass(frozen=True)
class DiscoveryBenchmark:
    """Measure discovery by a chain against that by a grid."""

    threads: int = 1
    """Threads of PyTorch."""
    batch: int = 32
    """Images in a step."""
    slots: tuple[int, ...] = (1, 2, 4, 8, 16)
    """Numbers of slots."""
    cells: int = 4
    """Rows and columns of the grid."""
    rounds: int = 12
    """Steps of each contender that are timed."""
    warmup: int = 2
    """Steps of each before."""
    idle_timeout: float = 60.0
    """Longest wait, in seconds, for other processes to come to rest."""
    output: Path | None = None
    """JSON file for the results."""

    def __post_init__(self) -> None:
        checks.at_least(1, self, "threads", "batch", "slots", "cells")


def make_step(kind: Kind, slots: int, cells: int, video: Tensor) -> Step:
    """Log p - log q of what is new in the first frame, and its gradients.

    Args:
        kind: of discovery.
        slots: their number.
        cells: rows and columns of the grid.
        video: `(B, 1, 1, 50, 50)`.
    """
    torch.manual_seed(0)
    network = replace(
        NETWORK, max_count=slots, cells=cells, discovery="grid" if kind == "grid" else "learned"
    )
    model, guide = build(network, PRIOR)
    free = torch.full((len(video),), float(slots))
    context = torch.zeros(model.latent_encoder.size), torch.full((len(video), 1), -0.5), free

    def discover() -> None:
        with pyro.plate("data", len(video), dim=-1):
            model.discovery(0, *context, first=True)

    def step() -> None:
        drawn = poutine.trace(guide).get_trace(video)
        said = poutine.trace(poutine.replay(discover, trace=drawn)).get_trace()
        (said.log_prob_sum() - drawn.log_prob_sum()).backward()

    return step


def run(config: DiscoveryBenchmark) -> dict[str, Any]:
    """Measure everything and return the report."""
    settle(config.threads)
    kept = keep_freed_memory()
    video = moving_digits(config.batch, 1, torch.device("cpu"))
    names = {f"{kind}, {slots}": (kind, slots) for slots in config.slots for kind in KINDS}
    steps = {name: make_step(*which, config.cells, video) for name, which in names.items()}
    timing = measure(steps, config.rounds, config.warmup, config.idle_timeout)
    fields = {
        name: {**timing_fields(timing, name), **count_operations(step)._asdict()}
        for name, step in steps.items()
    }
    options = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(config).items()}
    return {
        "benchmark": "discovery",
        "options": options,
        "machine": {**describe_machine(torch.device("cpu")), "freed_memory_kept": kept},
        "conditions": conditions(timing),
        "contenders": fields,
    }


def table(report: dict[str, Any]) -> str:
    """Show a report as Markdown, a row for each number of slots."""
    rows = []
    for slots in report["options"]["slots"]:
        both = [report["contenders"][f"{kind}, {slots}"] for kind in KINDS]
        cells = [milliseconds(each["cpu_ms"]) for each in both]
        rows.append([f"{slots}", *cells, *(f"{each['kernels']}" for each in both)])
    return markdown_table(["slots", "chain, CPU ms", "grid, CPU ms", "chain, kernels", "grid, kernels"], rows)


if __name__ == "__main__":
    run_benchmark("benchmarks.discovery", DiscoveryBenchmark, run, table)
