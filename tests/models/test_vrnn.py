"""The VRNN against closed forms, the model written out as a loop, and its published size."""

import math

import pyro
import pyro.optim
import pytest
import torch
import torch.nn.functional as F
from pyro import poutine
from pyro.infer import SVI
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from whatwhere.examples.common.video_models import count_parameters
from whatwhere.examples.vrnn import PRESETS, NetworkConfig, Programs, build
from whatwhere.inference.objectives import FIVO, IWAE, VIMCO, frame_log_weights
from whatwhere.models.vrnn import TransposedConvDecoder, VRNNState

SHAPE = (1, 9, 6)
Z = 3


def small(variant: str = "mlp", layers: int = 2, latent_size: int = Z, scale: float = 0.1) -> Programs:
    network = NetworkConfig(
        variant, SHAPE, latent_size, hidden=7, recurrent=5, layers=layers, channels=(3, 4), strides=(1, 2)
    )
    programs = build(network)
    for parameter in programs.model.parameters():
        parameter.data += scale * torch.randn_like(parameter)
    for parameter in programs.guide.posterior.parameters():
        parameter.data += scale * torch.randn_like(parameter)
    return Programs(*(program.double() for program in programs))


def videos(batch: int = 4, frames: int = 3) -> Tensor:
    return torch.rand(batch, frames, *SHAPE, dtype=torch.float64)


def zero(programs: Programs) -> None:
    for program in programs:
        for parameter in program.parameters():
            parameter.data.zero_()


def linear(fan_in: int, fan_out: int) -> int:
    return fan_in * fan_out + fan_out


def test_the_number_of_parameters_of_the_mlp_variant_is_that_of_sqair():
    """Counted by hand, layer by layer."""
    programs = build(NetworkConfig(image_shape=(1, 50, 50)))
    inner = linear(256, 256)
    frame_encoder, latent_encoder = linear(2500, 256) + inner, linear(165, 256) + inner
    lstm = linear(512 + 256, 4 * 256)
    prior = 2 * inner + linear(256, 330)
    posterior = linear(512, 256) + inner + linear(256, 330)
    decoder = linear(512, 256) + inner + linear(256, 2500)
    assert count_parameters(programs.guide.posterior) == posterior
    assert count_parameters(programs.model.decoder) == decoder
    expected = frame_encoder + latent_encoder + lstm + prior + posterior + decoder
    assert count_parameters(*programs) == expected == 2_939_736
    assert abs(expected / 2_951_522 - 1) < 0.05


@pytest.mark.parametrize(("units", "parameters"), [(184, 2_618_253), (192, 2_745_301), (256, 3_830_805)])
def test_the_number_of_parameters_of_the_convolutional_variant(units: int, parameters: int):
    network = NetworkConfig("conv", (1, 50, 50), hidden=units, recurrent=units, layers=1)
    filters = 9 * (32 + 32 * 32 * 2 + 32 * 64 + 64 * 64 * 2)
    encoder = filters + 3 * 32 + 3 * 64 + linear(64 * 49, units)
    decoder = filters + 2 * 64 + 3 * 32 + 1 + linear(2 * units, 64 * 49)
    others = (
        linear(165, units)
        + linear(3 * units, 4 * units)
        + sum(linear(n * units, units) + linear(units, 330) for n in (1, 2))
    )
    assert count_parameters(*build(network)) == encoder + decoder + others == parameters


def test_the_preset_of_the_convolutional_variant_is_as_large_as_conv_sqair():
    network = PRESETS["conv"].network
    assert (network.variant, network.hidden, network.recurrent, network.layers) == ("conv", 184, 184, 1)
    assert abs(2_618_253 / 2_696_051 - 1) < 0.05


