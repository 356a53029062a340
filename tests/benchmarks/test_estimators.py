"""Estimators against each other: statistics of known distributions, programs at sizes that take seconds."""

import json
from dataclasses import replace

import pyro
import pytest
import torch
from PIL import Image

from whatwhere.benchmarks import estimator_gradients, estimator_training, estimators
from whatwhere.benchmarks.estimator_gradients import GradientsConfig, group_gradients
from whatwhere.benchmarks.estimator_lineup import CONTENDERS, check_contenders, contender, unbiased_of
from whatwhere.benchmarks.estimator_training import TrainingComparison
from whatwhere.benchmarks.gradient_moments import (
    GradientMoments,
    merge,
    relative_bias,
    signal_to_noise,
)
from whatwhere.datasets import PyroRecipe, compose, make_glyphs
from whatwhere.examples import air
from whatwhere.examples.air import NetworkConfig
from whatwhere.examples.common.program import UsageError
from whatwhere.inference.training import ExponentialDecay, NonFiniteError, TrainingConfig

CPU = torch.device("cpu")
NETWORK = NetworkConfig(
    what_size=4,
    glimpse_size=8,
    rnn_hidden=16,
    head_hidden=(8,),
    encoder_hidden=(8,),
    decoder_hidden=(8,),
)


@pytest.fixture(scope="module")
def digits():
    return compose(PyroRecipe(), make_glyphs("test", 20, seed=0), 24, 0)


@pytest.fixture(autouse=True)
def _small(monkeypatch, digits):
    """A demo of small networks and few images."""

    def load_data(config):
        return air.Split(*(digits.subset(range(n)) for n in (config.train_images, config.test_images)))

    demo = air.PRESETS["demo"]
    small = replace(demo, network=NETWORK, data=replace(demo.data, train_images=16, test_images=8))
    monkeypatch.setitem(air.PRESETS, "demo", small)
    monkeypatch.setattr(air, "load_data", load_data)
    for module in (estimator_gradients, estimator_training):
        monkeypatch.setattr(module, "keep_freed_memory", lambda: False)
    monkeypatch.setattr(estimator_gradients, "TRAINING_IMAGES", 16)
    with pyro.validation_enabled(True):  # restores what the benchmark turns off
        yield


@pytest.fixture
def programs():
    torch.manual_seed(0)
    config = replace(air.PRESETS["demo"], network=replace(NETWORK, image_shape=(1, 50, 50)), estimator="nvil")
    return air.build(config)


def stream(values, blocks=4):
    """The moments of draws `(n, P)`."""
    moments = GradientMoments({"g": values.shape[1]}, blocks)
    for value in values:
        moments.add({"g": value})
    return moments.blocks("g")


def test_moments_are_those_of_all_draws_and_of_all_but_a_block():
    values = 5 + torch.randn(23, 7) * torch.arange(1.0, 8)
    moments = GradientMoments({"a": 3, "b": 4}, blocks=4)
    for value in values:
        moments.add({"b": value[3:], "a": value[:3]})  # by name, not by order
    for name, columns in (("a", slice(3)), ("b", slice(3, 7))):
        for without in (None, 0, 2):
            kept = values[[i for i in range(23) if i % 4 != without], columns].double()
            merged = merge(moments.blocks(name), without)
            assert merged.draws == len(kept)
            torch.testing.assert_close(merged.mean.double(), kept.mean(0))
            assert merged.variance == pytest.approx(kept.var(0).sum().item(), rel=1e-5)


def test_moments_need_two_blocks_and_two_draws_in_each():
    with pytest.raises(ValueError, match="`blocks` must be at least 2, got 1"):
        GradientMoments({"g": 1}, blocks=1)
    with pytest.raises(ValueError, match=r"every block needs 2 draws, got \[2, 2, 2, 1\]"):
        stream(torch.randn(7, 2))


