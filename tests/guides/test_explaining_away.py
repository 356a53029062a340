"""Discovery in what other objects leave: against a loop over slots, and where the answer is known."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyro
import pytest
import torch
from pyro import poutine
from torch import Tensor, nn

from whatwhere.examples.sqair import NetworkConfig, PriorConfig, Programs, build
from whatwhere.guides import Discovery, ExplainingDiscovery, SequenceAIRGuide
from whatwhere.guides.peaks import edge_of_ink, peak_of_ink
from whatwhere.inference.objectives import VIMCO
from whatwhere.models.components.active_set import use_active_set
from whatwhere.models.components.attention import paste
from whatwhere.models.components.networks import LocScale
from whatwhere.models.components.slots import Slots, TrackedSlots

SIDE, COUNT, WHAT = 12, 3, 3
MEAN = 1 / (1 + math.exp(0.6))
"""Side of windows that the prior expects, over the frame's."""

NETWORK = NetworkConfig(
    image_shape=(1, SIDE, SIDE),
    max_count=COUNT,
    what_size=WHAT,
    glimpse_size=5,
    hidden=8,
    narrow=6,
    presence_hidden=6,
    reach=2.0,
    clamp=True,
    background="none",
    second_look=True,
    explain_away=True,
    looks="static",
)


def varied(size_range: float | None = None, **options: Any) -> Programs:
    """Model and guide in which nothing is where it starts, and which are unsure of presence."""
    torch.manual_seed(3)
    prior = PriorConfig(size_logit=-0.6, size_scale=0.3, size_range=size_range)
    programs = build(replace(NETWORK, **options), prior)
    for program in programs:
        program.double()
        for parameter in program.parameters():
            parameter.data.add_(0.25 * torch.randn_like(parameter))
    programs.guide.discovery.presence_head[-1].bias.data.fill_(0.1)
    programs.model.decoder.output_scale.data.fill_(2.0)
    return Programs(*(program.eval() for program in programs))


def bounded(where: Tensor, size_range: float | None) -> Tensor:
    """A place whose size logits are no farther than that from -0.6."""
    if size_range is None:
        return where
    sizes = [min(max(size, -0.6 - size_range), -0.6 + size_range) for size in where[:2].tolist()]
    return torch.tensor(sizes + where[2:].tolist()).double()


