"""What comes with the package is as good as is said, on a small part of what that was measured on."""

import json
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from whatwhere.examples import glimpse_clouds, hart, ratm, sqair, zoo
from whatwhere.examples.zoo import Packaged, packaged

PAGE = Path(__file__).parents[2] / "docs/zoo.md"


class Small(NamedTuple):
    """A small evaluation of a checkpoint, and the number of it that is known of a large one."""

    main: Callable[[Sequence[str]], int]
    options: list[str]
    number: str
    known: str
    within: float


CLUTTER = ["--data=clutter", "--difficulty=0.3", "--videos=6", "--frames=20"]
VIDEOS = ["--videos=12", "--particles=1", "--iwae-videos=1", "--iwae-particles=1"]
EVALUATIONS = {
    "glimpse-clouds-mnist": Small(
        glimpse_clouds.main, ["--videos=100"], "accuracy", "held_out.accuracy", 0.06
    ),
    "ratm-balls": Small(ratm.main, ["--videos=100", "--frames=32"], "iou", "held_out.iou", 0.02),
    "hart-video": Small(hart.main, CLUTTER, "iou", "clutter_200_clips_iou.0.3", 0.05),
    "sqair-glyphs": Small(sqair.main, VIDEOS, "counting.accuracy", "held_out.counting.accuracy", 0.1),
    "sqair-mnist": Small(sqair.main, VIDEOS, "counting.accuracy", "held_out.counting.accuracy", 0.1),
    "sqair-sprites": Small(
        sqair.main, [*VIDEOS, "--frames=10"], "counting.accuracy", "held_out.counting.accuracy", 0.1
    ),
}
"""`within` is some three standard errors of the small part."""


def number(facts: dict[str, Any], path: str) -> float:
    """The number under a dotted name, whose parts may have dots too."""
    for key, value in facts.items():
        if path == key:
            assert math.isfinite(value)
            return float(value)
        if path.startswith(f"{key}."):
            return number(value, path.removeprefix(f"{key}."))
    raise KeyError(path)


def named(checkpoint: Packaged) -> str:
    return checkpoint.name


@pytest.mark.parametrize("checkpoint", packaged(), ids=named)
def test_a_checkpoint_is_as_good_as_is_said(checkpoint: Packaged, tmp_path: Path):
    data = os.environ.get("WHATWHERE_DATA")
    if "mnist" in checkpoint.name and not (data and (Path(data) / "mnist").is_dir()):
        pytest.skip("needs MNIST in $WHATWHERE_DATA")
    small = EVALUATIONS[checkpoint.name]
    arguments = ["evaluate", f"--checkpoint={checkpoint.path}", f"--output={tmp_path}", *small.options]
    assert small.main(arguments) == 0
    measured = number(json.loads((tmp_path / "metrics.json").read_text()), small.number)
    assert measured == pytest.approx(number(checkpoint.facts, small.known), abs=small.within)


@pytest.mark.parametrize("checkpoint", packaged(), ids=named)
def test_a_checkpoint_is_the_file_that_its_facts_and_the_page_are_of(checkpoint: Packaged):
    assert checkpoint.intact
    page = " ".join(PAGE.read_text().replace("\\\n", " ").split())
    for fact in ("about", "result", "data", "time", "sha256", "licence"):
        assert " ".join(checkpoint.facts[fact].split()) in page, f"run docs/write_zoo.py: {fact}"
    for command in checkpoint.facts["commands"]:
        assert command in page, "run docs/write_zoo.py"
    assert f"{checkpoint.path.stat().st_size / 1e6:.2g} MB" in page


def test_readme_tells_what_is_packaged():
    known = {one.name: one.facts for one in packaged()}
    log_marginal = number(known["sqair-mnist"], "other_videos.log_marginal")
    otb, tld = (
        100 * number(known["hart-video"], f"{name}.auc") for name in ("otb_60_frames", "tld_60_frames")
    )
    readme = (PAGE.parents[1] / "README.md").read_text()
    assert f"log p(x) {log_marginal:.0f} on moving MNIST" in readme
    assert f"success AUC {otb:.1f} % and {tld:.1f} %" in readme


def test_a_damaged_file_is_told_of(tmp_path: Path, monkeypatch, capsys):
    checkpoint = packaged()[0]
    (tmp_path / f"{checkpoint.name}.json").write_text(json.dumps(checkpoint.facts))
    (tmp_path / f"{checkpoint.name}.pt").write_bytes(checkpoint.path.read_bytes()[:-1])
    monkeypatch.setattr(zoo, "FOLDER", tmp_path)
    assert zoo.main([]) == 1
    captured = capsys.readouterr()
    assert checkpoint.name in captured.out
    assert "is not the file that was packaged" in captured.err


def test_one_is_told_all_of(capsys):
    for checkpoint in packaged():
        assert zoo.main([checkpoint.name]) == 0
        told = capsys.readouterr().out
        assert all(command in told for command in checkpoint.facts["commands"])
        assert str(checkpoint.path) in told
    assert zoo.main(["none-of-this-name"]) == 2
