"""SQAIR against its published sizes, its initial statistics, and the model written out as a loop."""

import itertools
import math

import pyro
import pytest
import torch
import torch.nn.functional as F
from pyro import poutine
from scipy import stats
from torch import Tensor

from whatwhere.examples.sqair import NetworkConfig, PriorConfig, Programs
from whatwhere.examples.sqair import build as build_sqair
from whatwhere.guides import SQAIRGuide
from whatwhere.inference.objectives import VIMCO
from whatwhere.models.components.active_set import use_active_set
from whatwhere.models.components.attention import paste, sqair_squash
from whatwhere.models.components.slots import TrackedSlots, compact
from whatwhere.models.components.triangular_normal import Triangle, TriangularNormal
from whatwhere.models.priors import (
    DiscoveryCountPrior,
    FixedWherePrior,
    GuidedPropagationPrior,
    Propagation,
    RecurrentPropagationPrior,
    StaticLooksPrior,
    expected_propagation,
)
from whatwhere.models.priors.counts import log_probs_of_hazards
from whatwhere.models.sqair import SQAIR

VARIABLES = ("z_where", "z_what", "z_pres")


def build(
    count: int = 3,
    what: int = 50,
    hidden: int = 256,
    side: int = 50,
    glimpse: int = 20,
    narrow: int = 128,
    hold: bool = False,
) -> Programs:
    """MLP-SQAIR of the paper, or a smaller one."""
    network = NetworkConfig("mlp", (1, side, side), count, what, glimpse, hidden, narrow, narrow)
    return build_sqair(network, PriorConfig(), hold=hold)


def small(hold: bool = False) -> tuple[SQAIR, SQAIRGuide]:
    model, guide = build(count=2, what=3, hidden=8, side=12, glimpse=5, narrow=6, hold=hold)
    for parameter in dict.fromkeys([*model.parameters(), *guide.parameters()]):
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model.double(), guide.double()


@pytest.mark.parametrize(("count", "parameters"), [(3, 2_951_522), (4, 2_951_535)])
def test_the_published_number_of_parameters(count: int, parameters: int):
    assert sum(p.numel() for p in {p for module in build(count) for p in module.parameters()}) == parameters


def test_every_parameter_gets_a_finite_gradient():
    torch.manual_seed(1)
    model, guide = small()
    video = torch.rand(6, 3, 1, 12, 12, dtype=torch.float64)
    objective = VIMCO(4, reduction="mean")(model, guide)
    objective(video)[0].backward()
    for name, parameter in objective.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_initial_statistics():
    model, guide = build()
    offset = 0.01
    with torch.no_grad():
        check_initial_statistics(model, guide, offset)


def check_initial_statistics(model: SQAIR, guide: SQAIRGuide, offset: float) -> None:
    assert F.softplus(guide.discovery.scale_bias) + offset == pytest.approx(0.0586, abs=1e-4)
    assert F.softplus(guide.propagation.scale_bias - 1) + offset == pytest.approx(0.0281, abs=1e-4)
    assert F.softplus(torch.tensor(0.0)) + offset == pytest.approx(0.703, abs=1e-3)
    bias = model.discovery.where_prior.readout.bias
    assert F.softplus(bias[4]) + offset == pytest.approx(1.323, abs=1e-3)
    assert bias[0].sigmoid() == pytest.approx(0.119, abs=1e-3)
    assert guide.discovery.presence_head[-1].bias.sigmoid() == pytest.approx(0.731, abs=1e-3)
    assert guide.propagation.presence_head[-1].bias.sigmoid() == pytest.approx(0.9933, abs=1e-4)
    assert torch.tensor(model.propagation_prior.presence_bias).sigmoid() == pytest.approx(0.99995, abs=1e-5)
    assert guide.propagation.gates.bias.sigmoid().mean() == pytest.approx(0.731, abs=1e-3)
    prior = model.discovery.count_prior
    prior.network[-1].weight.data.zero_()
    later = prior.log_probs(torch.zeros(1), torch.tensor(3.0), first=False)
    assert later[0].exp() == pytest.approx(0.99986, abs=1e-5)
    first = prior.log_probs(torch.zeros(1), torch.tensor(3.0), first=True)
    torch.testing.assert_close(first.exp(), torch.full((4,), 0.25))


