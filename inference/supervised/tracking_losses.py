r"""Losses for trackers with attention, as HART's: where the object is, and where one looks for it.

Each loss says how wrong a tracker is in every frame, `(B, T)`, of which only frames in which the object is
present count. `HARTObjective` adds them up with weights that are learned:

$$ L = \sum_i (\lambda_i L_i - \log \lambda_i) + L_2 $$

Given L_i, the best weight is `lambda_i = 1 / L_i`: it makes losses comparable whatever their units (Kendall,
Gal & Cipolla, *Multi-Task Learning Using Uncertainty to Weigh Losses*, 2018).

Source: Kosiorek, Bewley & Posner, *Hierarchical Attentive Recurrent Tracking*, 2017, section 4. There the
logarithm has the other sign, under which all weights go to 0; the authors' program has it as here.
"""

from __future__ import annotations

import math
from collections import namedtuple
from collections.abc import Mapping
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ... import checks
from ...models.components.boxes import areas, cell_coverage, generalized_iou, intersection_areas, iou
from ..local_parameters import local_parameters
from .objective import FrameLoss, Tracks, Truth, WeightDecay, counted_frames, video_means

__all__ = [
    "AdaptiveWeights",
    "AttentiveTracks",
    "GeneralizedOverlapLoss",
    "HARTObjective",
    "HARTVariant",
    "MaskLoss",
    "OverlapLoss",
    "WindowLoss",
    "hart_losses",
    "negative_log",
    "time_means",
]

HARTVariant = Literal["spatial", "appearance", "full"]
"""Rows of the paper's table 1, see `hart_losses`."""

_OWN_DIAGNOSTICS = ("loss", "iou", "last_iou", "coverage", "decay")
_LOG_WEIGHT_LIMIT = math.log(1e3)
_NEGLIGIBLE = 1e-4
"""Share of a cell below which it does not count as covered: rounding leaves slivers at common borders."""


class AttentiveTracks(Tracks, Protocol):
    """What a tracker with attention returns, as far as losses look at it: `models.HARTTracks` for one."""

    @property
    def attention(self) -> Tensor:
        """Boxes of the windows that were read, `(B, T, 4)`, with an area, in pixels."""

    @property
    def mask_logits(self) -> Tensor | None:
        """Of places in the window being the object's, `(B, T, r, c)`."""

    @property
    def filters(self) -> Tensor | None:
        """All dynamic filters, `(B, T, F)`."""


def negative_log(share: Tensor, floor: float = 1e-8) -> Tensor:
    """`-log(share)`, at most `-log(floor)`; without a gradient there.

    Args:
        share: of any sign.
        floor: positive. The gradient is at most `1 / floor`.
    """
    return -share.clamp(min=floor).log()


class OverlapLoss(FrameLoss):
    """`-log IoU` of predicted and true box: at most 18.4, and without a gradient where they do not overlap.

    Args:
        floor: see `negative_log`.
    """

    def __init__(self, floor: float = 1e-8) -> None:
        super().__init__()
        checks.within("(0, 1)", floor=floor)
        self.floor = floor

    def forward(self, tracks: Tracks, truth: Truth) -> Tensor:
        """The loss `(B, T)` of each frame."""
        return negative_log(iou(tracks.boxes, truth.boxes), self.floor)


class GeneralizedOverlapLoss(FrameLoss):
    """`1 - GIoU` of predicted and true box, in [0, 2): its gradient leads back where they do not overlap."""

    def forward(self, tracks: Tracks, truth: Truth) -> Tensor:
        """The loss `(B, T)` of each frame."""
        return 1 - generalized_iou(tracks.boxes, truth.boxes)


class WindowLoss(FrameLoss):
    """Spatial attention: the window shall contain the object, and not much else.

        -log(|a n b| / |b|) - clip(r, 1, 10) log(1 - min(r, 1)),   r = |a| / |frame|

    The second term is that of the authors' program, where the paper has the IoU of window and frame: here it
    also grows for windows larger than the frame.

    Args:
        floor: see `negative_log`, of the first term.
        area_floor: that of the second. The program's 1e-8 makes gradients of 1e8 for windows about as large
            as the frame.
    """

    def __init__(self, floor: float = 1e-8, area_floor: float = 1e-3) -> None:
        super().__init__()
        checks.within("(0, 1)", floor=floor, area_floor=area_floor)
        self.floor = floor
        self.area_floor = area_floor

    def forward(self, tracks: Any, truth: Truth) -> Tensor:
        """The loss `(B, T)` of each frame; the tracks are `AttentiveTracks`."""
        share = areas(tracks.attention) / (truth.size[0] * truth.size[1])
        room = share.clamp(1, 10) * negative_log(1 - share, self.area_floor)
        return negative_log(coverage(tracks.attention, truth.boxes), self.floor) + room


