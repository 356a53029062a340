"""Discovery by what is not explained yet: where it looks, exact weights, and frames of any size."""

import math
from dataclasses import replace

import numpy as np
import pyro
import pytest
import torch
from pyro import poutine
from torch import Tensor, nn

from whatwhere.examples.sqair import NetworkConfig, PriorConfig, Programs, build
from whatwhere.guides import EvidenceAIRGuide, EvidenceDiscovery
from whatwhere.guides.beside_others import SIDES
from whatwhere.guides.evidence import evidence
from whatwhere.guides.peaks import edge_of_ink, peak_of_ink, smooth
from whatwhere.guides.refined_looks import RefinedLooks
from whatwhere.inference.evaluation import log_marginal
from whatwhere.inference.objectives import MarginalELBO
from whatwhere.models import AIR
from whatwhere.models.components.active_set import use_active_set
from whatwhere.models.components.attention import crop, paste
from whatwhere.models.components.networks import LocScale
from whatwhere.models.components.slots import TrackedSlots
from whatwhere.models.components.template_matching import observe
from whatwhere.models.components.windows import InverseScaleWindows
from whatwhere.models.priors import GeometricCount, NormalPrior

NETWORK = NetworkConfig(
    image_shape=(1, 24, 24),
    max_count=3,
    what_size=2,
    glimpse_size=8,
    hidden=8,
    narrow=6,
    presence_hidden=6,
    reach=1e4,
    where_floor=0.001,
    clamp=True,
    background="none",
    discovery="evidence",
    looks="sticky",
    follow="tracked",
    anywhere=True,
)
PRIOR = PriorConfig(
    propagation="motion", where="fixed", price=2.0, object_size=(9.0, 7.0), size_scale=0.1, shift_scale=0.7
)


class Spots(nn.Module):
    """Draws a round spot of brightness `z_what[0]`."""

    def __init__(self, channels: int = 1, side: int = 8) -> None:
        super().__init__()
        grid = torch.linspace(-1, 1, side).double()
        spot = (-4 * (grid**2 + grid.unsqueeze(-1) ** 2)).exp()
        self.register_buffer("picture", spot.expand(channels, -1, -1))

    def forward(self, z_what: Tensor) -> Tensor:
        return z_what[..., :1, None, None] * self.picture


def spotted(network: NetworkConfig = NETWORK, prior: PriorConfig = PRIOR) -> Programs:
    """Model and guide whose objects are spots, with all parameters off their start."""
    torch.manual_seed(0)
    model, guide = (program.double() for program in build(network, prior))
    for parameter in dict.fromkeys([*model.parameters(), *guide.parameters()]):
        parameter.data += 0.05 * torch.randn_like(parameter)
    assert network.image_shape is not None
    model.decoder.glimpse_decoder = Spots(network.image_shape[0])
    model.decoder.output_scale.data.fill_(1.0)
    return Programs(model.eval(), guide.eval())


def scene(programs: Programs, *spots: tuple[float, float, float]) -> Tensor:
    """Image `(1, C, H, W)` of spots at pixels x and y, of a brightness."""
    decoder = programs.model.decoder
    height, width = decoder.mean_image.shape[-2:]
    size = programs.guide.discovery.size
    coords = torch.tensor([[*size, 2 * x / (width - 1) - 1, 2 * y / (height - 1) - 1] for x, y, _ in spots])
    glimpses = decoder.glimpse_decoder(torch.tensor([[light, 0.0] for *_, light in spots]).double())
    return paste(glimpses, coords.double(), (height, width)).sum(0, keepdim=True).clamp(0, 1)


def pixels(programs: Programs, z_where: Tensor) -> Tensor:
    """Centres in pixels, x and y."""
    height, width = programs.model.decoder.mean_image.shape[-2:]
    shift = programs.model.decoder.windows(z_where)[..., 2:]
    return (shift + 1) / 2 * torch.tensor([width - 1, height - 1])


