import errno
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from whatwhere import checks
from whatwhere.checks import MissingPackageError
from whatwhere.datasets import DataError
from whatwhere.examples.common.launch import launch
from whatwhere.examples.common.program import (
    Command,
    RunConfig,
    UsageError,
    run_program,
    usage_errors,
)
from whatwhere.inference.training import CheckpointError, DeviceError, NonFiniteError, TrainingConfig


@dataclass(frozen=True)
class Inner:
    rate: float = 0.1

    def __post_init__(self) -> None:
        checks.positive(self, "rate")


@dataclass(frozen=True)
class Config(RunConfig):
    """Do nothing."""

    inner: Inner = Inner()
    """A group."""


@dataclass(frozen=True)
class Timed(RunConfig):
    """Do nothing for a time."""

    training: TrainingConfig = TrainingConfig()
    """A group."""


def program(work: Callable[[Config], int], *argv: str) -> int:
    return run_program("prog", "What it is.", {"do": Command(Config, work)}, ["do", *argv])


def never(config: Config) -> int:
    raise AssertionError("work started")


def fail(error: BaseException) -> Callable[[Config], int]:
    def work(config: Config) -> int:
        raise error

    return work


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("--device banana", "`device` must be 'cpu', 'cuda', 'cuda:N' or 'auto', got 'banana'"),
        ("--device mps", "`device` must be 'cpu', 'cuda', 'cuda:N' or 'auto', got 'mps'"),
        ("--device cuda:", "`device` must be 'cpu', 'cuda', 'cuda:N' or 'auto', got 'cuda:'"),
        ("--threads 0", "`threads` must be positive, got 0"),
        ("--inner.rate nan", "`inner.rate` must be positive and finite, got nan"),
        ("--inner.rate -1e-3", "`inner.rate` must be positive, got -0.001"),
        ("--inner.rate -inf", "`inner.rate` must be positive and finite, got -inf"),
        ("--output=", "option --output: expected a path, got ''"),
        ("--output=~nobody-of-this-name/x", "expected a path of a user who has a home"),
    ],
)
def test_a_configuration_is_checked_before_work_starts(
    capsys: pytest.CaptureFixture[str], argv: str, message: str
):
    assert program(never, *argv.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("prog do: error: ")
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "error",
    [
        UsageError("no\nline"),
        DataError("no\nline"),
        CheckpointError("no\nline"),
        NonFiniteError("no\nline"),
        DeviceError("no\nline"),
        MissingPackageError("no\nline"),
        OSError("no\nline"),
    ],
)
def test_a_mistake_of_the_user_is_one_line(capsys: pytest.CaptureFixture[str], error: Exception):
    assert program(fail(error)) == 2
    assert capsys.readouterr().err == "prog do: error: no line\n"


def test_a_lack_of_memory_is_one_line(capsys: pytest.CaptureFixture[str]):
    assert program(lambda config: int(torch.empty(2**60).sum())) == 2
    assert program(fail(MemoryError("Unable to allocate 8 EiB"))) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("prog do: error: not enough memory: ") for line in lines)


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes"), ValueError("shapes"), AssertionError(), KeyError(1)]
)
def test_an_internal_error_keeps_its_traceback_and_asks_for_a_report(
    capsys: pytest.CaptureFixture[str], error: Exception
):
    assert program(fail(error)) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-2].startswith(type(error).__name__)
    assert "please report it" in lines[-1]