class MaskLoss(FrameLoss):
    """Appearance attention: the location map shall be 1 where the object's box covers the window.

    The target of a cell of the map is the share of it that the true box covers, which gives no gradient to
    the window; the loss is the cross-entropy averaged over the cells that the box touches, plus that over the
    others. The first frame counts, and all frames alike.

    The authors' program draws the box in whole pixels and resizes the picture, by which it moves half a cell.
    It weighs by the mean of the target and not by the number of cells, which is as much for targets of 0 and
    1, but grows without bound where a box merely touches the window.

    Args:
        binary: take 1 for all cells that the box touches, as the paper does.
    """

    def __init__(self, binary: bool = False) -> None:
        super().__init__()
        self.binary = binary

    def forward(self, tracks: Any, truth: Truth) -> Tensor:
        """The loss `(B, T)` of each frame; the tracks are `AttentiveTracks`."""
        logits = tracks.mask_logits
        if logits is None:
            raise ValueError("`MaskLoss` needs `mask_logits` of the tracks, but got None.")
        with torch.no_grad():
            target = cell_coverage(tracks.attention, truth.boxes, logits.shape[-2:])
            touched = (target > _NEGLIGIBLE).to(logits.dtype)
            count = touched.mean(dim=(-2, -1), keepdim=True)
            weights = touched / _or_one(count) + (1 - touched) / _or_one(1 - count)
            target = touched if self.binary else target.to(logits.dtype)
        entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        return (weights * entropy).mean(dim=(-2, -1))

    def reduce(self, values: Tensor, present: Tensor) -> Tensor:
        """The mean over all frames in which the object is present."""
        return _presence_mean(values, present)


def coverage(windows: Tensor, boxes: Tensor) -> Tensor:
    """The share of boxes `(..., 4)` that windows `(..., 4)` contain; 0 for boxes without area."""
    return intersection_areas(windows, boxes) / _or_one(areas(boxes))


def time_means(values: Tensor, counts: Tensor) -> Tensor:
    """The mean over videos of each frame, then that over frames with at least one video; 0 without any.

    Every time step weighs the same, however few videos are that long.

    Args:
        values: `(B, T)`.
        counts: which count, `(B, T)`, boolean.

    Returns:
        A scalar.
    """
    number = counts.sum(dim=0)
    means = torch.where(counts, values, 0.0).sum(dim=0) / number.clamp(min=1)
    return means.sum() / (number > 0).sum().clamp(min=1)


