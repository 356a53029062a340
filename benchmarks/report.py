"""The form in which measurements are kept and shown: a JSON file and a Markdown table."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from whatwhere.files import atomic_write
from whatwhere.inference.training import parse_config

from .harness import Measurement


def timing_fields(measurement: Measurement, name: str, baseline: str | None = None) -> dict[str, Any]:
    """Return the times of a contender in milliseconds, and its ratios to a baseline, for a report."""
    fields: dict[str, Any] = {}
    for clock in ("wall", "cpu"):
        times = measurement.times(name, clock)
        fields[f"{clock}_ms"] = {key: 1e3 * value for key, value in times._asdict().items()}
    fields["per_second"] = 1e3 / fields["wall_ms"]["median"]
    if baseline is not None and baseline != name:
        fields["baseline"] = baseline
        fields["cpu_ratio"] = measurement.ratio(name, baseline, "cpu")._asdict()
        fields["wall_ratio"] = measurement.ratio(name, baseline, "wall")._asdict()
    return fields


def conditions(measurement: Measurement) -> dict[str, Any]:
    """Return the state of the machine in a run, for a report."""
    return {
        "idle_share_before": measurement.idle,
        "matmul_gflops_wall": measurement.matmul_gflops("wall"),
        "matmul_gflops_cpu": measurement.matmul_gflops("cpu"),
        "rounds": len(measurement.matmul.wall),
    }


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """Write a report as JSON, atomically.

    Raises:
        ValueError: a number is not finite, which JSON does not know.
    """
    text = json.dumps(report, indent=2, allow_nan=False) + "\n"
    with atomic_write(path) as file:
        file.write(text.encode())


def run_benchmark(
    prog: str,
    kind: type[Any],
    run: Callable[[Any], dict[str, Any]],
    *shown: Callable[[dict[str, Any]], str],
) -> None:
    """Run a benchmark from the command line: print what is shown of its report, and keep it in `output`.

    Args:
        prog: its name, as in `python -m prog`.
        kind: class of its options, with an `output`.
        run: from the options to the report.
        shown: each from the report to a text, which may be empty.
    """
    config = parse_config(kind, prog=prog)
    report = run(config)
    print(*filter(None, (show(report) for show in shown)), sep="\n\n")
    if config.output is not None:
        write_report(config.output, report)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table: the first column to the left, the others to the right.

    Raises:
        ValueError: a row has not as many cells as the header.
    """
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"expected {len(header)} cells, got {len(row)}: {list(row)}")
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        first, *others = (
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "| " + " | ".join([first, *others]) + " |"

    rule = (
        "|" + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    )
    return "\n".join([line(header), rule, *map(line, rows)])


def milliseconds(fields: Mapping[str, float]) -> str:
    """Show a spread: median and quartiles."""
    return f"{fields['median']:.2f} ({fields['lower']:.2f}-{fields['upper']:.2f})"


def percent_over(ratio: Mapping[str, float]) -> str:
    """Show a ratio to the baseline as a difference in percent, with quartiles."""
    median, lower, upper = (100 * (ratio[key] - 1) for key in ("median", "lower", "upper"))
    return f"{median:+.1f} % ({lower:+.1f} .. {upper:+.1f})"


def passes_table(report: Mapping[str, Any]) -> str:
    """Show what was measured of implementations of one operation, by case and pass, as Markdown.

    Args:
        report: has `results`: by case and pass the `contenders` by name, of which the one in use has no
            `baseline`.
    """
    rows = []
    for case, passes in report["results"].items():
        for name, result in passes.items():
            for key, fields in result["contenders"].items():
                used = "baseline" not in fields
                cells = [f"{case}, {name}: {key}{' (used)' if used else ''}"]
                cells += [milliseconds(fields["cpu_ms"]), milliseconds(fields["wall_ms"])]
                cells += ["" if used else percent_over(fields["cpu_ratio"])]
                cells += [f"{fields['saved_bytes'] / 1e6:.2f}" if "saved_bytes" in fields else ""]
                rows.append(cells)
    return markdown_table(["", "CPU ms", "wall ms", "CPU over the one used", "saved MB"], rows)
