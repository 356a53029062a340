"""AIR's training step through Pyro, against the same arithmetic in plain torch.

    python -m benchmarks.air --threads 1 --output air.json

measures forward, backward and fused Adam at the sizes of Pyro's AIR, on images of digits, for `MarginalELBO`
and `VIMCO`. Validation of Pyro and of torch.distributions is off, as in training.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pyro
import torch
from torch import Tensor

from whatwhere.datasets import RECIPES, multi_object_images
from whatwhere.examples.air import Programs, compile_networks
from whatwhere.guides import AIRGuide
from whatwhere.inference.objectives import VIMCO, MarginalELBO
from whatwhere.inference.training import keep_freed_memory, make_optimizer
from whatwhere.models import AIR

from . import air_reference
from .footprint import Step, count_operations, peak_memory, saved_bytes
from .harness import Measurement, measure
from .machine import describe_machine
from .report import (
    conditions,
    markdown_table,
    milliseconds,
    percent_over,
    run_benchmark,
    timing_fields,
)

Objective = Literal["marginal", "vimco"]
Way = Literal["plain torch", "Pyro", "Pyro, compiled networks"]

PARTICLES = 5
LEARNING_RATE = 1e-4


@dataclass(frozen=True)
class AIRBenchmark:
    """Measure AIR's training step through Pyro against plain torch."""

    threads: int = 1
    """Threads of PyTorch."""
    batch: int = 64
    """Images in a step."""
    rounds: int = 60
    """Steps of each contender that are timed."""
    warmup: int = 5
    """Steps of each before."""
    objectives: tuple[Objective, ...] = ("marginal", "vimco")
    """Which objectives: `marginal`, `vimco` (with 5 particles)."""
    compile: bool = False
    """Also measure compiled networks; compiling takes a minute."""
    memory: bool = True
    """Also measure peak memory, each contender in a process of its own."""
    idle_timeout: float = 60.0
    """Longest wait, in seconds, for other processes to come to rest."""
    device: str = "cpu"
    """`cpu` or `cuda`."""
    output: Path | None = None
    """JSON file for the results."""


class Contender(NamedTuple):
    """One way to train AIR."""

    step: Step
    """A training step on always the same images."""
    parameters: list[Tensor]
    """What it trains."""


def digit_images(batch: int, device: torch.device) -> Tensor:
    """Images `(B, 1, 50, 50)` of 0 to 2 digits, drawn from fonts."""
    data = multi_object_images(
        RECIPES["pyro"](max_objects=2, image_size=50), "train", batch, 0, source="glyphs"
    )
    return data.batch(range(batch)).images.to(device)


def make_contender(objective: Objective, way: Way, images: Tensor) -> Contender:
    """Make one way to train AIR; all begin with the same parameters."""
    torch.manual_seed(0)
    programs = Programs(AIR().to(images.device), AIRGuide().to(images.device))
    if way == "Pyro, compiled networks":
        compile_networks(programs)
    parameters: list[Tensor] = [parameter for program in programs for parameter in program.parameters()]
    optimizer = make_optimizer("adam", parameters, LEARNING_RATE)
    loss = (reference_loss if way == "plain torch" else pyro_loss)(objective, programs)

    def step() -> None:
        optimizer.zero_grad()
        loss(images).backward()
        optimizer.step()

    return Contender(step, parameters)


def reference_loss(objective: Objective, programs: Programs) -> Callable[[Tensor], Tensor]:
    """The loss in plain torch."""
    model, guide = programs
    if objective == "marginal":
        return functools.partial(air_reference.marginal_elbo_loss, model, guide)
    return functools.partial(air_reference.vimco_loss, model, guide, num_particles=PARTICLES)


def pyro_loss(objective: Objective, programs: Programs) -> Callable[[Tensor], Tensor]:
    """The loss through Pyro's statements."""
    bound = MarginalELBO(reduction="mean") if objective == "marginal" else VIMCO(PARTICLES, reduction="mean")
    module = bound(*programs)
    return lambda images: module(images)[0]


