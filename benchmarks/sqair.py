"""SQAIR's training step through Pyro, against the same arithmetic in plain torch; and what memory it takes.

    python -m benchmarks.sqair --threads 1 --output sqair.json

measures forward, backward and fused Adam at the sizes of the authors' MLP-SQAIR, on videos of moving digits,
for `VIMCO`: before training, when slots are full, and with as few objects as there are after it; for
videos of several lengths; and the memory of evaluation. Validation of Pyro and of torch.distributions is off,
as in training.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import pyro
import torch
from torch import Tensor, nn

from whatwhere.datasets import MovingDigitsRecipe, moving_digit_videos
from whatwhere.examples.sqair import PRESETS, NetworkConfig, PriorConfig, Programs, build
from whatwhere.guides import Discovery, SQAIRGuide
from whatwhere.inference.evaluation import log_marginal
from whatwhere.inference.local_parameters import local_parameters
from whatwhere.inference.objectives import VIMCO
from whatwhere.inference.training import keep_freed_memory, make_optimizer
from whatwhere.models.components.active_set import use_active_set

from .air import Contender, describe, settle, table
from .footprint import Step, count_operations, peak_memory, saved_bytes
from .harness import Measurement, measure
from .machine import describe_machine
from .report import conditions, markdown_table, run_benchmark, timing_fields
from .sqair_reference import SQAIRReference

State = Literal["initial", "trained"]
Way = Literal["plain torch", "Pyro", "Pyro, active set"]
WAYS: tuple[Way, ...] = get_args(Way)

NETWORK = NetworkConfig(image_shape=(1, 50, 50))
TRACKED = replace(PRESETS["mnist-fast"].network, image_shape=(1, 50, 50))
"""Discovery that explains away and propagation that searches for pictures, those of preset `mnist-fast`."""
LEARNING_RATE = 1e-5

EVALUATION_PARTICLES = 1000
EVALUATION_VIDEOS = 4


@dataclass(frozen=True)
class SQAIRBenchmark:
    """Measure SQAIR's training step through Pyro against plain torch, and its memory."""

    threads: int = 1
    """Threads of PyTorch."""
    batch: int = 32
    """Videos in a step."""
    particles: int = 5
    """Particles of the objective."""
    frames: int = 10
    """Frames of each video."""
    rounds: int = 12
    """Steps of each contender that are timed."""
    warmup: int = 2
    """Steps of each before."""
    states: tuple[State, ...] = ("initial", "trained")
    """How many objects the guide finds: as before training, nearly 3; as after it, 1 on average."""
    lengths: tuple[int, ...] = (2, 5, 10)
    """Frames of the videos whose steps are compared with each other."""
    propagation: bool = True
    """Also compare propagation that has learned to follow with that which searches for pictures."""
    chunks: tuple[int, ...] = (10, 50, 250, 1000)
    """Chunk sizes with which the memory of `log_marginal` is measured, 1000 particles of 4 videos."""
    memory: bool = True
    """Also measure peak memory, each contender in a process of its own."""
    idle_timeout: float = 60.0
    """Longest wait, in seconds, for other processes to come to rest."""
    device: str = "cpu"
    """`cpu` or `cuda`."""
    output: Path | None = None
    """JSON file for the results."""


def moving_digits(batch: int, frames: int, device: torch.device) -> Tensor:
    """Videos `(B, T, 1, 50, 50)` of 0 to 2 digits, drawn from fonts."""
    data = moving_digit_videos(MovingDigitsRecipe(frames=frames), "train", batch, 0, source="glyphs")
    return data.batch(range(batch)).video.to(device)


