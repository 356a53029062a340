from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from whatwhere.inference.training import (
    CheckpointError,
    Stage,
    Trainer,
    TrainingConfig,
    load_checkpoint,
    make_optimizer,
    run_stages,
)


class Said(NamedTuple):
    bound: Tensor


class Pull(nn.Module):
    """Draws a weight towards a place, with noise, so that random numbers and the optimiser's state matter."""

    def __init__(self, weight: nn.Module, place: float) -> None:
        super().__init__()
        self.weight, self.place = weight, place

    def forward(self) -> tuple[Tensor, Said]:
        weight = next(self.weight.parameters())
        loss = (weight - self.place - torch.randn_like(weight)).square().sum()
        return loss, Said(-loss.detach())


def stages(folder: Path, lengths: tuple[int, ...], stop: tuple[int, int] | None = None) -> Any:
    """Stages of these lengths on one module; `stop` interrupts stage i after a step, as a kill does."""
    torch.manual_seed(0)
    module = nn.Linear(3, 1, bias=False)

    def make(i: int) -> Trainer:
        objective = Pull(module, float(i))

        def batches(step: int) -> tuple[()]:
            if stop == (i, step):
                raise KeyboardInterrupt
            return ()

        return Trainer(
            objective,
            make_optimizer("adam", objective.parameters(), lr=0.1),
            batches,
            TrainingConfig(steps=lengths[i], seed=i, checkpoint_every=1, clip_factor=1.5, progress=False),
            folder=folder / str(i),
            modules={"model": module},
        )

    return module, [Stage(str(i), lambda i=i: make(i)) for i in range(len(lengths))]


LENGTHS = 3, 4, 2


@pytest.mark.parametrize("stop", [(0, 1), (1, 0), (1, 2), (2, 1)])
def test_a_killed_run_goes_on_bit_for_bit_whichever_stage_it_was_in(tmp_path, stop):
    straight, every = stages(tmp_path / "straight", LENGTHS)
    run_stages(every, announce=lambda line: None)
    _, every = stages(tmp_path / "parts", LENGTHS, stop)
    with pytest.raises(KeyboardInterrupt):
        run_stages(every, announce=lambda line: None)
    resumed, every = stages(tmp_path / "parts", LENGTHS)
    result = run_stages(every, resume=True, announce=lambda line: None)
    assert torch.equal(straight.weight, resumed.weight)
    assert (result.step, result.reason) == (LENGTHS[-1], "completed")
    for i, length in enumerate(LENGTHS):
        first, second = (
            load_checkpoint(tmp_path / name / f"{i}/checkpoint.pt") for name in ("straight", "parts")
        )
        assert first.step == second.step == length
        assert torch.equal(first.modules["model"]["weight"], second.modules["model"]["weight"])
        assert torch.equal(first.progress["clip"], second.progress["clip"])


def test_a_finished_run_takes_no_step_when_it_is_resumed(tmp_path):
    trained, every = stages(tmp_path, LENGTHS)
    run_stages(every, announce=lambda line: None)
    again, every = stages(tmp_path, LENGTHS, stop=(0, 0))
    lines: list[str] = []
    run_stages(every, resume=True, announce=lines.append)
    assert torch.equal(trained.weight, again.weight)
    assert [line.partition(" after")[0] for line in lines] == [f"{i}: completed" for i in range(3)]


def test_a_stage_that_is_stopped_stops_the_run(tmp_path):
    _, every = stages(tmp_path, LENGTHS)
    make = every[1].make

    def out_of_time() -> Trainer:
        trainer = make()
        trainer.config = TrainingConfig(steps=4, max_minutes=1e-9, progress=False)
        return trainer

    every[1] = every[1]._replace(make=out_of_time)
    result = run_stages(every, announce=lambda line: None)
    assert (result.reason, result.step) == ("out of time", 1)
    assert not (tmp_path / "2").exists()


def test_checkpoints_of_an_earlier_run_are_not_overwritten(tmp_path):
    _, every = stages(tmp_path, LENGTHS)
    run_stages(every, announce=lambda line: None)
    with pytest.raises(CheckpointError, match="checkpoint of an earlier run"):
        run_stages(stages(tmp_path, LENGTHS)[1], announce=lambda line: None)


def test_no_stages_are_an_error():
    with pytest.raises(ValueError, match="at least one"):
        run_stages([])
