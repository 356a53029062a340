"""AIR's trace against a loop that writes the model out slot by slot, for every forced presence."""

import itertools
import math

import pyro
import pytest
import torch
from pyro import poutine
from scipy import stats
from torch import Tensor, nn

from whatwhere.guides import AIRGuide
from whatwhere.inference.objectives import Reinforce
from whatwhere.models import AIR
from whatwhere.models.components.attention import air_inverse_scale, paste
from whatwhere.models.components.likelihood import GaussianImage
from whatwhere.models.priors import GeometricCount, NormalPrior
from whatwhere.models.priors.counts import CategoricalCount

PREFIXES = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0)]


class TinyDecoder(nn.Module):
    """Glimpses of 3 x 3 pixels, linear in `z_what`."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, 9, dtype=torch.float64))

    def forward(self, z_what: Tensor) -> Tensor:
        return (z_what @ self.weight).unflatten(-1, (1, 3, 3))


def tiny_air() -> AIR:
    return AIR(
        CategoricalCount([0.2, 0.5, 0.3]),
        NormalPrior([2.0, 0.1, -0.1], [0.3, 0.5, 0.6]),
        TinyDecoder(),
        what_size=2,
        image_shape=(1, 5, 6),
        likelihood_scale=0.4,
    ).double()


def latents(presences: list[tuple[float, float]]) -> dict[str, Tensor]:
    size = len(presences)
    values = {}
    for i in range(2):
        values[f"z_pres/{i}"] = torch.tensor([p[i] for p in presences], dtype=torch.float64)
        where = torch.tensor([2.0, 0.0, 0.0]) + 0.3 * torch.randn(size, 3, dtype=torch.float64)
        values[f"z_where/{i}"] = where
        values[f"z_what/{i}"] = torch.randn(size, 2, dtype=torch.float64)
    return values


def trace_log_prob(model: AIR, images: Tensor, values: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Log-probability of each datum, and the mean image."""
    trace = poutine.trace(poutine.condition(model, data=values)).get_trace(images)
    trace.compute_log_prob()
    terms = [n["log_prob"] for n in trace.nodes.values() if n["type"] == "sample" and "log_prob" in n]
    per_datum = [term for term in terms if term.shape == images.shape[:1]]
    return sum(per_datum), trace.nodes["_RETURN"]["value"].canvas


def slow_log_prob(model: AIR, image: Tensor, values: dict[str, Tensor], b: int) -> float:
    """The factors of section 2.1 one by one, with scipy's densities."""
    presence = [float(values[f"z_pres/{i}"][b]) for i in range(2)]
    count = int(sum(presence))
    total = math.log([0.2, 0.5, 0.3][count])
    canvas = torch.zeros(1, 5, 6, dtype=torch.float64)
    for i in range(count):
        z_where, z_what = values[f"z_where/{i}"][b], values[f"z_what/{i}"][b]
        total += stats.norm([2.0, 0.1, -0.1], [0.3, 0.5, 0.6]).logpdf(z_where.numpy()).sum()
        total += stats.norm(0, 1).logpdf(z_what.numpy()).sum()
        canvas = canvas + paste(model.decoder(z_what), air_inverse_scale(z_where), (5, 6))
    return total + stats.norm(canvas.detach().numpy(), 0.4).logpdf(image.numpy()).sum()


def test_trace_equals_the_factors_written_out():
    model, images = tiny_air(), torch.rand(3, 1, 5, 6, dtype=torch.float64)
    values = latents(PREFIXES)
    log_prob, _ = trace_log_prob(model, images, values)
    expected = [slow_log_prob(model, images[b], values, b) for b in range(3)]
    torch.testing.assert_close(log_prob, torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-6)


