r"""Losses for trackers whose boxes are known in training, as RATM's.

Each loss says how wrong every frame is, `(B, T)`. `SupervisedObjective` averages over the frames of a video,
then over videos, and adds up:

$$ L = \sum_i w_i \frac{1}{B} \sum_b \frac{\sum_t m_{bt} L_i[b, t]}{\sum_t m_{bt}} $$

with m = 1 in the frames that count: all that exist, or the last of each video.

Source: Kahou, Michalski & Memisevic, *RATM: Recurrent Attentive Tracking Model*, 2017.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import namedtuple
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ... import checks
from ...models.components.attention import Size
from ...models.components.boxes import iou, middles
from ..local_parameters import local_parameters

__all__ = [
    "ClassificationLoss",
    "ClassifierDiagnostics",
    "ClassifierObjective",
    "FeatureLoss",
    "FrameLoss",
    "LocalisationLoss",
    "PixelLoss",
    "SupervisedObjective",
    "Tracks",
    "Truth",
    "WeightDecay",
    "video_means",
]

_OWN_DIAGNOSTICS = ("iou", "last_iou", "decay")


class Tracks(Protocol):
    """What a tracker returns, as far as losses look at it: `models.RATMTracks` for one."""

    @property
    def boxes(self) -> Tensor:
        """Predicted boxes `(B, T, 4)`, `(left, top, width, height)` in pixels."""

    @property
    def glimpses(self) -> Tensor:
        """What was seen, `(B, T, C, h, w)`."""


class Truth(NamedTuple):
    """What should have been predicted and seen."""

    boxes: Tensor
    """`(B, T, 4)`, `(left, top, width, height)` in pixels."""
    size: Size
    """Height and width of the frames."""
    glimpses: Tensor | None = None
    """Of the windows around the true boxes, `(B, T, C, h, w)`; only where a loss needs them."""
    labels: Tensor | None = None
    """Class of each video's object, `(B,)`, int64."""


class FrameLoss(nn.Module, ABC):
    """How wrong a tracker is in each frame."""

    needs_true_glimpses: bool = False
    """Whether it looks at `Truth.glimpses`."""

    @abstractmethod
    def forward(self, tracks: Tracks, truth: Truth) -> Tensor:
        """The loss `(B, T)` of each frame."""


class PixelLoss(FrameLoss):
    """Mean squared difference of the glimpse's pixels from those it should show.

    Args:
        patch: what every glimpse should show, `(h, w)` or `(C, h, w)`, as for balls; by default what the
            tracker would see in a window around the true box.
    """

    patch: Tensor | None

    def __init__(self, patch: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("patch", patch)
        self.needs_true_glimpses = patch is None

    def forward(self, tracks: Tracks, truth: Truth) -> Tensor:
        """The loss `(B, T)` of each frame."""
        glimpses, patch = tracks.glimpses, self.patch
        target = truth.glimpses if patch is None else patch
        fitting = [glimpses.shape] if patch is None else [glimpses.shape[-2:], glimpses.shape[-3:]]
        if target is None or target.shape not in fitting:
            raise ValueError(
                f"`PixelLoss` expects pictures of {tuple(glimpses.shape[-2:])} pixels, as the glimpses of "
                f"shape {tuple(glimpses.shape)}, but got {None if target is None else tuple(target.shape)}."
            )
        return (glimpses - target).square().flatten(2).mean(dim=-1)


class FeatureLoss(FrameLoss):
    """Mean squared difference of the glimpse's features from those of a window around the true box.

    Args:
        features: maps glimpses `(..., C, h, w)` to `(..., F)`, for RATM the embedding of a classifier;
            usually `Frozen`, because features that are equal everywhere make the loss 0.
    """

    needs_true_glimpses = True

    def __init__(self, features: nn.Module) -> None:
        super().__init__()
        self.features = features

    def forward(self, tracks: Tracks, truth: Truth) -> Tensor:
        """The loss `(B, T)` of each frame."""
        if truth.glimpses is None:
            raise ValueError("`FeatureLoss` needs `glimpses` of the truth, but got None.")
        with torch.no_grad():
            target = self.features(truth.glimpses)
        return (self.features(tracks.glimpses) - target).square().mean(dim=-1)


class LocalisationLoss(FrameLoss):
    """Squared distance of the middles of predicted and true box, in units of the frame's sides.

    Sizes do not matter: the tracker is free to choose how large a piece it looks at. (The paper does not tell
    the units.)
    """

    def forward(self, tracks: Tracks, truth: Truth) -> Tensor:
        """The loss `(B, T)` of each frame."""
        difference = middles(tracks.boxes) - middles(truth.boxes)
        height, width = truth.size
        return (difference[..., 0] / width).square() + (difference[..., 1] / height).square()


class ClassificationLoss(FrameLoss):
    """Mean squared difference of the class probabilities of the glimpse from 1 for the true class, 0 else.

    Not the cross-entropy: RATM's authors found that this works.

    Args:
        classifier: maps glimpses `(..., C, h, w)` to logits `(..., classes)`, usually `Frozen`.
    """

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, tracks: Tracks, truth: Truth) -> Tensor:
        """The loss `(B, T)` of each frame."""
        if truth.labels is None:
            raise ValueError("`ClassificationLoss` needs `labels` of shape (B,), but got None.")
        probabilities = self.classifier(tracks.glimpses).softmax(dim=-1)
        target = F.one_hot(truth.labels, probabilities.shape[-1]).to(probabilities.dtype)
        return (probabilities - target.unsqueeze(1)).square().mean(dim=-1)


