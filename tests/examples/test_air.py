"""The command line of AIR end to end, at sizes that take seconds."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image

from whatwhere.datasets import PyroRecipe, VideoData, compose, make_glyphs, save_video
from whatwhere.examples import air, minimal_svi
from whatwhere.examples.air import (
    COMPARING,
    CONTINUOUS,
    AIRConfig,
    DataConfig,
    Estimator,
    PriorConfig,
    build,
    main,
    make_objective,
    with_objects,
)
from whatwhere.inference.training import TrainingConfig, load_checkpoint

SMALL = [
    "--batch-size=8",
    "--iwae-particles=4",
    "--network.rnn-hidden=16",
    "--network.head-hidden=8",
    "--network.encoder-hidden=8",
    "--network.decoder-hidden=8",
    "--network.what-size=4",
    "--network.glimpse-size=8",
    "--training.evaluate-every=none",
]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 200 labelled images, of which training holds out 20."""
    path = tmp_path_factory.mktemp("data") / "images.h5"
    digits = make_glyphs("test", 50, seed=0)
    save_video(path, compose(PyroRecipe(), digits, 200, 0), generator="test", parameters={}, seed=0)
    return path


def run(*arguments: str | Path) -> int:
    return main([str(argument) for argument in arguments])


@pytest.fixture
def train(images: Path):
    def train(output: Path, *arguments: str | Path, steps: int = 4) -> int:
        options = ["--output", output, "--training.steps", str(steps), "--data.source", images]
        return run("train", *options, *SMALL, *arguments)

    return train


def parameters(checkpoint: Path) -> dict[str, torch.Tensor]:
    modules = load_checkpoint(checkpoint).modules
    return {f"{name}.{key}": value for name, state in modules.items() for key, value in state.items()}


def test_train_leaves_metrics_pictures_log_and_checkpoint(train, tmp_path: Path, capsys):
    assert train(tmp_path, "--training.evaluate-every=2") == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["images"] == 20
    assert metrics["iwae_particles"] == 4
    assert metrics["elbo"] == pytest.approx(metrics["log_likelihood"] - metrics["kl"])
    confusion = np.array(metrics["counting"]["confusion"])
    assert confusion.sum() == 20
    assert metrics["counting"]["accuracy"] == pytest.approx(np.trace(confusion) / 20)
    for name in ("reconstructions.png", "samples.png"):
        with Image.open(tmp_path / name) as picture:
            assert min(picture.size) > 100
    events = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert any("count_accuracy" in event for event in events)
    printed = capsys.readouterr().out
    assert str(tmp_path / "metrics.json") in printed
    assert str(tmp_path / "reconstructions.png") in printed


@pytest.mark.parametrize("estimator", get_args(Estimator))
def test_every_estimator_trains(train, tmp_path: Path, estimator: str):
    particles = "2" if estimator in COMPARING else "1"
    continuous = "dreg" if estimator in CONTINUOUS else "pathwise"
    options = ["--estimator", estimator, "--particles", particles, "--continuous", continuous]
    assert train(tmp_path, *options) == 0


@pytest.mark.parametrize("estimator", sorted(set(get_args(Estimator)) - set(CONTINUOUS)))
def test_an_option_that_an_estimator_does_not_have_is_refused(estimator: Estimator):
    particles = 2 if estimator in COMPARING else 1
    for continuous in ("stl", "dreg"):
        message = (
            f"`continuous` = {continuous} is for `estimator` vimco, ovis, sqair_code, got {estimator}: "
            "use one of them, or `continuous` = pathwise"
        )
        with pytest.raises(ValueError, match=message):
            make_objective(estimator, particles, continuous)
    assert make_objective(estimator, particles, "pathwise").num_particles == particles


def test_resuming_takes_the_steps_of_a_run_without_interruption(train, tmp_path: Path):
    assert train(tmp_path / "straight", steps=5) == 0
    assert train(tmp_path / "resumed", "--training.max-minutes=1e-9", steps=5) == 0
    assert load_checkpoint(tmp_path / "resumed/checkpoint.pt").step == 1
    assert (tmp_path / "resumed/metrics.json").exists()
    assert train(tmp_path / "resumed", "--resume", steps=5) == 0
    assert load_checkpoint(tmp_path / "resumed/checkpoint.pt").step == 5
    straight = parameters(tmp_path / "straight/checkpoint.pt")
    resumed = parameters(tmp_path / "resumed/checkpoint.pt")
    assert straight.keys() == resumed.keys()
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)


def test_what_is_measured_may_change_when_a_run_is_resumed(train, tmp_path: Path):
    assert train(tmp_path, steps=1) == 0
    assert train(tmp_path, "--resume", "--iwae-particles=3", "--monitor-images=7", steps=2) == 0
    assert json.loads((tmp_path / "metrics.json").read_text())["iwae_particles"] == 3


