"""SQAIR's guide against the paper's equations, object by object, in NumPy and from the bare weights."""

import math
from typing import Any, NamedTuple

import numpy as np
import pyro
import pytest
import torch
from pyro import poutine
from torch import Tensor

Array = np.ndarray
Weights = dict[str, Array]
SIDE, GLIMPSE, COUNT, WHAT = 12, 5, 2, 3
FLOOR = 0.01


def elu(x: Array) -> Array:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def softplus(x: Array) -> Array:
    return np.log1p(np.exp(x))


def linear(weights: Weights, name: str, x: Array) -> Array:
    bias = weights.get(f"{name}.bias")
    return weights[f"{name}.weight"] @ x + (0 if bias is None else bias)


def mlp(weights: Weights, name: str, x: Array, layers: int, last: bool = False) -> Array:
    """Linear layers with ELU after each but the last, or after all."""
    for i in range(layers):
        x = linear(weights, f"{name}.{2 * i}", x)
        if last or i < layers - 1:
            x = elu(x)
    return x


def crop(image: Array, where: Array) -> Array:
    """Bilinear readings of an image `(H, W)` at `s u + t`, zero outside; pixel by pixel."""
    scale, shift = np.maximum(sigmoid(where[:2]), 1e-4), np.tanh(where[2:])
    glimpse = np.zeros((GLIMPSE, GLIMPSE))
    for i in range(GLIMPSE):
        for j in range(GLIMPSE):
            v, u = (-1 + 2 * index / (GLIMPSE - 1) for index in (i, j))
            x, y = ((s * w + t + 1) * (SIDE - 1) / 2 for s, w, t in zip(scale, (u, v), shift, strict=True))
            for row in (math.floor(y), math.floor(y) + 1):
                for column in (math.floor(x), math.floor(x) + 1):
                    if 0 <= row < SIDE and 0 <= column < SIDE:
                        glimpse[i, j] += (1 - abs(y - row)) * (1 - abs(x - column)) * image[row, column]
    return glimpse


def look(weights: Weights, glimpse: Array) -> tuple[Array, Array]:
    features = mlp(weights, "propagation.what_encoder.features.1", glimpse.reshape(-1), 2, last=True)
    loc, raw = np.split(linear(weights, "propagation.what_encoder.readout", features), 2)
    return loc, softplus(raw) + FLOOR


def vanilla(weights: Weights, name: str, early: Array, late: Array, hidden: Array) -> Array:
    """`tanh(W [early, late] + b + U h + b')`."""
    return np.tanh(
        linear(weights, f"{name}.from_early", early)
        + linear(weights, f"{name}.from_late", late)
        + linear(weights, f"{name}.from_hidden", hidden)
    )


def gru(weights: Weights, name: str, x: Array, hidden: Array) -> Array:
    """`z = s(.), r = s(.), h' = (1 - z) h + z tanh(W x + U (r h) + b)`."""
    from_input = np.split(linear(weights, f"{name}.from_input", x), 3)
    from_hidden = np.split(linear(weights, f"{name}.gates_from_hidden", hidden), 2)
    update, reset = (sigmoid(a + b) for a, b in zip(from_input[:2], from_hidden, strict=True))
    new = np.tanh(from_input[2] + linear(weights, f"{name}.candidate_from_hidden", reset * hidden))
    return (1 - update) * hidden + update * new


def normal(value: Array, loc: Array, scale: Array) -> float:
    return float((-0.5 * ((value - loc) / scale) ** 2 - np.log(scale) - 0.5 * math.log(2 * math.pi)).sum())


def correlated(value: Array, loc: Array, tril: Array) -> float:
    """Log-density of `N(loc, L L^T)`, in which the signs of L's diagonal do not matter."""
    covariance, difference = tril @ tril.T, value - loc
    _, log_det = np.linalg.slogdet(covariance)
    quadratic = difference @ np.linalg.solve(covariance, difference)
    return float(-0.5 * (quadratic + log_det + len(value) * math.log(2 * math.pi)))


def bernoulli(value: float, logit: float, held: float, towards: float) -> float:
    """A share `held` of decisions is taken to be `towards`."""
    present = held * towards + (1 - held) * sigmoid(logit)
    return math.log(present if value else 1 - present)


class Object(NamedTuple):
    """An object that is present."""

    where: Array
    what: Array
    memory: Array
    last: Array | None = None
    """Where it was a frame before."""


