"""Kills and interrupts runs of training programs at random moments, and resumes them.

    python tests/examples/kills.py --kills 20 --seed 0 --programs air sqair vrnn ratm hart

A run that was disturbed as often as it takes must end with the checkpoint and the log of one that was not; on
the way every checkpoint and log must be whole, and what a signal ends must say so in a line. Prints a line of
JSON for each program.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from whatwhere.datasets import (
    MovingDigits,
    MovingDigitsRecipe,
    PyroRecipe,
    compose,
    make_glyphs,
    save_video,
)
from whatwhere.examples import air, hart, ratm, sqair, vrnn
from whatwhere.inference.training import load_checkpoint, read_log

STEPS = 12
EVERY = [
    *("--training.checkpoint-every=1", "--training.log-every=3", "--training.evaluate-every=4"),
    "--threads=1",
]
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
VIDEO = ["--batch-size=4", "--first-frames=2", "--frames=3", "--stage-steps=2", "--optimizer=adam"]
TRACKED = ["--batch-size=2", "--first-frames=3", "--frames=4", "--monitor-videos=2", "--data.train-videos=20"]
OPTIONS = {
    "air": [
        *("--batch-size=8", "--iwae-particles=2", "--network.rnn-hidden=16", "--network.head-hidden=8"),
        *("--network.encoder-hidden=8", "--network.decoder-hidden=8", "--network.what-size=4"),
        *("--network.glimpse-size=8", "--data.source={images}"),
    ],
    "sqair": [
        *VIDEO,
        *("--network.hidden=12", "--network.narrow=8", "--network.presence-hidden=8"),
        *("--network.what-size=4", "--network.glimpse-size=8", "--data.source={videos}"),
    ],
    "vrnn": [
        *VIDEO,
        *("--particles=2", "--network.hidden=12", "--network.recurrent=10", "--network.latent-size=4"),
        "--data.source={videos}",
    ],
    "ratm": ["--preset=balls", *TRACKED, "--data.test-videos=3", "--network.hidden=8"],
    "hart": [
        *("--preset=clutter", *TRACKED, "--stage-steps=2", "--test-frames=5", "--data.test-videos=3"),
        *("--data.image-size=40", "--network.glimpse-size=8", "--network.hidden=8"),
    ],
}
PROGRAMS = {"air": air.main, "sqair": sqair.main, "vrnn": vrnn.main, "ratm": ratm.main, "hart": hart.main}


class Ended(NamedTuple):
    """How a process ended."""

    code: int
    """Its exit code; of what a signal has killed, less the signal's number."""
    errors: str
    """What it wrote on standard error."""


def start(name: str, arguments: list[str], log: Path) -> int:
    """Run a program in a process that has everything imported, and return when it has begun."""
    ready, begun = os.pipe()
    child = os.fork()
    if child == 0:
        errors = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(errors, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.write(begun, b"x")
        os._exit(PROGRAMS[name](arguments))
    os.read(ready, 1)
    os.close(ready)
    os.close(begun)
    return child


def end(child: int, log: Path) -> Ended:
    status = os.waitpid(child, 0)[1]
    return Ended(os.waitstatus_to_exitcode(status), log.read_text())


def wait_for(path: Path, seconds: float = 60.0) -> None:
    """Return when there is a file, or so many seconds have passed."""
    until = time.monotonic() + seconds
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.001)


def check(folder: Path, ended: Ended, number: int | None) -> int:
    """See that an end is as it must be, and what it leaves is whole; return the steps of its checkpoint."""
    expected = {
        None: {0},
        signal.SIGKILL: {0, -signal.SIGKILL},
        signal.SIGINT: {0, 130},
        signal.SIGTERM: {0, 143, -signal.SIGTERM},  # before and after training nothing stands in its way
    }[number]
    assert ended.code in expected, ended
    assert "Traceback" not in ended.errors, ended
    assert ended.errors.count("\n") <= 1, ended
    path = folder / "checkpoint.pt"
    step = load_checkpoint(path).step if path.exists() else 0
    log = folder / "log.jsonl"
    steps = [line["step"] for line in read_log(log)] if log.exists() else []
    assert steps == sorted(steps), steps
    due = [s for s in range(1, step + 1) for every in (3, 4) if s % every == 0]
    assert [s for s in steps if s <= step] == due, (step, steps)
    return step


