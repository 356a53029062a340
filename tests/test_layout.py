"""The rooms of the package: who may import whom, and that nothing goes round in a circle."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent

MAY_IMPORT = {
    "checks": set(),
    "files": {"_version"},
    "models.components": set(),
    "models.priors": {"models.components"},
    "models": {"models.priors", "models.components"},
    "guides": {"models", "models.priors", "models.components"},
    "datasets.errors": set(),
    "datasets.streams": set(),
    "datasets.opening": {"datasets.errors", "files"},
    "datasets.storage": {"datasets.opening", "datasets.errors", "datasets.streams", "files", "_version"},
    "datasets.feeding": {"datasets.opening", "datasets.storage", "datasets.errors", "datasets.streams"},
    "datasets.generated": {
        "datasets.storage",
        "datasets.opening",
        "datasets.errors",
        "datasets.streams",
        "files",
    },
    "datasets.recorded": {
        "datasets.feeding",
        "datasets.storage",
        "datasets.opening",
        "datasets.errors",
        "datasets.streams",
        "files",
    },
    "datasets": {
        "datasets.recorded",
        "datasets.generated",
        "datasets.feeding",
        "datasets.storage",
        "datasets.opening",
        "datasets.errors",
    },
    "inference.local_parameters": set(),
    "inference.training": {"files", "_version"},
    "inference.objectives": {"inference.local_parameters", "models.components"},
    "inference.supervised": {"inference.training", "inference.local_parameters", "models.components"},
    "inference.evaluation": {
        "inference.supervised",
        "inference.objectives",
        "inference.training",
        "inference.local_parameters",
        "models.components",
        "files",
        "_version",
    },
    "inference.pictures": {"inference.evaluation", "models.components", "files"},
    "inference": set(),
    "examples.common": {"inference", "datasets", "guides", "models", "files", "_version"},
    "examples.parts": {"examples.common", "inference", "datasets", "guides", "models", "files"},
    "examples": {
        "examples.parts",
        "examples.common",
        "inference",
        "datasets",
        "guides",
        "models",
        "files",
        "_version",
    },
}
"""Room, and what its files may import beside each other; programs name a whole package for all its rooms."""
FOR_ALL = {"checks"}
"""What every room may import."""


class Arrow(NamedTuple):
    """One module of the package imports another one."""

    source: str
    target: str
    names: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.source} imports {', '.join(self.names)} from {self.target}"


def modules() -> dict[str, Path]:
    """The files of the package by dotted name, without its root."""
    files = [ROOT / f"{name}.py" for name in ("checks", "files", "_version")]
    for top in ("models", "guides", "inference", "datasets", "examples"):
        files += (ROOT / top).rglob("*.py")
    return {dotted(file.relative_to(ROOT)): file for file in files}


def dotted(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def arrows(name: str, file: Path, known: dict[str, Path]) -> Iterator[Arrow]:
    """Every import of the package, wherever it stands in the file, those for the type checker included."""
    package = name.split(".") if file.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("whatwhere."):
                    yield Arrow(name, alias.name.removeprefix("whatwhere."), ("it",))
        elif isinstance(node, ast.ImportFrom):
            path = (node.module or "").split(".") if node.module else []
            if node.level:
                path = package[: len(package) - node.level + 1] + path
            elif path[:1] == ["whatwhere"]:
                path = path[1:]
            else:
                continue
            target = ".".join(path)
            for alias in node.names:
                inner = f"{target}.{alias.name}" if target else alias.name
                yield Arrow(name, inner if inner in known else target, (alias.name,))


def room(module: str) -> str:
    """The room a module is in: the longest name in the table that it begins with."""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        if ".".join(parts[:length]) in MAY_IMPORT:
            return ".".join(parts[:length])
    return module


def allowed(source: str, target: str) -> bool:
    here, there = room(source), room(target)
    if here == there or there in FOR_ALL:
        return True
    if here.startswith("examples"):
        top = there if there.startswith("examples") else there.split(".")[0]
        return top in MAY_IMPORT[here]
    return there in MAY_IMPORT[here]


@pytest.fixture(scope="module")
def found() -> list[Arrow]:
    known = modules()
    return [arrow for name, file in known.items() for arrow in arrows(name, file, known)]


def test_rooms_import_downwards_only(found: list[Arrow]):
    wrong = [str(arrow) for arrow in found if not allowed(arrow.source, arrow.target)]
    assert not wrong, "\n".join(wrong)


def test_no_file_imports_itself_by_a_detour(found: list[Arrow]):
    # A room's `__init__` is imported with any of its files, but offers names to those outside only.
    rooms = {dotted(file.relative_to(ROOT)) for file in ROOT.rglob("__init__.py")}
    graph: dict[str, set[str]] = {}
    for arrow in found:
        graph.setdefault(arrow.source, set()).add(arrow.target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = error.args[1]
        pytest.fail(
            "\n".join(
                str(arrow)
                for a, b in zip(circle[1:], circle[:-1], strict=True)
                for arrow in found
                if (arrow.source, arrow.target) == (a, b)
            )
        )
    inside = [str(a) for a in found if a.target in rooms and a.source.startswith(f"{a.target}.")]
    assert not inside, "Inside a room imports name the file:\n" + "\n".join(inside)


def test_the_table_names_rooms_that_exist_and_has_no_circle():
    known = modules()
    assert set(MAY_IMPORT) <= set(known)
    assert not {module for module in known if room(module) not in MAY_IMPORT} - {"_version"}
    TopologicalSorter(MAY_IMPORT).prepare()


@pytest.mark.parametrize("package", ["models", "guides", "inference", "datasets"])
def test_the_package_imports_itself_by_relative_paths(package: str):
    for file in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert node.level or not (node.module or "").startswith("whatwhere"), file


def test_an_upward_arrow_and_a_circle_are_noticed(tmp_path: Path):
    upward = tmp_path / "upward.py"
    upward.write_text("def late():\n    from ..guides.air import AIRGuide\n")
    (arrow,) = arrows("models.upward", upward, modules())
    assert not allowed(arrow.source, arrow.target)
    assert str(arrow) == "models.upward imports AIRGuide from guides.air"
    assert not allowed("datasets.generated.digits", "datasets.recorded.clips")
    assert not allowed("examples.common.program", "examples.air")
    assert not allowed("checks", "models.components.boxes")
    assert allowed("examples.air", "inference.pictures.drawing")
    assert allowed("models.components.boxes", "checks")
