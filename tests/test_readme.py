"""The code and the commands that README shows work as they are printed."""

import ast
import re
import shlex
from pathlib import Path

import pytest

from whatwhere.examples import air, data, hart, ratm, sqair, table1, vrnn
from whatwhere.inference.training.config import make_parser

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


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


def defined_in(path: Path) -> set[str]:
    """Names that a file, or the files of a folder, define."""
    files = path.rglob("*.py") if path.is_dir() else [path]
    return {
        node.name
        for file in files
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ClassDef | ast.FunctionDef)
    }


def test_the_table_of_what_to_add_names_what_exists():
    table = README.split("| to add | where | by example |\n|---|---|---|\n")[1].split("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert len(rows) >= 9
    places: list[str] = []
    for _, where, example in rows:
        found = re.findall(r"`([^`]+)`", where)
        # "The same" are the places of the row above.
        own = [name for name in found if "/" in name or name.endswith(".py")]
        names = re.findall(r"`([^`]+)`", example)
        assert names, where
        places = (places if where.startswith("the same") else []) + own
        for place in places:
            filled = [place.replace("NAME", name) for name in names] if "NAME" in place else [place]
            assert all((ROOT / path).exists() for path in filled), f"{place} of {names}"
        if any("NAME" in place for place in places):
            continue
        known = set().union(*(defined_in(ROOT / place) for place in places))
        assert set(names) <= known, f"{set(names) - known} are not in {places}"
