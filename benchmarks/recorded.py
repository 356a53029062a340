"""Training steps on a GPU as they are and recorded, see `CapturedStep`.

    python -m benchmarks.recorded --output recorded.json

measures loss, gradients and fused Adam of AIR (64 images), of VRNN and SQAIR (32 videos of ten frames), and
of SQAIR with propagation that searches for pictures, with five particles each. On a CPU nothing is recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from whatwhere import checks
from whatwhere.examples.vrnn import NetworkConfig, build
from whatwhere.guides import AIRGuide
from whatwhere.inference.objectives import VIMCO
from whatwhere.inference.training import CapturedStep, make_optimizer, seed_generators
from whatwhere.models import AIR

from .air import digit_images, settle
from .footprint import Step
from .harness import measure
from .machine import describe_machine
from .report import conditions, markdown_table, milliseconds, run_benchmark, timing_fields
from .sqair import LEARNING_RATE, make_programs, moving_digits

PARTICLES = 5


@dataclass(frozen=True)
class RecordedBenchmark:
    """Measure training steps on a GPU, as they are and recorded."""

    models: tuple[str, ...] = ("AIR", "VRNN", "SQAIR", "SQAIR, tracked")
    """Which of them."""
    images: int = 64
    """Images in a step of AIR."""
    videos: int = 32
    """Videos in a step of the others."""
    frames: int = 10
    """Frames of each."""
    rounds: int = 20
    """Steps that are timed."""
    warmup: int = 5
    """Steps of each before; recordings are made in them."""
    idle_timeout: float = 0.0
    """Longest wait, in seconds, for other processes to come to rest."""
    device: str = "cuda"
    """`cuda`, or `cpu`."""
    output: Path | None = None
    """JSON file for the results."""

    def __post_init__(self) -> None:
        checks.at_least(1, self, "images", "videos", "frames")
        checks.one_of(tuple(MODELS), self, "models")


def make_air(config: RecordedBenchmark, device: torch.device) -> tuple[nn.Module, Tensor]:
    """The objective, and images."""
    torch.manual_seed(0)
    pair = AIR().to(device), AIRGuide().to(device)
    return VIMCO(PARTICLES, reduction="mean")(*pair), digit_images(config.images, device)


def make_vrnn(config: RecordedBenchmark, device: torch.device) -> tuple[nn.Module, Tensor]:
    """The objective, and videos."""
    torch.manual_seed(0)
    video = moving_digits(config.videos, config.frames, device)
    pair = build(NetworkConfig(image_shape=(1, *video.shape[-2:])))
    return VIMCO(PARTICLES, reduction="mean")(*pair).to(device), video


def make_sqair(tracked: bool, config: RecordedBenchmark, device: torch.device) -> tuple[nn.Module, Tensor]:
    """The objective, and videos."""
    video = moving_digits(config.videos, config.frames, device)
    return VIMCO(PARTICLES, reduction="mean")(*make_programs("trained", video, tracked)), video


MODELS: dict[str, Callable[[RecordedBenchmark, torch.device], tuple[nn.Module, Tensor]]] = {
    "AIR": make_air,
    "VRNN": make_vrnn,
    "SQAIR": lambda config, device: make_sqair(False, config, device),
    "SQAIR, tracked": lambda config, device: make_sqair(True, config, device),
}


def make_step(objective: nn.Module, data: Tensor, recorded: bool) -> Step:
    """A training step on always the same data."""
    parameters: list[Tensor] = list(objective.parameters())
    optimizer = make_optimizer("adam", parameters, LEARNING_RATE)
    captured = CapturedStep(objective, parameters)

    def seed() -> None:
        seed_generators(data.device, 0)

    def step() -> None:
        optimizer.zero_grad()
        if recorded:
            captured(seed, data)
        else:
            objective(data)[0].backward()
        optimizer.step()

    return step


def run(config: RecordedBenchmark) -> dict[str, Any]:
    """Measure everything and return the report."""
    settle(1)
    device = torch.device(config.device)
    ways = [False, True] if device.type == "cuda" else [False]
    results = {}
    for name in config.models:
        steps = {
            f"{name}{', recorded' if recorded else ''}": make_step(*MODELS[name](config, device), recorded)
            for recorded in ways
        }
        timing = measure(steps, config.rounds, config.warmup, config.idle_timeout, device)
        results[name] = {
            "conditions": conditions(timing),
            "contenders": {each: timing_fields(timing, each, name) for each in steps},
        }
    options = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(config).items()}
    return {
        "benchmark": "recorded",
        "options": options,
        "machine": describe_machine(device),
        "results": results,
    }


def table(report: dict[str, Any]) -> str:
    """Show a report as Markdown."""
    rows = [
        [name, milliseconds(fields["wall_ms"]), f"{1 / fields['wall_ratio']['median']:.1f}"]
        if "wall_ratio" in fields
        else [name, milliseconds(fields["wall_ms"]), ""]
        for result in report["results"].values()
        for name, fields in result["contenders"].items()
    ]
    return markdown_table(["", "wall ms", "times as fast"], rows)


if __name__ == "__main__":
    run_benchmark("benchmarks.recorded", RecordedBenchmark, run, table)