def test_first_values():
    """Glorot's bounds, no biases but that of the forget gate, and so a standard deviation of 0.83."""
    dynamics, decoder = (
        build(NetworkConfig(image_shape=(1, 20, 20))).model.get_submodule(name)
        for name in ("dynamics", "decoder")
    )
    first = dynamics.frame_encoder[1][0]
    assert first.weight.abs().max().item() == pytest.approx(math.sqrt(6 / (400 + 256)), rel=1e-2)
    lstm = dynamics.lstm
    for part in (lstm.from_context, lstm.from_input):
        assert part.weight.abs().max().item() == pytest.approx(math.sqrt(6 / (768 + 1024)), rel=1e-2)
    in_gate, forget_gate, candidate, out_gate = lstm.from_context.bias.chunk(4)
    assert (forget_gate == 1).all()
    assert not any(bias.any() for bias in (in_gate, candidate, out_gate, first.bias, decoder[0][-1].bias))
    scale = dynamics.prior(torch.zeros(256)).scale
    torch.testing.assert_close(scale, torch.full((165,), math.log1p(math.exp(0.25))))


def test_zeroed_networks_have_the_weights_of_normals():
    """What does not cancel are the biases of the last layers, and the image against a black canvas."""
    model, guide = programs = small()
    zero(programs)
    shift, raw = torch.randn(2, Z, dtype=torch.float64)
    guide.posterior.network[-1].bias.data = torch.cat([shift, raw])
    mean, raw_prior = torch.randn(2, Z, dtype=torch.float64)
    model.dynamics.prior.network[-1].bias.data = torch.cat([mean, raw_prior])
    video = videos()
    drawn: list[Tensor] = []

    def recorded(video: Tensor) -> None:
        drawn.extend(guide(video))

    weights = frame_log_weights(model, recorded, video, num_particles=3)
    p = Normal(mean, F.softplus(raw_prior + 0.25))
    q = Normal(mean + shift, F.softplus(raw + 0.25))
    for t, z in enumerate(drawn):
        likelihood = -0.5 * (video[:, t] / 0.3).square().flatten(1).sum(-1)
        likelihood = likelihood - 54 * (math.log(0.3) + 0.5 * math.log(2 * math.pi))
        torch.testing.assert_close(weights.log_likelihood[t], likelihood.expand(3, -1))
        expected = likelihood + (p.log_prob(z) - q.log_prob(z)).sum(-1)
        torch.testing.assert_close(weights.log_weight[t], expected)


def slow_elu_mlp(network: nn.Sequential, x: Tensor, last: bool) -> Tensor:
    layers = [layer for layer in network if isinstance(layer, nn.Linear)]
    for number, layer in enumerate(layers):
        x = layer.weight @ x + layer.bias
        if last or number < len(layers) - 1:
            x = torch.where(x > 0, x, x.exp() - 1)
    return x


