"""Two ways to read and to draw a window: `grid_sample`, and a product with separable matrices.

    python -m benchmarks.spatial_transformer --threads 1 --output spatial_transformer.json

The evidence for what `models.components.attention` uses: `crop` resamples with `grid_sample`, `paste`
multiplies with matrices. The sizes are those of AIR (64 images, glimpses of 28 x 28) and SQAIR (5 particles
of 32 images, glimpses of 20 x 20). Gradients of a crop go to the window alone, as in the models, where images
are data; those of a paste go to the glimpse too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from whatwhere.inference.training import keep_freed_memory
from whatwhere.models.components.attention import (
    Size,
    air_inverse_scale,
    crop,
    interpolation_matrix,
    paste,
)

from .footprint import saved_bytes
from .harness import measure
from .machine import describe_machine
from .report import conditions, run_benchmark, timing_fields
from .report import passes_table as table

IMAGE: Size = (50, 50)

Resample = Callable[[Tensor, Tensor, Size], Tensor]


def crop_separable(images: Tensor, coords: Tensor, size: Size) -> Tensor:
    """`attention.crop` as two products with interpolation matrices."""
    height, width = images.shape[-2:]
    s_x, s_y, t_x, t_y = coords.unsqueeze(-1).unbind(-2)
    xs = (s_x * _grid(size[1], coords) + t_x + 1) * ((width - 1) / 2)
    ys = (s_y * _grid(size[0], coords) + t_y + 1) * ((height - 1) / 2)
    rows = interpolation_matrix(ys, height)  # rows.shape = (..., B, h, H)
    columns = interpolation_matrix(xs, width)  # columns.shape = (..., B, w, W)
    return rows.unsqueeze(-3) @ images @ columns.unsqueeze(-3).transpose(-1, -2)


def paste_grid_sample(glimpses: Tensor, coords: Tensor, size: Size) -> Tensor:
    """`attention.paste` by `grid_sample`, with the window's inverse as the grid."""
    s_x, s_y, t_x, t_y = coords.reshape(-1, 4, 1).unbind(1)
    xs, ys = (_grid(size[1], coords) - t_x) / s_x, (_grid(size[0], coords) - t_y) / s_y
    grid = torch.stack(
        [xs.unsqueeze(1).expand(-1, size[0], -1), ys.unsqueeze(2).expand(-1, -1, size[1])], dim=-1
    )
    drawn = F.grid_sample(glimpses.flatten(0, -4), grid, padding_mode="zeros", align_corners=True)
    return drawn.reshape(*glimpses.shape[:-2], *size)


def _grid(length: int, like: Tensor) -> Tensor:
    return torch.linspace(-1, 1, length, device=like.device, dtype=like.dtype)


IMPLEMENTATIONS: dict[str, dict[str, Resample]] = {
    "crop": {"grid_sample": crop, "matrices": crop_separable},
    "paste": {"matrices": paste, "grid_sample": paste_grid_sample},
}
"""By direction; the first is the one that the library uses."""


class Sizes(NamedTuple):
    """Sizes of a model's spatial transformer."""

    particles: int
    images: int
    glimpse: Size


MODELS = {"AIR": Sizes(1, 64, (28, 28)), "SQAIR": Sizes(5, 32, (20, 20))}


@dataclass(frozen=True)
class SpatialTransformerBenchmark:
    """Measure ways to read and to draw windows of images."""

    threads: int = 1
    """Threads of PyTorch."""
    rounds: int = 100
    """Calls of each contender that are timed."""
    warmup: int = 10
    """Calls of each before."""
    idle_timeout: float = 60.0
    """Longest wait, in seconds, for other processes to come to rest, before each of the eight comparisons."""
    device: str = "cpu"
    """`cpu` or `cuda`."""
    output: Path | None = None
    """JSON file for the results."""


def windows(sizes: Sizes, device: torch.device) -> Tensor:
    """Coords `(K, B, 4)` of windows drawn from AIR's prior."""
    z_where = torch.tensor([3.0, 0.0, 0.0]) + torch.tensor([0.2, 1.0, 1.0]) * torch.randn(
        sizes.particles, sizes.images, 3
    )
    return air_inverse_scale(z_where).to(device)


def forward(resample: Resample, source: Tensor, coords: Tensor, size: Size) -> None:
    with torch.no_grad():
        resample(source, coords, size)


def forward_backward(resample: Resample, source: Tensor, coords: Tensor, size: Size) -> None:
    result = resample(source, coords, size)
    result.backward(torch.ones_like(result))
    source.grad = coords.grad = None


def compare(direction: str, model: str, config: SpatialTransformerBenchmark) -> dict[str, Any]:
    """Measure the implementations of one direction at the sizes of one model."""
    device, sizes = torch.device(config.device), MODELS[model]
    torch.manual_seed(0)
    coords = windows(sizes, device).requires_grad_()
    if direction == "crop":
        source, size = torch.rand(sizes.images, 1, *IMAGE, device=device), sizes.glimpse
    else:
        source = torch.rand(sizes.particles, sizes.images, 1, *sizes.glimpse, device=device).requires_grad_()
        size = IMAGE
    implementations = IMPLEMENTATIONS[direction]
    baseline, results = next(iter(implementations)), {}
    for name, passes in (("forward", forward), ("forward + backward", forward_backward)):
        calls = {
            key: functools.partial(passes, resample, source, coords, size)
            for key, resample in implementations.items()
        }
        measurement = measure(calls, config.rounds, config.warmup, config.idle_timeout, device)
        contenders = {key: timing_fields(measurement, key, baseline) for key in calls}
        if passes is forward_backward:
            for key, call in calls.items():
                contenders[key]["saved_bytes"] = saved_bytes(call, [source, coords])
        results[name] = {"conditions": conditions(measurement), "contenders": contenders}
    return results


def run(config: SpatialTransformerBenchmark) -> dict[str, Any]:
    """Measure everything and return the report."""
    torch.set_num_threads(config.threads)
    kept = keep_freed_memory()
    results = {
        f"{direction}, {model}": compare(direction, model, config)
        for direction in IMPLEMENTATIONS
        for model in MODELS
    }
    options = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(config).items()}
    machine = {**describe_machine(torch.device(config.device)), "freed_memory_kept": kept}
    return {"benchmark": "spatial_transformer", "options": options, "machine": machine, "results": results}


if __name__ == "__main__":
    run_benchmark("benchmarks.spatial_transformer", SpatialTransformerBenchmark, run, table)
