import pyro
import pytest
import torch
from pyro import poutine
from torch import Tensor, nn

from whatwhere.guides import AIRGuide
from whatwhere.guides.air import explore
from whatwhere.models import AIR
from whatwhere.models.components.networks import LocScale
from whatwhere.models.components.recurrent import LSTMState, SplitInputLSTM
from whatwhere.models.priors import present_or_standard

SITES = ("z_pres", "z_where", "z_what")


def guide_trace(guide: AIRGuide, images: Tensor, **forced: Tensor) -> poutine.Trace:
    trace = poutine.trace(poutine.condition(guide, data=forced)).get_trace(images)
    trace.compute_log_prob()
    return trace


def small_guide(**kwargs) -> AIRGuide:
    return AIRGuide(
        glimpse_size=(6, 6), what_size=4, image_shape=(1, 12, 12), hidden_size=16, head_hidden=(8,), **kwargs
    )


def test_guide_and_model_have_the_same_statements():
    images = torch.rand(2, 1, 50, 50)
    latent = [
        n for n, s in guide_trace(AIRGuide(), images).nodes.items() if s["type"] == "sample" and n != "data"
    ]
    assert latent == [f"{name}/{i}" for i in range(3) for name in SITES]
    model = poutine.trace(AIR()).get_trace(images)
    assert [n for n in model.stochastic_nodes if n != "data"] == latent
    assert model.observation_nodes == ["x"]


def test_presence_never_follows_absence_and_absent_slots_are_zero():
    slots = small_guide()(torch.rand(500, 1, 12, 12))
    assert (slots.z_pres.diff(dim=-1) <= 0).all()
    absent = slots.z_pres == 0
    assert absent.any()
    assert slots.z_where[absent].abs().max() == 0
    assert slots.z_what[absent].abs().max() == 0


def test_log_probability_of_absent_slots_is_zero():
    trace = guide_trace(small_guide(), torch.rand(300, 1, 12, 12))
    previous = torch.ones(300)
    for i in range(3):
        present = trace.nodes[f"z_pres/{i}"]["value"]
        assert trace.nodes[f"z_pres/{i}"]["log_prob"][previous == 0].abs().sum() == 0
        for name in ("z_where", "z_what"):
            log_prob = trace.nodes[f"{name}/{i}"]["log_prob"]
            assert log_prob[present == 0].abs().sum() == 0
            assert (log_prob[present == 1] != 0).all()
        previous = present


def test_what_an_absent_slot_would_have_drawn_changes_nothing():
    guide, images = small_guide(), torch.rand(4, 1, 12, 12)
    presence = {"z_pres/0": torch.ones(4), "z_pres/1": torch.zeros(4), "z_pres/2": torch.zeros(4)}
    latents = {f"{name}/0": torch.randn(4, size) for name, size in (("z_where", 3), ("z_what", 4))}
    totals = []
    for scale in (0.0, 5.0):
        absent = {
            f"{name}/{i}": scale * torch.randn(4, size)
            for name, size in (("z_where", 3), ("z_what", 4))
            for i in (1, 2)
        }
        trace = guide_trace(guide, images, **presence, **latents, **absent)
        totals.append(sum(trace.nodes[f"{name}/{i}"]["log_prob"] for name in SITES for i in range(3)))
    torch.testing.assert_close(totals[0], totals[1], rtol=0, atol=0)


def test_untrained_guide_draws_places_near_the_prior():
    guide = AIRGuide()
    guide.head[-1].weight.data.zero_()
    guide.head[-1].bias.data.zero_()
    trace = guide_trace(guide, torch.rand(2, 1, 50, 50), **{"z_pres/0": torch.ones(2)})
    place = trace.nodes["z_where/0"]["fn"].base_dist
    torch.testing.assert_close(place.loc, torch.tensor([3.0, 0, 0]).expand(2, 3))
    softplus_0 = 0.6931472
    torch.testing.assert_close(place.scale, softplus_0 * torch.tensor([0.2, 1.0, 1.0]).expand(2, 3))


def test_particles_broadcast_and_permuting_images_permutes_parameters():
    guide, images = small_guide(), torch.rand(5, 1, 12, 12)
    order = torch.tensor([3, 1, 0, 4, 2])
    with pyro.plate("particles", 7, dim=-2):
        trace = guide_trace(guide, images)
    values = {n: trace.nodes[n]["value"] for n in trace.stochastic_nodes if "/" in n}
    assert values["z_what/2"].shape == (7, 5, 4)
    with pyro.plate("particles", 7, dim=-2):
        permuted = guide_trace(guide, images[order], **{n: v[:, order] for n, v in values.items()})
    for name in values:
        torch.testing.assert_close(permuted.nodes[name]["log_prob"], trace.nodes[name]["log_prob"][:, order])


