import json

import pyro
import pytest

from whatwhere.benchmarks import recorded


def test_report_is_complete_and_json():
    """Without a GPU steps are measured as they are."""
    config = recorded.RecordedBenchmark(
        models=("AIR", "VRNN"), images=2, videos=2, frames=2, rounds=2, warmup=0, device="cpu"
    )
    with pyro.validation_enabled(True):  # restores what the benchmark turns off
        report = json.loads(json.dumps(recorded.run(config), allow_nan=False))
    contenders = [name for result in report["results"].values() for name in result["contenders"]]
    assert contenders == ["AIR", "VRNN"]
    assert len(recorded.table(report).splitlines()) == 4


def test_a_table_says_how_many_times_as_fast():
    spread = {"median": 2.0, "lower": 1.0, "upper": 3.0}
    fields = {"wall_ms": spread, "wall_ratio": {**spread, "median": 0.125}}
    shown = recorded.table({"results": {"AIR": {"contenders": {"AIR, recorded": fields}}}})
    assert shown.splitlines()[-1].split("|")[-2].strip() == "8.0"


def test_models_are_known():
    with pytest.raises(ValueError, match="`models`"):
        recorded.RecordedBenchmark(models=("AIR", "RATM"))
