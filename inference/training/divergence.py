"""Whether an error is a fault of the program, or of values that have ceased to be finite."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from .nonfinite import nonfinite_state

__all__ = ["nonfinite_cause"]

_NAMED = 3
# What PyTorch's distributions and samplers say of values that are not finite.
_TELLTALE = re.compile(
    r"invalid values:.*\b(nan|inf)\b|non-finite|probability tensor contains|p_in >= 0 && p_in <= 1", re.DOTALL
)


def nonfinite_cause(
    module: nn.Module, error: BaseException, repeat: Callable[[], object] | None = None
) -> str | None:
    """Say what is not finite, if an error comes from that.

    A network that diverges seldom gives a loss that is NaN: the distributions before it refuse their
    parameters, or PyTorch fails inside, in words of its own.

    Args:
        module: what failed, for example an objective.
        error: what it failed with.
        repeat: calls the module once more in the same way, to see where values cease to be finite.

    Returns:
        half a sentence; None where everything is finite, so that the error has another cause.
    """
    if names := nonfinite_state(module):
        return "not finite: " + ", ".join(f"`{name}`" for name in names[:_NAMED])
    if repeat is not None and (name := _first_nonfinite(module, repeat)) is not None:
        return f"the output of `{name}` is not finite"
    if _TELLTALE.search(str(error)):
        return "a distribution got parameters that are not finite"
    return None


def _first_nonfinite(module: nn.Module, repeat: Callable[[], object]) -> str | None:
    """The first module whose output is not finite when a failed call is repeated."""
    found: list[str] = []

    def watch(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def look(_: nn.Module, arguments: Any, output: Any) -> None:
            if not found and not all(bool(torch.isfinite(tensor).all()) for tensor in _tensors(output)):
                found.append(name)

        return look

    with ExitStack() as stack:
        for name, part in module.named_modules():
            handle = part.register_forward_hook(watch(name or type(module).__name__))
            stack.callback(handle.remove)
        try:
            with torch.no_grad():
                repeat()
        except Exception:  # the same error again, we know of it
            pass
    return found[0] if found else None


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, Mapping):
        for entry in value.values():
            yield from _tensors(entry)
    elif isinstance(value, tuple | list):
        for entry in value:
            yield from _tensors(entry)