@pytest.mark.parametrize("signal", [0.0, 0.4])
def test_signal_to_noise_of_normal_draws(signal):
    """Of N(m, diag s^2) the squared ratio is |m|^2 / sum s^2; noise of the mean adds nothing to it."""
    scale = torch.linspace(0.5, 2, 30)
    mean = signal * torch.ones(30)
    exact = (mean.square().sum() / scale.square().sum()).item()
    found = [signal_to_noise(stream(mean + scale * torch.randn(24, 30), blocks=8)) for _ in range(200)]
    squares = torch.tensor([ratio.squared for ratio in found], dtype=torch.float64)
    error = squares.std().item() / 200**0.5
    assert squares.mean().item() == pytest.approx(exact, abs=4 * error)
    assert error < 0.1 / 24  # without the correction the mean would be 1 / 24 more
    told = torch.tensor([ratio.squared_error for ratio in found]).square().mean().sqrt().item()
    # Without a signal the jackknife tells more than there is, at most by the root of 2 for many blocks.
    assert 0.8 < told / squares.std().item() < (1.3 if signal else 1.8)
    if not signal:
        told = torch.tensor([ratio.squared_error_of_zero for ratio in found]).square().mean().sqrt().item()
        assert told == pytest.approx(squares.std().item(), rel=0.3)
    seen = sum(ratio.is_seen for ratio in found)
    assert seen > 160 if signal else seen < 30
    assert found[0].value == max(0.0, found[0].squared) ** 0.5


@pytest.mark.parametrize("bias", [0.0, 0.5])
def test_relative_bias_of_normal_draws(bias):
    mean, offset = torch.linspace(1, 2, 20), torch.zeros(20)
    offset[3] = bias * mean.norm()
    found = []
    for _ in range(200):
        draws = [mean + scale * torch.randn(24, 20) for scale in (1.0, 4.0)]
        own = mean + offset + torch.randn(24, 20)
        found.append(relative_bias(stream(own), [stream(each) for each in draws]))
    squares = torch.tensor([each.squared for each in found], dtype=torch.float64)
    error = squares.std().item() / 200**0.5
    assert squares.mean().item() == pytest.approx(bias**2, abs=4 * error)
    if bias:
        assert all(each.is_seen for each in found)
    else:
        told = torch.tensor([each.squared_error for each in found]).square().mean().sqrt().item()
        assert told == pytest.approx(squares.std().item(), rel=0.3)
        assert sum(each.is_seen for each in found) < 10


def test_bias_needs_a_reference_with_a_signal():
    noise = [stream(torch.randn(16, 500)) for _ in range(2)]
    assert relative_bias(noise[0], [noise[1]]) is None


def test_names_of_contenders():
    check_contenders(CONTENDERS)
    assert contender("vimco-dreg") == ("vimco", "dreg")
    assert contender("marginal") == ("marginal", "pathwise")
    assert (contender("nvil").particles(5), contender("ovis").particles(5)) == (1, 5)
    assert contender("ovis-dreg").objective(3).continuous == "dreg"
    for name in ("nvil-dreg", "fivo", "vimco-pathwise", "vimco-"):
        with pytest.raises(ValueError, match=rf"expected an estimator of marginal.*got `{name}`"):
            contender(name)
    for names in (("ovis",), ("vimco", "vimco")):
        with pytest.raises(ValueError, match="`contenders` must have `vimco`"):
            check_contenders(names)


def test_references_share_the_expectation():
    for name in CONTENDERS:
        for group in ("where", "decoder"):
            others = unbiased_of(name, group)
            assert name not in others
            assert not {"vimco-stl", "sqair_code"} & set(others)
            elbo = {"marginal", "reinforce", "nvil"}
            assert name not in elbo or set(others) == elbo - {name}
            assert name in elbo or not elbo & set(others)
    assert unbiased_of("wake_sleep", "where") == ()
    assert "wake_sleep" in unbiased_of("vimco", "decoder")
    assert "wake_sleep" not in unbiased_of("vimco", "where")