class Loop:
    """The statements' parameters for one frame, slot by slot, with the guide's own networks."""

    def __init__(self, guide: Any, image: Tensor, summary: Tensor, explained: Tensor) -> None:
        self.net: ExplainingDiscovery = guide.discovery
        self.image, self.explained, self.turned = image, explained, False
        self.first = torch.cat([torch.zeros(WHAT + 4), torch.ones(1)]).double()
        features = self.net.image_encoder(image.unsqueeze(0))[0]
        self.early = self.net.rnn.project(torch.cat([features, summary]))

    def picture(self, where: Tensor, what: Tensor) -> Tensor:
        decoder = self.net.decoder
        return paste(decoder.glimpses(what), decoder.windows(where), (SIDE, SIDE))

    def place(self, hidden: Tensor, rest: Tensor, start: Tensor | None) -> LocScale:
        loc, raw = self.net.where_head(hidden).chunk(2)
        loc = bounded(loc if start is None else start, self.net.size_range)
        correction = self.net.second_look(rest.unsqueeze(0), loc.unsqueeze(0))[0]
        scale = nn.functional.softplus(raw + correction[4:] + self.net.scale_bias) + self.net.where_floor
        return LocScale(bounded(loc + correction[:4], self.net.size_range), scale)

    def evident(self, rest: Tensor) -> Tensor:
        """Where most of the rest is, in a window of the mean size of the prior."""
        return self.at(peak_of_ink(rest[None], (MEAN, MEAN), self.net.glimpse_size)[0])

    def at_side(self, rest: Tensor, side: tuple[int, bool]) -> Tensor:
        """What is outermost of it, likewise."""
        return self.at(edge_of_ink(rest[None], (MEAN, MEAN), self.net.glimpse_size, *side)[0])

    def at(self, centre: Tensor) -> Tensor:
        return self.net.windows.inverse(torch.cat([torch.full((2,), MEAN).double(), centre]))

    def look(self, others: Tensor, where: Tensor) -> LocScale:
        """What the encoder says of the rest, and steps by the Jacobian of the object's picture."""
        loc, scale = (x[0] for x in self.net._look((self.image - others).clamp(min=0)[None], where[None]))
        for _ in range(4 * self.net.refined.steps if self.net.refined else 0):

            def error(what: Tensor) -> Tensor:
                canvas = others + self.picture(where, what)
                return (self.image - canvas.clamp(0, 1)).flatten()

            jacobian = torch.autograd.functional.jacobian(lambda what: self.picture(where, what), loc)
            uphill = 10 / 0.09 * error(loc) @ jacobian.reshape(-1, WHAT) - loc
            step = scale**2 * uphill
            value, trial = (-5 / 0.09 * error(w).square().sum() - w @ w / 2 for w in (loc, loc + step / 2))
            slope = step @ uphill
            bend = (trial - value - slope / 2) * 4  # f(a) = value + slope a + bend a^2
            loc = loc + (min(1.0, float(-slope / (2 * bend))) if bend < 0 else 1.0) * step
        return LocScale(loc, scale)

    def sketched(
        self, side: tuple[int, bool] | None, known: Sequence[tuple[Tensor, Tensor]] = ()
    ) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
        """Pictures and places of slots after all sweeps, the first one sought at a side, or not; or begun
        with places and looks that are known.
        """
        net = self.net
        pictures = {j: self.picture(*object_) for j, object_ in enumerate(known)}
        starts = {j: where for j, (where, _) in enumerate(known)}
        for sweep in range(net.sweeps):
            hidden, previous, here = net.rnn.initial, self.first, True
            found: dict[int, Tensor] = {}
            for j in range(COUNT):
                if not here:
                    pictures.pop(j, None)
                    continue
                hidden = net.rnn(self.early, previous, hidden)
                rest = self.rest_of(j, pictures)
                candidates = [starts.get(j)] if sweep or known else [None, self.evident(rest)]
                if side is not None and (sweep, j) == (0, 0):
                    candidates = [self.at_side(rest, side)]
                best = 0.0 if j < len(known) else net.least
                here = False
                for start in candidates:
                    at = self.place(hidden, rest, start).loc
                    seen = net._look(rest[None], at[None]).loc[0]
                    drawn_there = self.picture(at, seen)
                    saved = rest.square().sum() - (rest - drawn_there).square().sum()
                    if saved / (2 * 0.3**2) > best:
                        best, here = float(saved / (2 * 0.3**2)), True
                        where, look, picture = at, seen, drawn_there
                pictures.pop(j, None)
                if here:
                    pictures[j], found[j] = picture, where
                    previous = torch.cat([look, where, torch.ones(1).double()])
            starts = found
        return pictures, starts

    def worth(self, pictures: dict[int, Tensor]) -> float:
        """Nats that these pictures explain, less what each must."""
        left = (self.image - self.explained).clamp(min=0)
        saved = left.square().sum() - (left - sum(pictures.values(), torch.zeros_like(left))).square().sum()
        return float(saved / (2 * 0.3**2)) - self.net.least * len(pictures)

    def others_than(self, j: int, pictures: dict[int, Tensor]) -> Tensor:
        return sum((p for k, p in pictures.items() if k != j), self.explained)

    def rest_of(self, j: int, pictures: dict[int, Tensor]) -> Tensor:
        return (self.image - self.others_than(j, pictures)).clamp(min=0)

    def run(
        self, drawn: list[tuple[float, Tensor, Tensor]], known: Sequence[tuple[Tensor, Tensor]] = ()
    ) -> list[tuple[LocScale, LocScale, Tensor]]:
        net = self.net
        pictures, starts = self.sketched(None, known)
        if pictures and not known:
            for side in ((0, False), (0, True), (1, False), (1, True)):
                other = self.sketched(side)
                if self.worth(other[0]) > self.worth(pictures):
                    pictures, starts = other
                    self.turned = True
        hidden, previous = net.rnn.initial, self.first
        said = []
        for j, (z_pres, z_where, z_what) in enumerate(drawn):
            hidden = net.rnn(self.early, previous, hidden)
            rest = self.rest_of(j, pictures)
            look, first = (
                self.look(self.others_than(j, pictures), z_where),
                net._look(rest[None], z_where[None]),
            )
            logit = net.presence_head(torch.cat([hidden, z_what - look.loc + first.loc[0]]))
            if known and j in starts:
                logit = logit.clamp(min=4.0)
            said.append((self.place(hidden, rest, starts.get(j)), look, logit))
            pictures.pop(j, None)
            if not z_pres:
                break
            pictures[j] = self.picture(z_where, z_what)
            previous = torch.cat([z_what, z_where, torch.ones(1).double()])
        return said


