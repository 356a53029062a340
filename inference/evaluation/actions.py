"""How often it is told right what goes on in a video, and where it was looked at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ..local_parameters import local_parameters
from ..supervised.glimpse_losses import nearest_joints
from .labels import settled

__all__ = ["ActionReport", "LabelledClips", "evaluate_actions"]


class LabelledClips(Protocol):
    """A batch of clips, as `datasets.ActionBatch`."""

    @property
    def video(self) -> Tensor:
        """`(B, T, C, H, W)`."""

    @property
    def labels(self) -> Tensor:
        """`(B,)`, int64."""

    @property
    def joints(self) -> Tensor | None:
        """`(B, T, P, J, 2)`, x and y in [-1, 1]."""

    @property
    def seen(self) -> Tensor | None:
        """`(B, T, P)`, boolean."""


class ActionReport(NamedTuple):
    """What is told of held-out videos; on the CPU."""

    confusion: Tensor
    """Number of videos by true and told class, `(K, K)`, int64."""
    overview_confusion: Tensor
    """The same of the global path."""
    fused_confusion: Tensor
    """The same of both, by the mean of their probabilities."""
    distance: float | None = None
    """Mean distance of glimpses from the nearest joint, in units of half the frame's sides; None without
    glimpses or joints.
    """

    @property
    def videos(self) -> int:
        """How many."""
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        """Share of videos of which it was told right."""
        return float(self.confusion.diag().sum() / self.videos)

    @property
    def overview_accuracy(self) -> float:
        """The same of the global path."""
        return float(self.overview_confusion.diag().sum() / self.videos)

    @property
    def fused_accuracy(self) -> float:
        """The same of both together."""
        return float(self.fused_confusion.diag().sum() / self.videos)

    @classmethod
    def joined(cls, reports: Sequence[ActionReport]) -> ActionReport:
        """Of several sets of videos, as those of a cross-validation; distances weigh as their videos."""
        tables = torch.stack([torch.stack(each[:3]) for each in reports]).sum(0)
        known = [(each.distance, each.videos) for each in reports if each.distance is not None]
        count = sum(videos for _, videos in known)
        mean = sum(distance * videos for distance, videos in known) / count if count else None
        return cls(tables[0], tables[1], tables[2], mean)

    def numbers(self) -> dict[str, Any]:
        """For a JSON file."""
        return {
            "videos": self.videos,
            "accuracy": self.accuracy,
            "overview_accuracy": self.overview_accuracy,
            "fused_accuracy": self.fused_accuracy,
            "glimpse_to_joint": self.distance,
            "confusion": self.confusion.tolist(),
            "overview_confusion": self.overview_confusion.tolist(),
            "fused_confusion": self.fused_confusion.tolist(),
        }


@torch.no_grad()
def evaluate_actions(
    model: Any, batches: Iterable[Sequence[LabelledClips]], glimpses: bool = True
) -> ActionReport:
    """Tell what goes on in videos.

    Args:
        model: a `models.GlimpseClouds`, in evaluation mode.
        batches: of each batch of videos as many clips as shall be looked at, over which logits are averaged.
        glimpses: look; otherwise there is the global path alone, whose answer all confusions have.

    Raises:
        ValueError: if there is no video, or no clip of some.
        NonFiniteError: if a vote is NaN or infinite; minus infinity counts as it is.
    """
    classes = model.classes
    counts = torch.zeros(3, classes, classes, dtype=torch.int64)
    total, looks = 0.0, 0
    for clips in batches:
        if not clips:
            raise ValueError("`batches` must have at least one clip of each video, got none.")
        sums: Any = 0
        for clip in clips:
            with local_parameters(model):
                if glimpses:
                    given = clip.joints if model.locator.needs_joints else None
                    found = model(clip.video, given)
                    votes = torch.stack([found.logits, found.overview])
                    if clip.joints is not None:
                        near, here = nearest_joints(found.coords[..., 2:], clip.joints, clip.seen)
                        total += float(near.sqrt()[here].sum())
                        looks += int(here.sum())
                else:
                    votes = model.glance(clip.video).overview.expand(2, -1, -1)
            sums = sums + settled("votes", votes)
        fused = (sums / len(clips)).softmax(-1).mean(0, keepdim=True)
        told = torch.cat([sums, fused]).argmax(-1).cpu()
        labels = clips[0].labels.cpu()
        for table, answers in zip(counts, told, strict=True):
            table.index_put_((labels, answers), torch.ones_like(labels), accumulate=True)
    if not counts.any():
        raise ValueError("`batches` must have at least one video, got none.")
    return ActionReport(counts[0], counts[1], counts[2], total / looks if looks else None)
