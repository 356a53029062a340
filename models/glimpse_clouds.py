r"""Glimpse Clouds: where to look in a video to know what goes on.

Baradel, Wolf, Mille & Taylor, *Glimpse Clouds: Human Activity Recognition from Unstructured Feature Points*,
2018. In every frame a recurrent locator places glimpses, one after the other, without being told where
anything is; workers follow what belongs together, by soft assignment through a memory of the glimpses before,
and each votes on the action:

    l_{t,g}  = W [c_t, h_g],  h_g = GRU([v_{g-1}, sum_c r_c], h_{g-1})      where: a window of the frame
    v_{t,g}  = read(crop(map_t, l_{t,g})) * gate(l_{t,g})                   what is there
    w_{t,g}  = softmax(how like the glimpses of each worker v_{t,g} is)     whose it is
    r_{t,c}  = GRU_c(sum_g w_{t,g,c} v_{t,g} / sum_g w_{t,g,c}, r_{t-1,c})
    logits   = mean over frames and workers of W_c r_{t,c}

Poses teach where to look, in training only: glimpses are attracted by joints, and the context, of which the
locator is told, has to tell where joints are (`inference.supervised.GlimpseCloudsObjective`).

Where paper and released program differ, this follows the paper:

| topic               | released program                          | here                                     |
|---------------------|-------------------------------------------|------------------------------------------|
| crop                | no gradient to its place                  | one; `detached=True` is the program's    |
| state of a worker   | 1 and 2 read that of 0, just written      | each reads its own                       |
| assignment          | softmax over glimpses                     | over workers, or `OverGlimpses`          |
| fading of memory    | the oldest counts most                    | the latest counts most                   |
| distance            | covariance of the first batch, not stored | learned, or by variances that are stored |
| range of similarity | minimum and maximum over the whole batch  | each pair by itself, `exp(-d^2)`         |

and from both in one: the gate is about 1 at first, not about 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import pyro
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn

from .. import checks
from .components.attention import Size, crop
from .components.boxes import coords_to_boxes
from .components.clip_features import ClipFeatures, CoarseFrames, MeanContext, PlacesContext
from .components.glimpse_locator import Clue, JointLocator, RecurrentLocator
from .components.inflated_resnet import InflatedResNet
from .components.inputs import require_pixels
from .components.networks import ConvFeatures, fill_output_bias, mlp
from .components.plates import Plate
from .components.soft_assignment import (
    Assignment,
    GlimpseMemory,
    LearnedSimilarity,
    OverWorkers,
    ScaledSimilarity,
    gathered,
)
from .components.workers import Workers

_BLANK = 0.1
"""Variance of features below which they are not made greater: a crop of nothing shall stay nothing."""


class Clouds(NamedTuple):
    """Where a model looked in a clip, what was whose, and what was voted for."""

    coords: Tensor
    """The windows `(B, T, G, 4)`, `(s_x, s_y, t_x, t_y)`, see `components.attention`."""
    glimpses: Tensor
    """What was seen there, `(B, T, G, D)`."""
    weights: Tensor
    """Whose it was, `(B, T, G, C)`."""
    votes: Tensor
    """Of the workers after each frame, logits `(B, T, C, K)`."""
    overview: Tensor
    """Vote of the global path, which sees the whole clip and no glimpse, logits `(B, K)`."""
    joints: Tensor | None
    """Where joints were seen, `(B, T, P, J, 2)`, x and y in [-1, 1]; None without a pose head."""
    counted: int | None = None
    """Frames at the end whose votes count; None for all."""

    @property
    def logits(self) -> Tensor:
        """The answer `(B, K)`: mean votes of the frames that count."""
        return self.votes[:, -(self.counted or 0) :].mean(dim=(1, 2))

    def boxes(self, size: Size) -> Tensor:
        """The windows as boxes `(B, T, G, 4)` in pixels, in frames of height and width `size`."""
        return coords_to_boxes(self.coords, size)


class Glance(NamedTuple):
    """What is known of a clip without a glimpse."""

    overview: Tensor
    """As `Clouds.overview`."""
    joints: Tensor | None
    """As `Clouds.joints`."""


class PoseHead(nn.Module):
    """Where the joints of people are, from what the locator is told too.

    Args:
        context_size: c.
        people: P.
        joints: J.
    """

    def __init__(self, context_size: int, people: int = 2, joints: int = 25) -> None:
        super().__init__()
        checks.at_least(1, context_size=context_size, people=people, joints=joints)
        self.people, self.joints = people, joints
        self.readout = nn.Linear(context_size, 2 * people * joints)

    def forward(self, context: Tensor) -> Tensor:
        """From `(B, T, c)` to `(B, T, P, J, 2)`, in [-1, 1]."""
        return self.readout(context).tanh().unflatten(-1, (self.people, self.joints, 2))


class GlimpseClouds(PyroModule):
    """Tells what goes on in a clip, by glimpses.

    Statements, all deterministic, of frame t and glimpse g: `place/t/g`, the window as coords; `glimpse/t/g`,
    what was seen; of frame t: `assignment/t` `(G, C)` and `votes/t` `(C, K)`, logits; and `overview`.

    Args:
        image_shape: channels, height and width of a frame.
        features: maps of the clip.
        context: what the locator is told of a frame, from the context maps.
        read: maps crops `(B, C', h, w)` to `(B, D)`.
        crop_size: height and width h and w of a crop.
        locator: where.
        assignment: whose; its first logits tell the number of glimpses in a frame.
        workers: what follows.
        gate: maps a raw place `(B, 4)` to `(B, D)`, which multiplies what was read.
        pose: joints, for training.
        detached: let no gradient reach the place through the crop.
        straight: let gradients pass from glimpse to glimpse through the states of locator and workers only.
            What was seen decides where to look next, and so on: through all of these steps gradients grow.
        counted: frames at the end whose votes count, where what is asked is not known before; by default all,
            as published.

    Raises:
        ValueError: if a number is impossible, or a `JointLocator` has not one joint for each glimpse.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        features: Any,
        context: nn.Module,
        read: nn.Module,
        crop_size: Size,
        locator: RecurrentLocator | JointLocator,
        assignment: Assignment,
        workers: Workers,
        gate: nn.Module,
        pose: PoseHead | None = None,
        detached: bool = False,
        straight: bool = False,
        counted: int | None = None,
    ) -> None:
        super().__init__()
        checks.at_least(1, image_shape=image_shape, crop_size=crop_size, counted=counted)
        glimpses = len(assignment.first_logits)
        if isinstance(locator, JointLocator) and len(locator.joints) != glimpses:
            raise ValueError(
                f"`locator` must have a joint for each of the {glimpses} glimpses of `assignment`, "
                f"got {len(locator.joints)}."
            )
        self.counted = counted
        self._frozen = False
        self.image_shape = torch.Size(image_shape)
        self.features = features
        self.context, self.read, self.crop_size = context, read, crop_size
        self.locator, self.assignment, self.workers, self.gate = locator, assignment, workers, gate
        self.pose, self.detached, self.straight = pose, detached, straight
        self.overview = nn.Linear(int(self.features.overview_size), workers.classes)

    def freeze_sight(self) -> None:
        """Train maps, context and reading no more, nor their normalisation, as after the first stage."""
        self._frozen = True
        for part in self._sight:
            part.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> GlimpseClouds:
        """As any module, but for what is frozen."""
        super().train(mode)
        for part in self._sight if self._frozen else ():
            part.train(False)
        return self

    @property
    def _sight(self) -> tuple[nn.Module, ...]:
        return self.features, self.context, self.read

    @property
    def image_size(self) -> Size:
        """Height and width of a frame."""
        return self.image_shape[1], self.image_shape[2]

    @property
    def classes(self) -> int:
        """K."""
        return self.workers.classes

    @property
    def glimpses(self) -> int:
        """Glimpses in a frame, G."""
        return len(self.assignment.first_logits)

    def glance(self, video: Tensor) -> Glance:
        """The global path and the poses alone, see `forward`."""
        maps = self.features(self._pixels(video))
        joints = None if self.pose is None else self.pose(self.context(maps.context))
        return Glance(self.overview(maps.overview), joints)

    def forward(self, video: Tensor, joints: Tensor | None = None) -> Clouds:
        """Look.

        Args:
            video: `(B, T, C, H, W)`, floating point in [0, 1], or uint8, which stands for it.
            joints: for `JointLocator`, `(B, T, P, J, 2)`, x and y in [-1, 1].

        Raises:
            ValueError: if the video or the joints have another shape or type, or joints are needed and
                missing.
        """
        pixels = self._pixels(video)
        batch, frames = pixels.shape[:2]
        if joints is not None and (joints.dim() != 5 or joints.shape[:2] != (batch, frames)):
            raise ValueError(
                f"`joints` must have shape ({batch}, {frames}, P, J, 2), but got {tuple(joints.shape)}."
            )
        maps = self.features(pixels)
        context = self.context(maps.context)
        overview = self.overview(maps.overview)
        workers, place_state = self.workers.initial_state(overview), self.locator.initial_state(overview)
        glimpse: Tensor | None = None
        memory: GlimpseMemory | None = None
        seen = []
        with Plate("data", batch, dim=-1):
            pyro.deterministic("overview", overview, event_dim=1)
            for t in range(frames):
                known = None if joints is None else joints[:, t]
                coords, glimpses = [], []
                for g in range(self.glimpses):
                    if glimpse is None:
                        glimpse = context.new_zeros(batch, self.workers.input_size)
                    told = glimpse, workers.sum(1)
                    if self.straight:
                        told = glimpse.detach(), told[1].detach()
                    clue = Clue(context[:, t], *told, known)
                    place, place_state = self.locator(clue, g, place_state)
                    glimpse = self._look(maps.glimpses[:, t], place.coords) * self.gate(place.raw)
                    pyro.deterministic(f"place/{t}/{g}", place.coords, event_dim=1)
                    pyro.deterministic(f"glimpse/{t}/{g}", glimpse, event_dim=1)
                    coords.append(place.coords)
                    glimpses.append(glimpse)
                values = torch.stack(glimpses, dim=1)
                weights, memory = self.assignment(values, memory)
                votes, workers = self.workers(gathered(weights, values), workers)
                pyro.deterministic(f"assignment/{t}", weights, event_dim=2)
                pyro.deterministic(f"votes/{t}", votes, event_dim=2)
                seen.append((torch.stack(coords, dim=1), values, weights, votes))
        coords_all, values_all, weights_all, votes_all = (
            torch.stack(each, 1) for each in zip(*seen, strict=True)
        )
        found = None if self.pose is None else self.pose(context)
        return Clouds(coords_all, values_all, weights_all, votes_all, overview, found, self.counted)

    def _pixels(self, video: Tensor) -> Tensor:
        require_pixels("video", video, "BT", self.image_shape, allow_bytes=True)
        return video if video.is_floating_point() else video.to(self.overview.weight.dtype) / 255

    def _look(self, maps: Tensor, coords: Tensor) -> Tensor:
        where = coords.detach() if self.detached else coords
        return self.read(crop(maps, where, self.crop_size))


