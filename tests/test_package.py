"""What the package is made of, and that importing it costs and changes nothing."""

import configparser
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOP_LEVEL = ("models", "guides", "inference", "datasets", "examples")
EXPORTING = sorted(
    ".".join(file.parent.relative_to(ROOT).parts)
    for top in ("models", "guides", "inference", "datasets")
    for file in (ROOT / top).rglob("__init__.py")
    if file.parent != ROOT / "inference"
)


def setup_cfg() -> configparser.ConfigParser:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    return config


def test_setup_lists_every_package():
    folders = {
        ".".join(("whatwhere", *file.parent.relative_to(ROOT).parts))
        for top in TOP_LEVEL
        for file in (ROOT / top).rglob("__init__.py")
    }
    assert set(setup_cfg()["options"]["packages"].split()) == folders | {"whatwhere"}


def test_console_scripts_exist():
    for line in setup_cfg()["options.entry_points"]["console_scripts"].split("\n"):
        if line:
            module, function = line.split("=")[1].strip().split(":")
            assert callable(getattr(importlib.import_module(module), function))


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, whatwhere; print(sorted({'torch', 'pyro', 'numpy', 'matplotlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_importing_everything_changes_no_global_state():
    modules = [
        ".".join(("whatwhere", *file.relative_to(ROOT).with_suffix("").parts))
        for top in TOP_LEVEL
        for file in (ROOT / top).rglob("*.py")
        if file.name != "__init__.py"
    ]
    code = (
        "import importlib, numpy, random, torch\n"
        "def state():\n"
        "    return (torch.get_default_dtype(), torch.get_num_threads(), torch.initial_seed(),\n"
        "            torch.get_rng_state().sum().item(), random.getstate()[1][:5],\n"
        "            numpy.random.get_state()[1][:5].tolist())\n"
        "import pyro\n"
        "before = state()\n"
        f"for name in {modules!r}:\n"
        "    importlib.import_module(name)\n"
        "assert state() == before\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("package", EXPORTING)
def test_what_a_package_exports_exists_and_is_documented(package: str):
    module = importlib.import_module(f"whatwhere.{package}")
    assert module.__doc__
    assert module.__all__
    for name in module.__all__:
        value = getattr(module, name)
        if callable(value):
            assert value.__doc__, f"`{name}` has no docstring"
