"""The code and the commands that README shows work as they are printed."""

import re
import shlex
from pathlib import Path

import pytest

from whatwhere.examples import air, data, hart, ratm, sqair, table1, vrnn
from whatwhere.inference.training.config import make_parser

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_python_blocks_run():
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {"__name__": "readme"})


def commands(program: str) -> list[list[str]]:
    blocks = "".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL)).replace("\\\n", " ")
    lines = (line.split("#")[0] for line in blocks.splitlines())
    return [shlex.split(line)[1:] for line in lines if line.startswith(f"{program} ")]


@pytest.mark.parametrize("program", ["air", "sqair", "ratm", "hart", "vrnn"])
def test_the_commands_have_the_options_shown(program: str):
    programs = {"air": air, "sqair": sqair, "ratm": ratm, "hart": hart, "vrnn": vrnn}
    known = programs[program].COMMANDS
    shown = commands(f"whatwhere-{program}")
    assert {arguments[0] for arguments in shown} == set(known)
    for name, *options in shown:
        make_parser(known[name].config, known[name].presets).parse_args(options)


def test_the_commands_of_table_1_have_the_options_shown():
    shown = commands("whatwhere-table1")
    assert shown
    for options in shown:
        make_parser(table1.Table1Config, {}).parse_args(options)


def test_the_commands_of_data_have_the_options_shown():
    shown = commands("whatwhere-data")
    assert shown
    for arguments in shown:
        data.build_parser().parse_args(arguments)