def slow_log_probs(programs: Programs, video: Tensor, z: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """log p(z_t | past), log q(z_t | past, x_t), log p(x_t | z_t, past) of one video `(T, C, H, W)`."""
    model, guide = programs
    dynamics, lstm = model.dynamics, model.dynamics.lstm
    cell = nn.LSTMCell(2 * 7, 5).double()
    cell.weight_ih.data = torch.cat([lstm.from_context.weight, lstm.from_input.weight[:, :7]], dim=1)
    cell.weight_hh.data = lstm.from_input.weight[:, 7:]
    cell.bias_ih.data, cell.bias_hh.data = lstm.from_context.bias, torch.zeros(20).double()

    def psi_x(image: Tensor) -> Tensor:
        if isinstance(dynamics.frame_encoder, nn.Sequential):
            return slow_elu_mlp(dynamics.frame_encoder[1], image.flatten(), last=True)
        maps = image[None]
        for layer in dynamics.frame_encoder.convolutions:
            maps = layer(maps)
        return F.elu(dynamics.frame_encoder.readout(maps.flatten()))

    def decode(features: Tensor) -> Tensor:
        if isinstance(model.decoder, nn.Sequential):
            return slow_elu_mlp(model.decoder[0], features, last=False).reshape(SHAPE)
        maps = slow_elu_mlp(model.decoder.map, features, last=True).reshape(1, 4, 5, 3)
        grow, _, keep = model.decoder.convolutions
        maps = F.elu(
            F.conv_transpose2d(maps, grow.weight, grow.bias, stride=2, padding=1, output_padding=(0, 1))
        )
        return F.conv2d(maps, keep.weight.flip(-1, -2).transpose(0, 1), keep.bias, padding=1)[0]

    def normal(raw: Tensor, mean: Tensor | float = 0.0) -> Normal:
        return Normal(mean + raw[:Z], (1 + (raw[Z:] + 0.25).exp()).log())

    hidden, memory = torch.zeros(2, 5).double()
    seen, remembered = psi_x(torch.zeros(SHAPE).double()), torch.zeros(7).double()
    terms = []
    for image, latent in zip(video, z, strict=True):
        hidden, memory = cell(torch.cat([seen, remembered]), (hidden, memory))
        prior = normal(slow_elu_mlp(dynamics.prior.network, hidden, last=False))
        seen = psi_x(image)
        correction = slow_elu_mlp(guide.posterior.network, torch.cat([hidden, seen]), last=False)
        posterior = normal(correction, prior.loc)
        remembered = slow_elu_mlp(dynamics.latent_encoder, latent, last=True)
        canvas = decode(torch.cat([remembered, hidden]))
        terms.append(
            torch.stack(
                [
                    prior.log_prob(latent).sum(),
                    posterior.log_prob(latent).sum(),
                    Normal(canvas, programs.model.likelihood_scale).log_prob(image).sum(),
                ]
            )
        )
    return torch.stack(terms, dim=-1).unbind(0)


@pytest.mark.parametrize("variant", ["mlp", "conv"])
def test_model_and_guide_equal_a_loop(variant: str):
    programs = small(variant, layers=2 if variant == "mlp" else 1, scale=0.3)
    video = videos(batch=2, frames=4)
    with torch.no_grad(), pyro.plate("particles", 3, dim=-2):
        q = poutine.trace(programs.guide).get_trace(video)
        p = poutine.trace(poutine.replay(programs.model, trace=q)).get_trace(video)
        q.compute_log_prob()
        p.compute_log_prob()
        for k in range(3):
            for b in range(2):
                z = [q.nodes[f"z/{t}"]["value"][k, b] for t in range(4)]
                slow = zip(*slow_log_probs(programs, video[b], z), strict=True)
                for t, (prior, posterior, likelihood) in enumerate(slow):
                    for site, expected in (
                        (p.nodes[f"z/{t}"], prior),
                        (q.nodes[f"z/{t}"], posterior),
                        (p.nodes[f"x/{t}"], likelihood),
                    ):
                        found = site["log_prob"].expand(3, 2)[k, b]
                        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_the_decoder_is_the_encoder_in_a_mirror():
    """Each transposed convolution is the adjoint of one of the encoder's, between maps of the same sizes."""
    shape, channels, strides = (2, 50, 37), (3, 4, 4, 5), (1, 2, 2, 2)
    decoder = TransposedConvDecoder(6, shape, channels, strides).double()
    enlarging = [layer for layer in decoder.convolutions if isinstance(layer, nn.ConvTranspose2d)]
    assert isinstance(decoder.convolutions[-1], nn.ConvTranspose2d)
    x = torch.randn(1, *shape).double()
    for layer, stride in zip(reversed(enlarging), strides, strict=True):
        smaller = F.conv2d(x, layer.weight, stride=stride, padding=1)
        y = torch.randn_like(smaller)
        larger = layer(y) - layer.bias[:, None, None]
        torch.testing.assert_close((smaller * y).sum(), (x * larger).sum())
        x = smaller
    assert tuple(x.shape[1:]) == tuple(decoder.map_shape)
    assert decoder(torch.randn(3, 2, 6).double()).shape == (3, 2, *shape)


def test_what_a_frame_shows_changes_the_prior_of_later_frames_only():
    model, _ = small()
    video = videos(frames=4)
    changed = video.clone()
    changed[:, 2] = 1 - changed[:, 2]
    z = {f"z/{t}": torch.randn(4, Z).double() for t in range(4)}
    before, after = (poutine.trace(poutine.condition(model, data=z)).get_trace(x) for x in (video, changed))
    for trace in (before, after):
        trace.compute_log_prob()
    for t in range(4):
        prior, likelihood = ((before.nodes[n], after.nodes[n]) for n in (f"z/{t}", f"x/{t}"))
        canvas = [trace.nodes["_RETURN"]["value"][t].canvas for trace in (before, after)]
        assert torch.equal(prior[0]["log_prob"], prior[1]["log_prob"]) == (t <= 2)
        assert torch.equal(*canvas) == (t <= 2)
        assert torch.equal(likelihood[0]["log_prob"], likelihood[1]["log_prob"]) == (t < 2)


def test_what_a_latent_vector_says_changes_its_frame_and_later_ones():
    model, _ = small()
    video = videos(frames=4)
    z = {f"z/{t}": torch.randn(4, Z).double() for t in range(4)}
    other = z | {"z/1": z["z/1"] + 1}
    first, second = (
        poutine.trace(poutine.condition(model, data=data)).get_trace(video) for data in (z, other)
    )
    for t in range(4):
        canvas = [trace.nodes["_RETURN"]["value"][t].canvas for trace in (first, second)]
        assert torch.equal(*canvas) == (t < 1)
        locs = [trace.nodes[f"z/{t}"]["fn"].base_dist.loc for trace in (first, second)]
        assert torch.equal(*locs) == (t <= 1)


def test_the_kl_is_that_of_normals():
    """In the first frame prior and posterior depend on no sample; the mean over particles is the integral."""
    model, guide = small()
    video = videos(batch=3, frames=1)
    with torch.no_grad():
        prior = poutine.trace(model).get_trace(video).nodes["z/0"]["fn"].base_dist
        posterior = poutine.trace(guide).get_trace(video).nodes["z/0"]["fn"].base_dist
        exact = (
            kl_divergence(Normal(posterior.loc, posterior.scale), Normal(prior.loc, prior.scale))
            .sum(-1)
            .mean()
        )
        found = IWAE(20_000)(model, guide)(video)[1].kl
    assert exact > 0.005
    assert found == pytest.approx(exact.item(), rel=0.1)


def test_more_particles_give_a_greater_bound_and_no_resampling_gives_the_same():
    programs = small(scale=0.4)
    video = videos()

    def bound(objective) -> Tensor:
        torch.manual_seed(2)
        with torch.no_grad():
            return objective(*programs)(video)[1].bound

    assert bound(IWAE(1)) < bound(IWAE(5)) < bound(IWAE(200))
    torch.testing.assert_close(bound(FIVO(5, resample="never")), bound(IWAE(5)))
    torch.testing.assert_close(bound(VIMCO(5)), bound(IWAE(5)))
    assert bound(FIVO(5, resample="always")).isfinite()


@pytest.mark.parametrize("variant", ["mlp", "conv"])
def test_every_parameter_gets_a_finite_gradient(variant: str):
    programs = small(variant)
    for objective in (IWAE(4), FIVO(4, resample="always")):
        module = objective(*programs)
        module.zero_grad()
        module(videos())[0].backward()
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().sum() > 0, name


def small_again() -> Programs:
    torch.manual_seed(0)
    return small()


def test_a_step_of_svi_is_one_of_torch():
    """The parameters that model and guide share have the gradients of both."""
    video = videos()
    found = []
    for use_pyro in (True, False):
        model, guide = small_again()
        torch.manual_seed(1)
        if use_pyro:
            SVI(model, guide, pyro.optim.SGD({"lr": 1e-3}), IWAE(3)).step(video)
        else:
            objective = IWAE(3)(model, guide)
            optimizer = torch.optim.SGD(objective.parameters(), lr=1e-3)
            objective(video)[0].backward()
            optimizer.step()
        found.append(torch.cat([p.detach().flatten() for m in (model, guide) for p in m.parameters()]))
        before = torch.cat([p.flatten() for m in small_again() for p in m.parameters()])
        assert (found[-1] - before).abs().max() > 1e-4
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-12)