def agree(programs: Programs, images: Tensor, known: TrackedSlots | None = None) -> tuple[int, int]:
    """That what is said of first frames is what the loop says.

    Returns:
        In how many several objects are looked for, and in how many one is sought at a side.
    """
    guide, size = programs.guide, len(images)
    summary = torch.randn(guide.discovery.context_size).double()
    looked = 0, images, guide.discovery.image_encoder(images), summary.expand(size, -1)
    free = torch.full((size,), float(COUNT)).double()
    with torch.no_grad():
        trace = poutine.trace(guide.discovery).get_trace(*looked, free, known=known)
    several = turned = 0
    for b in range(size):
        names = "z_pres", "z_where", "z_what"
        sites = [[trace.nodes[f"discovery/{name}/0/{j}"] for name in names] for j in range(COUNT)]
        drawn = [tuple(site["value"][b] for site in slot) for slot in sites]
        objects = []
        if known is not None:
            count = int(known.z_pres[b].sum())
            objects = [(known.z_where[b, j], known.z_what[b, j]) for j in range(count)]
        with torch.no_grad():
            loop = Loop(guide, images[b], summary, torch.zeros(1, SIDE, SIDE).double())
            said = loop.run(drawn, objects)
        several += len(said) > 1
        turned += loop.turned
        for (z_pres, z_where, z_what), (place, look, logit) in zip(sites, said, strict=False):
            torch.testing.assert_close(z_where["fn"].mean[b], place.loc)
            torch.testing.assert_close(z_where["fn"].stddev[b], place.scale)
            torch.testing.assert_close(z_what["fn"].mean[b], look.loc, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(z_what["fn"].stddev[b], look.scale)
            log_present = z_pres["fn"].log_prob(torch.ones(size).double())[b]
            torch.testing.assert_close(log_present, nn.functional.logsigmoid(logit[0]))
    return several, turned


@pytest.mark.parametrize(
    ("sweeps", "steps", "size_range"), [(0, 0, None), (1, 0, 0.2), (3, 0, None), (2, 0, 0.05), (1, 1, None)]
)
@pytest.mark.parametrize("active", [True, False])
def test_every_statement_equals_the_loop(active: bool, sweeps: int, steps: int, size_range: float | None):
    programs = varied(size_range, refine_looks=steps)
    use_active_set(*programs, on=active)
    programs.guide.discovery.sweeps, programs.guide.discovery.least = sweeps, 5.0
    several, turned = agree(programs, torch.rand(6, 1, SIDE, SIDE).double())
    assert several >= 2
    assert turned >= 1 or sweeps == 0 or size_range == 0.05


@pytest.mark.parametrize("sweeps", [0, 2])
@pytest.mark.parametrize("active", [True, False])
def test_every_statement_equals_the_loop_from_objects_that_are_known(active: bool, sweeps: int):
    """None, one or two of them: where there is none, all is looked for as ever."""
    programs = varied()
    use_active_set(*programs, on=active)
    programs.guide.discovery.sweeps, programs.guide.discovery.least = sweeps, 5.0
    programs.guide.discovery.presence_head[-1].bias.data.fill_(2.0)
    here = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0]]).repeat(2, 1).double()
    where = 0.5 * torch.randn(6, COUNT, 4).double() * here.unsqueeze(-1)
    what = torch.randn(6, COUNT, WHAT).double() * here.unsqueeze(-1)
    known = TrackedSlots(here, where, what, torch.zeros(6, COUNT, 1).double(), torch.zeros(6, COUNT).long())
    several, _ = agree(programs, torch.rand(6, 1, SIDE, SIDE).double(), known)
    assert several >= 2


