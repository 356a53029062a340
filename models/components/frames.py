"""Programs on sequences, cut where one frame ends and the next begins."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

from .plates import Plate

Step = Callable[[Any], tuple[Any, Any]]
"""From the state to what is to be said about a frame, and the next state."""


class Frames(NamedTuple):
    """A model or a guide of sequences as one step for each frame.

    What a frame may know of the frames before is in the state alone. So whoever runs the steps can change it
    in between, as a particle filter does that replaces unlikely particles by copies of likely ones.

    A program that has them offers a method `unroll`, with the arguments of a call, and `unroll(...).run()` is
    what a call does. `unroll` itself samples nothing; a plate, which is a statement that can be made once
    only, is made there, and opened anew by each step, as `Frames.of_data` does.
    """

    state: Any
    """What is carried into the first frame: tensors, in any nesting of tuples, lists and dictionaries.

    After each frame every tensor in it of two or more dimensions has the leading dimensions particles and
    batch; one that is the same for all particles may have 1 in their place.
    """
    steps: Sequence[Step]
    """One for each frame."""

    @classmethod
    def of_data(cls, size: int, state: Any, steps: Iterable[Step]) -> Frames:
        """Frames of independent sequences, each step within the plate of these, `"data"`.

        Args:
            size: number of sequences, the last dimension before an event's.
            state: as the field.
            steps: as the field, without the plate.
        """
        plate = Plate("data", size, dim=-1)
        return cls(state, [partial(_within, plate, step) for step in steps])

    def run(self) -> list[Any]:
        """Run all frames, one after the other; returns what each says."""
        state, said = self.state, []
        for step in self.steps:
            frame, state = step(state)
            said.append(frame)
        return said


def _within(plate: Plate, step: Step, state: Any) -> tuple[Any, Any]:
    with plate:
        return step(state)
