r"""What Glimpse Clouds is trained by: the class of the clip and, where they are known, joints.

$$ L = L_{class} + 0.1 L_{pose} + L_{attraction} + L_{diversity} $$

Places are x and y in [-1, 1]. All but the first are sums over the frames of a clip and means over clips.

Where the released program errs, this follows the paper: attraction is by the nearest joint, and not by the
nearest x and the nearest y of any joints; and diversity sums over pairs of different glimpses, and not over
each glimpse with itself too.

Source: Baradel, Wolf, Mille & Taylor, *Glimpse Clouds*, 2018; weights from the released program.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ... import checks
from ...models.components.attention import crop
from ..local_parameters import local_parameters

__all__ = [
    "PUBLISHED_WEIGHTS",
    "CloudDiagnostics",
    "GlanceDiagnostics",
    "GlanceObjective",
    "GlimpseCloudsObjective",
    "ReadingDiagnostics",
    "ReadingObjective",
    "attraction",
    "diversity",
    "nearest_joints",
    "pose_error",
]

PUBLISHED_WEIGHTS: Mapping[str, float] = {"pose": 0.1, "attraction": 1.0, "diversity": 1.0}
"""Of the losses beside that of the class."""

_NEAR = 1e-8
"""Added to squared distances, whose root has no gradient at 0."""


def pose_error(predicted: Tensor, joints: Tensor, seen: Tensor | None = None) -> Tensor:
    """Mean squared error of each frame's joints, whoever of the people is called the first.

    Args:
        predicted: `(B, T, P, J, 2)`.
        joints: true ones, likewise.
        seen: who is there, `(B, T, P)`, boolean, all by default; nobody else counts.

    Returns:
        `(B, T)`, a mean over the coordinates of a person and a sum over people.
    """
    _require("joints", joints, predicted.shape)
    here = _everybody(joints) if seen is None else seen != 0
    _require("seen", here, predicted.shape[:3])
    # errors[..., p, q] is that of the prediction p as the person q
    known = _harmless(joints, here)
    errors = (predicted.unsqueeze(3) - known.unsqueeze(2)).square().mean(dim=(-2, -1))
    errors = torch.where(here.unsqueeze(2), errors, 0.0)
    orders = itertools.permutations(range(predicted.shape[2]))
    sums = [torch.stack([errors[..., p, q] for p, q in enumerate(order)]).sum(0) for order in orders]
    return torch.stack(sums).amin(0)


def nearest_joints(places: Tensor, joints: Tensor, seen: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Squared distances of glimpses from the nearest joint of anybody who is there.

    Args:
        places: middles of glimpses, `(B, T, G, 2)`.
        joints: `(B, T, P, J, 2)`.
        seen: who is there, `(B, T, P)`, boolean; all by default.

    Returns:
        the distances `(B, T, G)`, 0 in frames without anybody, and whether there is somebody, likewise.
    """
    _require("joints", joints, (*places.shape[:2], *joints.shape[2:4], 2))
    here = _everybody(joints) if seen is None else seen != 0
    _require("seen", here, joints.shape[:3])
    known = _harmless(joints, here).to(places)
    squares = (places[:, :, :, None, None] - known[:, :, None]).square().sum(-1)
    squares = torch.where(here[:, :, None, :, None], squares, torch.inf).flatten(3)  # (B, T, G, P J)
    somebody = here.any(-1)[..., None].expand_as(squares[..., 0])
    return torch.where(somebody, squares.amin(-1), 0.0), somebody


def attraction(places: Tensor, joints: Tensor, seen: Tensor | None = None) -> Tensor:
    """The sum over the glimpses of each frame of squared distances from the nearest joint, `(B, T)`.

    Arguments are those of `nearest_joints`.
    """
    return nearest_joints(places, joints, seen)[0].sum(-1)