def test_sizes_stay_in_their_range_however_sure_the_networks_are():
    programs = varied(0.3, explain_away=False)
    discovery = programs.guide.discovery
    discovery.where_head[-1].bias.data[:4] = torch.tensor([9.0, -9.0, 0.4, 7.0])
    unbounded = varied(explain_away=False)
    unbounded.guide.load_state_dict(programs.guide.state_dict())
    images = torch.rand(3, 1, SIDE, SIDE).double()
    with torch.no_grad():
        own, free = discovery.place(images), unbounded.guide.discovery.place(images)
    assert ((own.loc[:, :2] + 0.6).abs() <= 0.3 + 1e-12).all()
    assert (own.loc[:, 0] > -0.4).all()  # the second look moves it a little
    assert (own.loc[:, 1] < -0.8).all()
    assert (free.loc[:, :2].abs() > 5).all()
    assert (own.loc[:, 3] > 5).all()


def test_while_it_learns_it_sweeps_once():
    programs = varied()
    guide, video = programs.guide, torch.rand(6, 1, 1, SIDE, SIDE).double()
    guide.discovery.least = 0.0
    sampled = []
    for training, sweeps in ((True, 4), (True, 1), (False, 1)):
        guide.train(training)
        guide.discovery.sweeps = sweeps
        torch.manual_seed(0)
        with torch.no_grad():
            sampled.append(poutine.trace(guide).get_trace(video).log_prob_sum())
    assert torch.equal(sampled[0], sampled[1])
    assert not torch.equal(sampled[0], sampled[2])


class Blob(nn.Module):
    """A decoder of one picture, whose brightness is `z_what`."""

    def forward(self, z_what: Tensor) -> Tensor:
        return z_what[..., :1, None, None].expand(*z_what.shape[:-1], 1, 5, 5)


class Brightness(nn.Module):
    """An encoder that is sure of the mean brightness of what it sees."""

    def forward(self, glimpses: Tensor) -> LocScale:
        mean = glimpses.flatten(-3).mean(-1, keepdim=True).expand(*glimpses.shape[:-3], WHAT)
        return LocScale(mean, torch.full_like(mean, 1e-3))


class TwoPlaces(nn.Module):
    """A first look that knows where two objects are."""

    def __init__(self, places: Tensor, calls: list[int]) -> None:
        super().__init__()
        self.places = places
        self.calls = calls
        """Which of them is looked for next."""

    def forward(self, hidden: Tensor) -> Tensor:
        place = self.places[self.calls.pop(0)]
        return torch.cat([place, torch.full_like(place, -20.0)]).expand(*hidden.shape[:-1], 8)