def test_groups_hold_every_parameter_once(programs):
    for program in programs:
        for parameter in program.parameters():
            parameter.grad = torch.rand_like(parameter)
    of_baseline = {id(parameter) for parameter in programs.guide.baseline.parameters()}
    expected = [
        parameter.grad
        for program in programs
        for parameter in program.parameters()
        if id(parameter) not in of_baseline
    ]
    found = torch.cat(list(group_gradients(programs).values()))
    together = torch.cat([gradient.flatten() for gradient in expected])
    torch.testing.assert_close(found.sort().values, together.sort().values)


def test_groups_are_what_they_are_called(programs):
    model, guide = programs
    logit, loc, scale = guide.head(torch.randn(5, 16)).split([1, 3, 3], -1)
    reached = {
        "presence": logit.sum(),
        "where": (loc + scale).sum(),
        "what": guide.encoder(torch.rand(5, 1, 8, 8)).loc.sum(),
        "decoder": model.decoder(torch.randn(5, 4)).sum(),
    }
    for name, value in reached.items():
        for program in programs:
            program.zero_grad()
        value.backward(retain_graph=True)
        gradients = group_gradients(programs)
        moved = {group for group, gradient in gradients.items() if gradient.any()}
        assert moved == ({name, "recurrent"} if name in ("presence", "where") else {name})


def test_drawn_gradients_are_those_of_the_objective(programs):
    images, objective = torch.rand(3, 1, 50, 50), contender("vimco").objective(2)(*programs)
    torch.manual_seed(1)
    moments = estimator_gradients.draw_gradients(programs, objective, images, 16)
    torch.manual_seed(1)
    draws = []
    for _ in range(16):
        objective.zero_grad()
        objective(images)[0].backward()
        draws.append(torch.cat([part.grad.flatten() for part in programs.guide.encoder.parameters()]))
    torch.testing.assert_close(merge(moments.blocks("what")).mean, torch.stack(draws).mean(0))


def test_a_step_that_is_timed_changes_nothing(programs):
    before = {name: value.clone() for name, value in programs.guide.state_dict().items()}
    estimator_gradients.make_step(contender("vimco").objective(2)(*programs), torch.rand(2, 1, 50, 50))()
    assert programs.guide.rnn.from_input.weight.grad.any()
    torch.testing.assert_close(dict(programs.guide.state_dict()), before, rtol=0, atol=0)


def test_only_the_baseline_learns(programs):
    data = air.load_data(air.PRESETS["demo"].data).train
    before = {name: value.clone() for name, value in programs.guide.state_dict().items()}
    estimator_gradients.fit_baseline(programs, data, steps=2)
    after = programs.guide.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert all(name.startswith("baseline.") for name in moved)


def test_the_state_is_the_demo_at_a_quarter():
    """Step by step its learning rate, prior and exploration are those of the whole demo."""
    found = []
    for config in (air.PRESETS["demo"], estimator_gradients.quarter_of_demo()):
        programs = air.build(replace(config, network=replace(NETWORK, image_shape=(1, 50, 50))))
        rate = ExponentialDecay(
            config.final_learning_rate / config.learning_rate, every=config.training.steps
        )
        for hook in air.annealing(config, programs):
            hook(900)
        ratio = programs.model.count_prior.log_ratio
        found.append([config.learning_rate * rate(900), ratio.item(), programs.guide.exploration.item()])
    assert found[1] == pytest.approx(found[0])
    assert 0 < found[0][2] < air.PRESETS["demo"].exploration  # which changes


def make_state(folder, steps=2):
    config = replace(
        air.PRESETS["demo"], iwae_particles=2, batch_size=4, training=TrainingConfig(steps=steps)
    )
    return estimator_gradients.made_checkpoint(folder, config)


def test_a_checkpoint_is_made_once(tmp_path, monkeypatch):
    path = make_state(tmp_path)
    monkeypatch.setattr(air, "run_training", lambda config: pytest.fail("trained again"))
    assert make_state(tmp_path) == path == tmp_path / "checkpoint.pt"


