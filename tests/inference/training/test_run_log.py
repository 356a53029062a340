import builtins
import json
import math
import shutil

import pytest

from whatwhere.inference.training import LogError, read_log
from whatwhere.inference.training.run_log import EvaluationLines, JSONLog, TensorBoardLog


def write(path, *steps, resumed=0, **values):
    log = JSONLog(path, resumed)
    for step in steps:
        log.write(step, "train", 1.23456 * step, {"loss": 0.5 * step, **values})
    log.sync()
    log.close()


def test_one_json_object_a_line(tmp_path):
    path = tmp_path / "folder" / "log.jsonl"
    write(path, 1, 2)
    lines = path.read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"step": 1, "event": "train", "seconds": 1.235, "loss": 0.5},
        {"step": 2, "event": "train", "seconds": 2.469, "loss": 1.0},
    ]
    assert read_log(path) == [json.loads(line) for line in lines]


def test_lines_can_be_read_as_soon_as_they_are_written(tmp_path):
    log = JSONLog(tmp_path / "log.jsonl")
    log.write(1, "evaluation", 0.0, {"accuracy": 0.5})
    assert [line["accuracy"] for line in read_log(tmp_path / "log.jsonl")] == [0.5]
    log.close()


def test_numbers_that_are_not_finite_are_null(tmp_path):
    path = tmp_path / "log.jsonl"
    write(path, 1, bad=math.nan, worse=-math.inf)
    assert "NaN" not in path.read_text()
    assert read_log(path)[0]["bad"] is None
    assert read_log(path)[0]["worse"] is None


def test_resuming_drops_later_lines_only(tmp_path):
    path = tmp_path / "log.jsonl"
    write(path, 2, 4, 6, 8)
    write(path, 6, 10, resumed=4, again=1.0)
    assert [(line["step"], "again" in line) for line in read_log(path)] == [
        (2, False),
        (4, False),
        (6, True),
        (10, True),
    ]


def test_new_run_starts_an_empty_log(tmp_path):
    path = tmp_path / "log.jsonl"
    write(path, 2, 4)
    write(path, 3)
    assert [line["step"] for line in read_log(path)] == [3]


def test_line_cut_off_by_a_kill_is_dropped(tmp_path):
    path = tmp_path / "log.jsonl"
    write(path, 2, 4)
    whole = path.read_bytes()
    for end in range(whole.index(b"\n") + 1, len(whole)):
        path.write_bytes(whole[:end])
        assert [line["step"] for line in read_log(path)] == [2]
        write(path, 6, resumed=4)
        assert [line["step"] for line in read_log(path)] == [2, 6]


@pytest.mark.parametrize("line", ["not json", "[1, 2]", '{"loss": 1}', ""])
def test_line_of_another_form_is_named(tmp_path, line):
    path = tmp_path / "log.jsonl"
    write(path, 2)
    with open(path, "a") as file:
        file.write(line + "\n")
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"line 2 of `.*log\.jsonl` is not a JSON object with a `step`"):
        read_log(path)
    with pytest.raises(ValueError, match="line 2"):
        JSONLog(path, 2)
    assert path.read_bytes() == before


def test_events_can_be_chosen(tmp_path):
    path = tmp_path / "log.jsonl"
    log = JSONLog(path)
    log.write(1, "train", 0.0, {"loss": 1.0})
    log.write(1, "evaluation", 0.0, {"accuracy": 1.0})
    log.close()
    assert [line["event"] for line in read_log(path)] == ["train", "evaluation"]
    assert [line["accuracy"] for line in read_log(path, "evaluation")] == [1.0]


def test_tensorboard_curves_hold_the_numbers(tmp_path):
    pytest.importorskip("tensorboard")
    log = TensorBoardLog(tmp_path)
    log.write(3, "train", 0.0, {"loss": 0.25})
    log.sync()
    log.close()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(point.step, point.value) for point in events.Scalars("train/loss")] == [(3, 0.25)]


def test_missing_tensorboard_is_said_when_it_is_asked_for(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith(("tensorboard", "torch.utils.tensorboard")):
            raise ModuleNotFoundError(f"No module named '{name}'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(RuntimeError, match=r"pip install 'whatwhere\[logging\]'"):
        TensorBoardLog(tmp_path)


@pytest.mark.parametrize("damage", ["removed", "renamed", "replaced", "folder removed", "folder renamed"])
@pytest.mark.parametrize("action", ["write", "sync"])
def test_a_log_that_is_taken_away_is_written_anew_with_all_lines(tmp_path, damage, action):
    path = tmp_path / "run" / "log.jsonl"
    log = JSONLog(path)
    log.write(1, "train", 0.0, {"loss": 1.0})
    if damage == "removed":
        path.unlink()
    elif damage == "renamed":
        path.rename(tmp_path / "elsewhere")
    elif damage == "replaced":
        (tmp_path / "other").write_text("other")
        (tmp_path / "other").replace(path)
    elif damage == "folder removed":
        shutil.rmtree(path.parent)
    else:
        path.parent.rename(tmp_path / "renamed")
    with pytest.warns(RuntimeWarning, match="was removed, renamed or replaced while it is written"):
        log.sync() if action == "sync" else log.write(2, "train", 0.0, {"loss": 2.0})
    log.write(3, "train", 0.0, {"loss": 3.0})
    log.close()
    assert [line["step"] for line in read_log(path)] == ([1, 3] if action == "sync" else [1, 2, 3])


def test_a_line_of_nothing_is_named(tmp_path):
    path = tmp_path / "log.jsonl"
    write(path, 1, 2)
    path.write_bytes(path.read_bytes() + b"\0" * 100 + b"\n" + b'{"step": 3}\n')
    with pytest.raises(LogError, match=rf"^line 3 of `{path}` is not a JSON object"):
        JSONLog(path, 3)
    path.write_bytes(b"[" * 100_000 + b"\n")
    with pytest.raises(LogError, match="line 1 of"):
        read_log(path)


def test_an_evaluation_is_a_printed_line(capsys):
    lines = EvaluationLines()
    lines.write(10, "train", 1.0, {"loss": 1.0})
    lines.write(500, "evaluation", 61.4, {"accuracy": 0.98765, "bound": -1234.5})
    lines.sync()
    lines.close()
    assert capsys.readouterr().out == "step 500, 61 s: accuracy 0.9877, bound -1234\n"
