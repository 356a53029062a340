"""New objects in the cells of a grid: model and guide against loops, and sums over all that there can be."""

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pyro import poutine
from torch import Tensor

from whatwhere.examples.sqair import NetworkConfig, PriorConfig, Programs, SQAIRConfig, build
from whatwhere.guides import ObjectMap, hold_objects
from whatwhere.inference.evaluation import empty_scene_bound, infer_parts
from whatwhere.inference.objectives import VIMCO
from whatwhere.models import GridDiscovery
from whatwhere.models.components import use_active_set
from whatwhere.models.components.attention import crop
from whatwhere.models.components.cells import Cells
from whatwhere.models.components.slots import slots_of, tracked
from whatwhere.models.priors import CategoricalCount, FixedCountPrior, FixedWherePrior, NormalPrior

SIDE, COUNT, BATCH = 16, 2, 3
NETWORK = NetworkConfig(
    image_shape=(1, SIDE, SIDE),
    max_count=COUNT,
    what_size=3,
    glimpse_size=5,
    hidden=8,
    narrow=6,
    presence_hidden=6,
    reach=2.0,
    discovery="grid",
    cells=2,
    layers=True,
    background="static",
    looks="sticky",
)
PRIOR = PriorConfig(where="fixed", object_size=(6.0, 5.0), size_scale=0.4, price=0.7, stay_logit=0.5)


def varied(**changes: Any) -> Programs:
    torch.manual_seed(1)
    programs = build(replace(NETWORK, **changes), PRIOR)
    for program in programs:
        program.double()
        for parameter in program.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return programs


