"""HART's frames per second in tracking and training, and what large frames cost.

    python -m benchmarks.hart --threads 1 --output hart.json

measures tracking, and forward, backward and fused Adam of `HARTObjective`, for glimpses of 28 x 28, without
and with evidence of the first glimpse, and of 56 x 56 samples; and one frame of a tracker, split into the
read and the rest, in frames from 128 x 128 to 1024 x 1024 pixels, around objects of one size and of one share
of the frame. There *whole read* is the same read by filters over all pixels, which is what `gaussian_read`
does on an accelerator. Frames are uint8 until they are read, and noise: what is in them makes no difference
to the cost. Validation of Pyro and of torch.distributions is off, as in training.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from whatwhere.inference.local_parameters import local_parameters
from whatwhere.inference.supervised import HARTObjective
from whatwhere.inference.training import keep_freed_memory, make_optimizer
from whatwhere.models import HART, HARTState, kitti_hart, small_hart
from whatwhere.models.components.attention import Size
from whatwhere.models.components.bounded_sizes import BoundedSizes
from whatwhere.models.components.camera_motion import CameraMotion
from whatwhere.models.components.gaussian_read import gaussian_filters, gaussian_read
from whatwhere.models.components.gaussian_windows import GaussianWindow
from whatwhere.models.components.glimpse_evidence import GlimpseEvidence

from .air import Contender, describe, settle
from .footprint import Step, count_operations, peak_memory, saved_bytes
from .harness import Measurement, measure, spread
from .machine import describe_machine
from .report import conditions, markdown_table, milliseconds, run_benchmark, timing_fields


def small_hart_with_evidence() -> HART:
    """The smallest of `MODELS` with all that tracking real video takes."""
    parts: dict[str, Any] = {
        "evidence": GlimpseEvidence(),
        "sizes": BoundedSizes(),
        "camera": CameraMotion(),
    }
    return small_hart((3, 100, 100), (28, 28), units="window", bounded=True, detached=True, **parts)


MODELS: dict[str, Callable[[], HART]] = {
    "small, 28 x 28": functools.partial(small_hart, (3, 100, 100), (28, 28)),
    "small, 28 x 28, evidence": small_hart_with_evidence,
    "small, 56 x 56": functools.partial(small_hart, (3, 100, 100), (56, 56)),
    "KITTI, 56 x 56": functools.partial(kitti_hart, (3, 187, 621)),
}
"""By name and glimpse, for frames of 100 x 100 and 187 x 621 pixels."""

LEARNING_RATE = 1e-5
OBJECT_SHARE = 0.25
"""Sides of objects, in those of the frame."""
OBJECT_PIXELS = 32
"""Sides of objects that are as large in frames of any size."""


@dataclass(frozen=True)
class HARTBenchmark:
    """Measure HART's frames per second, and what large frames cost."""

    threads: int = 1
    """Threads of PyTorch."""
    batches: tuple[int, ...] = (1, 16)
    """Videos that are tracked at once."""
    frames: int = 20
    """Frames of each of them."""
    training_batch: int = 16
    """Videos in a training step; 0 leaves training out."""
    training_frames: int = 10
    """Frames of each of them."""
    rounds: int = 12
    """Videos, or steps, of each contender that are timed."""
    warmup: int = 2
    """Of each before."""
    sides: tuple[int, ...] = (128, 256, 512, 1024)
    """Sides of the frames that are compared with each other."""
    side_batch: int = 1
    """Videos of such frames that are tracked at once."""
    side_rounds: int = 100
    """Frames of each size that are timed."""
    memory: bool = True
    """Also measure peak memory, each contender in a process of its own."""
    idle_timeout: float = 60.0
    """Longest wait, in seconds, for other processes to come to rest, before each comparison."""
    device: str = "cpu"
    """`cpu` or `cuda`."""
    output: Path | None = None
    """JSON file for the results."""


class Clips(NamedTuple):
    """Videos of noise, each with an object that stands still."""

    video: Tensor
    """`(B, T, C, H, W)`, uint8."""
    boxes: Tensor
    """`(B, T, 4)`, in pixels."""


def clips(batch: int, frames: int, shape: tuple[int, ...], extent: Size, device: torch.device) -> Clips:
    """Draw videos of a shape (channels, height, width), with objects of a height and width in them.

    They are always the same.
    """
    generator = torch.Generator().manual_seed(0)
    video = torch.randint(0, 256, (batch, frames, *shape), dtype=torch.uint8, generator=generator)
    sides = torch.tensor([extent[1], extent[0]], dtype=torch.float32)
    room = torch.tensor([shape[2], shape[1]]) - sides
    corners = room * torch.rand(batch, 2, generator=generator)
    boxes = torch.cat([corners, sides.expand(batch, 2)], dim=-1)
    return Clips(video.to(device), boxes.unsqueeze(1).expand(-1, frames, -1).to(device))