def test_count_prior_is_truncated_to_the_free_slots():
    prior = DiscoveryCountPrior(3).double()
    prior.bias.data.normal_()
    expectation, free = torch.tensor([[0.2]]).double(), torch.tensor([0.0, 1.0, 3.0]).double()
    logits = F.elu(prior.bias + prior.network(expectation))[0].detach()
    hazards = prior(expectation.expand(3, 1), free, first=True)
    assert hazards.isfinite().all()
    for row, most in enumerate((0, 1, 3)):
        expected = torch.zeros(4).double()
        expected[: most + 1] = logits[: most + 1].softmax(0)
        found = log_probs_of_hazards(hazards[row, :most]).exp() if most else torch.ones(1).double()
        torch.testing.assert_close(found, expected[: most + 1])
    hazards.sum().backward()
    assert all(p.grad.isfinite().all() for p in (prior.bias, *prior.network.parameters()))


def test_expected_propagation_counts_absent_slots_as_impossible():
    logits, present = torch.tensor([2.0, -1.0, 5.0]), torch.tensor([1.0, 1.0, 0.0])
    expected = ((1 / (1 + math.exp(-2)) - 0.5) + (1 / (1 + math.exp(1)) - 0.5) - 0.5) / 3
    torch.testing.assert_close(expected_propagation(logits, present), torch.tensor([expected]))


def test_compaction_is_stable_and_moves_all_fields_together():
    presences = list(itertools.product((0.0, 1.0), repeat=6))
    rows = torch.tensor(presences)
    index = torch.arange(6.0).expand(len(rows), 6)

    def slots(part: slice) -> TrackedSlots:
        number = index[:, part]
        return TrackedSlots(
            rows[:, part],
            number.unsqueeze(-1).expand(-1, -1, 4),
            number.unsqueeze(-1).expand(-1, -1, 2),
            number.unsqueeze(-1).expand(-1, -1, 5),
            number.long(),
        )

    merged = compact(slots(slice(0, 3)), slots(slice(3, 6)))
    for b, presence in enumerate(presences):
        order = ([i for i in range(6) if presence[i]] + [i for i in range(6) if not presence[i]])[:3]
        assert merged.identity[b].tolist() == order
        assert merged.z_pres[b].tolist() == [presence[i] for i in order]
        for field in (merged.z_where, merged.z_what, merged.memory):
            assert (field[b] == torch.tensor(order).float().unsqueeze(-1)).all()


def test_triangular_normal_is_a_multivariate_normal():
    loc, scale = torch.randn(5, 4).double(), torch.rand(5, 4).double() + 0.1
    triangle = torch.randn(4, 4).double().tril() + 3 * torch.eye(4).double()
    ours = TriangularNormal(loc, scale, Triangle.of(triangle))
    tril = scale.unsqueeze(-1) * triangle
    reference = torch.distributions.MultivariateNormal(loc, scale_tril=tril)
    value = torch.randn(5, 4).double()
    torch.testing.assert_close(ours.log_prob(value), reference.log_prob(value))
    torch.testing.assert_close(ours.expand((2, 5)).log_prob(value), reference.log_prob(value).expand(2, 5))
    draws = ours.sample((40_000,))[:, 0]
    torch.testing.assert_close(draws.T.cov(), tril[0] @ tril[0].T, rtol=0.1, atol=0.02)


def decode(model: SQAIR, present: list[Tensor]) -> Tensor:
    """The canvas of objects `(where, what)`, drawn one after the other."""
    decoder = model.decoder
    canvas, occupancy = torch.zeros_like(decoder.mean_image), torch.zeros_like(decoder.mean_image)
    for where, what in present:
        glimpse = decoder.output_scale * decoder.glimpse_decoder(what)
        canvas = canvas + paste(glimpse, sqair_squash(where), canvas.shape[-2:])
        occupancy = occupancy + paste(torch.ones_like(glimpse), sqair_squash(where), canvas.shape[-2:])
    return canvas + torch.sigmoid(20 * occupancy - 10) * decoder.mean_image