def diversity(coords: Tensor) -> Tensor:
    """How near to each other the glimpses of each frame are: the sum of `1 / (1 + distance)` over pairs.

    Args:
        coords: windows `(B, T, G, 4)`, places and sizes.

    Returns:
        `(B, T)`; ordered pairs count, so that it is `G (G - 1)` at most.
    """
    count = coords.shape[2]
    square = (coords.unsqueeze(3) - coords.unsqueeze(2)).square().sum(-1)
    near = 1 / (1 + (square + _NEAR).sqrt())
    others = ~torch.eye(count, dtype=torch.bool, device=coords.device)
    return torch.where(others, near, 0.0).sum(dim=(-2, -1))


class CloudDiagnostics(NamedTuple):
    """What is worth watching; detached scalars."""

    accuracy: Tensor
    """Share of clips whose class is right."""
    overview_accuracy: Tensor
    """The same, of the global path."""
    cross_entropy: Tensor
    """Of the class, in nats."""
    pose: Tensor
    """Loss before its weight; 0 where it does not count."""
    attraction: Tensor
    """Likewise."""
    diversity: Tensor
    """Likewise."""
    size: Tensor
    """Mean side of the glimpses, in units of the frame's sides."""


class GlimpseCloudsObjective(nn.Module):
    """The second stage: workers vote, and poses teach where to look.

    Args:
        model: a `models.GlimpseClouds`.
        weights: of `pose`, `attraction` and `diversity`, `PUBLISHED_WEIGHTS` where not given, and of
            `overview`, the cross-entropy of the global path, 0.

    Raises:
        ValueError: if a weight is negative or of something else.
    """

    def __init__(self, model: nn.Module, weights: Mapping[str, float] | None = None) -> None:
        super().__init__()
        known = {**PUBLISHED_WEIGHTS, "overview": 0.0}
        if unknown := set(weights or {}) - set(known):
            raise ValueError(f"`weights` must be of {', '.join(known)}, but got {sorted(unknown)} too.")
        self.weights = {**known, **(weights or {})}
        checks.not_negative(**{f"weights.{name}": weight for name, weight in self.weights.items()})
        self.model = model

    def forward(
        self, video: Tensor, labels: Tensor, joints: Tensor | None = None, seen: Tensor | None = None
    ) -> tuple[Tensor, CloudDiagnostics]:
        """The loss, and its diagnostics.

        Args:
            video: `(B, T, C, H, W)`.
            labels: classes `(B,)`, int64.
            joints: `(B, T, P, J, 2)`, x and y in [-1, 1]; without them poses do not count.
            seen: who is there, `(B, T, P)`, boolean; all by default.

        Raises:
            ValueError: if shapes do not agree.
        """
        _require("labels", labels, video.shape[:1])
        model: Any = self.model
        with local_parameters(model):
            given = joints if model.locator.needs_joints else None
            clouds = nn.Module.__call__(model, video, given)
        nothing = clouds.coords.new_zeros(())
        values = {"pose": nothing, "attraction": nothing, "diversity": _total(diversity(clouds.coords))}
        if joints is not None:
            joints = joints.to(clouds.coords)
            values["attraction"] = _total(attraction(clouds.coords[..., 2:], joints, seen))
            if clouds.joints is not None:
                values["pose"] = _total(pose_error(clouds.joints, joints, seen))
        logits = clouds.logits
        entropy = F.cross_entropy(logits, labels)
        values["overview"] = F.cross_entropy(clouds.overview, labels)
        loss = entropy + torch.stack([self.weights[name] * value for name, value in values.items()]).sum()
        values.pop("overview")
        scores = (_accuracy(each, labels) for each in (logits, clouds.overview))
        rest = (each.detach() for each in (entropy, *values.values(), clouds.coords[..., :2].mean()))
        return loss, CloudDiagnostics(*scores, *rest)


class GlanceDiagnostics(NamedTuple):
    """What is worth watching; detached scalars."""

    overview_accuracy: Tensor
    """Share of clips whose class is right."""
    cross_entropy: Tensor
    """Of the class, in nats."""
    pose: Tensor
    """Loss before its weight; 0 where it does not count."""