def test_frames_are_encoded_once_whatever_the_number_of_particles():
    model, guide = small()
    rows: list[int] = []
    model.dynamics.frame_encoder.register_forward_hook(lambda *call: rows.append(call[2][..., 0].numel()))
    IWAE(50)(model, guide)(videos(batch=4, frames=3))
    # The black frame; then all frames for the guide, and for the model all but the last.
    assert sorted(rows) == [1, 1, 8, 12]


@pytest.mark.parametrize("feed_back", ["sample", "mean"])
def test_generated_frames_go_on_from_what_they_are_said_to(feed_back: str):
    """The canvases are those of a model that is shown the drawn frames, or their means, as data."""
    model, _ = small(scale=0.5)
    trace = poutine.trace(model).get_trace(batch_size=5, frames=4, feed_back=feed_back)
    drawn = trace.nodes["_RETURN"]["value"]
    if feed_back == "sample":
        shown = torch.stack([trace.nodes[f"x/{t}"]["value"] for t in range(4)], dim=1)
    else:
        shown = torch.stack([frame.canvas for frame in drawn], dim=1)
    z = {f"z/{t}": frame.z for t, frame in enumerate(drawn)}
    again = poutine.condition(model, data=z)(shown.detach())
    for frame, expected in zip(drawn, again, strict=True):
        assert frame.canvas.shape == (5, *SHAPE)
        torch.testing.assert_close(frame.canvas, expected.canvas)


