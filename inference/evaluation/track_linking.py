r"""Objects that were lost for a moment, and are found again.

A tracker that loses an object, behind another or where two are taken for one, finds it later as a new one.
`TrackLinker` gives such a find the name of what was lost, if it is where that would be by now. With the
middle m of a box, its sides w and h, and a velocity that follows the steps,

$$ v_t = v_{t-1} + r (m_t - m_{t-1} - v_{t-1}), \qquad
   \frac{|m_{t+g} - m_t - g v_t|}{\sqrt{w_t h_t}} \le \text{reach}, \qquad g \le \text{patience} $$

and the pairs of what was lost and what is found that are nearest come first. Names say which boxes are of one
object; boxes stay as they are, and what was named before is not named anew: a video may be of any length. It
is what trackers by detection do with the tracks that they have lost, as Wojke, Bewley and Paulus, *Simple
Online and Realtime Tracking with a Deep Association Metric*, 2017, and Zhang et al., *ByteTrack*, 2022.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from ... import checks
from .tracking_metrics import Tracks

__all__ = ["TrackLinker"]

_Values = npt.NDArray[np.float64]


class _Seen(NamedTuple):
    """An object when it was seen last."""

    identity: int
    frame: int
    middle: _Values
    """`(2,)`."""
    velocity: _Values
    """`(2,)`, pixels a frame."""
    side: float
    """Square root of the area of its box."""


class TrackLinker:
    """Names the objects of a video, which may come part by part.

    Args:
        patience: frames after which what was lost is not looked for any more; with 0 nothing is.
        reach: greatest distance from where it would be, in sides of a square as large as its box.
        rate: r, of the velocity's running mean.
    """

    def __init__(self, patience: int = 15, reach: float = 1.0, rate: float = 0.2) -> None:
        checks.not_negative(patience=patience, reach=reach)
        checks.within("[0, 1]", rate=rate)
        self.patience, self.reach, self.rate = patience, reach, rate
        self._names: dict[int, int] = {}  # of identities
        self._seen: dict[int, _Seen] = {}  # by name
        self._frame = 0
        self._count = 0

    def __call__(self, tracks: Tracks) -> Tracks:
        """The next part of the video, `(T, N)`, with names for identities: 0, 1, ... as they come."""
        names = torch.zeros_like(tracks.identities)
        for t, here in enumerate(tracks.present.bool()):
            boxes = tracks.boxes[t, here].double().cpu().numpy()
            named = self._named(boxes, tracks.identities[t, here].tolist())
            names[t, here] = names.new_tensor(named)
        return tracks._replace(identities=names)

    def _named(self, boxes: _Values, identities: list[int]) -> list[int]:
        """Names of the objects of the next frame."""
        middles, sides = boxes[:, :2] + boxes[:, 2:] / 2, np.sqrt(boxes[:, 2:].prod(1))
        new = [row for row, identity in enumerate(identities) if identity not in self._names]
        here = {self._names.get(identity) for identity in identities}
        lost = {name: seen for name, seen in self._seen.items() if name not in here}
        for row, name in self._pairs(middles, new, lost):
            self._names.pop(lost[name].identity, None)  # if that comes back it is another one
            self._names[identities[row]] = name
        for identity, middle, side in zip(identities, middles, sides, strict=True):
            if identity not in self._names:
                self._names[identity] = self._count
                self._count += 1
            self._see(self._names[identity], identity, middle, float(side))
        self._frame += 1
        self._seen = {
            name: seen for name, seen in self._seen.items() if self._frame - seen.frame <= self.patience
        }
        return [self._names[identity] for identity in identities]

    def _pairs(self, middles: _Values, new: list[int], lost: dict[int, _Seen]) -> list[tuple[int, int]]:
        """Rows of `new`, and names in `lost` that they take up, the nearest first."""
        near = []
        for name, seen in lost.items():
            expected = seen.middle + (self._frame - seen.frame) * seen.velocity
            distances = np.linalg.norm(middles[new] - expected, axis=1)
            near += [(far, row, name) for far, row in zip(distances / max(seen.side, 1.0), new, strict=True)]
        pairs: dict[int, int] = {}
        for far, row, name in sorted(near):
            if far <= self.reach and row not in pairs and name not in pairs.values():
                pairs[row] = name
        return list(pairs.items())

    def _see(self, name: int, identity: int, middle: _Values, side: float) -> None:
        velocity: _Values = np.zeros(2)
        before = self._seen.get(name)
        if before is not None:
            step = (middle - before.middle) / (self._frame - before.frame)
            velocity = before.velocity + self.rate * (step - before.velocity)
        self._seen[name] = _Seen(identity, self._frame, middle, velocity, side)
