import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from whatwhere.benchmarks.harness import Measurement, Samples
from whatwhere.benchmarks.report import (
    conditions,
    markdown_table,
    milliseconds,
    percent_over,
    run_benchmark,
    timing_fields,
    write_report,
)

MEASUREMENT = Measurement(
    {
        "slow": Samples((0.02, 0.04, 0.06), (0.03, 0.03, 0.06)),
        "fast": Samples((0.01, 0.02, 0.03), (0.02, 0.02, 0.03)),
    },
    Samples((0.01, 0.01, 0.01), (0.01, 0.01, 0.01)),
    0.97,
)


def test_times_are_milliseconds_and_ratios_are_to_the_baseline():
    fields = timing_fields(MEASUREMENT, "slow", "fast")
    assert fields["wall_ms"] == pytest.approx({"median": 40, "lower": 30, "upper": 50, "minimum": 20})
    assert fields["per_second"] == pytest.approx(25)
    assert fields["wall_ratio"]["median"] == pytest.approx(2)
    assert fields["cpu_ratio"]["median"] == pytest.approx(1.5)
    assert fields["baseline"] == "fast"
    assert "cpu_ratio" not in timing_fields(MEASUREMENT, "fast", "fast")


def test_report_is_json(tmp_path):
    path = tmp_path / "new" / "report.json"
    report = {"conditions": conditions(MEASUREMENT), "slow": timing_fields(MEASUREMENT, "slow", "fast")}
    write_report(path, report)
    assert json.loads(path.read_text()) == report
    assert report["conditions"]["rounds"] == 3


def test_report_with_a_number_that_json_lacks_leaves_the_old_file(tmp_path):
    path = tmp_path / "report.json"
    write_report(path, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_report(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}


def test_table_is_markdown():
    assert markdown_table(["", "ms"], [["a step", "7"], ["b", "123.4"]]).splitlines() == [
        "|        |    ms |",
        "|--------|------:|",
        "| a step |     7 |",
        "| b      | 123.4 |",
    ]
    with pytest.raises(ValueError, match="expected 2 cells, got 1"):
        markdown_table(["", "ms"], [["a"]])


def test_numbers_are_shown_with_quartiles():
    assert milliseconds({"median": 1.234, "lower": 1.0, "upper": 2.0}) == "1.23 (1.00-2.00)"
    assert percent_over({"median": 1.115, "lower": 0.99, "upper": 1.2}) == "+11.5 % (-1.0 .. +20.0)"


@dataclass(frozen=True)
class Doubled:
    """Double a number."""

    number: int = 3
    output: Path | None = None


def test_a_benchmark_is_run_shown_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "doubled.json"
    monkeypatch.setattr("sys.argv", ["doubled", "--number", "4", "--output", str(path)])
    shown = [lambda report: f"twice is {report['twice']}", lambda report: "", lambda report: "the end"]
    run_benchmark("doubled", Doubled, lambda config: {"twice": 2 * config.number}, *shown)
    assert capsys.readouterr().out == "twice is 8\n\nthe end\n"
    assert json.loads(path.read_text()) == {"twice": 8}
    monkeypatch.setattr("sys.argv", ["doubled"])
    path.unlink()
    run_benchmark("doubled", Doubled, lambda config: {}, lambda report: "nothing is kept")
    assert not path.exists()
