"""How SQAIR is evaluated beside what needs no training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from whatwhere import checks
from whatwhere.examples.common.program import usage_errors
from whatwhere.examples.common.video_models import EvaluateConfig, VideoSource, batches_of, load_data
from whatwhere.examples.parts.sqair_config import SQAIRConfig
from whatwhere.inference.evaluation import ComponentsReport, chosen_components, evaluate_components

_CHOSEN_BY = 100
"""Training videos by which the threshold of connected components is chosen."""


@dataclass(frozen=True)
class SQAIREvaluateConfig(EvaluateConfig):
    """Evaluate a trained model on held-out videos."""

    iou: float = 0.5
    """Least intersection over union of a box and a true one that match; less where objects are of few pixels.
    """
    baselines: tuple[Literal["components"], ...] = ()
    """What needs no training, measured on the same videos: `components`, connected regions brighter than a
    threshold that is chosen on training videos, linked by overlap. Needs SciPy.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.literals(self)
        checks.within("(0, 1]", self, "iou")


def evaluate_baselines(
    options: SQAIREvaluateConfig, config: SQAIRConfig, data: VideoSource, frames: int
) -> dict[str, ComponentsReport]:
    """The baselines that are asked for, by name.

    Args:
        options: of the command.
        config: of the training run, by whose videos thresholds are chosen.
        data: the held-out videos.
        frames: of each.

    Raises:
        UsageError: if the training videos have no labels.
    """
    cpu = torch.device("cpu")
    reports: dict[str, ComponentsReport] = {}
    for name in dict.fromkeys(options.baselines):
        train = load_data(config.data, config.frames).train
        training = list(batches_of(train, min(_CHOSEN_BY, len(train)), config.frames, cpu))
        with usage_errors():
            components = chosen_components(training, options.iou)
        held_out = batches_of(data, min(options.videos, len(data)), frames, cpu)
        reports[name] = evaluate_components(components, held_out, options.iou)
    return reports


def print_baseline(name: str, report: ComponentsReport) -> None:
    """Its numbers, as those of the model."""
    print(f"{name:<17}threshold {report.threshold:g}, {report.least_area} pixels or more")
    if report.counting is not None:
        print(f"  count accuracy {report.counting.accuracy:.2%}")
    if report.visible_counting is not None:
        print(f"  ... of visible {report.visible_counting.accuracy:.2%}")
    if report.tracking is not None:
        tracking = report.tracking
        print(f"  MOTA, IDF1     {tracking.mota:.3f}, {tracking.idf1:.3f}; {tracking.switches} switches")