def test_the_image_is_encoded_once_whatever_the_number_of_particles():
    calls = []

    class Encoder(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            calls.append(images.shape)
            return images.flatten(-3).mean(-1, keepdim=True)

    guide = small_guide(image_encoder=Encoder())
    calls.clear()
    with pyro.plate("particles", 7, dim=-2):
        guide(torch.rand(5, 1, 12, 12))
    assert calls == [(5, 1, 12, 12)]


def test_the_baseline_of_a_slot_sees_earlier_slots_only():
    guide, images = small_guide(use_baseline=True), torch.rand(3, 1, 12, 12)

    def baselines(**forced: Tensor) -> list[Tensor]:
        torch.manual_seed(1)
        nodes = guide_trace(guide, images, **forced).nodes
        return [nodes[f"z_pres/{i}"]["infer"]["baseline"]["baseline_value"] for i in range(3)]

    ones = {f"z_pres/{i}": torch.ones(3) for i in range(3)}
    before = baselines(**ones)
    for i in range(3):
        changed = {**ones, **{f"z_pres/{j}": torch.zeros(3) for j in range(i, 3)}}
        after = baselines(**changed)
        for j in range(3):
            assert torch.equal(before[j], after[j]) == (j <= i)


def test_the_baseline_does_not_train_the_guide():
    encoder = nn.Sequential(nn.Flatten(-3), nn.Linear(144, 9))
    guide = small_guide(use_baseline=True, image_encoder=encoder)
    nodes = guide_trace(guide, torch.rand(3, 1, 12, 12)).nodes
    sum(nodes[f"z_pres/{i}"]["infer"]["baseline"]["baseline_value"].sum() for i in range(3)).backward()
    assert all(p.grad is not None for p in guide.baseline.parameters())
    others = [p for n, p in guide.named_parameters() if not n.startswith("baseline.")]
    assert all(p.grad is None for p in others)


def test_split_input_lstm_is_an_lstm_cell_on_the_concatenation():
    split, cell = SplitInputLSTM(6, 3, 4), nn.LSTMCell(9, 4)
    with torch.no_grad():
        cell.weight_ih[:, :6] = split.from_context.weight
        cell.weight_ih[:, 6:] = split.from_input.weight[:, :3]
        cell.weight_hh.copy_(split.from_input.weight[:, 3:])
        cell.bias_ih.copy_(split.from_context.bias)
        cell.bias_hh.zero_()
    context, inputs, hidden, memory = (
        torch.randn(5, 6),
        torch.randn(5, 3),
        torch.randn(5, 4),
        torch.randn(5, 4),
    )
    state = split(split.from_context(context), inputs, LSTMState(hidden, memory))
    expected = cell(torch.cat([context, inputs], -1), (hidden, memory))
    torch.testing.assert_close(state.hidden, expected[0])
    torch.testing.assert_close(state.cell, expected[1])


def test_absent_parameters_are_harmless_even_where_they_would_be_nan():
    loc = torch.zeros(2, 1, requires_grad=True)
    parameters = LocScale(loc, torch.tensor([[0.0], [2.0]]))
    distribution = present_or_standard(parameters, torch.tensor([0.0, 1.0]))
    log_prob = distribution.mask(torch.tensor([False, True])).log_prob(torch.ones(2, 1)).sum()
    (gradient,) = torch.autograd.grad(log_prob, loc)
    torch.testing.assert_close(gradient, torch.tensor([[0.0], [0.25]]))


def test_exploration_mixes_a_fair_coin_into_presence():
    logits = torch.tensor([-60.0, -1.0, 0.0, 3.0, 60.0], dtype=torch.float64)
    for e in (0.0, 0.1, 0.9):
        explored = explore(logits, torch.tensor(e, dtype=torch.float64)).sigmoid()
        torch.testing.assert_close(explored, e / 2 + (1 - e) * logits.sigmoid(), rtol=1e-9, atol=0)
    torch.testing.assert_close(explore(logits, torch.tensor(0.0)), logits)
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(explore(logits, torch.tensor(0.0)).sum(), logits)
    torch.testing.assert_close(gradient, torch.ones_like(gradient))


def test_exploration_is_for_training_only():
    guide, images = small_guide(exploration=0.8), torch.rand(1, 1, 12, 12)
    guide.head[-1].weight.data.zero_()
    guide.head[-1].bias.data[0] = -3.0
    plain = torch.tensor(-3.0).sigmoid()
    for training, expected in ((True, 0.4 + 0.2 * plain), (False, plain)):
        presence = guide_trace(guide.train(training), images).nodes["z_pres/0"]["fn"]
        torch.testing.assert_close(presence.probs, expected.expand(1))


def test_images_of_another_size_or_type_are_refused():
    with pytest.raises(ValueError, match=r"\(B, 1, 12, 12\), but got \(2, 12, 12\)"):
        small_guide()(torch.rand(2, 12, 12))
    with pytest.raises(ValueError, match=r"but got torch\.int64"):
        small_guide()(torch.zeros(2, 1, 12, 12, dtype=torch.int64))