class FirstFrameFeature(nn.Module):
    """An image encoder whose first feature says whether a frame is the first of its video.

    Args:
        encoder: maps videos `(B, T, C, H, W)` to features `(B, T, F)`.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, video: Tensor) -> Tensor:
        """Encode `(B, T, C, H, W)` to `(B, T, F)`."""
        features = self.encoder(video)
        first = torch.zeros_like(features[..., :1])
        first[:, 0] = 1
        return torch.cat([first, features[..., 1:]], dim=-1)


@torch.no_grad()
def find_one_object(guide: SQAIRGuide) -> None:
    """Give a guide the presences of a trained one, whatever the video.

    It discovers one object on average in the first frame, next to none later, and loses next to none. Each of
    three slots is found, if the one before was, with probability p, so their mean number is p + p^2 + p^3.
    """
    discovery = guide.discovery
    assert isinstance(discovery, Discovery)
    discovery.image_encoder = FirstFrameFeature(discovery.image_encoder)
    rnn = discovery.rnn
    for layer in (rnn.from_early, rnn.from_late, rnn.from_hidden):
        layer.weight[0] = 0  # unit 0 is one in the first frame, and zero later
    rnn.from_early.weight[0, 0] = 10
    for parameter in discovery.presence_head.parameters():
        parameter.zero_()
    weight, _, last_weight, last_bias = discovery.presence_head.parameters()
    p = 0.543689
    first, later = math.log(p / (1 - p)), -10.0
    weight[0, 0] = 1
    last_weight[0, 0] = first - later
    last_bias.fill_(later)
    *_, last_weight, last_bias = guide.propagation.presence_head.parameters()
    last_weight.zero_()
    last_bias.fill_(8.0)


def make_programs(state: State, video: Tensor, tracked: bool = False) -> Programs:
    """Make model and guide; those of a state always have the same parameters."""
    torch.manual_seed(0)
    network, prior = (TRACKED, PRESETS["mnist-fast"].prior) if tracked else (NETWORK, PriorConfig())
    programs = build(network, prior, video.mean((0, 1)).cpu())
    if state == "trained":
        find_one_object(programs.guide)
    for program in programs:
        program.to(video.device)
    return programs


def make_contender(state: State, way: Way, video: Tensor, particles: int) -> Contender:
    """Make one way to train SQAIR."""
    model, guide = make_programs(state, video)
    objective = VIMCO(particles, reduction="mean")(model, guide)
    reference = SQAIRReference(model, guide, particles)
    parameters: list[Tensor] = list(objective.parameters())
    optimizer = make_optimizer("adam", parameters, LEARNING_RATE)
    use_active_set(model, guide, on=way == "Pyro, active set")

    def step() -> None:
        optimizer.zero_grad()
        loss = reference(video) if way == "plain torch" else objective(video)[0]
        loss.backward()
        optimizer.step()

    return Contender(step, parameters)


def make_follower(tracked: bool, active: bool, video: Tensor, particles: int) -> Contender:
    """Make the training step of one kind of propagation, with as few objects as after training."""
    programs = make_programs("trained", video, tracked)
    objective = VIMCO(particles, reduction="mean")(*programs)
    parameters: list[Tensor] = list(objective.parameters())
    optimizer = make_optimizer("adam", parameters, LEARNING_RATE)
    use_active_set(*programs, on=active)

    def step() -> None:
        optimizer.zero_grad()
        objective(video)[0].backward()
        optimizer.step()

    return Contender(step, parameters)


def make_follower_step(tracked: bool, active: bool, video: Tensor, particles: int, threads: int) -> Step:
    """Make that step in a fresh process, for `peak_memory`."""
    settle(threads)
    return make_follower(tracked, active, video, particles).step


def make_step(state: State, way: Way, video: Tensor, particles: int, threads: int) -> Step:
    """Make a step in a fresh process, for `peak_memory`."""
    settle(threads)
    return make_contender(state, way, video, particles).step


def make_evaluation(video: Tensor, chunk_size: int, threads: int) -> Step:
    """Make an evaluation in a fresh process, for `peak_memory`."""
    settle(threads)
    programs = make_programs("initial", video)
    return functools.partial(
        log_marginal, *programs, video, num_particles=EVALUATION_PARTICLES, chunk_size=chunk_size
    )


@torch.no_grad()
def mean_objects(guide: SQAIRGuide, video: Tensor, particles: int = 50) -> list[float]:
    """Number of objects that a guide finds in each frame, on average."""
    with local_parameters(guide), pyro.plate("particles", particles, dim=-2):
        return [slots.z_pres.sum(-1).mean().item() for slots in guide(video)]


def run(config: SQAIRBenchmark) -> dict[str, Any]:
    """Measure everything and return the report."""
    settle(config.threads)
    kept = keep_freed_memory()
    device = torch.device(config.device)
    videos = moving_digits(config.batch, max(config.frames, *config.lengths, 0), device)
    video = videos[:, : config.frames]
    results: dict[str, Any] = {state: compare_ways(config, state, video) for state in config.states}
    if config.lengths:
        results["lengths"] = compare_lengths(config, videos)
    if config.propagation:
        results["propagation"] = compare_propagation(config, video)
    evaluation = {}
    for chunk_size in config.chunks if config.memory else ():
        make = functools.partial(make_evaluation, video[:EVALUATION_VIDEOS], chunk_size, config.threads)
        evaluation[str(chunk_size)] = {"peak_bytes": peak_memory(make, device, calls=1)}
    options = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(config).items()}
    return {
        "benchmark": "sqair",
        "options": options,
        "machine": {**describe_machine(device), "freed_memory_kept": kept},
        "results": results,
        "evaluation": evaluation,
    }


def compare_ways(config: SQAIRBenchmark, state: State, video: Tensor) -> dict[str, Any]:
    """Measure plain torch against Pyro."""
    contenders = {way: make_contender(state, way, video, config.particles) for way in WAYS}
    measurement = measure_steps(config, contenders)
    fields = {way: contender_fields(way, contenders[way], measurement, "plain torch") for way in WAYS}
    for way in WAYS if config.memory else ():
        make = functools.partial(make_step, state, way, video, config.particles, config.threads)
        fields[way]["peak_bytes"] = peak_memory(make, video.device)
    return {
        "conditions": conditions(measurement),
        "mean_objects": mean_objects(make_programs(state, video).guide, video),
        "contenders": fields,
    }


def compare_lengths(config: SQAIRBenchmark, video: Tensor) -> dict[str, Any]:
    """Measure steps of videos of several lengths, in one run."""
    ways: list[Way] = ["plain torch", "Pyro"]
    contenders = {
        f"T = {frames}, {way}": make_contender("initial", way, video[:, :frames], config.particles)
        for frames in config.lengths
        for way in ways
    }
    measurement = measure_steps(config, contenders)
    fields = {
        name: contender_fields(name, contender, measurement, name.split(",")[0] + ", plain torch")
        for name, contender in contenders.items()
    }
    return {"conditions": conditions(measurement), "contenders": fields}


def compare_propagation(config: SQAIRBenchmark, video: Tensor) -> dict[str, Any]:
    """Measure propagation that searches for pictures against that which has learned to follow."""
    kinds = {
        f"{kind}{suffix}": (kind == "tracked", active)
        for active, suffix in ((True, ", active set"), (False, ""))
        for kind in ("learned", "tracked")
    }
    contenders = {name: make_follower(*kind, video, config.particles) for name, kind in kinds.items()}
    measurement = measure_steps(config, contenders)
    fields = {}
    for name, contender in contenders.items():
        fields[name] = contender_fields(name, contender, measurement, "learned, active set")
        if config.memory:
            make = functools.partial(
                make_follower_step, *kinds[name], video, config.particles, config.threads
            )
            fields[name]["peak_bytes"] = peak_memory(make, video.device)
    return {"conditions": conditions(measurement), "contenders": fields}


def measure_steps(config: SQAIRBenchmark, contenders: Mapping[Any, Contender]) -> Measurement:
    """Time contenders against each other."""
    return measure(
        {name: contender.step for name, contender in contenders.items()},
        config.rounds,
        config.warmup,
        config.idle_timeout,
        torch.device(config.device),
    )


def contender_fields(
    name: str, contender: Contender, measurement: Measurement, baseline: str
) -> dict[str, Any]:
    """What the report says about one contender."""
    fields = timing_fields(measurement, name, baseline)
    fields["saved_bytes"] = saved_bytes(contender.step, contender.parameters)
    fields.update(count_operations(contender.step)._asdict())
    return fields


def notes(report: dict[str, Any]) -> str:
    """Say how many objects there were, and show the memory of evaluation."""
    lines = []
    for state, result in report["results"].items():
        if "mean_objects" in result:
            first, *_, last = [format(mean, ".2f") for mean in result["mean_objects"]]
            lines.append(f"{state}: {first} objects found in the first frame, {last} in the last")
    rows = [[f"{size}", f"{fields['peak_bytes'] / 1e6:.1f}"] for size, fields in report["evaluation"].items()]
    if rows:
        lines += ["", markdown_table(["chunk size of `log_marginal`", "peak MB"], rows)]
    return "\n".join(lines)


if __name__ == "__main__":
    run_benchmark("benchmarks.sqair", SQAIRBenchmark, run, describe, table, notes)
