"""The common part of all multi-sample variational objectives."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from pyro.infer import ELBO
from pyro.infer.util import torch_backward
from pyro.poutine import Trace
from torch import Tensor

from ...checks import at_least
from .diagnostics import Diagnostics
from .errors import TooFewParticlesError
from .layout import Layout
from .log_weights import LogWeights, ScoredTraces, run_and_score, run_program
from .module import ObjectiveModule
from .sites import replay

Program = Callable[..., Any]
"""A model or a guide: a function, or a module, made of Pyro statements."""


class Estimate(NamedTuple):
    """What an estimator computes from one run of guide and model; B data."""

    bound: Tensor
    """Value of the bound in nats per datum; shape (B,)."""
    surrogate: Tensor
    """Its derivative is the estimate of the bound's gradient, its value means nothing; shape (B,)."""
    scale: float
    """Multiplies both."""
    diagnostics: Diagnostics
    """Scalars to look at."""
    auxiliary_loss: Tensor | None = None
    """Added to the loss, not part of the bound and not scaled: the regression of a baseline; shape (B,)."""


class MultiSampleELBO(ELBO):
    """Abstract multi-sample bound on the log-evidence, with a gradient estimator.

    Draws K particles for each datum from the guide, replays the model on them, and forms the log-weights
    `log w = log p(x, z) - log q(z | x)` of shape (K, B). A subclass turns them into a bound and a surrogate.

    The objective opens the plate `"particles"` at dimension `-max_plate_nesting - 1` around model and guide,
    also for K = 1, so that every tensor in a program may have leading dimensions (K, B). Requirements:

    1. Every sample statement of both programs is inside the plate named `batch_plate`, which the programs
       open themselves. Data are independent given the parameters; there is one weight per datum.
    2. Model and guide have the same latent variables, and a variable without observation has the same name in
       both.
    3. All sites have the same scale, that of a subsampled batch plate, given as a Python number.

    Everything is checked in Python from names and shapes, on every call; no value is read back from the
    device, except in `loss` and `loss_and_grads`, which return floats.

    Not to be confused with `pyro.infer.RenyiELBO(alpha=0)`, which computes the importance-weighted bound but
    gives no gradient to a discrete variable, and applies the subsampling scale inside the logarithm.

    Args:
        num_particles: K.
        batch_plate: name of the plate of independent data.
        max_plate_nesting: number of dimensions that the plates of the programs take, the particle plate not
            counted.
        reduction: `"sum"` over the batch as in Pyro, or `"mean"`. The subsampling scale N/B multiplies
            either.
        mask_score: whether `poutine.mask` holds for score-function terms too. This is valid, and of much
            smaller variance, if a masked variable's value influences nothing, as it must in a model that is
            independent of absent objects. `False` is Pyro's convention.
        weight_floor: normalised weights and learning signals below this magnitude are set to zero in the
            gradient.

    Raises:
        TooFewParticlesError: The estimator needs more particles.
    """

    min_particles: ClassVar[int] = 1

    def __init__(
        self,
        num_particles: int = 1,
        *,
        batch_plate: str = "data",
        max_plate_nesting: int = 1,
        reduction: Literal["sum", "mean"] = "sum",
        mask_score: bool = True,
        weight_floor: float = 1e-20,
    ) -> None:
        for name, value in (("num_particles", num_particles), ("max_plate_nesting", max_plate_nesting)):
            if not isinstance(value, int):
                raise ValueError(f"`{name}` must be a whole number, got {value!r}")
        super().__init__(num_particles=num_particles, max_plate_nesting=max_plate_nesting)
        self.vectorize_particles = True
        if num_particles < self.min_particles:
            raise TooFewParticlesError(
                f"`{type(self).__name__}` needs `num_particles` >= {self.min_particles}, got {num_particles}"
                + (": with one particle use `Reinforce`, `NVIL` or `IWAE`" if num_particles == 1 else "")
            )
        if max_plate_nesting < 1:
            raise ValueError(
                f"`max_plate_nesting` must count the batch plate, expected >= 1, got {max_plate_nesting}"
            )
        if reduction not in ("sum", "mean"):
            raise ValueError(f'`reduction` must be "sum" or "mean", got {reduction!r}')
        if not 0 <= weight_floor <= 1e-8:
            raise ValueError(
                f"`weight_floor` must be in [0, 1e-8], above it biases gradients, got {weight_floor}"
            )
        self.batch_plate = batch_plate
        self.reduction = reduction
        self.mask_score = mask_score
        self.weight_floor = weight_floor

    @abstractmethod
    def _estimate(
        self, model: Program, guide: Program, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Estimate:
        """Runs both programs and returns the bound and its surrogate."""

    def evaluate(
        self, model: Program, guide: Program, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Diagnostics]:
        """Computes the loss and its diagnostics.

        Args:
            model: generative program.
            guide: inference program.
            *args: arguments of both.
            **kwargs: keyword arguments of both.

        Returns:
            The loss, a scalar tensor whose value is minus the bound (plus a baseline's regression loss) and
            whose derivative is the estimator's; and the diagnostics, detached.
        """
        estimate = self._estimate(model, guide, args, kwargs)
        objective = estimate.bound.detach() + (estimate.surrogate - estimate.surrogate.detach())
        loss = self._reduce(objective) * -estimate.scale
        if estimate.auxiliary_loss is not None:
            loss = loss + self._reduce(estimate.auxiliary_loss)
        return loss, estimate.diagnostics

    def differentiable_loss(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> Tensor:
        """Computes the loss as a scalar tensor to be differentiated; see `evaluate`."""
        return self.evaluate(model, guide, *args, **kwargs)[0]

    @torch.no_grad()
    def loss(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> float:
        """Computes the loss as a number, without gradients; waits for the device."""
        return self.evaluate(model, guide, *args, **kwargs)[0].item()

    def loss_and_grads(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> float:
        """Accumulates gradients in the parameters and returns the loss as a number; waits for the device.

        This is what `pyro.infer.SVI` calls.
        """
        loss = self.evaluate(model, guide, *args, **kwargs)[0]
        torch_backward(loss, self.retain_graph)
        return loss.detach().item()

    def log_weights(
        self, model: Program, guide: Program, *args: Any, num_particles: int | None = None, **kwargs: Any
    ) -> LogWeights:
        """Draws particles and returns their log-weights, whose mean exp estimates p(x) without bias.

        Args:
            model: generative program.
            guide: inference program.
            *args: arguments of both.
            num_particles: K, by default that of the objective.
            **kwargs: keyword arguments of both.

        Raises:
            ValueError: `num_particles` is not positive.
        """
        layout = self._layout(num_particles)
        return run_and_score(model, guide, layout, args, kwargs, self.mask_score).log_weights()

    def __call__(self, model: Program, guide: Program) -> ObjectiveModule:
        """Returns the objective of this pair as a module, for `torch.optim` and DistributedDataParallel."""
        return ObjectiveModule(model, guide, self)

    def _layout(self, num_particles: int | None = None) -> Layout:
        at_least(1, num_particles=num_particles)
        number = self.num_particles if num_particles is None else num_particles
        return Layout(number, self.batch_plate, self.max_plate_nesting)

    def _run_and_score(
        self, model: Program, guide: Program, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> ScoredTraces:
        return run_and_score(model, guide, self._layout(), args, kwargs, self.mask_score)

    def _reduce(self, per_datum: Tensor) -> Tensor:
        return per_datum.sum() if self.reduction == "sum" else per_datum.mean()

    def _get_trace(
        self, model: Program, guide: Program, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[Trace, Trace]:
        guide_trace = run_program(guide, self._layout(), args, kwargs)
        return run_program(model, self._layout(), args, kwargs, replay(guide_trace)), guide_trace
