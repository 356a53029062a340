"""Minutes to a quality are counted over all stages, up to the first evaluation that has it."""

import json
from pathlib import Path

import pytest

from whatwhere.benchmarks.minutes_to import main, minutes_to


def write_log(folder: Path, *rows: tuple[float, float | None]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for step, (seconds, bound) in enumerate(rows, start=1):
        record = {"step": step, "event": "train" if bound is None else "evaluation", "seconds": seconds}
        lines.append(json.dumps(record if bound is None else {**record, "bound_per_frame": bound}))
    (folder / "log.jsonl").write_text("\n".join(lines) + "\n")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two minutes of finding, three of tracking with a bound, one of training proper."""
    folder = tmp_path / "run"
    write_log(folder / "stages" / "frames", (60.0, None), (120.0, None))
    write_log(folder / "stages" / "held", (60.0, 50.0), (120.0, 70.0), (180.0, 65.0))
    write_log(folder, (30.0, 72.0), (60.0, 71.0))
    return folder


@pytest.mark.parametrize(
    ("value", "expected"),
    [(700.0, (4.0, 700.0, "held")), (710.0, (5.5, 720.0, "")), (900.0, (5.5, 720.0, ""))],
)
def test_stages_before_count(run: Path, value: float, expected: tuple[float, float, str]):
    assert minutes_to(run, value, frames=10) == expected


def test_it_says_what_was_not_reached(run: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["--runs", str(run), "--value", "710"]) == 0
    assert "reached 720.0 after 5.5 minutes, in the training proper" in capsys.readouterr().out
    assert main(["--runs", str(run), "--value", "900"]) == 0
    assert "not reached, best 720.0" in capsys.readouterr().out


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["--runs", str(tmp_path / "none")]) == 2
    assert "no folder" in capsys.readouterr().err