def slow_log_joint(model: SQAIR, video: Tensor, values: dict[str, Tensor], b: int) -> Tensor:
    """log p(x, z) of sequence `b`: sections 3.3 and 3.6 of the paper's model, object by object."""

    def normal(parameters, value: Tensor, index=...) -> Tensor:
        return (
            torch.distributions.Normal(parameters.loc[index], parameters.scale[index]).log_prob(value).sum()
        )

    prior, count, total = model.propagation_prior, model.max_count, torch.zeros(()).double()
    objects: list[tuple[Tensor, Tensor, Tensor]] = []  # where, what, memory
    for t in range(video.shape[1]):
        kept, expectation = [], -0.5 * count
        for i, (where, what, memory) in enumerate(objects):
            slot = TrackedSlots(torch.ones(1), where[None], what[None], memory[None], torch.zeros(1))
            predicted = prior(slot)
            logit = predicted.logits[0]
            expectation = expectation + logit.sigmoid()
            if values[f"propagation/z_pres/{t}/{i}"][b]:
                new = [values[f"propagation/{name}/{t}/{i}"][b] for name in ("z_where", "z_what")]
                total = total + F.logsigmoid(logit)
                total = total + normal(predicted.where, new[0], 0) + normal(predicted.what, new[1], 0)
                kept.append((*new, predicted.memory[0]))
            else:
                total = total + F.logsigmoid(-logit)
        summary = sum(
            (model.latent_encoder.network(torch.cat([what, where])) for where, what, _ in kept),
            start=torch.zeros(model.latent_encoder.size).double(),
        )
        feature = torch.as_tensor(expectation / count).double().reshape(1)
        free = count - len(kept)
        count_prior = model.discovery.count_prior
        bias = count_prior.bias + (count_prior.later_bias if t else 0)
        log_counts = F.elu(bias + count_prior.network(feature))[: free + 1].log_softmax(0)
        found = int(sum(values[f"discovery/z_pres/{t}/{j}"][b] for j in range(free)))
        total = total + log_counts[found]
        where_prior = model.discovery.where_prior
        started = where_prior.start(torch.cat([summary, feature]))
        previous = where_prior.first_sample
        for j in range(found):
            where, what = (values[f"discovery/{name}/{t}/{j}"][b] for name in ("z_where", "z_what"))
            total = total + normal(where_prior(started, previous), where)
            total = total + torch.distributions.Normal(0.0, 1.0).log_prob(what).sum()
            kept.append((where, what, prior.initial_memory))
            previous = where
        objects = kept
        canvas = decode(model, [(where, what) for where, what, _ in objects])
        total = total + torch.distributions.Normal(canvas, model.likelihood_scale).log_prob(video[b, t]).sum()
    return total


def log_prob(trace: poutine.Trace, size: int) -> Tensor:
    trace.compute_log_prob()
    terms = [n["log_prob"] for n in trace.nodes.values() if n["type"] == "sample" and "log_prob" in n]
    return sum(term for term in terms if term.shape == (size,))


def presence_sites(frames: int, count: int) -> list[str]:
    first = [f"discovery/z_pres/0/{j}" for j in range(count)]
    later = [
        f"{phase}/z_pres/{t}/{i}"
        for t in range(1, frames)
        for phase in ("propagation", "discovery")
        for i in range(count)
    ]
    return first + later


def valid(presence: dict[str, float], frames: int, count: int) -> bool:
    """Whether presences can occur together: prefixes of discovery, nothing from nothing, no overflow."""
    objects = 0
    for t in range(frames):
        stays = [presence.get(f"propagation/z_pres/{t}/{i}", 0.0) for i in range(count)]
        if any(stays[objects:]):
            return False
        new = [presence[f"discovery/z_pres/{t}/{j}"] for j in range(count)]
        if new != sorted(new, reverse=True) or sum(stays) + sum(new) > count:
            return False
        objects = int(sum(stays) + sum(new))
    return True