class _Limited(torch.autograd.Function):
    """Clip to `[-limit, limit]`; the gradient is 0 only where a step down it would lead further out."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, limit: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.limit = limit
        return x.clamp(-limit, limit)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        outward = ((x >= ctx.limit) & (gradient < 0)) | ((x <= -ctx.limit) & (gradient > 0))
        return gradient.masked_fill(outward, 0.0), None


class AdaptiveWeights(nn.Module):
    """Weighs losses by factors that are learned: `sum lambda L - log lambda`.

    The logarithms are the parameters, 0 at first, and limited so that factors stay in [0.001, 1000] where a
    loss goes to 0. (The authors' program has `lambda = omega^2 + 1e-8`.)

    Args:
        count: number of losses.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        checks.at_least(1, count=count)
        self.log_weights = nn.Parameter(torch.zeros(count))

    def weights(self) -> Tensor:
        """The factors, `(count,)`, detached."""
        return self.log_weights.detach().clamp(-_LOG_WEIGHT_LIMIT, _LOG_WEIGHT_LIMIT).exp()

    def forward(self, losses: Tensor) -> Tensor:
        """The sum of losses `(count,)`, a scalar."""
        logarithms = _Limited.apply(self.log_weights, _LOG_WEIGHT_LIMIT)
        return (logarithms.exp() * losses - logarithms).sum()


class FixedWeights(nn.Module):
    """Weighs losses by constants.

    Args:
        weights: one for each loss.
    """

    _weights: Tensor

    def __init__(self, *weights: float) -> None:
        super().__init__()
        checks.not_negative(weights=weights)
        self.register_buffer("_weights", torch.tensor([*map(float, weights)]), persistent=False)

    def weights(self) -> Tensor:
        """The factors, `(count,)`."""
        return self._weights

    def forward(self, losses: Tensor) -> Tensor:
        """The sum of losses `(count,)`, a scalar."""
        return (self._weights * losses).sum()


def hart_losses(variant: HARTVariant = "full") -> dict[str, FrameLoss]:
    """The losses of a row of the paper's table 1, by name.

    | variant      | paper       | model                     | losses                      |
    |--------------|-------------|---------------------------|-----------------------------|
    | `spatial`    | Spatial Att | without appearance attention | `tracking`               |
    | `appearance` | App Att     | full                      | `tracking`, `window`        |
    | `full`       | HART        | full                      | `tracking`, `window`, `mask` |

    Raises:
        ValueError: if the variant is unknown.
    """
    losses: dict[str, FrameLoss] = {"tracking": OverlapLoss(), "window": WindowLoss(), "mask": MaskLoss()}
    counts = {"spatial": 1, "appearance": 2, "full": 3}
    if variant not in counts:
        raise ValueError(f"`variant` must be one of {', '.join(counts)}, got {variant!r}")
    return dict(list(losses.items())[: counts[variant]])


class HARTObjective(nn.Module):
    """The loss of a tracker with attention on annotated videos, to be trained as any objective.

    The tracker is given the first true box, so that the first frame does not count, but for `MaskLoss`. A
    loss is averaged by `time_means`, or by its own `reduce(values, present)` where it has one, and multiplied
    by a weight that is learned. `decay` is half the sum of the squares of weights and of the mean squares of
    dynamic filters over frames, times a coefficient.

    Diagnostics: `iou`, that of `time_means` without the first frame, `last_iou`, of the last frames in which
    the objects are present; `coverage`, the share of the object that is in the window; each loss before its
    weight by name, its weight as `<name>_weight`; and `decay`.

    Args:
        model: a tracker as `models.HART`: called with a video and first boxes it returns `AttentiveTracks`,
            and it has `image_size` and `decayed`, names of the parameters under weight decay.
        losses: by name, see `hart_losses`, which is the default.
        weights: constant factors by name, 1 where not given; they are learned by default.
        decay: coefficient of the squares.

    Raises:
        ValueError: if there are no losses, a name is taken or unknown, or a factor is negative or not finite.
    """

    def __init__(
        self,
        model: nn.Module,
        losses: Mapping[str, FrameLoss] | None = None,
        weights: Mapping[str, float] | None = None,
        decay: float = 1e-4,
    ) -> None:
        super().__init__()
        checks.not_negative(decay=decay)
        losses = hart_losses() if losses is None else losses
        if not losses or set(_OWN_DIAGNOSTICS) & set(losses):
            raise ValueError(
                f"`losses` must be at least one, not named {', '.join(_OWN_DIAGNOSTICS)}, "
                f"but got {list(losses)}."
            )
        if unknown := set(weights or ()) - set(losses):
            raise ValueError(f"`weights` must be those of {list(losses)}, but got {sorted(unknown)} too.")
        self.model = model
        self.losses = nn.ModuleDict(losses)
        self.weighting: AdaptiveWeights | FixedWeights = (
            AdaptiveWeights(len(losses))
            if weights is None
            else FixedWeights(*(weights.get(name, 1.0) for name in losses))
        )
        self.decay = WeightDecay(_decayed(model), decay / 2, "sum")
        names = ("iou", "last_iou", "coverage", *losses, *(f"{name}_weight" for name in losses), "decay")
        self._diagnostics: Any = namedtuple("HARTDiagnostics", names)  # type: ignore[misc]

    def forward(
        self, video: Tensor, boxes: Tensor, labels: Tensor | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """The loss, and a NamedTuple of detached scalars.

        Args:
            video: `(B, T, C, H, W)`.
            boxes: true boxes `(B, T, 4)`, `(left, top, width, height)` in pixels; anything where the object
                is absent.
            labels: have no part; other objectives take them.
            mask: in which frames the object is present, `(B, T)`, boolean or 0 and 1; all by default. It is
                present in the first.

        Raises:
            ValueError: if shapes do not agree.
        """
        present, last = counted_frames(video, boxes, mask)
        model: Any = self.model
        with local_parameters(model):
            # Without Pyro's own call, reading a parameter is no statement.
            tracks = nn.Module.__call__(model, video, boxes[:, 0])
        true_boxes = torch.where(present.unsqueeze(-1), boxes.to(tracks.boxes), 0.0)
        truth = Truth(true_boxes, model.image_size)
        later = present.clone()
        later[:, 0] = False
        values = []
        for loss in self.losses.values():
            reduce: Any = getattr(loss, "reduce", None)
            each = loss(tracks, truth)
            values.append(time_means(each, later) if reduce is None else reduce(each, present))
        losses = torch.stack(values)
        decay = self.decay(model)
        if tracks.filters is not None:
            squares = tracks.filters.square().sum(dim=-1)
            decay = decay + self.decay.coefficient * _presence_mean(squares, present)
        total = self.weighting(losses) + decay
        with torch.no_grad():
            overlap = iou(tracks.boxes, true_boxes)
            watched = [
                time_means(overlap, later),
                video_means(overlap, last).mean(),
                time_means(coverage(tracks.attention, true_boxes), later),
            ]
        weights = self.weighting.weights()
        return total, self._diagnostics(*watched, *losses.detach(), *weights.unbind(), decay.detach())


def _decayed(model: nn.Module) -> tuple[str, ...]:
    names: tuple[str, ...] = model.decayed  # type: ignore[assignment]
    return names


def _or_one(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 1.0)


def _presence_mean(values: Tensor, present: Tensor) -> Tensor:
    """The mean over all entries of `(B, T)` that count; 0 without any."""
    return torch.where(present, values, 0.0).sum() / present.sum().clamp(min=1)