def shared_extent(shape: tuple[int, ...]) -> Size:
    """Height and width of objects that are a share of the frame."""
    return round(OBJECT_SHARE * shape[1]), round(OBJECT_SHARE * shape[2])


def make_model(name: str, device: torch.device) -> HART:
    """Make one of `MODELS`, always with the same parameters."""
    torch.manual_seed(0)
    return MODELS[name]().to(device)


def make_tracking(name: str, batch: int, frames: int, device: torch.device) -> Contender:
    """Make the tracking of a batch of videos, by a tracker in evaluation."""
    model = make_model(name, device).eval()
    video, boxes = clips(batch, frames, model.image_shape, shared_extent(model.image_shape), device)

    @torch.no_grad()
    def step() -> None:
        with local_parameters(model):
            nn.Module.__call__(model, video, boxes[:, 0])

    return Contender(step, [])


def make_training(name: str, batch: int, frames: int, device: torch.device) -> Contender:
    """Make a training step, on always the same videos."""
    model = make_model(name, device)
    objective = HARTObjective(model).to(device)
    video, boxes = clips(batch, frames, model.image_shape, shared_extent(model.image_shape), device)
    parameters: list[Tensor] = list(objective.parameters())
    optimizer = make_optimizer("adam", parameters, LEARNING_RATE)

    def step() -> None:
        optimizer.zero_grad()
        objective(video, boxes)[0].backward()
        optimizer.step()

    return Contender(step, [*parameters, video])


def read_whole(images: Tensor, window: GaussianWindow, size: Size) -> Tensor:
    """`gaussian_read` of windows `(B, 2)` of uint8 images, by filters over all of their pixels."""
    x, y = window.axes()
    rows = gaussian_filters(*y, size[0], images.shape[-2])
    columns = gaussian_filters(*x, size[1], images.shape[-1])
    return rows.unsqueeze(1) @ (images.to(rows.dtype) @ columns.mT.unsqueeze(1)) / 255


def make_frame(side: int, extent: int, batch: int, device: torch.device) -> dict[str, Step]:
    """Make what a tracker does in a frame: all of it, its read alone, and a read of all pixels.

    Args:
        side: of the frame, in pixels.
        extent: of the objects.
        batch: videos that are tracked at once.
        device: where.
    """
    torch.manual_seed(0)
    cell = small_hart((3, side, side), (28, 28)).to(device).eval().cell
    video, boxes = clips(batch, 2, cell.image_shape, (extent, extent), device)
    frame = video[:, 1]  # which is no contiguous memory
    with torch.no_grad():
        # No `cell.start`: memory that it takes and gives back would be missing in the peak of what follows.
        nothing = boxes.new_zeros(batch, cell.lstm.hidden_size)
        state = HARTState(cell.windows_around(boxes[:, 0]), nothing, cell.lstm.initial_state(nothing))

    def read(how: Callable[[Tensor, GaussianWindow, Size], Tensor]) -> Tensor:
        return how(frame, cell.window(state.attention), cell.glimpse_size)

    calls: dict[str, Step] = {
        "frame": functools.partial(cell, frame, state),
        "read": functools.partial(read, gaussian_read),
        "whole read": functools.partial(read, read_whole),
    }
    return {name: torch.no_grad()(call) for name, call in calls.items()}


def make_step(
    make: Callable[..., Contender], name: str, batch: int, frames: int, device: torch.device, threads: int
) -> Step:
    """Make tracking or training in a fresh process, for `peak_memory`."""
    settle(threads)
    return make(name, batch, frames, device).step


def make_frame_step(
    name: str, side: int, extent: int, batch: int, device: torch.device, threads: int
) -> Step:
    """Make one call of `make_frame` in a fresh process, for `peak_memory`."""
    settle(threads)
    return make_frame(side, extent, batch, device)[name]


def run(config: HARTBenchmark) -> dict[str, Any]:
    """Measure everything and return the report."""
    settle(config.threads)
    kept = keep_freed_memory()
    results: dict[str, Any] = {
        f"tracking, batch {batch}": compare_models(config, make_tracking, batch, config.frames)
        for batch in config.batches
    }
    if config.training_batch:
        results[f"training, batch {config.training_batch}"] = compare_models(
            config, make_training, config.training_batch, config.training_frames
        )
    if config.sides:
        results["frames"] = compare_frames(config)
    options = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(config).items()}
    machine = {**describe_machine(torch.device(config.device)), "freed_memory_kept": kept}
    return {"benchmark": "hart", "options": options, "machine": machine, "results": results}