def test_two_squares_that_overlap_are_told_apart():
    """Half of each square is the other's too; seen apart, each is as bright as it is."""
    programs = varied(second_look=False, max_count=2)
    discovery = programs.guide.discovery
    windows = programs.model.decoder.windows
    coords = torch.tensor([[0.4, 0.4, -0.25, 0.0], [0.4, 0.4, 0.15, 0.0]]).double()
    places = torch.stack([windows.inverse(each) for each in coords])
    programs.model.decoder.glimpse_decoder = Blob()
    programs.model.decoder.output_scale.data.fill_(1.0)
    discovery.what_encoder = Brightness()
    discovery.presence_head[-1].bias.data.fill_(30.0)
    what = torch.tensor([[0.45, 0.0, 0.0], [0.35, 0.0, 0.0]]).double()
    with torch.no_grad():
        image = programs.model.decoder(torch.ones(2).double(), places, what).unsqueeze(0)
    bright = {}
    for explains, sweeps in ((False, 0), (True, 0), (True, 8)):
        discovery.sweeps, discovery.least = sweeps, 1.0
        again = [0, 1] * (sweeps - 1)
        # In first sweeps each once more, for where most is to be seen; then the first from four sides.
        sketched = [0, 0, 1, 1, *again] + 4 * [0, 1, 1, *again] if sweeps else []
        discovery.where_head = TwoPlaces(places, [*sketched, 0, 1])
        guide = SequenceAIRGuide(discovery if explains else discovery.plain(), (1, SIDE, SIDE))
        with torch.no_grad():
            found = guide(image.unsqueeze(1))[0]
        bright[explains, sweeps] = found.z_what[0, :, 0]
    off = {key: (value - what[:, 0]).abs().max().item() for key, value in bright.items()}
    assert off[False, 0] > 0.08  # each with what it shares with the other
    assert off[True, 8] < 0.5 * off[True, 0]


def test_what_the_network_does_not_point_at_is_found_where_it_is_to_be_seen():
    """Both slots are told to look in an empty corner; there are two squares, of the size that is expected."""
    programs = varied(second_look=False, max_count=2)
    discovery, windows = programs.guide.discovery, programs.model.decoder.windows
    side = 1 / (1 + math.exp(0.6))
    coords = torch.tensor([[side, side, -0.4, -0.4], [side, side, 0.4, 0.4]]).double()
    programs.model.decoder.glimpse_decoder = Blob()
    programs.model.decoder.output_scale.data.fill_(1.0)
    discovery.what_encoder = Brightness()
    corner = windows.inverse(torch.tensor([side, side, 0.8, -0.8]).double())
    discovery.where_head = TwoPlaces(torch.stack([corner, corner]), 60 * [0])
    discovery.presence_head[-1].bias.data.fill_(30.0)
    what = torch.tensor([[0.9, 0.0, 0.0], [0.7, 0.0, 0.0]]).double()
    with torch.no_grad():
        places = windows.inverse(coords)
        image = programs.model.decoder(torch.ones(2).double(), places, what).unsqueeze(0)
        discovery.sweeps, discovery.least = 1, 1.0
        found = SequenceAIRGuide(discovery, (1, SIDE, SIDE))(image.unsqueeze(1))[0]
    torch.testing.assert_close(windows(found.z_where[0]), coords, atol=0.1, rtol=0)
    assert (found.z_what[0, :, 0] > 0.5).all()