def forced(frames: int = 2, count: int = 2) -> dict[str, Tensor]:
    """Every combination of presences that can occur, one a row."""
    names = presence_sites(frames, count)
    rows = [dict(zip(names, row, strict=True)) for row in itertools.product((0.0, 1.0), repeat=len(names))]
    rows = [row for row in rows if valid(row, frames, count)]
    return {name: torch.tensor([row[name] for row in rows]).double() for name in names}


def test_the_model_equals_a_loop_for_every_combination_of_presences():
    model, guide = small()
    presence = forced()
    size = len(presence["discovery/z_pres/0/0"])
    assert size > 10
    video = torch.rand(size, 2, 1, 12, 12, dtype=torch.float64)
    guided = poutine.trace(poutine.condition(guide, data=presence)).get_trace(video)
    values = {name: guided.nodes[name]["value"] for name in guided.nodes if "/z_" in name}
    trace = poutine.trace(poutine.condition(model, data=values)).get_trace(video)
    expected = torch.stack([slow_log_joint(model, video, values, b) for b in range(size)])
    torch.testing.assert_close(log_prob(trace, size), expected, rtol=1e-9, atol=1e-9)


def test_impossible_slots_change_nothing_and_unused_draws_leave_the_guide():
    """A slot that cannot be influences nothing; of one that is refused, only the refusal counts."""
    model, guide = small()
    presence = forced()
    size = len(presence["discovery/z_pres/0/0"])
    video = torch.rand(size, 2, 1, 12, 12, dtype=torch.float64)
    first = poutine.trace(poutine.condition(guide, data=presence)).get_trace(video)
    values = {name: first.nodes[name]["value"] for name in first.nodes if "/z_" in name}
    changed = {}
    for name, value in values.items():
        phase, variable, t, i = name.split("/")
        impossible = ~first.nodes[f"{phase}/z_pres/{t}/{i}"]["mask"]
        other = value if variable == "z_pres" else torch.where(impossible[:, None], value + 1, value)
        changed[name] = other
    results = []
    for data in (values, changed):
        q = poutine.trace(poutine.condition(guide, data=data)).get_trace(video)
        p = poutine.trace(poutine.condition(model, data=data)).get_trace(video)
        results.append((log_prob(q, size), log_prob(p, size), p.nodes["_RETURN"]["value"][-1].canvas))
    for before, after in zip(*results, strict=True):
        torch.testing.assert_close(before, after, rtol=0, atol=1e-9)
    used = torch.zeros(size).double()
    q = poutine.trace(poutine.condition(guide, data=values)).get_trace(video)
    for name in values:
        phase, variable, t, i = name.split("/")
        site = q.nodes[name]
        mask = site["mask"]
        if variable != "z_pres":
            mask = mask & (presence[f"{phase}/z_pres/{t}/{i}"] > 0)
        used = used + torch.where(mask, site["fn"].log_prob(site["value"]), 0.0)
    torch.testing.assert_close(results[0][0], used, rtol=1e-9, atol=1e-9)


def frame_of(name: str) -> int:
    """The frame of `x/t` and `phase/variable/t/i`."""
    parts = name.split("/")
    return int(parts[1] if len(parts) == 2 else parts[2])


def test_a_frame_never_sees_later_ones():
    model, guide = small()
    video = torch.rand(4, 3, 1, 12, 12, dtype=torch.float64)
    changed = video.clone()
    changed[:, 2] = 1 - changed[:, 2]
    traces = []
    for x in (video, changed):
        torch.manual_seed(3)
        q = poutine.trace(guide).get_trace(x)
        q.compute_log_prob()
        p = poutine.trace(poutine.replay(model, trace=q)).get_trace(x)
        p.compute_log_prob()
        traces.append((q, p))
    for early, late in zip(traces[0], traces[1], strict=True):
        for name, site in early.nodes.items():
            if site["type"] == "sample" and "/" in name and frame_of(name) < 2:
                torch.testing.assert_close(site["log_prob"], late.nodes[name]["log_prob"], rtol=0, atol=0)