def flat(value: Any, name: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        return {k: v for key, part in value.items() for k, v in flat(part, f"{name}.{key}").items()}
    if isinstance(value, list | tuple):
        return {k: v for i, part in enumerate(value) for k, v in flat(part, f"{name}.{i}").items()}
    return {name: value}


def outcome(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What must not depend on disturbances: modules, optimiser, evaluation; the log but for its times."""
    checkpoint = load_checkpoint(folder / "checkpoint.pt")
    assert checkpoint.step == STEPS
    state = flat({"modules": checkpoint.modules, "optimizer": checkpoint.optimizer, "m": checkpoint.metrics})
    lines = [{k: v for k, v in line.items() if k != "seconds"} for line in read_log(folder / "log.jsonl")]
    return state, lines


def equal(first: Any, second: Any) -> bool:
    return torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second


def campaign(name: str, options: list[str], kills: int, rng: random.Random, folder: Path) -> dict[str, Any]:
    arguments = ["train", *options, *EVERY, f"--training.steps={STEPS}", "--resume", "--output"]
    log = folder / "errors"
    began = time.monotonic()
    ended = end(start(name, [*arguments, str(folder / "straight")], log), log)
    check(folder / "straight", ended, None)
    duration = time.monotonic() - began
    straight = outcome(folder / "straight")
    counts = {signal.Signals(number).name: 0 for number in set(SIGNALS)}
    rounds, where = 0, []
    while sum(counts.values()) < kills:
        run, disturbances = folder / f"run-{rounds}", 0
        while True:
            child = start(name, [*arguments, str(run)], log)
            number = rng.choice(SIGNALS)
            # Later and later, or a busy machine gets nowhere.
            time.sleep(rng.uniform(0.0, 0.5 * duration) * (1 + disturbances / 5))
            if sum(counts.values()) == kills - 1 and not any(where):
                wait_for(run / "checkpoint.pt")  # all before a first step would tell nothing
            os.kill(child, number)
            ended = end(child, log)
            step = check(run, ended, number)
            if ended.code == 0:
                break
            counts[signal.Signals(number).name] += 1
            disturbances += 1
            where.append(step)
            if disturbances >= 30 or sum(counts.values()) >= kills:
                check(run, end(start(name, [*arguments, str(run)], log), log), None)
                break
        state, lines = outcome(run)
        assert state.keys() == straight[0].keys()
        differing = [key for key in state if not equal(state[key], straight[0][key])]
        assert not differing, (name, rounds, differing[:5])
        assert lines == straight[1], (name, rounds)
        assert not (run / ".lock").exists()
        rounds += 1
        shutil.rmtree(run)
    return {"program": name, "runs": rounds, **counts, "after steps": np.bincount(where).tolist()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="of each program")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--programs", nargs="+", default=list(PROGRAMS), choices=list(PROGRAMS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    # A first step of an optimiser imports much; the processes share it.
    parameter = torch.nn.Parameter(torch.zeros(1))
    parameter.grad = torch.zeros(1)
    torch.optim.Adam([parameter]).step()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        glyphs = make_glyphs("test", 50, 0)
        images = compose(PyroRecipe(), glyphs, 40, 0)
        save_video(folder / "images.h5", images, generator="test", parameters={}, seed=0)
        moving = MovingDigits(MovingDigitsRecipe(image_size=40, frames=4), glyphs, 40, 0)
        save_video(folder / "videos.h5", moving.subset(range(40)), generator="test", parameters={}, seed=0)
        paths = {"images": folder / "images.h5", "videos": folder / "videos.h5"}
        for name in options.programs:
            arguments = [option.format(**paths) for option in OPTIONS[name]]
            (folder / name).mkdir()
            rng = random.Random(f"{name} {options.seed}")
            print(json.dumps(campaign(name, arguments, options.kills, rng, folder / name)), flush=True)


if __name__ == "__main__":
    sys.exit(main())