def discover(programs: Programs, image: Tensor, propagated: TrackedSlots | None = None) -> poutine.Trace:
    """Trace of discovery in a later frame, all slots present."""
    discovery = programs.guide.discovery
    known = {f"discovery/z_pres/1/{j}": torch.ones(len(image)).double() for j in range(discovery.max_count)}
    conditioned = poutine.condition(discovery.forward, data=known)
    free = torch.full((len(image),), float(discovery.max_count)).double()
    with pyro.plate("data", len(image)):
        trace = poutine.trace(conditioned).get_trace(
            1, image, discovery.features(image), torch.zeros(8).double(), free, propagated
        )
    trace.compute_log_prob()
    return trace


def means(programs: Programs, trace: poutine.Trace) -> Tensor:
    """Mean places of the slots in pixels, `(N, B, 2)`."""
    sites = [trace.nodes[f"discovery/z_where/1/{j}"]["fn"] for j in range(programs.guide.discovery.max_count)]
    return torch.stack([pixels(programs, site.mean) for site in sites])


@pytest.mark.parametrize("length", [7, 300])
def test_smoothing_is_a_convolution_with_a_normal(length: int):
    """Of three standard deviations to each side, however it is computed for lines of this length."""
    values = torch.rand(2, 3, length).double()
    kernel = np.exp(-0.5 * (np.arange(-4, 5) / 1.3) ** 2)
    lines = [np.convolve(line, kernel / kernel.sum())[4:-4] for line in values.flatten(0, 1).numpy()]
    expected = torch.from_numpy(np.stack(lines)).view_as(values)
    torch.testing.assert_close(smooth(values, 1.3, -1), expected)
    torch.testing.assert_close(smooth(values.mT.contiguous(), 1.3, -2), expected.mT)


def test_the_peak_is_where_most_ink_is_and_in_its_middle():
    image = torch.zeros(2, 1, 40, 30).double()
    image[:, 0, 4, 3] = 1.0  # a bright speck has less ink than a large dim spot
    image[0, 0, 20:27, 11:18] = 0.3
    image[1, 0, 8:15, 20:27] = 0.3
    centre = peak_of_ink(image, (8 / 30, 8 / 40), (16, 16))
    expected = torch.tensor([[14.0, 23.0], [23.0, 11.0]]) / torch.tensor([29.0, 39.0]) * 2 - 1
    torch.testing.assert_close(centre, expected.double(), rtol=0, atol=1e-3)


def test_every_slot_looks_where_the_ones_before_have_left_something():
    programs = spotted()
    spots = [(5.0, 6.0, 0.9), (17.0, 8.0, 0.7), (10.0, 18.0, 0.5)]
    image = scene(programs, *spots)
    drawn = {
        f"discovery/z_what/1/{j}": torch.tensor([[light, 0.0]]).double()
        for j, (*_, light) in enumerate(spots)
    }
    with poutine.condition(data=drawn):
        found = means(programs, discover(programs, image))[:, 0]
    assert (found - torch.tensor([spot[:2] for spot in spots])).norm(dim=-1).max() < 1.5


def test_propagated_objects_are_not_discovered_again():
    programs = spotted()
    image = scene(programs, (5.0, 6.0, 0.9), (17.0, 8.0, 0.7))
    slots = torch.zeros(1, 3).double()
    slots[0, 0] = 1.0
    coords = torch.tensor([*programs.guide.discovery.size, 2 * 5 / 23 - 1, 2 * 6 / 23 - 1]).double()
    where = programs.model.decoder.windows.inverse(coords) * slots.unsqueeze(-1)
    what = torch.tensor([0.9, 0.0]).double() * slots.unsqueeze(-1)
    propagated = TrackedSlots(slots, where, what, slots[..., None], slots.long())
    (new, *_), _ = means(programs, discover(programs, image, propagated)), None
    assert (new[0] - torch.tensor([17.0, 8.0])).norm() < 1.5


def test_evidence_is_the_gain_of_the_log_likelihood():
    image, others = torch.rand(1, 1, 24, 24).double(), 0.3 * torch.rand(1, 1, 24, 24).double()
    picture = torch.rand(1, 1, 8, 8).double()
    coords = torch.tensor([[7, 7, -4, 6]]).double() / 23  # whose samples are pixels
    whole = paste(picture, coords, (24, 24))
    observed = observe(image.clamp(min=0.3), others, hides=False)
    left = observed[:, :1]
    nats = (left.square().sum() - (left - whole).square().sum()) / (2 * 0.3**2)
    found = evidence(observed, picture, coords, 0.3)[0]
    torch.testing.assert_close(10 * found[0].sinh(), nats)
    torch.testing.assert_close(found[2], torch.ones(()).double(), rtol=0, atol=0.1)


