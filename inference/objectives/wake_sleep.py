"""Training of the guide by its own objective: reweighted wake-sleep."""

from collections.abc import Callable, Mapping
from typing import Any, final

import numpy as np
import numpy.typing as npt
import torch
from pyro import poutine
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_factor
from torch import Tensor

from ...models.components.provisional import Provisional
from .base import Estimate, MultiSampleELBO, Program
from .baselines import value_mask
from .diagnostics import summarise
from .errors import DreamError, TooFewParticlesError, UnsupportedSiteError
from .layout import Layout, Site
from .log_weights import run_and_score, run_program, score_guide
from .sites import random_sites, replay
from .surrogates import log_mean_exp, truncate, weighted

Dream = Callable[[Mapping[str, Tensor]], tuple[Any, ...]]
"""Makes the guide's arguments of what a model's observed sites were sampled to be, each of shape
`(B, ...)`."""


@final
class ReweightedWakeSleep(MultiSampleELBO):
    r"""Importance-weighted bound for the model, and forward divergences for the guide.

    The guide draws K particles, and no gradient goes through them: discrete and continuous variables are
    treated alike, and there is no score function and no control variate. With normalised weights $\tilde w$

    $$ g_\theta = \sum_k \tilde w_k \nabla_\theta \log p_\theta(x, z_k), \quad g_\phi = (1 - \sigma) \sum_k
    \tilde w_k \nabla_\phi \log q_\phi(z_k | x) + \sigma \nabla_\phi \log q_\phi(\hat z | \hat x), \quad (\hat
    z, \hat x) \sim p_\theta. $$

    - Model (wake phase): unbiased for $\nabla_\theta L_K$.
    - Guide, wake phase: the self-normalised estimate of $-\nabla_\phi KL(p_\theta(z | x) \| q_\phi(z | x))$.
      *Biased* for it, by O(1/K), and consistent; its expectation is exactly $E[\sum_k \tilde w_k \nabla_\phi
      \log q_\phi(z_k | x)]$, which is no gradient of $L_K$, and zero for K = 1.
    - Guide, sleep phase: unbiased for $\nabla_\phi E_{p_\theta(z, x)} \log q_\phi(z | x)$, the divergence
      averaged over the model's own data.

    So there is no single function whose gradient this is; the reported bound is $L_K$. With more particles
    the guide's gradient gets better, not worse (Le et al., 2019).

    Not to be confused with `pyro.infer.ReweightedWakeSleep`, whose weights are those of the whole batch, and
    in which a later variable's density sends a gradient through an earlier draw of the guide. Here every draw
    is detached before the guide goes on.

    The sleep phase needs data that the model makes up. The model is run once with the given arguments and one
    particle, and its observed sites are sampled. The guide is then given arguments in which the made-up data
    have taken the place of the observed:

    - by default, wherever an argument is itself the value of an observed site, or is made up wholly of views
      that are (`AIR` observes its `images`, `SQAIR` the frames `video[:, t]`);
    - by `dream`, a function from the sampled values to the guide's positional arguments, if the model changes
      data before it observes them.

    Reference: Bornschein and Bengio, Reweighted Wake-Sleep, 2015, section 2; Le, Kosiorek,
    Siddharth, Teh and Wood, Revisiting Reweighted Wake-Sleep for Models with Stochastic Control Flow, 2019.

    Args:
        num_particles: K >= 2, unless there is only the sleep phase.
        sleep: share $\sigma$ of the sleep phase in the guide's gradient, in [0, 1]; at 0 nothing is made up.
        dream: see above.
        **options: see `MultiSampleELBO`.

    Raises:
        DreamError: (when evaluated) Observed data cannot be replaced by sampled data.
        UnsupportedSiteError: (when evaluated) The model has a factor, from which nothing can be sampled.
    """

    def __init__(
        self, num_particles: int = 5, *, sleep: float = 0.0, dream: Dream | None = None, **options: Any
    ) -> None:
        super().__init__(num_particles, **options)
        if not 0 <= sleep <= 1:
            raise ValueError(f"`sleep` must be in [0, 1], got {sleep}")
        if num_particles == 1 and sleep < 1:
            raise TooFewParticlesError(
                "the wake phase of `ReweightedWakeSleep` needs `num_particles` >= 2, got 1: the normalised "
                "weight of a single particle is always one, and teaches the guide nothing; use `sleep=1`, or "
                "`Reinforce` or `NVIL` with one particle"
            )
        self.sleep = sleep
        self.dream = dream

    def _estimate(
        self, model: Program, guide: Program, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Estimate:
        with _Detach():
            traces = run_and_score(model, guide, self._layout(), args, kwargs, self.mask_score)
        log_weight, log_likelihood, _, scale = traces.log_weights()
        log_p, log_q = traces.model.total("latent", "observed"), traces.guide.total("path", "score")
        assert log_p is not None
        weight = truncate(log_weight.detach().softmax(0), self.weight_floor)
        surrogate = weighted(weight, log_p)
        if log_q is not None and self.sleep < 1:
            surrogate = surrogate + (1 - self.sleep) * weighted(weight, log_q)
        if log_q is not None and self.sleep > 0 and torch.is_grad_enabled():
            surrogate = surrogate + self.sleep * self._asleep(model, guide, args, kwargs)
        bound = log_mean_exp(log_weight.detach())
        return Estimate(bound, surrogate, scale, summarise(bound, log_weight, log_likelihood, log_weight))

    def _asleep(
        self, model: Program, guide: Program, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Tensor:
        """Returns log q of what the model makes up, given the data that it makes up; shape (B,)."""
        layout = self._layout(1)
        with torch.no_grad():
            trace = run_program(poutine.uncondition(model), layout, args, kwargs)
        given, dreamt = {}, {}
        for site in random_sites(trace):
            if site_is_factor(site):
                raise UnsupportedSiteError(
                    f"expected a model that can be sampled, because `sleep` is not 0, but site "
                    f"`{site['name']}` is a factor, of which nothing can be sampled: use `sleep=0`"
                )
            if site["infer"].get("was_observed"):
                given[site["name"]] = site["infer"]["obs"]
                dreamt[site["name"]] = _without_particles(site, layout)
        if self.dream is None:
            args, kwargs = _replace(given, dreamt, args, kwargs)
        else:
            args = self.dream(dreamt)
        with _Detach():
            sites = random_sites(run_program(guide, layout, args, kwargs, _dreamt(trace)))
        log_q = score_guide(sites, layout).total("path", "score")
        assert log_q is not None
        return log_q.squeeze(0)


def _dreamt(trace: Trace) -> Callable[[Site], Tensor | None]:
    """What the model made up; where that is not used, what the guide draws to decide that it is not.

    Such a draw of the guide's is an auxiliary variable, and what the model draws in its place means nothing.
    """
    made_up = replay(trace)

    def choose(site: Site) -> Tensor | None:
        value, fn = made_up(site), site["fn"]
        if value is None or not isinstance(fn, Provisional):
            return value
        mask = value_mask(trace.nodes[site["name"]])
        if isinstance(mask, bool):
            return value if mask else None
        return torch.where(mask, value, fn())

    return choose


class _Detach(Messenger):
    """Detaches every draw before the program goes on, and before a trace inside records it."""

    def _pyro_post_sample(self, msg: Any) -> None:
        if not msg["is_observed"] and isinstance(msg["value"], Tensor):
            msg["value"] = msg["value"].detach()


def _without_particles(site: Site, layout: Layout) -> Tensor:
    value: Tensor = site["value"]
    plates = value.dim() - site["fn"].event_dim
    return value.squeeze(plates + layout.particle_dim) if plates >= -layout.particle_dim else value


def _replace(
    given: Mapping[str, Tensor],
    dreamt: Mapping[str, Tensor],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Puts sampled data in the place of the observed data among a program's arguments.

    Args:
        given: what each observed site was given.
        dreamt: what it was sampled to be.
        args: arguments of model and guide.
        kwargs: keyword arguments of both.

    Raises:
        DreamError: A site observes something that is no argument nor a view of one, or the observed views
            are not all of an argument, each element of it once.
    """
    placed: set[str] = set()
    new_args = tuple(_redrawn(arg, given, dreamt, placed) for arg in args)
    new_kwargs = {name: _redrawn(arg, given, dreamt, placed) for name, arg in kwargs.items()}
    if missing := sorted(set(given) - placed):
        raise DreamError(
            f"expected what site `{missing[0]}` observes to be a tensor among the arguments of the model, or "
            f"a view of one, so that the guide can be given sampled data in its place: give "
            f"`ReweightedWakeSleep` a function `dream` from sampled values to the guide's arguments, or use "
            f"`sleep=0`"
        )
    return new_args, new_kwargs


def _redrawn(arg: Any, given: Mapping[str, Tensor], dreamt: Mapping[str, Tensor], placed: set[str]) -> Any:
    """Returns an argument made of what the sites that observe it were sampled to be; others unchanged."""
    if not isinstance(arg, Tensor):
        return arg
    names = [name for name, value in given.items() if _share_memory(arg, value)]
    if not names:
        return arg
    size = arg.untyped_storage().nbytes() // arg.element_size()
    of_arg, observed = np.zeros(size, bool), np.zeros(size, bool)
    _elements(of_arg, arg)[...] = True
    # Arguments may be views of one tensor, of which a site observes another part.
    names = [name for name in names if _elements(of_arg, given[name]).any()]
    if not names:
        return arg
    for name in names:
        _elements(observed, given[name])[...] = True
    once = observed.sum() == sum(given[name].numel() for name in names)
    if not once or not _elements(observed, arg).all():
        raise DreamError(
            f"expected the observed sites to be all of the argument that they are views of, each element of "
            f"it once, of shape {tuple(arg.shape)}, but {len(names)} sites (`{names[0]}` and so on) are "
            f"{'a part of it' if once else 'some of it twice'}: give `ReweightedWakeSleep` a function "
            f"`dream`, or use `sleep=0`"
        )
    # A tensor that lies in memory as the argument does, so that the same views of it can be written to.
    blank = torch.empty(size, dtype=arg.dtype, device=arg.device)
    for name in names:
        value, sampled = given[name], dreamt[name]
        if sampled.shape != value.shape:
            raise DreamError(
                f"expected samples of site `{name}` of the shape of its data, {tuple(value.shape)}, got "
                f"{tuple(sampled.shape)}: give `ReweightedWakeSleep` a function `dream`, or use `sleep=0`"
            )
        blank.as_strided(value.shape, value.stride(), value.storage_offset()).copy_(sampled)
    placed.update(name for name in names if _elements(of_arg, given[name]).all())
    return blank.as_strided(arg.shape, arg.stride(), arg.storage_offset())


def _share_memory(arg: Tensor, value: Tensor) -> bool:
    """Whether both are views of one tensor; not by addresses, which tensors on `meta` do not have."""
    same: bool = arg.untyped_storage()._cdata == value.untyped_storage()._cdata
    if same and arg.dtype != value.dtype:
        raise DreamError(
            f"expected an observed view of an argument to be of its type {arg.dtype}, got {value.dtype}: "
            f"give `ReweightedWakeSleep` a function `dream`, or use `sleep=0`"
        )
    return same


def _elements(marks: npt.NDArray[np.bool_], like: Tensor) -> npt.NDArray[np.bool_]:
    """The marks of a tensor's elements, of one mark for each in its storage; the device is not asked."""
    return np.ndarray(like.shape, bool, marks, like.storage_offset(), like.stride())