def location_gate(hidden: int, glimpse_size: int) -> nn.Sequential:
    """From a raw place to factors of what is read there, about 1 at first."""
    gate = mlp([4, hidden, glimpse_size])
    fill_output_bias(gate, 1.0)
    return gate


def ntu_glimpse_clouds(
    classes: int = 60,
    image_size: Size = (224, 224),
    glimpses: int = 3,
    workers: int = 3,
    learned_distance: bool = False,
    joints: Sequence[tuple[int, int]] | None = None,
    pose: tuple[int, int] = (2, 25),
    detached: bool = False,
    straight: bool = False,
    assignment: type[Assignment] = OverWorkers,
    counted: int | None = None,
) -> GlimpseClouds:
    """The published sizes: an inflated ResNet-50, 3 glimpses, 3 workers of 512 units.

    Locator, gate, assignment and workers have 17,153,473 parameters.

    Args:
        classes: K.
        image_size: height and width of frames.
        glimpses: in a frame.
        workers: how many.
        learned_distance: of glimpses, which is the paper's, with 131,072 parameters more; without it, that of
            the released program, by variances.
        joints: look at these joints of a pose that is given, and not where a locator says.
        pose: people, and joints of each, of the pose head.
        detached: see `GlimpseClouds`.
        straight: likewise.
        assignment: how glimpses are shared out.
        counted: see `GlimpseClouds`.
    """
    features = InflatedResNet()
    context = MeanContext(features.context_channels)
    size, hidden = features.glimpse_channels, 512
    locator = RecurrentLocator(size, context.size, hidden, hidden) if joints is None else JointLocator(joints)
    similarity = LearnedSimilarity(size) if learned_distance else ScaledSimilarity(size)
    return GlimpseClouds(
        (3, *image_size),
        features,
        context,
        MeanContext(size),
        (7, 7),
        locator,
        assignment(glimpses if joints is None else len(joints), workers, similarity),
        Workers(workers, size, hidden, classes),
        location_gate(256, size),
        PoseHead(context.size, *pose),
        detached,
        straight,
        counted,
    )


