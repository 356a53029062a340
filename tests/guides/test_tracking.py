"""Model-based propagation: follows what the decoder draws, and its weights are exact."""

import math
from dataclasses import replace

import pyro
import pytest
import torch
from pyro import poutine
from torch import Tensor, nn

from whatwhere.examples.sqair import NetworkConfig, PriorConfig, Programs, build
from whatwhere.guides import TrackingPropagation, is_seen
from whatwhere.guides.evidence import evidence
from whatwhere.guides.looks import StaticLooks
from whatwhere.inference.objectives import FIVO, VIMCO, Reinforce
from whatwhere.models.components.active_set import use_active_set
from whatwhere.models.components.attention import paste
from whatwhere.models.components.networks import LocScale
from whatwhere.models.components.normal_mixture import Mixture, NormalMixture
from whatwhere.models.components.provisional import Decision, Provisional
from whatwhere.models.components.slots import TrackedSlots

NETWORK = NetworkConfig(
    image_shape=(1, 24, 24),
    max_count=2,
    what_size=2,
    glimpse_size=8,
    hidden=8,
    narrow=6,
    presence_hidden=6,
    reach=2.0,
    where_floor=0.001,
    clamp=True,
    background="none",
    second_look=True,
    looks="static",
    follow="tracked",
)
PRIOR = PriorConfig(propagation="motion", size_logit=-0.6, size_scale=0.2, shift_scale=0.5)
SIZE = math.log(0.35 / 0.65)
"""Size logit of an object of 0.35 of the frame: one sample of its glimpse is 1.15 pixels."""


class Blobs(nn.Module):
    """Draws a spot whose brightness and shape follow `z_what`; C channels."""

    def __init__(self, channels: int = 1, side: int = 8) -> None:
        super().__init__()
        grid = torch.linspace(-1, 1, side).double()
        round_spot = (-4 * (grid**2 + grid.unsqueeze(-1) ** 2)).exp()
        lopsided = (-3 * grid.unsqueeze(-1) ** 2 - 4 * (grid - 0.1) ** 2).exp() * (0.6 + 0.4 * grid)
        self.register_buffer("pictures", torch.stack([round_spot, lopsided]))
        self.register_buffer("colours", torch.linspace(1.0, 0.6, channels).double())

    def forward(self, z_what: Tensor) -> Tensor:
        picture = torch.einsum("...w,whv->...hv", z_what, self.pictures)
        return picture.unsqueeze(-3) * self.colours[:, None, None]


def tracker(channels: int = 1, count: int = 2) -> Programs:
    """Model and guide whose objects are blobs."""
    torch.manual_seed(0)
    shape = (channels, 24, 24)
    programs = build(replace(NETWORK, image_shape=shape, max_count=count), PRIOR)
    model, guide = (program.double() for program in programs)
    model.decoder.glimpse_decoder = Blobs(channels)
    model.decoder.output_scale.data.fill_(1.0)
    return Programs(model.eval(), guide.eval())


def place(x: float, y: float, programs: Programs) -> Tensor:
    """`z_where` of an object at a pixel."""
    coords = torch.tensor([0.35, 0.35, 2 * x / 23 - 1, 2 * y / 23 - 1]).double()
    return programs.model.decoder.windows.inverse(coords)


def film(tracks: list[list[tuple[float, float]]], programs: Programs) -> tuple[Tensor, Tensor, Tensor]:
    """A video of objects at these pixels, their places `(T, N, 4)` and looks `(N, W)`."""
    where = torch.stack(
        [torch.stack([place(x, y, programs) for x, y in frame]) for frame in zip(*tracks, strict=True)]
    )
    count = len(tracks)
    what = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).double()[:count]
    here = torch.ones(len(where), count).double()
    with torch.no_grad():
        return programs.model.decoder(here, where, what.expand(len(where), -1, -1)).unsqueeze(0), where, what