def test_identities_are_unique_and_persist():
    torch.manual_seed(0)
    _, guide = small()
    guide.propagation.presence_head[-1].bias.data.fill_(0.5)
    with pyro.plate("particles", 50, dim=-2):
        frames = guide(torch.rand(4, 5, 1, 12, 12, dtype=torch.float64))
    seen: list[dict[tuple[int, int], set[int]]] = []
    highest = torch.full((50, 4), -1)
    for slots in frames:
        present = slots.z_pres > 0
        assert (slots.identity[~present] == -1).all()
        assert (slots.identity[present] >= 0).all()
        assert (slots.z_pres.diff(dim=-1) <= 0).all()
        assert slots.z_where[~present].abs().sum() == 0
        ids = [
            {(k, b): set(slots.identity[k, b][present[k, b]].tolist()) for k in range(50) for b in range(4)}
        ][0]
        for (k, b), now in ids.items():
            assert len(now) == int(present[k, b].sum())
            if seen:
                fresh = now - seen[-1][k, b]
                assert all(number > highest[k, b] for number in fresh)
            if now:
                highest[k, b] = max(int(highest[k, b]), max(now))
        seen.append(ids)


def test_an_empty_video_is_black_with_the_known_log_likelihood():
    model, _ = build()
    silence = {f"discovery/z_pres/{t}/{j}": torch.zeros(2) for t in range(2) for j in range(3)}
    silence |= {f"propagation/z_pres/1/{i}": torch.zeros(2) for i in range(3)}
    trace = poutine.trace(poutine.condition(model, data=silence)).get_trace(torch.zeros(2, 2, 1, 50, 50))
    trace.compute_log_prob()
    torch.testing.assert_close(trace.nodes["x/1"]["log_prob"], torch.full((2,), 712.586), rtol=0, atol=1e-2)


def test_first_frame_counts_follow_the_prior():
    model, _ = build(what=2, hidden=8, side=12, glimpse=4, narrow=4)
    size = 20_000
    frames = model(batch_size=size, frames=1)
    prior = model.discovery.count_prior
    expected = (
        prior.log_probs(torch.tensor([-0.5]), torch.tensor(3.0), first=True).exp().detach().double() * size
    )
    observed = torch.bincount(frames[0].discovered.long(), minlength=4)
    assert stats.chisquare(observed, expected / expected.sum() * size).pvalue > 1e-3


@pytest.mark.parametrize(
    "prior", [GuidedPropagationPrior(3, 8, update_scale=0.0), GuidedPropagationPrior(3, 8)]
)
def test_the_guided_prior_moves_from_where_the_object_was(prior: GuidedPropagationPrior):
    slots = TrackedSlots(
        torch.ones(2, 1), torch.randn(2, 1, 4), torch.randn(2, 1, 3), torch.randn(2, 1, 8), torch.zeros(2, 1)
    )
    plain = RecurrentPropagationPrior.forward(prior, slots)
    guided = prior(slots)
    torch.testing.assert_close(guided.where.loc, slots.z_where + prior.update_scale * plain.where.loc)
    torch.testing.assert_close(guided.what.loc, slots.z_what + prior.update_scale * plain.what.loc)


def test_a_fixed_prior_of_places_fits_in():
    model, guide = small()
    model.discovery.where_prior = FixedWherePrior().double()
    loss, _ = VIMCO(2)(model, guide)(torch.rand(2, 2, 1, 12, 12, dtype=torch.float64))
    assert loss.isfinite()


def test_bad_videos_are_refused():
    model, guide = small()
    with pytest.raises(ValueError, match=r"\(B, T, 1, 12, 12\), but got \(2, 3, 1, 12, 11\)"):
        guide(torch.rand(2, 3, 1, 12, 11))
    with pytest.raises(ValueError, match=r"floating point in \[0, 1\], but got torch\.uint8"):
        guide(torch.zeros(2, 3, 1, 12, 12, dtype=torch.uint8))
    with pytest.raises(ValueError, match="`batch_size` and `frames`"):
        model()


