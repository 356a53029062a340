import copy
import io

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.nn import PyroModule, PyroParam, PyroSample
from torch import nn
from torch.distributions import constraints

from whatwhere.inference.local_parameters import local_parameters
from whatwhere.inference.objectives import IWAE, VIMCO, ObjectiveModule


class Guide(PyroModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(1, 1)
        self.scale = PyroParam(torch.tensor(0.5), constraint=constraints.positive)
        self.inner = PyroModule[nn.Linear](1, 1)

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            loc = self.inner(self.net(x[:, None]))[:, 0]
            pyro.sample("z", dist.Normal(loc, self.scale))


class Model(PyroModule):
    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(1.5))

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(self.slope * z, 1.0), obs=x)


X = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)


@pytest.fixture(params=[True, False], ids=["validated", "not validated"])
def validation(request):
    with pyro.validation_enabled(request.param):
        yield


def test_it_is_the_objective_of_the_pair(validation):
    objective, model, guide = IWAE(4), Model(), Guide()
    module = objective(model, guide)
    assert isinstance(module, ObjectiveModule)
    assert (module.model, module.guide, module.objective) == (model, guide, objective)
    torch.manual_seed(1)
    loss, diagnostics = module(X)
    torch.manual_seed(1)
    expected, other = objective.evaluate(model, guide, X)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(diagnostics, other)


def test_all_parameters_are_its_own_and_get_gradients(validation):
    module = IWAE(4)(Model(), Guide())
    names = {name for name, _ in module.named_parameters()}
    assert names == {
        "model.slope",
        "guide.scale_unconstrained",
        *(f"guide.{net}.{kind}" for net in ("net", "inner") for kind in ("weight", "bias")),
    }
    module(X)[0].backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_the_global_parameter_store_is_neither_read_nor_written(validation):
    first, second = IWAE(4)(Model(), Guide()), IWAE(4)(Model(), Guide())
    values = [parameter.detach().clone() for parameter in second.parameters()]
    objects = list(map(id, second.parameters()))
    first(X)[0].backward()
    pyro.param("slope", torch.tensor(99.0))
    second(X)[0].backward()
    assert list(pyro.get_param_store().keys()) == ["slope"]
    assert list(map(id, second.parameters())) == objects
    for parameter, value in zip(second.parameters(), values, strict=True):
        assert torch.equal(parameter, value)
    assert not pyro.settings.get("module_local_params")


def test_reading_parameters_makes_no_statements():
    with pyro.poutine.trace(param_only=True) as tracer:
        IWAE(2)(Model(), Guide())(X)
    names = {site["name"] for site in tracer.trace.nodes.values() if site["type"] == "param"}
    assert names <= {"inner.weight", "inner.bias"}


class RandomGuide(Guide):
    """The scale is itself a statement; drawn outside the plate of data, which must be noticed."""

    @PyroSample
    def temperature(self):
        return dist.LogNormal(0.0, 0.1)

    def forward(self, x):
        self.temperature  # noqa: B018
        super().forward(x)


def test_random_attributes_stay_statements():
    with pytest.raises(ValueError, match="the model has no site `temperature`"):
        IWAE(2)(Model(), RandomGuide())(X)
    guide = Guide()
    guide.scale = PyroSample(dist.LogNormal(0.0, 0.1))
    with pytest.raises(ValueError, match=r"the model has no site `scale`"):
        IWAE(2)(Model(), guide)(X)


def test_hooks_of_the_modules_run():
    model, calls = Model(), []
    model.register_forward_hook(lambda *_: calls.append(1))
    IWAE(2)(model, Guide())(X)
    assert calls == [1]


def test_copies_and_state_dicts():
    module = VIMCO(4)(Model(), Guide())
    module(X)
    clone = copy.deepcopy(module)
    buffer = io.BytesIO()
    torch.save(module.state_dict(), buffer)
    buffer.seek(0)
    clone.load_state_dict(torch.load(buffer, weights_only=True))
    torch.manual_seed(2)
    loss, _ = module(X)
    torch.manual_seed(2)
    assert torch.equal(clone(X)[0], loss)


def test_functions_are_programs_too():
    scale = nn.Parameter(torch.tensor(0.5))

    def guide(x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(0.2 * x, scale))

    IWAE(4)(Model(), guide)(X)[0].backward()
    assert scale.grad is not None


def test_local_parameters_work_for_modules_made_before():
    guide = Guide()
    with local_parameters(guide):
        guide(X)
    assert not pyro.get_param_store().keys()