def normal(value: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    return (-0.5 * ((value - loc) / scale) ** 2 - scale.log() - 0.5 * math.log(2 * math.pi)).sum(-1)


def videos(frames: int = 3) -> Tensor:
    return torch.rand(BATCH, frames, 1, SIDE, SIDE, dtype=torch.float64)


def test_the_statements_of_the_model_by_a_loop():
    grid = GridDiscovery(
        Cells(2, 3),
        FixedCountPrior(CategoricalCount([0.2, 0.5, 0.3])),
        FixedWherePrior((-1.0, -0.5), 0.4, 0.9),
        3,
        z_depth=NormalPrior([1.0], [2.0]),
    ).double()
    assert grid.sizes == {"z_where": 4, "z_what": 3, "z_depth": 1}
    size = 60
    free, empty = torch.full((size,), 2.0).double(), torch.zeros(size, 1).double()
    trace = poutine.trace(grid).get_trace(3, empty, empty, free, False)
    trace.compute_log_prob()
    names = [f"discovery/{name}/3" for name in ("z_pres", "z_where", "z_what", "z_depth")]
    assert [name for name, site in trace.nodes.items() if site["type"] == "sample"] == names
    slots: Any = trace.nodes["_RETURN"]["value"]
    present, local, what, depth = (trace.nodes[name]["value"] for name in names)
    assert len(present.sum(-1).unique()) == 3
    loc, scale = torch.tensor([-1.0, -0.5, 0, 0]).double(), torch.tensor([0.4, 0.4, 0.9, 0.9]).double()
    for i in range(size):
        cells = [k for k in range(6) if present[i, k]]
        expected = math.log([0.2, 0.5, 0.3][len(cells)] / math.comb(6, len(cells)))
        for n in range(2):
            assert slots.z_pres[i, n] == (n < len(cells))
            if n >= len(cells):
                assert not slots.z_where[i, n].any()
                assert not slots.z_what[i, n].any()
                assert not slots.z_depth[i, n].any()
                continue
            expected += normal(local[i, n], loc, scale)
            expected += normal(what[i, n], torch.zeros(1).double(), torch.ones(1).double().expand(3))
            expected += normal(depth[i, n], torch.ones(1).double(), 2 * torch.ones(1).double())
            coords = grid.cells.windows(slots.z_where[i, n])
            row, column = divmod(cells[n], 3)
            # With a reach of 1 places end at 0.95 of it.
            x = min(max((2 * column + 1) / 3 - 1 + 2 / 3 * math.tanh(local[i, n, 2]), -0.95), 0.95)
            y = min(max((2 * row + 1) / 2 - 1 + math.tanh(local[i, n, 3]), -0.95), 0.95)
            torch.testing.assert_close(coords[2:], torch.tensor([x, y]).double())
            torch.testing.assert_close(coords[:2], local[i, n, :2].sigmoid())
        total = sum(site["log_prob"][i] for site in trace.nodes.values() if "log_prob" in site)
        assert float(total) == pytest.approx(float(expected))


@pytest.mark.parametrize("active", [False, True])
def test_the_statements_of_the_guide_by_a_loop(active: bool):
    model, guide = varied()
    use_active_set(model, guide, on=active)
    grid: Any = guide.discovery
    grid.presence_head[-1].bias.data.fill_(0.3)
    video = videos()
    with torch.no_grad():
        trace = poutine.trace(guide).get_trace(video)
        trace.compute_log_prob()
        frames = trace.nodes["_RETURN"]["value"]
        features = grid.features(video - model.background.logits.sigmoid())
        checked = 0
        for t, i in itertools.product(range(3), range(BATCH)):
            sites = {
                name: trace.nodes[f"discovery/{name}/{t}"]
                for name in ("z_pres", "z_where", "z_what", "z_depth")
            }
            survivors = 0
            known = torch.zeros(4, grid.known.features).double()
            if t:
                names = [f"propagation/{{}}/{t}/{n}" for n in range(COUNT)]
                followed = [trace.nodes[name.format("z_pres")]["value"][i] for name in names]
                survivors = int(sum(followed))
                values = {
                    variable: torch.stack([trace.nodes[n.format(variable)]["value"][i] for n in names])
                    for variable in ("z_where", "z_what")
                }
                for k, n in itertools.product(range(4), range(COUNT)):
                    if followed[n]:
                        centre = torch.tensor([k % 2 - 0.5, k // 2 - 0.5]).double()
                        away = (centre - grid.windows(values["z_where"][n])[2:]) / 0.5
                        said = grid.known.network(torch.cat([values["z_what"][n], values["z_where"][n]]))
                        known[k] += torch.exp(-0.5 * (away**2).sum()) * said
            used, expected, slot = survivors, 0.0, 0
            seen = video[i : i + 1, t] - model.background.logits.sigmoid()
            sums = dict.fromkeys(("z_where", "z_what", "z_depth"), torch.zeros(()).double())
            for k in range(4):
                told = torch.cat([features[i, t, k], known[k]])
                here = bool(sites["z_pres"]["value"][i, k])
                if used < COUNT:
                    logit = grid.presence_head(told).squeeze()
                    expected += float(F.logsigmoid(logit if here else -logit))
                assert used < COUNT or not here
                used += here
                if not here:
                    continue
                loc, raw = grid.where_head(told).chunk(2)
                scale = F.softplus(raw + grid.scale_bias) + 0.01
                local, what, depth = (
                    sites[name]["value"][i, slot] for name in ("z_where", "z_what", "z_depth")
                )
                sums["z_where"] = sums["z_where"] + normal(local, loc, scale)
                centre = torch.tensor([k % 2 - 0.5, k // 2 - 0.5]).double()
                where = grid.cells.places(local, centre)
                glimpse = crop(seen, grid.windows(where)[None], (5, 5))
                look = grid.what_encoder(glimpse)
                sums["z_what"] = sums["z_what"] + normal(what, look.loc[0], look.scale[0])
                features_of_glimpse = grid.further.features(glimpse)[0]
                told = torch.cat([features_of_glimpse, where, what, torch.zeros(1).double()])
                depth_loc, raw_depth = grid.further.readout(told).chunk(2)
                depth_scale = F.softplus(raw_depth) + 0.01
                sums["z_depth"] = sums["z_depth"] + normal(depth, depth_loc, depth_scale)
                at = survivors + slot
                torch.testing.assert_close(frames[t].z_where[i, at], where)
                torch.testing.assert_close(frames[t].z_what[i, at], what)
                torch.testing.assert_close(frames[t].z_depth[i, at], depth)
                slot += 1
                checked += 1
            assert float(sites["z_pres"]["log_prob"][i]) == pytest.approx(expected)
            for name, value in sums.items():
                torch.testing.assert_close(sites[name]["log_prob"][i], value)
        assert checked > 5


def test_the_marginal_likelihood_is_the_sum_over_all_sets_of_cells():
    """Objects that all look alike in the middle of their cells, whatever is drawn: log p(x) by hand."""
    model, guide = varied(layers=False, background="none", looks="redrawn")
    decoder = model.decoder
    decoder.glimpse_decoder.network[-1].weight.data.zero_()
    # Places hardly vary: the density is that of the canvas of their means, and q is p.
    tiny = 1e-7
    model.discovery.where_prior.scale.fill_(tiny)
    for parameter in (guide.discovery.where_head[-1].weight, guide.discovery.what_encoder.readout.weight):
        parameter.data.zero_()
    size = model.discovery.where_prior.loc
    guide.discovery.where_head[-1].bias.data[:4] = size
    guide.discovery.where_head[-1].bias.data[4:] = -100
    guide.discovery.where_floor = tiny
    guide.discovery.what_encoder.readout.bias.data[:3] = 0
    guide.discovery.what_encoder.readout.bias.data[3:] = math.log(math.expm1(0.99))
    video = videos(1)
    counts = model.discovery.count_prior.log_probs(torch.zeros(1), torch.tensor(2.0), True).exp().tolist()
    glimpse = decoder.glimpses(torch.zeros(3).double())
    total = torch.zeros(BATCH).double()
    estimate = torch.zeros(BATCH).double()
    with torch.no_grad():
        for vector in itertools.product((0.0, 1.0), repeat=4):
            cells = [k for k in range(4) if vector[k]]
            if len(cells) > COUNT:
                continue
            canvas = torch.zeros(1, SIDE, SIDE).double()
            for k in cells:
                centre = torch.tensor([k % 2 - 0.5, k // 2 - 0.5]).double()
                where = model.discovery.cells.places(torch.cat([size[:2], torch.zeros(2).double()]), centre)
                canvas += decoder.place(glimpse[None], where[None])[0]
            scale = float(model.likelihood_scale)
            log_x = -0.5 * ((video[:, 0] - canvas) / scale).square().sum((1, 2, 3))
            log_x = log_x - SIDE**2 * (math.log(scale) + 0.5 * math.log(2 * math.pi))
            total += log_x.exp() * counts[len(cells)] / math.comb(4, len(cells))
            # What an importance-weighted estimate adds up for this set of cells, times its probability.
            present = torch.tensor(vector).double().expand(BATCH, 4)
            drawn = poutine.trace(poutine.condition(guide, {"discovery/z_pres/0": present})).get_trace(video)
            drawn.compute_log_prob()
            names = [name for name in drawn.nodes if name.startswith("discovery/")]
            values = {name: drawn.nodes[name]["value"] for name in names}
            said = poutine.trace(poutine.condition(model, values)).get_trace(video)
            said.compute_log_prob()
            log_q = {name: drawn.nodes[name]["log_prob"] for name in names}
            log_p = sum(said.nodes[name]["log_prob"] for name in [*names, "x/0"])
            estimate += (log_q["discovery/z_pres/0"] + log_p - sum(log_q.values())).exp()
    torch.testing.assert_close(estimate.log(), total.log(), rtol=1e-4, atol=1e-4)


def test_one_cell_and_one_slot_are_as_a_chain_of_one():
    """Presence and looks; only places mean something else."""
    chain = build(replace(NETWORK, discovery="learned", max_count=1), PRIOR).model.discovery.double()
    grid = build(replace(NETWORK, cells=1, max_count=1), PRIOR).model.discovery.double()
    free, empty = torch.tensor([1.0, 1, 0]).double(), torch.zeros(3, 1).double()
    present = torch.tensor([1.0, 0, 0]).double()
    what = torch.randn(3, 1, 3).double()
    values = {"discovery/z_pres/0": present[:, None], "discovery/z_what/0": what}
    mine = poutine.trace(poutine.condition(grid, values)).get_trace(0, empty, empty, free, True)
    values = {"discovery/z_pres/0/0": present, "discovery/z_what/0/0": what[:, 0]}
    theirs = poutine.trace(poutine.condition(chain, values)).get_trace(0, empty, empty, free, True)
    for trace in (mine, theirs):
        trace.compute_log_prob()
    for name in ("z_pres", "z_what"):
        torch.testing.assert_close(
            mine.nodes[f"discovery/{name}/0"]["log_prob"], theirs.nodes[f"discovery/{name}/0/0"]["log_prob"]
        )


def test_every_parameter_learns_and_parts_of_videos_go_together():
    programs = varied()
    loss, _ = VIMCO(3)(*programs)(videos())
    loss.backward()
    for part in (programs.model, programs.guide):
        for name, parameter in part.named_parameters():
            if name.startswith("latent_encoder."):  # summaries are for chains
                continue
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
    video = videos(4)
    found = list(infer_parts(*programs, [video[:, :2], video[:, 2:]], particles=2))
    slots: Any = found[1].frames[1].slots
    assert slots.z_depth.shape == (BATCH, COUNT, 1)


def test_who_goes_on_discovers_nothing_unless_asked_to():
    model, guide = varied()
    trace = poutine.trace(guide).get_trace(videos(1))
    alone = model.generate(BATCH, 4, trace, discover=False)
    assert not any(frame.discovered.any() for frame in alone[1:])
    torch.manual_seed(0)
    assert any(frame.discovered.any() for frame in model.generate(40, 4)[1:])


def test_where_nothing_is_there_is_nothing_else_to_draw():
    model, _ = varied()
    video = videos(2)
    with torch.no_grad():
        bound = empty_scene_bound(model, video)
        canvas = model.background.logits.sigmoid()
        scale = float(model.likelihood_scale)
        log_x = -0.5 * ((video - canvas) / scale).square().sum((1, 2, 3, 4))
        log_x = log_x - 2 * SIDE**2 * (math.log(scale) + 0.5 * math.log(2 * math.pi))
        none = model.discovery.count_prior.log_probs(torch.zeros(1), torch.tensor(2.0), True)[0]
    torch.testing.assert_close(bound, log_x + 2 * none.double())


def test_objects_are_held_on_to():
    _, guide = varied()
    sites = {
        name: {"name": name, "fn": site["fn"], "value": site["value"]}
        for name, site in poutine.trace(guide).get_trace(videos(2)).nodes.items()
        if "z_pres" in name
    }
    assert hold_objects(sites["discovery/z_pres/0"]) is None
    assert not hold_objects(sites["discovery/z_pres/1"]).any()
    guide = build(NETWORK, PRIOR, hold=True).guide
    guide.discovery.hold.fill_(0.999)
    guide.discovery.presence_head[-1].bias.data.fill_(5.0)
    frames = guide.train()(torch.rand(BATCH, 1, 1, SIDE, SIDE))
    assert (frames[0].z_pres.sum(-1) == COUNT).all()
    trace = poutine.trace(guide).get_trace(torch.rand(BATCH, 2, 1, SIDE, SIDE))
    assert not trace.nodes["discovery/z_pres/1"]["value"].any()


def test_a_cell_whose_object_is_known_is_rejected_if_that_is_asked_for():
    _, guide = varied()
    grid: Any = guide.discovery
    grid.reject = 0.5
    grid.where_head[-1].weight.data.zero_()
    grid.where_head[-1].bias.data[:4] = torch.tensor([-0.4, -0.4, 0, 0])
    one = torch.tensor([[1.0, 0.0]]).double()
    centres = grid.cells.centres(one)
    where = grid.cells.places(torch.tensor([-0.4, -0.4, 0.0, 0.0]).double(), centres[2])
    where = torch.stack([where, grid.cells.places(torch.tensor([-0.4, -0.4, 0, 0]).double(), centres[1])])
    memory = torch.zeros(1, 2, 1).double()
    slots = slots_of(one, z_where=where[None], z_what=torch.zeros(1, 2, 3).double(), z_depth=memory)
    known = tracked(slots, memory, one.long())
    image = torch.rand(1, 1, SIDE, SIDE).double()
    args = 1, image, grid.features(image), torch.zeros(8).double(), torch.tensor([2.0]).double(), known
    trace = poutine.trace(grid).get_trace(*args)
    logits = trace.nodes["discovery/z_pres/1"]["fn"].logits[0]
    # The second object is not there, so its cell is free.
    assert (logits < -100).tolist() == [False, False, True, False]


def test_absent_objects_are_not_on_the_map():
    known = ObjectMap(Cells(2, 2), 3).double()
    what, where = torch.randn(2, 3, 3).double(), torch.randn(2, 3, 4).double()
    present = torch.tensor([[1.0, 0, 1], [0, 0, 0]]).double()
    full = known(slots_of(present, z_where=where, z_what=what))
    less = known(slots_of(present[:, ::2], z_where=where[:, ::2], z_what=what[:, ::2]))
    torch.testing.assert_close(full, less)
    assert not full[1].any()


def test_what_does_not_go_together_is_refused():
    with pytest.raises(ValueError, match="`cells` must be at least as many as slots, 2, but are 1"):
        GridDiscovery(Cells(1, 1), FixedCountPrior(CategoricalCount([0.2, 0.5, 0.3])), FixedWherePrior())
    with pytest.raises(ValueError, match="`cells` must be so many"):
        NetworkConfig(discovery="grid", cells=1)
    with pytest.raises(ValueError, match=r"`prior\.where` fixed"):
        SQAIRConfig(network=NetworkConfig(discovery="grid"))
