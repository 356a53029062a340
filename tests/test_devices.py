"""Training steps on other devices than the CPU.

PyTorch's `meta` device has no data: it refuses tensors of another device and every read back to the host, so
that what passes there would neither fail nor wait on a GPU for these reasons. The active set, which has to
know how many rows there are, is the one exception; it is for CPUs. Where there is a GPU, it takes the same
steps, its driver told to refuse every wait for it, and gives the numbers that the CPU gives.
"""

import copy
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pyro
import pytest
import torch
from pyro import poutine
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from whatwhere.guides import hold_objects
from whatwhere.inference import objectives
from whatwhere.inference.objectives import (
    FIVO,
    IWAE,
    NVIL,
    OVIS,
    VIMCO,
    ImportanceWeighted,
    MarginalELBO,
    MultiSampleELBO,
    Reinforce,
    ReweightedWakeSleep,
    SQAIRSignal,
    TaughtELBO,
)
from whatwhere.inference.supervised import (
    GlanceObjective,
    GlimpseCloudsObjective,
    HARTObjective,
    LocalisationLoss,
    PixelLoss,
    ReadingObjective,
    SupervisedObjective,
    WeightDecay,
)
from whatwhere.models import RATM, kth_hart, small_glimpse_clouds, small_hart
from whatwhere.models.components import ConvClip, OverGlimpses, ScaledSimilarity, use_active_set
from whatwhere.models.components.feature_extractors import PixelFeatures
from whatwhere.models.components.recurrent import IRNN
from whatwhere.models.ratm import BoxStart, PaperWindows, ResidualAttention

DEVICES = ["meta", *(["cuda"] if torch.cuda.is_available() else [])]
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

FOR_ALL: dict[str, Callable[[], MultiSampleELBO]] = {
    "Reinforce": lambda: Reinforce(2),
    "Reinforce-iwae": lambda: Reinforce(2, bound="iwae"),
    "NVIL": lambda: NVIL(2),
    "VIMCO": lambda: VIMCO(2),
    "VIMCO-arithmetic": lambda: VIMCO(2, control="arithmetic"),
    "VIMCO-dreg": lambda: VIMCO(2, continuous="dreg"),
    "VIMCO-stl": lambda: VIMCO(2, continuous="stl"),
    "OVIS": lambda: OVIS(2),
    "OVIS-auxiliary": lambda: OVIS(2, auxiliary_particles=2),
    "SQAIRSignal": lambda: SQAIRSignal(2),
    "TaughtELBO": lambda: TaughtELBO(hold_objects, 2),
    "wake-sleep": lambda: ReweightedWakeSleep(2, sleep=0.5),
}
FOR_VIDEOS: dict[str, Callable[[], MultiSampleELBO]] = {
    "FIVO": lambda: FIVO(2),
    "FIVO-always": lambda: FIVO(2, resample="always"),
}
FOR_COUNTS: dict[str, Callable[[], MultiSampleELBO]] = {
    "MarginalELBO": lambda: MarginalELBO(num_particles=2),
    "MarginalELBO-iwae": lambda: MarginalELBO(num_particles=2, bound="iwae"),
}
FOR_CONTINUOUS: dict[str, Callable[[], MultiSampleELBO]] = {
    "IWAE": lambda: IWAE(2),
    "IWAE-dreg": lambda: IWAE(2, continuous="dreg"),
    "IWAE-stl": lambda: IWAE(2, continuous="stl"),
}
CASES = [
    *((name, each) for name in ("AIR", "AIR-evidence") for each in {**FOR_ALL, **FOR_COUNTS}),
    *(
        (name, each)
        for name in ("SQAIR", "SQAIR-hold", "SQAIR-evidence", "SQAIR-relational", "SQAIR-grid", "SequenceAIR")
        for each in {**FOR_ALL, **FOR_VIDEOS}
    ),
    *(("SQAIR-explaining", each) for each in ("VIMCO", "TaughtELBO")),
    *(("VRNN", each) for each in {**FOR_ALL, **FOR_VIDEOS, **FOR_CONTINUOUS}),
]
EVERY = {**FOR_ALL, **FOR_VIDEOS, **FOR_COUNTS, **FOR_CONTINUOUS}