def test_a_setting_is_the_checkpoint_in_training_mode(tmp_path):
    setting = estimator_gradients.load_setting(make_state(tmp_path), batch=5, baseline_steps=1)
    _, programs = air.restore(tmp_path / "checkpoint.pt", CPU)
    for ours in (setting.of("vimco-dreg"), setting.of("nvil")):
        assert ours.guide.training
        assert ours.guide.exploration == programs.guide.exploration
        for name, parameter in programs.guide.named_parameters():
            torch.testing.assert_close(ours.guide.get_parameter(name), parameter, rtol=0, atol=0)
        torch.testing.assert_close(dict(ours.model.state_dict()), dict(programs.model.state_dict()))
    assert setting.of("vimco").guide.baseline is None
    assert setting.of("nvil").guide.baseline is not None
    assert setting.images.shape == (5, 1, 50, 50)


def test_report_of_gradients_is_complete(tmp_path, monkeypatch):
    monkeypatch.setattr("whatwhere.benchmarks.harness.wait_until_idle", lambda timeout: None)
    monkeypatch.setattr(estimator_gradients, "peak_memory", lambda make: 10**6)
    state = make_state(tmp_path / "state")
    names = ("vimco", "nvil", "marginal", "wake_sleep")
    config = GradientsConfig(
        tmp_path, state, names, particles=(2, 3), draws=16, batch=2, baseline_steps=1, rounds=2
    )
    estimator_gradients.run(config)
    report = json.loads((tmp_path / "gradients.json").read_text())
    assert report["checkpoint"]["step"] == 2
    assert list(report["results"]) == ["2", "3"]
    for result in report["results"].values():
        assert tuple(result["contenders"]) == names
        for name, fields in result["contenders"].items():
            assert tuple(fields["groups"]) == estimator_gradients.GROUPS
            assert ("cpu_ratio" in fields) == (name != "vimco")
            assert fields["peak_bytes"] == 10**6
            assert fields["saved_bytes"] > 0
            for part in fields["groups"].values():
                ratio = part["squared_norm"] / part["variance"]
                assert part["snr_squared"] == pytest.approx(ratio)
        groups = result["contenders"]["nvil"]["groups"]
        assert groups["where"]["references"] == ["marginal"]
        assert "bias" not in result["contenders"]["wake_sleep"]["groups"]["where"]
    assert len(estimator_gradients.table(report, "3").splitlines()) == 2 + len(names)
    assert (tmp_path / "gradients.md").read_text().count("particles\n") == 2
    with Image.open(tmp_path / "gradients.png") as picture:
        assert min(picture.size) > 500


def compare(folder, **options):
    settings = {"contenders": ("vimco", "marginal"), "seeds": (3,), "particles": 2, "batch_size": 4}
    sizes = {"points": 2, "monitor_images": 4, "monitor_particles": 2, "images": 8, "test_images": 6}
    return TrainingComparison(folder, minutes=1e-4, iwae_particles=3, **{**settings, **sizes, **options})


@pytest.fixture
def costs(monkeypatch):
    """Steps of VIMCO take twice as long as those of the others: 2 steps in 1e-4 minutes, and 4."""
    measured = []

    def calibrate(config, names):
        measured.append(tuple(names))
        return {name: 3.0 if name == "vimco" else 1.5 for name in names}

    monkeypatch.setattr(estimator_training, "calibrate", calibrate)
    return measured


