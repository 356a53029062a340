"""How far off objects are that a model predicts frames ahead, by the means of what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from ...checks import at_least
from ...models.components.boxes import middles
from ...models.components.slots import TrackedSlots
from ..local_parameters import local_parameters
from .continuation import exists, future_boxes
from .tracking_metrics import import_scipy
from .videos import Program, Videos

__all__ = ["Means", "PredictionReport", "evaluate_prediction", "predict"]

SUMMED = 10
"""Frames over which the published number is summed."""


@dataclass(frozen=True)
class PredictionReport:
    """Mean Euclidean distances of the centres of objects, in sides of the frame."""

    given: int
    """Frames that were seen."""
    distance: tuple[float, ...]
    """In each of the frames after these; NaN where the model has kept no object."""
    stay: tuple[float, ...]
    """Of who says that objects stay where they were in the last frame seen; of the same objects."""
    paired: float
    """Share of the true objects, of the last frame seen and the next, that have a partner in the first
    predicted frame; the others do not count.
    """
    kept: float
    """Share of these that the model still has in the last frame, if they are there. While they are not, or it
    has them no more, they do not count.
    """
    summed: float
    """Sum of `distance` over the first ten frames."""


class Means(Messenger):
    """Within it nothing is drawn: what is more likely than not is present, and all else has its mean.

    What is given or conditioned on stays as it is, and so do images `x/t`.
    """

    def _pyro_sample(self, msg: Any) -> None:
        given = msg["value"] is not None or msg["is_observed"] or site_is_subsample(msg)
        if given or msg["name"].startswith("x/"):
            return
        law = msg["fn"]
        while isinstance(law, dist.Independent | dist.MaskedDistribution):
            law = law.base_dist
        msg["value"] = (law.mean > 0.5).to(law.mean) if isinstance(law, dist.Bernoulli) else law.mean


@torch.no_grad()
def predict(model: Any, guide: Program, video: Tensor, given: int, later: int) -> list[Any]:
    """Follow objects for some frames, and let the model predict the next ones by its means.

    Args:
        model: as `models.SQAIR`, with `generate`.
        guide: as `guides.SQAIRGuide`, of which one posterior sample is drawn.
        video: `(B, T, C, H, W)`.
        given: frames that the guide sees.
        later: frames to predict, in which nothing is discovered.

    Returns:
        The `given + later` frames, as `models.sqair.Frame`.
    """
    with local_parameters(model, guide):
        trace = poutine.trace(guide).get_trace(video[:, :given])
        with Means():
            frames: list[Any] = model.generate(len(video), given + later, trace, discover=False)
    return frames


def evaluate_prediction(
    model: Any,
    guide: Program,
    data: Iterable[Videos],
    given: int,
    later: int,
    find_boxes: Callable[[TrackedSlots], Tensor],
) -> PredictionReport:
    """Let the model predict, see `predict`, and measure how far off it is.

    True and predicted objects are paired once, in the first predicted frame, such that the sum of squared
    distances of their centres is least.

    Source: Lin et al. (2020), Improving Generative Imagination in Object-Centric World Models, and its code:
    10 frames given, 90 predicted, of which the first ten are summed.

    Args:
        model: as of `predict`.
        guide: as of `predict`.
        data: batches of videos with boxes of whole objects, of at least `given + later` frames; a box without
            a width, or that is not a number, says that there is no object.
        given: frames that the guide sees.
        later: frames to predict.
        find_boxes: boxes of whole objects, those out of sight included, `model.decoder.whole_boxes`.

    Raises:
        MissingPackageError: if SciPy is not installed.
        ValueError: if there are no videos, they are too short or have no boxes, or a number is too small.
    """
    at_least(1, given=given, later=later)
    import_scipy("optimize")
    distances, stays, heres, theres, objects = [], [], [], [], 0
    for batch in data:
        boxes = future_boxes(batch, given + later)
        side = boxes.new_tensor([batch.video.shape[-1], batch.video.shape[-2]])
        frames = predict(model, guide, batch.video, given, later)
        slots = [frame.slots for frame in frames[given - 1 :]]
        centres = torch.stack([middles(find_boxes(each)) for each in slots[1:]], 1).to(boxes) / side
        true = middles(boxes[:, given - 1 : given + later]) / side
        there = torch.stack([exists(boxes, t) for t in range(given - 1, given + later)], 1)
        true, present = true.where(there.unsqueeze(-1), 0.0), there[:, :2].all(1)
        objects += int(present.sum())
        video, slot, row = _paired(centres[:, 0], slots[1].z_pres > 0, true[:, 1], present)
        names = slots[1].identity[video, slot]
        at, here = _of_identity(slots[1:], centres, video, names)
        truth = true[video, :, row]
        distances.append((at - truth[:, 1:]).norm(dim=-1))
        stays.append((truth[:, :1] - truth[:, 1:]).norm(dim=-1))
        heres.append(here)
        theres.append(there[video, 1:, row])
    if not distances:
        raise ValueError("`data` has no videos.")
    here, there = torch.cat(heres), torch.cat(theres).to(heres[0].device)
    counted = here & there
    means, stay = (
        (torch.cat(parts).double() * counted).sum(0) / counted.sum(0) for parts in (distances, stays)
    )
    return PredictionReport(
        given,
        tuple(means.tolist()),
        tuple(stay.tolist()),
        len(here) / max(objects, 1),
        float(here[there[:, -1], -1].double().mean()),
        float(means[:SUMMED].sum()),
    )


def _paired(found: Tensor, said: Tensor, true: Tensor, present: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Video, slot and true object of each pair, `(M,)`.

    Args:
        found: centres `(B, N, 2)`.
        said: where there are any, `(B, N)`.
        true: centres `(B, G, 2)`.
        present: where there are any, `(B, G)`.
    """
    assign = import_scipy("optimize").linear_sum_assignment
    rows: list[tuple[int, int, int]] = []
    for video in range(len(found)):
        mine, theirs = said[video].nonzero().squeeze(-1), present[video].nonzero().squeeze(-1)
        squares = torch.cdist(found[video, mine], true[video, theirs]).square()
        for i, j in zip(*assign(squares.cpu().numpy()), strict=True):
            rows.append((video, int(mine[i]), int(theirs[j])))
    pairs = torch.tensor(rows, device=found.device, dtype=torch.long).reshape(-1, 3)
    return pairs[:, 0], pairs[:, 1], pairs[:, 2]


def _of_identity(
    slots: list[TrackedSlots], centres: Tensor, video: Tensor, names: Tensor
) -> tuple[Tensor, Tensor]:
    """Centres `(M, T, 2)` of objects by identity, and whether they are there, `(M, T)`."""
    same = torch.stack([each.identity[video] == names[:, None] for each in slots], 1)  # (M, T, N)
    index = same.int().argmax(-1)[..., None, None].expand(-1, -1, 1, 2)
    return centres[video].gather(-2, index).squeeze(-2), same.any(-1)
