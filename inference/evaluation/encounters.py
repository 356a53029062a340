r"""Objects that met, and are told apart by what they looked like before.

Where objects hide each other a tracker may leave with the name of the wrong one. So of each object that
overlaps no other its look h is remembered: for each third of its box, from top to bottom, and each channel,
the square roots of the shares of its pixels that are so bright, in twelve steps. Products of such vectors are
Bhattacharyya coefficients, as in Comaniciu, Ramesh and Meer, *Kernel-Based Object Tracking*, 2003:

$$ m_t = m_{t-1} + r (h_t - m_{t-1}), \qquad d(h, m) = 1 - h \cdot m . $$

Objects that overlap are in one encounter, with whom those have met, with what is lost there, and what
appears where that may be. When all of it that overlaps nothing has done so for some frames, the means of its
looks since are compared: two change names, or one takes that of what is lost, as long as the sum of the
distances of looks to what is remembered of names becomes less by a margin for each that is named anew; what
has just appeared is a stranger's distance from its own name. Who is farther than that from its name, while
others still overlap, waits for them. Boxes stay as they are, and what was named before is not named anew.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch

from ... import checks
from ...models.components.boxes import areas, intersection_areas
from .tracking_metrics import Tracks

__all__ = ["Encounters"]

_Values = npt.NDArray[np.float64]

_PARTS, _STEPS = 3, 12
"""Of a box, from top to bottom, and of brightness."""
_COLUMNS, _ROWS = 16, 16
"""Pixels that are looked at of each part."""
_ACROSS = (np.arange(_COLUMNS) + 0.5) / _COLUMNS
_DOWN = (np.arange(_PARTS * _ROWS) + 0.5) / (_PARTS * _ROWS)
"""Where they are, in widths and heights of the box."""
_WEIGHT = np.exp(-2 * (2 * _ACROSS - 1) ** 2)
"""Of columns: the middle counts more than what may be seen beside the object."""
_REACH, _DRIFT = 1.5, 0.2
"""How far from where it was lost an object may appear, in sides of a square as large; and farther a frame."""


@dataclass
class _Known:
    """What is known of a name."""

    identity: int
    frame: int
    """When it was seen last, and where."""
    box: _Values
    look: _Values | None = None
    """What it looked like when it had met none."""
    since: list[_Values] = field(default_factory=list)
    """How it has looked since it overlaps nothing, if it is in an encounter."""


class Encounters:
    """Names the objects of a video, which may come part by part.

    Args:
        steady: frames without an overlap after which looks are compared.
        overlap: share of the smaller of two boxes from which on they overlap.
        margin: by which distances must become less for each object that is named anew.
        strange: distance of a new object from its own name.
        patience: frames after which what was lost is forgotten, those included in which looks are taken.
        rate: r, of what is remembered.
    """

    def __init__(
        self,
        steady: int = 4,
        overlap: float = 0.2,
        margin: float = 0.03,
        strange: float = 0.1,
        patience: int = 30,
        rate: float = 0.1,
    ) -> None:
        checks.whole(steady=steady, patience=patience)
        checks.positive(steady=steady, patience=patience)
        checks.not_negative(margin=margin, strange=strange)
        checks.within("[0, 1]", overlap=overlap, rate=rate)
        self.steady, self.overlap, self.margin, self.strange = steady, overlap, margin, strange
        self.patience, self.rate = patience, rate
        self._names: dict[int, int] = {}  # of identities
        self._known: dict[int, _Known] = {}  # by name
        self._met: dict[int, set[int]] = {}  # the encounter that a name is in; all of them share it
        self._frame = 0
        self._count = 0

    def __call__(self, tracks: Tracks, frames: npt.NDArray[np.uint8]) -> Tracks:
        """The next part of the video, `(T, N)`, with names for identities: 0, 1, ... as they come.

        Args:
            tracks: what was found, boxes in pixels of the frames.
            frames: `(T, C, H, W)`.

        Raises:
            ValueError: if there is not a frame for each.
        """
        if len(frames) != len(tracks.present):
            raise ValueError(
                f"expected {len(tracks.present)} frames, as many as of tracks, got {len(frames)}"
            )
        names = torch.zeros_like(tracks.identities)
        for t, here in enumerate(tracks.present.bool()):
            boxes = tracks.boxes[t, here].double().cpu().numpy()
            names[t, here] = names.new_tensor(
                self._named(boxes, tracks.identities[t, here].tolist(), frames[t])
            )
        return tracks._replace(identities=names)

    def _named(self, boxes: _Values, identities: list[int], frame: npt.NDArray[np.uint8]) -> list[int]:
        """Names of the objects of the next frame."""
        new = [row for row, identity in enumerate(identities) if identity not in self._names]
        for row in new:
            self._names[identities[row]] = self._count
            self._count += 1
        names = [self._names[identity] for identity in identities]
        for row in new:
            self._appear(names[row], boxes[row], set(names))
        apart = self._gather(names, boxes)
        for name, identity, box, alone in zip(names, identities, boxes, apart, strict=True):
            known = self._known.setdefault(name, _Known(identity, self._frame, box))
            if not alone or known.frame < self._frame - 1:
                known.since.clear()
            known.frame, known.box = self._frame, box
            if alone:
                known.since = [*known.since, _look(frame, box)][-self.steady :]
                if name not in self._met:
                    self._remember(known)
        for met in {id(met): met for name in names if (met := self._met.get(name))}.values():
            self._part(met, names)
        self._frame += 1
        for name in [n for n, known in self._known.items() if self._frame - known.frame > self.patience]:
            self._forget(name)
        return [self._names[identity] for identity in identities]

    def _gather(self, names: list[int], boxes: _Values) -> list[bool]:
        """Let those meet that overlap, or did when one was lost; whether each overlaps none."""
        overlaps = _overlaps(boxes, boxes) > self.overlap
        np.fill_diagonal(overlaps, False)
        for one, other in zip(*np.nonzero(overlaps), strict=True):
            self._meet(names[one], names[other])
        for name in self._known.keys() - set(names):
            known = self._known[name]
            if known.frame == self._frame - 1:
                for row in np.flatnonzero(_overlaps(known.box[None], boxes)[0] > self.overlap):
                    self._meet(name, names[row])
        return [not row.any() for row in overlaps]

    def _appear(self, name: int, box: _Values, here: set[int]) -> None:
        """A new object is in the encounters that it may come out of, or is what was lost nearby."""
        for other, known in self._known.items():
            if other not in here or other in self._met:
                away = box[:2] + box[2:] / 2 - known.box[:2] - known.box[2:] / 2
                reach = _REACH + _DRIFT * (self._frame - known.frame)
                if np.hypot(*away) < reach * np.sqrt(known.box[2:].prod()):
                    self._meet(name, other)

    def _meet(self, one: int, other: int) -> None:
        both = self._met.get(one, {one}) | self._met.get(other, {other})
        self._met.update(dict.fromkeys(both, both))

    def _remember(self, known: _Known) -> None:
        for look in known.since:
            known.look = look if known.look is None else known.look + self.rate * (look - known.look)
        known.since.clear()

    def _part(self, met: set[int], names: list[int]) -> None:
        """Name those of an encounter that are apart, if all of them have been for long enough."""
        apart = [name for name in names if name in met and self._known[name].since]
        if not apart or any(len(self._known[name].since) < self.steady for name in apart):
            return
        lost = [name for name in met - set(names) if self._known[name].look is not None]
        candidates = apart + sorted(lost)
        parted = [self._known[name] for name in apart]
        distances = self._distances(parted, candidates)
        together = met & set(names) - set(apart)
        for row, column in enumerate(_exchanged(distances, self.margin)):
            if column == row and together and distances[row, column] > self.strange:
                continue  # it looks like none of them: its name may be that of one who is not apart yet
            known, name = parted[row], candidates[column]
            before = self._known[name]
            if before is not known:
                self._release(name, before.identity)  # if that comes back it is another one
                self._names[known.identity] = name
            self._known[name] = now = replace(known, look=before.look)
            self._remember(now)
            met.discard(name)
            del self._met[name]
        for name, known in zip(apart, parted, strict=True):
            if self._names[known.identity] != name and name in met:  # nobody has it now
                if known.look is None:
                    self._forget(name)
                else:
                    known.frame -= 1  # it is lost, and did not vanish here

    def _distances(self, parted: list[_Known], candidates: list[int]) -> _Values:
        """`(N, M)`, of looks to what is remembered of names, of which the first N are their own."""
        distances = np.full((len(parted), len(candidates)), np.inf)
        for row, known in enumerate(parted):
            look = np.mean(known.since, axis=0)
            for column, name in enumerate(candidates):
                remembered = self._known[name].look
                if remembered is not None:
                    distances[row, column] = 1 - look @ remembered
                elif row == column:
                    distances[row, column] = self.strange
        return distances

    def _release(self, name: int, identity: int) -> None:
        """An identity has that name no more, if it has it still."""
        if self._names.get(identity) == name:
            del self._names[identity]

    def _forget(self, name: int) -> None:
        """What it looked like, and whom it met; an identity keeps it."""
        del self._known[name]
        self._met.pop(name, set()).discard(name)


def _overlaps(boxes: _Values, others: _Values) -> _Values:
    """Shares `(N, M)` of the smaller of two boxes, `(N, 4)` and `(M, 4)`, that the other covers."""
    first, second = torch.from_numpy(boxes)[:, None], torch.from_numpy(others)
    smaller = areas(first).minimum(areas(second)).clamp(min=1e-12)
    overlaps: _Values = (intersection_areas(first, second) / smaller).numpy()
    return overlaps


def _look(frame: npt.NDArray[np.uint8], box: _Values) -> _Values:
    """Square roots of histograms of a box of a frame `(C, H, W)`, `(parts C steps)`, of length 1."""
    x, y = (
        np.clip((at + side * share).astype(int), 0, most - 1)
        for at, side, share, most in zip(box[:2], box[2:], (_ACROSS, _DOWN), frame.shape[:0:-1], strict=True)
    )
    steps = frame[:, y][:, :, x].astype(int) * _STEPS // 256
    counts = np.zeros((_PARTS, len(frame), _STEPS))
    part = (np.arange(len(_DOWN)) // _ROWS)[:, None]
    np.add.at(counts, (part, np.arange(len(frame))[:, None, None], steps), _WEIGHT)
    look: _Values = np.sqrt(counts / counts.sum()).ravel()
    return look


def _exchanged(distances: _Values, margin: float) -> list[int]:
    """Columns for the rows of distances `(N, M)`: their own, the first N, exchanged while that is a gain."""
    at = list(range(len(distances)))
    while True:
        cost = distances[np.arange(len(at)), at]
        swapped = cost[:, None] + cost - distances[:, at] - distances[:, at].T - 2 * margin  # (N, N)
        free = [column for column in range(distances.shape[1]) if column not in at]
        given = cost[:, None] - distances[:, free] - margin  # (N, F)
        gains = np.concatenate([swapped, given], axis=1)
        row, best = np.unravel_index(gains.argmax(), gains.shape)
        if not gains[row, best] > 1e-9:  # a gain of rounding would be one again after the exchange
            return at
        if best < len(at):
            at[row], at[best] = at[best], at[row]
        else:
            at[row] = free[best - len(at)]