def test_two_objects_that_touch_are_not_found_by_halves():
    """The network points between two squares side by side, and there most is to be seen, too."""
    programs = varied(second_look=False, max_count=2)
    discovery, windows = programs.guide.discovery, programs.model.decoder.windows
    coords = torch.tensor([[MEAN, MEAN, -MEAN, 0.0], [MEAN, MEAN, MEAN, 0.0]]).double()
    programs.model.decoder.glimpse_decoder = Blob()
    programs.model.decoder.output_scale.data.fill_(1.0)
    discovery.what_encoder = Brightness()
    middle = windows.inverse(torch.tensor([MEAN, MEAN, 0.0, 0.0]).double())
    discovery.presence_head[-1].bias.data.fill_(30.0)
    what = torch.tensor([[0.8, 0.0, 0.0], [0.8, 0.0, 0.0]]).double()
    off = {}
    for sides in (True, False):
        discovery.where_head = TwoPlaces(torch.stack([middle, middle]), 60 * [0])
        discovery.sweeps, discovery.least = 4, 1.0
        discovery.thorough = sides
        with torch.no_grad():
            image = programs.model.decoder(torch.ones(2).double(), windows.inverse(coords), what).unsqueeze(0)
            found = SequenceAIRGuide(discovery, (1, SIDE, SIDE))(image.unsqueeze(1))[0]
        places = windows(found.z_where[0])
        off[sides] = (places[places[:, 2].argsort()] - coords).abs().max().item()
    assert off[False] > 0.34  # one in the middle, and one at an end
    assert off[True] < 0.2  # no second look corrects it


def test_it_starts_from_what_discovery_has_learned_and_there_is_a_plain_one():
    explaining, plain = varied(), varied(explain_away=False)
    assert isinstance(explaining.guide.discovery, ExplainingDiscovery)
    assert type(plain.guide.discovery) is Discovery
    own = plain.guide.state_dict()
    plain.guide.load_state_dict({k: v for k, v in explaining.guide.state_dict().items() if k in own})
    plain.model.load_state_dict(explaining.model.state_dict())
    explaining.guide.discovery = explaining.guide.discovery.plain()
    video = torch.rand(4, 2, 1, SIDE, SIDE).double()
    trace = poutine.trace(plain.guide).get_trace(video)
    again = poutine.trace(poutine.replay(explaining.guide, trace=trace)).get_trace(video)
    torch.testing.assert_close(again.log_prob_sum(), trace.log_prob_sum())


def test_what_was_followed_is_explained_already():
    """A frame that the followed object draws leaves nothing: discovery sees black."""
    programs = varied(max_count=2)
    discovery = programs.guide.discovery
    seen: list[Tensor] = []
    discovery.what_encoder.features.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    where, what = torch.tensor([[-0.4, -0.4, 0.1, 0.0]]).double(), torch.ones(1, WHAT).double()
    here = torch.ones(1, 1).double()
    followed = Slots(here, where.unsqueeze(0), what.unsqueeze(0))
    with torch.no_grad():
        image = programs.model.decoder(*followed)
        summary = programs.model.latent_encoder(*followed)
        for drawn in (followed, None):
            seen.clear()
            discovery(1, image, discovery.image_encoder(image), summary, torch.ones(1).double(), drawn)
            brightest = max(each.max().item() for each in seen[:1])
            assert (brightest < 1e-9) == (drawn is not None)


@pytest.mark.parametrize("follow", ["learned", "tracked"])
def test_the_active_set_changes_neither_weights_nor_gradients(follow: Any):
    prior = PriorConfig(size_logit=-0.6, size_scale=0.3, propagation="motion")
    results = []
    for on in (False, True):
        torch.manual_seed(3)
        network = replace(NETWORK, follow=follow, glimpse_size=6)
        model, guide = (program.double() for program in build(network, prior))
        guide.discovery.presence_head[-1].bias.data.fill_(0.2)
        use_active_set(model, guide, on=on)
        objective = VIMCO(3)(model, guide)
        torch.manual_seed(5)
        video = torch.rand(4, 3, 1, SIDE, SIDE).double()
        loss, _ = objective(video)
        loss.backward()
        results.append([loss.detach(), *(p.grad for p in objective.parameters() if p.grad is not None)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def test_shapes_follow_from_shapes_without_the_active_set():
    """On the meta device there are no values to read back."""
    model, guide = (program.float().to("meta") for program in varied(follow="learned"))
    with pyro.validation_enabled(False):
        loss, _ = VIMCO(2)(model, guide)(torch.empty(2, 2, 1, SIDE, SIDE, device="meta"))
        loss.backward()
    assert loss.device.type == "meta"
