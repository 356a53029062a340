"""Connected components linked by overlap, measured as a model is: to compare one with, without training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch

from .connected_components import ConnectedComponents
from .metrics import CountReport, count_report
from .report_file import json_ready
from .tracking_metrics import TrackingCounts, TrackingReport, tracking_counts
from .videos import Videos, true_tracks

__all__ = ["THRESHOLDS", "ComponentsReport", "chosen_components", "evaluate_components"]

THRESHOLDS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7)
"""Grey values from which a pixel may belong to an object."""
_LEAST_AREAS = (1, 4, 16)


@dataclass(frozen=True, kw_only=True)
class ComponentsReport:
    """Held-out numbers of `ConnectedComponents`, beside those of a `VideoReport`."""

    threshold: float
    """Of the brightness of a pixel."""
    least_area: int
    """Pixels of an object."""
    counting: CountReport | None
    """Against the number of objects."""
    visible_counting: CountReport | None
    """Against the number of objects of which something is to be seen."""
    tracking: TrackingReport | None
    """Of their boxes and identities."""
    iou_threshold: float
    """The least intersection over union of a match of `tracking`."""

    def numbers(self) -> dict[str, Any]:
        """The report as nested primitives, for JSON; what is not finite becomes None."""
        numbers: dict[str, Any] = json_ready(self)
        return numbers


def evaluate_components(
    components: ConnectedComponents, data: Iterable[Videos], iou_threshold: float = 0.5
) -> ComponentsReport:
    """Find and follow objects as connected components, and compare with the truth.

    Args:
        components: finds them.
        data: batches of videos with the same labels.
        iou_threshold: see `ComponentsReport.iou_threshold`.

    Raises:
        MissingPackageError: if SciPy is not installed.
        ValueError: if there are no videos.
    """
    counts: list[torch.Tensor] = []
    true: dict[str, list[torch.Tensor]] = {"counts": [], "visible_counts": []}
    tracking: list[TrackingCounts] = []
    for batch in data:
        found = components(batch.video).tracks
        counts.append(found.present.sum(-1).flatten())
        for name, parts in true.items():
            if (values := getattr(batch, name)) is not None:
                parts.append(values.flatten().cpu())
        if batch.boxes is not None:
            tracking.append(tracking_counts(found, true_tracks(batch.boxes, batch), iou_threshold))
    if not counts:
        raise ValueError("`data` has no videos.")
    judged = {
        name: count_report(torch.cat(counts), torch.cat(parts), 0) if parts else None
        for name, parts in true.items()
    }
    return ComponentsReport(
        threshold=components.threshold,
        least_area=components.least_area,
        counting=judged["counts"],
        visible_counting=judged["visible_counts"],
        tracking=sum(tracking, TrackingCounts()).report() if tracking else None,
        iou_threshold=iou_threshold,
    )


def chosen_components(training: Sequence[Videos], iou_threshold: float = 0.5) -> ConnectedComponents:
    """The threshold and the least area that are best on training videos: which decide how good they are.

    Best is the greatest MOTA, or where videos have no boxes, the most counts that are right.

    Args:
        training: some videos that are trained on, with labels.
        iou_threshold: of a match.

    Raises:
        ValueError: if they have neither boxes nor counts.
    """
    best, highest = None, -float("inf")
    for threshold, area in product(THRESHOLDS, _LEAST_AREAS):
        components = ConnectedComponents(threshold, area)
        report = evaluate_components(components, training, iou_threshold)
        counting = report.visible_counting or report.counting
        if report.tracking is None and counting is None:
            raise ValueError("`training` has neither boxes nor counts, by which a threshold could be chosen.")
        score = report.tracking.mota if report.tracking is not None else counting.accuracy  # type: ignore[union-attr]
        if best is None or score > highest:
            best, highest = components, score
    assert best is not None
    return best
