"""Models small enough to compute every bound and gradient exactly, and the way to enumerate the real code."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn
from torch.nn.functional import logsigmoid
from torch.utils._python_dispatch import TorchDispatchMode

from whatwhere.inference.objectives import MultiSampleELBO
from whatwhere.inference.objectives.substitute import Substitute


@pytest.fixture(autouse=True)
def _double_precision() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def substitute(program: Callable[..., Any], values: Mapping[str, Any]) -> Callable[..., Any]:
    """Gives the sites of a program fixed values, or for a function `fn -> value` that of the distribution."""

    def choose(site: dict[str, Any]) -> Tensor | None:
        value = values.get(site["name"])
        return value(site["fn"]) if callable(value) else value

    return Substitute(choose)(program)


def gradients(loss: Tensor, parameters: list[nn.Parameter]) -> list[Tensor]:
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


def bernoulli(logit: Tensor, value: Tensor) -> Tensor:
    return torch.where(value > 0, logsigmoid(logit), logsigmoid(-logit))


def normal(value: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    return -0.5 * ((value - loc) / scale) ** 2 - torch.log(scale) - 0.5 * math.log(2 * math.pi)


class HostReads(TorchDispatchMode):
    """Counts the operations that wait for the device to hand a value to Python."""

    names = ("_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "masked_select")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in self.names:
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


class Guide(PyroModule):
    """z_0, then z_1 given z_0; every datum has its own parameters, so that gradients tell the data apart."""

    def __init__(self, num_data: int) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.randn(num_data))
        self.c = nn.Parameter(torch.randn(num_data))
        self.d = nn.Parameter(torch.randn(num_data))

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            z0 = pyro.sample("z/0", dist.Bernoulli(logits=self.a))
            pyro.sample("z/1", dist.Bernoulli(logits=self.c + self.d * z0))

    def log_q(self, z0: Tensor, z1: Tensor) -> Tensor:
        return bernoulli(self.a, z0) + bernoulli(self.c + self.d * z0, z1)


class Model(PyroModule):
    """z_0, x/0 given z_0, z_1 given z_0, x given both."""

    def __init__(self, num_data: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(6, num_data))

    def forward(self, x: Tensor) -> None:
        w = self.w
        with pyro.plate("data", len(x), dim=-1):
            z0 = pyro.sample("z/0", dist.Bernoulli(logits=w[0]))
            pyro.sample("x/0", dist.Normal(w[5] * z0, 1.0), obs=x + 1)
            z1 = pyro.sample("z/1", dist.Bernoulli(logits=w[1] + w[2] * z0))
            pyro.sample("x", dist.Normal(w[3] * z0 + 2 * w[4] * z1 * (1 + z0), 0.7), obs=x)

    def log_joint(self, x: Tensor, z0: Tensor, z1: Tensor) -> tuple[Tensor, Tensor]:
        w, one = self.w, torch.ones(())
        prior = bernoulli(w[0], z0) + bernoulli(w[1] + w[2] * z0, z1)
        early = normal(x + 1, w[5] * z0, one)
        return prior, early + normal(x, w[3] * z0 + 2 * w[4] * z1 * (1 + z0), 0.7 * one)


class BackwardModel(Model):
    """The same variables in the order z_1, then z_0 given z_1: not the order in which the guide draws."""

    def forward(self, x: Tensor) -> None:
        w = self.w
        with pyro.plate("data", len(x), dim=-1):
            z1 = pyro.sample("z/1", dist.Bernoulli(logits=w[1]))
            pyro.sample("x/0", dist.Normal(w[5] * z1, 1.0), obs=x + 1)
            z0 = pyro.sample("z/0", dist.Bernoulli(logits=w[0] + w[2] * z1))
            pyro.sample("x", dist.Normal(w[3] * z0 + 2 * w[4] * z1 * (1 + z0), 0.7), obs=x)

    def log_joint(self, x: Tensor, z0: Tensor, z1: Tensor) -> tuple[Tensor, Tensor]:
        w, one = self.w, torch.ones(())
        prior = bernoulli(w[1], z1) + bernoulli(w[0] + w[2] * z1, z0)
        early = normal(x + 1, w[5] * z1, one)
        return prior, early + normal(x, w[3] * z0 + 2 * w[4] * z1 * (1 + z0), 0.7 * one)


class Toy:
    """Two binary latent variables; all bounds by enumeration of the K-tuples of particles."""

    states = tuple(itertools.product((0.0, 1.0), repeat=2))

    def __init__(self, num_data: int = 2, backward: bool = False) -> None:
        self.x = torch.linspace(-1, 1.5, num_data)
        self.guide: Any = Guide(num_data)
        self.model: Any = BackwardModel(num_data) if backward else Model(num_data)

    @property
    def parameters(self) -> list[nn.Parameter]:
        return [*self.guide.parameters(), *self.model.parameters()]

    def tables(self) -> tuple[Tensor, Tensor, Tensor]:
        """log q(z), log p(z), log p(x | z) of the four states; shape (4, B)."""
        rows = []
        for z0, z1 in self.states:
            pair = torch.tensor(z0), torch.tensor(z1)
            rows.append((self.guide.log_q(*pair), *self.model.log_joint(self.x, *pair)))
        log_q, log_prior, log_likelihood = (torch.stack(column) for column in zip(*rows, strict=True))
        return log_q, log_prior, log_likelihood

    def log_evidence(self) -> Tensor:
        _, log_prior, log_likelihood = self.tables()
        return (log_prior + log_likelihood).logsumexp(0)

    def exact_bound(self, num_particles: int, bound: str = "iwae") -> Tensor:
        """L_K or the ELBO, shape (B,), differentiable."""
        log_q, log_prior, log_likelihood = self.tables()
        log_w = log_prior + log_likelihood - log_q
        if bound == "elbo":
            return (log_q.exp() * log_w).sum(0)
        tuples = torch.tensor(list(itertools.product(range(4), repeat=num_particles)))
        probability = log_q[tuples].sum(1).exp()
        return (probability * (log_w[tuples].logsumexp(1) - math.log(num_particles))).sum(0)

    def exact_gradients(self, num_particles: int, bound: str = "iwae") -> list[Tensor]:
        return gradients(self.exact_bound(num_particles, bound).sum(), self.parameters)

    def enumerate(self, num_particles: int) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """Yields the probability of every K-tuple, shape (B,), and the sites' values, shape (K, B)."""
        probability = self.tables()[0].exp().detach()
        for indices in itertools.product(range(4), repeat=num_particles):
            z = torch.tensor([self.states[i] for i in indices])[:, :, None].expand(-1, -1, len(self.x))
            yield probability[list(indices)].prod(0), {"z/0": z[:, 0], "z/1": z[:, 1]}

    def expected_gradients(self, objective: MultiSampleELBO) -> list[Tensor]:
        """The expectation of minus the objective's gradient over all that the guide can draw."""
        parameters = self.parameters
        total = [torch.zeros_like(parameter) for parameter in parameters]
        for probability, values in self.enumerate(objective.num_particles):
            loss, _ = objective.evaluate(self.model, substitute(self.guide, values), self.x)
            for sum_, gradient in zip(total, gradients(-loss, parameters), strict=True):
                sum_ += probability * gradient
        return total

    def expected_bound(self, objective: MultiSampleELBO) -> Tensor:
        """The expectation of the objective's bound; for one datum."""
        assert len(self.x) == 1
        total = torch.zeros(())
        for probability, values in self.enumerate(objective.num_particles):
            total += (
                probability[0]
                * objective.evaluate(self.model, substitute(self.guide, values), self.x)[1].bound
            )
        return total