def compare_models(
    config: HARTBenchmark, make: Callable[..., Contender], batch: int, frames: int
) -> dict[str, Any]:
    """Measure the models at one task."""
    device = torch.device(config.device)
    contenders = {name: make(name, batch, frames, device) for name in MODELS}
    measurement = measure(
        {name: contender.step for name, contender in contenders.items()},
        config.rounds,
        config.warmup,
        config.idle_timeout,
        device,
    )
    results = {}
    for name, contender in contenders.items():
        fields = timing_fields(measurement, name)
        for clock in ("wall", "cpu"):
            fields[f"frames_per_{clock}_second"] = 1e3 * batch * frames / fields[f"{clock}_ms"]["median"]
        if contender.parameters:
            fields["saved_bytes"] = saved_bytes(contender.step, contender.parameters)
        fields.update(count_operations(contender.step)._asdict())
        if config.memory:
            fresh = functools.partial(make_step, make, name, batch, frames, device, config.threads)
            fields["peak_bytes"] = peak_memory(fresh, device)
        results[name] = fields
    return {"conditions": conditions(measurement), "contenders": results}


def compare_frames(config: HARTBenchmark) -> dict[str, Any]:
    """Measure one frame of a tracker, by the size of the frame and that of the object, in one run."""
    device = torch.device(config.device)
    cases = {
        f"{side} x {side}, {kind}": (side, OBJECT_PIXELS if kind == "fixed" else round(OBJECT_SHARE * side))
        for kind in ("fixed", "share")
        for side in config.sides
    }
    made = {case: make_frame(*sizes, config.side_batch, device) for case, sizes in cases.items()}
    # The read of a large frame empties the caches for what comes next: another such, or one a little smaller.
    calls = {
        f"{case}: {name}": made[case][name]
        for name in ("whole read", "read", "frame")
        for case in reversed(cases)
    }
    measurement = measure(calls, config.side_rounds, config.warmup, config.idle_timeout, device)
    results: dict[str, Any] = {}
    for case, sizes in cases.items():
        fields = {
            name: timing_fields(measurement, f"{case}: {name}", baseline and f"{case}: {baseline}")
            for name, baseline in (("frame", None), ("read", None), ("whole read", "read"))
        }
        for name in fields if config.memory else ():
            fresh = functools.partial(
                make_frame_step, name, *sizes, config.side_batch, device, config.threads
            )
            fields[name]["peak_bytes"] = peak_memory(fresh, device)
        fields["rest"] = difference(measurement, f"{case}: frame", f"{case}: read")
        results[case] = {"object_pixels": sizes[1], **fields}
    return {"conditions": conditions(measurement), "contenders": results}


def difference(measurement: Measurement, whole: str, part: str) -> dict[str, Any]:
    """Times of one contender without those of another, round by round, in milliseconds, for a report."""
    fields = {}
    for clock in ("wall", "cpu"):
        pairs = zip(*(getattr(measurement.samples[name], clock) for name in (whole, part)), strict=True)
        times = spread([1e3 * (first - second) for first, second in pairs])
        fields[f"{clock}_ms"] = times._asdict()
    return fields


def table(report: Mapping[str, Any]) -> str:
    """Show tracking and training as Markdown."""
    header = ["", "frames/s", "frames/CPU s", "CPU ms", "wall ms", "peak MB", "saved MB", "kernels", "reads"]
    rows = []
    for task, result in report["results"].items():
        for name, fields in result["contenders"].items() if task != "frames" else ():
            cells = [f"{task}: {name}"]
            cells += [f"{fields[f'frames_per_{clock}_second']:.0f}" for clock in ("wall", "cpu")]
            cells += [milliseconds(fields["cpu_ms"]), milliseconds(fields["wall_ms"])]
            cells += [megabytes(fields, "peak_bytes"), megabytes(fields, "saved_bytes")]
            cells += [str(fields[key]) for key in ("kernels", "host_reads")]
            rows.append(cells)
    return markdown_table(header, rows)


def frames_table(report: Mapping[str, Any]) -> str:
    """Show the cost of one frame of a tracker by the frame's size, as Markdown, if it was measured."""
    if "frames" not in report["results"]:
        return ""
    header = ["frame, object", "its side", "CPU ms", "of the read", "of the rest", "of a whole read"]
    header += ["peak MB", "of the read", "of a whole read"]
    rows = []
    for case, fields in report["results"]["frames"]["contenders"].items():
        cells = [case, str(fields["object_pixels"])]
        cells += [milliseconds(fields[key]["cpu_ms"]) for key in ("frame", "read", "rest", "whole read")]
        cells += [megabytes(fields[key], "peak_bytes") for key in ("frame", "read", "whole read")]
        rows.append(cells)
    return markdown_table(header, rows)


def megabytes(fields: Mapping[str, Any], key: str) -> str:
    """Show a number of bytes, or nothing where it was not measured."""
    return f"{fields[key] / 1e6:.1f}" if key in fields else ""


if __name__ == "__main__":
    run_benchmark("benchmarks.hart", HARTBenchmark, run, describe, table, frames_table)
