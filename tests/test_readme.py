"""The code, the commands and the links that README and the documentation show work as they are printed."""

import argparse
import ast
import importlib
import re
import shlex
from collections import defaultdict
from configparser import ConfigParser
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
import torch

from whatwhere.examples import air, catalogue, data, glimpse_clouds, hart, ratm, sqair, table1, vrnn, zoo
from whatwhere.inference.training.config import make_parser

ROOT = Path(__file__).parent.parent
BUILT = {"_build", "notebooks", "reference"}
"""Folders that building the documentation makes."""
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "benchmarks/README.md",
    *sorted(page for page in (ROOT / "docs").rglob("*.md") if not BUILT & set(page.relative_to(ROOT).parts)),
]
NEW_MODEL = ROOT / "docs/new_model.md"
PROGRAMS = {
    "air": air,
    "sqair": sqair,
    "ratm": ratm,
    "hart": hart,
    "vrnn": vrnn,
    "glimpse-clouds": glimpse_clouds,
}


class Shown(NamedTuple):
    """A command that a page shows."""

    page: str
    words: list[str]

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.words)}"


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def commands(page: Path) -> list[Shown]:
    lines = "".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    split = (shlex.split(line, comments=True) for line in lines)
    return [Shown(name(page), words) for words in split if words]


COMMANDS = [command for page in PAGES for command in commands(page)]


def parse(words: list[str]) -> None:
    """Let the program's own parser read a command.

    Raises:
        SystemExit: where it does not take it.
    """
    program, *rest = words
    if program == "whatwhere":
        if rest:
            parse_program(rest[0], rest[1:])
    elif program.startswith("whatwhere-"):
        parse_program(program.removeprefix("whatwhere-"), rest)
    elif program == "python":
        parse_benchmark(rest)
    elif program == "make":
        targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        assert set(rest) <= targets
    else:
        assert words[:2] == ["pip", "install"]
        setup = ConfigParser()
        setup.read(ROOT / "setup.cfg")
        asked = re.findall(r"\[([\w,]+)\]", " ".join(rest))
        extras = {extra for group in asked for extra in group.split(",")}
        assert extras <= set(setup["options.extras_require"])


def parse_program(program: str, rest: list[str]) -> None:
    if program == "data":
        data.build_parser().parse_args(rest)
    elif program == "zoo":
        zoo.build_parser().parse_args(rest)
    elif program == "table1":
        make_parser(table1.Table1Config, {}).parse_args(rest)
    else:
        command = PROGRAMS[program].COMMANDS[rest[0]]
        make_parser(command.config, command.presets).parse_args(rest[1:])


def parse_benchmark(rest: list[str]) -> None:
    assert rest[0] == "-m"
    module = importlib.import_module(f"whatwhere.{rest[1]}")
    if hasattr(module, "COMMANDS"):
        command = module.COMMANDS[rest[2]]
        make_parser(command.config, command.presets).parse_args(rest[3:])
    else:
        (config,) = (value for key, value in vars(module).items() if key.endswith("Benchmark"))
        make_parser(config).parse_args(rest[2:])


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_a_command_has_the_options_shown(command: Shown):
    parse(command.words)


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_catalogue_lists_every_command_in_the_words_of_its_help(program: str):
    said = {name: command.summary for name, command in PROGRAMS[program].COMMANDS.items()}
    assert dict(catalogue.PROGRAMS[program].commands) == said


def test_the_catalogue_lists_every_command_of_data_in_the_words_of_its_help():
    (commands,) = (a for a in data.build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    said = {action.dest: action.help for action in commands._choices_actions}
    assert dict(catalogue.PROGRAMS["data"].commands) == said


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_help_of_more_than_a_screen_begins_with_what_is_most_used(program: str):
    for command in PROGRAMS[program].COMMANDS.values():
        parser = make_parser(command.config, command.presets)
        if len(parser._actions) > 20:
            text = parser.format_help()
            rest = "training:" if "\ntraining:" in text else "options of this command:"
            assert text.index("most used:") < text.index("--output") < text.index(rest)


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_command_of_a_program_is_shown(program: str):
    shown = {c.words[1] for c in COMMANDS if c.words[0] == f"whatwhere-{program}"}
    assert shown == set(PROGRAMS[program].COMMANDS)


def run_blocks(page: Path) -> dict[str, Any]:
    """Those of a page after one another, as in a session; returns what is defined at its end."""
    torch.manual_seed(0)
    session: dict[str, Any] = {"__name__": "session"}
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), session)
    return session


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page, "python") and page != NEW_MODEL], ids=name
)
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    run_blocks(page)