def told(weights: Weights, objects: list[Object], i: int) -> Array:
    """The message to object i: what is said of itself, and of each of the others."""

    def encoded(each: Object) -> Array:
        velocity = np.zeros(4) if each.last is None else each.where - each.last
        return linear(weights, "propagation.relations.encoder", np.r_[each.what, each.where, velocity])

    message = mlp(weights, "propagation.relations.own", encoded(objects[i]), 2)
    for j, other in enumerate(objects):
        if i != j:
            away = other.where[2:] - objects[i].where[2:]
            pair = np.r_[encoded(objects[i]), encoded(other), away, away @ away]
            *relation, logit = mlp(weights, "propagation.relations.relation", pair, 3)
            message = message + sigmoid(logit) * np.array(relation)
    return message


class Reference:
    """log q of every statement of one video, written from sections 3.1 to 3.5 of the paper's model."""

    def __init__(self, weights: Weights, video: Array, values: dict[str, Array], hold: float) -> None:
        self.weights, self.video, self.values, self.hold = weights, video, values, hold
        self.log_q: dict[str, float] = {}

    def run(self) -> dict[str, float]:
        objects: list[Object] = []
        for t, image in enumerate(self.video):
            followed = self.propagate(t, image, objects) if t else []
            summary = np.zeros(8)
            for each in followed:
                summary += mlp(
                    self.weights, "latent_encoder.network", np.r_[each.what, each.where], 2, last=True
                )
            objects = followed + self.discover(t, image, summary, COUNT - len(followed))
        return self.log_q

    def take(self, phase: str, t: int, i: int) -> tuple[Array, Array, float]:
        where, what, pres = (self.values[f"{phase}/{v}/{t}/{i}"] for v in ("z_where", "z_what", "z_pres"))
        return where, what, float(pres)

    def say(self, phase: str, t: int, i: int, where: float, what: float, pres: float, used: float) -> None:
        """Record terms; those of draws that were not used do not count."""
        name = f"{phase}/{{}}/{t}/{i}".format
        self.log_q[name("z_pres")] = pres
        self.log_q[name("z_where")], self.log_q[name("z_what")] = where * used, what * used

    def propagate(self, t: int, image: Array, objects: list[Object]) -> list[Object]:
        weights, found = self.weights, []
        relation, previous = weights["propagation.relation.initial"], np.zeros(WHAT + 5)
        lower = np.eye(4)
        lower[np.tril_indices(4)] += weights["propagation.correlation"]
        for i, each in enumerate(objects):
            proposal = each.where + 0.1 * mlp(weights, "propagation.proposal", each.memory, 2)
            mask = sigmoid(mlp(weights, "propagation.mask", each.memory, 2)).reshape(GLIMPSE, GLIMPSE)
            seen, _ = look(weights, mask * crop(image, proposal))
            early = np.r_[seen, each.what, each.where, 1.0, each.memory]
            relation = vanilla(weights, "propagation.relation", early, previous, relation)
            head = np.r_[relation, each.where, each.memory]
            shift, raw = np.split(mlp(weights, "propagation.where_head", head, 3), 2)
            scale = softplus(raw + weights["propagation.scale_bias"] - 1) + FLOOR
            where, what, pres = self.take("propagation", t, i)
            loc, sd = look(weights, mask * crop(image, where))
            new = np.r_[relation, where, loc, sd]
            if "propagation.relations.encoder.weight" in weights:
                new = np.r_[new, told(weights, objects, i)]
            memory = gru(weights, "propagation.temporal", new, each.memory)
            past, raw_past = np.split(linear(weights, "propagation.temporal_what", memory), 2)
            forget, skip, fresh = np.split(0.9999 * sigmoid(linear(weights, "propagation.gates", memory)), 3)
            mean = forget * each.what + (1 - skip) * loc + (1 - fresh) * past
            spread = (1 - skip) * sd + (1 - fresh) * (softplus(raw_past) + FLOOR)
            logit = mlp(weights, "propagation.presence_head", np.r_[relation, each.memory, what], 2)[0]
            self.say(
                "propagation",
                t,
                i,
                correlated(where, each.where + shift, scale[:, None] * lower),
                normal(what, mean, spread),
                bernoulli(pres, logit, self.hold, 1.0),
                pres,
            )
            previous = np.r_[what, where, 1.0] * pres
            if pres:
                found.append(Object(where, what, memory, each.where))
        return found

    def discover(self, t: int, image: Array, summary: Array, free: int) -> list[Object]:
        weights, found = self.weights, []
        features = mlp(weights, "discovery.image_encoder.1", image.reshape(-1), 2, last=True)
        hidden, previous = weights["discovery.rnn.initial"], np.r_[np.zeros(WHAT + 4), 1.0]
        for j in range(free):
            hidden = vanilla(weights, "discovery.rnn", np.r_[features, summary], previous, hidden)
            mean, raw = np.split(mlp(weights, "discovery.where_head", hidden, 3), 2)
            where, what, pres = self.take("discovery", t, j)
            logit = mlp(weights, "discovery.presence_head", np.r_[hidden, what], 2)[0]
            self.say(
                "discovery",
                t,
                j,
                normal(where, mean, softplus(raw + weights["discovery.scale_bias"]) + FLOOR),
                normal(what, *look(weights, crop(image, where))),
                bernoulli(pres, logit, self.hold if t else 0.0, 0.0),
                pres,
            )
            if not pres:
                break
            found.append(Object(where, what, weights["propagation.temporal.initial"]))
            previous = np.r_[what, where, 1.0]
        return found


