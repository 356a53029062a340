import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from whatwhere.inference.training import (
    Process,
    Trainer,
    TrainingConfig,
    join_processes,
    load_checkpoint,
    make_optimizer,
    read_log,
    select_device,
)
from whatwhere.inference.training.checkpoint import module_states  # noqa: F401 - the program's
from whatwhere.inference.training.distributed import unwrap

# Two processes and one run the same code: this file is imported by both.
STEPS = 10


class Diagnostics(NamedTuple):
    bound: Tensor


class Regression(nn.Module):
    """A mean over the batch without random numbers; a NaN input makes the loss NaN, but no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Linear(3, 2)
        self.guide = nn.Linear(2, 1, bias=False)
        with torch.no_grad():
            for i, parameter in enumerate(self.parameters()):
                parameter.copy_(torch.sin(torch.arange(parameter.numel()) + float(i)).view_as(parameter))

    def forward(self, inputs: Tensor) -> tuple[Tensor, Diagnostics]:
        spoilt = 0.0 * inputs.sum()
        inputs = inputs.nan_to_num()
        errors = (self.guide(torch.tanh(self.model(inputs))) - inputs.sum(1, keepdim=True)).square()
        return errors.mean() + spoilt, Diagnostics(-errors.mean())


def make_trainer(
    folder: Path, steps: int, process: Process, bad: tuple[int, ...] = (), **options: Any
) -> Trainer:
    """Train on this process's part of global batches of six; the last process's part is spoilt in steps
    `bad`.
    """

    def batches(step: int) -> tuple[Tensor]:
        batch = torch.cos(torch.arange(18.0) * (step + 1)).view(6, 3)
        part = batch.chunk(process.world_size)[process.rank].clone()
        if step in bad and process.rank == process.world_size - 1:
            part[0] = float("nan")
        return (part,)

    objective = Regression()
    optimizer = make_optimizer("adam", objective.parameters(), lr=0.05)
    config = TrainingConfig(
        steps=steps, log_every=2, evaluate_every=5, checkpoint_every=4, clip_norm=1.0, progress=False
    )

    def evaluate(step: int) -> dict[str, float]:
        return {"rank": float(process.rank), "noise": float(torch.rand(()))}

    return Trainer(
        objective,
        optimizer,
        batches,
        config,
        # Another folder in each process shows who writes.
        folder=folder if process.is_main else folder.with_name(f"{folder.name}-{process.rank}"),
        evaluate=evaluate,
        process=process,
        **options,
    )


def interrupt_last(process: Process, step: int) -> None:
    if step == 3 and process.rank == process.world_size - 1:
        os.kill(os.getpid(), signal.SIGTERM)


PROGRAM = textwrap.dedent(
    """
    import functools, importlib.util, json, os, sys
    from pathlib import Path
    import torch

    spec = importlib.util.spec_from_file_location("program", sys.argv[1])
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    folder = Path(sys.argv[2])
    # As torchrun starts two processes, but importing everything once.
    child = os.fork()
    rank = 0 if child else 1
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1")
    with program.join_processes("cpu") as process:
        assert process.world_size == 2
        program.make_trainer(folder / "two", program.STEPS, process).run()
        program.make_trainer(folder / "two-then-one", 5, process).run()
        trainer = program.make_trainer(folder / "one-then-two", program.STEPS, process)
        trainer.resume(folder / "one-then-two" / "checkpoint.pt")
        trainer.run()
        wrapped = process.wrap(trainer.objective)
        assert wrapped is not trainer.objective
        states = program.module_states({"objective": wrapped})["objective"]
        assert states.keys() == trainer.objective.state_dict().keys()
        program.make_trainer(folder / "bad", program.STEPS, process, bad=(2, 7)).run()
        interrupt = functools.partial(program.interrupt_last, process)
        result = program.make_trainer(folder / "stopped", program.STEPS, process, on_step=[interrupt]).run()
        text = json.dumps([result.step, result.reason, result.signal])
        (folder / f"result-{process.rank}.json").write_text(text)
        flags = process.any([process.rank == 1, False])
        assert flags == [True, False]
        assert process.mean({"rank": float(process.rank)}) == {"rank": 0.5}
    assert not torch.distributed.is_initialized()
    if child:
        sys.exit(os.waitpid(child, 0)[1] != 0)
    """
)


def run_alone(folder: Path, steps: int, resume: bool = False, **options: Any) -> Trainer:
    with join_processes("cpu") as process:
        trainer = make_trainer(folder, steps, process, **options)
        if resume:
            trainer.resume()
        trainer.run()
    return trainer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("runs")
    run_alone(folder / "one", STEPS)
    run_alone(folder / "one-then-two", 5)
    script = folder / "program.py"
    script.write_text(PROGRAM)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    done = subprocess.run(
        [sys.executable, str(script), __file__, str(folder)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MASTER_PORT": port},
    )
    assert done.returncode == 0, done.stderr
    return folder


def assert_same_parameters(first: Path, second: Path) -> None:
    a, b = load_checkpoint(first / "checkpoint.pt"), load_checkpoint(second / "checkpoint.pt")
    assert a.step == b.step == STEPS
    for name in ("model", "guide"):
        assert a.modules[name].keys() == b.modules[name].keys()
        for key, value in a.modules[name].items():
            torch.testing.assert_close(value, b.modules[name][key], rtol=1e-5, atol=1e-6)


def test_two_processes_take_the_steps_of_one(folder):
    assert_same_parameters(folder / "one", folder / "two")


def test_run_of_two_processes_continues_in_one(folder):
    run_alone(folder / "two-then-one", STEPS, resume=True)
    assert_same_parameters(folder / "one", folder / "two-then-one")


def test_run_of_one_process_continues_in_two(folder):
    assert_same_parameters(folder / "one", folder / "one-then-two")


@pytest.mark.parametrize("name", ["two", "two-then-one", "one-then-two"])
def test_logged_numbers_are_means_over_processes(folder, name):
    if name == "two-then-one" and load_checkpoint(folder / name / "checkpoint.pt").step < STEPS:
        run_alone(folder / name, STEPS, resume=True)
    one, other = (read_log(folder / n / "log.jsonl", "train") for n in ("one", name))
    assert [line["step"] for line in one] == [line["step"] for line in other] == [2, 4, 6, 8, 10]
    for key in ("loss", "bound", "gradient_norm"):
        assert [line[key] for line in other] == pytest.approx([line[key] for line in one], rel=1e-5)


def test_evaluations_are_averaged_and_ranks_draw_different_numbers(folder):
    alone, together = (read_log(folder / name / "log.jsonl", "evaluation") for name in ("one", "two"))
    assert [line["rank"] for line in alone] == [0.0, 0.0]
    assert [line["rank"] for line in together] == [0.5, 0.5]
    assert alone[0]["noise"] != together[0]["noise"]


def test_only_the_main_process_writes(folder):
    assert (folder / "two" / "log.jsonl").exists()
    assert not list(folder.glob("*-1"))


def test_spoilt_part_of_one_process_is_skipped_by_both(folder):
    run_alone(folder / "bad-alone", STEPS, bad=(2, 7))
    assert_same_parameters(folder / "bad-alone", folder / "bad")
    assert [line["skipped"] for line in read_log(folder / "bad" / "log.jsonl", "train")] == [0, 1, 1, 2, 2]


def test_signal_to_one_process_stops_both_after_the_same_step(folder):
    results = [json.loads((folder / f"result-{rank}.json").read_text()) for rank in (0, 1)]
    assert results == [[4, "interrupted", None], [4, "interrupted", signal.SIGTERM]]
    assert load_checkpoint(folder / "stopped" / "checkpoint.pt").step == 4


def test_process_alone_does_nothing_to_an_objective_or_to_numbers():
    process = Process(torch.device("cpu"))
    objective = Regression()
    assert process.is_main
    assert process.wrap(objective) is objective is unwrap(objective)
    assert process.any([True, False]) == [True, False]
    assert process.mean({"a": 2.0}) == {"a": 2.0}
    assert process.sum_(torch.tensor(3.0)) == 3.0


def test_device_is_chosen_by_name(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert select_device("cpu") == select_device("auto") == torch.device("cpu")
    for name in ("cuda", "cuda:1"):
        with pytest.raises(RuntimeError, match=f"`device` is '{name}', but there is no GPU .*use 'cpu'"):
            select_device(name)
    for name in ("gpu", "cuda:", "cuda:x", ""):
        with pytest.raises(ValueError, match=f"'cpu', 'cuda', 'cuda:N' or 'auto', got '{name}'"):
            select_device(name)


def test_gpu_is_that_of_the_local_rank(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert select_device("auto") == select_device("cuda") == torch.device("cuda:0")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert select_device("cuda") == torch.device("cuda:1")
    assert select_device("cuda:0") == torch.device("cuda:0")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(RuntimeError, match="this process needs GPU 2, but there are 2 GPUs"):
        select_device("cuda")


def test_half_of_the_environment_is_an_error(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(RuntimeError, match="`RANK` is set without its partner"), join_processes("cpu"):
        pass