def test_samples_of_the_prior_have_its_moments():
    programs = small()
    zero(programs)
    model = programs.model
    model.dynamics.prior.network[-1].bias.data[:Z] = torch.arange(Z).double()
    z = model.generate(20_000, 2)[1].z
    torch.testing.assert_close(z.mean(0), torch.arange(Z).double(), rtol=0, atol=0.03)
    expected = torch.full((Z,), math.log1p(math.exp(0.25))).double()
    torch.testing.assert_close(z.std(0), expected, rtol=0.03, atol=0)


def test_generation_goes_on_from_what_was_given():
    model, guide = small(scale=0.5)
    video = videos(frames=5)
    given = poutine.trace(guide).get_trace(video[:, :3])
    drawn = model.generate(4, 5, given, video[:, :3])
    with torch.no_grad():
        reconstructed = poutine.replay(model, trace=given)(video[:, :3])
    assert len(drawn) == 5
    for frame, expected in zip(drawn, reconstructed, strict=False):
        assert torch.equal(frame.z, expected.z)
        torch.testing.assert_close(frame.canvas, expected.canvas)
    # The first frame that is generated knows what was given: the last frame of it, too.
    head = model.dynamics.prior.network[-1]
    head.bias.data[Z:] = -200.0
    head.weight.data[Z:] = 0
    first, second = (model.generate(4, 5, given, video[:, :3])[-1].canvas for _ in range(2))
    torch.testing.assert_close(first, second)
    other = video[:, :3].clone()
    other[:, 2] = 1 - other[:, 2]
    changed = model.generate(4, 5, given, other)
    assert (changed[3].canvas - model.generate(4, 5, given, video[:, :3])[3].canvas).abs().max() > 1e-6
    noisy = [model.generate(4, 5, given, video[:, :3], feed_back="sample")[-1].canvas for _ in range(2)]
    assert (noisy[0] - noisy[1]).abs().max() > 1e-6


def test_what_cannot_be_is_refused():
    model, _ = small()
    with pytest.raises(ValueError, match="`batch_size` and `frames`"):
        model()
    with pytest.raises(ValueError, match=r"\(B, T, 1, 9, 6\), but got \(2, 3, 1, 6, 9\)"):
        model(torch.rand(2, 3, 1, 6, 9))
    with pytest.raises(ValueError, match="`frames` of at least 3, as of the video, got None and 2"):
        model(videos(), frames=2)
    with pytest.raises(ValueError, match="expected `batch_size` 4"):
        model(videos(), batch_size=3)
    with pytest.raises(ValueError, match="`feed_back`"):
        model(videos(), feed_back="nothing")
    with pytest.raises(ValueError, match="`given` and `video` go together"):
        model.generate(4, 5, video=videos())
    with pytest.raises(ValueError, match="must have one length, got 2 and 1"):
        TransposedConvDecoder(4, SHAPE, (3, 4), (1,))


def test_the_state_is_one_a_particle_filter_can_copy():
    model, guide = small()
    for program in (model, guide):
        frames = program.unroll(videos())
        state = frames.state
        with pyro.plate("particles", 3, dim=-2):
            for step in frames.steps:
                _, state = step(state)
        assert isinstance(state, VRNNState)
        assert state.recurrent.hidden.shape == state.recurrent.cell.shape == (3, 4, 5)
        assert state.latent.shape == (3, 4, 7)
        assert state.frame is None