def settle(threads: int) -> None:
    """Make the settings of a process: threads, and no validation."""
    torch.set_num_threads(threads)
    pyro.enable_validation(False)  # that of torch.distributions included


def make_step(objective: Objective, way: Way, images: Tensor, threads: int) -> Step:
    """Make a step in a fresh process, for `peak_memory`."""
    settle(threads)
    return make_contender(objective, way, images).step


def run(config: AIRBenchmark) -> dict[str, Any]:
    """Measure everything and return the report."""
    settle(config.threads)
    kept = keep_freed_memory()
    device = torch.device(config.device)
    images = digit_images(config.batch, device)
    ways: list[Way] = ["plain torch", "Pyro"]
    if config.compile:
        ways.append("Pyro, compiled networks")
    results: dict[str, Any] = {}
    for objective in config.objectives:
        contenders = {way: make_contender(objective, way, images) for way in ways}
        measurement = measure(
            {way: contender.step for way, contender in contenders.items()},
            config.rounds,
            config.warmup,
            config.idle_timeout,
            device,
        )
        results[objective] = {
            "conditions": conditions(measurement),
            "contenders": {
                way: contender_fields(config, objective, way, images, contender, measurement)
                for way, contender in contenders.items()
            },
        }
    options = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(config).items()}
    machine = {**describe_machine(device), "freed_memory_kept": kept}
    return {"benchmark": "air", "options": options, "machine": machine, "results": results}


def contender_fields(
    config: AIRBenchmark,
    objective: Objective,
    way: Way,
    images: Tensor,
    contender: Contender,
    measurement: Measurement,
) -> dict[str, Any]:
    """What the report says about one contender."""
    fields = timing_fields(measurement, way, "plain torch")
    fields["saved_bytes"] = saved_bytes(contender.step, contender.parameters)
    if way != "Pyro, compiled networks":  # whose operators are hidden, and whose memory is the compiler's
        fields.update(count_operations(contender.step)._asdict())
        if config.memory:
            make = functools.partial(make_step, objective, way, images, config.threads)
            fields["peak_bytes"] = peak_memory(make, images.device)
    return fields


def table(report: dict[str, Any]) -> str:
    """Show a report as Markdown."""
    header = ["", "CPU ms", "wall ms", "steps/s", "CPU over plain torch", "wall over it"]
    header += ["peak MB", "saved MB", "kernels", "reads"]
    rows = []
    for objective, result in report["results"].items():
        for way, fields in result["contenders"].items():
            cells = [f"{objective}, {way}", milliseconds(fields["cpu_ms"]), milliseconds(fields["wall_ms"])]
            cells += [f"{fields['per_second']:.1f}"]
            cells += [
                percent_over(fields[key]) if key in fields else "" for key in ("cpu_ratio", "wall_ratio")
            ]
            cells += [
                f"{fields[key] / 1e6:.1f}" if key in fields else "" for key in ("peak_bytes", "saved_bytes")
            ]
            cells += [str(fields.get(key, "")) for key in ("kernels", "host_reads")]
            rows.append(cells)
    return markdown_table(header, rows)


def describe(report: dict[str, Any]) -> str:
    """Show on what machine, and in what state of it, a report was made."""
    machine = report["machine"]
    denormals = "flushed" if machine["flush_denormal"] else "kept"
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads, "
        f"torch {machine['torch']}, Pyro {machine['pyro']}, denormals {denormals}"
    ]
    for name, result in report["results"].items():
        state = result["conditions"]
        idle = state["idle_share_before"]
        lines.append(
            f"{name}: {state['rounds']} rounds, idle before "
            f"{'unknown' if idle is None else format(idle, '.0%')}, float32 matmul "
            f"{state['matmul_gflops_wall']:.0f} GFLOP/s"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    run_benchmark("benchmarks.air", AIRBenchmark, run, describe, table)