def test_an_interruption_is_one_line(capsys: pytest.CaptureFixture[str]):
    assert program(fail(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "prog do: interrupted\n"


def test_what_does_not_fit_while_a_program_is_built_is_a_mistake_of_the_user():
    with pytest.raises(UsageError, match=r"^`size` is wrong$"), usage_errors():
        raise ValueError("`size` is wrong")
    with pytest.raises(DataError), usage_errors():
        raise DataError("file")
    with pytest.raises(RuntimeError), usage_errors():
        raise RuntimeError("shapes")


def test_paths_of_the_home_are_expanded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", "/somewhere")
    found = []
    assert program(lambda config: found.append(config.output) or 0, "--output=~/x") == 0
    assert found == [Path("/somewhere/x")]


def run_python(*argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
    search = os.pathsep.join([environment.pop("PYTHONPATH", ""), *sys.path])
    variables = {**os.environ, **environment, "PYTHONPATH": search}
    return subprocess.run([sys.executable, *argv], env=variables, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("name", ["air", "sqair", "vrnn", "ratm", "hart", "table1", "data"])
def test_an_interruption_while_a_program_is_imported_is_one_line(tmp_path: Path, name: str):
    """Interrupted at the first heavy import, once by each way to start a program."""
    for module in ("torch", "numpy"):
        (tmp_path / f"{module}.py").write_text("raise KeyboardInterrupt\n")
    code = f"import sys; from whatwhere.examples.common.launch import {name}; sys.exit({name}())"
    for arguments, prog in (
        (["-c", code], f"whatwhere-{name}"),
        (["-m", f"whatwhere.examples.{name}"], "whatwhere"),
    ):
        done = run_python(*arguments, PYTHONPATH=str(tmp_path))
        assert done.returncode == 130
        assert done.stderr == f"{prog}: interrupted\n"


def test_other_errors_at_import_keep_their_traceback(tmp_path: Path):
    (tmp_path / "torch.py").write_text("raise ImportError('broken')\n")
    done = run_python("-m", "whatwhere.examples.air", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")
    assert done.stderr.endswith("ImportError: broken\n")


def test_a_warning_is_one_line():
    code = (
        "import sys, warnings; from whatwhere.examples.common.program import exit_code\n"
        "sys.exit(exit_code('prog', lambda: warnings.warn('two\\nlines') or 0))"
    )
    done = run_python("-c", code)
    assert done.returncode == 0
    assert done.stderr == "prog: warning: two lines\n"


def test_a_reader_that_goes_ends_the_program_without_a_word():
    code = (
        "import sys; from whatwhere.examples.common.program import exit_code\n"
        "sys.exit(exit_code('prog', lambda: [print('x' * 100) for _ in range(10_000)] and 0))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(60) == 141


def test_help_returns_to_the_caller(capsys: pytest.CaptureFixture[str]):
    assert program(never, "--help") == 0
    assert "--inner.rate" in capsys.readouterr().out


def test_overwriting_keeps_the_run_before(tmp_path: Path):
    output = tmp_path / "run"

    def write(text: str) -> Callable[[Config], int]:
        def work(config: Config) -> int:
            assert not config.overwrite
            config.output.mkdir()  # fails where there is still one
            (config.output / "checkpoint.pt").write_text(text)
            return 0

        return work

    for text in ("first", "second", "third"):
        assert program(write(text), "--overwrite", f"--output={output}") == 0
    assert (output / "checkpoint.pt").read_text() == "third"
    assert (tmp_path / "run.previous/checkpoint.pt").read_text() == "second"


@pytest.mark.parametrize("held", ["checkpoint.pt", "stages/first/checkpoint.pt"])
@pytest.mark.parametrize(
    ("program", "options"),
    [
        ("air", "train --auto --data.source"),
        ("sqair", "train --preset video --auto --data.source"),
        ("vrnn", "train --data.source"),
        ("hart", "train --data.source"),
        ("ratm", "train --loss.patch truth --data.source"),
        ("ratm", "pretrain --kind people --source"),
        ("glimpse-clouds", "train --data.source"),
    ],
)
def test_an_earlier_run_is_refused_before_the_data_are_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], program: str, options: str, held: str
):
    (tmp_path / held).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / held).touch()
    source = "weizmann:/nowhere" if program == "glimpse-clouds" else "/nowhere"
    arguments = [*options.split(), source, f"--output={tmp_path}"]
    assert launch(program, arguments) == 2
    error = capsys.readouterr().err
    assert f"`{tmp_path / held}` is the checkpoint of an earlier run" in error
    assert launch(program, [*arguments, "--resume"]) == 2
    assert "earlier run" not in capsys.readouterr().err


def test_overwriting_leaves_other_folders_alone(tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("text")
    assert program(lambda config: 0, "--overwrite", f"--output={tmp_path}") == 0
    assert (tmp_path / "thesis.tex").exists()


def test_overwriting_is_refused_where_the_run_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "log.jsonl").touch()
    code = "import sys, whatwhere.inference.training as t\nwith t.FolderLock(sys.argv[1]): print(), input()"
    with subprocess.Popen(
        [sys.executable, "-u", "-c", code, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert program(never, "--overwrite", f"--output={tmp_path}") == 2
        assert (tmp_path / "log.jsonl").exists()
        other.communicate(b"\n")
    assert "error" in capsys.readouterr().err


def test_resuming_and_overwriting_exclude_each_other(capsys: pytest.CaptureFixture[str]):
    assert program(never, "--resume", "--overwrite") == 2
    assert "`resume` and `overwrite`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--preset=timed", "--training.steps", "3"], True),
        (["--preset=timed", "--training.steps=3"], True),
        (["--preset=timed"], False),
        (["--preset=timed", "--training.steps=3", "--training.minutes=none"], False),
        (["--training.steps=3"], False),
    ],
)
def test_steps_that_have_no_effect_are_remarked_on(options: list[str], told: bool, capsys):
    presets = {"timed": Timed(training=TrainingConfig(minutes=5.0))}
    commands = {"do": Command(Timed, lambda config: 0, presets)}
    assert run_program("prog", "What it is.", commands, ["do", *options]) == 0
    remark = "`--training.steps` has no effect, since the preset trains for 5 minutes"
    assert (remark in capsys.readouterr().err) == told


@pytest.mark.parametrize("below", ["", "run", "deep/run"])
def test_an_output_that_is_a_file_is_told_the_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], below: str
):
    def work(config: Config) -> int:
        config.output.mkdir(parents=True, exist_ok=True)
        return 0

    (tmp_path / "file").touch()
    assert program(work, f"--output={tmp_path / 'file' / below}") == 2
    expected = f"prog do: error: `{tmp_path / 'file'}` is a file; give another `--output`\n"
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("runs/a", "cannot make `runs/a`: Permission denied; give another `--output`"),
        ("runs", "cannot make `runs`: Permission denied; give another `--output`"),
        ("runs/b", "`runs/b`: Permission denied"),
        ("runs/a/x.csv", "`runs/a/x.csv`: Permission denied"),
    ],
)
def test_an_output_that_cannot_be_made_is_told_the_option_and_other_files_are_not(
    capsys: pytest.CaptureFixture[str], name: str, message: str
):
    error = PermissionError(errno.EACCES, "Permission denied", name)
    assert program(fail(error), "--output=runs/a") == 2
    assert capsys.readouterr().err == f"prog do: error: {message}\n"


@pytest.mark.parametrize(("code", "told"), [(0, False), (1, False), (130, True), (143, True)])
def test_an_interrupted_run_is_told_how_it_goes_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, code: int, told: bool
):
    assert program(lambda config: code) == code
    assert ("`--resume` goes on from there" in capsys.readouterr().out) == told
    commands = {"do": Command(Inner, lambda config: code)}  # no training
    assert run_program("prog", "What it is.", commands, ["do"]) == code
    monkeypatch.setenv("RANK", "1")
    assert program(lambda config: code) == code
    assert capsys.readouterr().out == ""
