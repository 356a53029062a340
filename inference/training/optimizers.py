"""Optimisers: a factory, parameter groups by name, the RMSProp of TensorFlow, and limits of gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn

from ... import checks

__all__ = [
    "OptimizerName",
    "RMSPropTF",
    "learning_rates",
    "make_optimizer",
    "parameter_groups",
    "rms_clip_norm",
    "set_learning_rates",
]

OptimizerName = Literal["adam", "adamw", "rmsprop", "sgd"]


def parameter_groups(
    module: nn.Module, lr: float, others: Mapping[str, float] | None = None
) -> list[dict[str, Any]]:
    """Split a module's parameters into groups with learning rates of their own.

    Baseline networks, for example, commonly learn faster than the model: `{"guide.baseline": 1e-3}`.

    Args:
        module: the objective, with `model` and `guide`.
        lr: learning rate of all parameters not named otherwise.
        others: learning rates by the dotted name of a sub-module or parameter.

    Returns:
        groups `{"params", "lr", "name"}` for an optimiser: `main` first, then one for each entry of `others`.

    Raises:
        ValueError: a name matches no parameter, two names match the same one, or a rate is negative or not
            finite.
    """
    others = others or {}
    checks.not_negative(lr=lr, **others)
    groups: dict[str, dict[str, Any]] = {
        name: {"params": [], "lr": rate, "name": name} for name, rate in {"main": lr, **others}.items()
    }
    for name, parameter in module.named_parameters():
        matching = [prefix for prefix in others if name == prefix or name.startswith(prefix + ".")]
        if len(matching) > 1:
            raise ValueError(f"parameter `{name}` has several learning rates: those of {matching}")
        groups[matching[0] if matching else "main"]["params"].append(parameter)
    empty = [name for name in others if not groups[name]["params"]]
    if empty:
        raise ValueError(f"no parameter of `{type(module).__name__}` is named {', '.join(map(repr, empty))}")
    return [group for group in groups.values() if group["params"]]


def rms_clip_norm(parameters: Iterable[Tensor], limit: float = 0.3) -> float:
    """The norm of all gradients together at which the root of their mean square is `limit`.

    HART's authors scale gradients down to a root mean square of 0.3 (released code): for KITTI's 1.7 million
    parameters a norm of 391, which stops nothing but explosions.

    Args:
        parameters: all that have a gradient.
        limit: largest root mean square of the components.

    Returns:
        what `TrainingConfig.clip_norm` must be.

    Raises:
        ValueError: if the limit is not positive, or there are no parameters.
    """
    checks.positive(limit=limit)
    count = sum(parameter.numel() for parameter in parameters)
    if not count:
        raise ValueError("`parameters` must be some, got none")
    return limit * math.sqrt(count)


def make_optimizer(
    name: OptimizerName, parameters: Iterable[Tensor] | Iterable[dict[str, Any]], lr: float, **options: Any
) -> torch.optim.Optimizer:
    """Make an optimiser, in its fastest implementation.

    Args:
        name: `adam` or `adamw` (fused), `sgd`, or `rmsprop`, TensorFlow's (see `RMSPropTF`).
        parameters: parameters, or groups (see `parameter_groups`).
        lr: learning rate of groups without one of their own.
        options: further arguments of the optimiser's constructor.

    Raises:
        ValueError: the name is unknown, or the rate negative or not finite.
    """
    makers: dict[str, Callable[..., torch.optim.Optimizer]] = {
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "rmsprop": RMSPropTF,
        "sgd": torch.optim.SGD,
    }
    checks.one_of(makers, name=name)
    checks.not_negative(lr=lr)
    if name in ("adam", "adamw"):
        options = {"fused": True, **options}
    return makers[name](parameters, lr=lr, **options)


def set_learning_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set the learning rate of each group to a factor times that it began with, its `initial_lr`."""
    for group in optimizer.param_groups:
        rate = group["initial_lr"] * factor
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def learning_rates(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """The learning rates of all groups, under the names they have in the log."""
    first, *others = optimizer.param_groups
    named: Sequence[tuple[str, Any]] = [(str(g.get("name", i)), g) for i, g in enumerate(others, start=1)]
    return {
        "learning_rate": float(first["lr"]),
        **{f"learning_rate/{name}": float(group["lr"]) for name, group in named},
    }


class RMSPropTF(torch.optim.Optimizer):
    r"""RMSProp as TensorFlow computes it, with which AIR and SQAIR were trained.

        s <- decay * s + (1 - decay) * g^2                         (s starts at 1)
        m <- decay * m + (1 - decay) * g                           (centred only; else m = 0)
        b <- momentum * b + lr * g / sqrt(s - m^2 + eps)
        p <- p - b

    It differs from `torch.optim.RMSprop` in three ways: the mean square `s` starts at 1, not 0, so the first
    steps are proportional to the gradient instead of several learning rates long whatever its size; `eps` is
    inside the root; and the learning rate is inside the momentum, so that a change of it takes effect
    gradually.

    The step can be skipped without reading a flag back from the device: where the attribute `found_inf`, a
    scalar tensor, is set and not 0, parameters and state keep their values (compare `torch.amp.GradScaler`).

    Args:
        params: parameters or groups.
        lr: learning rate.
        decay: decay of the running averages.
        momentum: momentum.
        eps: added inside the root.
        centered: subtract the square of the mean gradient, so that the variance is in the root.

    Raises:
        ValueError: an argument is out of its range.
    """

    supports_found_inf = True

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-5,
        decay: float = 0.9,
        momentum: float = 0.9,
        eps: float = 1e-10,
        centered: bool = False,
    ) -> None:
        checks.not_negative(lr=lr)
        checks.within("[0, 1)", decay=decay, momentum=momentum)
        checks.positive(eps=eps)
        super().__init__(
            params, {"lr": lr, "decay": decay, "momentum": momentum, "eps": eps, "centered": centered}
        )

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take one step.

        Args:
            closure: evaluates the loss and its gradients anew.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if parameters:
                self._update(group, parameters, getattr(self, "found_inf", None))
        return loss

    def _state(self, parameter: Tensor, centered: bool) -> dict[str, Tensor]:
        state = self.state[parameter]
        if not state:
            state["mean_square"] = torch.ones_like(parameter)
            state["momentum"] = torch.zeros_like(parameter)
            if centered:
                state["mean"] = torch.zeros_like(parameter)
        return state

    def _update(self, group: dict[str, Any], parameters: list[Tensor], found_inf: Tensor | None) -> None:
        centered = group["centered"]
        states = [self._state(parameter, centered) for parameter in parameters]
        squares = [state["mean_square"] for state in states]
        buffers = [state["momentum"] for state in states]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        decay, momentum, taken = group["decay"], group["momentum"], None
        if found_inf is not None:
            # A step that is skipped has the gradient 0 and does not decay.
            skipped = found_inf != 0
            gradients = [gradient.masked_fill(skipped, 0.0) for gradient in gradients]
            decay = torch.where(skipped, 1.0, decay).to(found_inf.dtype)
            momentum = torch.where(skipped, 1.0, momentum).to(found_inf.dtype)
            taken = (~skipped).to(found_inf.dtype)
        _decay_towards(squares, torch._foreach_mul(gradients, gradients), decay)
        variances = torch._foreach_add(squares, group["eps"])
        if centered:
            means = [state["mean"] for state in states]
            _decay_towards(means, gradients, decay)
            torch._foreach_sub_(variances, torch._foreach_mul(means, means))
        torch._foreach_sqrt_(variances)
        updates = torch._foreach_div(gradients, variances)
        torch._foreach_mul_(updates, group["lr"])
        torch._foreach_mul_(buffers, momentum)
        torch._foreach_add_(buffers, updates)
        torch._foreach_sub_(parameters, buffers if taken is None else torch._foreach_mul(buffers, taken))


def _decay_towards(averages: list[Tensor], values: Iterable[Tensor], decay: float | Tensor) -> None:
    torch._foreach_mul_(averages, decay)
    torch._foreach_add_(averages, torch._foreach_mul(tuple(values), 1 - decay))
