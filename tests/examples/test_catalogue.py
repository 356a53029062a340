"""One name for all programs."""

import configparser
import subprocess
import sys
from pathlib import Path

import pytest

from whatwhere.examples import catalogue
from whatwhere.examples.catalogue import PROGRAMS, main

ROOT = Path(__file__).parents[2]


def test_every_installed_program_is_listed():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = setup["options.entry_points"]["console_scripts"].split("\n")
    scripts = {line.split("=")[0].strip() for line in lines if line}
    assert scripts == {f"whatwhere-{name}" for name in PROGRAMS if name != "zoo"} | {"whatwhere"}


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_programs_and_commands_are_listed_with_a_line_each(arguments: list[str], capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["whatwhere"])
    assert main(arguments) == 0
    listed = capsys.readouterr().out.splitlines()
    for name, program in PROGRAMS.items():
        assert f"{name}: {program.about}" in listed
        for command, line in program.commands.items():
            assert any(row.split()[:1] == [command] and row.endswith(line) for row in listed)


@pytest.mark.parametrize("arguments", ["", "zoo", "zoo ratm-balls", "--version", "nonsense"])
def test_what_needs_no_torch_imports_none(arguments: str):
    code = (
        "import sys\n"
        "from whatwhere.examples.common.launch import whatwhere\n"
        "sys.argv[1:] = sys.argv[1].split()\n"
        "whatwhere()\n"
        "assert not {'torch', 'numpy', 'matplotlib'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code, arguments], check=True, capture_output=True)


def test_a_program_gets_the_other_arguments_and_gives_its_exit_code(monkeypatch):
    calls = []
    monkeypatch.setattr(catalogue, "launch", lambda name, argv: calls.append((name, argv)) or 7)
    assert main(["sqair", "track", "--seed", "1"]) == 7
    assert calls == [("sqair", ["track", "--seed", "1"])]


def test_a_program_that_does_not_exist_is_told_of_in_one_line(capsys):
    assert main(["squair"]) == 2
    error = capsys.readouterr().err
    assert "did you mean `sqair`?" in error
    assert error.count("\n") == 1