def test_training_has_equal_time_and_is_kept(tmp_path, monkeypatch, costs):
    assert estimator_training.run(compare(tmp_path)) == 0
    report = json.loads((tmp_path / "training.json").read_text())
    for name, steps, particles in (("vimco", 2, 2), ("marginal", 4, 1)):
        row = report["results"][name]
        assert [run["seed"] for run in row["runs"]] == [3]
        for run in row["runs"]:
            assert (run["steps"], run["particles"], run["diverged"]) == (steps, particles, False)
            assert [point["step"] for point in run["curve"]] == [steps // 2, steps]
            assert run["curve"][-1]["minutes"] == pytest.approx(1e-4)
            assert {"count_accuracy", "iwae"} <= set(run["curve"][0])
            assert run["cpu_ms_measured"] > 0
    accuracies = [run["count_accuracy"] for run in report["results"]["vimco"]["runs"]]
    assert report["results"]["vimco"]["failed"] == sum(accuracy < 0.8 for accuracy in accuracies)
    assert (tmp_path / "training.png").stat().st_size > 0
    monkeypatch.setattr(air, "run_training", lambda config: pytest.fail("trained again"))
    assert estimator_training.run(compare(tmp_path)) == 0
    assert json.loads((tmp_path / "training.json").read_text())["results"] == report["results"]
    assert costs == [("vimco", "marginal")]


def test_an_interrupted_run_ends_the_comparison_and_leaves_no_result(tmp_path, monkeypatch, costs):
    monkeypatch.setattr(air, "run_training", lambda config: 130)
    assert estimator_training.run(compare(tmp_path)) == 130
    assert not list(tmp_path.glob("*/result.json"))


def test_a_run_that_diverges_has_failed(tmp_path, monkeypatch, costs):
    def run_training(config):
        raise NonFiniteError("the loss was not finite")

    monkeypatch.setattr(air, "run_training", run_training)
    assert estimator_training.run(compare(tmp_path, seeds=(0, 1))) == 0
    report = json.loads((tmp_path / "training.json").read_text())
    assert report["results"]["vimco"]["failed"] == 2
    assert "2 of 2" in estimator_training.table(report)


@pytest.mark.parametrize(("accuracy", "failed"), [(0.79, True), (0.8, False)])
def test_failure_is_counting_below_the_threshold(accuracy, failed):
    assert estimator_training.has_failed({"diverged": False, "count_accuracy": accuracy}, 0.8) == failed


def test_rows_that_come_later_are_measured_against_the_baseline(tmp_path, monkeypatch, costs):
    assert estimator_training.plan(compare(tmp_path)) == {"vimco": 3.0, "marginal": 1.5}
    slower = {"vimco": 6.0, "ovis": 7.0}  # the machine is half as fast by now
    monkeypatch.setattr(estimator_training, "calibrate", lambda config, names: {n: slower[n] for n in names})
    more = compare(tmp_path, contenders=("vimco", "ovis"))
    assert estimator_training.plan(more) == {"vimco": 3.0, "ovis": 3.5}
    with pytest.raises(UsageError, match=r"has runs of other settings.*choose another `--output`"):
        estimator_training.plan(compare(tmp_path, batch_size=5))


def test_calibration_measures_every_row(tmp_path, monkeypatch):
    monkeypatch.setattr("whatwhere.benchmarks.harness.wait_until_idle", lambda timeout: None)
    monkeypatch.setattr(estimator_training, "CALIBRATION_ROUNDS", 2)
    found = estimator_training.calibrate(compare(tmp_path), ["vimco", "nvil"])
    assert list(found) == ["vimco", "nvil"]
    assert min(found.values()) > 0


def test_the_stopwatch_knows_the_time_between_steps(monkeypatch):
    times = iter([0.0, 1.0, 2.0, 9.0, 10.0])  # an evaluation took 6 seconds
    monkeypatch.setattr(estimator_training.time, "process_time", lambda: next(times))
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    parameter.grad = torch.ones(1)
    watch = estimator_training.Stopwatch()
    assert watch.median is None
    with watch.measuring():
        for _ in range(5):
            optimizer.step()
    optimizer.step()  # is not noted: there is no sixth time
    assert watch.median == 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--contenders", "vimco", "fivo"], "expected an estimator of marginal"),
        (["train", "--particles", "1"], "`particles` must be at least 2"),
        (["gradients", "--contenders", "marginal"], "must have `vimco`"),
        (["gradients", "--particles", "1"], "`particles` must be numbers of at least 2"),
        (["gradients", "--draws", "15"], "`draws` must be at least 16"),
    ],
)
def test_options_that_do_not_go_together_are_refused(arguments, message, capsys):
    assert estimators.main(arguments) == 2
    assert message in capsys.readouterr().err