def small_glimpse_clouds(
    image_shape: tuple[int, int, int],
    classes: int,
    *,
    features: ClipFeatures | None = None,
    crop_size: Size = (24, 24),
    glimpses: int = 2,
    workers: int = 2,
    size: int = 64,
    reader: Sequence[int] = (16, 32, 32),
    hidden: int = 64,
    size_bias: float = -1.4,
    assignment: type[Assignment] = OverWorkers,
    context: type[PlacesContext] = PlacesContext,
    pose: tuple[int, int] | None = None,
    detached: bool = False,
    straight: bool = True,
    counted: int | None = None,
    keep: float = 0.0,
) -> GlimpseClouds:
    """A small one for CPUs: a coarse view of frames, and sharp glimpses.

    Args:
        image_shape: channels, height and width of a frame.
        classes: K.
        features: by default `CoarseFrames`.
        crop_size: height and width of a crop.
        glimpses: in a frame.
        workers: how many.
        size: of a glimpse, D.
        reader: channels of the convolutions that read a glimpse.
        hidden: units of locator and workers.
        size_bias: see `RecurrentLocator`; by default first windows have 0.2 of the frame's sides.
        assignment: how glimpses are shared out.
        context: how places are told to locator and pose head.
        pose: people and joints of the pose head; none by default.
        detached: see `GlimpseClouds`.
        straight: likewise.
        counted: likewise.
        keep: see `Workers`.
    """
    checks.at_least(1, crop_size=crop_size, size=size, reader=list(reader))
    maps: Any = features or CoarseFrames(image_shape[0])
    places = context(maps.context_channels)
    # As long as there is something to halve, but not at once.
    strides = [2 if number and min(crop_size) >= 4**number else 1 for number in range(len(reader))]
    convolutions = ConvFeatures((maps.glimpse_channels, *crop_size), reader, strides, size)
    read = nn.Sequential(convolutions, nn.LayerNorm(size, eps=_BLANK))
    return GlimpseClouds(
        image_shape,
        maps,
        places,
        read,
        crop_size,
        RecurrentLocator(size, places.size, hidden, hidden, size_bias),
        assignment(glimpses, workers, LearnedSimilarity(size)),
        Workers(workers, size, hidden, classes, keep),
        location_gate(32, size),
        None if pose is None else PoseHead(places.size, *pose),
        detached,
        straight,
        counted,
    )