@dataclass(frozen=True)
class WeightDecay:
    """`coefficient` times the sum, over matrices, of their mean or summed squared entries.

    RATM's program for KTH adds means; the paper writes sums.
    """

    names: tuple[str, ...]
    """Dotted names of the model's parameters, for RATM `RATM.DECAYED`."""
    coefficient: float = 0.2
    """The program's 0.2."""
    reduce: Literal["mean", "sum"] = "mean"
    """Over the entries of a matrix."""

    def __post_init__(self) -> None:
        checks.one_of(("mean", "sum"), self, "reduce")
        checks.not_negative(self, "coefficient")
        if not self.names:
            raise checks.FieldError("names", "must be of at least one parameter", self.names)

    def __call__(self, model: nn.Module) -> Tensor:
        """The penalty, a scalar.

        Raises:
            AttributeError: if the model has no parameter of a name.
        """
        squares = [model.get_parameter(name).square() for name in self.names]
        return self.coefficient * torch.stack([getattr(square, self.reduce)() for square in squares]).sum()


class SupervisedObjective(nn.Module):
    """The weighted sum of losses of a tracker on annotated videos, to be trained as any objective.

    The tracker is given the first true box. Diagnostics: `iou`, the mean intersection over union over the
    frames of a video and then over videos, the first frame included; `last_iou`, that of the last frames;
    then each loss before its weight by name, and `decay` where there is one.

    RATM's, by data:

    - balls: `{"pixel": PixelLoss(patch)}`, with `frames="last"` or `"all"`;
    - digits: `{"classification": ClassificationLoss(Frozen(classifier)), "localisation":
      LocalisationLoss()}`; by classification alone training does not converge;
    - KTH: `{"feature": FeatureLoss(Frozen(classifier.embedding))}` with `decay=WeightDecay(RATM.DECAYED)` and
      `divide_by_length=True`.

    Args:
        model: a tracker as `models.RATM`: called with a video and first boxes it returns `Tracks`, and it has
            `image_size` and `read_boxes`.
        losses: by name.
        weights: factors by name, 1 where not given.
        frames: those that count: `"all"` that exist, or the `"last"` of each video.
        decay: a penalty of weights.
        divide_by_length: divide all losses by T once more, as RATM's program for KTH does: the penalty then
            weighs the more, the longer the videos are.

    Raises:
        ValueError: if there are no losses, a name is taken or unknown, a factor is negative or not finite, or
            `frames` is something else.
    """

    def __init__(
        self,
        model: nn.Module,
        losses: Mapping[str, FrameLoss],
        weights: Mapping[str, float] | None = None,
        frames: Literal["all", "last"] = "all",
        decay: WeightDecay | None = None,
        divide_by_length: bool = False,
    ) -> None:
        super().__init__()
        weights = weights or {}
        checks.one_of(("all", "last"), frames=frames)
        if not losses or {"loss", *_OWN_DIAGNOSTICS} & set(losses):
            raise ValueError(
                f"`losses` must be at least one, not named loss, {', '.join(_OWN_DIAGNOSTICS)}, "
                f"but got {list(losses)}."
            )
        if unknown := set(weights) - set(losses):
            raise ValueError(f"`weights` must be those of {list(losses)}, but got {sorted(unknown)} too.")
        checks.not_negative(**{f"weights.{name}": weight for name, weight in weights.items()})
        if decay is not None:
            decay(model)  # whether it has these parameters
        self.model = model
        self.losses = nn.ModuleDict(losses)
        self.weights = {name: float(weights.get(name, 1.0)) for name in losses}
        self.frames = frames
        self.decay = decay
        self.divide_by_length = divide_by_length
        names = ("iou", "last_iou", *losses, *(() if decay is None else ("decay",)))
        self._diagnostics: Any = namedtuple("SupervisedDiagnostics", names)  # type: ignore[misc]

    def forward(
        self, video: Tensor, boxes: Tensor, labels: Tensor | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """The loss, and a NamedTuple of detached scalars.

        Args:
            video: `(B, T, C, H, W)`.
            boxes: true boxes `(B, T, 4)`, `(left, top, width, height)` in pixels.
            labels: class of each video's object, `(B,)`, int64.
            mask: which frames exist, `(B, T)`, boolean or 0 and 1; all by default. What is in the others
                does not matter, as long as it is finite.

        Raises:
            ValueError: if shapes do not agree.
        """
        exists, last = counted_frames(video, boxes, mask, labels)
        model: Any = self.model
        with local_parameters(model):
            # Without Pyro's own call, reading a parameter is no statement.
            tracks = nn.Module.__call__(model, video, boxes[:, 0])
        truth = Truth(
            boxes.to(tracks.boxes), model.image_size, self._true_glimpses(video, boxes, tracks), labels
        )
        counts = last if self.frames == "last" else exists
        values = {name: video_means(loss(tracks, truth), counts).mean() for name, loss in self.losses.items()}
        terms = [self.weights[name] * value for name, value in values.items()]
        total = torch.stack(terms).sum() / (video.shape[1] if self.divide_by_length else 1)
        if self.decay is not None:
            values["decay"] = self.decay(model)
            total = total + values["decay"]
        overlap = iou(tracks.boxes.detach(), truth.boxes)
        ious = (video_means(overlap, frames).mean() for frames in (exists, last))
        return total, self._diagnostics(*ious, *(value.detach() for value in values.values()))

    def _true_glimpses(self, video: Tensor, boxes: Tensor, tracks: Tracks) -> Tensor | None:
        if not any(loss.needs_true_glimpses for loss in self.losses.values()):
            return None
        model: Any = self.model
        with torch.no_grad():
            glimpses: Tensor = model.read_boxes(video, boxes.to(tracks.boxes))
        return glimpses


class ClassifierDiagnostics(NamedTuple):
    """What is worth watching while a classifier is trained."""

    accuracy: Tensor
    """Fraction of pictures whose most probable class is the true one, a detached scalar."""


class ClassifierObjective(nn.Module):
    """Cross-entropy of a classifier: how the features that trackers use are trained beforehand.

    Args:
        model: maps pictures to logits `(B, classes)`.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, ClassifierDiagnostics]:
        """The loss in nats per picture, and its diagnostics.

        Args:
            images: `(B, C, h, w)` in [0, 1].
            labels: `(B,)`, int64.
        """
        logits = self.model(images)
        accuracy = (logits.detach().argmax(dim=-1) == labels).to(logits.dtype).mean()
        return F.cross_entropy(logits, labels), ClassifierDiagnostics(accuracy)


def counted_frames(
    video: Tensor, boxes: Tensor, mask: Tensor | None, labels: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Which frames count, all without a `mask`, and which are the last of those of their videos.

    Returns:
        Both `(B, T)`, boolean.

    Raises:
        ValueError: if shapes do not agree, or there is no video or frame: the mean over them would be NaN.
    """
    if video.dim() < 2 or not video.numel():
        raise ValueError(
            f"`video` must have shape (B, T, C, H, W), at least 1 each, but got {tuple(video.shape)}."
        )
    batch, length = video.shape[:2]
    counts = torch.ones(batch, length, device=video.device, dtype=torch.bool) if mask is None else mask != 0
    for name, got, expected in (
        ("boxes", boxes, (batch, length, 4)),
        ("mask", counts, (batch, length)),
        ("labels", labels, (batch,)),
    ):
        if got is not None and got.shape != expected:
            raise ValueError(f"`{name}` must have shape {expected}, but got {tuple(got.shape)}.")
    return counts, counts & (counts.flip(1).cumsum(1).flip(1) == 1)


def video_means(values: Tensor, counts: Tensor) -> Tensor:
    """Means over the frames of each video that count; 0 where none does.

    Args:
        values: `(B, T)`.
        counts: `(B, T)`, boolean.

    Returns:
        `(B,)`.
    """
    return torch.where(counts, values, 0.0).sum(dim=1) / counts.sum(dim=1).clamp(min=1)