class MixedGuide(PyroModule):
    """A continuous, a binary, and a continuous variable, each given those before."""

    def __init__(self, num_data: int) -> None:
        super().__init__()
        self.v = nn.Parameter(torch.randn(8, num_data))

    def forward(self, x: Tensor) -> None:
        v = self.v
        with pyro.plate("data", len(x), dim=-1):
            u = pyro.sample("u", dist.Normal(v[0] * x, v[1].exp()))
            z = pyro.sample("z", dist.Bernoulli(logits=v[2] + v[3] * u))
            pyro.sample("y", dist.Normal(v[4] + v[5] * z + v[6] * u, v[7].exp()))


class MixedModel(PyroModule):
    def __init__(self, num_data: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(4, num_data))

    def forward(self, x: Tensor) -> None:
        w = self.w
        with pyro.plate("data", len(x), dim=-1):
            u = pyro.sample("u", dist.Normal(0.0, 1.0))
            z = pyro.sample("z", dist.Bernoulli(logits=w[0] * u))
            y = pyro.sample("y", dist.Normal(w[1] * z, 1.0))
            pyro.sample("x", dist.Normal(w[2] * u + w[3] * z + y, 0.5), obs=x)


class MixedToy:
    """Continuous and binary variables: exact expectations over the binary one, given the noise."""

    def __init__(self, num_particles: int, num_data: int = 2) -> None:
        self.x = torch.linspace(-1, 1.5, num_data)
        self.guide, self.model = MixedGuide(num_data), MixedModel(num_data)
        self.noise = torch.randn(2, num_particles, num_data)

    @property
    def parameters(self) -> list[nn.Parameter]:
        return [*self.guide.parameters(), *self.model.parameters()]

    def terms(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """log w and log q(z | u) by hand, for z of shape (..., K, B)."""
        v, w, x, one = self.guide.v, self.model.w, self.x, torch.ones(())
        u = v[0] * x + v[1].exp() * self.noise[0]
        loc = v[4] + v[5] * z + v[6] * u
        y = loc + v[7].exp() * self.noise[1]
        log_q_z = bernoulli(v[2] + v[3] * u, z)
        log_q = normal(u, v[0] * x, v[1].exp()) + log_q_z + normal(y, loc, v[7].exp())
        log_p = normal(u, 0 * one, one) + bernoulli(w[0] * u, z) + normal(y, w[1] * z, one)
        return log_p + normal(x, w[2] * u + w[3] * z + y, 0.5 * one) - log_q, log_q_z

    def patterns(self) -> Tensor:
        """All values of z; shape (2^K, K, B)."""
        num_particles, num_data = self.noise.shape[1:]
        rows = torch.tensor(list(itertools.product((0.0, 1.0), repeat=num_particles)))
        return rows[:, :, None].expand(-1, -1, num_data)

    def exact_gradients(self, bound: str) -> list[Tensor]:
        log_w, log_q_z = self.terms(self.patterns())
        inner = log_w.mean(1) if bound == "elbo" else log_w.logsumexp(1) - math.log(log_w.shape[1])
        return gradients((log_q_z.sum(1).exp() * inner).sum(), self.parameters)

    def expected_gradients(self, objective: MultiSampleELBO) -> list[Tensor]:
        parameters = self.parameters
        total = [torch.zeros_like(parameter) for parameter in parameters]
        for z in self.patterns():
            probability = self.terms(z)[1].sum(0).exp().detach()
            values = {
                "u": lambda fn: fn.loc + fn.scale * self.noise[0],
                "z": z,
                "y": lambda fn: fn.loc + fn.scale * self.noise[1],
            }
            loss, _ = objective.evaluate(self.model, substitute(self.guide, values), self.x)
            for sum_, gradient in zip(total, gradients(-loss, parameters), strict=True):
                sum_ += probability * gradient
        return total


@pytest.fixture
def toy() -> Toy:
    """Two data; the model has the guide's order."""
    return Toy()


@pytest.fixture
def backward_toy() -> Toy:
    """Two data; the model has another order than the guide."""
    return Toy(backward=True)


@pytest.fixture
def single_toy() -> Toy:
    """One datum."""
    return Toy(num_data=1)


@pytest.fixture
def mixed_toy() -> type[MixedToy]:
    """Class of a model with continuous and binary variables; its argument is K."""
    return MixedToy


@pytest.fixture
def with_values() -> Callable[..., Any]:
    """Function that runs a program with given values."""
    return substitute


@pytest.fixture
def gradients_of() -> Callable[..., Any]:
    """Function that differentiates a loss, zeros for what it does not depend on."""
    return gradients


@pytest.fixture
def host_reads() -> type[HostReads]:
    """Class of a context that counts reads from the device."""
    return HostReads