class GlanceObjective(nn.Module):
    """The first stage: the maps learn by the global path and, where they are known, by joints.

    Args:
        model: a `models.GlimpseClouds`.
        pose: weight of the error of the joints.
    """

    def __init__(self, model: nn.Module, pose: float = PUBLISHED_WEIGHTS["pose"]) -> None:
        super().__init__()
        checks.not_negative(pose=pose)
        self.model, self.pose = model, pose

    def forward(
        self, video: Tensor, labels: Tensor, joints: Tensor | None = None, seen: Tensor | None = None
    ) -> tuple[Tensor, GlanceDiagnostics]:
        """The loss, and its diagnostics; see `GlimpseCloudsObjective.forward`."""
        _require("labels", labels, video.shape[:1])
        model: Any = self.model
        with local_parameters(model):
            overview, predicted = model.glance(video)
        entropy, error = F.cross_entropy(overview, labels), overview.new_zeros(())
        if joints is not None and predicted is not None:
            error = _total(pose_error(predicted, joints.to(predicted), seen))
        diagnostics = GlanceDiagnostics(_accuracy(overview, labels), entropy.detach(), error.detach())
        return entropy + self.pose * error, diagnostics


class ReadingDiagnostics(NamedTuple):
    """What is worth watching; a detached scalar."""

    accuracy: Tensor
    """Share of crops whose object was named right."""


class ReadingObjective(nn.Module):
    """What glimpses are read by learns to name single things, before anybody asks what goes on.

    The published maps begin with the weights of a network that can tell what is in a picture. Where glimpses
    are read by a network that cannot yet, nothing is learned of a question that takes two of them: what one
    says is of no use without the other. So it is taught by crops around the things in the frames of the
    training videos, of random places and sizes.

    Args:
        model: a `models.GlimpseClouds`.
        size: D, what is read of a glimpse.
        classes: of things.
        sides: least and greatest half side of a crop, in units of half the frame's.
        off: greatest distance of a crop's middle from the thing's, in units of the crop's half side.
    """

    def __init__(
        self,
        model: nn.Module,
        size: int,
        classes: int,
        sides: tuple[float, float] = (0.15, 0.25),
        off: float = 0.3,
    ) -> None:
        super().__init__()
        checks.at_least(1, size=size, classes=classes)
        checks.within("(0, 1]", sides=sides)
        checks.not_negative(off=off)
        self.model = model
        self.sides, self.off = sides, off
        self.readout = nn.Linear(size, classes)

    def forward(self, images: Tensor, middles: Tensor, labels: Tensor) -> tuple[Tensor, ReadingDiagnostics]:
        """The loss, in nats, and its diagnostics.

        Args:
            images: `(B, C, H, W)` in [0, 1].
            middles: of the things, `(M, B, 2)`, x and y in [-1, 1].
            labels: their classes `(M, B)`, int64.
        """
        model: Any = self.model
        _require("middles", middles, (*labels.shape, 2))
        low, high = self.sides
        draws = torch.rand(*labels.shape, 3, device=images.device, dtype=images.dtype)
        side = low + (high - low) * draws[..., :1]
        shift = self.off * side * (2 * draws[..., 1:] - 1)
        coords = torch.cat([side, side, middles.to(images) + shift], dim=-1)
        with local_parameters(model):
            maps = model.features(images.unsqueeze(1)).glimpses[:, 0]
            features = model.read(crop(maps, coords, model.crop_size).flatten(0, 1))
        logits, flat = self.readout(features), labels.flatten()
        return F.cross_entropy(logits, flat), ReadingDiagnostics(_accuracy(logits, flat))


def _require(name: str, value: Tensor, shape: Any) -> None:
    if tuple(value.shape) != tuple(shape):
        raise ValueError(f"`{name}` must have shape {tuple(shape)}, but got {tuple(value.shape)}.")


def _everybody(joints: Tensor) -> Tensor:
    return torch.ones_like(joints[..., 0, 0], dtype=torch.bool)


def _harmless(joints: Tensor, here: Tensor) -> Tensor:
    """Joints, 0 of people who are not there: a NaN that is masked afterwards is one in the gradient still."""
    return torch.where(here[..., None, None], joints, 0.0)


def _total(values: Tensor) -> Tensor:
    """Sum over frames, mean over clips, of `(B, T)`."""
    return values.sum(1).mean()


def _accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.detach().argmax(-1) == labels).to(logits.dtype).mean()