class NothingFromTheHost(TorchFunctionMode):
    """Numbers of the host that become a tensor of the device are an error: a GPU would be waited for.

    So are draws of `torch.normal`, which reads whether scales are positive, and products over a dimension,
    whose backward pass reads whether a factor is 0. `constant` may, once for each.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.is_meta:
            name, caller = func.__name__, sys._getframe(1).f_code.co_filename
            moved = name == "to" and not args[0].is_meta
            made = name in ("tensor", "new_tensor", "as_tensor", "normal") and not caller.endswith(
                "constants.py"
            )
            chosen = name == "__getitem__" and any(
                isinstance(index, list) or (isinstance(index, Tensor) and not index.is_meta)
                for index in (args[1] if isinstance(args[1], tuple) else (args[1],))
            )
            multiplied = name == "prod" and result.requires_grad
            if moved or made or chosen or multiplied:
                raise RuntimeError(f"`{name}` takes numbers of the host in {caller}")
        return result


@contextmanager
def without_waiting(device: str) -> Iterator[None]:
    """Any wait of the host for the device is an error within."""
    if device == "meta":
        with NothingFromTheHost():
            yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def check_step(objective: nn.Module, device: str, *data: Tensor) -> None:
    """Loss and gradients are on the device, and nothing was read."""
    data = tuple(each.to(device) for each in data)
    objective.to(device)
    with pyro.validation_enabled(False):  # which reads values, and is off in training
        if device != "meta":
            objective(*data)  # makes constants, and what the driver makes once
        with without_waiting(device):
            loss, diagnostics = objective(*data)
            loss.backward()
    assert loss.device.type == device
    assert all(value.device.type == device for value in diagnostics)
    gradients = [parameter.grad for parameter in objective.parameters() if parameter.grad is not None]
    assert gradients
    assert all(gradient.device.type == device for gradient in gradients)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("name", "estimator"), CASES)
def test_a_training_step_of_a_generative_model(
    name: str, estimator: str, device: str, make_generative: Any
) -> None:
    pair = make_generative(name, dtype=torch.float32)
    check_step(EVERY[estimator]()(pair.model.train(), pair.guide.train()), device, pair.data)


def test_no_objective_is_forgotten():
    abstract = {MultiSampleELBO, ImportanceWeighted}
    offered = {
        each
        for each in vars(objectives).values()
        if inspect.isclass(each) and issubclass(each, MultiSampleELBO) and each not in abstract
    }
    assert offered == {type(make()) for make in EVERY.values()}


def test_the_active_set_is_the_exception(make_generative: Any):
    pair = make_generative("SQAIR", dtype=torch.float32)
    use_active_set(pair.model, pair.guide)
    objective = VIMCO(2)(pair.model, pair.guide).to("meta")
    with pyro.validation_enabled(False), pytest.raises((RuntimeError, NotImplementedError), match="nonzero"):
        objective(pair.data.to("meta"))


def labelled(channels: int, side: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Videos, boxes, labels and which frames exist."""
    boxes = torch.tensor([5.0, 6.0, 12.0, 11.0]).expand(2, 3, 4)
    return torch.rand(2, 3, channels, side, side), boxes, torch.zeros(2).long(), torch.ones(2, 3)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("units", ["frame", "window"])
@pytest.mark.parametrize("appearance", [True, False])
def test_a_training_step_of_hart(appearance: bool, units: Any, device: str):
    model = small_hart((3, 60, 60), appearance=appearance, hidden_size=12, units=units, bounded=True)
    losses = None if appearance else {"tracking": next(iter(HARTObjective(kth_hart()).losses.values()))}
    check_step(HARTObjective(model, losses), device, *labelled(3, 60))


