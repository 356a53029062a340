"""Ways to read a glimpse: products with separable Gaussian filters, dense ones, and `grid_sample`.

    python -m benchmarks.gaussian_read --threads 1 --output gaussian_read.json

The evidence for `models.components.gaussian_read`, at the sizes of one frame of a batch in RATM (balls,
digits, KTH) and HART (KITTI, in colour). Frames of KTH and KITTI are uint8, as they are stored; *floats
first* converts them before the read, so that autograd keeps the converted frames. *Dense* multiplies a frame
with one weight per pixel and sample, the outer products of the filters, and is measured only where these fit
into memory: for a frame of KITTI they are 1.5 GB. `grid_sample` reads the same grid by bilinear
interpolation: four pixels a sample, however far apart the samples are. Gradients go to the window alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from whatwhere.inference.training import keep_freed_memory
from whatwhere.models.components.attention import Size, crop
from whatwhere.models.components.gaussian_read import gaussian_filters, gaussian_read
from whatwhere.models.components.gaussian_windows import GaussianWindow, boxes_to_window, smooth_knee_sigma

from .footprint import saved_bytes
from .harness import measure
from .machine import describe_machine
from .report import conditions, run_benchmark, timing_fields
from .report import passes_table as table

Read = Callable[[Tensor, GaussianWindow, Size], Tensor]


def as_floats(images: Tensor) -> Tensor:
    return images if images.is_floating_point() else images.float() / 255


def read_floats(images: Tensor, window: GaussianWindow, size: Size) -> Tensor:
    """`gaussian_read` of frames that are converted before."""
    return gaussian_read(as_floats(images), window, size)


def read_dense(images: Tensor, window: GaussianWindow, size: Size) -> Tensor:
    """`gaussian_read` of windows `(B, 2)` with a weight for every pixel of every sample."""
    x, y = window.axes()
    rows = gaussian_filters(*y, size[0], images.shape[-2])
    columns = gaussian_filters(*x, size[1], images.shape[-1])
    weights = rows[:, :, None, :, None] * columns[:, None, :, None, :]  # weights.shape = (B, h, w, H, W)
    read = as_floats(images).flatten(2) @ weights.flatten(3).flatten(1, 2).mT
    return read.unflatten(-1, size)


def read_bilinear(images: Tensor, window: GaussianWindow, size: Size) -> Tensor:
    """Bilinear interpolation at the same positions, by `grid_sample`."""
    spans = window.centre.new_tensor([images.shape[-1] - 1, images.shape[-2] - 1])
    gaps = window.centre.new_tensor([size[1] - 1, size[0] - 1])
    coords = torch.cat([window.stride * gaps / spans, 2 * window.centre / spans - 1], dim=-1)
    return crop(as_floats(images), coords, size)


IMPLEMENTATIONS: dict[str, Read] = {
    "separable": gaussian_read,
    "floats first": read_floats,
    "dense": read_dense,
    "grid_sample": read_bilinear,
}
"""The first is the one that the library uses."""


class Sizes(NamedTuple):
    """Sizes of a model's read of one frame."""

    images: int
    channels: int
    image: Size
    glimpse: Size
    stored: torch.dtype

    def implementations(self) -> dict[str, Read]:
        """Those that make a difference and fit into memory."""
        absent = set()
        if self.stored.is_floating_point:
            absent.add("floats first")
        if self.images * torch.Size((*self.image, *self.glimpse)).numel() > MOST_WEIGHTS:
            absent.add("dense")
        return {name: read for name, read in IMPLEMENTATIONS.items() if name not in absent}


MOST_WEIGHTS = 2**25
"""Dense weights that are multiplied at most: 134 MB, and their gradients as much."""

MODELS = {
    "RATM, balls": Sizes(16, 1, (20, 20), (5, 5), torch.float32),
    "RATM, digits": Sizes(32, 1, (100, 100), (28, 28), torch.float32),
    "RATM, KTH": Sizes(16, 1, (120, 160), (28, 28), torch.uint8),
    "RATM, 2 videos of KTH": Sizes(2, 1, (120, 160), (28, 28), torch.uint8),
    "HART, KITTI": Sizes(10, 3, (187, 621), (56, 56), torch.uint8),
}


@dataclass(frozen=True)
class GaussianReadBenchmark:
    """Measure ways to read glimpses of images."""

    threads: int = 1
    """Threads of PyTorch."""
    rounds: int = 100
    """Calls of each contender that are timed."""
    warmup: int = 10
    """Calls of each before."""
    idle_timeout: float = 60.0
    """Longest wait, in seconds, for other processes to come to rest, before each of the ten comparisons."""
    device: str = "cpu"
    """`cpu` or `cuda`."""
    output: Path | None = None
    """JSON file for the results."""


def frames(sizes: Sizes, device: torch.device) -> Tensor:
    """Random frames, stored as the model's data are."""
    grey = torch.randint(0, 256, (sizes.images, sizes.channels, *sizes.image), dtype=torch.uint8)
    return (as_floats(grey) if sizes.stored.is_floating_point else grey).to(device)


def windows(sizes: Sizes, device: torch.device) -> GaussianWindow:
    """Windows over boxes inside the image, with sides of a fifth to three fifths of the image's."""
    image = torch.tensor([sizes.image[1], sizes.image[0]])
    extent = image * (0.2 + 0.4 * torch.rand(sizes.images, 2))
    corner = (image - extent) * torch.rand(sizes.images, 2)
    window = boxes_to_window(torch.cat([corner, extent], dim=-1), sizes.glimpse, smooth_knee_sigma)
    return GaussianWindow(*(field.to(device).requires_grad_() for field in window))


def forward(read: Read, images: Tensor, window: GaussianWindow, size: Size) -> None:
    with torch.no_grad():
        read(images, window, size)


def forward_backward(read: Read, images: Tensor, window: GaussianWindow, size: Size) -> None:
    glimpses = read(images, window, size)
    glimpses.backward(torch.ones_like(glimpses))
    for field in window:
        field.grad = None


def compare(model: str, config: GaussianReadBenchmark) -> dict[str, Any]:
    """Measure the implementations at the sizes of one model."""
    device, sizes = torch.device(config.device), MODELS[model]
    torch.manual_seed(0)
    images, window = frames(sizes, device), windows(sizes, device)
    baseline, results = next(iter(IMPLEMENTATIONS)), {}
    for name, passes in (("forward", forward), ("forward + backward", forward_backward)):
        calls = {
            key: functools.partial(passes, read, images, window, sizes.glimpse)
            for key, read in sizes.implementations().items()
        }
        measurement = measure(calls, config.rounds, config.warmup, config.idle_timeout, device)
        contenders = {key: timing_fields(measurement, key, baseline) for key in calls}
        if passes is forward_backward:
            for key, call in calls.items():
                contenders[key]["saved_bytes"] = saved_bytes(call, [images, *window])
        results[name] = {"conditions": conditions(measurement), "contenders": contenders}
    return results


def run(config: GaussianReadBenchmark) -> dict[str, Any]:
    """Measure everything and return the report."""
    torch.set_num_threads(config.threads)
    kept = keep_freed_memory()
    results = {model: compare(model, config) for model in MODELS}
    options = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(config).items()}
    machine = {**describe_machine(torch.device(config.device)), "freed_memory_kept": kept}
    return {"benchmark": "gaussian_read", "options": options, "machine": machine, "results": results}


if __name__ == "__main__":
    run_benchmark("benchmarks.gaussian_read", GaussianReadBenchmark, run, table)