def sketched(programs: Programs, image: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Places and pictures of the sketches of one image `(C, H, W)`, chosen among five chains by a loop."""
    discovery, decoder = programs.guide.discovery, programs.model.decoder
    windows, side, price = decoder.windows, discovery.glimpse_size, discovery.sketch_nats

    def nats(image: Tensor, drawn: Tensor) -> Tensor:
        return (image.square().sum() - (image - drawn).square().sum()) / (2 * 0.3**2)

    best: list[tuple[Tensor, Tensor]] = []
    most = torch.zeros(()).double()
    for start in (None, *SIDES):
        left, chain = image, []
        for j in range(discovery.max_count):
            if j or start is None:
                centre = peak_of_ink(left.unsqueeze(0), discovery.size, side)[0]
            else:
                centre = edge_of_ink(left.unsqueeze(0), discovery.size, side, *start)[0]
            proposed = windows.inverse(torch.cat([centre.new_tensor(discovery.size), centre]))
            where = proposed + discovery.second_look(left.unsqueeze(0), proposed.unsqueeze(0))[0][:4]
            look = discovery.what_encoder(crop(left.unsqueeze(0), windows(where).unsqueeze(0), side)).loc
            drawn = paste(decoder.glimpses(look), windows(where).unsqueeze(0), image.shape[1:])[0]
            if nats(left, drawn) <= price:
                break
            chain.append((where, drawn))
            left = (left - drawn).clamp(min=0)
        worth = nats(image, sum(drawn for _, drawn in chain)) - price * len(chain) if chain else 0 * most
        if start is None or (best and worth > most):
            best, most = chain, worth
    return best


def slot_by_slot(
    programs: Programs,
    image: Tensor,
    trace: poutine.Trace,
    least: float | None = None,
    perspective: tuple[float, float] | None = None,
) -> Tensor:
    """log q of what a trace says of one frame, reckoned slot by slot, image by image."""
    discovery: EvidenceDiscovery = programs.guide.discovery
    decoder, total = programs.model.decoder, torch.zeros(len(image)).double()
    windows, side = decoder.windows, discovery.glimpse_size
    for b, one in enumerate(image):
        canvas, sketches = torch.zeros_like(one), []
        if discovery.sketch_nats is not None:
            sketches = sketched(programs, one)
        for j in range(discovery.max_count):
            pres, where, what = (
                trace.nodes[f"discovery/{name}/1/{j}"]["value"][b] for name in ("z_pres", "z_where", "z_what")
            )
            others = sum((drawn for _, drawn in sketches[j + 1 :]), canvas)
            left = (one - others).clamp(min=0).unsqueeze(0)
            centre = peak_of_ink(left, discovery.size, side)[0]
            if j < len(sketches):
                centre = windows(sketches[j][0])[2:]
            size = centre.new_tensor(discovery.size)
            if perspective is not None:
                horizon, row = perspective
                size = size * (centre[1] - horizon) / (row - horizon)
            proposed = windows.inverse(torch.cat([size, centre]))
            shift, raw = discovery.second_look(left, proposed.unsqueeze(0))[0].chunk(2)
            scale = torch.nn.functional.softplus(raw + discovery.scale_bias) + 0.001
            total[b] += torch.distributions.Normal(proposed + shift, scale).log_prob(where).sum()
            look = discovery.what_encoder(crop(left, windows(where).unsqueeze(0), side))
            found = look.loc[0]
            if discovery.refined is not None:
                inputs = others.flatten().unsqueeze(0), where.unsqueeze(0), *look
                found = discovery.refined(one.unsqueeze(0), *inputs).loc[0]
            total[b] += torch.distributions.Normal(found, look.scale[0]).log_prob(what).sum()
            drawn = decoder.glimpses(what.unsqueeze(0))
            what = what - (found - look.loc[0])  # presence goes by what the encoder says
            picture = decoder.glimpses(what.unsqueeze(0))
            observed = observe(one.unsqueeze(0), others.unsqueeze(0), True)
            seen = evidence(observed, picture, windows(where).unsqueeze(0), 0.3)[0]
            logit = discovery.presence_head(torch.cat([seen, what]))[0]
            if least is not None:
                gain = 10 * seen[0].sinh()
                logit = torch.minimum(logit, (25 * (gain / least - 1)).clamp(-12, 12))
            total[b] += torch.distributions.Bernoulli(logits=logit).log_prob(pres)
            canvas = canvas + paste(drawn, windows(where).unsqueeze(0), one.shape[1:])[0]
    return total


@pytest.mark.parametrize(
    ("channels", "active", "least"),
    [(1, False, None), (1, True, None), (3, False, None), (3, True, None), (1, True, 1.1), (1, False, 30.0)],
)
def test_its_density_is_that_of_a_loop(channels: int, active: bool, least: float | None):
    """In evaluation mode, in which an object must explain something: here next to nothing, or a lot."""
    network = replace(NETWORK, image_shape=(channels, 24, 24), least=None if least is None else least / 10)
    programs = spotted(network, replace(PRIOR, price=10.0))
    use_active_set(*programs, on=active)
    image = torch.cat(
        [scene(programs, (5.0, 6.0, 0.9), (16.0, 8.0, 0.7)), torch.rand(1, channels, 24, 24).double()]
    )
    trace = discover(programs, image)
    log_q = sum(
        site["log_prob"]
        for site in trace.nodes.values()
        if site["type"] == "sample" and "fn" in site and "discovery" in site["name"]
    )
    torch.testing.assert_close(log_q, slot_by_slot(programs, image, trace, least))


@pytest.mark.parametrize("refine", [0, 2])
@pytest.mark.parametrize(("channels", "active"), [(1, True), (3, False)])
def test_its_density_with_sketches_is_that_of_a_loop(channels: int, active: bool, refine: int):
    """Of images with two spots that touch, with noise, and with nothing; looks corrected or not."""
    programs = spotted(replace(NETWORK, image_shape=(channels, 24, 24)))
    use_active_set(*programs, on=active)
    discovery = programs.guide.discovery
    discovery.what_encoder, discovery.sketch_nats = Brightest(), 1.0
    if refine:
        discovery.refined = RefinedLooks(programs.model.decoder, refine, frames=1.0)
    image = torch.cat(
        [
            scene(programs, (6.0, 8.0, 0.6), (10.0, 9.0, 0.6)),
            torch.rand(1, channels, 24, 24).double(),
            torch.zeros(1, channels, 24, 24).double(),
        ]
    )
    assert len(sketched(programs, image[0])) >= 2
    assert not sketched(programs, image[2])
    trace = discover(programs, image)
    log_q = sum(
        site["log_prob"]
        for site in trace.nodes.values()
        if site["type"] == "sample" and "fn" in site and "discovery" in site["name"]
    )
    torch.testing.assert_close(log_q, slot_by_slot(programs, image, trace))


def test_two_that_touch_are_found_apart_if_they_are_sketched_first():
    """Most ink is between the two."""
    programs = spotted(replace(NETWORK, max_count=2))
    discovery = programs.guide.discovery
    discovery.what_encoder = Brightest()
    for parameter in discovery.second_look.correction.parameters():
        parameter.data.zero_()
    spots = torch.tensor([[9.0, 12.0], [13.0, 12.0]])
    image = scene(programs, *((x, y, 0.6) for x, y in spots.tolist()))
    assert (means(programs, discover(programs, image))[0, 0] - spots.mean(0)).norm() < 0.5
    discovery.sketch_nats = 1.0
    found = means(programs, discover(programs, image))[:, 0]
    found = found[found[:, 0].argsort()]
    assert (found - spots).norm(dim=-1).max() < 1.0
    programs.guide.train()  # when it learns it takes what is there
    assert (means(programs, discover(programs, image))[0, 0] - spots.mean(0)).norm() < 0.5
    discovery.sketch_early = True
    assert (means(programs, discover(programs, image))[0, 0] - spots.mean(0)).norm() > 1.0


def test_while_it_learns_objects_need_not_explain_anything():
    programs = spotted(replace(NETWORK, least=3.0), replace(PRIOR, price=10.0))
    programs.guide.train()
    discovery = programs.guide.discovery
    discovery.refined = RefinedLooks(programs.model.decoder)
    image = torch.rand(1, 1, 24, 24).double()
    trace = discover(programs, image)
    discovery.refined = None  # nor are looks corrected
    log_q = trace.log_prob_sum(lambda name, site: name.startswith("discovery"))
    torch.testing.assert_close(log_q, slot_by_slot(programs, image, trace).sum())


class Brightest(nn.Module):
    """Looks of a glimpse: what its brightest pixel is."""

    def forward(self, glimpses: Tensor) -> LocScale:
        light = glimpses.flatten(-3).amax(-1, keepdim=True)
        return LocScale(torch.cat([light, 0 * light], dim=-1), torch.ones_like(light).expand(-1, 2))


def test_a_larger_window_is_taken_for_what_is_larger_and_not_for_two():
    """One spot as large as expected, one 1.4 times as large, and two of the usual size side by side."""
    programs = spotted(replace(NETWORK, image_shape=(1, 40, 40), larger=1.4))
    discovery, decoder = programs.guide.discovery, programs.model.decoder
    discovery.what_encoder = Brightest()
    for parameter in discovery.second_look.correction.parameters():
        parameter.data.zero_()
    width, height = discovery.size
    spots = [[(1.0, 0.0)], [(1.4, 0.0)], [(1.0, -0.75 * width), (1.0, 0.75 * width)]]
    picture = decoder.glimpse_decoder(torch.tensor([[0.9, 0.0]]).double())
    for several, expected in zip(spots, (1.0, 1.4, 1.0), strict=True):
        coords = torch.tensor([[width * size, height * size, x, 0.0] for size, x in several]).double()
        image = paste(picture.expand(len(several), -1, -1, -1), coords, (40, 40)).sum(0, keepdim=True)
        centre = torch.tensor([[several[0][1], 0.0]]).double()
        for is_learning, factor in ((False, expected), (True, 1.0)):
            discovery.train(is_learning)
            found = decoder.windows(discovery.place_at(image, centre).loc)[0]
            torch.testing.assert_close(found[0] / width, found.new_tensor(factor))
            torch.testing.assert_close(found[1] / height, found.new_tensor(factor))


def test_a_model_of_crops_is_one_of_whole_frames_with_more_slots():
    """The same parameters; in a larger frame all that is said of an object is shifted with it."""
    small = spotted()
    network = replace(NETWORK, image_shape=(1, 40, 61), measured_in=(24, 24), max_count=5)
    large = build(network, PRIOR)
    large.model.decoder.glimpse_decoder = Spots()
    for mine, theirs in zip(large, small, strict=True):
        mine.double().load_state_dict(theirs.state_dict())
        mine.eval()
    image = scene(small, (8.0, 9.0, 0.9), (15.0, 14.0, 0.7)) + 0.05 * torch.rand(1, 1, 24, 24).double()
    frame = torch.zeros(1, 1, 40, 61).double()
    frame[..., 12:36, 30:54] = image
    first, second = (
        discover(programs, x).nodes["discovery/z_where/1/0"]["fn"]
        for programs, x in ((small, image), (large, frame))
    )
    offset = torch.tensor([30.0, 12.0])
    torch.testing.assert_close(
        pixels(large, second.mean), pixels(small, first.mean) + offset, rtol=0, atol=1e-6
    )
    torch.testing.assert_close(second.stddev, first.stddev)
    # A standard deviation of `z_where` is so many pixels in either.
    moved = [
        pixels(programs, x.mean + x.stddev) - pixels(programs, x.mean)
        for programs, x in ((small, first), (large, second))
    ]
    torch.testing.assert_close(*moved, rtol=1e-5, atol=1e-7)
    sizes = [
        programs.model.decoder.windows(x.mean)[0, :2]
        * torch.tensor(programs.model.decoder.mean_image.shape[:0:-1]).sub(1)
        for programs, x in ((small, first), (large, second))
    ]
    torch.testing.assert_close(*sizes, rtol=1e-6, atol=0)


def test_in_perspective_what_is_lower_is_expected_to_be_larger():
    """Two spots of the sizes that the plane has at their rows; one of the usual size where it has that."""
    network = replace(
        NETWORK,
        image_shape=(1, 60, 40),
        measured_in=(24, 24),
        max_count=2,
        perspective=(-1.5, 0.0),
        larger=1.4,
    )
    programs = spotted(network)
    discovery, decoder = programs.guide.discovery, programs.model.decoder
    for parameter in discovery.second_look.correction.parameters():
        parameter.data.zero_()
    size = torch.tensor(discovery.size).double()
    plain = spotted(replace(network, perspective=None)).guide.discovery.size
    assert discovery.size == plain
    for height in (-0.6, 0.0, 0.5):
        coords = torch.cat([size * (height + 1.5) / 1.5, torch.tensor([0.1, height])]).unsqueeze(0)
        picture = decoder.glimpse_decoder(torch.tensor([[0.9, 0.0]]).double())
        image = paste(picture, coords, (60, 40))
        found = decoder.windows(discovery.place_at(image, coords[:, 2:]).loc)
        torch.testing.assert_close(found, coords, rtol=1e-4, atol=1e-4)


def test_in_perspective_densities_are_those_of_the_statements():
    network = replace(NETWORK, measured_in=(20, 20), perspective=(-1.4, 0.2))
    programs = spotted(network)
    image = scene(programs, (6.0, 7.0, 0.9), (16.0, 15.0, 0.7))
    trace = discover(programs, image)
    log_q = trace.log_prob_sum(lambda name, site: name.startswith("discovery"))
    expected = slot_by_slot(programs, image, trace, perspective=network.perspective)
    torch.testing.assert_close(log_q, expected.sum())


class Broad(nn.Module):
    """Any look is likely, so that importance weights have no heavy tail."""

    def forward(self, glimpses: Tensor) -> LocScale:
        zero = 0 * glimpses.flatten(-3)[..., :1]
        return LocScale(zero, zero + 1.3)


@pytest.mark.parametrize("sketch_nats", [None, 0.3])
def test_the_evidence_of_images_is_that_by_sampling_the_prior(sketch_nats: float | None):
    """log p(x) by importance sampling, the number of objects summed out or not, against the prior's draws."""
    torch.manual_seed(0)
    prior = NormalPrior([2.0, 0.0, 0.0], [0.4, 0.6, 0.6])
    sizes = {"what_size": 1, "image_shape": (1, 6, 6)}
    model = AIR(GeometricCount(2, 0.6), prior, Spots(side=4), likelihood_scale=1.0, **sizes).double()
    guide = EvidenceAIRGuide(
        model.decoder,
        prior,
        Broad(),
        (4, 4),
        max_count=2,
        hidden=6,
        scale=1.0,
        sketch_nats=sketch_nats,
        **sizes,
    ).double()
    guide.eval()
    guide.discovery.scale_bias.data.fill_(0.0)  # as wide as the posterior
    images = 0.5 * torch.rand(2, 1, 6, 6).double()
    images[0, 0, 1:4, 2:5] += 0.5
    with torch.no_grad():
        weights = MarginalELBO(num_particles=10_000).log_weights(model, guide, images).log_weight
        with pyro.plate("draws", 100_000, dim=-2):
            canvas = model(batch_size=1).canvas
    log_likelihood = -(canvas - images).square().sum((-1, -2, -3)) / 2 - 18 * math.log(2 * math.pi)
    by_prior = log_likelihood.logsumexp(0) - math.log(100_000)
    by_guide = log_marginal(model, guide, images, num_particles=10_000, chunk_size=5_000)
    torch.testing.assert_close(by_guide, by_prior, rtol=0, atol=0.05)
    by_count = weights.logsumexp(0) - math.log(10_000)
    torch.testing.assert_close(by_count, by_prior, rtol=0, atol=0.05)


def test_windows_of_air_are_inverted():
    windows, z_where = InverseScaleWindows(), torch.tensor([[3.0, 0.4, -0.7], [1.5, 0.0, 0.2]]).double()
    torch.testing.assert_close(windows.inverse(windows(z_where)), z_where)