def test_evaluate_and_sample_read_a_checkpoint(train, tmp_path: Path):
    train(tmp_path)
    checkpoint = tmp_path / "checkpoint.pt"
    assert run("evaluate", "--checkpoint", checkpoint, "--images=7", "--iwae-particles=2") == 0
    assert json.loads((tmp_path / "evaluation/metrics.json").read_text())["images"] == 7
    assert run("sample", "--checkpoint", checkpoint, "--count=5", "--output", tmp_path / "s.png") == 0
    assert (tmp_path / "s.png").stat().st_size > 0


def test_images_of_a_folder_without_labels(train, tmp_path: Path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(12):
        Image.fromarray(rng.integers(0, 255, (30, 30), dtype=np.uint8)).save(folder / f"{i}.png")
    assert train(tmp_path / "run", "--data.source", folder, "--data.image-size=24") == 0
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["counting"] is None
    assert metrics["images"] == 1
    assert run("sample", "--checkpoint", tmp_path / "run/checkpoint.pt", "--output", tmp_path / "s.png") == 0


def write_pictures(folder: Path, names: str) -> None:
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(ord(names[0]))
    for name in names:
        pixels = rng.integers(256, size=(50, 50), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")


def test_a_run_is_bound_to_its_data_wherever_they_are(tmp_path: Path, monkeypatch, capsys):
    run_, here, elsewhere = tmp_path / "run", tmp_path / "here", tmp_path / "elsewhere"
    options = ["--output", run_, "--data.source", "imgs", *SMALL]
    for folder, names in ((here, "klmnopqrstu"), (elsewhere, "abcdefghijk")):
        folder.mkdir()
        write_pictures(folder / "imgs", names)
    monkeypatch.chdir(here)
    assert run("train", *options, "--training.steps=2") == 0
    assert load_checkpoint(run_ / "checkpoint.pt").configuration["data"]["source"] == str(here / "imgs")
    capsys.readouterr()

    # From a folder where the same path leads to other images.
    monkeypatch.chdir(elsewhere)
    assert run("train", *options, "--training.steps=3", "--resume") == 2
    assert "was trained with other data: `train`: " in capsys.readouterr().err
    evaluate = ["evaluate", "--checkpoint", run_ / "checkpoint.pt", "--iwae-particles=2"]
    assert run(*evaluate, "--output", tmp_path / "recorded") == 0
    assert run(*evaluate, "--output", tmp_path / "named", "--data", "imgs") == 0
    first, second = (json.loads((tmp_path / n / "metrics.json").read_text()) for n in ("recorded", "named"))
    assert (first["images"], second["images"]) == (1, 11)

    # Moved, the same images are the same.
    (here / "imgs").rename(tmp_path / "moved")
    moved = ["--output", run_, "--data.source", tmp_path / "moved", *SMALL]
    assert run("train", *moved, "--training.steps=3", "--resume") == 0

    # Added, others change what is held out.
    write_pictures(tmp_path / "moved", "abcdefghij")
    capsys.readouterr()
    assert run("train", *moved, "--training.steps=4", "--resume") == 2
    error = capsys.readouterr().err
    assert "`train`: they are 19 and were 10; `test`: they are 2 and were 1" in error
    assert error.count("\n") == 1
    assert run(*evaluate) == 2
    assert "name them with `--data`" in capsys.readouterr().err
    assert run("train", *moved, "--training.steps=4", "--resume", "--accept-changed-data") == 0
    assert run("train", *moved, "--training.steps=5", "--resume") == 0


def test_prior_and_exploration_follow_their_schedules():
    config = AIRConfig(
        prior=PriorConfig(count_ratio=1.0, final_count_ratio=1e-4, anneal_from=0.25, anneal_to=0.75),
        network=air.NetworkConfig(image_shape=(1, 8, 8), glimpse_size=4),
        exploration=0.2,
        exploration_end=0.5,
        training=TrainingConfig(steps=100),
    )
    programs = build(config)
    hooks = air.annealing(config, programs)
    ratios, explorations = [], []
    for step in (0, 25, 50, 75, 99):
        for hook in hooks:
            hook(step)
        ratios.append(programs.model.count_prior.log_ratio.exp().item())
        explorations.append(programs.guide.exploration.item())
    assert ratios == pytest.approx([1.0, 1.0, 1e-2, 1e-4, 1e-4], rel=1e-4)
    assert explorations == pytest.approx([0.2, 0.1, 0.0, 0.0, 0.0])


@pytest.mark.parametrize(("capture", "first"), [(False, 7), (True, 0)])
def test_objects_are_sketched_in_the_last_part_of_training(capture: bool, first: int):
    """A step that is recorded cannot begin to."""
    network = air.NetworkConfig(image_shape=(1, 20, 20), discovery="evidence", sketch_from=0.7)
    config = AIRConfig(network=network, training=TrainingConfig(steps=10, capture=capture))
    programs = build(config)
    assert not programs.guide.discovery.sketch_early
    for step in range(10):
        for hook in air.annealing(config, programs):
            hook(step)
        assert programs.guide.discovery.sketch_early == (step >= first)


def test_presets_are_the_papers_where_they_say_so():
    eslami = air.PRESETS["eslami"]
    assert (eslami.estimator, eslami.learning_rate, eslami.prior.final_count_ratio) == ("nvil", 1e-4, 1e-7)
    steps = eslami.training.steps
    assert round(eslami.prior.anneal_to * steps) == 100_000
    assert air.PRESETS["multi-mnist"].data == DataConfig(source="mnist")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--estimator", "vimco"], "set `particles` to 2 or more"),
        (["--continuous", "dreg"], "is for `estimator` vimco, ovis, sqair_code, got marginal"),
        (
            ["--estimator", "exact"],
            "expected one of marginal, vimco, ovis, nvil, reinforce, wake_sleep, sqair_code, got 'exact'",
        ),
        (["--device", "cuda"], "there is no GPU"),
        (["--data.source", "nowhere"], "nowhere` is neither `glyphs`, `mnist`, nor the path"),
        (["--batch-size", "0"], "`batch_size` must be positive"),
    ],
)
def test_mistakes_are_one_line(train, tmp_path: Path, capsys, arguments: list[str], message: str):
    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    code = train(tmp_path, *arguments)
    error = capsys.readouterr().err
    assert code == 2
    assert message in error
    assert error.count("\n") == 1


