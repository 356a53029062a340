"""Running networks only where there is an object.

A trained SQAIR finds one object on average in three slots for propagation and three for discovery, but
statements have one shape for all particles and videos, so most of what its networks compute is masked. With
the active set in use they see the rows that are present, and absent ones are filled with zeros, which
nothing depends on: the log-weights and gradients are the same. The number of rows has to be known, which
waits for a GPU and fits no CUDA graph: it is for CPUs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class Rows:
    """The rows of some leading axes where something is present, in order.

    Args:
        present: positive where something is present, any shape.
    """

    def __init__(self, present: Tensor) -> None:
        self.shape = torch.Size(present.shape)  # a plain tuple under Pyro's tracking of provenance
        self.index = (present > 0).flatten().nonzero().squeeze(-1)
        self.none, self.all = not len(self.index), len(self.index) == self.shape.numel()
        # Networks see at least one row, whose result `put` drops: many operations refuse to see none.
        self._taken = self.index.new_zeros(1) if self.none else self.index

    def take(self, values: Tensor, event_dims: int = 1) -> Tensor:
        """These rows of `(..., *event)`, whose leading axes broadcast to the shape: `(R, *event)`."""
        event = values.shape[values.dim() - event_dims :]
        every = values.expand(*self.shape, *event).reshape(-1, *event)
        return every if self.all else every.index_select(0, self._taken)

    def take_images(self, images: Tensor) -> Tensor:
        """Each row's image, of `(B, C, H, W)` where B is the last of the leading axes."""
        if len(images) == 1:  # of one video no copies, which are large if all of it is looked at
            return images.expand(len(self._taken), *images.shape[1:])
        return images.index_select(0, self._taken % self.shape[-1])

    def put(self, values: Any) -> Any:
        """The inverse of `take`, with zeros in the other rows; also of tuples of tensors, nested or not."""
        if values is None:
            return None
        if isinstance(values, Tensor):
            if self.all:
                return values.unflatten(0, self.shape)
            full = values.new_zeros(self.shape.numel(), *values.shape[1:])
            return full.index_copy(0, self.index, values[: len(self.index)]).unflatten(0, self.shape)
        return type(values)(*map(self.put, values))  # a NamedTuple


class AllRows(Rows):
    """Every row, whatever is present: their number is that of the leading axes, and reads nothing back.

    Args:
        shape: of the leading axes.
    """

    def __init__(self, shape: torch.Size) -> None:
        self.shape = shape
        self.none = False

    def take(self, values: Tensor, event_dims: int = 1) -> Tensor:
        """`(..., *event)`, whose leading axes broadcast to the shape, as `(R, *event)`."""
        event = values.shape[values.dim() - event_dims :]
        return values.expand(*self.shape, *event).reshape(-1, *event)

    def take_images(self, images: Tensor) -> Tensor:
        """Each row's image, of `(B, C, H, W)` where B is the last of the leading axes."""
        return self.take(images, event_dims=3)

    def put(self, values: Any) -> Any:
        """The inverse of `take`; also of tuples of tensors, nested or not."""
        if isinstance(values, Tensor):
            return values.unflatten(0, self.shape)
        return type(values)(*map(self.put, values))  # a NamedTuple


class ActiveSet:
    """Mixin of modules that can leave out absent slots, see `use_active_set`.

    Where there is none, a network is not run at all, once it is known what shape its results have; so within
    a module every name of a network or method stands for one.
    """

    active_set: bool = False

    def where_present(
        self, network: Callable[..., Any], present: Tensor, *inputs: Tensor, images: Tensor | None = None
    ) -> Any:
        """`network(*inputs)`, with zeros where nothing is present if the active set is in use.

        Args:
            network: maps inputs `(..., D)`, whatever their leading axes, to a tensor or NamedTuple of such.
            present: positive where there is something, `(...)`.
            inputs: `(..., D)`; leading axes broadcast.
            images: `(B, C, H, W)`, the first argument of the network if given.
        """
        if not self.active_set:
            return network(*inputs) if images is None else network(images, *inputs)
        return self._by_rows(network, Rows(self._leading(present, inputs)), inputs, images)

    def rows_where_present(
        self, network: Callable[..., Any], present: Tensor, *inputs: Tensor, images: Tensor | None = None
    ) -> Any:
        """The same for a network that wants rows: inputs `(R, D)`, and an image for each, `(R, C, H, W)`."""
        present = self._leading(present, inputs)
        rows = Rows(present) if self.active_set else AllRows(present.shape)
        return self._by_rows(network, rows, inputs, images)

    @staticmethod
    def _leading(present: Tensor, inputs: tuple[Tensor, ...]) -> Tensor:
        """Presence with the leading axes of all inputs."""
        if all(x.shape[:-1] == present.shape for x in inputs):
            return present
        return present.expand(torch.broadcast_shapes(present.shape, *(x.shape[:-1] for x in inputs)))

    def _by_rows(
        self, network: Callable[..., Any], rows: Rows, inputs: tuple[Tensor, ...], images: Tensor | None
    ) -> Any:
        known: dict[str, Any] = vars(self).setdefault("_results", {})
        name = getattr(network, "__name__", type(network).__name__)
        if rows.none and name in known:
            return _zeros(known[name], rows.shape, inputs[0])
        taken = [rows.take(x) for x in inputs]
        result = network(*taken) if images is None else network(rows.take_images(images), *taken)
        if name not in known:
            known[name] = _events(result)
        return rows.put(result)


def _events(result: Any) -> Any:
    """Shapes of a network's results without the rows, in the same nesting."""
    if result is None or isinstance(result, Tensor):
        return None if result is None else torch.Size(result.shape[1:])
    return type(result)(*map(_events, result))


def _zeros(events: Any, leading: torch.Size, like: Tensor) -> Any:
    """Zeros for results with these shapes."""
    if events is None or isinstance(events, torch.Size):
        return None if events is None else like.new_zeros(*leading, *events)
    return type(events)(*(_zeros(event, leading, like) for event in events))


def use_active_set(*programs: nn.Module, on: bool = True) -> None:
    """Make models and guides run their networks only on slots where there is an object, or on all again."""
    for program in programs:
        for module in program.modules():
            if isinstance(module, ActiveSet):
                module.active_set = on
