"""Runs that are killed and interrupted end like those that are not, see `kills`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that share what is imported")


def disturbed(program: str, kills: int) -> None:
    script = Path(__file__).with_name("kills.py")
    done = subprocess.run(
        [sys.executable, str(script), f"--kills={kills}", "--programs", program],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert sum(result[name] for name in ("SIGKILL", "SIGINT", "SIGTERM")) == kills
    assert len(result["after steps"]) > 1, "no run was disturbed after its first step"


def test_a_disturbed_run_ends_like_an_undisturbed_one():
    disturbed("air", 4)


@pytest.mark.slow
@pytest.mark.parametrize("program", ["air", "sqair", "vrnn", "ratm", "hart"])
def test_every_program_survives_twenty_disturbances(program: str):
    disturbed(program, 20)
