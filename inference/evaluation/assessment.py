"""Is it good? What a report says without a label, against what is known of training, and what to change."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .empty_scene import empty_scene_bound
from .frame_look import FrameLook, frame_look
from .log_marginal import log_marginal

__all__ = ["Assessment", "Assessor", "Known", "no_better_than_empty", "watched_metrics"]

_LOOKED_AT, _WATCHED = 8, 64  # frames of a part, and during training
_UNUSUAL = 0.1  # nats a pixel that frames which a model knows are never below its own data
_GAP = 0.05  # share of what objects are worth, by which held-out data may be below training data
_FULL = 0.2  # share of frames that use all slots, from which on objects are likely to be missing
_BRIGHTER = 0.25  # grey value by which the background may differ from that of training
_INKIER, _ALWAYS_INKY = 4.0, 0.4  # times more of the frame that is no background, and share that is too much
_SIZES = 2.0  # times larger or smaller that objects may be
_NO_INK = 1e-5  # share of the pixels


class Known(NamedTuple):
    """What a checkpoint knows of its training; NaN is unknown."""

    bound: float = math.nan
    """Evidence lower bound of a held-out frame, in nats."""
    train_bound: float = math.nan
    """That of a training frame."""
    background: float = 0.0
    """See `FrameLook`; of frames whose background is not known it should be black."""
    ink: float = math.nan
    """See there."""
    side: float = math.nan
    """See there."""
    pixels: int | None = None
    """Numbers of a frame."""

    @classmethod
    def of(cls, metrics: Mapping[str, float], pixels: int | None = None) -> Known:
        """From the metrics of a checkpoint, see `watched_metrics`.

        Args:
            metrics: by name; others are left alone.
            pixels: channels times height times width of the frames it was trained on.
        """
        names = {"bound": "bound_per_frame", "train_bound": "train_bound_per_frame"}
        names |= {name: f"frame_{name}" for name in FrameLook._fields}
        found = {field: metrics[name] for field, name in names.items() if name in metrics}
        return cls(**found, pixels=pixels)


class Assessment(NamedTuple):
    """How well a model explains frames, and how well it knows such frames; nats are per frame."""

    bound: float
    """Evidence lower bound."""
    empty_bound: float
    """That of a scene without objects, see `empty_scene_bound`: the difference is what objects are worth."""
    slots: int
    """Most objects that the model can see in a frame."""
    objects: float
    """Mean number of objects found in a frame."""
    full_frames: float
    """Share of the frames with as many as there are slots."""
    look: FrameLook
    """What the frames look like."""
    pixels: int
    """Numbers of a frame."""
    known: Known
    """What is known of training."""

    @property
    def usual_bound(self) -> float:
        """The held-out bound of training, as if its frames had as many pixels; NaN where it is not known."""
        return self.known.bound * self._size

    @property
    def _size(self) -> float:
        """Of these frames, in that of those of training."""
        return 1.0 if self.known.pixels is None else self.pixels / self.known.pixels

    def lines(self) -> list[str]:
        """The numbers for people to read."""
        used = f"{self.objects:.2f} of {self.slots} on average, all in {self.full_frames:.0%} of the frames"
        worth = self.bound - self.empty_bound
        lines = [
            f"bound            {self.bound:.1f} nats a frame; of empty scenes {self.empty_bound:.1f}, "
            f"so objects are worth {worth:.1f}",
            f"slots used       {used}",
        ]
        if math.isfinite(self.known.bound):
            of_training = f"; of training frames {self.known.train_bound * self._size:.1f}"
            more = of_training if math.isfinite(self.known.train_bound) else ""
            lines.append(f"known frames     {self.usual_bound:.1f} nats{more}")
        return lines

    def remarks(self) -> list[str]:
        """What is wrong, and what to change, a sentence each; nothing where nothing is."""
        return [*self._of_frames(), *self.of_model(), *self._of_training()]

    def unknown(self) -> list[str]:
        """Why the frames are not what the model knows."""
        reasons = list(self._of_frames())
        if self.bound < self.usual_bound - _UNUSUAL * self.pixels:
            reasons.append(
                f"the bound is {self.bound:.0f} nats a frame, that of known ones {self.usual_bound:.0f}"
            )
        return reasons

    def _of_frames(self) -> Iterator[str]:
        look, known = self.look, self.known
        if look.ink < _NO_INK:
            yield (
                "frames are empty: no pixel differs from the background by a fifth of the grey scale; "
                "if there are faint objects, normalise"
            )
            return
        if look.background > known.background + _BRIGHTER:
            yield (
                f"the background is bright ({look.background:.2f}, in training {known.background:.2f}), "
                "and objects are drawn on a dark one: invert the frames, or take the background away"
            )
        elif look.background < known.background - _BRIGHTER:
            yield (
                f"the background is dark ({look.background:.2f}, in training {known.background:.2f}): "
                "prepare the frames as those of training were"
            )
        most = _ALWAYS_INKY if math.isnan(known.ink) else max(_INKIER * known.ink, known.ink + 0.15)
        if look.ink > most:
            usual = "" if math.isnan(known.ink) else f", in training {known.ink:.0%}"
            yield (
                f"{look.ink:.0%} of the pixels are no plain background{usual}: take the background away, "
                "if the camera stands still"
            )
        elif look.side * _SIZES < known.side or look.side > _SIZES * known.side:
            yield (
                f"objects are {look.side:.1f} pixels large, in training {known.side:.1f}: scale the frames "
                f"by {known.side / look.side:.2g}, or train on such"
            )

    def of_model(self) -> Iterator[str]:
        """What is wrong with the model on these frames, and what to change."""
        if self.bound <= self.empty_bound:
            yield (
                f"frames are explained no better than if they were empty ({self.bound:.1f} <= "
                f"{self.empty_bound:.1f} nats a frame): train longer, make pixels surer (a smaller "
                "likelihood scale), or objects cheaper; or the sizes of the prior do not fit"
            )
        elif self.objects == 0 and self.look.ink >= _NO_INK:
            yield "nothing is found: objects may cost more than they explain; make pixels surer"
        if self.full_frames > _FULL:
            yield (
                f"all {self.slots} slots are used in {self.full_frames:.0%} of the frames: there may be more "
                "objects than can be found; give it more (`--network.max-count`, or `--max-count` of SQAIR's "
                "`track`)"
            )

    def _of_training(self) -> Iterator[str]:
        trained = self.known.train_bound * self._size
        if trained - self.usual_bound > _GAP * abs(trained - self.empty_bound):
            yield (
                f"training frames are explained better than held-out ones ({trained:.1f} and "
                f"{self.usual_bound:.1f} nats): more data, mirrored ones, or a shorter training"
            )


class Assessor:
    """Collects what an assessment is made of, part by part.

    Args:
        model: its statements of presence are called `z_pres`.
        guide: infers what is behind the objects, if that is a part of the model.
    """

    def __init__(self, model: Any, guide: Any = None) -> None:
        self.model, self.guide = model, guide
        self._bounds: list[Tensor] = []
        self._empty: list[Tensor] = []
        self._counts: list[Tensor] = []
        self._looks: list[FrameLook] = []
        self._slots = self._pixels = 0

    def add(self, data: Tensor, bound: Tensor, present: Tensor) -> None:
        """Take a part into account.

        Args:
            data: images `(B, C, H, W)` or videos `(B, T, C, H, W)`.
            bound: on the log-probability of each, `(B,)`.
            present: where objects were found, `(B, [T,] N)`.
        """
        frames, length = frames_of(objects_in(data, self.guide)), _per_datum(data)
        self._bounds.append(bound.detach().cpu().double() / length)
        self._empty.append(empty_scene_bound(self.model, data, self.guide).cpu().double() / length)
        self.count(present)
        chosen = torch.linspace(0, len(frames) - 1, min(_LOOKED_AT, len(frames))).round().long()
        self._looks.append(frame_look(frames[chosen.to(frames.device)].cpu()))
        self._pixels = frames_of(data)[0].numel()

    def count(self, present: Tensor) -> None:
        """Take a part into account of which only the objects are looked at."""
        self._counts.append((present > 0).sum(-1).flatten().cpu())
        self._slots = present.shape[-1]

    @classmethod
    def joined(cls, parts: Sequence[Assessor]) -> Assessor:
        """What several have collected, at least one."""
        whole = cls(parts[0].model, parts[0].guide)
        for part in parts:
            whole._bounds += part._bounds
            whole._empty += part._empty
            whole._counts += part._counts
            whole._looks += part._looks
            whole._slots, whole._pixels = part._slots, part._pixels
        return whole

    def assessment(self, known: Known) -> Assessment:
        """Of all that was added; there must be something."""
        counts = torch.cat(self._counts)
        columns = torch.tensor(self._looks, dtype=torch.float64)
        return Assessment(
            torch.cat(self._bounds).mean().item(),
            torch.cat(self._empty).mean().item(),
            self._slots,
            counts.double().mean().item(),
            (counts == self._slots).double().mean().item(),
            FrameLook(*columns.nanmean(0).tolist()),
            self._pixels,
            known,
        )


@torch.no_grad()
def watched_metrics(model: Any, guide: Any, held_out: Tensor, training: Tensor) -> dict[str, float]:
    """What is watched during training besides a held-out bound, and kept for `Known.of`.

    Args:
        model: its statements of presence are called `z_pres`.
        guide: infers them.
        held_out: some images `(B, C, H, W)`, or videos `(B, T, C, H, W)`.
        training: some of those that are trained on, of the same length.
    """
    frames = frames_of(objects_in(held_out, guide))
    chosen = torch.linspace(0, len(frames) - 1, min(_WATCHED, len(frames))).round().long()
    look = frame_look(frames[chosen.to(frames.device)].cpu())
    bound = log_marginal(model, guide, training, num_particles=1).mean()
    values = {
        "empty_bound_per_frame": empty_scene_bound(model, held_out, guide).mean().item()
        / _per_datum(held_out),
        "train_bound_per_frame": bound.item() / _per_datum(training),
        **{f"frame_{name}": value for name, value in look._asdict().items()},
    }
    return {name: value for name, value in values.items() if math.isfinite(value)}


def no_better_than_empty(metrics: Mapping[str, float]) -> str:
    """A line for those whose model has learned nothing yet; empty where it has, or that is not known."""
    bound, empty = (metrics.get(f"{name}bound_per_frame", math.nan) for name in ("", "empty_"))
    if not bound <= empty:
        return ""
    return f"frames are explained no better than if they were empty: {bound:.1f} <= {empty:.1f} nats a frame"


def objects_in(data: Tensor, guide: Any) -> Tensor:
    """What a guide looks for objects in: images or videos, or how far they are from their background."""
    background = getattr(guide, "background", None)
    if background is None:
        return data
    objects: Tensor = background.look(data).objects
    if objects.shape[-3] == data.shape[-3]:
        return objects.abs()
    brighter, darker = objects.chunk(2, dim=-3)
    return brighter + darker


def frames_of(data: Tensor) -> Tensor:
    """Images `(B, C, H, W)`, or the frames of videos `(B, T, C, H, W)`, one after the other."""
    return data if data.dim() == 4 else data.flatten(0, 1)


def _per_datum(data: Tensor) -> int:
    return len(frames_of(data)) // len(data)