def test_a_model_of_ones_own_counts_what_it_was_not_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """All blocks of the page run; of squares that overlap entirely none could be told apart."""
    monkeypatch.chdir(tmp_path)
    assert run_blocks(NEW_MODEL)["right"] >= 0.9


def test_readme_and_the_page_it_leads_to_show_one_model():
    readme, page = (blocks(path, "python")[0] for path in (ROOT / "README.md", NEW_MODEL))
    assert readme == page


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith("http"):  # whether somebody answers there is asked by `make links`
            parts = urlsplit(target)
            assert parts.scheme == "https", target
            assert re.fullmatch(r"[\w-]+(\.[\w-]+)+", parts.netloc), target
        elif target.startswith("#"):
            assert target[1:] in anchors(page), target
        else:
            path, _, anchor = target.partition("#")
            found = page.parent / path
            assert found.exists(), target
            assert not anchor or anchor in anchors(found), target


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("model", ["air", "sqair", "vrnn", "ratm", "hart", "glimpse_clouds"])
def test_every_model_has_its_equations_beside_the_code_and_says_where_it_departs(model: str):
    text = (ROOT / f"docs/models/{model}.md").read_text()
    assert "| preset | what it is |" in text
    for part in (
        "## Equations, statements, code\n",
        "## Results\n",
        "## Departures from the paper, and why\n",
    ):
        assert part in text
    assert f"in `models/{model}.py`" in text


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_code_that_is_named_with_its_file_is_there(page: Path):
    for full, file in re.findall(r"`([\w.]+)` in `([\w/]+\.py)`", page.read_text()):
        assert set(full.split(".")) <= defined_in(ROOT / file), f"`{full}` is not in {file}"


def test_the_reference_has_a_page_for_every_package_with_public_names():
    source = ast.parse((ROOT / "docs/reference_pages.py").read_text())
    (listed,) = (
        ast.literal_eval(node.value)
        for node in source.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "PACKAGES"
    )
    public = {
        ".".join(file.parent.relative_to(ROOT).parts)
        for top in ("models", "guides", "inference", "datasets")
        for file in (ROOT / top).rglob("__init__.py")
        if "__all__" in file.read_text()
    }
    assert set(listed) == public


def test_every_page_can_be_reached_from_the_front():
    docs = ROOT / "docs"
    links, todo, seen = defaultdict(set), {docs / "index.md"}, set()
    pages = {page for page in PAGES if docs in page.parents}
    for page in pages:
        text = page.read_text()
        trees = "\n".join(re.findall(r"```{toctree}\n(.*?)```", text, re.DOTALL))
        named = re.findall(r"\]\(([^)#\s]+\.md)", text) + [f"{line}.md" for line in trees.split()]
        links[page] = {(page.parent / target).resolve() for target in named} & pages
    while todo:
        seen |= todo
        todo = {target for page in todo for target in links[page]} - seen
    assert pages == seen


def test_the_wheel_is_as_large_as_is_said():
    """Nearly all of it are the packaged models, which do not become smaller in it."""
    said = re.search(r"The wheel has (\d+) MB", (ROOT / "docs/installation.md").read_text())
    packaged = sum(path.stat().st_size for path in (ROOT / "examples/pretrained").iterdir())
    assert said is not None
    assert int(said[1]) == pytest.approx(packaged / 1e6, rel=0.1)


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().split()) <= 1_500


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
    page = (ROOT / "docs/new_model.md").read_text()
    table = page.split("| to add | where | by example |\n|---|---|---|\n")[1].split("\n\n")[0]
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