def test_an_existing_run_is_neither_overwritten_nor_resumed_under_another_configuration(
    train, tmp_path: Path, capsys
):
    train(tmp_path)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    assert train(tmp_path) == 2
    assert "earlier run" in capsys.readouterr().err
    assert train(tmp_path, "--resume", "--prior.likelihood-scale=0.2") == 2
    assert "`prior.likelihood_scale` was 0.3 and is now 0.2" in capsys.readouterr().err
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_a_corrupt_or_foreign_checkpoint_is_one_line(train, tmp_path: Path, capsys):
    train(tmp_path)
    good = (tmp_path / "checkpoint.pt").read_bytes()
    (tmp_path / "checkpoint.pt").write_bytes(good[: len(good) // 2])
    assert run("evaluate", "--checkpoint", tmp_path / "checkpoint.pt") == 2
    assert "truncated" in capsys.readouterr().err
    assert run("sample", "--checkpoint", tmp_path / "absent.pt") == 2
    assert "there is no checkpoint" in capsys.readouterr().err


def test_without_a_command_usage_is_shown(capsys):
    assert main([]) == 2
    assert "usage: whatwhere-air {train,evaluate,detect,sample}" in capsys.readouterr().err
    assert main(["--help"]) == 0


def test_two_processes_train_together_and_one_continues(tmp_path: Path, images: Path):
    """The same command line under torchrun; the checkpoint fits one process and many."""
    options = ["train", "--output", str(tmp_path), "--data.source", str(images), *SMALL]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    program = [*launcher, "-m", "whatwhere.examples.air", *options, "--training.steps=3"]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("completed after step 3") == 1
    assert load_checkpoint(tmp_path / "checkpoint.pt").step == 3
    assert main([*options, "--resume", "--training.steps=5"]) == 0
    assert load_checkpoint(tmp_path / "checkpoint.pt").step == 5


@pytest.mark.slow
def test_the_demo_counts_glyphs(tmp_path: Path):
    assert run("train", "--preset=demo", "--output", tmp_path) == 0
    assert json.loads((tmp_path / "metrics.json").read_text())["counting"]["accuracy"] >= 0.95


def test_minimal_svi_runs(capsys):
    accuracy = minimal_svi.main(steps=2, batch_size=4, images=8)
    assert 0 <= accuracy <= 1
    assert "bound" in capsys.readouterr().out


def test_pictures_show_images_that_are_not_empty_where_that_is_known():
    video = np.zeros((4, 1, 1, 8, 8), dtype=np.uint8)
    counts = np.array([[0], [2], [0], [1]])
    assert with_objects(VideoData(video, count=counts), 10) == [1, 3]
    assert with_objects(VideoData(video, count=counts), 1) == [1]
    assert with_objects(VideoData(video, count=counts * 0), 3) == [0, 1, 2]
    assert with_objects(VideoData(video), 2) == [0, 1]