@pytest.fixture
def varied(make_generative: Any) -> Any:
    """SQAIR whose guide lets go, follows and discovers about equally often, with weights of order one."""

    def make(hold: float = 0.0, relations: bool = False) -> Any:
        name = "SQAIR-hold" if hold else "SQAIR-relational" if relations else "SQAIR"
        pair = make_generative(name, count=COUNT)
        for name, parameter in pair.guide.named_parameters():
            parameter.data += 0.3 * torch.randn_like(parameter)
            if "presence_head.2.bias" in name:
                parameter.data.fill_(0.6)
            if name == "propagation.correlation":
                parameter.data.uniform_(-0.5, 0.5)
            if name.endswith("scale_bias"):
                parameter.data.fill_(-0.8)
        for phase in (pair.guide.propagation, pair.guide.discovery):
            if hold:
                phase.hold.fill_(hold)
        return pair

    return make


@pytest.mark.parametrize(
    ("hold", "training", "relations"),
    [(0.0, True, False), (0.3, True, False), (0.0, False, False), (0.3, False, False), (0.0, True, True)],
)
def test_every_term_of_the_guide_equals_the_loop(hold: float, training: bool, relations: bool, varied: Any):
    guide = varied(hold, relations).guide.train(training)
    weights = {name: value.numpy() for name, value in guide.state_dict().items()}
    video = torch.rand(24, 3, 1, SIDE, SIDE, dtype=torch.float64)
    trace = poutine.trace(guide).get_trace(video)
    trace.compute_log_prob()
    sites = [name for name in trace.nodes if "/z_" in name]
    values: dict[str, Tensor] = {name: trace.nodes[name]["value"].detach() for name in sites}
    seen = video if guide.background is None else guide.background.look(video).objects
    kept = sum(values[f"propagation/z_pres/2/{i}"].sum() for i in range(COUNT))
    assert 0 < kept < sum(values[f"propagation/z_pres/1/{i}"].sum() for i in range(COUNT)) + 24
    for b in range(len(video)):
        own = {name: value[b].numpy() for name, value in values.items()}
        expected = Reference(weights, seen[b, :, 0].numpy(), own, hold if training else 0.0).run()
        for name in sites:
            got = trace.nodes[name]["log_prob"][b].item()
            assert got == pytest.approx(expected.get(name, 0.0), rel=1e-8, abs=1e-8), (name, b)


def test_discovery_alone_is_that_of_single_frames(varied: Any):
    """`SequenceAIRGuide` is the first frame of SQAIR's guide, in every frame."""
    from whatwhere.guides import SequenceAIRGuide

    guide = varied().guide
    alone = SequenceAIRGuide(guide.discovery, (1, SIDE, SIDE))
    video = torch.rand(6, 2, 1, SIDE, SIDE, dtype=torch.float64)
    trace = poutine.trace(alone).get_trace(video)
    trace.compute_log_prob()
    weights = {name: value.numpy() for name, value in guide.state_dict().items()}
    for b in range(len(video)):
        for t in range(2):
            own = {
                name.replace(f"/{t}/", "/0/"): site["value"][b].detach().numpy()
                for name, site in trace.nodes.items()
                if "/z_" in name and f"/{t}/" in name
            }
            reference = Reference(weights, video[b, t : t + 1, 0].numpy(), own, 0.0)
            for name, expected in reference.run().items():
                got = trace.nodes[name.replace("/0/", f"/{t}/", 1)]["log_prob"][b].item()
                assert got == pytest.approx(expected, rel=1e-8, abs=1e-8), (name, b)


def test_particles_see_the_same_video(varied: Any):
    """With an axis of particles on the left every particle is a run of its own."""
    guide = varied().guide
    video = torch.rand(3, 3, 1, SIDE, SIDE, dtype=torch.float64)
    with pyro.plate("particles", 4, dim=-2):
        many = poutine.trace(guide).get_trace(video)
    many.compute_log_prob()
    sites = [name for name in many.nodes if "/z_" in name]
    for k in range(4):
        data = {name: many.nodes[name]["value"][k] for name in sites}
        one = poutine.trace(poutine.condition(guide, data=data)).get_trace(video)
        one.compute_log_prob()
        for name in sites:
            torch.testing.assert_close(many.nodes[name]["log_prob"][k], one.nodes[name]["log_prob"])