def follow(programs: Programs, video: Tensor, where: Tensor, what: Tensor, frames: int) -> list[TrackedSlots]:
    """What the guide finds, given the first frame, if no object is let go and none is new."""
    count, slots = len(what), programs.model.max_count
    known = {}
    for t in range(frames):
        for i in range(slots):
            present = torch.ones(1).double() * (i < count)
            known[f"discovery/z_pres/{t}/{i}"] = present if t == 0 else torch.zeros(1).double()
            known[f"propagation/z_pres/{t}/{i}"] = present
    for i in range(count):
        known[f"discovery/z_where/0/{i}"], known[f"discovery/z_what/0/{i}"] = (
            where[0, i : i + 1],
            what[i : i + 1],
        )
    found: list[TrackedSlots] = poutine.condition(programs.guide, data=known)(video[:, :frames])
    return found


def pixels_off(programs: Programs, found: list[TrackedSlots], where: Tensor) -> Tensor:
    """Distance from the true places in pixels, `(T, N)`."""
    windows = programs.model.decoder.windows
    count = where.shape[1]
    got = torch.stack([slots.z_where[0, :count] for slots in found])
    return (windows(got) - windows(where))[..., 2:].norm(dim=-1) * 23 / 2


@pytest.mark.parametrize("active", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_it_follows_two_objects_that_pass_each_other(channels: int, active: bool):
    programs = tracker(channels)
    use_active_set(*programs, on=active)
    across = [(4.0 + 2.5 * t, 10.0 + 0.2 * t) for t in range(7)]
    back = [(19.0 - 2.2 * t, 14.0 - 0.3 * t) for t in range(7)]
    video, where, what = film([across, back], programs)
    off = pixels_off(programs, follow(programs, video, where, what, 7), where)
    assert off.max() < 2.5  # where one hides the other
    assert off[-1].max() < 1.0
    assert off.median() < 0.5


def test_an_object_that_leaves_and_comes_back_is_found_again():
    """At the right border, where most of it is out of sight for a while, and reflected."""
    programs = tracker(count=1)
    xs = [14.0, 17.0, 20.0, 23.0, 25.0, 23.0, 20.0, 17.0]
    video, where, what = film([[(x, 12.0) for x in xs]], programs)
    off = pixels_off(programs, follow(programs, video, where, what, len(xs)), where)
    assert off[:4].max() < 1.0
    assert off[5:].max() < 1.0


@pytest.mark.parametrize(("far", "training"), [(0, False), (20, False), (20, True)])
def test_what_jumps_is_searched_for_farther_away(far: int, training: bool):
    programs = tracker()
    propagation = programs.guide.propagation
    propagation.margin, propagation.far = 4, far  # 1.15 pixels each
    programs.guide.train(training)
    video, where, what = film([[(5.0, 5.0), (18.0, 17.0)], [(18.0, 5.0), (18.0, 5.0)]], programs)
    off = pixels_off(programs, follow(programs, video, where, what, 2), where)[1]
    assert off[1] < 1.0
    assert (off[0] < 1.0) == (far > 0 and not training)


@pytest.mark.parametrize("training", [False, True])
def test_of_two_places_the_better_one_is_found_though_the_grid_of_the_search_misses_it(training: bool):
    """A bar as wide as two samples that is one off the grid, and a darker one on it, enough for training."""
    programs = tracker(count=1)
    programs.guide.train(training)
    bar = torch.zeros(8, 8).double()
    bar[:, 2:4] = 1
    programs.model.decoder.glimpse_decoder.pictures[0] = bar
    sample = 0.35 * 23 / 7  # in pixels; the search goes in steps of two
    better, worse = (12 + 5 * sample, 12.0), (12 - 4 * sample, 12.0)
    where = torch.stack([place(*xy, programs) for xy in (better, worse)])
    what = torch.tensor([[1.0, 0.0], [0.8, 0.0]]).double()
    with torch.no_grad():
        image = programs.model.decoder(torch.ones(1, 2).double(), where.unsqueeze(0), what.unsqueeze(0))
    found = proposal(programs, image, one_object(programs, place(12.0, 12.0, programs)))
    off = programs.model.decoder.windows(found.loc[0, 0]) - programs.model.decoder.windows(where)
    distances = off[:, 2:].norm(dim=-1) * 23 / 2
    assert distances[int(training)] < 0.5


@pytest.mark.parametrize(("trust", "neighbour"), [(0.5, 1), (0.01, 0)])
def test_a_picture_that_is_not_trusted_does_not_lead_to_a_neighbour_it_fits_better(
    trust: float, neighbour: int
):
    """One that has become darker, and beside it one with the looks that it had."""
    programs = tracker(count=1)
    programs.guide.propagation.trust = trust
    where = torch.stack([place(*xy, programs) for xy in ((9.0, 12.0), (17.0, 12.0))])
    what = torch.tensor([[0.6, 0.0], [1.0, 0.0]]).double()
    with torch.no_grad():
        image = programs.model.decoder(torch.ones(1, 2).double(), where.unsqueeze(0), what.unsqueeze(0))
    found = proposal(programs, image, one_object(programs, place(9.0, 12.0, programs)))
    off = programs.model.decoder.windows(found.loc[0, 0]) - programs.model.decoder.windows(where)
    assert int((off[:, 2:].norm(dim=-1) * 23 / 2).argmin()) == neighbour


@pytest.mark.parametrize("gone", [0, 1])
def test_what_is_gone_does_not_take_the_place_of_its_like(gone: int):
    """Whichever of the two comes first: what the other explains is not searched."""
    programs = tracker()
    propagation = programs.guide.propagation
    propagation.margin, propagation.far = 4, 20
    tracks = [[(18.0, 5.0), (18.0, 5.0)], [(18.0, 5.0), (18.0, 5.0)]]
    tracks[gone] = [(5.0, 5.0), (40.0, 5.0)]
    _, where, _ = film(tracks, programs)
    alike = torch.tensor([[1.0, 0.0]] * 2).double()
    with torch.no_grad():
        video = programs.model.decoder(torch.ones(2, 2).double(), where, alike.expand(2, 2, 2)).unsqueeze(0)
    found = follow(programs, video, where, alike, 2)[1]
    assert pixels_off(programs, [found], where[1:])[0, 1 - gone] < 1.0
    coords = programs.model.decoder.windows(found.z_where[0])
    assert 11.5 * (coords[0] - coords[1])[2:].norm() > 6


def proposal(programs: Programs, image: Tensor, slots: TrackedSlots) -> NormalMixture:
    with pyro.plate("data", len(image)):
        trace = poutine.trace(programs.guide.propagation).get_trace(1, image, slots)
    fn = trace.nodes["propagation/z_where/1/0"]["fn"]
    while not isinstance(fn, NormalMixture):
        fn = fn.base_dist
    return fn


def one_object(programs: Programs, where: Tensor) -> TrackedSlots:
    memory = programs.guide.propagation.initial_memory.expand(1, 1, -1)
    what = torch.tensor([[[1.0, 0.0]]]).double()
    return TrackedSlots(
        torch.ones(1, 1).double(), where.view(1, 1, 4), what, memory, torch.zeros(1, 1).long()
    )


def test_out_of_sight_the_proposal_is_the_prior():
    programs = tracker(count=1)
    slots = one_object(programs, place(40.0, 12.0, programs))
    found = proposal(programs, torch.zeros(1, 1, 24, 24).double(), slots)
    prior = programs.model.propagation_prior(slots).where.slot(0)
    # The Laplace approximation of what is nowhere seen is a component of the prior, but for the floor.
    draws = NormalMixture(*prior).sample(torch.Size((2000,)))
    off = found.log_prob(draws) - NormalMixture(*prior).log_prob(draws)
    assert off.abs().max() < 0.3
    assert off.mean().abs() < 0.05
    assert is_seen(found).tolist() == [0.0]


def test_other_guides_propose_from_what_is_seen():
    place = torch.distributions.Independent(torch.distributions.Normal(torch.zeros(3, 4), 1.0), 1)
    assert is_seen(place).tolist() == [1.0] * 3


def test_in_sight_the_proposal_is_the_posterior():
    """Against the normalised product of prior and likelihood on a grid of shifts."""
    programs = tracker(count=1)
    truth = place(13.3, 11.2, programs)
    video, _, _ = film([[(13.3, 11.2)]], programs)
    slots = one_object(programs, place(12.0, 12.0, programs))
    found = proposal(programs, video[:, 0], slots)
    prior = NormalMixture(*programs.model.propagation_prior(slots).where.slot(0))
    steps = torch.linspace(-0.25, 0.25, 61).double()
    shift_y, shift_x = torch.meshgrid(steps, steps, indexing="ij")
    grid = truth.expand(61, 61, 4).clone()
    grid[..., 2] += shift_x
    grid[..., 3] += shift_y
    with torch.no_grad():
        canvas = programs.model.decoder(
            torch.ones(61, 61, 1).double(), grid.unsqueeze(-2), slots.z_what[0].expand(61, 61, 1, 2)
        )
        likelihood = -(canvas - video[0, 0]).square().flatten(2).sum(-1) / (2 * 0.3**2)
        posterior = (prior.log_prob(grid) + likelihood).flatten().softmax(0)
        expected_mean = (posterior.unsqueeze(-1) * grid.flatten(0, 1)).sum(0)
        spread = (grid.flatten(0, 1) - expected_mean).square()
        expected_sd = (posterior.unsqueeze(-1) * spread).sum(0).sqrt()
        best = found.logits.argmax(-1)
    assert best == 0
    assert found.logits.softmax(-1)[0, 0] > 0.999
    assert is_seen(Provisional(found, Decision("z_pres"))).tolist() == [1.0]
    torch.testing.assert_close(found.loc[0, 0, 2:], expected_mean[2:], rtol=0, atol=0.01)
    torch.testing.assert_close(found.scale[0, 0, 2:], expected_sd[2:], rtol=0.15, atol=0.001)


def test_a_place_is_corrected_by_a_share_of_what_discovery_says_of_it():
    programs = tracker(count=1)
    propagation, windows = programs.guide.propagation, programs.model.decoder.windows
    video, _, _ = film([[(13.3, 11.2)]], programs)
    slots = one_object(programs, place(12.0, 12.0, programs))
    plain = proposal(programs, video[:, 0], slots)
    there = LocScale(torch.tensor([[-0.2, -0.9, 0.1, 0.3]]).double(), torch.tensor([[0.004] * 4]).double())
    seen = []

    def seen_again(rest: Tensor, centre: Tensor) -> LocScale:
        seen.append((rest, centre))
        return there

    propagation.seen_again, propagation.relook = seen_again, 0.3
    again = proposal(programs, video[:, 0], slots)
    torch.testing.assert_close(again.loc[:, 0], 0.7 * plain.loc[:, 0] + 0.3 * there.loc)
    floor = propagation.where_floor
    expected = torch.minimum(plain.scale[:, 0] - floor, there.scale) + floor
    torch.testing.assert_close(again.scale[:, 0], expected)
    torch.testing.assert_close(again.loc[:, 1:], plain.loc[:, 1:])
    ((rest, centre),) = seen  # of all the image, since nobody else is there
    torch.testing.assert_close(rest, video[:, 0])
    torch.testing.assert_close(centre, windows(plain.loc[:, 0])[:, 2:])


def test_sizes_are_those_that_discovery_sees():
    """An object that is tracked with a window too large by half is framed in a few frames."""
    network = replace(NETWORK, discovery="evidence", looks="sticky", relook=0.3, max_count=1)
    prior = replace(PRIOR, where="fixed", price=2.0, size_step=0.2)
    model, guide = (program.double().eval() for program in build(network, prior))
    windows, size = model.decoder.windows, guide.discovery.size
    where = windows.inverse(torch.tensor([[[1.5 * size[0], size[1], 0.0, 0.0]]]).double())
    rest, expected = torch.zeros(1, 1, 24, 24).double(), torch.zeros(1, 2).double()
    assert (where[..., 0] - guide.discovery.place_at(rest, expected).loc[0, 0]).abs() > 0.3
    propagation = guide.propagation
    nothing, broad = torch.zeros(1, 576).double(), torch.ones(1, 4).double()
    for _ in range(8):
        loc, _ = propagation._look_again(rest, nothing, where[0], broad)
        where = loc.unsqueeze(0)
    torch.testing.assert_close(windows(where)[0, 0, :2], torch.tensor(size).double(), rtol=0.03, atol=0)


def test_what_explains_nothing_may_be_let_go():
    """Evidence tells an object that is there from one that has gone, and the presence head learns from it."""
    programs = tracker(count=1)
    video, _, _ = film([[(12.0, 12.0)]], programs)
    propagation = programs.guide.propagation
    picture = propagation._picture(torch.tensor([[1.0, 0.0]]).double())
    where, black = place(12.0, 12.0, programs).unsqueeze(0), torch.zeros(1, 24 * 24).double()
    there, gone = (
        evidence(
            propagation._observe(image, black),
            propagation._glimpse(picture),
            propagation.decoder.windows(where),
            propagation.scale,
        )
        for image in (video[:, 0], torch.zeros_like(video[:, 0]))
    )
    energy = (
        programs.model.decoder(
            torch.ones(1, 1).double(), where.unsqueeze(1), torch.tensor([[[1.0, 0.0]]]).double()
        )
        .square()
        .sum()
    )
    nats = energy.item() / (2 * 0.3**2)
    assert there[0, 0].sinh() * 10 == pytest.approx(nats, rel=0.15)
    assert gone[0, 0].sinh() * 10 < -0.9 * nats
    torch.testing.assert_close(there[0, 2:], gone[0, 2:])
    programs.guide.train()
    loss, _ = VIMCO(3)(*programs)(video.repeat(4, 3, 1, 1, 1))
    loss.backward()
    assert all(p.grad.isfinite().all() for p in propagation.presence_head.parameters())
    assert propagation.presence_head[-1].weight.grad.abs().sum() > 0


def test_objects_stay_at_first():
    programs = tracker()
    video, where, what = film([[(6.0 + t, 8.0) for t in range(4)]], programs)
    known = {
        "discovery/z_pres/0/0": torch.ones(200).double(),
        "discovery/z_pres/0/1": torch.zeros(200).double(),
    }
    known |= {
        "discovery/z_where/0/0": where[0].expand(200, 4),
        "discovery/z_what/0/0": what[:1].expand(200, 2),
    }
    frames = poutine.condition(programs.guide, data=known)(video.expand(200, -1, -1, -1, -1))
    assert (frames[3].identity == 0).any(-1).double().mean() > 0.93  # sigmoid(5)^3 = 0.98


def wild(looks: str, follow: str, prior: str) -> Programs:
    """Small programs with parameters that are not those of the start."""
    torch.manual_seed(0)
    network = replace(NETWORK, image_shape=(1, 12, 12), glimpse_size=6, looks=looks, follow=follow)
    programs = build(network, replace(PRIOR, propagation=prior), hold=True, exploration=True)
    for parameter in dict.fromkeys(p for program in programs for p in program.parameters()):
        parameter.data += 0.1 * torch.randn_like(parameter)
    return Programs(*(program.double() for program in programs))


CHOICES = [
    ("static", "tracked", "motion"),
    ("sticky", "tracked", "motion"),
    ("static", "tracked", "recurrent"),
    ("static", "learned", "motion"),
    ("sticky", "learned", "recurrent"),
    ("static", "learned", "guided"),
]
RELATED = ("static", "tracked", "relational")
"""Whose prior gets all objects at once."""


@pytest.mark.parametrize("choice", [*CHOICES, RELATED], ids="-".join)
def test_the_active_set_changes_neither_weights_nor_gradients(choice: tuple[str, str, str]):
    programs = wild(*choice)
    video = torch.rand(3, 3, 1, 12, 12, dtype=torch.float64)
    objective = VIMCO(3)(*programs)
    found = []
    for on in (False, True):
        use_active_set(*programs, on=on)
        torch.manual_seed(5)
        objective.zero_grad()
        loss, _ = objective(video)
        loss.backward()
        named = objective.named_parameters()
        found.append({"loss": loss.detach(), **{n: p.grad.clone() for n, p in named if p.grad is not None}})
    assert set(found[0]) == set(found[1])
    for name, everywhere in found[0].items():
        torch.testing.assert_close(found[1][name], everywhere, rtol=1e-8, atol=1e-8, msg=name)
        assert everywhere.isfinite().all()


@pytest.mark.parametrize("choice", CHOICES, ids="-".join)
def test_weights_are_those_of_a_loop_over_objects(choice: tuple[str, str, str]):
    """log p of every object's own history and of the image, minus log q of what is used; slot by slot."""
    model, guide = programs = wild(*choice)
    video = torch.rand(40, 3, 1, 12, 12, dtype=torch.float64)
    torch.manual_seed(1)
    weights = Reinforce(1).log_weights(model, guide, video).log_weight[0]
    torch.manual_seed(1)
    with pyro.plate("particles", 1, dim=-2):
        q = poutine.trace(guide).get_trace(video)
    values = {name: q.nodes[name]["value"].squeeze(0) for name in q.nodes if "/z_" in name}
    assert ("propagation/z_what/1/0" in values) == (choice[0] != "static")
    counts = set()
    for b in range(len(video)):
        log_p, count = slow_log_joint(programs, video[b], {name: v[b] for name, v in values.items()})
        log_q = torch.zeros(()).double()
        for name in values:
            phase, variable, t, i = name.split("/")
            site, fn = q.nodes[name], q.nodes[name]["fn"]
            possible = site["mask"].expand(1, len(video))[0, b]
            used = values[f"{phase}/z_pres/{t}/{i}"][b] > 0 if variable != "z_pres" else True
            if possible and used:
                fn = getattr(fn, "base_dist", fn) if variable != "z_pres" else fn
                log_q = log_q + fn.log_prob(site["value"]).expand(1, len(video))[0, b]
        torch.testing.assert_close(weights[b], log_p - log_q, rtol=1e-8, atol=1e-8)
        counts.add(count)
    assert len(counts) > 1


def slow_log_joint(programs: Programs, video: Tensor, values: dict[str, Tensor]) -> tuple[Tensor, int]:
    """log p(x, z) of one video, and how many objects were followed."""
    model = programs.model
    prior, most, total, followed = model.propagation_prior, model.max_count, torch.zeros(()).double(), 0
    objects: list[tuple[Tensor, Tensor, Tensor]] = []  # where, what, memory
    for t, image in enumerate(video):
        kept, expectation = [], -0.5 * most
        for i, (where, what, memory) in enumerate(objects):
            one = torch.ones(1).double()
            said = prior(TrackedSlots(one, where[None], what[None], memory[None], one))
            expectation = expectation + said.logits[0].sigmoid()
            stays = values[f"propagation/z_pres/{t}/{i}"] > 0
            total = total + nn.functional.logsigmoid(said.logits[0] if stays else -said.logits[0])
            if not stays:
                continue
            followed += 1
            now = values[f"propagation/z_where/{t}/{i}"]
            total = total + log_mixture(Mixture.of(said.where), now)
            if said.what is not None:
                before, what = what, values[f"propagation/z_what/{t}/{i}"]
                total = total + torch.distributions.Normal(*said.what).log_prob(what).sum()
                assert (before - what).abs().sum() > 0
            kept.append((now, what, said.memory[0]))
        summary = sum(
            (model.latent_encoder.network(torch.cat([what, where])) for where, what, _ in kept),
            start=torch.zeros(model.latent_encoder.size).double(),
        )
        feature, free = torch.as_tensor(expectation / most).reshape(1).double(), most - len(kept)
        found = int(sum(values[f"discovery/z_pres/{t}/{j}"] for j in range(free)))
        room = torch.tensor(float(free)).double()
        total = total + model.discovery.count_prior.log_probs(feature, room, first=t == 0)[found]
        places = model.discovery.where_prior
        started, previous = places.start(torch.cat([summary, feature])), places.first_sample
        for j in range(found):
            where, what = (values[f"discovery/{name}/{t}/{j}"] for name in ("z_where", "z_what"))
            total = total + torch.distributions.Normal(*places(started, previous)).log_prob(where).sum()
            total = total + torch.distributions.Normal(0.0, 1.0).log_prob(what).sum()
            kept.append((where, what, prior.initial_memory))
            previous = where
        objects = kept
        drawn = (
            paste(model.decoder.glimpses(what), model.decoder.windows(where), (12, 12))
            for where, what, _ in objects
        )
        canvas = sum(drawn, start=torch.zeros_like(image)).clamp(0, 1)
        total = total + torch.distributions.Normal(canvas, model.likelihood_scale).log_prob(image).sum()
    return total, followed


def log_mixture(mixture: Mixture, value: Tensor) -> Tensor:
    """Log-density of a mixture, component by component."""
    weights = mixture.logits[0].softmax(0)
    terms = [
        weight.log() + torch.distributions.Normal(loc, scale).log_prob(value).sum()
        for weight, loc, scale in zip(weights, mixture.loc[0], mixture.scale[0], strict=True)
    ]
    return torch.stack(terms).logsumexp(0)


def test_the_mean_weight_is_the_marginal_likelihood():
    """Against draws from the prior alone, of a model whose pixels say little; both are exact on average."""
    model, guide = wild("static", "tracked", "motion")
    # The guide is made wider than the prior, or the sum would be exact but take for ever.
    model.likelihood_scale.fill_(3.0)
    guide.propagation.scale = 3.0
    guide.discovery.scale_bias.data.fill_(-0.7)
    guide.discovery.where_head[-1].weight.data.zero_()
    guide.discovery.where_head[-1].bias.data.copy_(torch.tensor([-0.6, -0.6] + 6 * [0.0]))
    guide.discovery.what_encoder.readout.bias.data[2:] = 1.0
    video = torch.rand(2, 2, 1, 12, 12, dtype=torch.float64)
    size = 2000
    with torch.no_grad():
        torch.manual_seed(0)
        guided = Reinforce(size).log_weights(model, guide, video).log_weight
        frames = model(batch_size=2 * size, frames=2)
        canvas = torch.stack([frame.canvas for frame in frames], 1).unflatten(0, (size, 2))
        prior = torch.distributions.Normal(canvas, 3.0).log_prob(video).flatten(2).sum(-1)
    for b in range(2):
        middle = prior[:, b].max()
        means, errors = [], []
        for weights in (guided[:, b], prior[:, b]):
            ratio = (weights - middle).exp()
            means.append(ratio.mean())
            errors.append(ratio.std() / size**0.5)
        assert abs(means[0] - means[1]) < 4 * (errors[0] ** 2 + errors[1] ** 2) ** 0.5
        assert errors[1] / means[1] < 0.1
        assert errors[0] / means[0] < 0.1


def test_fivo_cuts_it_into_frames():
    programs = wild("static", "tracked", "motion")
    loss, _ = FIVO(4)(*programs)(torch.rand(2, 3, 1, 12, 12, dtype=torch.float64))
    loss.backward()
    assert loss.isfinite()


@pytest.mark.parametrize("choice", [*CHOICES, RELATED], ids="-".join)
def test_shapes_follow_from_shapes_without_the_active_set(choice: tuple[str, str, str]):
    """On the meta device there are no values to read back."""
    model, guide = wild(*choice)
    for program in (model, guide):
        program.float().to("meta")
    with pyro.validation_enabled(False):
        loss, _ = VIMCO(3)(model, guide)(torch.empty(2, 3, 1, 12, 12, device="meta"))
        loss.backward()
    assert loss.device.type == "meta"


def test_holding_on_keeps_the_objects_of_the_first_frame_while_training():
    _, guide = wild("static", "tracked", "motion")
    guide.propagation.presence_head[-1].bias.data.fill_(-3.0)
    video = torch.rand(20, 3, 1, 12, 12, dtype=torch.float64)
    for phase in (guide.propagation, guide.discovery):
        phase.hold.fill_(1 - 1e-9)
    held = guide(video)
    assert all((later.identity == held[0].identity).all() for later in held)
    assert held[0].z_pres.sum() > 0
    let_go = guide.eval()(video)
    assert (let_go[1].identity != let_go[0].identity).any()


def test_exploring_decides_discovery_by_a_coin():
    _, guide = wild("static", "tracked", "motion")
    guide.discovery.presence_head[-1].bias.data.fill_(-30.0)
    video = torch.rand(400, 1, 1, 12, 12, dtype=torch.float64)
    assert guide(video)[0].z_pres.sum() == 0
    guide.discovery.exploration.fill_(0.5)
    assert guide(video)[0].z_pres[:, 0].mean().item() == pytest.approx(0.25, abs=0.09)
    assert guide.eval()(video)[0].z_pres.sum() == 0


def test_digits_keep_moving_when_generated():
    """A prior that foretells constant velocity draws objects that keep shape and velocity."""
    model, _ = programs = tracker(count=1)
    prior = model.propagation_prior
    head = prior.head[-1]
    head.weight.data.zero_()
    head.bias.data.zero_()
    head.bias.data[-5:-2] = torch.tensor([50.0, 0.0, 0.0])
    head.bias.data[2:4] = head.bias.data[10:16] = -50.0
    where = torch.stack([place(6.0 + 2 * t, 12.0, programs) for t in range(5)])
    known = {"discovery/z_pres/0/0": torch.ones(1).double(), "discovery/z_where/0/0": where[:1]}
    known |= {f"discovery/z_pres/{t}/0": torch.zeros(1).double() for t in range(1, 5)}
    known |= {f"propagation/z_pres/{t}/0": torch.ones(1).double() for t in range(1, 5)}
    known["propagation/z_where/1/0"] = where[1:2]
    frames = poutine.condition(model, data=known)(batch_size=1, frames=5)
    windows = model.decoder.windows
    drawn = torch.stack([windows(frame.slots.z_where[0, 0]) for frame in frames])
    assert ((drawn - windows(where))[:, 2:].abs() * 23 / 2).max() < 1.0
    assert all(torch.equal(frame.slots.z_what, frames[0].slots.z_what) for frame in frames)


def test_looks_that_are_redrawn_cannot_be_searched_for():
    with pytest.raises(ValueError, match=r'set `network.looks` to "static" or "sticky", got "redrawn"'):
        build(replace(NETWORK, looks="redrawn"), replace(PRIOR, propagation="recurrent"))
    with pytest.raises(ValueError, match=r'"motion" predicts no looks'):
        build(replace(NETWORK, looks="redrawn", follow="learned"), PRIOR)


def test_sizes_that_are_odd_are_searched_without_pooling():
    programs = tracker()
    propagation = TrackingPropagation(
        programs.model.propagation_prior,
        programs.model.decoder,
        programs.guide.discovery.what_encoder,
        2,
        (7, 7),
        looks=StaticLooks(),
    )
    assert propagation.pool == 1
    assert programs.guide.propagation.pool == 2


def test_what_must_be_explained_to_stay():
    """An object stays at first if it explains as much as it must, and goes if it does not."""
    programs = tracker(count=1)
    propagation = programs.guide.propagation
    propagation.presence_head[-1].bias.data.zero_()
    video, where, _ = film([[(12.0, 12.0)]], programs)
    nats = float(video.square().sum()) / (2 * 0.3**2)
    logits = []
    for propagation.stay_nats in (0.5 * nats, nats, 2 * nats):
        pyro.set_rng_seed(0)
        trace = poutine.trace(propagation).get_trace(1, video[:, 0], one_object(programs, where[0]))
        logits.append(trace.nodes["propagation/z_pres/1/0"]["fn"].logits.item())
    share = 1 + logits[1] / 5  # a bit less than 1, since the place that is drawn is not the best
    assert 0.8 < share <= 1.0
    assert logits == pytest.approx([5 * (2 * share - 1), 5 * (share - 1), 5 * (share / 2 - 1)], abs=0.1)
