"""Training steps on PyTorch's `meta` device, which has no data.

It refuses tensors of another device and every read back to the host, so that what passes here would neither
fail nor wait on a GPU for these reasons. The active set, which has to know how many rows there are, is the
one exception; it is for CPUs.
"""

import inspect
from collections.abc import Callable
from typing import Any

import pyro
import pytest
import torch
from torch import Tensor, nn

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


def check_step(objective: nn.Module, *data: Tensor) -> None:
    """Loss and gradients are on the device, and nothing was read."""
    with pyro.validation_enabled(False):  # which reads values, and is off in training
        loss, diagnostics = objective(*data)
        loss.backward()
    assert loss.is_meta
    assert all(value.is_meta for value in diagnostics)
    gradients = [parameter.grad for parameter in objective.parameters() if parameter.grad is not None]
    assert gradients
    assert all(gradient.is_meta for gradient in gradients)


@pytest.mark.parametrize(("name", "estimator"), CASES)
def test_a_training_step_of_a_generative_model(name: str, estimator: str, make_generative: Any):
    pair = make_generative(name, dtype=torch.float32)
    objective = EVERY[estimator]()(pair.model.train(), pair.guide.train()).to("meta")
    check_step(objective, pair.data.to("meta"))


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


@pytest.mark.parametrize("units", ["frame", "window"])
@pytest.mark.parametrize("appearance", [True, False])
def test_a_training_step_of_hart(appearance: bool, units: Any):
    model = small_hart((3, 60, 60), appearance=appearance, hidden_size=12, units=units, bounded=True)
    losses = None if appearance else {"tracking": next(iter(HARTObjective(kth_hart()).losses.values()))}
    objective = HARTObjective(model, losses).to("meta")
    check_step(objective, *(each.to("meta") for each in labelled(3, 60)))


def test_a_training_step_of_ratm():
    pixels = PixelFeatures((1, 8, 8))
    attention = ResidualAttention(10, PaperWindows((8, 8)), BoxStart())
    model = RATM((1, 40, 40), attention, pixels, IRNN(pixels.size, 10))
    losses = {"pixel": PixelLoss(), "localisation": LocalisationLoss()}
    objective = SupervisedObjective(model, losses, decay=WeightDecay(RATM.DECAYED)).to("meta")
    check_step(objective, *(each.to("meta") for each in labelled(1, 40)))


@pytest.mark.parametrize("stage", ["clouds", "released", "glance", "reading"])
def test_a_training_step_of_glimpse_clouds(stage: str):
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
    check_step(objective.to("meta"), *(each.to("meta") for each in data))