@pytest.mark.parametrize("device", DEVICES)
def test_a_training_step_of_ratm(device: str):
    pixels = PixelFeatures((1, 8, 8))
    attention = ResidualAttention(10, PaperWindows((8, 8)), BoxStart())
    model = RATM((1, 40, 40), attention, pixels, IRNN(pixels.size, 10))
    losses = {"pixel": PixelLoss(), "localisation": LocalisationLoss()}
    objective = SupervisedObjective(model, losses, decay=WeightDecay(RATM.DECAYED))
    check_step(objective, device, *labelled(1, 40))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("stage", ["clouds", "released", "glance", "reading"])
def test_a_training_step_of_glimpse_clouds(stage: str, device: str):
    maps = ConvClip(1, (4, 8)) if stage == "released" else None
    model = small_glimpse_clouds(
        (1, 16, 16), 3, features=maps, crop_size=(6, 6), size=6, hidden=5, pose=(2, 4)
    )
    if stage == "released":
        model.assignment = OverGlimpses(2, 2, ScaledSimilarity(6))
    objective: nn.Module = GlanceObjective(model) if stage == "glance" else GlimpseCloudsObjective(model)
    joints, seen = torch.rand(2, 3, 2, 4, 2), torch.ones(2, 3, 2, dtype=torch.bool)
    data: tuple[Tensor, ...] = torch.rand(2, 3, 1, 16, 16), torch.zeros(2).long(), joints, seen
    if stage == "reading":
        objective = ReadingObjective(model, 6, 5)
        data = torch.rand(2, 1, 16, 16), torch.zeros(3, 2, 2), torch.zeros(3, 2).long()
    check_step(objective, device, *data)


@needs_gpu
@pytest.mark.parametrize("name", sorted({name for name, _ in CASES}))
def test_a_gpu_gives_the_densities_of_the_cpu(name: str, make_generative: Any):
    """Sites drawn on the CPU are scored on both: every `log_prob` of guide and model agrees."""
    pair = make_generative(name)
    model, guide = pair.model.eval(), pair.guide.eval()
    drawn = poutine.trace(guide).get_trace(pair.data)
    scores = []
    for device in ("cpu", "cuda"):
        moved = drawn.copy()
        for site in moved.nodes.values():
            if site["type"] == "sample":
                site["value"] = site["value"].to(device)
        data = pair.data.to(device)
        pair.model.to(device)
        pair.guide.to(device)
        of_guide = poutine.trace(poutine.replay(guide, trace=moved)).get_trace(data)
        of_model = poutine.trace(poutine.replay(model, trace=of_guide)).get_trace(data)
        for trace in (of_guide, of_model):
            trace.compute_log_prob()
        scores.append(
            {
                (kind, site): node["log_prob"].cpu()
                for kind, trace in (("guide", of_guide), ("model", of_model))
                for site, node in trace.nodes.items()
                if node["type"] == "sample"
            }
        )
    assert scores[0].keys() == scores[1].keys()
    for site, expected in scores[0].items():
        torch.testing.assert_close(
            scores[1][site], expected, rtol=1e-8, atol=1e-8, msg=lambda text, site=site: f"{site}: {text}"
        )


@needs_gpu
def test_a_gpu_gives_the_gradients_of_the_cpu():
    """HART in double precision: its loss and every gradient."""
    objective = HARTObjective(small_hart((3, 60, 60), hidden_size=12)).double().eval()
    data = tuple(each.double() for each in labelled(3, 60))
    on_gpu = copy.deepcopy(objective).cuda()
    for each, device in ((objective, "cpu"), (on_gpu, "cuda")):
        loss, _ = each(*(tensor.to(device) for tensor in data))
        loss.backward()
    for (name, parameter), other in zip(objective.named_parameters(), on_gpu.parameters(), strict=True):
        assert (parameter.grad is None) == (other.grad is None), name
        if parameter.grad is not None:
            torch.testing.assert_close(other.grad.cpu(), parameter.grad, rtol=1e-6, atol=1e-9)