def test_the_active_set_changes_neither_weights_nor_gradients():
    """Presences of all kinds, also frames in which a slot is present nowhere."""
    model, guide = small()
    video = torch.rand(3, 4, 1, 12, 12, dtype=torch.float64)
    objective = VIMCO(3)(model, guide)
    for bias in (-30.0, 0.0):
        guide.discovery.presence_head[-1].bias.data.fill_(bias)
        guide.propagation.presence_head[-1].bias.data.fill_(bias)
        found = []
        for on in (False, True):
            use_active_set(model, guide, on=on)
            torch.manual_seed(5)
            objective.zero_grad()
            loss, _ = objective(video)
            loss.backward()
            found.append([loss.detach(), *(p.grad.clone() for p in objective.parameters())])
        for everywhere, active in zip(*found, strict=True):
            torch.testing.assert_close(active, everywhere, rtol=1e-9, atol=1e-9)


def test_the_active_set_runs_networks_on_what_is_present_only():
    model, guide = small()
    use_active_set(model, guide)
    guide.discovery.presence_head[-1].weight.data.zero_()
    guide.discovery.presence_head[-1].bias.data.fill_(30.0)
    guide.propagation.presence_head[-1].bias.data.fill_(30.0)
    rows: list[int] = []
    guide.discovery.presence_head.register_forward_hook(lambda *call: rows.append(call[1][0].numel() // 11))
    with pyro.plate("particles", 5, dim=-2):
        guide(torch.rand(3, 2, 1, 12, 12, dtype=torch.float64))
    # Two slots in the first frame; in the second none is free, and no network is run.
    assert rows == [15, 15]


def test_generation_goes_on_from_what_was_given_and_discovers_nothing():
    torch.manual_seed(0)
    model, guide = small()
    model.discovery.count_prior.later_bias.data[0] = -30.0
    given = poutine.trace(guide).get_trace(torch.rand(6, 2, 1, 12, 12, dtype=torch.float64))
    drawn = model.generate(6, 5, given, discover=False)
    for t in range(2):
        expected = given.nodes["_RETURN"]["value"][t]
        for field in ("z_pres", "z_where", "z_what", "identity"):
            torch.testing.assert_close(getattr(drawn[t].slots, field), getattr(expected, field))
    for before, frame in itertools.pairwise(drawn[1:]):
        assert frame.discovered.sum() == 0
        staying = frame.slots.identity[frame.slots.z_pres > 0]
        assert set(staying.tolist()) <= set(before.slots.identity.flatten().tolist())
    nothing = {f"discovery/z_pres/{t}/{j}": torch.zeros(6).double() for t in range(2) for j in range(2)}
    empty = poutine.trace(poutine.condition(guide, data=nothing)).get_trace(
        torch.rand(6, 2, 1, 12, 12).double()
    )
    # ELU keeps every logit above -1, so in 18 empty frames nothing is found with a probability below 1e-6.
    assert sum(frame.discovered.sum() for frame in model.generate(6, 5, empty)[2:]) > 0


def test_generation_from_a_prior_without_noise_is_deterministic():
    model, guide = small()
    _, what = model.propagation_prior.readout.out_features, model.discovery.what_prior.size
    with torch.no_grad():
        model.propagation_prior.readout.weight[-(what + 4) :] = 0
        model.propagation_prior.readout.bias[-(what + 4) :] = -200.0
        model.propagation_prior.readout.bias[0] = 200.0
    given = poutine.trace(guide).get_trace(torch.rand(6, 2, 1, 12, 12, dtype=torch.float64))
    first, second = (model.generate(6, 4, given, discover=False)[3] for _ in range(2))
    # Every standard deviation is the least there is, 0.01.
    torch.testing.assert_close(first.slots.z_pres, second.slots.z_pres)
    assert (first.slots.z_where - second.slots.z_where).abs().max() < 0.2


def test_without_truncation_the_prior_does_not_know_of_free_slots():
    """As in the authors' code: the probabilities of the count are those of an empty frame."""
    model, guide = small()
    model.truncate = guide.truncate = False
    presence = {f"discovery/z_pres/0/{j}": torch.ones(4).double() for j in range(2)}
    presence |= {f"propagation/z_pres/1/{j}": torch.ones(4).double() for j in range(2)}
    presence |= {f"discovery/z_pres/1/{j}": torch.tensor([1.0, 1.0 - j, 0.0, 0.0]).double() for j in range(2)}
    video = torch.rand(4, 2, 1, 12, 12, dtype=torch.float64)
    guided = poutine.trace(poutine.condition(guide, data=presence)).get_trace(video)
    values = {name: guided.nodes[name]["value"] for name in guided.nodes if "/z_" in name}
    trace = poutine.trace(poutine.condition(model, data=values)).get_trace(video)
    trace.compute_log_prob()
    found = sum(trace.nodes[f"discovery/z_pres/1/{j}"]["log_prob"] for j in range(2))
    slots = trace.nodes["_RETURN"]["value"][0].slots
    expectation = expected_propagation(model.propagation_prior(slots).logits, slots.z_pres)
    prior = model.discovery.count_prior
    bias = prior.bias + prior.later_bias
    expected = F.elu(bias + prior.network(expectation)).log_softmax(-1)[range(4), [2, 1, 0, 0]]
    torch.testing.assert_close(found, expected)
    assert (trace.nodes["_RETURN"]["value"][1].slots.z_pres.sum(-1) == 2).all()


def test_holding_on_keeps_the_objects_of_the_first_frame_while_training():
    torch.manual_seed(0)
    model, guide = small(hold=True)
    guide.propagation.presence_head[-1].bias.data.fill_(-3.0)
    video = torch.rand(20, 3, 1, 12, 12, dtype=torch.float64)
    for phase in (guide.propagation, guide.discovery):
        phase.hold.fill_(1 - 1e-9)
    held = guide(video)
    assert all((later.identity == held[0].identity).all() for later in held)
    assert held[0].z_pres.sum() > 0
    loss, _ = VIMCO(2)(model, guide)(video)
    assert loss.isfinite()
    let_go = guide.eval()(video)
    assert (let_go[1].identity != let_go[0].identity).any()


class Flock(RecurrentPropagationPrior):
    """Objects that are drawn to the middle of those that are there."""

    per_object = False

    def forward(self, slots: TrackedSlots) -> Propagation:
        predicted = super().forward(slots)
        present = slots.z_pres.unsqueeze(-1)
        middle = (slots.z_where * present).sum(-2, keepdim=True) / present.sum(-2, keepdim=True).clamp(min=1)
        where = predicted.where
        return predicted._replace(where=where._replace(loc=0.5 * where.loc + 0.5 * middle))


def test_a_prior_that_relates_objects_gets_all_slots_with_and_without_active_set():
    model, guide = small()
    flock = Flock(3, 8).double()
    flock.load_state_dict(model.propagation_prior.state_dict())
    alone = model.propagation_prior
    video, weights = torch.rand(4, 3, 1, 12, 12, dtype=torch.float64), []
    for prior, active in ((flock, False), (flock, True), (alone, True), (alone, False)):
        model.propagation_prior = prior
        use_active_set(model, guide, on=active)
        torch.manual_seed(0)
        weights.append(VIMCO(3).log_weights(model, guide, video).log_weight)
    torch.testing.assert_close(weights[0], weights[1])
    torch.testing.assert_close(weights[2], weights[3])
    assert not torch.isclose(weights[0], weights[2]).all()


def test_videos_of_another_type_are_refused():
    model, guide = small()
    for program in (model, guide):
        with pytest.raises(ValueError, match=r"must be torch.float64, .* but got torch.float32"):
            program(torch.rand(2, 2, 1, 12, 12))


def test_looks_may_go_on_by_a_part_of_their_own():
    """`what_dynamics` is the prior of looks: where they stay, nothing is drawn."""
    model, _ = small()
    parts = model.discovery, model.latent_encoder, model.decoder
    still = SQAIR(model.propagation_prior, *parts, what_dynamics=StaticLooksPrior())
    names = set(poutine.trace(still).get_trace(batch_size=8, frames=3).nodes)
    assert "propagation/z_where/1/0" in names
    assert not any(name.startswith("propagation/z_what") for name in names)
    assert "propagation/z_what/1/0" in poutine.trace(model).get_trace(batch_size=8, frames=3).nodes
    first, _, last = (frame.slots for frame in still.generate(20, 3))
    same = (first.identity[:, 0] == 0) & (last.identity[:, 0] == 0)
    assert same.any()
    assert torch.equal(first.z_what[same, 0], last.z_what[same, 0])
