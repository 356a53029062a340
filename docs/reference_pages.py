"""Writes a page of the reference for every public package; turns docstrings' Markdown into Sphinx's."""

import importlib
import inspect
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer

PACKAGES = (
    "models",
    "models.priors",
    "models.components",
    "guides",
    "inference.objectives",
    "inference.training",
    "inference.supervised",
    "inference.evaluation",
    "inference.pictures",
    "datasets",
    "datasets.opening",
    "datasets.storage",
    "datasets.feeding",
    "datasets.generated",
    "datasets.recorded",
)
"""What several of them export is documented with the first one only."""


def write_reference(folder: Path) -> None:
    """Write a page for each package into `folder`, and one that lists them."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    homes: dict[int, str] = {}
    for package in PACKAGES:
        module = importlib.import_module(f"whatwhere.{package}")
        (folder / f"{package}.rst").write_text("\n".join(_page(module, homes)) + "\n")
    lines = [*_title("Reference"), "Every public name, from its docstring.", "", ".. toctree::", ""]
    (folder / "index.rst").write_text("\n".join([*lines, *(f"   {package}" for package in PACKAGES), ""]))


def _title(text: str) -> list[str]:
    return [text, "=" * len(text), ""]


def _page(module: ModuleType, homes: dict[int, str]) -> Iterator[str]:
    """The lines of a package's page; `homes` has the pages of what is documented already, and is added to."""
    yield from _title(module.__name__)
    yield from [f".. automodule:: {module.__name__}", "   :no-members:", ""]
    elsewhere = []
    for name in module.__all__:
        value = getattr(module, name)
        if homes.setdefault(id(value), module.__name__) == module.__name__:
            yield from _entry(module, name, value)
        else:
            elsewhere.append(f":py:obj:`~{homes[id(value)]}.{name}`")
    if elsewhere:
        yield from ["Also here: " + ", ".join(elsewhere) + ".", ""]


def _entry(module: ModuleType, name: str, value: Any) -> list[str]:
    full = f"{module.__name__}.{name}"
    if inspect.isclass(value):
        hidden = "   :exclude-members: " + ("count, index" if issubclass(value, tuple) else "training")
        return [f".. autoclass:: {full}", "   :members:", "   :show-inheritance:", hidden, ""]
    if inspect.isroutine(value) or hasattr(value, "__wrapped__"):
        return [f".. autofunction:: {full}", ""]
    text = [f"   {line}".rstrip() for line in _constant_doc(name)]
    return [f".. py:data:: {full}", "", *text, ""]


def _constant_doc(name: str) -> list[str]:
    """The docstring below a constant, in the file that defines it."""
    for file in [file for file in sys.modules if file.startswith("whatwhere.")]:
        docs = ModuleAnalyzer.for_module(file).find_attr_docs().get(("", name))
        if docs:
            return docs
    return []


_BACK = re.compile(
    r"(reference/([\w.]+)\.html#)whatwhere\.(?:"
    + "|".join(map(re.escape, sorted(PACKAGES, key=len, reverse=True)))
    + r")\."
)


def lead_back(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Mend the links of a source file to what is documented of it.

    Viewcode takes all of a file for documented with the package of the name that it met first; where two
    packages share the names of one file, the page that a link leads to is right, and the package is not.
    """
    if page.startswith("_modules/") and "body" in context:
        context["body"] = _BACK.sub(r"\1whatwhere.\2.", context["body"])


_plain: dict[str, list[str]] = {}


def remember(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Keep what is written below a field: Napoleon takes all that is before a colon for its type."""
    if what in ("attribute", "data"):
        _plain[name] = list(lines)


def markdown(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Turn the Markdown of a docstring (formulas, tables, indented blocks) into what Sphinx understands."""
    lines[:] = _plain.pop(name, lines)
    text = re.sub(r"^( *)\$\$(.*?)\$\$", _formula, "\n".join(lines), flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"(?<=\n)(?: *\|.*\|\n?)+", _table, text)
    text = re.sub(r"(^(?![-. :]).*\n\n)(?=    \S)", r"\1::\n\n", text, flags=re.MULTILINE)
    parts = re.split(r"(`[^`]*`|^    .*$)", text, flags=re.MULTILINE)
    parts[::2] = [_inline(part) for part in parts[::2]]
    lines[:] = "".join(parts).split("\n")


def _formula(found: "re.Match[str]") -> str:
    indent, formula = found[1], found[2].strip().split("\n")
    body = "\n".join(f"{indent}   {line.strip()}" for line in formula)
    return f"\n{indent}.. math::\n\n{body}\n"


def _table(found: "re.Match[str]") -> str:
    rows = [re.split(r" *\| *", line.strip())[1:-1] for line in found[0].strip().split("\n")]
    indent = " " * (len(found[0]) - len(found[0].lstrip(" ")))
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in rows[:1] + rows[2:]:
        lines += [f"   {' ' if i else '*'} - {cell}" for i, cell in enumerate(row)]
    return "\n".join(indent + line for line in lines) + "\n"


def _inline(text: str) -> str:
    formulas = re.split(r"\$((?:[^$\n]|\n(?! *\n))+)\$", text)
    formulas[::2] = [part.replace("|", r"\|") for part in formulas[::2]]
    formulas[1::2] = [f":math:`{' '.join(part.split())}`" for part in formulas[1::2]]
    return "".join(formulas)
