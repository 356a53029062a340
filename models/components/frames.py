"""Programs on sequences, cut where one frame ends and the next begins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple


class Frames(NamedTuple):
    """A model or a guide of sequences as one step for each frame.

    What a frame may know of the frames before is in the state alone. So whoever runs the steps can change it
    in between, as a particle filter does that replaces unlikely particles by copies of likely ones.

    A program that has them offers a method `unroll`, with the arguments of a call, and `unroll(...).run()` is
    what a call does. `unroll` itself makes no statement, and each step opens the plates of its own: by
    `plates.Plate`, since a `pyro.plate` is a statement, which cannot be made once in every frame.
    """

    state: Any
    """What is carried into the first frame: tensors, in any nesting of tuples, lists and dictionaries.

    After each frame every tensor in it of two or more dimensions has the leading dimensions particles and
    batch; one that is the same for all particles may have 1 in their place.
    """
    steps: Sequence[Callable[[Any], tuple[Any, Any]]]
    """For each frame a function from the state to what is to be said about the frame, and the next state."""

    def run(self) -> list[Any]:
        """Run all frames, one after the other; returns what each says."""
        state, said = self.state, []
        for step in self.steps:
            frame, state = step(state)
            said.append(frame)
        return said