def test_nothing_about_an_absent_slot_matters():
    model, images = tiny_air(), torch.rand(3, 1, 5, 6, dtype=torch.float64)
    values = latents(PREFIXES)
    changed = dict(values)
    for i, name in itertools.product(range(2), ("z_where", "z_what")):
        absent = values[f"z_pres/{i}"] == 0
        noise = 3 * torch.randn_like(values[f"{name}/{i}"])
        changed[f"{name}/{i}"] = torch.where(absent.unsqueeze(-1), noise, values[f"{name}/{i}"])
    before, after = trace_log_prob(model, images, values), trace_log_prob(model, images, changed)
    torch.testing.assert_close(after[0], before[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(after[1], before[1], rtol=0, atol=1e-12)


def test_presence_axes_to_the_left_broadcast():
    """What `MarginalELBO` relies on: prefixes of presence on a new axis, other latents shared."""
    model, images = tiny_air(), torch.rand(2, 1, 5, 6, dtype=torch.float64)
    values = latents([(1.0, 1.0), (1.0, 1.0)])
    prefixes = {
        f"z_pres/{i}": torch.tensor([[p[i]] for p in PREFIXES], dtype=torch.float64) for i in range(2)
    }
    with pyro.validation_enabled(False):
        trace = poutine.trace(poutine.condition(model, data={**values, **prefixes})).get_trace(images)
    trace.compute_log_prob()
    joint = sum(
        trace.nodes[f"{name}/{i}"]["log_prob"] for i in range(2) for name in ("z_pres", "z_where", "z_what")
    )
    joint = joint + trace.nodes["x"]["log_prob"]
    assert joint.shape == (3, 2)
    for row, prefix in enumerate(PREFIXES):
        forced = {f"z_pres/{i}": torch.full((2,), prefix[i], dtype=torch.float64) for i in range(2)}
        expected, _ = trace_log_prob(model, images, {**values, **forced})
        torch.testing.assert_close(joint[row], expected)


def test_counts_drawn_from_the_prior_follow_it():
    scene = AIR(GeometricCount(3, 0.5), what_size=2, image_shape=(1, 8, 8))(batch_size=20_000)
    counts = torch.bincount(scene.slots.z_pres.sum(-1).long(), minlength=4)
    expected = torch.tensor([8.0, 4.0, 2.0, 1.0]).double() / 15 * 20_000
    assert stats.chisquare(counts, expected).pvalue > 1e-3
    assert (scene.slots.z_pres.diff(dim=-1) <= 0).all()


def test_an_empty_scene_is_black_and_has_the_known_log_likelihood():
    model = AIR()
    trace = poutine.trace(
        poutine.condition(model, data={f"z_pres/{i}": torch.zeros(2) for i in range(3)})
    ).get_trace(torch.zeros(2, 1, 50, 50))
    trace.compute_log_prob()
    torch.testing.assert_close(trace.nodes["x"]["log_prob"], torch.full((2,), 712.5857), rtol=1e-5, atol=1e-3)
    assert trace.nodes["_RETURN"]["value"].canvas.abs().max() == 0


def test_gaussian_image_is_a_normal_over_pixels():
    loc, value = torch.rand(4, 2, 3, 5, dtype=torch.float64), torch.rand(4, 2, 3, 5, dtype=torch.float64)
    image = GaussianImage(loc, 0.3)
    expected = stats.norm(loc.numpy(), 0.3).logpdf(value.numpy()).sum((1, 2, 3))
    torch.testing.assert_close(image.log_prob(value), torch.from_numpy(expected))
    assert image.expand((7, 4)).log_prob(value).shape == (7, 4)
    draws = image.sample((4000,))
    torch.testing.assert_close(draws.mean(0), loc, rtol=0, atol=0.03)
    torch.testing.assert_close(draws.std(0), torch.full_like(loc, 0.3), rtol=0.1, atol=0)


def test_bad_input_is_refused():
    model = AIR()
    with pytest.raises(ValueError, match=r"\(B, 1, 50, 50\), but got \(2, 1, 40, 50\)"):
        model(torch.rand(2, 1, 40, 50))
    with pytest.raises(ValueError, match=r"floating point in \[0, 1\], but got torch.uint8"):
        model(torch.zeros(2, 1, 50, 50, dtype=torch.uint8))
    with pytest.raises(ValueError, match="`batch_size`"):
        model()
    with pytest.raises(ValueError, match="`scale` must be positive"):
        GaussianImage(torch.zeros(1, 2, 2), 0.0)


@pytest.mark.parametrize("program", [AIR(), AIRGuide()])
def test_images_of_another_type_are_refused(program):
    for dtype in (torch.float64, torch.bfloat16):
        with pytest.raises(ValueError, match=rf"must be torch.float32, .* but got {dtype}"):
            program(torch.rand(2, 1, 50, 50).to(dtype))
    with pytest.raises(TypeError, match="must be a PyTorch tensor, but got ndarray"):
        program(torch.rand(2, 1, 50, 50).numpy())


def test_a_guide_of_another_size_is_refused():
    images = torch.rand(2, 1, 50, 50)
    with pytest.raises(ValueError, match=r"`z_what/0` must have 50 components, .* but got 20"):
        Reinforce()(AIR(), AIRGuide(what_size=20))(images)
